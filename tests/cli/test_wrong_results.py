"""The commands after results that are wrong or incomplete: what they say first, and their exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import optbench
from optbench.cli import main
from optbench.results.runs import Runs
from optbench.results.store import Store

BOWL = """
from dataclasses import dataclass
import numpy as np
from optbench import Optimum, Problem
from optbench.problem import problem

@problem("{name}")
@dataclass(eq=False)
class Bowl(Problem):
    dim: int = 2

    def value_and_grad(self, x, samples=None):
        return (x * x).sum(axis=-1) / 2, 1.0 * x

    def solve(self):
        return Optimum(f=1e6, lower=1e6, x=np.zeros(2), method="a guess")
"""
NAME = "bowl_with_a_wrong_optimum"
RIGHT = ["run", "--problem", "quadratic:dim=2", "--optimizer", "adam", "--seeds", "2", "--steps", "5", "--lr", "0.1"]
RIGHT += ["--jobs", "1"]


@pytest.fixture
def invalid(here: Path) -> list[str]:
    """The command of a study with a problem whose optimum is far too large."""
    (here / "bowl.py").write_text(BOWL.format(name=NAME), encoding="utf-8")
    return [*RIGHT, "--import", "bowl.py", "--problem", NAME]


def test_an_invalid_problem_is_the_first_thing_said(
    invalid: list[str], capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert main([*invalid, "--no-report"]) == 1
    out, _ = capsys.readouterr()
    words = " ".join(out.split())
    assert words.startswith(f"WRONG: {NAME} contradicts itself in 2 of 2 runs: ")
    assert "No target counts there" in words
    rows = Store("results").load().rows
    assert set(rows.loc[rows["problem"] == NAME, "status"]) == {"invalid"}
    for arguments in (["results", "--table", "markdown"], ["results"]):
        capsys.readouterr()
        assert main(["report", *arguments]) == 1
        out, err = capsys.readouterr()
        assert err.startswith(f"optbench: WRONG: {NAME} contradicts itself in 2 of 2 runs: ")
        assert ("| invalid |" in out) == ("--table" in arguments)
    assert 'role="alert"' in (here / "results/report.html").read_text(encoding="utf-8")


def test_missing_runs_are_said_first(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = optbench.run

    def interrupted(*arguments: Any, **options: Any) -> Runs:
        runs = compute(*arguments, **options)
        return Runs(runs.rows, runs.environments, missing=3)

    monkeypatch.setattr(optbench, "run", interrupted)
    assert main(RIGHT) == 1
    out, _ = capsys.readouterr()
    assert " ".join(out.split()).startswith("WRONG: 3 of 5 requested runs are missing")
    assert "3 of 5 requested runs are missing" in (here / "results/report.html").read_text(encoding="utf-8")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main([*RIGHT, "--no-report"]) == 0
    assert "WRONG" not in capsys.readouterr().out


def test_report_loads_its_folder_once(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*RIGHT, "--no-report"]) == 0
    load, loads = Store.load, []

    def counted(store: Store, *arguments: Any, **options: Any) -> Runs:
        loads.append(store.path)
        return load(store, *arguments, **options)

    monkeypatch.setattr(Store, "load", counted)
    for arguments in (["results"], ["results", "--table", "latex"]):
        loads.clear()
        assert main(["report", *arguments]) == 0
        assert loads == [Path("results").absolute()]
    assert (here / "results/report.html").exists()
