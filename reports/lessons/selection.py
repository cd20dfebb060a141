"""The runs that lessons rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis import metrics, statistics, tuning
from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from ..figures.selection import description_of

LOST = 1e100  # gap from which on a run is as good as infinite: axes of three hundred decades would overflow
NEEDED = [
    "problem", "problem_spec", "problem_name", "problem_params", "method", "optimizer", "fixed", "settings", "step_size",
    "schedule", "batch_size", "seed", "steps", "status", "end", "calls", "calls_per_step", "budget_calls",
    "checkpoint_calls", "f_end", "f_star", "calls_to_target", "t", "f", "metrics", "description",
]  # fmt: skip  # a frame with all columns of a row would take longer to filter than to read


class Selection:
    """Results by problem, and how methods look.

    Attributes
    ----------
    all : Runs
    parts : dict of str to DataFrame
        Rows by problem.
    names : dict of str to str
        Problem -> its registered name.
    """

    def __init__(self, runs: Runs, styles: style.Styles) -> None:
        self.all, self.styles, self.environments = runs, styles, runs.environments
        rows = runs.rows[[name for name in NEEDED if name in runs.rows]]
        self.parts = {str(name): part for name, part in rows.groupby("problem", sort=True)}
        self.names = {name: str(part["problem_name"].iloc[0]) for name, part in self.parts.items()}

    def of(self, name: str) -> dict[str, pd.DataFrame]:
        """The rows of the problems that are registered under a name."""
        return {problem: rows for problem, rows in self.parts.items() if self.names[problem] == name}

    def runs(self, rows: pd.DataFrame) -> Runs:
        return Runs(rows, self.environments)

    def description(self, rows: pd.DataFrame) -> dict[str, Any]:
        """The description that is stored with rows of a problem."""
        return description_of(self.runs(rows))

    def best(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows at the best settings of the best of their methods, by seed."""
        of_problem = self.runs(rows)
        method = next(iter(tuning.ranked(of_problem).values()))[0]
        tuned = tuning.tuned_rows(of_problem)
        return tuned[tuned["method"] == method].sort_values("seed", ignore_index=True)

    def method(self, rows: pd.DataFrame) -> tuple[style.Style, str]:
        """How the method of rows of one problem is drawn, and its name."""
        method = str(rows["method"].iloc[0])
        return self.styles[method], method


def full(rows: pd.DataFrame) -> pd.Series:
    """Which runs looked at all samples at every step."""
    return rows["batch_size"].isna() & (rows["schedule"] == "constant")


def whole(rows: pd.DataFrame) -> np.ndarray:
    """Which runs have their iterates in the plane, at every step."""
    selection = zip(rows["metrics"], rows["t"], strict=True)
    candidates = [
        len(t) > 1 and int(t[-1]) == len(t) - 1 and {name for name, _ in values} >= metrics.COORDINATES
        for values, t in selection
    ]
    return np.array(candidates, dtype=bool)


def stochastic(rows: pd.DataFrame) -> pd.Series:
    """Which runs are of SGD with mini-batches and a constant step size, on a problem whose optimum is known."""
    sgd = (rows["optimizer"] == "sgd") & rows["batch_size"].notna()
    return sgd & (rows["schedule"] == "constant") & rows["f_star"].notna()


def gaps(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Steps taken (C,) and the median over seeds of the gap of the iterate; infinite for runs that were lost by then.

    A run that ended well keeps its last value; the steps are those up to where the median is finite.
    """
    t = np.unique(np.concatenate(list(rows["t"])))
    wide = np.empty((len(rows), len(t)))
    for k, row in enumerate(rows.to_dict("records")):
        wide[k] = np.asarray(row["f"], dtype=float)[np.searchsorted(np.asarray(row["t"]), t, side="right") - 1]
        if row["status"] == Status.DIVERGED:
            wide[k, t >= row["end"]] = np.inf
        wide[k] -= row["f_star"]
    middle = np.sort(np.where(wide < LOST, wide, np.inf), axis=0)[len(rows) // 2]
    usable = int(np.argmin(np.isfinite(middle))) if not np.isfinite(middle).all() else len(t)
    return t[:usable], middle[:usable]


def medians(table: pd.DataFrame, by: str, columns: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Medians of some columns in every group of a table."""
    return {
        str(name): {key: statistics.median(group[key].to_numpy(dtype=float)) for key in columns}
        for name, group in table.groupby(by, sort=False)
    }
