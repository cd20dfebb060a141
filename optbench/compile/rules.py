"""Update rules compiled into one pass over memory.

On the CPU, Numba compiles the rule with NumPy as `xp`, and a generated loop calls it for every parameter of every run and
overwrites iterates and state. On the GPU, `cupy.fuse` traces the rule. A rule that does not compile, or whose compiled form
gives other results (because it combines parameters or runs), runs uncompiled with one warning.

The compiler may multiply by reciprocals and fuse products with sums, so a fused step equals the plain one up to a few
roundings.
"""

from __future__ import annotations

import concurrent.futures as cf
import functools
import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.compile.numba import compile_checked, has_numba, loop
from optbench.core.backend import Backend
from optbench.core.specs import parameters, state_names
from optbench.core.types import Array
from optbench.core.workers import available_cores

# (x, g, t, state, hyperparameters) -> (x, state); on the CPU, x and state are overwritten
Kernel = Callable[[Array, Array, int, Sequence[Array], Sequence[Any]], tuple[Array, tuple[Array, ...]]]

FASTMATH = ("arcp", "contract")
MIN_THREADED = 1 << 22  # size of an array; for smaller ones, threads cost more than they save


def fuse(rule: Callable[..., Any], backend: Backend, swept: Collection[str] = ()) -> Kernel | None:
    """The compiled form of a rule on a backend, or None if it has to run uncompiled.

    Parameters
    ----------
    swept : collection of str
        Hyperparameters that are float64 arrays of shape (R, 1); the others are numbers.
    """
    if backend.name == "cupy" or (backend.name == "numpy" and has_numba()):
        return _checked_kernel(rule, backend, frozenset(swept))
    return None


@functools.cache
def _checked_kernel(rule: Callable[..., Any], backend: Backend, swept: frozenset[str]) -> Kernel | None:
    return compile_checked(
        f"the rule {rule.__name__!r}",
        lambda: _numba_kernel(rule, swept) if backend.name == "numpy" else _cupy_kernel(rule),
        lambda kernel: _difference(rule, kernel, backend, swept) <= 64 * backend.eps,
        "if it combines parameters, declare it with @optbench.rule(elementwise=False)",
    )


def _difference(rule: Callable[..., Any], kernel: Kernel, backend: Backend, swept: Collection[str]) -> float:
    """Largest relative difference between a rule and its kernel over three steps of a small stack."""
    rng = np.random.default_rng(0)
    declared = parameters(rule)
    x = backend.asarray(rng.standard_normal((2, 3)))
    # state is not negative, because a rule may take its root
    state: Sequence[Array] = [backend.asarray(rng.standard_normal((2, 3)) ** 2) for _ in state_names(rule)]
    fused_x, fused_state = x + 0, tuple(s + 0 for s in state)
    numbers = {name: float(p.default) for name, p in declared.items()}
    hyperparameters = [backend.as_float64(np.full((2, 1), v)) if name in swept else v for name, v in numbers.items()]
    worst = 0.0
    with np.errstate(all="ignore"):
        for t in (1, 2, 3):
            g = backend.asarray(rng.standard_normal((2, 3)))
            x, *state = rule(backend.xp, x, g, t, *state, **numbers)
            fused_x, fused_state = kernel(fused_x, g, t, fused_state, hyperparameters)
            for a, b in zip([x, *state], [fused_x, *fused_state], strict=True):
                a, b = backend.to_host(a), backend.to_host(b)
                if not np.array_equal(np.isfinite(a), np.isfinite(b)):
                    return np.inf
                worst = max(worst, float(np.nanmax(np.abs(a - b) / (np.abs(a) + 1e-6), initial=0.0)))
    return worst


# ---- CPU -------------------------------------------------------------------------------------------------------------


def _numba_kernel(rule: Callable[..., Any], swept: Collection[str]) -> Kernel:
    run = loop(rule.__name__, step_lines(rule, swept), {"_rule": rule}, FASTMATH, _xp=np)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        g = np.ascontiguousarray(g)

        def part(rows: slice, numbers: slice) -> None:
            values = [p[rows] if np.ndim(p) else p for p in hyperparameters]
            # t as a float, because the compiler moves a power with a float exponent out of the loop
            run(x[rows, numbers], g[rows, numbers], float(t), *(s[rows, numbers] for s in state), *values)

        threads = _threads() if x.size >= MIN_THREADED else 1
        if threads == 1:
            run(x, g, float(t), *state, *hyperparameters)
        else:
            list(_pool(threads).map(part, *zip(*_parts(x.shape[0], x.shape[1], threads), strict=True)))
        return x, tuple(state)

    return kernel


def _threads() -> int:
    """Threads of a step: one per core of this process, or OMP_NUM_THREADS if that is fewer."""
    cores = available_cores()
    requested = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(requested))) if requested.isdigit() else cores


@functools.cache
def _pool(threads: int) -> cf.ThreadPoolExecutor:
    return cf.ThreadPoolExecutor(threads, thread_name_prefix="optbench")


def _parts(runs: int, numbers: int, count: int) -> list[tuple[slice, slice]]:
    """At least `count` contiguous parts of an array (runs, numbers): rows, or parts of one row."""
    if runs >= count:
        edges = [round(k * runs / count) for k in range(count + 1)]
        return [(slice(a, b), slice(None)) for a, b in itertools.pairwise(edges)]
    each = -(-count // runs)
    edges = [round(k * numbers / each) for k in range(each + 1)]
    return [(slice(r, r + 1), slice(a, b)) for r in range(runs) for a, b in itertools.pairwise(edges)]


def step_lines(rule: Callable[..., Any], swept: Collection[str]) -> list[str]:
    """Source of one step over arrays (R, d), with the rule's names of state and hyperparameters."""
    names = list(parameters(rule))
    return [
        f"def run({', '.join(['x', 'g', 't', *state_names(rule), *names])}):",
        "    for _r in range(x.shape[0]):",
        *(f"        _swept_{name} = {name}[_r, 0]" for name in names if name in swept),
        "        for _i in range(x.shape[1]):",
        f"            {update_line(rule, '_r, _i', {name: f'_swept_{name}' for name in names if name in swept})}",
    ]


def update_line(rule: Callable[..., Any], index: str, values: Mapping[str, str]) -> str:
    """The line that calls the rule at an index; `values` replace names of hyperparameters.

    Names of the loop begin with an underscore, so that they differ from those of the rule.
    """
    names = [*state_names(rule), *parameters(rule)]
    if any(name.startswith("_") for name in names):
        raise ValueError("its state or a hyperparameter has a name that begins with an underscore")
    cells = [f"{name}[{index}]" for name in ("x", *state_names(rule))]
    numbers = [values.get(name, name) for name in parameters(rule)]
    arguments = ["_xp", cells[0], f"g[{index}]", "t", *cells[1:], *numbers]
    return f"{', '.join(cells)}{',' if len(cells) == 1 else ''} = _rule({', '.join(arguments)})"


# ---- GPU -------------------------------------------------------------------------------------------------------------


def _cupy_kernel(rule: Callable[..., Any]) -> Kernel:
    import cupy

    # cupy.fuse takes positional arrays and numbers, and its traced functions know cupy, not the compat namespace; swept
    # hyperparameters are float64 whatever the arrays are, as on the CPU, and would widen the results
    def traced(x: Any, *args: Any) -> Any:
        return tuple(result.astype(x.dtype, copy=False) for result in rule(cupy, x, *args))

    fused = cupy.fuse(kernel_name=rule.__name__)(traced)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        new_x, *new_state = fused(x, g, t, *state, *hyperparameters)
        return new_x, tuple(new_state)

    return kernel
