"""`Runs`: sums, files and the display in notebooks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import optbench
from optbench.core.errors import StoreError
from optbench.core.types import Status
from optbench.results.runs import Runs
from optbench.results.store import Store
from tests.rows import run_row

FEW: dict[str, Any] = {"seeds": 2, "steps": 12}


def test_a_sum_has_the_runs_of_both_once() -> None:
    one = optbench.sweep("quadratic:dim=3", "adam", lr=[0.1, 0.2], **FEW)
    two = optbench.sweep("quadratic:dim=3", "adam", lr=[0.2, 0.3], **FEW)
    both = one + two
    assert sorted(both.rows["key"]) == sorted({*one.rows["key"], *two.rows["key"]})
    assert len(both) == 6
    assert both.environments == one.environments
    assert both.x is not None
    for runs in (one, two):
        assert runs.x is not None
        for key, x in zip(runs.rows["key"], runs.x, strict=True):
            np.testing.assert_array_equal(both.x[both.rows["key"].tolist().index(key)], x)
    curves = both.curves.set_index(["key", "t"])["f"]
    for runs in (one, two):
        expected = runs.curves.set_index(["key", "t"])["f"]
        pd.testing.assert_series_equal(curves.loc[expected.index], expected)


def test_labels_of_a_sum_show_differences() -> None:
    one = optbench.sweep("quadratic:dim=3", "adam", **FEW)
    long = optbench.sweep("quadratic:dim=3", "adam", seeds=2, steps=20)
    single = optbench.sweep("quadratic:dim=3", "adam", precision="float32", **FEW)
    other = optbench.sweep("quadratic:dim=4", "adam", **FEW)
    assert set((one + long).rows["method"]) == {"adam, 12 steps", "adam, 20 steps"}
    assert set((one + single).rows["method"]) == {"adam, float32", "adam, float64"}
    assert set((one + long + other).rows["method"]) == {"adam, 12 steps", "adam, 20 steps", "adam"}
    assert (one + other).x is None  # of different dimensions
    assert set(one.rows["method"]) == {"adam"}


def test_a_sum_has_the_newest_of_equal_runs() -> None:
    old, new = (
        Runs.from_rows([run_row(problem_spec="p", optimizer="adam", key=key, created=key, f_end=value)])
        for key, value in (("1", 5.0), ("2", 7.0))
    )
    for both in (old + new, new + old):
        assert both.rows["f_end"].tolist() == [7.0]


@pytest.mark.parametrize("identity", ["the same", None])
def test_a_sum_has_failed_runs_only_where_nothing_else_is(identity: str | None) -> None:
    good, failed, again = (
        Runs.from_rows(
            [run_row(problem_spec="p", optimizer="adam", identity=identity, key=key, created=key, status=status)]
        )
        for key, status in (("1", "budget"), ("2", "failed"), ("3", "failed"))
    )
    for both in (good + failed, failed + good, good + failed + again, failed + again + good):
        assert both.rows["key"].tolist() == ["1"]
    assert (failed + again).rows["key"].tolist() == ["3"]


def test_runs_of_other_identities_are_all_in_a_sum() -> None:
    one, two = (
        Runs.from_rows([run_row(problem_spec="p", optimizer="adam", identity=name, key=name)]) for name in ("a", "b")
    )
    assert sorted((one + two).rows["key"]) == ["a", "b"]


def test_missing_runs_are_counted() -> None:
    some = Runs(Runs.from_rows([run_row(problem_spec="p", optimizer="adam", key="1")]).rows, missing=3)
    assert repr(some) == "<Runs: 1 run of 1 method on 1 problem: 1 used its budget; 3 missing>"
    both = some + Runs(Runs.from_rows([]).rows, missing=2)
    assert (both.missing, Runs.from_rows([]).missing) == (5, 0)
    assert pickle.loads(pickle.dumps(both)).missing == 5
    assert repr(Runs(Runs.from_rows([]).rows, missing=1)) == "<Runs: none; 1 missing>"


def test_nothing_can_be_added() -> None:
    runs = optbench.sweep("quadratic:dim=3", "sgd", **FEW)
    nothing = Runs.from_rows([])
    for both in (runs + nothing, nothing + runs):
        pd.testing.assert_frame_equal(both.rows, runs.rows)
    assert len(nothing + nothing) == 0
    with pytest.raises(TypeError):
        _ = runs + [1]  # type: ignore[operator]


def test_a_file_has_everything_but_x(tmp_path: Path) -> None:
    runs = optbench.compare("logistic:data=iris", ["adam", "newton"], batch_size=None, **FEW)
    runs += optbench.sweep("logistic:data=iris", "lbfgs:memory=3", **FEW)
    runs.save(tmp_path / "deep" / "runs.parquet")
    loaded = Runs.load(str(tmp_path / "deep" / "runs.parquet"))
    pd.testing.assert_frame_equal(loaded.rows, runs.rows)
    pd.testing.assert_frame_equal(loaded.curves, runs.curves, check_exact=True)
    pd.testing.assert_frame_equal(loaded.table, runs.table)
    assert loaded.environments == runs.environments
    assert loaded.x is None
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["runs.parquet"]
    nothing = Runs.from_rows([])
    nothing.save(tmp_path / "nothing.parquet")
    pd.testing.assert_frame_equal(Runs.load(tmp_path / "nothing.parquet").rows, nothing.rows)


def test_files_without_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no file '.*absent'"):
        Runs.load(tmp_path / "absent")
    (tmp_path / "text").write_text("no table")
    with pytest.raises(StoreError, match="text contains no runs that can be used: optbench did not write it"):
        Runs.load(tmp_path / "text")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(StoreError, match=r"other\.parquet contains no runs"):
        Runs.load(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="there is no file"):
        Runs.load(tmp_path)
    path = Store(tmp_path / "results").write_table("gpu", "a", [{"a": 1.0}], {"a": ("double", "a number")})
    with pytest.raises(StoreError, match="contains no runs"):
        Runs.load(path)


def test_no_changed_bit_of_a_file_goes_unnoticed(tmp_path: Path) -> None:
    runs, path = optbench.sweep("quadratic:dim=3", "sgd", **FEW), tmp_path / "runs.parquet"
    runs.save(path)
    data, other = path.read_bytes(), tmp_path / "renamed"
    other.write_bytes(data)
    assert len(Runs.load(other)) == len(runs)
    for place in np.random.default_rng(1).integers(8 * len(data), size=200):
        other.write_bytes(data[: place // 8] + bytes([data[place // 8] ^ (1 << place % 8)]) + data[place // 8 + 1 :])
        with pytest.raises(StoreError, match="renamed contains no runs that can be used"):
            Runs.load(other)


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runs = optbench.sweep("quadratic:dim=3", "sgd", **FEW)
    path = tmp_path / "runs.parquet"
    runs.save(path)
    before = path.read_bytes()
    request.getfixturevalue("full_disk")
    with pytest.raises(StoreError, match="No space left on device"):
        runs.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["runs.parquet"]


def test_printed_runs_are_a_sentence() -> None:
    rows = [
        run_row(problem_spec="p", optimizer=name, key=name, status=status)
        for name, status in zip("abc", Status, strict=False)
    ]
    assert repr(Runs.from_rows(rows[:1])) == "<Runs: 1 run of 1 method on 1 problem: 1 used its budget>"
    assert repr(Runs.from_rows(rows)) == (
        "<Runs: 3 runs of 3 methods on 1 problem: 1 used its budget, 1 reached the last target, "
        "1 reached the gradient tolerance>"
    )
    both = Runs.from_rows([rows[0], {**rows[0], "key": "d", "seed": 1}])
    assert repr(both) == "<Runs: 2 runs of 1 method on 1 problem: 2 used their budget>"


def test_notebooks_show_a_summary() -> None:
    runs = optbench.compare(["quadratic:dim=3", "beale"], ["sgd", "newton"], lr=[0.01, 1e9], **FEW)
    text = runs._repr_html_()
    assert text.count("<tbody>") == 2
    for word in ("quadratic:dim=3", "beale", "best settings", "calls to 1e-8", "gap at the end", "diverged", "0.01*"):
        assert word in text
    sgd = next(line for line in text.split("<tr>") if ">sgd<" in line)
    assert ">2 of 4<" in sgd
    assert Runs.from_rows([])._repr_html_().startswith("<table>")


def test_long_names_in_a_summary_stay_text() -> None:
    evil = "<script>alert(1)</script>"
    rows = [
        run_row(problem_spec=evil, optimizer=evil, key=str(seed), seed=seed, oracle="gradient") for seed in range(2)
    ]
    text = Runs.from_rows(rows)._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
