"""Comparison of several stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import optbench
import reports
from optbench.analysis import comparison, tuning
from optbench.cli import main
from optbench.results.runs import Runs
from optbench.results.store import Store

BOWL = "quadratic:dim=4"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Momentum is the same in both, gradient descent is in float32 in the second, Adam is only in the first."""
    top = tmp_path_factory.mktemp("stores")
    folders = {"here": top / "here", "there": top / "there"}
    for name, path in folders.items():
        optbench.sweep(BOWL, "momentum", lr=[0.1, 0.5], seeds=3, steps=40, store=path)
        precision = "float64" if name == "here" else "float32"
        optbench.sweep(BOWL, "gradient_descent", lr=[0.1, 1.0], seeds=3, steps=40, precision=precision, store=path)
    optbench.sweep(BOWL, "adam", lr=0.1, seeds=3, steps=40, store=folders["here"])
    return folders


@pytest.fixture(scope="module")
def both(stores: dict[str, Path]) -> Runs:
    return comparison.combine_stores({name: Store(path).load() for name, path in stores.items()})


def test_equal_results_are_shown_once_and_others_for_each_store(both: Runs) -> None:
    table = both.rows.drop_duplicates("method").set_index("method")
    assert set(table.index) == {"momentum", "adam", "gradient_descent [here]", "gradient_descent [there]"}
    assert pd.isna(table.loc["momentum", "store"])
    assert table.loc["adam", "store"] == "here"
    assert set(table["base_method"]) == {"momentum", "adam", "gradient_descent"}
    assert len(both.rows) == 6 + 6 + 6 + 3
    assert {environment["store"] for environment in both.environments} == {"here", "there"}


def test_one_different_number_is_a_difference(stores: dict[str, Path]) -> None:
    here = Store(stores["here"]).load()
    rows = here.rows.copy()
    at = rows.index[rows["method"] == "momentum"][0]
    rows.loc[at, "f_end"] *= 1 + 1e-4
    both = comparison.combine_stores({"here": here, "there": Runs(rows)})
    assert {"momentum [here]", "momentum [there]", "adam", "gradient_descent"} == set(both.rows["method"])
    rows.loc[at, "f_end"] = here.rows.loc[at, "f_end"] * (1 + 1e-9)
    assert "momentum" in set(comparison.combine_stores({"here": here, "there": Runs(rows)}).rows["method"])


def test_fewer_seeds_are_not_the_same(stores: dict[str, Path]) -> None:
    here = Store(stores["here"]).load()
    fewer = Runs(here.rows[here.rows["seed"] < 2])
    assert "momentum" not in set(comparison.combine_stores({"here": here, "there": fewer}).rows["method"])


def test_the_differences_between_stores(both: Runs) -> None:
    table = comparison.store_differences(both)
    assert table["method"].tolist() == ["gradient_descent"] * 2
    assert table["store"].tolist() == ["here", "there"]
    (target,) = set(table["target"])
    for line in table.itertuples():
        rows = tuning.tuned_rows(both).query("method == @line.method + ' [' + @line.store + ']'")
        calls = np.sort([by_target[tuning.target_index(target)] for by_target in rows["calls_to_target"]])
        assert line.calls == calls[1]
    assert comparison.store_differences(Runs(both.rows[both.rows["method"] == "adam"])).empty


def test_labels_of_folders_are_unique() -> None:
    assert comparison.store_labels(["a/results", "b/results"]) == ["a/results", "b/results"]
    assert comparison.store_labels(["a/laptop", "b/server"]) == ["laptop", "server"]
    assert comparison.store_labels(["x/a/results", "x/b/results", "y/b/results"]) == [
        "x/a/results",
        "x/b/results",
        "y/b/results",
    ]


def test_the_page_of_several_stores(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(path) for path in stores.values()]
    assert main(["report", *paths, "-o", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "Side by side" in page
    for name in ("gradient_descent [here]", "gradient_descent [there]"):
        assert name in page
    assert "momentum [" not in page
    capsys.readouterr()
    assert main(["report", paths[0], paths[0]]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_a_page_of_one_store_has_no_comparison(stores: dict[str, Path], tmp_path: Path) -> None:
    page = reports.build_page(Store(stores["here"]).load(), tmp_path / "a.html").read_text("utf-8")
    assert "Side by side" not in page


def test_seconds_are_those_of_the_same_store(both: Runs, stores: dict[str, Path]) -> None:
    from optbench.analysis.timing import seconds_to_target
    from optbench.runner.race import race

    timed = race(BOWL, ["gradient_descent", "momentum"], rounds=3, steps=3)
    races = comparison.combine_races({"here": timed, "there": timed})
    table = seconds_to_target(both, races, 1e-1)
    pairs = {(line.method, line.machine.partition(" [")[2]) for line in table.itertuples()}
    assert pairs == {("gradient_descent [here]", "here]"), ("momentum", "here]"), ("momentum", "there]")}
