"""Tuning: scores of settings, and the best settings of every method on every problem."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from optbench.analysis.statistics import group_medians
from optbench.analysis.validity import calls_to_target, judged
from optbench.core.trace import TARGETS
from optbench.core.types import Status
from optbench.results.runs import Runs

P = ParamSpec("P")
T = TypeVar("T")

PAIR = ["problem", "method"]
BEST_FIRST = ["problem", "hardest", "calls", "final", "method"]  # sorts `tuned` with the best method first


def cached(function: Callable[Concatenate[Runs, P], T]) -> Callable[Concatenate[Runs, P], T]:
    """Cache the results of a function of `Runs` as long as the `Runs` exist. Other arguments must be hashable."""
    results: weakref.WeakKeyDictionary[Runs, dict[Any, Any]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def wrapper(runs: Runs, /, *args: P.args, **options: P.kwargs) -> T:
        of_runs, key = results.setdefault(runs, {}), (args, *options.items())
        if key not in of_runs:
            of_runs[key] = function(runs, *args, **options)
        result: T = of_runs[key].copy() if hasattr(of_runs[key], "columns") else of_runs[key]  # callers may change it
        return result

    return wrapper


def is_lost(rows: pd.DataFrame) -> np.ndarray:
    """Whether each run diverged, is invalid or failed, so that it has no valid end; shape (R,)."""
    lost: np.ndarray = rows["status"].isin([status for status in Status if status.is_lost]).to_numpy()
    return lost


def target_index(target: float) -> int:
    """Index of the recorded target that is nearest to `target`."""
    return int(np.argmin(np.abs(np.log10(TARGETS) - np.log10(target))))


def final_objective(rows: pd.DataFrame) -> np.ndarray:
    """Objective at the end of each run, shape (R,); inf if it diverged, is invalid or failed."""
    return np.where(is_lost(rows), np.inf, rows["f_end"].to_numpy(dtype=float))


@cached
def setting_scores(runs: Runs) -> pd.DataFrame:
    """Scores of every setting of every method on every problem, over its seeds.

    Settings are ordered by the hardest of the 50 targets that more than half of the seeds reach, then by the median oracle
    calls to that target, then by the median final objective, which alone decides if no optimum is known.

    Returns
    -------
    DataFrame
        problem, method, settings (JSON), step_size, batch_size, hardest (minus the index of the hardest target), calls
        (to this target), final; sorted by problem and method, the best setting first.
    """
    rows, names = judged(runs).rows, [*PAIR, "settings"]
    group = rows.groupby(names).ngroup().to_numpy(int)  # setting of each run, 0 to G - 1
    calls = calls_to_target(rows)
    reached = pd.DataFrame(np.isfinite(calls)).groupby(group).sum().to_numpy()  # runs, (G, 50)
    is_reached = reached > np.bincount(group)[:, None] / 2
    hardest = np.where(is_reached, np.arange(len(TARGETS)), -1).max(axis=1)  # (G,)
    of_run = hardest[group]
    to_hardest = np.where(of_run >= 0, calls[np.arange(len(rows)), of_run], np.inf)
    table = (
        rows[[*names, "step_size", "batch_size"]].drop_duplicates(names).sort_values(names)
    )  # in the order of the groups
    table["hardest"] = -hardest.astype(float)
    table["calls"] = group_medians(to_hardest, group)
    table["final"] = group_medians(final_objective(rows), group)
    return table.sort_values([*PAIR, "hardest", "calls", "final", "settings"], ignore_index=True)


@cached
def tuned(runs: Runs) -> pd.DataFrame:
    """The best settings of every method on every problem.

    `setting_scores` selects them, on the same seeds as the results. A method with more settings has an advantage, so the
    table has their number.

    Returns
    -------
    DataFrame
        One row for each problem and method: the columns of `setting_scores`, and n_settings.
    """
    scores = setting_scores(runs)
    scores["n_settings"] = scores.groupby(PAIR)["settings"].transform("size")
    return scores.drop_duplicates(PAIR, ignore_index=True)


@cached
def ranked(runs: Runs) -> dict[str, list[str]]:
    """The methods on every problem, best first, see `setting_scores`."""
    methods: dict[str, list[str]] = tuned(runs).sort_values(BEST_FIRST).groupby("problem")["method"].agg(list).to_dict()
    return methods


@cached
def tuned_rows(runs: Runs) -> pd.DataFrame:
    """The rows of the best settings of every method on every problem."""
    names = [*PAIR, "settings"]
    return judged(runs).rows.merge(tuned(runs)[names], on=names)
