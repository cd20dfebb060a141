"""Summaries of rows written by hand, with known results."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from optbench.analysis import metrics, tuning
from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from tests.rows import run_row


def row(lr: float, seed: int, reached: list[float] | None, f_end: float | None = 1.0, **more: Any) -> dict[str, Any]:
    """A run with the calls to its first targets; it missed the others."""
    calls = None if reached is None else [*reached, *[np.inf] * (len(TARGETS) - len(reached))]
    known = {
        "key": f"{more.get('optimizer', 'm')}-{more.get('problem_spec', 'p')}-{lr}-{seed}", "problem_spec": "p",
        "optimizer": "m", "settings": json.dumps({"lr": lr}), "step_size": lr, "seed": seed, "f_start": 10.0,
        "f_end": f_end, "f_best": f_end, "f_star": None if reached is None else 0.0, "calls_to_target": calls,
        "t": [0, 1, 4], "f": [10.0, 5.0, f_end], "best": [10.0, 5.0, f_end], "end": 4, "gradient_norm": [np.nan] * 3,
        "steps": 4,
    }  # fmt: skip
    return run_row(**known | more)


def runs(*rows: dict[str, Any]) -> Runs:
    return Runs.from_rows(list(rows))


STEADY = [row(0.2, s, [9, 9]) for s in range(3)]


@pytest.mark.parametrize(
    ("some", "step_size"),
    [
        # the hardest target decides first
        ([row(0.1, s, [10, 20, 30]) for s in range(3)] + [row(0.2, s, [1, 2]) for s in range(3)], 0.1),
        # then the calls to it
        ([row(0.1, s, [10, 20]) for s in range(3)] + [row(0.2, s, [50, 15 + s]) for s in range(3)], 0.2),
        # a target counts if more than half of the seeds reach it: one of three, half and two of three
        ([row(0.1, 0, [1, 1, 1, 1]), row(0.1, 1, [1]), row(0.1, 2, [1]), *STEADY], 0.2),
        ([row(0.1, 0, [1, 1, 1]), row(0.1, 1, [1]), *STEADY], 0.2),
        ([row(0.1, s, [1, 1, 1] if s else [1]) for s in range(3)] + STEADY, 0.1),
        # without an optimum the final objective decides, and diverged runs are last
        ([row(0.1, 0, None, 2.0), row(0.2, 0, None, 0.1, status="diverged")], 0.1),
    ],
)
def test_the_best_settings(some: list[dict[str, Any]], step_size: float) -> None:
    (best,) = tuning.tuned(runs(*some)).itertuples()
    assert (best.step_size, best.n_settings) == (step_size, 2)


def test_summary() -> None:
    count = tuning.target_index(1e-4) + 1
    some = [row(0.1, s, list(range(1, count + 1)) if s else [3.0], 0.5 + s) for s in range(3)]
    worse = [row(1.0, s, [], status="diverged") for s in range(3)]
    other = [row(0.1, s, [1.0] * 50, 0.0, optimizer="n", status="target") for s in range(3)]
    failed = [row(0.1, s, None, optimizer="x", status="failed", error="e", f_end=None, f_best=None) for s in range(2)]
    table = metrics.summary(runs(*some, *worse, *other, *failed)).set_index("method")
    assert list(table.index) == ["n", "m", "x"]
    m = table.loc["m"]
    assert m["calls_1e-02"] == tuning.target_index(1e-2) + 1
    assert m["reached_1e-02"] == 2
    assert m["calls_1e-04"] == count
    assert np.isinf(m["calls_1e-08"])
    assert m["reached_1e-08"] == 0
    assert m["final"] == 1.5
    assert (m["diverged"], m["runs"], m["seeds"], m["edge"]) == (3, 6, 3, True)
    assert table.loc["x", "failed"] == 2
    assert np.isnan(table.loc["x", "calls_1e-02"])
    assert np.isinf(table.loc["x", "final"])


def test_target_index_finds_the_recorded_targets() -> None:
    for target in metrics.SHOWN_TARGETS:
        assert TARGETS[tuning.target_index(target)] == pytest.approx(target)


def test_diverged_runs_count_with_their_start_in_the_sensitivity() -> None:
    good = [row(0.1, s, [1.0], 1.0 + s) for s in range(3)]
    bad = [row(1.0, 0, [], 0.1, status="diverged"), row(1.0, 1, [1.0], 2.0), row(1.0, 2, [1.0], 3.0)]
    table = metrics.sensitivity(runs(*good, *bad)).set_index("step_size")
    assert table.loc[0.1, ["low", "median", "high"]].tolist() == [1.5, 2.0, 2.5]
    assert table.loc[1.0, "median"] == 3.0
    assert table.loc[1.0, "n_diverged"] == 1
    assert table.loc[1.0, "high"] == 6.5


@pytest.mark.parametrize("value", ["best", "f"])
def test_bands(value: str) -> None:
    short = row(0.1, 0, [1.0], 1.0, t=[0, 1], f=[10.0, 1.0], best=[10.0, 1.0], end=1, status="target")
    wild = row(0.1, 1, [1.0], 5.0, t=[0, 1], f=[10.0, 5.0], best=[10.0, 5.0], end=3, status="diverged")
    long = row(0.1, 2, [1.0], 3.0)
    table = metrics.bands(runs(short, wild, long), value).set_index("t")
    assert table.index.tolist() == [0, 1, 4]
    assert table["calls"].tolist() == [1, 2, 5]
    assert table.loc[4, "median"] == 3.0  # of 1, 3 and 5 (the best of the diverged run) or infinity
    assert table.loc[1, "median"] == 5.0
    assert table["gap"].all()


def test_a_result_is_cached_for_its_runs_and_arguments() -> None:
    calls = []

    @tuning.cached
    def count(runs: Runs, value: str) -> int:
        calls.append(value)
        return len(runs)

    some = runs(row(0.1, 0, [1, 2]))
    assert {count(some, "best"), count(some, "best")} == {1}
    assert {count(some, "f"), count(runs(row(0.1, 0, [1, 2])), "f")} == {1}
    assert calls == ["best", "f", "f"]


def test_bands_of_metrics() -> None:
    description = declared(test_accuracy="higher", x_1=None)

    def with_accuracy(seed: int, accuracy: list[float], **more: Any) -> dict[str, Any]:
        return row(
            0.1, seed, None, metrics=[("test_accuracy", accuracy), ("x_1", [0.0] * 3)], description=description, **more
        )

    some = runs(
        with_accuracy(0, [0.1, 0.2, 0.9], gradient_norm=[3.0, 2.0, np.nan]),
        with_accuracy(1, [0.1, 0.4, 0.8], gradient_norm=[1.0, 1.0, 1.0]),
        with_accuracy(2, [0.1, 0.3, 0.7], gradient_norm=[4.0, 4.0, 4.0]),
        with_accuracy(3, [0.1, 0.5, 0.6], gradient_norm=[5.0, 5.0, 5.0], status="diverged", end=3),
        row(0.1, 0, None, problem_spec="q"),
    )
    assert metrics.metric_names(some) == ["test_accuracy"]
    table = metrics.bands(some, "test_accuracy")
    assert set(table["problem"]) == {"p"}
    assert not table["gap"].any()
    # the worse of the middle two; a run that diverged has the worst value from its end on
    assert table["median"].tolist() == [0.1, 0.3, 0.7]
    assert table["low"].tolist() == [0.1, 0.3, 0.7]
    assert table["high"].tolist() == [0.1, 0.4, 0.8]
    norms = metrics.bands(some, "gradient_norm").query("problem == 'p'")
    assert norms["median"].tolist() == [4.0, 4.0, 4.0]
    assert norms["low"].tolist() == [3.0, 2.0, 2.0]  # the last value of a run
    assert norms["high"].tolist() == [4.0, 4.0, 4.0]
    with pytest.raises(InputError, match="have no curve 'x_1'; choose one of best, f, gradient_norm, test_acc"):
        metrics.bands(some, "x_1")


def test_runs_of_a_method_need_no_common_checkpoints() -> None:
    early = row(0.1, 0, [1.0], t=[0, 2], f=[10.0, 1.0], best=[10.0, 1.0], end=2, status="target")
    late = row(0.1, 1, [1.0], t=[0, 1, 4], f=[8.0, 6.0, 3.0], best=[8.0, 6.0, 3.0])
    table = metrics.bands(runs(early, late))
    assert table["t"].tolist() == [0, 1, 2, 4]
    assert table["median"].tolist() == [10.0, 10.0, 6.0, 3.0]
    assert table["low"].tolist() == [8.0, 6.0, 1.0, 1.0]


def test_empty_tables_have_their_columns() -> None:
    nothing = runs()
    for table in (
        tuning.tuned(nothing),
        metrics.summary(nothing),
        metrics.sensitivity(nothing),
        metrics.bands(nothing),
    ):
        assert table.empty
        assert "method" in table.columns
    assert nothing.table.empty
    assert nothing.curves.empty
    assert repr(nothing) == "<Runs: none>"


def declared(**better: str | None) -> str:
    """The description of a problem with these metrics."""
    return json.dumps({"metrics": [{"name": name, "better": way, "unit": ""} for name, way in better.items()]})


def test_metrics_of_diverged_runs_are_the_worst_in_their_direction() -> None:
    columns: dict[str, Any] = {
        "metrics": [("error_rate", [0.9, 0.5, 0.4])],
        "description": declared(error_rate="lower"),
    }
    some = runs(row(0.1, 0, [1], status="diverged", **columns), row(0.1, 1, [1], status="diverged", **columns))
    (line,) = metrics.final_metrics(some).itertuples()
    assert (line.metric, line.median, line.low, line.high) == ("error_rate", np.inf, np.inf, np.inf)
    assert metrics.bands(some, "error_rate")["median"].tolist() == [0.9, 0.5, np.inf]


def test_a_metric_without_a_direction_is_not_judged() -> None:
    for description in (None, declared(angle=None, test_accuracy="higher")):
        columns: dict[str, Any] = {"metrics": [("angle", [0.1, 0.2, 0.3])], "description": description}
        some = runs(row(0.1, 0, [1], **columns), row(0.1, 1, [1], status="diverged", **columns))
        assert metrics.final_metrics(some).empty
        assert metrics.metric_names(some) == ["angle"]
        assert metrics.bands(some, "angle")["median"].isna().tolist() == [False, False, True]


def test_final_metrics_of_lost_runs_are_the_worst() -> None:
    worse = [("train_accuracy", [0.1, 0.5, np.nan]), ("test_loss", [3.0, 2.0, 1.0]), ("x_1", [0.0, 0.0, 0.0])]
    better = [("train_accuracy", [0.1, 0.9, 0.8]), ("test_loss", [3.0, 2.0, 0.5]), ("x_1", [0.0, 0.0, 0.0])]
    description = declared(train_accuracy="higher", test_loss="lower", x_1=None)
    lost = row(0.1, 2, [1], status="diverged", metrics=better, description=description)
    some = [row(0.1, seed, [1], metrics=values, description=description) for seed, values in enumerate((worse, better))]
    table = metrics.final_metrics(runs(*some, lost))
    table = table.set_index("metric")
    assert list(table.index) == ["test_loss", "train_accuracy"]
    assert table.loc["test_loss", ["low", "median"]].tolist() == [0.5, 1.0]
    assert table.loc["train_accuracy", ["median", "high"]].tolist() == [0.5, 0.8]
    assert table.loc["train_accuracy", "n_seeds"] == 3


def test_calls_by_target_with_censored_runs() -> None:
    some = [row(0.1, s, [1.0] * 5 + [7.0 + s] * 5, calls=40.0) for s in range(2)] + [row(0.1, 2, [1.0] * 5, calls=30.0)]
    table = metrics.calls_by_target(runs(*some)).set_index("target")
    assert len(table) == 10
    first, second, third = (table.loc[t] for t in sorted(table.index, reverse=True)[:3])
    assert (first["calls"], first["reached"], first["seeds"]) == (1.0, 3, 3)
    assert np.isnan(first["censored"])
    assert (second["calls"], second["reached"], second["censored"]) == (8.0, 2, 30.0)
    assert (third["calls"], third["reached"], third["censored"]) == (np.inf, 0, 40.0)
    assert metrics.calls_by_target(runs(row(0.1, 0, None))).empty
