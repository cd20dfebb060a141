"""All problems together: relative calls, performance profiles, data profiles and the ECDF of runtimes.

Each method is taken at its tuned settings on every problem. A run that missed a target has needed infinitely many calls;
medians and profiles keep it as that. No restarts are simulated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from optbench.analysis.grid import complete_set, pair_table, run_grid
from optbench.analysis.tuning import target_index
from optbench.results.runs import Runs


def relative_calls(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """How many oracle calls each method needs on each problem, and how many times those of the best.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.

    Returns
    -------
    DataFrame
        One row a method and problem, all pairs, sorted: method, problem, oracle (null where it did not run),
        calls (median over seeds; inf where half of them or more missed, NaN where there is none), reached and
        seeds (how many got there, of how many), ratio (calls over the fewest of any method on the problem; inf where
        it missed), status: "reached" or "missed" (in the median), "not run", or "no target" (no optimum is known).
    """
    grid = run_grid(runs)
    calls = np.where(grid.known, grid.medians(target), np.nan)
    best = np.fmin.reduce(calls, axis=0, initial=np.inf)  # (P,)
    missed = np.isinf(calls)
    with np.errstate(invalid="ignore"):
        ratio = np.where(missed, np.inf, calls / best)
    status = np.where(grid.known, np.where(missed, "missed", "reached"), "no target")
    status = np.where(grid.seeds > 0, status, "not run")
    reached = np.isfinite(grid.calls_to_target[..., target_index(target)]).sum(axis=2)
    figures = {"calls": calls, "reached": reached, "seeds": grid.seeds, "ratio": ratio, "status": status}
    table = pair_table(grid.methods, grid.problems, **figures)
    table = table.merge(grid.oracles, on=["method", "problem"], how="left")
    return table[["method", "problem", "oracle", *figures]]


def performance_profile(runs: Runs, target: float = 1e-4, among: Sequence[str] | None = None) -> pd.DataFrame:
    """Performance profiles (Dolan & Moré 2002, https://doi.org/10.1007/s101070100263).

    rho_s(tau) is the share of problems on which method s needs at most tau times the calls of the best, t_ps / min_s
    t_ps, where t_ps is the median over seeds of the oracle calls to the target, infinite where half of them or more
    missed. Every method that ties for the best has ratio 1. A problem that all missed stays in the denominator.

    Only rho(1), the share of problems where a method is best, and the height at the right end, the share that it
    solves, may be read off for more than two methods at once: who leads in between can depend on who else takes part
    (Gould & Scott 2016, https://doi.org/10.1145/2950048). `among` gives the profile of some of them alone.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.
    among : sequence of str, optional
        Methods of the `complete_set` that take part; all by default. Others raise InputError.

    Returns
    -------
    DataFrame
        The steps of right-continuous functions, one row a step: method, ratio (tau), share. Every method has a row at
        ratio 1.
    """
    methods, times = _times(runs, target, among)  # (M, P)
    best = times.min(axis=0, initial=np.inf)
    ratio = np.divide(times, best, out=np.full_like(times, np.inf), where=np.isfinite(times))
    return _steps(methods, ratio, start=1.0, named="ratio")


def data_profile(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """Data profiles (Moré & Wild 2009, https://doi.org/10.1137/080724083).

    d_s(alpha) is the share of problems that method s solves within alpha oracle calls, where solved means f <= f* +
    target (f0 - f*), and the calls on a problem are the median over seeds as in `performance_profile`. They are not
    divided by d + 1 as there: a call here answers with a gradient already. The curve of a method does not depend on
    who else takes part, except through the choice of problems.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.

    Returns
    -------
    DataFrame
        The steps of right-continuous functions, one row a step: method, calls (alpha), share. Every method has a row
        at its first step, or one with share 0 at the fewest calls of any.
    """
    methods, times = _times(runs, target, None)
    return _steps(methods, times, start=times.min(initial=np.inf), named="calls")


def _times(runs: Runs, target: float, among: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Methods and their median calls to the target on the problems of the complete set, (M, P)."""
    grid, complete = run_grid(runs), complete_set(runs)
    methods = complete.select(among)
    return methods, grid.medians(target)[grid.index(methods, complete.problems)]


def _steps(methods: Sequence[str], values: np.ndarray, start: float, named: str) -> pd.DataFrame:
    """Where the distribution functions of the rows of (M, P) values step, and how high; all have the point `start`."""
    start = start if np.isfinite(start) else 1.0
    parts = []
    for row in values:
        points = np.unique([start, *row[np.isfinite(row)]])
        parts.append((points, np.searchsorted(np.sort(row), points, side="right") / max(len(row), 1)))
    return _step_table(methods, parts, named)


def _step_table(methods: Sequence[str], parts: Sequence[tuple[np.ndarray, np.ndarray]], named: str) -> pd.DataFrame:
    """One row a step: of each method the points, in a column of the given name, and the shares."""
    names = np.repeat(np.array(methods, dtype=object), [len(points) for points, _ in parts])
    points, share = (
        np.concatenate([np.empty(0), *values]) for values in ([p for p, _ in parts], [s for _, s in parts])
    )
    return pd.DataFrame({"method": names, named: points, "share": share})


def ecdf(runs: Runs, at: np.ndarray | None = None) -> pd.DataFrame:
    """Share of targets reached within so many oracle calls, over all problems, seeds and the 50 targets.

    The empirical distribution function of the runtimes of all (problem, target, seed) triples of the complete set (Hansen
    et al. 2016, https://doi.org/10.48550/arXiv.1605.03560), those that were never reached at infinity. All problems weigh
    alike, also where one has fewer seeds. Runs are as long as they were: no restarts are simulated, so that a curve is
    flat beyond its budget. A target below which every run on its problem begins says nothing, and is left out.

    Parameters
    ----------
    at : array (n,), optional
        Oracle calls at which to evaluate; by default wherever a curve steps.

    Returns
    -------
    DataFrame
        method, calls, share; one row a method and step (or point of `at`).
    """
    grid, complete = run_grid(runs), complete_set(runs)
    index = grid.index(complete.methods, complete.problems)
    counted = grid.counted[index[1][0]]  # (P, 50)
    parts = []
    for calls, seeds in zip(grid.calls_to_target[index], grid.seeds[index], strict=True):  # (P, S, 50), (P,)
        weight = counted / np.maximum(counted.sum(axis=1), 1)[:, None] / seeds[:, None]  # (P, 50)
        weight /= max(int(counted.any(axis=1).sum()), 1)
        reached = np.isfinite(calls) & (weight[:, None] > 0)
        times, weights = calls[reached], np.broadcast_to(weight[:, None], calls.shape)[reached]
        order = np.argsort(times, kind="stable")
        times, share = times[order], np.concatenate([[0.0], np.cumsum(weights[order])])
        points = np.unique(times) if at is None else np.asarray(at, dtype=float)
        parts.append((points, np.minimum(share[np.searchsorted(times, points, side="right")], 1.0)))
    return _step_table(complete.methods, parts, "calls")
