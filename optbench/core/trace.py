"""The results of a stack of runs: a `Recorder` collects them, and a `Trace` contains them at the end; all on the host."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from optbench.core.types import Oracle, Status

TARGETS = 10.0 ** (-0.2 * np.arange(1, 51))  # fractions of the initial gap, (50,)
STATUSES = (Status.BUDGET, Status.TARGET, Status.GRADIENT, Status.DIVERGED)  # by number
BUDGET, TARGET, GRADIENT, DIVERGED = range(4)
ROUNDING = 64  # machine epsilons by which a value may miss a bound
MAX_BLOCK = 16384  # steps whose values wait on the device
MAX_BLOCK_BYTES = 1 << 24  # bytes of them


@dataclasses.dataclass
class Trace:
    """The results of a stack of R runs.

    The value of iterate t is known after t + 1 answers of the oracle, so it costs (t + 1) `calls_per_step` oracle calls.

    Parameters
    ----------
    t : array of int, shape (C,)
        Checkpoints as numbers of steps: log-spaced, with 0 and the last.
    f, best : arrays of shape (R, C)
        Full objective at the iterate, and the smallest so far; NaN where it is not finite. For methods that may reject
        points, the iterate is the best point so far.
    gradient_norm : array of shape (R, C)
        Euclidean norm of the full gradient at the iterate; NaN where it is not known (with mini-batches, and for methods
        that use values only).
    metrics : dict of arrays of shape (R, C)
        `Problem.metrics` at the checkpoints.
    steps_to_target : array of shape (R, 50)
        Steps to the first iterate that reaches each of `TARGETS`; inf if there is none, or the run is invalid. NaN if no
        optimum is known, and for targets whose gap is below the resolution, see `Recorder`. Exact for full batches, at
        the resolution of the checkpoints for mini-batches.
    status : list of Status, length R
        How each run ended. A run is invalid if one of its values up to its end is below the stated lower bound, or its
        start is below the stated optimum, by more than rounding; it continues like other runs.
    errors : list of str or None, length R
        Why a run is invalid.
    end : array of int, shape (R,)
        Iterate at which the run ended: the last one, or the first that reached the last target, had a small gradient or
        was not finite.
    f_end, best_end : arrays of shape (R,)
        Value at the last finite iterate up to `end`, and the smallest value until then.
    x : array of shape (R, d)
        The iterate at `end`, NaN for runs that diverged. For methods that may reject points, the iterate is the best point
        so far.
    steps : int
        Requested steps.
    calls_per_step : float
        Cost of one step in full oracle calls: 1, or b/n for mini-batches of b out of n samples.
    oracle : Oracle
        What each oracle call returned.

    Examples
    --------
    >>> problem = optbench.make_problem("quadratic", {"dim": 3})
    >>> trace = optbench.minimize(problem, optbench.make_recipe("adam").build({"lr": 0.1}), seeds=(0, 1), steps=50)
    >>> trace.best.shape == (2, len(trace.t)), trace.x.shape
    (True, (2, 3))
    """

    t: np.ndarray
    f: np.ndarray
    best: np.ndarray
    gradient_norm: np.ndarray
    metrics: dict[str, np.ndarray]
    steps_to_target: np.ndarray
    status: list[Status]
    errors: list[str | None]
    end: np.ndarray
    f_end: np.ndarray
    best_end: np.ndarray
    x: np.ndarray
    steps: int
    calls_per_step: float
    oracle: Oracle

    @property
    def calls(self) -> np.ndarray:
        """Oracle calls at the checkpoints; shape (C,)."""
        return (self.t + 1) * self.calls_per_step


@functools.lru_cache(maxsize=64)
def checkpoints(steps: int, count: int) -> np.ndarray:
    """Up to `count` log-spaced whole numbers from 0 to `steps`, ascending; all of them if `count` is above `steps`."""
    spaced = np.geomspace(1, steps + 1, max(count, 2)) - 1
    t = np.unique(np.concatenate([np.rint(spaced), [0, steps]]).astype(int))  # (C,)
    if count > steps:
        t = np.arange(steps + 1)
    t.flags.writeable = False
    return t


class Recorder:
    """Collects the values of a stack of runs for a `Trace`.

    Parameters
    ----------
    runs, steps : int
    t : array of int, shape (C,)
        Checkpoints.
    f_star : float or None
        Optimal value, from which gaps are measured.
    stop : bool
        Whether a run ends at the last target. If that is below the resolution, the run does not end there.
    lower : float
        Lower bound of all values, as the problem states it.
    resolution : float
        Smallest gap that can be told from 0.
    eps : float
        Machine epsilon of the values.
    tolerance : float or None
        Gradient norm at which a run ends.
    sparse : bool
        Whether the objective is evaluated at checkpoints only.
    """

    def __init__(
        self,
        runs: int,
        steps: int,
        t: np.ndarray,
        f_star: float | None,
        stop: bool,
        *,
        lower: float = -np.inf,
        resolution: float = 0.0,
        eps: float = float(np.finfo(float).eps),
        tolerance: float | None = None,
        sparse: bool = False,
    ) -> None:
        self.runs, self.steps, self.t, self.f_star = runs, steps, t, f_star
        self.stop, self.tolerance, self.sparse = stop, tolerance, sparse
        self.lower, self.resolution, self.eps = lower, resolution, eps
        self.folded = 0  # iterates folded so far
        self.curves: dict[str, list[np.ndarray]] = {"f": [], "best": [], "gradient_norm": []}  # parts (k, R)
        self.best = np.full(runs, np.inf)
        self.end = np.full(runs, steps)
        self.status = np.full(runs, BUDGET)
        self.active = np.ones(runs, dtype=bool)
        self.f_end = np.full(runs, np.nan)
        self.best_end = np.full(runs, np.nan)
        self.steps_to_target = np.full((runs, len(TARGETS)), np.nan)
        self.reached = np.zeros(runs, dtype=np.int64)
        # known with the first values
        self.targets = np.full((runs, len(TARGETS)), -np.inf)
        self.floor = np.full(runs, -np.inf)  # values below it are impossible
        self.errors: list[str | None] = [None] * runs
        self.max_block = max(1, min(MAX_BLOCK, MAX_BLOCK_BYTES // (8 * runs)))
        # runs that may stop early are folded often, so that a finished stack stops soon
        self.first_block, self.growth = (8, 1.125) if self.ends_early else (64, 8.0)
        self.next_fold = min(self.first_block, self.max_block, steps + 1) - 1  # iterate after which to fold

    def begin(self, f: np.ndarray) -> None:
        """Compute the targets and the floor of every run from its first value; f of shape (R,)."""
        if self.f_star is None:
            return
        gap = np.where(np.isfinite(f), f - self.f_star, np.nan)  # (R,)
        is_resolved = TARGETS * gap[:, None] >= self.resolution  # (R, 50)
        self.targets = np.where(is_resolved, self.f_star + TARGETS * gap[:, None], -np.inf)
        self.steps_to_target = np.where(is_resolved, np.inf, np.nan)
        rounding = ROUNDING * self.eps * (abs(self.f_star) + np.abs(gap))
        self.floor = self.lower - rounding
        for r in np.flatnonzero(gap < -rounding):
            self._refuse(r, f"the start value {f[r]} is below the stated optimal value {self.f_star}")

    def _refuse(self, r: Any, contradiction: str) -> None:
        self.errors[r] = f"{contradiction}; correct solve() or the objective of the problem"
        self.floor[r] = -np.inf  # one contradiction is enough

    @property
    def finished(self) -> bool:
        return not self.active.any()

    @property
    def ends_early(self) -> bool:
        """Whether a run may end before it has used its budget or diverged."""
        return self.stop or self.tolerance is not None

    def ended(self, first: int) -> dict[int, int]:
        """Iterates `first` or later at which runs have ended early, by run."""
        has_ended = ((self.status == TARGET) | (self.status == GRADIENT)) & (self.end >= first)
        return {int(r): int(self.end[r]) for r in np.flatnonzero(has_ended)}

    def fold(
        self,
        t: int,
        values: np.ndarray,
        curves: dict[str, np.ndarray],
        norms: np.ndarray | None = None,
        best: np.ndarray | None = None,
    ) -> None:
        """Record the k iterates up to t that follow the last fold, with c checkpoints among them.

        Parameters
        ----------
        values : array of shape (k, R)
            Objective; not used if `sparse`.
        curves : dict of arrays of shape (c, R)
            Metrics, gradient norms and, if `sparse`, the objective as ``f``.
        norms : array of shape (k, R)
            Gradient norms, if there is a tolerance.
        best : array of shape (k, R), optional
            Smallest finite value of each run so far, if it is known.
        """
        marks = self.t[(self.t >= self.folded) & (self.t <= t)]
        times = np.arange(self.folded, t + 1)
        if self.sparse:
            times, values = marks, curves.pop("f", np.empty((0, self.runs)))
        if len(times):
            best = self._fold_values(times, values, norms, best)
            rows = np.searchsorted(times, marks)
            curves.setdefault("gradient_norm", np.full((len(marks), self.runs), np.nan))
            self.extend(f=values[rows], best=best[rows], **curves)
        self.folded = t + 1
        longest = min(t + self.max_block, self.steps)
        self.next_fold = min(max(int(self.growth * (t + 1)) - 1, t + self.first_block), longest)

    def extend(self, **curves: np.ndarray) -> None:
        """Append values at further checkpoints, each (k, R)."""
        for name, part in curves.items():
            self.curves.setdefault(name, []).append(part)

    def _fold_values(
        self, times: np.ndarray, values: np.ndarray, norms: np.ndarray | None, best: np.ndarray | None
    ) -> np.ndarray:
        """Running best, steps to targets and endings; times (k,), values (k, R). Returns the running best (k, R)."""
        finite = np.isfinite(values)
        diverged = np.full(len(self.best), len(times))  # position of the first value that is not finite, (R,)
        if not finite.all():
            diverged = np.where(finite.all(axis=0), diverged, np.argmin(finite, axis=0))
        if best is None:
            best = np.minimum.accumulate(np.where(finite, values, np.inf), axis=0)
            np.minimum(best, self.best, out=best)
        if self.folded == 0:
            self.begin(values[0])
        self.best = best[-1]
        next_target = np.minimum(self.reached, len(TARGETS) - 1)  # (R,)
        closer = np.flatnonzero(self.active & (self.best <= self.targets[np.arange(len(next_target)), next_target]))
        small = np.full(len(self.best), len(times))  # position of the first small gradient, (R,)
        if norms is not None:
            below = norms <= self.tolerance
            small = np.where(below.any(axis=0), np.argmax(below, axis=0), small)
        self._find_targets(closer, times, values, best, np.minimum(diverged, small + 1))
        for r in np.flatnonzero(self.active & (np.minimum(diverged, small) < len(times))):
            code, position = (GRADIENT, small[r]) if small[r] < diverged[r] else (DIVERGED, diverged[r])
            self.status[r], self.end[r], self.active[r] = code, times[position], False
            last = position if code == GRADIENT else position - 1
            if last >= 0:
                self.f_end[r], self.best_end[r] = values[last, r], best[last, r]
        self.f_end[self.active], self.best_end[self.active] = values[-1, self.active], self.best[self.active]
        for r in np.flatnonzero(self.best < self.floor):
            position = int(np.argmax(best[:, r] < self.floor[r]))
            if times[position] <= self.end[r]:
                where = f"at step {times[position]} is below the stated lower bound {self.lower}"
                self._refuse(r, f"the value {best[position, r]} {where}")
        return best

    def _find_targets(
        self, closer: np.ndarray, times: np.ndarray, values: np.ndarray, best: np.ndarray, limit: np.ndarray
    ) -> None:
        """Record targets that the runs `closer` reach before the positions `limit`, (R,), and ends at the last target."""
        is_new = (self.best[closer, None] <= self.targets[closer]) & np.isinf(self.steps_to_target[closer])
        row, target = np.nonzero(is_new)
        run = closer[row]
        # best never rises, so the first position at which it is at most a target is found by bisection
        levels, low, high = self.targets[run, target], np.zeros(len(run), int), np.full(len(run), len(times) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            is_reached = best[middle, run] <= levels
            low, high = np.where(is_reached, low, middle + 1), np.where(is_reached, middle, high)
        in_time = high < limit[run]
        run, target, position = run[in_time], target[in_time], high[in_time]
        self.steps_to_target[run, target] = times[position]
        self.reached[closer] = np.isfinite(self.steps_to_target[closer]).sum(axis=1)
        if self.stop:
            is_last = target == len(TARGETS) - 1
            for r, last in zip(run[is_last], position[is_last], strict=True):
                self.status[r], self.end[r], self.active[r] = TARGET, times[last], False
                self.f_end[r], self.best_end[r] = values[last, r], best[last, r]

    def trace(self, x: np.ndarray, calls_per_step: float, oracle: Oracle) -> Trace:
        """The trace of the runs whose iterates at their ends are x, (R, d)."""
        curves = {name: np.concatenate(parts).T for name, parts in self.curves.items() if parts}  # each (R, C)
        t = self.t[: curves["f"].shape[1]]
        invalid = np.array([error is not None for error in self.errors])  # (R,)
        f, best = curves.pop("f"), curves.pop("best")
        return Trace(
            t=t,
            f=np.where(np.isfinite(f), f, np.nan),
            best=np.where(np.isfinite(best), best, np.nan),
            gradient_norm=curves.pop("gradient_norm"),
            metrics=curves,
            steps_to_target=np.where(invalid[:, None], np.inf, self.steps_to_target),
            status=[
                STATUSES[code] if error is None else Status.INVALID
                for code, error in zip(self.status, self.errors, strict=True)
            ],
            errors=self.errors,
            end=self.end,
            f_end=self.f_end,
            best_end=self.best_end,
            x=np.where(self.status[:, None] == DIVERGED, np.nan, x),
            steps=self.steps,
            calls_per_step=calls_per_step,
            oracle=oracle,
        )
