"""Tuning: how good a setting is, and the best settings of every method on every problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optbench.analysis.cache import cached
from optbench.core.trace import TARGETS
from optbench.core.types import Status
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


def is_lost(rows: pd.DataFrame) -> np.ndarray:
    """Which runs diverged or failed, so that their end is not valid; shape (R,)."""
    lost: np.ndarray = rows["status"].isin([status for status in Status if status.is_lost]).to_numpy()
    return lost


def target_index(target: float) -> int:
    """Position of a target among the 50 that are recorded."""
    return int(np.argmin(np.abs(np.log10(TARGETS) - np.log10(target))))


def calls_to_target(rows: pd.DataFrame) -> np.ndarray:
    """Oracle calls to each target, shape (rows, 50); inf where it was never reached, NaN where no optimum is known."""
    missing = np.full(len(TARGETS), np.inf)
    unknown = np.full(len(TARGETS), np.nan)
    return np.array(
        [
            np.asarray(calls, dtype=float) if calls is not None else unknown if np.isnan(star) else missing
            for calls, star in zip(rows["calls_to_target"], rows["f_star"], strict=True)
        ]
    ).reshape(len(rows), len(TARGETS))


def _scores(calls: np.ndarray, final: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The score of every setting, see `setting_scores`; three arrays (G,), smaller is better.

    Parameters
    ----------
    calls : array of shape (R, 50)
        Calls to target of every run.
    final : array of shape (R,)
        Final objectives.
    group : array of int, shape (R,)
        Number of each run's setting, 0 to G - 1.
    """
    order = np.argsort(group, kind="stable")
    starts, counts = np.unique(group[order], return_index=True, return_counts=True)[1:]  # (G,)
    reached = np.add.reduceat(np.isfinite(calls[order]), starts, axis=0, dtype=np.int64)  # runs, (G, 50)
    by_most = reached > counts[:, None] / 2
    hardest = np.where(by_most.any(axis=1), by_most.shape[1] - 1 - np.argmax(by_most[:, ::-1], axis=1), -1)
    to_hardest = np.full(len(group), np.inf)
    row, target = np.arange(len(group)), np.repeat(hardest, counts)
    to_hardest[order] = np.where(target >= 0, calls[order][row, target], np.inf)
    return -hardest.astype(float), _medians(to_hardest, group), _medians(final, group)


def _medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`statistics.median` of every group: values (R,), numbers of groups (R,); returns (G,)."""
    order = np.lexsort((values, group))
    starts, counts = np.unique(group[order], return_index=True, return_counts=True)[1:]
    middle: np.ndarray = values[order][starts + counts // 2]
    return middle


@cached
def setting_scores(runs: Runs) -> pd.DataFrame:
    """How good every setting of every method is on every problem, from the runs of its seeds.

    Settings are ordered by the hardest of the 50 targets that more than half of the seeds reach, then by the median of the
    oracle calls to that target, then by the median of the final objective, which decides where no optimum is known.

    Returns
    -------
    DataFrame
        problem, method, settings (JSON), step_size, batch_size, hardest (minus the position of the hardest target), calls
        (to it), final; by problem and method, the best setting first.
    """
    names = ["problem", "method", "settings"]
    rows = runs.rows
    group = rows.groupby(names, sort=True).ngroup().to_numpy()
    table = rows[[*names, "step_size", "batch_size"]].assign(group=group).drop_duplicates("group").sort_values("group")
    if len(table):
        parts = _scores(calls_to_target(rows), final_objective(rows), group)
        table = table.assign(**dict(zip(("hardest", "calls", "final"), parts, strict=True)))
        order = ["problem", "method", "hardest", "calls", "final", "settings"]
        table = table.sort_values(order, ignore_index=True)
    else:
        table = table.assign(hardest=0.0, calls=0.0, final=0.0)
    return table.drop(columns="group")


@cached
def ranked(runs: Runs) -> dict[str, list[str]]:
    """The methods of every problem, the best first, see `setting_scores`."""
    best = setting_scores(runs).drop_duplicates(["problem", "method"])
    best = best.sort_values(["problem", "hardest", "calls", "final", "method"])
    return {str(problem): list(part["method"]) for problem, part in best.groupby("problem", sort=True)}


@cached
def tuned(runs: Runs) -> pd.DataFrame:
    """The best settings of every method on every problem.

    They are chosen by `setting_scores`, on the same seeds that are shown. A method with a finer grid has an advantage; the
    number of its settings is in the table.

    Returns
    -------
    DataFrame
        One row a problem and method: problem, method, settings (JSON), step_size, batch_size, n_settings.
    """
    scores = setting_scores(runs)
    counts = scores.groupby(["problem", "method"], sort=True)["settings"].size()
    best = scores.drop_duplicates(["problem", "method"])[["problem", "method", "settings", "step_size", "batch_size"]]
    return best.reset_index(drop=True).assign(n_settings=counts.to_numpy())


@cached
def tuned_rows(runs: Runs) -> pd.DataFrame:
    """The stored rows of the best settings only."""
    return runs.rows.merge(tuned(runs)[["problem", "method", "settings"]], on=["problem", "method", "settings"])


def final_objective(rows: pd.DataFrame) -> np.ndarray:
    """Objective at the end of each run; infinite for those that diverged or failed."""
    return np.where(is_lost(rows), np.inf, rows["f_end"].to_numpy(dtype=float))
