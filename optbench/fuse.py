"""Update rules as one pass over memory: the registered text, unchanged, compiled for single numbers.

On the CPU, Numba compiles the rule with NumPy for `xp`, and a small generated loop calls it for every parameter of every
run, writing the new iterates and state over the old ones. On the GPU, `cupy.fuse` traces the same text. A rule that does
not compile, or that computes something else number by number than array by array (because it mixes parameters or runs),
runs as it is written, and says so once.

The generated loops are kept as files in the user's cache folder, so that Numba can keep what it compiled between processes;
their names carry a hash of everything that the machine code depends on.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optbench.arrays import Array, Backend
from optbench.registry import parameters, source_hash

# Kernel: (x, g, t, state, columns) -> (x, state); on the CPU the arrays given are overwritten and returned
Kernel = Callable[[Array, Array, int, Sequence[Array], Sequence[Array]], tuple[Array, tuple[Array, ...]]]

WORTH_IT = 1e8  # updates of a number in a plan; below it, loading and compiling take longer than they save


def numba_is_there() -> bool:
    """Whether Numba is installed; it lags behind new versions of Python."""
    return importlib.util.find_spec("numba") is not None


def state_names(rule: Callable[..., Any]) -> list[str]:
    """Names of the state of a rule: its arguments after `xp, x, g, t` that have no default."""
    return [name for name in list(inspect.signature(rule).parameters)[4:] if name not in parameters(rule)]


def fuse(rule: Callable[..., Any], backend: Backend) -> Kernel | None:
    """The fused form of a rule on a backend, or None where it has to run as it is written."""
    if backend.name == "numpy" and numba_is_there():
        return _checked(rule, backend)
    if backend.name == "cupy":
        return _checked(rule, backend)
    return None


@functools.cache
def _checked(rule: Callable[..., Any], backend: Backend) -> Kernel | None:
    """A kernel that has been seen to compute what the rule computes; None, and a warning, if it cannot be had."""
    try:
        kernel = _numba_kernel(rule) if backend.name == "numpy" else _cupy_kernel(rule)
        difference = _difference(rule, kernel, backend)
    except Exception as error:  # compilers raise what they like
        reason = f"it cannot be compiled ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    else:
        if difference <= 64 * backend.eps:
            return kernel
        reason = "number by number it computes something else than array by array"
    warnings.warn(f"the rule {rule.__name__!r} runs as it is written, not fused: {reason}", stacklevel=4)
    return None


def _difference(rule: Callable[..., Any], kernel: Kernel, backend: Backend) -> float:
    """Largest relative difference between a rule and its kernel on a small stack, over three steps."""
    rng = np.random.default_rng(0)
    declared = parameters(rule)
    x = backend.asarray(rng.standard_normal((2, 3)))
    # squares, so that state under a root is not negative; defaults, so that hyperparameters are in their range
    state: Sequence[Array] = [backend.asarray(rng.standard_normal((2, 3)) ** 2) for _ in state_names(rule)]
    fused, fused_state = x + 0, tuple(s + 0 for s in state)
    columns = [np.full((2, 1), float(p.default)) for p in declared.values()]  # each (R, 1)
    worst = 0.0
    with np.errstate(all="ignore"):
        for t in (1, 2, 3):
            g = backend.asarray(rng.standard_normal((2, 3)))
            x, *state = rule(backend.xp, x, g, t, *state, **{k: p.default for k, p in declared.items()})
            fused, fused_state = kernel(fused, g, t, fused_state, [backend.wide(column) for column in columns])
            for a, b in zip([x, *state], [fused, *fused_state], strict=True):
                a, b = backend.to_host(a), backend.to_host(b)
                if not np.array_equal(np.isfinite(a), np.isfinite(b)):
                    return np.inf
                worst = max(worst, float(np.nanmax(np.abs(a - b) / (np.abs(a) + 1e-6), initial=0.0)))
    return worst


# ---- CPU -------------------------------------------------------------------------------------------------------------


def _numba_kernel(rule: Callable[..., Any]) -> Kernel:
    states, names = state_names(rule), list(parameters(rule))
    loop = _compiled_loop(rule, states, names)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], columns: Sequence[Array]) -> Any:
        # t as a float: a power with a float exponent is one call that the compiler moves out of the loop
        loop(x, np.ascontiguousarray(g), float(t), *state, *columns)
        return x, tuple(state)

    return kernel


def _loop_source(rule: Callable[..., Any], states: list[str], names: list[str]) -> str:
    arrays = ["x", "g", *states]
    numbers = ", ".join([f"{a}[r, i]" for a in arrays[:2]] + ["t"] + [f"{s}[r, i]" for s in states] + names)
    lines = [
        f'"""The loop of the rule {rule.__name__}, generated by optbench."""',
        "import numpy as np",
        "",
        f"def loop({', '.join([*arrays[:2], 't', *states, *(f'_{name}' for name in names)])}):",
        "    for r in range(x.shape[0]):",
        *(f"        {name} = _{name}[r, 0]" for name in names),
        "        for i in range(x.shape[1]):",
        f"            {', '.join(f'{a}[r, i]' for a in ['x', *states])}{',' if not states else ''} = rule(np, {numbers})",
        "",
    ]
    return "\n".join(lines)


def _compiled_loop(rule: Callable[..., Any], states: list[str], names: list[str]) -> Callable[..., Any]:
    """The generated loop around the rule, compiled for float64 and float32 when first called with them."""
    import numba

    source = _loop_source(rule, states, names)
    path = _cache_file(rule, source)
    # a module, because Numba looks up what it kept by the name of one
    module = types.ModuleType(f"_optbench_{path.stem if path else rule.__name__}")
    module.__dict__["rule"] = _compiled_rule(rule)
    sys.modules[module.__name__] = module
    exec(compile(source, str(path or "<optbench>"), "exec"), module.__dict__)
    loop: Callable[..., Any] = numba.njit(error_model="numpy", cache=path is not None)(module.__dict__["loop"])
    return loop


def _compiled_rule(rule: Callable[..., Any]) -> Any:
    """The rule compiled by Numba, and with it the rules that it calls."""
    import numba

    calls = {
        name: _compiled_rule(value)
        for name in rule.__code__.co_names
        if isinstance(value := rule.__globals__.get(name), types.FunctionType)
    }
    copy = types.FunctionType(
        rule.__code__, {**rule.__globals__, **calls}, rule.__name__, rule.__defaults__, rule.__closure__
    )
    return numba.njit(error_model="numpy")(copy)


def _cache_file(rule: Callable[..., Any], source: str) -> Path | None:
    """Where the loop of a rule is kept; None for a rule that has no source file, or if nothing can be written there."""
    if (
        rule.__closure__
        or rule.__module__ not in sys.modules
        or not getattr(sys.modules[rule.__module__], "__file__", None)
    ):
        return None
    import numba

    versions = f"{sys.version}{np.__version__}{numba.__version__}"  # Numba itself tells processors apart
    depends = source + versions + rule.__qualname__ + source_hash([rule, _compiled_loop])
    root = os.environ.get("OPTBENCH_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(root).expanduser() / "optbench" / "loops"
    path = folder / f"{rule.__name__}_{hashlib.sha256(depends.encode()).hexdigest()[:16]}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(source, encoding="utf-8")
            temporary.replace(path)
    except OSError:
        return None
    return path


# ---- GPU -------------------------------------------------------------------------------------------------------------


def _cupy_kernel(rule: Callable[..., Any]) -> Kernel:
    import cupy

    # cupy.fuse takes positional arrays and numbers, and its traced functions know cupy, not the compat namespace; columns
    # are float64 whatever the arrays are, as on the CPU, and would widen the results
    def traced(x: Any, *args: Any) -> Any:
        return tuple(made.astype(x.dtype, copy=False) for made in rule(cupy, x, *args))

    fused = cupy.fuse(kernel_name=rule.__name__)(traced)

    def kernel(x: Array, g: Array, t: int, state: Sequence[Array], columns: Sequence[Array]) -> Any:
        new, *rest = fused(x, g, t, *state, *columns)
        return new, tuple(rest)

    return kernel
