"""The section on speed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import reports
from benchmarks.gpu import COLUMNS as GPU_COLUMNS
from optbench.analysis import tuning
from optbench.cli import main
from optbench.results.runs import Runs
from optbench.results.schema import to_arrow, to_frame
from optbench.results.store import Store
from reports import wording
from tests.reports.conftest import HOSTILE, NETWORK, STEEP, VALLEY, page_of
from tests.reports.reader import Reader, speed_of


def test_a_page_without_races_says_how_to_run_one(page: str) -> None:
    read = speed_of(page)
    assert "optbench race --problem quadratic:dim=100 --optimizer adam --optimizer sgd -o FOLDER" in read.text
    assert "Methods are not compared in seconds" in Reader(page).text
    assert read.all("table") == []


def test_the_speed_of_every_configuration_is_on_the_page(raced_page: str, races: pd.DataFrame) -> None:
    read = speed_of(raced_page)
    for name in ("lbfgs:memory=5", "sgd:lr=50", "rosenbrock", "Abacus <4>", "pinned to core 3", "float64"):
        assert name in read.text
    assert "0.50 in the minute before, 0.50 at its end" in read.text
    assert "30.00 in the minute before" in read.text
    assert "3 rounds of 4 steps" in read.text
    assert "load average 30.0 before the race, on 4 cores" in read.text
    assert "Methods are not compared in seconds" not in raced_page
    shown = reports.speed_table(races)
    assert len(shown) == 8
    text = " ".join(read.text.split())
    for line in shown.to_dict("records"):
        assert f"{line['a step']}{line['a step, 95 %']}" in text
        assert f"{line['times the first']}{line['times the first, 95 %']}" in text
    assert shown["a step"].tolist()[:3] == ["10.1 µs", "20.2 µs", "30.3 µs"]
    assert shown["times the first"].tolist()[:3] == ["1.00", "2.00", "3.00"]
    assert shown["oracle"].tolist()[:3] == ["100 %", "25 %", "25 %"]


def test_seconds_to_target_are_on_the_page_or_listed_as_missing(
    runs: Runs, races: pd.DataFrame, raced_page: str
) -> None:
    shown = reports.seconds_table(runs, races)
    assert set(shown["problem"]) == {VALLEY}
    forms = sorted(zip(shown["method"], shown["update"], shown["disturbed"], strict=True))
    assert ("newton", "as written", False) in forms
    assert ("adam", "as written", True) in forms
    assert "lbfgs" not in set(shown["method"])  # it raced with another memory
    newton = tuning.tuned_rows(runs).query("problem == @VALLEY and method == 'newton'")
    calls = np.median([hits[tuning.target_index(1e-4)] for hits in newton["calls_to_target"]])
    (line,) = shown[shown["method"] == "newton"].to_dict("records")
    assert line["to 1e-4"] == f"{calls * 30.3:.1f} µs"
    read = speed_of(raced_page)
    assert line["to 1e-4"] in read.text
    assert f"{VALLEY}: no races of broken; gradient_descent; lbfgs; momentum; random_search." in read.text
    assert f"{NETWORK}: no targets" in read.text
    assert f"{STEEP}: no races." in read.text
    assert "rosenbrock: no runs, only races." in read.text


def test_disturbed_times_are_marked(raced_page: str, races: pd.DataFrame) -> None:
    quiet, loud = (races[races["race"] == name] for name in ("race 1", "race 2"))
    for part, word in ((quiet, ""), (loud, " – disturbed")):
        ax = reports.speed(part, VALLEY, Figure().add_subplot())
        assert all(label.get_text().endswith(word) for label in ax.get_yticklabels())
        assert any("disturbed" in label.get_text() for label in ax.get_yticklabels()) == bool(word)
    whole = raced_page[raced_page.index('<section id="speed"') :]
    heads = re.findall(r"<h3 id=\"race-[a-z0-9-]+\">(Race of [^<]*)(.*?)</h3>", whole)
    assert [(head.strip(), "disturbed" in flag) for head, flag in heads] == [
        ("Race of 2026-01-02 10:20:30 UTC", True),
        ("Race of 2026-01-01 10:20:30 UTC", False),
    ]


def test_hostile_names_in_races_are_text(runs: Runs, races: pd.DataFrame, tmp_path: Path) -> None:
    odd = races.copy()
    for column in ("problem", "configuration", "machine"):
        for old, new in zip(sorted(set(odd[column])), HOSTILE, strict=False):
            odd[column] = odd[column].replace(old, new)
    read = Reader(page_of(runs, tmp_path, races=odd))
    assert [a.get("type") for a in read.all("script")] == ["application/json", None]
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    for name in {*odd["problem"], *odd["configuration"], *odd["machine"]}:
        assert wording.clean(name) in read.text


def test_races_alone_make_a_page(races: pd.DataFrame, tmp_path: Path) -> None:
    Store(tmp_path / "r").write_race(races[races["race"] == "race 1"].to_dict("records"))
    assert main(["report", str(tmp_path / "r")]) == 0
    read = Reader((tmp_path / "r" / "report.html").read_text("utf-8"))
    assert "1 race, and no runs yet" in read.text
    assert "lbfgs:memory=5" in read.text
    assert len(read.all("nav")) == 1


def test_a_gpu_needs_no_runs_beside_races(races: pd.DataFrame, tmp_path: Path) -> None:
    figure = dict.fromkeys(GPU_COLUMNS) | {
        "measurement": "a", "created": "2026-01-02", "machine": "A GPU", "processor": "a CPU", "section": "sweeps",
        "case": "a sweep", "precision": "float64", "size": 100, "contender": "gpu", "quantity": "seconds", "repeat": 0,
        "value": 1.0, "note": "300 steps",
    }  # fmt: skip
    gpu = to_frame(to_arrow([figure], GPU_COLUMNS))
    read = Reader(page_of(Runs.from_rows([]), tmp_path, races=races, gpu=gpu))
    assert "a sweep, 100 runs, 300 steps" in read.text
    assert [a["href"] for a in read.all("a") if a.get("href") == "#gpu"] == ["#gpu"]


def test_races_that_are_repeated_are_not_shown_twice(runs: Runs, races: pd.DataFrame, tmp_path: Path) -> None:
    first = races[races["race"] == "race 1"]
    again = first.assign(race="race 3", created="2026-01-03T00:00:00.000000+00:00")
    read = speed_of(page_of(runs, tmp_path, races=pd.concat([races, again])))
    assert "2026-01-01" not in read.text
    assert "1 stored race not shown" in read.text
