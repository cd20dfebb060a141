"""The loop: evaluate, record, step; and the `Trace` it leaves.

All R runs of a stack advance together. Values stay on the device and are fetched in blocks of many steps, so that the
loop itself never waits for the device. What a stack leaves is measured in oracle calls, never in seconds: its runs share a
clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optbench.arrays import Array, Backend
from optbench.errors import InputError
from optbench.optimizer import At, Optimizer
from optbench.problem import Problem
from optbench.sampling import Normals, Sampler

TARGETS = 10.0 ** (-0.2 * np.arange(1, 51))  # fractions of the initial gap, (50,)
STATUSES = ("budget", "target", "diverged", "failed")
MAX_BLOCK = 4096  # steps whose values wait on the device
MAX_BLOCK_BYTES = 1 << 24  # bytes of random numbers or values that wait on either side


@dataclasses.dataclass
class Trace:
    """What a stack of R runs leaves behind; host arrays.

    The iterate after t steps is known once the oracle has been asked t + 1 times, so the oracle calls of iterate t are
    (t + 1) times the fraction of the samples that a call looks at.

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
    hits : array of shape (R, 50)
        Steps taken at the first iterate whose best value reaches each of `TARGETS`; inf for those never reached, NaN where
        no optimum is known. Exact for full batches, at the resolution of the checkpoints for mini-batches.
    status : list of str, length R
        ``budget``: all steps were taken; ``target``: stopped once the last target was reached; ``diverged``.
    end : array of int, shape (R,)
        Iterate at which the run ended: the last, the first at the last target, or the first that was not finite.
    f_end, best_end : arrays of shape (R,)
        Value at the last finite iterate up to `end`, and the smallest up to there.
    x : array of shape (R, d)
        Iterates of all runs when the loop ended (for methods that may reject points, the best ones).
    steps : int
        Steps asked for.
    fraction : float
        Part of a full oracle call that one step costs.
    oracle : str
        What each call was asked for: value, gradient (with the value) or hessian (with both).
    """

    t: np.ndarray
    f: np.ndarray
    best: np.ndarray
    gradient_norm: np.ndarray
    metrics: dict[str, np.ndarray]
    hits: np.ndarray
    status: list[str]
    end: np.ndarray
    f_end: np.ndarray
    best_end: np.ndarray
    x: np.ndarray
    steps: int
    fraction: float
    oracle: str

    @property
    def calls(self) -> np.ndarray:
        """Oracle calls at the checkpoints; shape (C,)."""
        return (self.t + 1) * self.fraction


def checkpoints(steps: int, count: int) -> np.ndarray:
    """Up to `count` log-spaced numbers of steps from 0 to `steps`, both included; whole numbers, ascending."""
    spaced = np.geomspace(1, steps + 1, max(count, 2)) - 1
    return np.unique(np.concatenate([np.rint(spaced), [0, steps]]).astype(int))


def check_pair(problem: Problem, kind: Any, name: str, batch_size: int | None) -> None:
    """Raise `InputError` if an optimizer (or its class) cannot be run on a problem with this batch size.

    Raises
    ------
    InputError
        For a mini-batch or a noisy oracle given to a method that compares values, a missing Hessian, or too large a d.
    """
    if problem.sampler((0,), batch_size) is not None and kind.full_batch:
        what = f"batch_size={batch_size}" if batch_size else "gradient noise"
        raise InputError(
            f"{name} compares values or promises the full gradient, and {what} on {problem.spec} would mislead it; "
            f"leave {'batch_size' if batch_size else 'the noise'} out, or use a first-order rule such as sgd"
        )
    if kind.oracle == "hessian" and not problem.has_hessian:
        raise InputError(f"{name} needs Hessians, which {problem.spec} does not offer at d = {problem.dim}")
    if kind.max_dim is not None and problem.dim > kind.max_dim:
        raise InputError(
            f"{name} keeps d x d numbers a run; d = {problem.dim} of {problem.spec} is above {kind.max_dim}"
        )


def minimize(
    problem: Problem,
    optimizer: Optimizer,
    x0: Any = None,
    *,
    seeds: Sequence[int] = (0,),
    steps: int = 1000,
    batch_size: int | None = None,
    stop_at_target: bool = False,
    checkpoint_count: int = 100,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """Run one stack of runs: `optimizer` on `problem`, R = S L runs, seed by seed.

    Parameters
    ----------
    problem : Problem
        On the backend to compute with.
    x0 : array of shape (R, d) or (d,), optional
        Start points. By default the start points of the seeds, each L times.
    seeds : sequence of int, length S
        Seeds of the mini-batches, the noise and the search directions (and of the start points).
    steps : int
        Steps of every run, at least 1.
    batch_size : int, optional
        Samples a mini-batch; None for the full objective.
    stop_at_target : bool
        Whether a run ends once it reaches the last of `TARGETS`; the loop ends when every run has ended.
    checkpoint_count : int
        About how many checkpoints are recorded.
    progress : callable, optional
        Called now and then with the number of steps taken since the last call.

    Raises
    ------
    InputError
        If the pair does not fit (see `check_pair`), or start points or steps are impossible.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"minimize takes an Optimizer, such as make_recipe('adam').build({{}}), not {optimizer!r}")
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    seeds = tuple(int(seed) for seed in seeds)
    check_pair(problem, optimizer, optimizer.name or type(optimizer).__name__, batch_size)
    x = problem.starts(seeds) if x0 is None else problem.points(x0)
    if x.ndim == 1:
        x = x[None, :]
    if x.ndim != 2 or x.shape[0] % len(seeds):
        raise InputError(
            f"x0 must have a whole number of rows for each of {len(seeds)} seeds, not shape {tuple(x.shape)}"
        )
    loop = _Loop(problem, optimizer, seeds, steps, batch_size, x.shape[0])
    with np.errstate(all="ignore"):  # a run may leave the finite numbers; it is labelled, not warned of
        return loop.run(x, stop_at_target, checkpoint_count, progress)


class _Loop:
    """The parts of one call of `minimize` that do not change from step to step."""

    def __init__(
        self, problem: Problem, optimizer: Optimizer, seeds: tuple[int, ...], steps: int, batch: int | None, runs: int
    ) -> None:
        self.problem, self.optimizer, self.steps, self.runs = problem, optimizer, steps, runs
        self.backend = problem.backend
        self.xp = problem.backend.xp
        self.fraction = problem.call_fraction(batch)
        self.stack = (len(seeds), runs // len(seeds), problem.dim)  # (S, L, d)
        sampler = problem.sampler(seeds, batch)
        self.stochastic = sampler is not None
        self.samples = _Feed(sampler, self.backend, steps + 1) if sampler is not None else None
        normals = Normals(seeds, problem.dim, 1.0, "search") if optimizer.draws else None
        self.normals = _Feed(normals, self.backend, steps + 1) if normals is not None else None

    def evaluate(self, t: int, x: Array) -> At:
        """Ask the oracle about the points x of shape (R, d)."""
        problem = self.problem
        z = None
        if self.normals is not None:
            # runs of one seed share their directions, whatever their settings
            z = self.xp.broadcast_to(self.normals[t][:, None, :], self.stack)
            z = self.xp.reshape(z, (self.runs, problem.dim))
        if self.optimizer.oracle == "value":
            return At(x, problem.value(x)[:, None], z=z)
        if self.samples is not None:
            f, g = problem.value_and_grad(self.xp.reshape(x, self.stack), self.samples[t])
            return At(x, self.xp.reshape(f, (self.runs, 1)), self.xp.reshape(g, (self.runs, problem.dim)), z=z)
        f, g = problem.value_and_grad(x)
        hessian = problem.hessian(x) if self.optimizer.oracle == "hessian" else None
        return At(x, f[:, None], g, hessian, z)

    def run(self, x: Array, stop: bool, count: int, progress: Callable[[int], None] | None) -> Trace:
        xp, optimizer, incumbent = self.xp, self.optimizer, self.optimizer.incumbent
        record = _Record(self, checkpoints(self.steps, count), stop)
        marks = set(record.t.tolist())
        x = xp.asarray(x, copy=True)  # a fused rule writes the new iterates over the old ones
        state = optimizer.init(x, self.backend)
        best_x = x
        best_f = self.backend.zeros((self.runs, 1)) + xp.inf
        since = 0
        for t in range(self.steps + 1):
            # after the last step only the full objective is asked for, by the record; a mini-batch would tell nothing
            at = self.evaluate(t, x) if t < self.steps or not self.stochastic else At(x, x[:, :1])
            if incumbent:
                better = at.f < best_f
                best_x = xp.where(better, at.x, best_x)
                best_f = xp.where(better, at.f, best_f)
            if not self.stochastic:
                record.values.append(best_f[:, 0] if incumbent else at.f[:, 0])
            if t in marks:
                record.mark(best_x if incumbent else x, None if incumbent else at)
            if t < self.steps:
                x, state = optimizer.step(t + 1, at, state)
            since += 1
            if record.due(t):
                record.fold(t)
                if progress is not None:
                    progress(since)
                since = 0
                if record.finished:
                    break
        return record.trace(best_x if incumbent else x)


class _Feed:
    """Random numbers of a sampler on the device, moved there a block of steps at a time."""

    def __init__(self, sampler: Sampler, backend: Backend, total: int) -> None:
        self.sampler, self.backend, self.total = sampler, backend, total
        self.length = max(1, min(total, MAX_BLOCK_BYTES // sampler.row_bytes))
        self.first, self.last = 0, 0

    def __getitem__(self, t: int) -> Array:
        """What step t draws; shape (S, ...)."""
        if not self.first <= t < self.last:
            self.first, self.last = t, min(t + self.length, self.total)
            host = self.sampler.draw(self.first, self.last)
            self.block = self.backend.indices(host) if self.sampler.integer else self.backend.asarray(host)
        return self.block[t - self.first, ...]


class _Record:
    """Values on their way from the device to a `Trace`."""

    def __init__(self, loop: _Loop, t: np.ndarray, stop: bool) -> None:
        self.loop, self.t, self.stop = loop, t, stop
        runs = loop.runs
        self.values: list[Array] = []  # one (R,) a step, since the last fold; full batches only
        self.marked: list[dict[str, Array]] = []  # one a checkpoint, since the last fold
        self.folded = 0  # iterates folded so far
        self.columns: dict[str, list[np.ndarray]] = {"f": [], "best": [], "gradient_norm": []}
        self.best = np.full(runs, np.inf)
        self.end = np.full(runs, loop.steps)
        self.status = ["budget"] * runs
        self.open = np.ones(runs, dtype=bool)  # runs that have not ended
        self.f_end = np.full(runs, np.nan)
        self.best_end = np.full(runs, np.nan)
        self.hits = np.full((runs, len(TARGETS)), np.nan)
        self.targets: np.ndarray | None = None  # (R, 50)
        width = 8 * runs
        self.longest = max(1, min(MAX_BLOCK, MAX_BLOCK_BYTES // width))
        self.next = min(7, self.longest - 1, loop.steps)

    def mark(self, x: Array, at: At | None) -> None:
        """Note what is only known while iterate x, of shape (R, d), is here."""
        problem, xp = self.loop.problem, self.loop.xp
        if self.loop.stochastic:
            f, metrics = problem.evaluate(x)
            noted = {**metrics, "f": f}
        else:
            noted = dict(problem.metrics(x))
            if at is not None and at.g is not None:
                noted["gradient_norm"] = xp.linalg.vector_norm(at.g, axis=-1)
        self.marked.append(noted)

    def due(self, t: int) -> bool:
        """Whether to fetch: after 8 steps, 16, 32, ... so that stacks which are done early stop early."""
        return t == self.next or t == self.loop.steps

    @property
    def finished(self) -> bool:
        return not self.open.any()

    def fold(self, t: int) -> None:
        """Fetch what has gathered up to iterate t and fold it into the record."""
        backend, xp = self.loop.backend, self.loop.xp
        marks = self.t[(self.t >= self.folded) & (self.t <= t)]
        noted = {
            name: backend.to_host(xp.stack([row[name] for row in self.marked])).astype(float)
            for name in (self.marked[0] if self.marked else {})
        }  # each (marks, R)
        if self.loop.stochastic:
            times, values = marks, noted.pop("f", np.empty((0, self.loop.runs)))
        else:
            times = np.arange(self.folded, t + 1)
            values = backend.to_host(xp.stack(self.values)).astype(float)  # (steps, R)
        if len(times):
            best = self._fold_values(times, values)
            rows = np.searchsorted(times, marks)
            self.columns["f"].append(values[rows])
            self.columns["best"].append(best[rows])
            noted.setdefault("gradient_norm", np.full((len(marks), self.loop.runs), np.nan))
            for name, rows_of in noted.items():
                self.columns.setdefault(name, []).append(rows_of)
        self.values, self.marked, self.folded = [], [], t + 1
        self.next = min(2 * t + 1, t + self.longest, self.loop.steps)

    def _fold_values(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Running best, first hits and endings; times (k,), values (k, R). Returns the running best (k, R)."""
        finite = np.isfinite(values)
        clean = np.where(finite, values, np.inf)
        best = np.minimum.accumulate(np.vstack([self.best, clean]))[1:]
        if self.targets is None:
            optimum = self.loop.problem.optimum
            if optimum is not None:
                self.targets = optimum.f + TARGETS * (clean[0][:, None] - optimum.f)
                self.hits[:] = np.inf
                self.hits[~finite[0]] = np.nan
            else:
                self.targets = np.full((self.loop.runs, len(TARGETS)), -np.inf)
        for r in np.flatnonzero(self.open):
            self._fold_run(int(r), times, values[:, r], best[:, r], finite[:, r])
        self.best = best[-1]
        return best

    def _fold_run(self, r: int, times: np.ndarray, f: np.ndarray, best: np.ndarray, finite: np.ndarray) -> None:
        assert self.targets is not None
        bad = int(np.argmin(finite)) if not finite.all() else len(times)
        # best never rises, so the first position at which it is at most a target is found by bisection
        first = np.searchsorted(-best, -self.targets[r])  # (50,)
        hit = (first < bad) & np.isinf(self.hits[r])
        self.hits[r, hit] = times[first[hit]]
        last = first[-1] if self.stop and np.isfinite(self.hits[r, -1]) else len(times)
        if last < bad:
            self.status[r], self.end[r], self.open[r] = "target", times[last], False
            self.f_end[r], self.best_end[r] = f[last], best[last]
        elif bad < len(times):
            self.status[r], self.end[r], self.open[r] = "diverged", times[bad], False
            if bad > 0:
                self.f_end[r], self.best_end[r] = f[bad - 1], best[bad - 1]
        else:
            self.f_end[r], self.best_end[r] = f[-1], best[-1]

    def trace(self, x: Array) -> Trace:
        loop = self.loop
        columns = {name: np.concatenate(parts).T for name, parts in self.columns.items() if parts}  # each (R, C)
        t = self.t[: columns["f"].shape[1]]
        f, best = columns.pop("f"), columns.pop("best")
        return Trace(
            t=t,
            f=np.where(np.isfinite(f), f, np.nan),
            best=np.where(np.isfinite(best), best, np.nan),
            gradient_norm=columns.pop("gradient_norm"),
            metrics=columns,
            hits=self.hits,
            status=self.status,
            end=self.end,
            f_end=self.f_end,
            best_end=self.best_end,
            x=loop.backend.to_host(x),
            steps=loop.steps,
            fraction=loop.fraction,
            oracle=loop.optimizer.oracle,
        )
