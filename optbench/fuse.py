"""Update rules as one pass over memory, and rules together with oracles as one compiled loop: the registered texts.

On the CPU, Numba compiles the rule with NumPy for `xp`, and a generated loop calls it for every parameter of every run,
writing the new iterates and state over the old ones. Where the oracle has a text as well (see `Problem.text`), `Together`
compiles both into a loop over steps, which leaves nothing to be called between them. On the GPU, `cupy.fuse` traces the
rule. A rule that does not compile, or that computes something else number by number than array by array (because it mixes
parameters or runs), runs as it is written, and says so once.

The compiler may divide through a reciprocal and fuse a product with a sum, so a fused step equals the plain one up to a
few roundings, not bit for bit.
"""

from __future__ import annotations

import concurrent.futures as cf
import functools
import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.arrays import Array, Backend
from optbench.compiled import loop, numba_is_there, reason
from optbench.record import Record, note
from optbench.registry import parameters

# Kernel: (x, g, t, state, hyperparameters) -> (x, state); on the CPU the arrays given are overwritten and returned
Kernel = Callable[[Array, Array, int, Sequence[Array], Sequence[Any]], tuple[Array, tuple[Array, ...]]]

FASTMATH = ("arcp", "contract")
WORTH_THREADS = 1 << 22  # numbers of an array; below, threads cost more than they bring
FEW_RUNS, MANY_PARAMETERS = 4, 1000  # so few runs of so many parameters gain nothing from columns
BLOCK_NUMBERS = 5e9  # products and sums of a block of steps, at most: a fraction of a second
STEP_NUMBERS = 20_000  # what a step costs besides, in the same unit


@functools.cache
def state_names(rule: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the state of a rule: its arguments after `xp, x, g, t` that have no default."""
    return tuple(name for name in list(inspect.signature(rule).parameters)[4:] if name not in parameters(rule))


def fuse(rule: Callable[..., Any], backend: Backend, columns: Collection[str] = ()) -> Kernel | None:
    """The fused form of a rule on a backend, or None where it has to run as it is written.

    Parameters
    ----------
    columns : collection of str
        Hyperparameters that the kernel is given as columns (R, 1), in float64; the others as numbers.
    """
    if backend.name == "cupy" or (backend.name == "numpy" and numba_is_there()):
        return _checked(rule, backend, frozenset(columns))
    return None


@functools.cache
def _checked(rule: Callable[..., Any], backend: Backend, columns: frozenset[str]) -> Kernel | None:
    """A kernel that has been seen to compute what the rule computes; None, and a warning, if it cannot be had."""
    try:
        kernel = _numba_kernel(rule, columns) if backend.name == "numpy" else _cupy_kernel(rule)
        difference = _difference(rule, kernel, backend, columns)
    except Exception as error:  # compilers raise what they like
        why = reason(error)
    else:
        if difference <= 64 * backend.eps:
            return kernel
        why = "number by number it computes something else than array by array"
    _warn_once(rule, why)
    return None


@functools.cache
def _warn_once(rule: Callable[..., Any], why: str) -> None:
    warnings.warn(f"the rule {rule.__name__!r} runs as it is written, not fused: {why}", stacklevel=5)


def _difference(rule: Callable[..., Any], kernel: Kernel, backend: Backend, columns: Collection[str]) -> float:
    """Largest relative difference between a rule and its kernel on a small stack, over three steps."""
    rng = np.random.default_rng(0)
    declared = parameters(rule)
    x = backend.asarray(rng.standard_normal((2, 3)))
    # squares, so that state under a root is not negative; defaults, so that hyperparameters are in their range
    state: Sequence[Array] = [backend.asarray(rng.standard_normal((2, 3)) ** 2) for _ in state_names(rule)]
    fused, fused_state = x + 0, tuple(s + 0 for s in state)
    numbers = {name: float(p.default) for name, p in declared.items()}
    given = [backend.wide(np.full((2, 1), v)) if name in columns else v for name, v in numbers.items()]
    worst = 0.0
    with np.errstate(all="ignore"):
        for t in (1, 2, 3):
            g = backend.asarray(rng.standard_normal((2, 3)))
            x, *state = rule(backend.xp, x, g, t, *state, **numbers)
            fused, fused_state = kernel(fused, g, t, fused_state, given)
            for a, b in zip([x, *state], [fused, *fused_state], strict=True):
                a, b = backend.to_host(a), backend.to_host(b)
                if not np.array_equal(np.isfinite(a), np.isfinite(b)):
                    return np.inf
                worst = max(worst, float(np.nanmax(np.abs(a - b) / (np.abs(a) + 1e-6), initial=0.0)))
    return worst


# ---- CPU -------------------------------------------------------------------------------------------------------------


def _numba_kernel(rule: Callable[..., Any], columns: Collection[str]) -> Kernel:
    run = loop(rule.__name__, _row_lines(rule, columns), {"rule": rule}, FASTMATH)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        g = np.ascontiguousarray(g)

        def part(rows: slice, numbers: slice) -> None:
            given = [p[rows] if np.ndim(p) else p for p in hyperparameters]
            # t as a float: a power with a float exponent is one call that the compiler moves out of the loop
            run(x[rows, numbers], g[rows, numbers], float(t), *(s[rows, numbers] for s in state), *given)

        threads = _threads() if x.size >= WORTH_THREADS else 1
        if threads == 1:
            run(x, g, float(t), *state, *hyperparameters)
        else:
            list(_pool(threads).map(part, *zip(*_parts(x.shape[0], x.shape[1], threads), strict=True)))
        return x, tuple(state)

    return kernel


def _threads() -> int:
    """Threads that a step may use: one for each core of this process, unless OMP_NUM_THREADS says fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(asked))) if asked.isdigit() else cores


@functools.cache
def _pool(threads: int) -> cf.ThreadPoolExecutor:
    return cf.ThreadPoolExecutor(threads, thread_name_prefix="optbench")


def _parts(runs: int, numbers: int, count: int) -> list[tuple[slice, slice]]:
    """An array (runs, numbers) in at least `count` parts that lie contiguous in memory: whole rows, or parts of one row."""
    if runs >= count:
        edges = [round(k * runs / count) for k in range(count + 1)]
        return [(slice(a, b), slice(None)) for a, b in itertools.pairwise(edges)]
    each = -(-count // runs)
    edges = [round(k * numbers / each) for k in range(each + 1)]
    return [(slice(r, r + 1), slice(a, b)) for r in range(runs) for a, b in itertools.pairwise(edges)]


_OF_RULE = "its_"  # begins the names of a rule in a generated loop, so that no rule meets those of the loop


def _states(rule: Callable[..., Any]) -> list[str]:
    return [f"{_OF_RULE}{name}" for name in state_names(rule)]


def _row_lines(rule: Callable[..., Any], columns: Collection[str]) -> list[str]:
    """One step over arrays (R, d)."""
    names = list(parameters(rule))
    given = [f"{_OF_RULE}{name}" + ("_column" if name in columns else "") for name in names]
    return [
        f"def run({', '.join(['x', 'g', 't', *_states(rule), *given])}):",
        "    for r in range(x.shape[0]):",
        *(f"        {_OF_RULE}{name} = {_OF_RULE}{name}_column[r, 0]" for name in names if name in columns),
        "        for i in range(x.shape[1]):",
        f"            {_update(rule, 'r, i', dict.fromkeys(names))}",
    ]


def _update(rule: Callable[..., Any], at: str, given: Mapping[str, str | None]) -> str:
    """The line that calls the rule for the number at an index; hyperparameters as given, or by their names."""
    states = [f"{name}[{at}]" for name in _states(rule)]
    left = ", ".join([f"x[{at}]", *states]) + ("" if states else ",")
    numbers = ["np", f"x[{at}]", f"g[{at}]", "t", *states, *(text or _OF_RULE + name for name, text in given.items())]
    return f"{left} = rule({', '.join(numbers)})"


class Together:
    """A rule and an oracle compiled together: many steps of all runs in one call. Points are columns, (d, R).

    Parameters
    ----------
    rule : callable
    text : tuple
        The oracle's text and data, see `Problem.text`.
    x : array of shape (R, d)
        Start points.
    lr : array of shape (R,), or None
        Learning rates, for a rule that has one.
    numbers : mapping
        The other hyperparameters.
    factor : callable, optional
        Factor on the learning rate by the number of steps already taken.
    steps : int
        Steps of every run.
    """

    def __init__(
        self,
        rule: Callable[..., Any],
        text: tuple[Callable[..., Any], tuple[Any, ...]],
        x: np.ndarray,
        lr: np.ndarray | None,
        numbers: Mapping[str, float],
        factor: Callable[[int], float] | None,
        steps: int,
    ) -> None:
        function, data = text
        self.rule = rule
        # columns are multiplied by a transpose, which is fastest where its rows lie contiguous in memory
        self._data = tuple(np.asfortranarray(part) if np.ndim(part) == 2 else part for part in data)
        self._run = _loop_of_steps(rule, function, lr is not None)
        self._x = np.ascontiguousarray(x.T)  # (d, R)
        self._state = [np.zeros_like(self._x) for _ in state_names(rule)]  # each (d, R)
        self._hyperparameters = ([] if lr is None else [np.array(lr, dtype=float)]) + list(numbers.values())
        self._factor, self.steps = factor, steps
        work = x.size * max([x.shape[1] if np.ndim(part) == 2 else 1 for part in self._data] + [20])
        self.longest = max(1, int(BLOCK_NUMBERS / (work + STEP_NUMBERS)))  # steps of a block

    @property
    def x(self) -> np.ndarray:
        """The iterates, (R, d)."""
        return np.ascontiguousarray(self._x.T)

    def advance(self, first: int, last: int, record: Record) -> None:
        """Evaluate the iterates `first <= t < last` and record them, stepping after each but the last of all."""
        marked = np.isin(np.arange(first, last), record.t)
        f, best, norms = self._go(first, marked, record)
        record.extend(f=f, best=best, gradient_norm=norms)

    def look(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient norms at the iterates, each (R,), without a step."""
        scratch = Record(self._x.shape[1], self.steps, np.array([self.steps]), None, stop=False)
        scratch.begin(np.zeros(scratch.runs))
        (f,), _, (norms,) = self._go(self.steps, np.ones(1, dtype=bool), scratch)
        return f, norms

    def _go(self, first: int, marked: np.ndarray, record: Record) -> np.ndarray:
        """Evaluate, record and step once for each of `marked`; value, smallest value and gradient norm where it is true.

        Ends early, with fewer of those, once all runs have ended.
        """
        length = len(marked)
        noted = np.empty((3, int(marked.sum()), record.runs))
        factors = np.ones(length)
        if self._factor is not None:
            factors = np.array([self._factor(t) for t in range(first, first + length)])
        given = self._x, noted, marked, first, self.steps, factors, record.stop, record.arrays, self._data
        count = self._run(*given, *self._state, *self._hyperparameters)
        return noted[:, :count]


@functools.cache
def _loop_of_steps(rule: Callable[..., Any], oracle: Callable[..., Any], has_lr: bool) -> Callable[..., Any]:
    """The compiled loop of a rule and an oracle; data of other types make Numba compile another version of it."""
    from optbench import columns

    given = {name: "lr[r] * factor" if name == "lr" else None for name in parameters(rule)}
    others = [_OF_RULE + name for name in given if name != "lr"]
    arguments = ["x", "noted", "marked", "first", "steps", "factors", "stop", "held", "data", *_states(rule)]
    lines = [
        f"def run({', '.join([*arguments, *(['lr'] if has_lr else []), *others])}):",
        "    mark = 0",
        "    for k in range(marked.shape[0]):",
        "        f, points = oracle(columns, columns.Columns(x), *data)",
        "        g = points.array",
        "        note(first + k, f, stop, *held)",
        "        if marked[k]:",
        "            squares, best = columns.vecdot(points, points), held[2]",
        "            for r in range(x.shape[1]):",
        "                noted[0, mark, r], noted[1, mark, r], noted[2, mark, r] = f[r], best[r], np.sqrt(squares[r])",
        "            mark += 1",
        "        if k % 16 == 15 and not held[0].any():",
        "            break",
        "        t = float(first + k + 1)",
        "        if t <= steps:",
        "            factor = factors[k]",
        "            for i in range(x.shape[0]):",
        "                for r in range(x.shape[1]):",
        f"                    {_update(rule, 'i, r', given)}",
        "    return mark",
    ]
    return loop(
        f"{rule.__name__}_together", lines, {"rule": rule, "oracle": oracle, "note": note}, FASTMATH, columns=columns
    )


# ---- GPU -------------------------------------------------------------------------------------------------------------


def _cupy_kernel(rule: Callable[..., Any]) -> Kernel:
    import cupy

    # cupy.fuse takes positional arrays and numbers, and its traced functions know cupy, not the compat namespace; columns
    # are float64 whatever the arrays are, as on the CPU, and would widen the results
    def traced(x: Any, *args: Any) -> Any:
        return tuple(made.astype(x.dtype, copy=False) for made in rule(cupy, x, *args))

    fused = cupy.fuse(kernel_name=rule.__name__)(traced)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        new, *rest = fused(x, g, t, *state, *hyperparameters)
        return new, tuple(rest)

    return kernel
