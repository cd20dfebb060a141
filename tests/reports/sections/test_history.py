"""The history of the asv benchmarks: read from files as asv writes them, and from what is none; and on the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optbench
import reports
from optbench.cli import main
from optbench.core.errors import InputError
from optbench.results.runs import Runs
from reports import asv
from reports.sections import history
from tests.reports.conftest import HOSTILE, page_of
from tests.rows import race_rows, race_table

STEP, CALLS = "steps.Step.time_step", "convergence.Calls.track_calls"
ABOUT = {
    STEP: {"name": STEP, "version": "v1", "unit": "seconds", "param_names": ["rule", "shape"]},
    CALLS: {"name": CALLS, "version": "v1", "unit": "oracle calls", "param_names": []},
    "version": 2,
}


def results(commit: str, day: int, cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A file of results of one commit, its columns as asv orders them."""
    return {
        "commit_hash": commit * 8,
        "env_name": "virtualenv-py3.12",
        "date": 1_767_225_600_000 + day * 86_400_000,  # from 2026-01-01 on
        "params": {"machine": "box", "cpu": "some CPU"},
        "result_columns": ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b"],
        "results": cells,
        "version": 2,
    } | more


def steps(values: list[Any], half: float = 0.1, version: str = "v1") -> list[Any]:
    """The cells of `STEP` for two rules and two shapes, with intervals of half a width."""
    ends = [[None if v is None else v * (1 + sign * half) for v in values] for sign in (-1, 1)]
    return [values, [["'adam'", "'sgd'"], ["(1, 100)", "(64, 10000)"]], version, 0, 1.0, *ends]


def calls(value: float) -> list[Any]:
    return [[value], [], "v1"]  # asv leaves out what is empty at the end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two commits, the newer one first in the order of files."""
    box = tmp_path / "results" / "box"
    box.mkdir(parents=True)
    write(box.parent / "benchmarks.json", ABOUT)
    write(box / "machine.json", {"machine": "box", "version": 1})
    write(box / "bbbbbbbb-env.json", results("b", 1, {STEP: steps([2e-5, 3e-3, float("nan"), 1e-3]), CALLS: calls(40)}))
    write(box / "cccccccc-env.json", results("c", 0, {STEP: steps([1e-5, 3e-3, None, 2e-3]), CALLS: calls(50)}))
    return box.parent


def write(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what), encoding="utf-8")


def test_every_value_of_every_commit_is_read(folder: Path) -> None:
    table = reports.load_history(folder)
    assert table.attrs["skipped"] == []
    assert list(table.columns) == list(asv.COLUMNS)
    assert len(table) == 2 * (3 + 1)  # a null and a NaN are values that are missing
    part = table[table["parameters"] == "rule=adam, shape=(1, 100)"]
    assert part["value"].tolist() == [1e-5, 2e-5]  # by the date of the commit
    assert part["low"].tolist() == pytest.approx([0.9e-5, 1.8e-5])
    assert part["high"].tolist() == pytest.approx([1.1e-5, 2.2e-5])
    assert part["commit"].tolist() == ["c" * 8, "b" * 8]
    assert [str(date) for date in part["date"]] == ["2026-01-01 00:00:00+00:00", "2026-01-02 00:00:00+00:00"]
    assert set(part["machine"]) == {"box"}
    assert set(part["unit"]) == {"seconds"}
    counted = table[table["benchmark"] == CALLS]
    assert counted["value"].tolist() == [50, 40]
    assert set(counted["parameters"]) == {""}
    assert set(counted["unit"]) == {"oracle calls"}
    assert counted[["low", "high"]].isna().all(axis=None)


def test_changed_and_removed_benchmarks_are_left_out(folder: Path) -> None:
    write(
        folder / "box" / "dddddddd-env.json", results("d", 2, {STEP: steps([9.0] * 4, version="v2"), "old": calls(1)})
    )
    table = reports.load_history(folder)
    assert "d" * 8 not in set(table["commit"])
    assert table.attrs["skipped"] == []
    (folder / "benchmarks.json").unlink()  # without it nothing is known of versions and units
    table = reports.load_history(folder)
    assert {"old", STEP, CALLS} == set(table["benchmark"])
    assert set(table["unit"]) == {""}
    assert "adam, (1, 100)" in set(table["parameters"])


BROKEN = {
    "empty": b"",
    "half": b'{"version": 2, "params"',
    "list": b"[]",
    "number": b"7",
    "bytes": bytes(range(256)),
    "deep": b"[" * 200_000,
    "older": json.dumps(results("e", 2, {}) | {"version": 1}).encode(),
    "no columns": json.dumps({k: v for k, v in results("e", 2, {}).items() if k != "result_columns"}).encode(),
    "no machine": json.dumps(results("e", 2, {}, params={})).encode(),
    "no date": json.dumps(results("e", 2, {}, date=None)).encode(),
    "far date": json.dumps(results("e", 2, {}, date=1e300)).encode(),
    "odd results": json.dumps(results("e", 2, {}, results=[1, 2])).encode(),
    "odd cells": json.dumps(results("e", 2, {CALLS: 3})).encode(),
    "odd parameters": json.dumps(results("e", 2, {CALLS: [[1.0], 5, "v1"]})).encode(),
    "foreign": json.dumps({"name": "something else", "version": 2}).encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_unreadable_files_are_skipped_and_counted(folder: Path, content: bytes) -> None:
    whole = reports.load_history(folder)
    (folder / "box" / "aaaaaaaa-env.json").write_bytes(content)
    table = reports.load_history(folder)
    assert table.attrs["skipped"] == ["box/aaaaaaaa-env.json"]
    pd.testing.assert_frame_equal(table, whole, check_flags=False)


@pytest.mark.parametrize("value", ["fast", True, [1], {}, float("inf"), None])
def test_values_that_are_no_numbers_are_missing(folder: Path, value: Any) -> None:
    write(folder / "box" / "aaaaaaaa-env.json", results("a", 2, {CALLS: [[value], [], "v1"]}))
    table = reports.load_history(folder)
    assert "a" * 8 not in set(table["commit"])


def test_a_broken_list_of_benchmarks_is_skipped(folder: Path) -> None:
    (folder / "benchmarks.json").write_text("{")
    table = reports.load_history(folder)
    assert table.attrs["skipped"] == ["benchmarks.json"]
    assert len(table) == 8


def test_files_written_by_asv(tmp_path: Path) -> None:
    asv = pytest.importorskip("asv.results")
    benchmark = {"name": STEP, "version": "v1", "params": [["'adam'", "'sgd'"]]}
    samples = [1e-3, 2e-3, 3e-3, 2e-3, 2e-3, 2e-3, 2.1e-3, 1.9e-3]
    measured = SimpleNamespace(
        result=[0.0, None], samples=[samples, None], number=[1, None], stderr="", errcode=0, profile=None
    )
    results = asv.Results({"machine": "box"}, {}, "0123456789abcdef", 1_767_225_600_000, "3.12", "env", {})
    results.add_result(benchmark, measured)
    (tmp_path / "box").mkdir()
    results.save(str(tmp_path))
    (line,) = reports.load_history(tmp_path).to_dict("records")
    (value, _), stats = (
        results.get_result_value(STEP, benchmark["params"]),
        results.get_result_stats(STEP, benchmark["params"]),
    )
    assert line["value"] == value == 2e-3
    assert (line["low"], line["high"]) == pytest.approx((stats[0]["ci_99_a"], stats[0]["ci_99_b"]), rel=1e-3)
    assert (line["commit"], line["parameters"], line["machine"]) == ("0123456789abcdef", "adam", "box")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'asv run' creates one"):
        reports.load_history(tmp_path / "nowhere")
    table = reports.load_history(tmp_path)
    assert table.empty
    assert list(table.columns) == list(asv.COLUMNS)


# ---- what changed ----------------------------------------------------------------------------------------------------


def past(*series: tuple[str, list[float]], half: float = math.nan, **more: Any) -> pd.DataFrame:
    """A history of series of values, one a commit, with intervals of half a width."""
    rows = [
        {
            "machine": "box", "environment": "env", "benchmark": "b", "parameters": name, "unit": "seconds",
            "commit": f"commit{k:03}", "date": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=k), "value": v,
            "low": v * (1 - half), "high": v * (1 + half),
        } | more
        for name, values in series
        for k, v in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(asv.COLUMNS))


def test_the_largest_change_comes_first() -> None:
    table = asv.changes(
        past(("up", [1, 5, 1.5]), ("down", [3, 1]), ("none", [2, 2, 2]), ("zero", [0, 1]), ("single", [1]))
    )
    assert table["parameters"].tolist()[:2] == ["down", "up"]  # to a third is more than to one and a half
    assert table["parameters"].tolist()[-1] == "single"
    by_parameters = table.set_index("parameters")
    assert by_parameters["change"].to_dict() == pytest.approx(
        {"up": 0.5, "down": -2 / 3, "none": 0, "zero": np.nan, "single": 0}, nan_ok=True
    )
    assert by_parameters["commits"].to_dict() == {"up": 3, "down": 2, "none": 3, "zero": 2, "single": 1}
    assert by_parameters.loc["up", ["first_commit", "last_commit"]].tolist() == ["commit000", "commit002"]


@pytest.mark.parametrize(("half", "clear"), [(0.1, True), (0.3, False), (math.inf, False), (math.nan, True)])
def test_a_change_within_the_intervals_is_not_clear(half: float, clear: bool) -> None:
    (is_clear,) = asv.changes(past(("a", [1.0, 1.5]), half=half))["clear"]
    assert is_clear == clear
    assert asv.changes(past(("a", [2.0, 1.0, 2.0]), half=half))["clear"].tolist() == [math.isnan(half)]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.5e-5, "seconds", "15.0 µs"),
        (3 * 2**20, "bytes", "3 MiB"),
        (41.0, "oracle calls", "41 oracle calls"),
        (7, "", "7"),
    ],
)
def test_values_have_a_unit(value: float, unit: str, text: str) -> None:
    assert history.amount(value, unit) == text


# ---- sparklines ------------------------------------------------------------------------------------------------------


def points(svg: str) -> np.ndarray:
    """Corners of a sparkline, (n, 2)."""
    (corners,) = re.findall(r'points="([^"]*)"', svg)
    return np.array([[float(v) for v in pair.split(",")] for pair in corners.split()])


def test_a_sparkline_goes_up_where_values_do() -> None:
    svg = history.sparkline([0, 1, 3], [1.0, 3.0, 2.0], 5, "label")
    corners = points(svg)
    width, height = 120, 24
    assert (corners >= 0).all()
    assert (corners <= [width, height]).all()
    low, high, end = corners[:, 1]
    assert high < end < low  # down the page
    assert end == pytest.approx((low + high) / 2)
    assert np.diff(corners[:, 0]).tolist() == pytest.approx([(width - 7) / 4, (width - 7) / 2], abs=0.11)
    (x, y) = re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', svg)[0]
    assert [float(x), float(y)] == corners[-1].tolist()
    assert 'role="img" aria-label="label"><title>label</title>' in svg


def test_scatter_stays_flat() -> None:
    def spread(values: list[float]) -> float:
        return float(np.ptp(points(history.sparkline([0, 1, 2], values, 3, ""))[:, 1]))

    assert spread([1.0, 1.01, 1.0]) < 3
    assert spread([1.0, 1.5, 1.0]) == pytest.approx(17)
    assert spread([5.0, 5.0, 5.0]) == 0
    assert spread([0.0, 0.0, 0.0]) == 0
    assert np.isfinite(points(history.sparkline([0], [1.0], 1, ""))).all()


# ---- the page --------------------------------------------------------------------------------------------------------


def history_page(table: pd.DataFrame | None, folder: Path) -> str:
    """A page with one race, so that there is a section Speed, and a history."""
    return page_of(Runs.from_rows([]), folder, races=race_table(race_rows("m")), history=table)


def test_the_page_shows_the_history(folder: Path, tmp_path: Path) -> None:
    table = reports.load_history(folder)
    text = history_page(table, tmp_path)
    part = text[text.index('id="history"') : text.index("</section>", text.index('id="history"'))]
    assert "2 commits, 2026-01-01 to 2026-01-02" in part
    assert part.count('<svg class="spark"') == 4
    assert "rule=adam, shape=(1, 100)" in part
    assert "10.0 µs</td>" in part
    assert "20.0 µs</td>" in part
    assert "+100 %" in part
    assert "−20 %" in part
    assert 'class="number unclear">+0.0 %' in part
    assert part.count("unclear") == 1
    assert "A change in grey" in part
    assert "A change in grey" not in history_page(table[table["benchmark"] == CALLS], tmp_path)
    assert 'data-table="history"' in part
    assert "virtualenv" not in text
    assert text == history_page(reports.load_history(folder), tmp_path)
    assert 'id="history"' not in history_page(None, tmp_path)
    assert 'id="history"' not in history_page(table.iloc[:0].assign(), tmp_path)


def test_only_the_lines_that_changed_most_are_shown(tmp_path: Path) -> None:
    table = past(*((f"case {k:02}", [1.0, 1.0 + k / 10]) for k in range(60)))
    text = history_page(table, tmp_path)
    assert text.count('<svg class="spark"') == history.MOST
    assert "The 40 of 60 lines that changed most are shown" in text
    shown = re.findall(r"<bdi>case (\d\d)</bdi>", text)
    assert shown == [f"{k:02}" for k in range(20, 60)]


def test_a_single_commit_is_no_history_yet(tmp_path: Path) -> None:
    assert "a history needs at least two" in history_page(past(("a", [1.0])), tmp_path)
    text = history_page(past(("a", [1.0]), ("b", [1.0, 2.0])), tmp_path)
    assert "1 line with only one commit is left out" in text
    assert text.count('<svg class="spark"') == 1


def test_skipped_files_are_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "box" / "aaaaaaaa-env.json").write_text("{")
    assert "1 file in the results folder" in history_page(reports.load_history(folder), tmp_path)
    for path in folder.glob("box/[bc]*.json"):
        path.write_text("[]")
    text = history_page(reports.load_history(folder), tmp_path)
    assert "3 files in the results folder" in text
    assert "has no results that can be shown" in text


def test_machines_and_environments_are_shown(tmp_path: Path) -> None:
    table = pd.concat(
        [past(("a", [1.0, 2.0])), past(("a", [1.0, 3.0]), machine="other"), past(("a", [1.0, 4.0]), environment="3.13")]
    )
    text = history_page(table, tmp_path)
    assert text.count('<svg class="spark"') == 3
    assert {"+100 %", "+200 %", "+300 %"} <= set(re.findall(r"\+\d+ %", text))
    assert "<bdi>other</bdi>" in text
    assert "<bdi>3.13</bdi>" in text


@pytest.mark.parametrize("column", ["benchmark", "parameters", "machine", "environment", "unit", "commit"])
def test_hostile_names_in_a_history_are_text(tmp_path: Path, column: str) -> None:
    table = past(("a", [1.0, 2.0]))
    table.loc[table.index[-1] if column == "commit" else table.index, column] = HOSTILE[1] + HOSTILE[0]
    text = history_page(table, tmp_path)
    assert "<script>alert" not in text
    assert "\x07" not in text


def test_the_command_finds_the_history(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    optbench.sweep("quadratic:dim=3", "sgd", lr=[0.1, 0.2], steps=5, seeds=2, store="stored")
    page = tmp_path / "stored" / "report.html"
    assert main(["report", "stored"]) == 0
    assert 'id="history"' not in page.read_text("utf-8")
    assert main(["report", "stored", "--history", str(folder)]) == 0
    assert 'id="history"' in page.read_text("utf-8")
    (tmp_path / ".asv").mkdir()
    folder.rename(tmp_path / ".asv" / "results")
    assert main(["report", "stored"]) == 0
    assert 'id="history"' in page.read_text("utf-8")
    capsys.readouterr()
    assert main(["report", "stored", "--history", "nowhere"]) == 2
    assert "there is no folder 'nowhere'" in capsys.readouterr().err
