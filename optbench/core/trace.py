"""What a stack of runs leaves: a `Record` while it runs, a `Trace` when it has ended. Host arrays throughout."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

TARGETS = 10.0 ** (-0.2 * np.arange(1, 51))  # fractions of the initial gap, (50,)
STATUSES = ("budget", "target", "diverged", "failed", "gradient")
TARGET, DIVERGED, GRADIENT = 1, 2, 4
MAX_BLOCK = 4096  # steps whose values wait on the device
MAX_BLOCK_BYTES = 1 << 24  # bytes of them


@dataclasses.dataclass
class Trace:
    """What a stack of R runs leaves behind; host arrays.

    The iterate after t steps is known once the oracle has been asked t + 1 times, so the oracle calls of iterate t are
    (t + 1) `calls_per_step`.

    Attributes
    ----------
    t : array of int, shape (C,)
        Checkpoints, as numbers of steps taken: log-spaced, with 0 and the last.
    f, best : arrays of shape (R, C)
        Full objective at the iterate, and the smallest so far; NaN where an iterate has left the finite numbers. For
        methods that propose points and may reject them the iterate is the best point so far.
    gradient_norm : array of shape (R, C)
        Euclidean norm of the full gradient at the iterate; NaN where it is not known there (mini-batches, value-only
        methods, and methods whose evaluated point may be rejected).
    metrics : dict of arrays of shape (R, C)
        What `Problem.metrics` says at the checkpoints.
    steps_to_target : array of shape (R, 50)
        Steps taken at the first iterate whose best value reaches each of `TARGETS`; inf for those never reached, NaN where
        no optimum is known. Exact for full batches, at the resolution of the checkpoints for mini-batches.
    status : list of str, length R
        ``budget``: all steps were taken; ``target``: stopped once the last target was reached; ``gradient``: stopped once
        the gradient was small enough; ``diverged``.
    end : array of int, shape (R,)
        Iterate at which the run ended: the last, the first at the last target or with a small gradient, or the first that
        was not finite.
    f_end, best_end : arrays of shape (R,)
        Value at the last finite iterate up to `end`, and the smallest up to there.
    x : array of shape (R, d)
        Iterates of all runs when the loop ended (for methods that may reject points, the best ones).
    steps : int
        Steps asked for.
    calls_per_step : float
        Cost of one step in full oracle calls: 1, or b/n for mini-batches of b out of n samples.
    oracle : str
        What each call was asked for: value, gradient (with the value) or hessian (with both).
    """

    t: np.ndarray
    f: np.ndarray
    best: np.ndarray
    gradient_norm: np.ndarray
    metrics: dict[str, np.ndarray]
    steps_to_target: np.ndarray
    status: list[str]
    end: np.ndarray
    f_end: np.ndarray
    best_end: np.ndarray
    x: np.ndarray
    steps: int
    calls_per_step: float
    oracle: str

    @property
    def calls(self) -> np.ndarray:
        """Oracle calls at the checkpoints; shape (C,)."""
        return (self.t + 1) * self.calls_per_step


@functools.lru_cache(maxsize=64)
def checkpoints(steps: int, count: int) -> np.ndarray:
    """Up to `count` log-spaced numbers of steps from 0 to `steps`, both included; whole numbers, ascending.

    All of them, if `count` is at least their number `steps` + 1.
    """
    spaced = np.geomspace(1, steps + 1, max(count, 2)) - 1
    found = np.unique(np.concatenate([np.rint(spaced), [0, steps]]).astype(int))
    if count > steps:
        found = np.arange(steps + 1)
    found.flags.writeable = False
    return found


class Record:
    """Values on their way to a `Trace`.

    Parameters
    ----------
    runs, steps : int
    t : array of int
        Checkpoints.
    f_star : float or None
        What gaps are measured from.
    stop : bool
        Whether a run ends at the last target.
    tolerance : float or None
        Gradient norm at which a run ends.
    sparse : bool
        Whether values are known at checkpoints only.
    """

    def __init__(
        self,
        runs: int,
        steps: int,
        t: np.ndarray,
        f_star: float | None,
        stop: bool,
        *,
        tolerance: float | None = None,
        sparse: bool = False,
    ) -> None:
        self.runs, self.steps, self.t, self.f_star = runs, steps, t, f_star
        self.stop, self.tolerance, self.sparse = stop, tolerance, sparse
        self.folded = 0  # iterates folded so far
        self.columns: dict[str, list[np.ndarray]] = {"f": [], "best": [], "gradient_norm": []}  # parts (k, R)
        self.best = np.full(runs, np.inf)
        self.end = np.full(runs, steps)
        self.status = np.zeros(runs, dtype=np.int64)  # numbers of `STATUSES`
        self.open = np.ones(runs, dtype=bool)  # runs that have not ended
        self.f_end = np.full(runs, np.nan)
        self.best_end = np.full(runs, np.nan)
        self.steps_to_target = np.full((runs, len(TARGETS)), np.nan)
        self.reached = np.zeros(runs, dtype=np.int64)  # how many targets
        self.targets: np.ndarray | None = None  # (R, 50)
        self.longest = max(1, min(MAX_BLOCK, MAX_BLOCK_BYTES // (8 * runs)))
        # where runs may stop early, values are fetched often, so that stacks which are done stop soon
        often = stop or tolerance is not None
        self.first, self.growth = (8, 1.125) if often else (64, 8.0)
        self.next = min(self.first, self.longest, steps + 1) - 1  # iterate after which to fold

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What `note` enters values into, once the targets are known."""
        assert self.targets is not None
        ends = (self.open, self.status, self.best, self.end, self.f_end, self.best_end)
        return (*ends, self.steps_to_target, self.reached, self.targets)

    def begin(self, f: np.ndarray) -> None:
        """Fix the targets of every run by its first value; f of shape (R,)."""
        self.targets = np.full((self.runs, len(TARGETS)), -np.inf)
        if self.f_star is not None:
            finite = np.isfinite(f)
            self.targets[finite] = self.f_star + TARGETS * (f[finite, None] - self.f_star)
            self.steps_to_target[finite] = np.inf

    @property
    def finished(self) -> bool:
        return not self.open.any()

    def fold(self, t: int, values: np.ndarray, noted: dict[str, np.ndarray], norms: np.ndarray | None = None) -> None:
        """Fold what has gathered up to iterate t into the record.

        `values` holds one (R,) an iterate, or nothing where only checkpoints are evaluated; `noted` one (R,) a checkpoint
        by name: for those the values, as ``f``. `norms` holds one (R,) an iterate, where there is a tolerance.
        """
        marks = self.t[(self.t >= self.folded) & (self.t <= t)]
        times = np.arange(self.folded, t + 1)
        if self.sparse:
            times, values = marks, noted.pop("f", np.empty((0, self.runs)))
        if len(times):
            best = self._fold_values(times, values, norms)
            rows = np.searchsorted(times, marks)
            noted.setdefault("gradient_norm", np.full((len(marks), self.runs), np.nan))
            self.extend(f=values[rows], best=best[rows], **noted)
        self.folded = t + 1
        self.next = min(max(int(self.growth * (t + 1)) - 1, t + self.first), t + self.longest, self.steps)

    def extend(self, **columns: np.ndarray) -> None:
        """Note figures of further checkpoints, each (k, R)."""
        for name, part in columns.items():
            self.columns.setdefault(name, []).append(part)

    def _fold_values(self, times: np.ndarray, values: np.ndarray, norms: np.ndarray | None) -> np.ndarray:
        """Running best, steps to targets and endings; times (k,), values (k, R). Returns the running best (k, R)."""
        finite = np.isfinite(values)
        bad = np.full(len(self.best), len(times))  # position of the first that is not finite, (R,)
        if not finite.all():
            bad = np.where(finite.all(axis=0), bad, np.argmin(finite, axis=0))
        best = np.minimum.accumulate(np.where(finite, values, np.inf), axis=0)
        np.minimum(best, self.best, out=best)
        if self.targets is None:
            self.begin(values[0])
        assert self.targets is not None
        self.best = best[-1]
        left = np.minimum(self.reached, len(TARGETS) - 1)  # number of the next target, (R,)
        news = np.flatnonzero(self.open & (self.best <= self.targets[np.arange(len(left)), left]))
        calm = np.full(len(self.best), len(times))  # position of the first small gradient, (R,)
        if norms is not None:
            small = norms <= self.tolerance
            calm = np.where(small.any(axis=0), np.argmax(small, axis=0), calm)
        self._find_targets(news, times, values, best, np.minimum(bad, calm + 1))
        for r in np.flatnonzero(self.open & (np.minimum(bad, calm) < len(times))):
            code, at = (GRADIENT, calm[r]) if calm[r] < bad[r] else (DIVERGED, bad[r])
            self.status[r], self.end[r], self.open[r] = code, times[at], False
            last = at if code == GRADIENT else at - 1
            if last >= 0:
                self.f_end[r], self.best_end[r] = values[last, r], best[last, r]
        self.f_end[self.open], self.best_end[self.open] = values[-1, self.open], self.best[self.open]
        return best

    def _find_targets(
        self, news: np.ndarray, times: np.ndarray, values: np.ndarray, best: np.ndarray, limit: np.ndarray
    ) -> None:
        """Steps to targets of the runs `news` before the positions `limit`, (R,), and the ends at the last target."""
        if not len(news):
            return
        assert self.targets is not None
        # best never rises, so the first position at which it is at most a target is found by bisection
        rows = zip(np.ascontiguousarray(-best.T[news]), -self.targets[news], strict=True)
        first = np.stack([rising.searchsorted(levels) for rising, levels in rows])  # (news, 50)
        new, target = np.nonzero((first < limit[news, None]) & np.isinf(self.steps_to_target[news]))
        self.steps_to_target[news[new], target] = times[first[new, target]]
        self.reached[news] = np.isfinite(self.steps_to_target[news]).sum(axis=1)
        if self.stop:
            for r, last in zip(news, first[:, -1], strict=True):
                if np.isfinite(self.steps_to_target[r, -1]):
                    self.status[r], self.end[r], self.open[r] = TARGET, times[last], False
                    self.f_end[r], self.best_end[r] = values[last, r], best[last, r]

    def trace(self, x: np.ndarray, calls_per_step: float, oracle: str) -> Trace:
        columns = {name: np.concatenate(parts).T for name, parts in self.columns.items() if parts}  # each (R, C)
        t = self.t[: columns["f"].shape[1]]
        f, best = columns.pop("f"), columns.pop("best")
        return Trace(
            t=t,
            f=np.where(np.isfinite(f), f, np.nan),
            best=np.where(np.isfinite(best), best, np.nan),
            gradient_norm=columns.pop("gradient_norm"),
            metrics=columns,
            steps_to_target=self.steps_to_target,
            status=[STATUSES[code] for code in self.status],
            end=self.end,
            f_end=self.f_end,
            best_end=self.best_end,
            x=x,
            steps=self.steps,
            calls_per_step=calls_per_step,
            oracle=oracle,
        )


def note(t, f, stop, going, status, best, end, f_end, best_end, steps_to_target, reached, targets):  # type: ignore[no-untyped-def]
    """Enter the values f (R,) of iterate t into the arrays of a `Record`: what `fold` does for a block, one by one.

    For loops that are compiled: nothing but loops and numbers.
    """
    for r in range(f.shape[0]):
        finite = np.isfinite(f[r])
        if finite:
            best[r] = min(best[r], f[r])
        if not going[r]:
            continue
        if not finite:
            status[r], end[r], going[r] = DIVERGED, t, False
            continue
        f_end[r], best_end[r] = f[r], best[r]
        while reached[r] < targets.shape[1] and f[r] <= targets[r, reached[r]]:
            steps_to_target[r, reached[r]] = t
            reached[r] += 1
        if stop and reached[r] == targets.shape[1]:
            status[r], end[r], going[r] = TARGET, t, False
