"""Notes before quoting a number."""

from __future__ import annotations

import numpy as np
import pandas as pd

import reports
from optbench.results.runs import Runs
from reports import tables
from reports.page import notes
from tests.reports.conftest import VALLEY


def test_a_run_below_the_optimum_shows_that_the_optimum_is_wrong(runs: Runs) -> None:
    assert reports.alerts(runs) == []
    rows = runs.rows.copy()
    at = rows.index[(rows["problem"] == VALLEY) & rows["f_best"].notna()][0]
    rows.loc[at, "f_best"] = rows.loc[at, "f_star"] - 1e-9
    (alert,) = reports.alerts(Runs(rows))
    assert alert.startswith(f"{VALLEY} contradicts itself in 1 of ")
    assert [leader.methods for leader in tables.leaders(Runs(rows)) if leader.problem == VALLEY] == [()]


def test_budgets_that_differ_by_the_first_call_are_the_same() -> None:
    def is_noted(steps: int) -> bool:
        full = {"problem": "p", "seed": 0, "budget_calls": 101.0, "status": "budget", "exact_targets": True}
        full |= {"f_start": 1.0, "f_best": 0.5, "f_star": np.nan, "f_star_lower": np.nan, "precision": "float64"}
        rows = pd.DataFrame([full, full | {"budget_calls": (steps + 1) * 64 / 1000}])
        return any("different budgets" in note for note in notes.notes(rows, pd.DataFrame(), pd.DataFrame()))

    assert not is_noted(1562)  # 1563 mini-batches of 64 out of 1000 samples: 100.03 calls beside 101
    assert is_noted(800)
