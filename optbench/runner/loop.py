"""The loop over steps: evaluate, record, step.

All R runs of a stack advance together. Values stay on the device and are fetched once in many steps, so the loop does not
wait for the device. Work is counted in oracle calls, because the runs of a stack share one clock. The loop also requests
compiled code: the kernel of an update rule, or rule and oracle as one fused loop.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.compile import llvm
from optbench.compile.fused_loop import FusedLoop
from optbench.compile.graph import TraceError
from optbench.compile.rules import fuse, same
from optbench.core.backend import Backend, get_backend
from optbench.core.column import rule_module
from optbench.core.errors import InputError
from optbench.core.random import Normals, Sampler
from optbench.core.specs import state_names
from optbench.core.trace import Recorder, Trace, checkpoints
from optbench.core.types import Array, Oracle
from optbench.optimizer import At, FirstOrder, Optimizer
from optbench.problem import Optimum, Problem
from optbench.runner.answers import PAIRS, Answers

MAX_FEED_BYTES = 1 << 24  # random numbers drawn in advance


def check_pair(
    problem: Problem, kind: Any, name: str, batch_size: int | None, stop_at_gradient: float | None = None
) -> None:
    """Check that an optimizer (or its class) can run on a problem with this batch size and stopping rule.

    Raises
    ------
    InputError
        If the optimizer needs exact values or gradients and they are noisy, the problem has no Hessian, or d is too large.
    """
    is_stochastic = problem.sampler((0,), batch_size) is not None
    if is_stochastic and kind.traits.full_batch:
        cause, option = (f"batch_size={batch_size}", "batch_size") if batch_size else ("gradient noise", "the noise")
        raise InputError(
            f"{name} compares values or needs the full gradient, and {cause} on {problem.spec} would mislead it; "
            f"leave {option} out, or use a first-order rule such as sgd"
        )
    if stop_at_gradient is not None:
        if not stop_at_gradient >= 0:
            raise InputError(f"stop_at_gradient must be at least 0, not {stop_at_gradient!r}")
        if kind.oracle == Oracle.VALUE or is_stochastic:
            why = f"{name} uses values only" if kind.oracle == Oracle.VALUE else "its gradients are noisy"
            raise InputError(f"stop_at_gradient needs the full gradient at every step, but {why}; leave it out")
    if kind.oracle == Oracle.HESSIAN and not problem.has_hessian:
        raise InputError(f"{name} needs Hessians, which {problem.spec} does not provide at d = {problem.dim}")
    if kind.max_dim is not None and problem.dim > kind.max_dim:
        raise InputError(
            f"{name} stores d x d numbers for each run; d = {problem.dim} of {problem.spec} is above {kind.max_dim}"
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
    """Run one optimizer on one problem: R = S L runs, for S seeds and L settings, seed by seed.

    Parameters
    ----------
    problem : Problem
        The problem, on the backend that computes.
    optimizer : Optimizer
        Its swept hyperparameters are arrays of shape (R,).
    x0 : array of shape (R, d) or (d,), optional
        Start points; by default those of the seeds, each repeated L times.
    seeds : sequence of int, length S
        Seeds of mini-batches, noise, search directions and start points.
    steps : int
        Steps of every run, at least 1.
    batch_size : int, optional
        Samples in a mini-batch; None for all samples.
    stop_at_target : bool
        End a run once it reaches the last of `TARGETS`, unless its gap is too small to be resolved (see `Trace`). The loop
        ends when every run has ended.
    stop_at_gradient : float, optional
        End a run when the gradient norm at its iterate is at most this; None never does.
    checkpoint_count : int
        Approximate number of checkpoints.
    progress : callable, optional
        Called repeatedly with the number of steps since the last call.

    Returns
    -------
    Trace
        Curves, status and last iterate of each run.

    Raises
    ------
    InputError
        If optimizer and problem do not fit (see `check_pair`), a rule combines the runs of a stack, or for invalid start
        points or steps.
    TypeError
        If the problem or the optimizer returns anything but arrays of the right shape and precision.

    Examples
    --------
    >>> problem = optbench.make_problem("quadratic", {"dim": 5})
    >>> trace = optbench.minimize(problem, optbench.make_recipe("lbfgs").build({}), seeds=(0, 1), steps=20)
    >>> trace.status
    [<Status.BUDGET: 'budget'>, <Status.BUDGET: 'budget'>]
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
    with np.errstate(all="ignore"):  # a run may diverge; its status says so
        return loop.run(x, stop_at_target, stop_at_gradient, checkpoint_count, progress)


def init_state(optimizer: Optimizer, x: Array, backend: Backend) -> Any:
    """State of an optimizer at its start points (R, d); a rule is compiled if the backend or the optimizer says so."""
    x, backend = backend.xp.asarray(x, copy=True), dataclasses.replace(backend)  # the optimizer may change both
    if not isinstance(optimizer, FirstOrder):
        return optimizer.init(x, backend)
    rule, per_run, kernel = optimizer.rule, optimizer.traits.per_run, None
    if _is_compiled(optimizer, x, backend):
        kernel = fuse(rule, backend, optimizer.swept, per_run, x.shape[1])
    return optimizer.init(x, backend, kernel)


def _is_compiled(optimizer: FirstOrder, x: Array, backend: Backend) -> bool:
    """Whether a rule is to be compiled for these points."""
    is_wanted = optimizer.fused if backend.fused is None else backend.fused
    # kernels for a GPU have no reductions
    can = llvm.is_available() if backend.name == "numpy" else optimizer.traits.elementwise
    return bool(is_wanted) and can and x.dtype == backend.dtype


@functools.lru_cache(maxsize=256)
def _keeps_runs_apart(rule: Callable[..., Any], per_run: tuple[str, ...], d: int, precision: str) -> bool:
    """Whether two steps of a rule give a run the same numbers alone as in a stack of three."""
    backend = get_backend(precision=precision)
    # large numbers too, because a rule may clip them only
    for size, scale in itertools.product(dict.fromkeys((min(d, 50), d)), (1.0, 1e4)):
        rng = np.random.default_rng(0)
        x, first, second = (backend.asarray(scale * rng.standard_normal((3, size))) for _ in range(3))
        zeros = [backend.zeros((3, 1 if name in per_run else size)) for name in state_names(rule)]
        try:
            with np.errstate(all="ignore"):
                parts = [slice(0, 3), *(slice(k, k + 1) for k in range(3))]
                stack, *alone = (_two_steps(rule, backend, rows, x, zeros, (first, second)) for rows in parts)
        except Exception:  # it is for another size, or its first step will show what is wrong
            continue
        # products of matrices round a row of a stack in another way
        if not all(same(stack[k], row[0], backend.eps**0.5) for k, row in enumerate(alone)):
            return False
        if size < d and scale > 1:
            break
    return True


def _two_steps(rule: Callable[..., Any], backend: Backend, rows: slice, x: Array, state: Any, gradients: Any) -> Any:
    x, state = x[rows, :] + 0, [s[rows, :] + 0 for s in state]
    for t, g in enumerate(gradients, 1):
        x, *state = rule(rule_module(backend), x, g[rows, :] + 0, t, *state)
    return np.asarray(x)


class Loop:
    """The parts of a call of `minimize` that stay the same in all steps."""

    def __init__(
        self, problem: Problem, optimizer: Optimizer, seeds: tuple[int, ...], steps: int, batch: int | None, runs: int
    ) -> None:
        if isinstance(optimizer, FirstOrder):
            # here instead of before all work, because a rule may end its process, which must not be that of a study
            precision = problem.backend.precision
            if not _keeps_runs_apart(optimizer.rule, optimizer.traits.per_run, problem.dim, precision):
                raise InputError(
                    f"the rule {optimizer.name!r} combines the runs of a stack, so each would depend on the others; "
                    "reduce over the parameters of a run: axis=-1, keepdims=True"
                )
        self.problem, self.optimizer, self.steps, self.runs = problem, optimizer, steps, runs
        # read once, because an optimizer may change its attributes
        self.oracle, self.keeps_best = Oracle(optimizer.oracle), optimizer.keeps_best
        self.has_gradient, self.has_hessian = self.oracle != Oracle.VALUE, self.oracle == Oracle.HESSIAN
        self.backend = problem.backend
        self.xp = problem.backend.xp
        self.answers = Answers(problem, optimizer.name or type(optimizer).__name__)
        self.calls_per_step = problem.calls_per_step(batch)
        self.shape = (runs, problem.dim)
        self.shapes = (runs,), self.shape  # of f and g
        self.stack = (len(seeds), runs // len(seeds), problem.dim)  # (S, L, d)
        self.f: Any = None  # values (R,) of the last evaluation, which the optimizer does not get
        sampler = problem.sampler(seeds, batch)
        self.stochastic = sampler is not None
        self.samples = _Feed(sampler, self.backend, steps + 1) if sampler is not None else None
        normals = Normals(seeds, problem.dim, 1.0, "search") if optimizer.draws else None
        self.normals = _Feed(normals, self.backend, steps + 1) if normals is not None else None

    def evaluate(self, t: int, x: Array) -> At:
        """What the oracle returns at the points x of shape (R, d) in step t: checked arrays that nobody else holds."""
        problem, own = self.problem, self.answers.own
        g = hessian = z = None
        if self.normals is not None:
            # all settings of a seed share its directions
            z = self.xp.asarray(self.xp.broadcast_to(self.normals[t][:, None, :], self.stack), copy=True)
            z = self.xp.reshape(z, self.shape)
        if not self.has_gradient:
            (f,) = own("value", [problem.value(x)], self.shapes[:1])
        elif self.samples is not None:
            points, samples = self.xp.reshape(x, self.stack), self.samples[t]
            f, g = own("value_and_grad", problem.value_and_grad(points, samples), (self.stack[:2], self.stack))
            f, g = self.xp.reshape(f, (self.runs,)), self.xp.reshape(g, self.shape)
        else:
            f, g = own("value_and_grad", problem.value_and_grad(x), self.shapes)
            if self.has_hessian:
                (hessian,) = own("hessian", [problem.hessian(x)], ((*self.shape, problem.dim),))
        self.f = f
        return At(x, self.answers.copy(f)[:, None], g, hessian, z)

    def step(self, t: int, at: At, state: Any) -> tuple[Array, Any]:
        """The checked points (R, d) and the state that the optimizer returns in step t."""
        result = self.optimizer.step(t, at, state)
        if not isinstance(result, PAIRS) or len(result) != 2:
            raise TypeError(f"step() of {self.answers.optimizer!r} must return the pair (x, state), not {result!r:.60}")
        x, state = result
        if not self.answers.fits(x, self.shape):
            self.answers.blame_optimizer(x, self.shape)
        return x, state

    def begin(self, x0: Array) -> tuple[Array, Any]:
        """A copy of the start points (R, d), because a fused rule overwrites them, and the state of the optimizer."""
        x = self._start(x0)
        return x, init_state(self.optimizer, x, self.backend)

    def _start(self, x0: Array) -> Array:
        """A copy of points (R, d), row by row as machine code reads them, in the precision of the problem."""
        x = self.xp.asarray(x0, dtype=self.backend.dtype, copy=True)
        return self.xp.reshape(self.xp.reshape(x, (-1,)), x.shape)

    def run(
        self, x0: Array, stop: bool, tolerance: float | None, count: int, progress: Callable[[int], None] | None
    ) -> Trace:
        optimum = self.problem.optimum
        recorder = Recorder(
            self.runs,
            self.steps,
            checkpoints(self.steps, count),
            self.problem.f_star,
            stop,
            lower=-np.inf if optimum is None else optimum.lower,
            resolution=0.0 if optimum is None else self._resolution(optimum),
            eps=self.backend.eps,
            tolerance=tolerance,
            sparse=self.stochastic,
        )
        x = self._start(x0)
        fused_loop = self._fused_loop(x)
        report = progress or (lambda steps: None)
        if fused_loop is None:
            x = self._steps(x, init_state(self.optimizer, x, self.backend), recorder, report)
        else:
            x = _run_fused(fused_loop, self.answers, recorder, report)
        return recorder.trace(self.backend.to_host(x), self.calls_per_step, self.oracle)

    def _resolution(self, optimum: Optimum) -> float:
        """Smallest gap that is beyond the rounding of values near the optimum, and beyond its interval."""
        resolution = max(8 * self.backend.eps * abs(optimum.f), optimum.f - optimum.lower)
        if optimum.x is not None:
            x = self.backend.asarray(optimum.x)[None, :]
            (f,) = self.answers.own("value", [self.problem.value(x)], ((1,),))
            error = abs(float(self.backend.to_host(f)[0]) - optimum.f)
            resolution = max(resolution, 4 * error if np.isfinite(error) else np.inf)
        return resolution

    def _fused_loop(self, x: Array) -> FusedLoop | None:
        """Optimizer and oracle as one compiled loop that starts at x; None if other work is needed between steps."""
        optimizer = self.optimizer
        if self.stochastic or not isinstance(optimizer, FirstOrder) or self.backend.name != "numpy":
            return None
        if not _is_compiled(optimizer, x, self.backend):
            return None

        def loop_from(points: Array) -> FusedLoop:
            settings = optimizer.hyperparameters
            return FusedLoop(self.problem, optimizer.rule, points, settings, optimizer.factor, optimizer.traits.per_run)

        try:
            fused_loop = loop_from(x)
        except TraceError:  # such as an oracle that reshapes its points
            return None
        if fused_loop.ir not in _is_correct:
            # late steps too, because a rule may choose by t
            cases = (1.0, 0), (1e-3, 30), (1e3, 1000)
            _is_correct[fused_loop.ir] = all(self._agrees(loop_from, scale * x, first) for scale, first in cases)
        return fused_loop if _is_correct[fused_loop.ir] else None

    def _agrees(self, loop_from: Callable[[Array], FusedLoop], x: Array, first: int) -> bool:
        """Whether three steps of a fused loop from points (R, d) give what the oracle and the rule give."""
        fused_loop, optimizer = loop_from(x), self.optimizer
        values = fused_loop.advance(first, first + 4, np.ones(4, dtype=bool), np.ones(4, dtype=bool))
        x, state = x + 0, optimizer.init(x, self.backend)
        tolerance = 0.0 if fused_loop.graph.exact else self.backend.eps**0.5
        for t in range(4):
            at = self.evaluate(t, x)
            norms = _norms(self.xp, at.g)
            results = (at.f[:, 0], values.f[t]), (norms, values.norms[t]), (x, values.x[t])
            if not all(same(a, b, tolerance) for a, b in results):
                return False
            x, state = self.step(first + t + 1, at, state)
        return True

    def _steps(self, x: Array, state: Any, recorder: Recorder, progress: Callable[[int], None]) -> Array:
        """Evaluate, record, step. Returns the iterates at the ends of the runs, (R, d)."""
        xp, keeps_best = self.xp, self.keeps_best
        counts_values, has_tolerance = not self.stochastic, recorder.tolerance is not None
        marks = set(recorder.t.tolist())
        best_x = x
        best_f = self.backend.zeros((self.runs, 1)) + xp.inf
        best_norm = self.backend.zeros((self.runs,)) + xp.nan
        ends = _Ends(recorder, x, self.backend) if recorder.ends_early else None
        # since the last fold: arrays (R,) of every step and of every checkpoint
        values: list[Array] = []  # with full batches
        norms: list[Array] = []  # with a tolerance
        curves: list[dict[str, Array]] = []
        since = 0
        for t in range(self.steps + 1):
            # after the last step only the trace needs values: the full objective, not a mini-batch
            at = self.evaluate(t, x) if t < self.steps or counts_values else None
            f = norm = None
            if at is not None and keeps_best:
                better = at.f < best_f
                best_x = xp.where(better, at.x, best_x)
                best_f = xp.where(better, at.f, best_f)
                if self.has_gradient:
                    best_norm = xp.where(better[:, 0], _norms(xp, at.g), best_norm)
            if counts_values and at is not None:
                f = best_f[:, 0] if keeps_best else self.f
                values.append(f)
                if self.has_gradient and (has_tolerance or t in marks):
                    norm = best_norm if keeps_best else _norms(xp, at.g)
                    if has_tolerance:
                        norms.append(norm)
            if t in marks:
                curves.append(self._checkpoint(best_x if keeps_best else x, norm))
                f = curves[-1].get("f", f)
            if ends is not None and f is not None:
                ends.update(best_x if keeps_best else x, f, norm)
            if at is not None and t < self.steps:
                x, state = self.step(t + 1, at, state)
            since += 1
            if t == recorder.next_fold:
                fetched = {key: self._fetch([row[key] for row in curves]) for key in (curves[0] if curves else ())}
                recorder.fold(t, self._fetch(values), fetched, self._fetch(norms) if norms else None)
                values, norms, curves = [], [], []
                progress(since)
                since = 0
                if recorder.finished:
                    break
        x = best_x if keeps_best else x
        return x if ends is None else xp.where(ends.is_known[:, None], ends.x, x)

    def _checkpoint(self, x: Array, norm: Array | None) -> dict[str, Array]:
        """Metrics at x, (R, d), and the gradient norm or (with mini-batches) the full objective; each of shape (R,)."""
        if self.stochastic:
            f, metrics = self.problem.evaluate(x)
            (f,) = self.answers.own("evaluate", [f], (self.shape[:1],))
            return {**self._copies(metrics), "f": f}
        values = self._copies(self.problem.metrics(x))
        return values if norm is None else values | {"gradient_norm": norm}

    def _copies(self, metrics: Mapping[str, Array]) -> dict[str, Array]:
        """Copies of metrics, which may be views of iterates that a fused rule overwrites."""
        self.answers.check_metrics(metrics, self.shape[:1])
        return {name: self.xp.asarray(values, copy=True) for name, values in metrics.items()}

    def _fetch(self, rows: list[Array]) -> np.ndarray:
        """k arrays (R,) of the device as one array (k, R) of the host."""
        if not rows:
            return np.empty((0, self.runs))
        return self.backend.to_host(self.xp.stack(rows)).astype(float, copy=False)


_is_correct: dict[str, bool] = {}  # whether each kind of fused loop agrees with the oracle and the rule


def _run_fused(
    fused_loop: FusedLoop, answers: Answers, recorder: Recorder, progress: Callable[[int], None]
) -> np.ndarray:
    """Take all steps. Returns the iterates at the ends of the runs, (R, d). The recorder decides when a run ends."""
    problem = answers.problem
    first, has_metrics = 0, bool(problem.metrics(fused_loop.x))
    iterates: dict[int, np.ndarray] = {}  # (d,), of runs that have ended
    while first <= recorder.steps and not recorder.finished:
        last = recorder.next_fold + 1
        is_checkpoint = np.zeros(last - first, dtype=bool)
        is_checkpoint[recorder.t[(recorder.t >= first) & (recorder.t < last)] - first] = True
        with_norm = is_checkpoint if recorder.tolerance is None else np.ones_like(is_checkpoint)
        with_x = is_checkpoint.copy() if has_metrics else np.zeros_like(is_checkpoint)
        with_x[-1] |= last > recorder.steps  # the last iterate, after which the machine code takes one more step
        at_first = fused_loop.copy() if recorder.ends_early else None
        parts = []
        for low in range(first, last, fused_loop.max_steps):
            high = min(low + fused_loop.max_steps, last)
            where = slice(low - first, high - first)
            parts.append(fused_loop.advance(low, high, with_norm[where], with_x[where]))
            progress(high - low)
        f, best, norms, x = (a[0] if len(a) == 1 else np.concatenate(a) for a in zip(*parts, strict=True))
        curves = {"gradient_norm": norms if recorder.tolerance is None else norms[is_checkpoint]}
        if has_metrics:
            metrics = problem.metrics(x)
            answers.check_metrics(metrics, x.shape[:2])
            rows = len(curves["gradient_norm"])
            curves |= {name: np.asarray(values, dtype=float)[:rows] for name, values in metrics.items()}
        recorder.fold(last - 1, f, curves, None if recorder.tolerance is None else norms, best)
        if at_first is not None:
            iterates |= _iterates_at_ends(at_first, first, recorder.ended(first))
        first = last
    x = x[-1] if first > recorder.steps else fused_loop.x
    for run, iterate in iterates.items():
        x[run] = iterate
    return x


def _iterates_at_ends(fused_loop: FusedLoop, first: int, ends: Mapping[int, int]) -> dict[int, np.ndarray]:
    """Iterates (d,) of the runs that ended since step `first`, at which the loop is, by taking their steps again."""
    steps: dict[int, int] = {}  # of each block of runs
    iterates: dict[int, np.ndarray] = {}
    for (end, block), group in itertools.groupby(
        sorted((end, fused_loop.block_of(run), run) for run, end in ends.items()), key=lambda item: item[:2]
    ):
        x = fused_loop.iterate(block, steps.get(block, first), end)
        steps[block] = end + 1
        iterates |= {run: x[run] for *_, run in group}
    return iterates


class _Ends:
    """The iterates at which runs end. They are kept on the device, because the recorder learns of ends at its next fold."""

    def __init__(self, recorder: Recorder, x: Array, backend: Backend) -> None:
        self.recorder, self.backend, self.x = recorder, backend, x
        self.is_known = backend.zeros((recorder.runs,)) > 0  # (R,), as the following arrays
        # in float64, as the recorder compares
        self.level: Array | None = None  # known with the first values
        self.never = backend.as_float64(np.full(recorder.runs, -np.inf))
        tolerance = -np.inf if recorder.tolerance is None else recorder.tolerance
        self.tolerance = backend.as_float64(np.full(recorder.runs, tolerance))

    def update(self, x: Array, f: Array, norm: Array | None) -> None:
        """Keep the rows of x, (R, d), whose runs end with these values and gradient norms, (R,)."""
        xp = self.backend.xp
        if self.level is None:
            self.recorder.begin(self.backend.to_host(f).astype(float))
            stop = self.recorder.stop
            self.level = self.backend.as_float64(self.recorder.targets[:, -1]) if stop else self.never
        ends = f <= self.level
        if norm is not None:
            ends = ends | (norm <= self.tolerance)
        if self.backend.name == "numpy" and not np.count_nonzero(ends):
            return
        self.x, self.is_known = xp.where(ends[:, None], x, self.x), self.is_known | ends
        # a run ends once
        self.level, self.tolerance = xp.where(ends, self.never, self.level), xp.where(ends, self.never, self.tolerance)


def _norms(xp: Any, g: Array) -> Array:
    """Euclidean norms of the rows of g, (R, d); shape (R,)."""
    norms: Array = xp.linalg.vector_norm(g, axis=-1)
    return norms


class _Feed:
    """Random numbers of a sampler, moved to the device in blocks of many steps."""

    def __init__(self, sampler: Sampler, backend: Backend, total: int) -> None:
        self.sampler, self.backend, self.total = sampler, backend, total
        self.length = max(1, min(total, MAX_FEED_BYTES // sampler.row_bytes))
        self.first, self.last = 0, 0

    def __getitem__(self, t: int) -> Array:
        """The random numbers of step t, of shape (S, ...)."""
        if not self.first <= t < self.last:
            self.first, self.last = t, min(t + self.length, self.total)
            host = self.sampler.draw(self.first, self.last)
            self.values = self.backend.indices(host) if self.sampler.integer else self.backend.asarray(host)
        return self.values[t - self.first, ...]
