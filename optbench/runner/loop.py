"""The loop: evaluate, record, step.

All R runs of a stack advance together. Values stay on the device and are fetched in blocks of many steps, so that the
loop itself never waits for the device. What a stack leaves is measured in oracle calls, never in seconds: its runs share a
clock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.compile.fused_loop import Together
from optbench.compile.numba import reason
from optbench.core.backend import Array, Backend
from optbench.core.errors import InputError
from optbench.core.random import Normals, Sampler
from optbench.core.trace import Record, Trace, checkpoints
from optbench.optimizer import At, Optimizer
from optbench.problem import Problem

MAX_FEED_BYTES = 1 << 24  # random numbers that wait on either side


def check_pair(
    problem: Problem, kind: Any, name: str, batch_size: int | None, stop_at_gradient: float | None = None
) -> None:
    """Raise `InputError` if an optimizer (or its class) cannot be run on a problem with this batch size and stop.

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
    if stop_at_gradient is not None:
        if not stop_at_gradient >= 0:
            raise InputError(f"stop_at_gradient must be at least 0, not {stop_at_gradient!r}")
        if kind.oracle == "value" or problem.sampler((0,), batch_size) is not None:
            why = f"{name} asks for values only" if kind.oracle == "value" else "only a part of the gradient is seen"
            raise InputError(f"stop_at_gradient needs the full gradient at every step, but {why}; leave it out")
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
    stop_at_gradient: float | None = None,
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
    stop_at_gradient : float, optional
        Whether, and at which norm of the gradient at the point asked for, a run ends likewise.
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
    check_pair(problem, optimizer, optimizer.name or type(optimizer).__name__, batch_size, stop_at_gradient)
    x = problem.starts(seeds) if x0 is None else problem.points(x0)
    if x.ndim == 1:
        x = x[None, :]
    if x.ndim != 2 or x.shape[0] % len(seeds):
        raise InputError(
            f"x0 must have a whole number of rows for each of {len(seeds)} seeds, not shape {tuple(x.shape)}"
        )
    loop = Loop(problem, optimizer, seeds, steps, batch_size, x.shape[0])
    with np.errstate(all="ignore"):  # a run may leave the finite numbers; it is labelled, not warned of
        return loop.run(x, stop_at_target, stop_at_gradient, checkpoint_count, progress)


class Loop:
    """The parts of one call of `minimize` that do not change from step to step."""

    def __init__(
        self, problem: Problem, optimizer: Optimizer, seeds: tuple[int, ...], steps: int, batch: int | None, runs: int
    ) -> None:
        self.problem, self.optimizer, self.steps, self.runs = problem, optimizer, steps, runs
        self.backend = problem.backend
        self.xp = problem.backend.xp
        self.calls_per_step = problem.calls_per_step(batch)
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

    def run(
        self, x: Array, stop: bool, tolerance: float | None, count: int, progress: Callable[[int], None] | None
    ) -> Trace:
        t, f_star = checkpoints(self.steps, count), self.problem.f_star
        record = Record(self.runs, self.steps, t, f_star, stop, tolerance=tolerance, sparse=self.stochastic)
        # a copy, because a fused rule writes the new iterates over the old ones; no less precise than the problem
        x = self.xp.asarray(x, dtype=self.xp.result_type(x.dtype, self.backend.dtype), copy=True)
        state = self.optimizer.init(x, self.backend)
        together = self._together(x) if tolerance is None else None
        tell = progress or (lambda steps: None)
        x = self._steps(x, state, record, tell) if together is None else _blocks(together, record, tell)
        return record.trace(self.backend.to_host(x), self.calls_per_step, self.optimizer.oracle)

    def _together(self, x: Array) -> Together | None:
        """Optimizer and oracle as one compiled loop, where nothing else happens between two steps."""
        problem = self.problem
        if self.stochastic:
            return None
        oracles = {"oracle_formula", "value_and_grad"}
        definer = next(cls for cls in type(problem).__mro__ if oracles & vars(cls).keys())
        if "oracle_formula" not in vars(definer):
            return None  # inherited, and of another oracle
        if problem.oracle_formula is not None and problem.metrics(x):
            return None  # they are looked at between steps
        together = self.optimizer.together(problem, x, self.steps)
        return together if together is not None and _agree(problem, together, x) else None

    def _steps(self, x: Array, state: Any, record: Record, progress: Callable[[int], None]) -> Array:
        """Evaluate, record, step. Returns the last iterates (R, d)."""
        xp, optimizer, incumbent = self.xp, self.optimizer, self.optimizer.incumbent
        marks = set(record.t.tolist())
        best_x = x
        best_f = self.backend.zeros((self.runs, 1)) + xp.inf
        values: list[Array] = []  # one (R,) a step, since the last fold; full batches only
        norms: list[Array] = []  # likewise, where there is a tolerance
        noted: list[dict[str, Array]] = []  # one a checkpoint, since the last fold
        since = 0
        for t in range(self.steps + 1):
            # after the last step only the full objective is asked for, by the record; a mini-batch would tell nothing
            at = self.evaluate(t, x) if t < self.steps or not self.stochastic else At(x, x[:, :1])
            if incumbent:
                better = at.f < best_f
                best_x = xp.where(better, at.x, best_x)
                best_f = xp.where(better, at.f, best_f)
            if not self.stochastic:
                values.append(best_f[:, 0] if incumbent else at.f[:, 0])
            if record.tolerance is not None:
                norms.append(xp.linalg.vector_norm(at.g, axis=-1))
            if t in marks:
                noted.append(self._note(best_x if incumbent else x, None if incumbent else at))
            if t < self.steps:
                x, state = optimizer.step(t + 1, at, state)
            since += 1
            if t == record.next:
                figures = {key: self._fetch([row[key] for row in noted]) for key in (noted[0] if noted else ())}
                record.fold(t, self._fetch(values), figures, self._fetch(norms) if norms else None)
                values, norms, noted = [], [], []
                progress(since)
                since = 0
                if record.finished:
                    break
        return best_x if incumbent else x

    def _note(self, x: Array, at: At | None) -> dict[str, Array]:
        """What is only known while iterate x, of shape (R, d), is here."""
        if self.stochastic:
            f, metrics = self.problem.evaluate(x)
            return {**self._copies(metrics), "f": f}
        noted = self._copies(self.problem.metrics(x))
        if at is not None and at.g is not None:
            noted["gradient_norm"] = self.xp.linalg.vector_norm(at.g, axis=-1)
        return noted

    def _copies(self, metrics: Mapping[str, Array]) -> dict[str, Array]:
        """Copies of what may be views of the iterates, which a fused rule writes over."""
        self.problem.check_metrics(metrics)
        return {name: self.xp.asarray(values, copy=True) for name, values in metrics.items()}

    def _fetch(self, rows: list[Array]) -> np.ndarray:
        """Arrays (R,) from the device, as one (k, R)."""
        if not rows:
            return np.empty((0, self.runs))
        return self.backend.to_host(self.xp.stack(rows)).astype(float, copy=False)


_agreed: dict[Any, bool] = {}  # kinds of texts: whether they were seen to compute what `value_and_grad` computes


def _agree(problem: Problem, together: Together, x: Array) -> bool:
    """Whether the oracle formula of a problem computes what `value_and_grad` does; checked once per kind of data."""
    assert problem.oracle_formula is not None
    function, data = problem.oracle_formula
    kind = (type(problem), function, together.rule, problem.backend.precision, *map(np.ndim, data))
    if kind not in _agreed:
        why = "it computes something else than value_and_grad"
        try:
            values, norms = together.look()
        except Exception as error:  # compilers raise what they like
            _agreed[kind], why = False, reason(error)
        else:
            f, g = problem.value_and_grad(x)
            pairs = [(values, f), (norms, np.linalg.vector_norm(g, axis=-1))]
            _agreed[kind] = all(np.allclose(a, b, rtol=problem.backend.eps**0.5, equal_nan=True) for a, b in pairs)
        if not _agreed[kind]:
            warnings.warn(f"the oracle formula of {problem.spec} is not used: {why}", stacklevel=6)
    return _agreed[kind]


def _blocks(together: Together, record: Record, progress: Callable[[int], None]) -> Array:
    """Many steps at a time, by a compiled loop. Returns the last iterates (R, d)."""
    first, steps = 0, record.steps
    record.begin(together.look()[0])
    while first <= steps and not record.finished:
        # a short one first, in case that all runs leave the finite numbers at once; then no more often than it takes
        last = min(first + min(together.longest, 10**9 if first else record.first), steps + 1)
        together.advance(first, last, record)
        progress(last - first)
        first = last
    return together.x


class _Feed:
    """Random numbers of a sampler on the device, moved there a block of steps at a time."""

    def __init__(self, sampler: Sampler, backend: Backend, total: int) -> None:
        self.sampler, self.backend, self.total = sampler, backend, total
        self.length = max(1, min(total, MAX_FEED_BYTES // sampler.row_bytes))
        self.first, self.last = 0, 0

    def __getitem__(self, t: int) -> Array:
        """What step t draws; shape (S, ...)."""
        if not self.first <= t < self.last:
            self.first, self.last = t, min(t + self.length, self.total)
            host = self.sampler.draw(self.first, self.last)
            self.block = self.backend.indices(host) if self.sampler.integer else self.backend.asarray(host)
        return self.block[t - self.first, ...]
