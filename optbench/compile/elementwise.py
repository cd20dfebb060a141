"""Elementwise formulas: pure functions of numbers that run on whole arrays or compiled.

`kernel` takes the axes of a formula as einsum does. On a fused backend the formula is traced and compiled: on the CPU into
nested loops that read and write every array once, on a GPU into a kernel whose results are reduced afterwards. Elsewhere it
runs on whole arrays. Only sums and maxima may combine elements.
"""

from __future__ import annotations

import functools
import math
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from optbench.compile import cuda
from optbench.compile.graph import TraceError
from optbench.compile.llvm import is_available, machine_code
from optbench.compile.loops import LoopWriter, parse
from optbench.compile.rules import same
from optbench.compile.steps import PAIRWISE
from optbench.core.backend import Backend
from optbench.core.types import Array

MIN_FOLDED = 8192  # size of an array from which `_sum_log1p` multiplies factors first

INITIAL: dict[str, Callable[..., Any]] = {  # creates the result of a loop, by reduction
    "": np.empty,
    "sum": np.zeros,
    "log1p": np.zeros,
    "max": lambda shape, dtype: np.full(shape, -np.inf, dtype),
}

Kernel = Callable[..., tuple[Array, ...]]


def kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    """An operation on arrays from a formula on numbers.

    Parameters
    ----------
    formula : callable
        ``formula(xp, *numbers)`` returns a tuple of numbers. It uses functions of `xp` only, such as `xp.where`.
    indices : str
        The axes of every argument and result, one letter each, as in ``"rhb, rh -> rhb, sum r"``. The first argument has
        all letters, and the order is the same everywhere. Arguments are broadcast along letters that they lack; one without
        letters is a number. Results are reduced over letters that they lack: by ``sum``; by ``log1p``, the sum of log1p of
        numbers in [0, 1], over the last axis; or by ``max``, over axes other than the last.
    backend : Backend

    Returns
    -------
    callable
        Function of arrays with these axes that returns a tuple of arrays. A result may overwrite the argument in the same
        position if both have the same axes. On the CPU, formulas without exp, log, log1p and tanh have the same digits
        compiled and uncompiled; other orders of sums are possible where the last axis has length 1.
    """
    if backend.fused and (backend.name == "cupy" or (backend.name == "numpy" and is_available())):
        return first_call_makes(lambda: _checked_kernel(formula, indices, backend))
    return _whole_arrays(formula, indices, backend)


def first_call_makes(make: Callable[[], Kernel]) -> Kernel:
    """A kernel that is made when it is called for the first time."""
    made = functools.cache(make)
    return lambda *arrays: made()(*arrays)


# ---- the formula on whole arrays ----------------------------------------------------------------------------------------


def _whole_arrays(
    formula: Callable[..., Any], indices: str, backend: Backend, on_device: Kernel | None = None
) -> Kernel:
    """The formula, or its kernel for the device, and then its reductions on whole arrays."""
    arguments, results = parse(indices)
    whole, xp = arguments[0], backend.xp
    over = [tuple([k for k, letter in enumerate(whole) if letter not in result.letters]) for result in results]
    missing = [[k for k, letter in enumerate(whole) if letters and letter not in letters] for letters in arguments]

    def spread(value: Any, axes: Sequence[int]) -> Any:
        return functools.reduce(lambda array, axis: xp.expand_dims(array, axis=axis), axes, value)

    def run(*arrays: Any) -> tuple[Array, ...]:
        numbers = on_device(*arrays) if on_device else formula(xp, *map(spread, arrays, missing))
        values = []
        for value, (reduction, *_), axes in zip(numbers, results, over, strict=True):
            if reduction == "log1p":
                value = _sum_log1p(value, axes, backend)
            elif reduction:
                value = getattr(xp, reduction)(value, axis=axes)
            values.append(value)
        return tuple(values)

    return run


def _sum_log1p(e: Array, axes: tuple[int, ...], backend: Backend) -> Array:
    """Sum of log1p(e), for e in [0, 1].

    With NumPy a logarithm costs up to twenty products, so eight factors are multiplied first: (1 + a)(1 + b) =
    1 + (a + b + a b). All terms are positive, so small e keep their digits. For small arrays, and on a device, the
    additional operations would cost more.
    """
    xp, last = backend.xp, e.ndim - 1
    rest: Array | float = 0.0
    if backend.name == "numpy" and e.size >= MIN_FOLDED and axes == (last,):
        for _ in range(3):
            half, odd = divmod(e.shape[-1], 2)
            if odd:
                rest = rest + xp.log1p(e[..., -1])
            a, b = e[..., :half], e[..., half : 2 * half]
            e = a + b + a * b
    return xp.sum(xp.log1p(e), axis=axes) + rest


# ---- the formula in compiled loops --------------------------------------------------------------------------------------


@functools.cache
def _checked_kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    arguments, results = parse(indices)
    plain = _whole_arrays(formula, indices, backend)

    def build() -> tuple[Kernel, float]:
        if backend.name == "cupy":  # whose functions may round differently
            on_device = cuda.formula_kernel(formula, arguments, backend)
            return _whole_arrays(formula, indices, backend, on_device), 64.0
        writer = LoopWriter(formula, arguments, results, backend.precision)
        return _compiled_kernel(writer, formula.__name__, indices), 0.0 if writer.graph.exact else 64.0

    # all axes differ; rows end with a part of a vector, and are longer than what a sum adds up in one piece
    sizes = dict(zip(arguments[0], [*range(2, len(arguments[0]) + 1), PAIRWISE + 13], strict=True))
    rng = np.random.default_rng(0)

    def case(scale: float) -> list[Any]:
        """Numbers of a scale; those of the first argument have its sign."""
        shapes = [[sizes[letter] for letter in letters] for letters in arguments]
        # absolute values, because a formula may take the logarithm of an argument
        first, *others = [abs(scale) * np.abs(rng.standard_normal(shape)) for shape in shapes]
        return [backend.asarray(a) if np.ndim(a) else 0.3 for a in (np.copysign(first, scale), *others)]

    cases = map(case, (1.0, -1.0, 1e-3, -1e-3, 1e3, -1e3, 0.0))
    return checked(f"the formula {formula.__name__!r}", plain, build, cases, backend)


def checked(
    what: str,
    plain: Kernel,
    build: Callable[[], tuple[Kernel, float]],
    cases: Iterable[Sequence[Any]],
    backend: Backend,
) -> Kernel:
    """A compiled kernel that computes what `plain` computes for all cases of arguments; or `plain`, with one warning.

    `build` returns the kernel, and how far it may be from `plain`, in rounding errors. It may raise TraceError.
    """
    try:
        compiled, tolerance = build()
        for arrays in cases:
            with np.errstate(all="ignore"):
                expected = plain(*arrays)
                actual = compiled(*[value if isinstance(value, float) else value + 0 for value in arrays])
                pairs = [(backend.to_host(a), backend.to_host(b)) for a, b in zip(expected, actual, strict=True)]
                agree = all(a.dtype == b.dtype and same(a, b, tolerance * backend.eps) for a, b in pairs)
            if not agree:
                cause = "its compiled form differs"
                break
        else:
            return compiled
    except TraceError as error:
        cause = f"it {error}"
    warnings.warn(f"{what} runs uncompiled, because {cause}", stacklevel=5)
    return plain


def _compiled_kernel(writer: LoopWriter, name: str, indices: str) -> Callable[..., tuple[Array, ...]]:
    """The machine code of loops as a kernel."""
    arguments, results = parse(indices)
    whole, dtype = arguments[0], writer.graph.dtype
    axes_in = [[whole.index(letter) for letter in letters] for letters in arguments]
    axes_out = [[whole.index(letter) for letter in result.letters] for result in results]
    created = [(INITIAL[r.reduction], axes) for r, axes in zip(results, axes_out, strict=True) if not r.overwrites]
    (code,) = machine_code(writer.module(), (writer.name,), unroll=False)
    parts = [first for first, _ in writer.terms.values()]
    formats = [*("q" if letters else "d" for letters in arguments), *("q" for _ in created)]
    pack = struct.Struct("".join(["q" * len(whole), *formats, "q" * bool(parts)])).pack

    def run(*arrays: Any) -> tuple[Array, ...]:
        shape: Any = arrays[0].shape if arrays[0].ndim == len(whole) else None
        inputs: list[Any] = []
        for value, axes in zip(arrays, axes_in, strict=True):
            if axes:
                # the loops themselves check nothing
                if value.shape != (shape if len(axes) == len(whole) else tuple([shape[axis] for axis in axes])):
                    raise ValueError(f"{name} takes arrays {indices}, not {[np.shape(value) for value in arrays]}")
                if value.dtype != dtype or not value.flags.carray:
                    value = np.array(value, dtype, order="C")
            inputs.append(value)
        new = [create([shape[axis] for axis in axes], dtype) for create, axes in created]
        terms = [np.empty(sum([math.prod(shape[first:]) for first in parts]), dtype)] if parts else []
        used = [id(value) if isinstance(value, np.ndarray) else value for value in (*inputs, *new, *terms)]
        code(pack(*shape, *used))
        following = iter(new)
        return tuple([inputs[k] if result.overwrites else next(following) for k, result in enumerate(results)])

    return run
