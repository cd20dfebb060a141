"""Results over all problems: relative calls, performance profiles, data profiles and the ECDF of runtimes.

Each method has its tuned settings on every problem. A run that misses a target needs infinitely many calls, also in medians
and profiles. Restarts are not simulated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from optbench.analysis.grid import complete_set, pair_table, run_grid
from optbench.analysis.tuning import target_index
from optbench.results.runs import Runs


def relative_calls(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """Oracle calls that each method needs on each problem, and their ratios to those of the best method.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest recorded target is used.

    Returns
    -------
    DataFrame
        One row for each pair of method and problem, sorted: method, problem, oracle (null without runs), calls (median over
        seeds; inf if at least half of them missed the target, NaN without runs or optimum), reached (number of seeds that
        reached it), seeds, ratio (calls / fewest calls of any method; inf if missed), status ("reached" or "missed" in the
        median, "not run", or "no target" if no optimum is known or the target cannot be resolved).
    """
    grid = run_grid(runs)
    resolved = grid.resolved(target)
    calls = np.where(resolved, grid.medians(target), np.nan)
    best = np.fmin.reduce(calls, axis=0, initial=np.inf)  # (P,)
    missed = np.isinf(calls)
    with np.errstate(invalid="ignore"):
        ratio = np.where(missed, np.inf, calls / best)
    status = np.where(resolved, np.where(missed, "missed", "reached"), "no target")
    status = np.where(grid.seeds > 0, status, "not run")
    reached = np.isfinite(grid.calls_to_target[..., target_index(target)]).sum(axis=2)
    figures = {"calls": calls, "reached": reached, "seeds": grid.seeds, "ratio": ratio, "status": status}
    table = pair_table(grid.methods, grid.problems, **figures)
    table = table.merge(grid.oracles, on=["method", "problem"], how="left")
    return table[["method", "problem", "oracle", *figures]]


def performance_profile(runs: Runs, target: float = 1e-4, among: Sequence[str] | None = None) -> pd.DataFrame:
    """Performance profiles (Dolan & Moré 2002, https://doi.org/10.1007/s101070100263).

    rho_s(tau) is the share of problems on which the ratio t_ps / min_s t_ps of method s is at most tau. Here t_ps is the
    median over seeds of the oracle calls to the target, infinite if at least half of the seeds missed it. Methods that tie
    for the best all have ratio 1. Problems that every method missed stay in the denominator; those on which the target
    cannot be resolved are left out.

    Among more than two methods, compare only rho(1), the share of problems on which a method is best, and the right end,
    the share that it solves. Elsewhere the order of two methods can depend on the others (Gould & Scott 2016,
    https://doi.org/10.1145/2950048). `among` restricts the profile to some methods.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest recorded target is used.
    among : sequence of str, optional
        Methods of the `complete_set` to compare, by default all. Other names raise InputError.

    Returns
    -------
    DataFrame
        One row for each step of the right-continuous functions: method, ratio (tau), share. Each has a row at ratio 1.
    """
    methods, times = _times(runs, target, among)  # (M, P)
    best = times.min(axis=0, initial=np.inf)
    ratio = np.divide(times, best, out=np.full_like(times, np.inf), where=np.isfinite(times))
    return _steps(methods, ratio, start=1.0, named="ratio")


def data_profile(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """Data profiles (Moré & Wild 2009, https://doi.org/10.1137/080724083).

    d_s(alpha) is the share of problems that method s solves within alpha oracle calls. A problem is solved when
    f <= f* + target (f0 - f*); its calls are the median over seeds as in `performance_profile`. Calls are not divided by
    d + 1 as in the source, because one call returns a gradient here. The curve of a method does not depend on other
    methods, except through the selected problems.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest recorded target is used.

    Returns
    -------
    DataFrame
        One row for each step of the right-continuous functions: method, calls (alpha), share. Every method has a row at the
        fewest calls of any method.
    """
    methods, times = _times(runs, target, None)
    return _steps(methods, times, start=times.min(initial=np.inf), named="calls")


def _times(runs: Runs, target: float, among: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Methods and their median calls to the target on the problems of the complete set that resolve it, (M, P)."""
    grid, complete = run_grid(runs), complete_set(runs)
    methods, resolved = complete.select(among), grid.resolved(target)
    problems = [name for name in complete.problems if resolved[grid.problems.index(name)]]
    return methods, grid.medians(target)[grid.index(methods, problems)]


def _steps(methods: Sequence[str], values: np.ndarray, start: float, named: str) -> pd.DataFrame:
    """Steps of the distribution function of each row of the values (M, P), with a point at `start`."""
    start = start if np.isfinite(start) else 1.0
    parts = []
    for row in values:
        points = np.unique([start, *row[np.isfinite(row)]])
        parts.append((points, np.searchsorted(np.sort(row), points, side="right") / max(len(row), 1)))
    return _step_table(methods, parts, named)


def _step_table(methods: Sequence[str], parts: Sequence[tuple[np.ndarray, np.ndarray]], named: str) -> pd.DataFrame:
    """One row for each step: method, point (in a column of the given name) and share."""
    names = np.repeat(np.array(methods, dtype=object), [len(points) for points, _ in parts])
    points, share = (
        np.concatenate([np.empty(0), *values]) for values in ([p for p, _ in parts], [s for _, s in parts])
    )
    return pd.DataFrame({"method": names, named: points, "share": share})


def ecdf(runs: Runs, at: np.ndarray | None = None) -> pd.DataFrame:
    """Share of targets reached within a number of oracle calls, over all problems, seeds and 50 targets.

    This is the empirical distribution function of the runtimes of all (problem, target, seed) triples of the complete set
    (Hansen et al. 2016, https://doi.org/10.48550/arXiv.1605.03560). Missed targets have infinite runtime. All problems have
    equal weight, whatever their number of seeds. Restarts are not simulated, so curves are flat beyond the budget. A target
    is left out if every run on its problem starts below it, or it cannot be resolved.

    Parameters
    ----------
    at : array (n,), optional
        Oracle calls at which to evaluate the function; by default at all steps.

    Returns
    -------
    DataFrame
        One row for each method and step (or point of `at`): method, calls, share.
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
