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

from optbench.compile.numba import loop, numba_is_there, reason
from optbench.core.backend import Array, Backend
from optbench.core.specs import parameters

# Kernel: (x, g, t, state, hyperparameters) -> (x, state); on the CPU the arrays given are overwritten and returned
Kernel = Callable[[Array, Array, int, Sequence[Array], Sequence[Any]], tuple[Array, tuple[Array, ...]]]

FASTMATH = ("arcp", "contract")
WORTH_THREADS = 1 << 22  # numbers of an array; below, threads cost more than they bring


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


OF_RULE = "its_"  # begins the names of a rule in a generated loop, so that no rule meets those of the loop


def state_arrays(rule: Callable[..., Any]) -> list[str]:
    return [f"{OF_RULE}{name}" for name in state_names(rule)]


def _row_lines(rule: Callable[..., Any], columns: Collection[str]) -> list[str]:
    """One step over arrays (R, d)."""
    names = list(parameters(rule))
    given = [f"{OF_RULE}{name}" + ("_column" if name in columns else "") for name in names]
    return [
        f"def run({', '.join(['x', 'g', 't', *state_arrays(rule), *given])}):",
        "    for r in range(x.shape[0]):",
        *(f"        {OF_RULE}{name} = {OF_RULE}{name}_column[r, 0]" for name in names if name in columns),
        "        for i in range(x.shape[1]):",
        f"            {update_line(rule, 'r, i', dict.fromkeys(names))}",
    ]


def update_line(rule: Callable[..., Any], at: str, given: Mapping[str, str | None]) -> str:
    """The line that calls the rule for the number at an index; hyperparameters as given, or by their names."""
    states = [f"{name}[{at}]" for name in state_arrays(rule)]
    left = ", ".join([f"x[{at}]", *states]) + ("" if states else ",")
    numbers = ["np", f"x[{at}]", f"g[{at}]", "t", *states, *(text or OF_RULE + name for name, text in given.items())]
    return f"{left} = rule({', '.join(numbers)})"


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
