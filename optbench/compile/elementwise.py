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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optbench.compile import cuda
from optbench.compile.graph import TraceError
from optbench.compile.llvm import is_available, machine_code
from optbench.compile.loops import LoopWriter, Result, parse
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
        return _Compiled(formula, indices, backend)
    return _uncompiled(formula, indices, backend)


# ---- the formula on whole arrays ----------------------------------------------------------------------------------------


def _uncompiled(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    arguments, results = parse(indices)
    whole, xp = arguments[0], backend.xp
    missing = [tuple(k for k, letter in enumerate(whole) if letter not in letters) for letters in arguments]
    over = _reduced_axes(arguments, results)

    def run(*arrays: Any) -> tuple[Array, ...]:
        spread = []
        for value, axes, letters in zip(arrays, missing, arguments, strict=True):
            for axis in axes if letters else ():
                value = xp.expand_dims(value, axis=axis)
            spread.append(value)
        parts = zip(formula(xp, *spread), results, over, strict=True)
        return tuple([_reduce(value, result.reduction, axes, backend) for value, result, axes in parts])

    return run


def _reduced_axes(arguments: Sequence[str], results: Sequence[Result]) -> list[tuple[int, ...]]:
    return [tuple(k for k, letter in enumerate(arguments[0]) if letter not in result.letters) for result in results]


def _reduce(value: Array, reduction: str, axes: tuple[int, ...], backend: Backend) -> Array:
    if reduction == "log1p":
        return _sum_log1p(value, axes, backend)
    return getattr(backend.xp, reduction)(value, axis=axes) if reduction else value


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


class _Compiled:
    """A kernel that is compiled and compared with its formula on its first call."""

    def __init__(self, formula: Callable[..., Any], indices: str, backend: Backend) -> None:
        self.definition = formula, indices, backend

    def __call__(self, *arrays: Any) -> tuple[Array, ...]:
        return self.kernel(*arrays)

    @functools.cached_property
    def kernel(self) -> Kernel:
        return _checked_kernel(*self.definition)


@functools.cache
def _checked_kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    """A compiled kernel that computes what the formula computes; or, with one warning, the formula on whole arrays."""
    plain = _uncompiled(formula, indices, backend)
    try:
        build = _device_kernel if backend.name == "cupy" else _compiled_kernel
        compiled, exact = build(formula, indices, backend)
        if _agrees(plain, compiled, indices, backend, 0.0 if exact else 64 * backend.eps):
            return compiled
        cause = "its compiled form differs"
    except TraceError as error:
        cause = f"it {error}"
    warnings.warn(f"the formula {formula.__name__!r} runs uncompiled, because {cause}", stacklevel=4)
    return plain


def _agrees(plain: Kernel, compiled: Kernel, indices: str, backend: Backend, tolerance: float) -> bool:
    """Whether a kernel computes what its formula computes, for numbers of several scales and both signs, and for zeros."""
    rng = np.random.default_rng(0)
    arguments, _ = parse(indices)
    # all axes differ; rows end with a part of a vector, and are longer than what a sum adds up in one piece
    sizes = dict(zip(arguments[0], [*range(2, len(arguments[0]) + 1), PAIRWISE + 13], strict=True))
    for scale in (1.0, -1.0, 1e-3, -1e-3, 1e3, -1e3, 0.0):
        # absolute values, because a formula may take the logarithm of an argument
        numbers: list[Any] = [
            abs(scale) * np.abs(rng.standard_normal([sizes[letter] for letter in letters])) for letters in arguments
        ]
        numbers[0] = np.copysign(numbers[0], scale)
        arrays = [backend.asarray(a) if letters else 0.3 for a, letters in zip(numbers, arguments, strict=True)]
        with np.errstate(all="ignore"):
            expected = plain(*arrays)
            actual = compiled(*[value if isinstance(value, float) else value + 0 for value in arrays])
            pairs = [(backend.to_host(a), backend.to_host(b)) for a, b in zip(expected, actual, strict=True)]
            if not all(a.dtype == b.dtype and same(a, b, tolerance) for a, b in pairs):
                return False
    return True


def _compiled_kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> tuple[Kernel, bool]:
    """A compiled kernel, and whether it has to give the same digits as the formula."""
    arguments, results = parse(indices)
    whole, dtype = arguments[0], np.dtype(backend.precision)
    axes_in = [[whole.index(letter) for letter in letters] for letters in arguments]
    axes_out = [[whole.index(letter) for letter in result.letters] for result in results]
    initial = [None if result.overwrites else INITIAL[result.reduction] for result in results]
    writer = LoopWriter(formula, arguments, results, backend.precision)
    (code,) = machine_code(writer.module(), (writer.name,), unroll=False)
    parts = [first for first, _ in writer.terms.values()]
    formats = [*("q" if letters else "d" for letters in arguments), *("q" for make in initial if make)]
    pack = struct.Struct("".join(["q" * len(whole), *formats, "q" * bool(parts)])).pack

    def wrong(arrays: Sequence[Any]) -> ValueError:
        return ValueError(f"{formula.__name__} takes arrays {indices}, not {[np.shape(value) for value in arrays]}")

    def compiled_kernel(*arrays: Any) -> tuple[Array, ...]:
        shape = arrays[0].shape
        inputs: list[Any] = []
        if len(shape) != len(whole):
            raise wrong(arrays)
        for value, axes in zip(arrays, axes_in, strict=True):
            if axes:
                # the loops themselves check nothing
                if value.shape != (shape if len(axes) == len(whole) else tuple([shape[axis] for axis in axes])):
                    raise wrong(arrays)
                if value.dtype != dtype or not value.flags.carray:
                    value = np.array(value, dtype, order="C")
            inputs.append(value)
        used, outputs = inputs.copy(), []
        for k, (make, axes) in enumerate(zip(initial, axes_out, strict=True)):
            if make is None:
                outputs.append(inputs[k])
            else:
                outputs.append(make([shape[axis] for axis in axes], dtype))
                used.append(outputs[-1])
        if parts:
            used.append(np.empty(sum([math.prod(shape[first:]) for first in parts]), dtype))
        code(pack(*shape, *[id(value) if isinstance(value, np.ndarray) else value for value in used]))
        return tuple(outputs)

    return compiled_kernel, writer.graph.exact


def _device_kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> tuple[Kernel, bool]:
    """The same for a GPU, whose functions may round differently."""
    arguments, results = parse(indices)
    run, over = cuda.formula_kernel(formula, arguments, backend), _reduced_axes(arguments, results)

    def device_kernel(*arrays: Any) -> tuple[Array, ...]:
        parts = zip(run(*arrays), results, over, strict=True)
        return tuple([_reduce(value, result.reduction, axes, backend) for value, result, axes in parts])

    return device_kernel, False
