"""All problems together: relative calls, performance profiles, data profiles and the ECDF of runtimes.

Each method is taken at its tuned settings on every problem. A run that missed a target has needed infinitely many calls;
medians and profiles keep it as that. No restarts are simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optbench.analysis.grid import complete_set, run_grid
from optbench.analysis.tuning import target_index
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


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
    import pandas as pd

    grid = run_grid(runs)
    M, P = grid.seeds.shape
    calls = np.where(grid.known, grid.medians(target), np.nan)
    best = np.fmin.reduce(calls, axis=0, initial=np.inf)  # (P,)
    missed = np.isinf(calls)
    with np.errstate(invalid="ignore"):
        ratio = np.where(missed, np.inf, calls / best)
    ran = grid.seeds > 0
    status = np.select(
        [~ran, np.broadcast_to(~grid.known, (M, P)), missed], ["not run", "no target", "missed"], "reached"
    )
    reached = np.isfinite(grid.calls_to_target[..., target_index(target)]).sum(axis=2)
    table = pd.DataFrame(
        {
            "method": np.repeat(np.array(grid.methods, dtype=object), P),
            "problem": np.tile(np.array(grid.problems, dtype=object), M),
            "calls": calls.ravel(), "reached": reached.ravel(), "seeds": grid.seeds.ravel(), "ratio": ratio.ravel(),
            "status": status.ravel(),
        }
    )  # fmt: skip
    table = table.merge(grid.oracles, on=["method", "problem"], how="left")
    return table[["method", "problem", "oracle", "calls", "reached", "seeds", "ratio", "status"]]


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
    import pandas as pd

    start = start if np.isfinite(start) else 1.0
    parts = []
    for method, row in zip(methods, values, strict=True):
        points = np.unique([start, *row[np.isfinite(row)]])
        share = np.searchsorted(np.sort(row), points, side="right") / max(len(row), 1)
        parts.append(pd.DataFrame({"method": method, named: points, "share": share}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method", named, "share"])


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
    import pandas as pd

    grid, complete = run_grid(runs), complete_set(runs)
    parts = []
    for method in complete.methods:
        m, p = grid.index([method], complete.problems)
        calls, seeds = grid.calls_to_target[m, p][0], grid.seeds[m, p][0]  # (P, S, 50), (P,)
        counted = grid.counted[p[0]]  # (P, 50)
        weight = counted / np.maximum(counted.sum(axis=1), 1)[:, None] / seeds[:, None]  # (P, 50)
        weight /= max(int(counted.any(axis=1).sum()), 1)
        reached = np.isfinite(calls) & (weight[:, None] > 0)
        times, weights = calls[reached], np.broadcast_to(weight[:, None], calls.shape)[reached]
        order = np.argsort(times, kind="stable")
        times, share = times[order], np.concatenate([[0.0], np.cumsum(weights[order])])
        points = np.unique(times) if at is None else np.asarray(at, dtype=float)
        shares = np.minimum(share[np.searchsorted(times, points, side="right")], 1.0)
        parts.append(pd.DataFrame({"method": method, "calls": points, "share": shares}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method", "calls", "share"])
