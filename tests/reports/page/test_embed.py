"""Tables inside the page, and the curves of the explorer."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest

from optbench.analysis import metrics, tuning
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.study import load_study
from reports.figures.selection import gap_floor
from reports.page import embed
from reports.page.context import PageContext
from reports.sections import explorer


def unpacked(text: str) -> dict[str, str]:
    return {
        name: gzip.decompress(base64.b64decode(stored)).decode("utf-8") for name, stored in json.loads(text).items()
    }


def test_numbers_are_short_and_whole_numbers_whole() -> None:
    table = pd.DataFrame(
        {
            "n": [1, 12345678901],
            "x": [1 / 3, 1e-300],
            "y": [np.inf, np.nan],
            "some": pd.array([3, pd.NA], "Int64"),
            "sure": [True, False],
            "any": [-0.25, None],
            "mixed": ["text", 2.0 / 3],
        }
    )
    assert embed.csv(table).splitlines() == [
        "n,x,y,some,sure,any,mixed",
        "1,0.333333,inf,3,true,-0.25,text",
        "12345678901,1e-300,,,false,,0.666667",
    ]
    assert embed.csv(table.iloc[:0]) == "n,x,y,some,sure,any,mixed\n"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("=1+2", "'=1+2"), ("+a", "'+a"), ("-a", "'-a"), ("@SUM(A1)", "'@SUM(A1)"), ("\tx", "'\tx"), ("'=1", "''=1"),
        ("-1.5e-3", "-1.5e-3"), ("a=1", "a=1"), ('say "hi", Bob', 'say "hi", Bob'), ("two\nlines", "two\nlines"),
        ("=HYPERLINK(\"x\",'y')", "'=HYPERLINK(\"x\",'y')"), ("метод", "метод"), ("\u202eevil", "\ufffdevil"),
    ],
)  # fmt: skip
def test_no_spreadsheet_runs_a_name(text: str, stored: str) -> None:
    written = embed.csv(pd.DataFrame({text: [text]}))
    assert list(csv.reader(io.StringIO(written, newline=""))) == [[stored], [stored]]
    if stored != text and "\ufffd" not in stored:
        assert stored.removeprefix("'") == text  # taking one apostrophe away gives the text back


def test_packed_tables_end_no_script_and_are_the_same_again() -> None:
    table = pd.DataFrame({"a": ["</script><script>alert(1)</script>"] * 50})
    packed = embed.packed({"</script>": table, "b": table})
    assert "<" not in packed
    assert unpacked(packed) == dict.fromkeys(["</script>", "b"], embed.csv(table))
    assert packed == embed.packed({"</script>": table, "b": table})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    study = {
        "seeds": 3, "lr": [0.1, 1.0],
        "compare": [
            {"problems": ["quadratic:dim=8"], "optimizers": ["adam", "newton", "random_search"], "steps": 3000},
            {"problems": ["quadratic:dim=5,noise=0.1"], "optimizers": ["sgd"], "lr": [1e9], "steps": 400},
            {"problems": ["mlp"], "optimizers": ["adam"], "batch_size": 100, "steps": 20},
        ],
    }  # fmt: skip
    store = Store(tmp_path_factory.mktemp("results"))
    execute(load_study(study).plans, store=store)
    return store.load()


def test_curves_of_the_explorer_are_the_bands(runs: Runs) -> None:
    context = PageContext(runs, pd.DataFrame())
    section = explorer.section(context)
    assert section is not None
    tables = {name: context.tables[table] for name, table in section}
    assert list(tables) == list(context.parts)
    ranked = tuning.ranked(runs)
    for problem, table in tables.items():
        assert list(dict.fromkeys(table["method"])) == ranked[problem]
        assert table.groupby("method")["t"].is_monotonic_increasing.all()
        assert set(zip(table["method"], table["index"], strict=True)) == {
            (method, context.styles[method].index) for method in ranked[problem]
        }
    valley = tables["quadratic:dim=8"]
    floor = gap_floor(context.parts["quadratic:dim=8"])[1]
    for value, name in (
        ("best", "smallest gap so far"),
        ("f", "gap at the iterate"),
        ("gradient_norm", "gradient norm"),
    ):
        bands = metrics.bands(context.parts["quadratic:dim=8"], value)
        both = valley.merge(bands, on=["method", "t"])
        assert len(both) == len(valley)
        for part in ("median", "low", "high"):
            wanted = np.maximum(both[part], floor) if value != "gradient_norm" else both[part]
            np.testing.assert_allclose(both[f"{name} {part}"], wanted, rtol=6e-4)
    network = next(table for name, table in tables.items() if name.startswith("mlp"))
    network = {column.rpartition(" ")[0] for column in network.columns if column.endswith(" median")}
    assert {"smallest objective so far", "objective at the iterate", "train accuracy"} <= network


def test_a_page_of_many_curves_has_fewer_points_of_each(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "NUMBERS", 500)
    context = PageContext(runs, pd.DataFrame())
    whole = explorer.curves(context, "quadratic:dim=8", ["adam", "newton", "random_search"])
    explorer.section(context)
    thin = context.tables["quadratic-dim-8-curves"]
    counts = thin.groupby("method").size()
    assert explorer.FEWEST_POINTS - 5 < counts.max() <= explorer.FEWEST_POINTS  # the first few are whole numbers
    assert len(whole) > 2 * len(thin)
    ends = ["first", "last"]
    pd.testing.assert_frame_equal(thin.groupby("method")["t"].agg(ends), whole.groupby("method")["t"].agg(ends))
    steps = np.diff(np.log(1 + thin.loc[thin["method"] == "random_search", "t"].to_numpy()))
    assert steps.max() < 0.8  # evenly spaced on a logarithmic axis, but for whole numbers


def test_nothing_to_explore(runs: Runs) -> None:
    empty = runs.rows[runs.rows["problem"] == ""]
    assert explorer.section(PageContext(Runs(empty), pd.DataFrame())) is None
