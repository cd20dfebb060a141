"""Ranks of methods over all problems, by the areas below their ECDFs, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.analysis.grid import complete_set, pair_table, run_grid
from optbench.analysis.statistics import DIGITS, interval, ranks, resampled_mean_ranks, sign_test
from optbench.analysis.tuning import cached
from optbench.results.runs import Runs

RESAMPLES = 1000  # bootstrap samples


@cached
def areas(runs: Runs) -> pd.DataFrame:
    """Area below the ECDF of each method on each problem; methods are ranked by it.

    The ECDF over targets and seeds of one problem has log10 oracle calls on its axis and ends at the budget that all
    methods of the complete set share. The area, in decades, is the mean over targets and seeds of log10(budget / calls),
    with 0 for missed targets. All targets have equal weight, and reaching any target earlier increases the area.

    Returns
    -------
    DataFrame
        One row for each method and problem of the complete set: method, problem, budget, area, rank (1 for the largest
        area; ties share their mean rank).
    """
    complete = complete_set(runs)
    area, budget = _areas(runs)  # (M, P, S), (P,)
    mean = np.nanmean(area, axis=2) if area.size else np.zeros(area.shape[:2])
    return pair_table(complete.methods, complete.problems, budget=budget, area=mean, rank=ranks(mean))


def ranked_methods(runs: Runs) -> list[str]:
    """The methods of the complete set in the order of `ranking`, best first."""
    table = areas(runs)
    mean = table.groupby("method")[["rank", "area"]].mean().round(DIGITS).reset_index()
    return list(mean.sort_values(["rank", "area", "method"], ascending=[True, False, True])["method"])


def _areas(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Area of every run (M, P, S), NaN for missing runs, and the common budgets (P,); see `areas`."""
    grid, complete = run_grid(runs), complete_set(runs)
    index = grid.index(complete.methods, complete.problems)
    calls, counted = grid.calls_to_target[index], grid.counted[index[1][0]]  # (M, P, S, 50), (P, 50)
    budget = np.fmin.reduce(grid.budget[index], axis=0, initial=np.inf)  # (P,)
    with np.errstate(invalid="ignore"):  # a budget is unknown if all runs failed
        saved = np.log10(budget[:, None, None] / np.minimum(calls, budget[:, None, None]))
    saved[np.isinf(calls)] = 0.0
    ran = np.arange(calls.shape[2]) < grid.seeds[index][..., None]  # (M, P, S)
    saved = np.where(ran[..., None], np.where(counted[:, None], saved, 0.0), np.nan)
    area: np.ndarray = saved.sum(axis=3) / np.maximum(counted.sum(axis=1), 1)[:, None]
    return area, budget


@cached
def ranking(
    runs: Runs, resamples: int = RESAMPLES, seed: int = 0, among: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Methods by their mean rank over the problems of the complete set, with intervals.

    On each problem methods are ranked by `areas`. The intervals come from a bootstrap over problems and, within each
    problem, over seeds (`statistics.resampled_mean_ranks`). It treats the problems as a random sample, and does not include
    the uncertainty of tuning.

    Parameters
    ----------
    resamples : int
        Number of bootstrap samples.
    seed : int
        Seed of the bootstrap.
    among : tuple of str, optional
        Methods of the complete set to compare, by default all. Other names raise InputError.

    Returns
    -------
    DataFrame
        One row for each method, best first: method, oracle, rank (mean over problems), low, high (its 95 % interval), first
        (share of resamples with the smallest mean rank; ties share it), area (mean over problems), problems, ahead and
        behind (number of problems with a larger, or smaller, area than the next row), beats_next (share of resamples with a
        smaller mean rank than the next row; ties count half), p_next (`sign_test` of ahead and behind). The last four are
        null in the last row.
    """
    grid, complete = run_grid(runs), complete_set(runs)
    methods = complete.select(among)
    columns = ["method", "oracle", "rank", "low", "high", "first", "area", "problems"]
    columns += ["ahead", "behind", "beats_next", "p_next"]
    if not methods or not complete.problems:
        return pd.DataFrame(columns=columns)
    by_seed = _areas(runs)[0][[complete.methods.index(name) for name in methods]]  # (M, P, S)
    mean = np.nanmean(by_seed, axis=2).round(DIGITS)
    rank, area = ranks(mean).mean(axis=1), mean.mean(axis=1).round(DIGITS)  # each (M,)
    drawn = resampled_mean_ranks(by_seed, grid.seeds[grid.index(methods, complete.problems)], resamples, seed)  # (M, B)
    low, high = interval(drawn)
    leads = np.isclose(drawn, drawn.min(axis=0), rtol=0, atol=1e-9)
    first = (leads / leads.sum(axis=0)).mean(axis=1)
    oracles = grid.oracles.groupby("method")["oracle"].agg(lambda kinds: " or ".join(sorted(set(kinds) - {""})))
    order = sorted(range(len(methods)), key=lambda m: (round(rank[m], DIGITS), -area[m], methods[m]))
    lines = []
    for m, after in zip(order, [*order[1:], None], strict=True):
        compared: list[float] = [np.nan] * 4
        if after is not None:
            ahead, behind = int((mean[m] > mean[after]).sum()), int((mean[m] < mean[after]).sum())
            less = drawn[after] - drawn[m]
            beats = float(np.mean(np.where(np.abs(less) < 1e-9, 0.5, less > 0)))
            compared = [ahead, behind, beats, sign_test(ahead, behind)]
        name = methods[m]
        lines.append(
            (name, oracles[name], rank[m], low[m], high[m], first[m], area[m], len(complete.problems), *compared)
        )
    return pd.DataFrame(lines, columns=columns)
