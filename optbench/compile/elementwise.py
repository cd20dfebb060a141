"""Elementwise formulas: pure functions of numbers that run on whole arrays or compiled.

`kernel` takes the axes of a formula as einsum does. On a fused CPU backend with Numba the formula is compiled, with
`fastmath` as its array module, inside a loop that reads and writes every array once. Elsewhere it runs on whole arrays.
Only sums and maxima may combine elements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from optbench.compile.numba import compile_checked, has_numba, loop
from optbench.core.backend import Backend
from optbench.core.types import Array

MIN_FOLDED = 8192  # size of an array from which `_sum_log1p` multiplies factors first

INITIAL: dict[str, Callable[..., Any]] = {  # creates the result of a loop, by reduction
    "": np.empty,
    "sum": np.zeros,
    "log1p": np.zeros,
    "max": lambda shape, dtype: np.full(shape, -np.inf, dtype),
}
TOTALS = {"sum": "total", "log1p": "total_log1p"}  # functions of `fastmath`, by reduction

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
        position if both have the same axes.
    """
    if backend.name == "numpy" and backend.fused and has_numba():
        return _Compiled(formula, indices, backend)
    return _uncompiled(formula, indices, backend)


class Result(NamedTuple):
    """One result of a formula."""

    reduction: str  # empty for none
    letters: str
    overwrites: bool  # whether a compiled loop writes it to the argument in the same position


def _parse(indices: str) -> tuple[list[str], list[Result]]:
    """Indices of the arguments, and the results."""
    left, right = indices.split("->")
    arguments = [part.strip() for part in left.split(",")]
    results = []
    for k, part in enumerate(right.split(",")):
        *reduction, letters = part.split()
        results.append(Result("".join(reduction), letters, not reduction and arguments[k : k + 1] == [letters]))
    return arguments, results


# ---- the formula on whole arrays ----------------------------------------------------------------------------------------


def _uncompiled(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    arguments, results = _parse(indices)
    whole, xp = arguments[0], backend.xp
    missing = [tuple(k for k, letter in enumerate(whole) if letter not in letters) for letters in arguments]
    over = [tuple(k for k, letter in enumerate(whole) if letter not in result.letters) for result in results]
    if backend.name == "cupy":
        formula, space = _cupy_formula(formula), None
    else:
        space = xp

    def run(*arrays: Any) -> tuple[Array, ...]:
        spread = []
        for value, axes, letters in zip(arrays, missing, arguments, strict=True):
            for axis in axes if letters else ():
                value = xp.expand_dims(value, axis=axis)
            spread.append(value)
        values = formula(space, *spread)
        return tuple(
            _reduce(value, result.reduction, axes, backend)
            for value, result, axes in zip(values, results, over, strict=True)
        )

    return run


def _cupy_formula(formula: Callable[..., Any]) -> Callable[..., Any]:
    import cupy

    # cupy.fuse takes positional arrays and numbers, and its traced functions know cupy, not the compat namespace
    fused = cupy.fuse(kernel_name=formula.__name__)(lambda *args: formula(cupy, *args))
    return lambda _, *args: fused(*args)


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


# ---- the formula in a compiled loop -------------------------------------------------------------------------------------


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
    """A compiled kernel that computes what the formula computes, or the formula on whole arrays."""
    plain = _uncompiled(formula, indices, backend)
    compiled = compile_checked(
        f"the formula {formula.__name__!r}",
        lambda: _compiled_kernel(formula, indices, backend),
        lambda compiled: _difference(plain, compiled, indices, backend) <= 64 * backend.eps,
    )
    return compiled or plain


def _difference(plain: Kernel, compiled: Kernel, indices: str, backend: Backend) -> float:
    """Largest relative difference between a formula and its compiled kernel on small arrays."""
    rng = np.random.default_rng(0)
    arguments, _ = _parse(indices)
    sizes = dict(zip(arguments[0], [*range(2, len(arguments[0]) + 1), 37], strict=True))  # all axes differ
    # absolute values, because a formula may take the logarithm of an argument
    arrays: list[Any] = [
        backend.asarray(np.abs(rng.standard_normal([sizes[letter] for letter in letters]))) if letters else 0.5
        for letters in arguments
    ]
    worst = 0.0
    for sign in (1, -1):
        first = arrays[0] * sign
        with np.errstate(all="ignore"):
            expected = plain(first, *arrays[1:])
            actual = compiled(
                first.copy(), *(value if isinstance(value, float) else value.copy() for value in arrays[1:])
            )
            for a, b in zip(expected, actual, strict=True):
                finite = np.isfinite(a)
                if a.shape != b.shape or not np.array_equal(finite, np.isfinite(b)):
                    return np.inf
                scale = np.abs(a) + np.max(np.abs(a), initial=1e-6, where=finite)
                worst = max(worst, float(np.max(np.abs(a - b) / scale, initial=0.0, where=finite)))
    return worst


def _compiled_kernel(formula: Callable[..., Any], indices: str, backend: Backend) -> Kernel:
    arguments, results = _parse(indices)
    whole, dtype = arguments[0], np.dtype(backend.precision)
    axes_in = [[whole.index(letter) for letter in letters] for letters in arguments]
    axes_out = [[whole.index(letter) for letter in result.letters] for result in results]
    initial = [None if result.overwrites else INITIAL[result.reduction] for result in results]
    run = _loop(formula, indices)

    def compiled_kernel(*arrays: Any) -> tuple[Array, ...]:
        shape = arrays[0].shape
        inputs: list[Any] = []
        for value, axes in zip(arrays, axes_in, strict=True):
            if not axes:
                inputs.append(float(value))
                continue
            if value.shape != tuple([shape[axis] for axis in axes]):  # the loop itself checks nothing
                raise ValueError(f"{formula.__name__} takes arrays {indices}, not {[np.shape(v) for v in arrays]}")
            if value.dtype != dtype or not value.flags.carray:
                value = np.array(value, dtype, order="C")
            inputs.append(value)
        outputs = [
            None if make is None else make([shape[axis] for axis in axes], dtype)
            for make, axes in zip(initial, axes_out, strict=True)
        ]
        run(*inputs, *(value for value in outputs if value is not None))
        return tuple([inputs[k] if value is None else value for k, value in enumerate(outputs)])

    return compiled_kernel


@functools.cache
def _loop(formula: Callable[..., Any], indices: str) -> Callable[..., Any]:
    """The generated loop around a formula: nested over the letters, the last one innermost, so that it is vectorized."""
    from optbench.compile import fastmath

    return loop(formula.__name__, _source(*_parse(indices)), {"formula": formula}, ("contract",), xp=fastmath)


def _source(arguments: Sequence[str], results: Sequence[Result]) -> list[str]:
    """Source of the loop.

    Rows along the last axis are indexed before the innermost loop. Results that are reduced over the last axis go to a
    scratch row, which stays in the first-level cache, and are reduced after the loop. Results that are reduced over other
    axes only are added to their row inside the loop.
    """
    *outer, last = list(arguments[0])
    inputs = [f"a{k}" for k in range(len(arguments))]
    outputs = [f"a{k}" if result.overwrites else f"o{k}" for k, result in enumerate(results)]

    def row(name: str, letters: str) -> str:
        place = ", ".join(letter for letter in letters if letter != last)
        return f"{name}[{place}]" if place else name

    scratch, rows, values, targets, added, reduced = [], [], [], [], [], []
    for name, letters in zip(inputs, arguments, strict=True):
        if letters:
            rows.append(f"{name}_ = {row(name, letters)}")
        values.append(f"{name}_[{last}]" if last in letters else f"{name}_" if letters else name)
    for k, (name, result) in enumerate(zip(outputs, results, strict=True)):
        if last not in result.letters:
            scratch.append(f"t{k} = np.empty(a0.shape[{len(outer)}])")
            targets.append(f"t{k}[{last}]")
            cell = row(name, result.letters) if result.letters else f"{name}[()]"
            reduced.append(f"{cell} += xp.{TOTALS[result.reduction]}(t{k})")
            continue
        if not result.overwrites:
            rows.append(f"{name}_ = {row(name, result.letters)}")
        cell = f"{name}_[{last}]"
        targets.append(f"t{k}" if result.reduction else cell)
        if result.reduction:
            added.append(f"{cell} = {f'{cell} + t{k}' if result.reduction == 'sum' else f'xp.maximum({cell}, t{k})'}")
    deep = "    " * (len(outer) + 1)
    return [
        f"def run({', '.join([*inputs, *(name for name in outputs if name not in inputs)])}):",
        *(f"    {line}" for line in scratch),
        *(f"{'    ' * (k + 1)}for {letter} in range(a0.shape[{k}]):" for k, letter in enumerate(outer)),
        *(f"{deep}{line}" for line in rows),
        f"{deep}for {last} in range(a0_.shape[0]):",
        f"{deep}    {', '.join(targets)}{',' if len(targets) == 1 else ''} = formula(xp, {', '.join(values)})",
        *(f"{deep}    {line}" for line in added),
        *(f"{deep}{line}" for line in reduced),
    ]


# ---- sums over mini-batches ------------------------------------------------------------------------------------------

FEW_RUNS = 32  # runs per batch; with more of them, matrix products are faster than `batch_sums`
FLUSH = 2048  # samples per logarithm of four products, which do not overflow as each factor is at most 2


def batch_sums(formula: Callable[..., Any], backend: Backend) -> Callable[..., tuple[Array, Array]] | None:
    """Sums over mini-batches of a loss that is a formula of margins, and of its gradient, in one pass for few runs.

    Parameters
    ----------
    formula : callable
        ``formula(xp, margin)`` returns a weight, e in [0, 1] and a number, where log1p(e) and the number make the loss.

    Returns
    -------
    callable or None
        ``(w, Z, samples) -> (f, g)`` for points w (S, L, d), rows Z (n, d) and sample numbers (S, b): sums of the losses
        (S, L) at the margins w^T z, and of z times the weights (S, L, d), where all L points of a seed use its batch. None
        if the backend does not compile formulas, or the formula cannot be compiled.
    """
    if not (backend.name == "numpy" and backend.fused and has_numba()):
        return None
    return _checked_sums(formula, backend.precision)


@functools.cache
def _checked_sums(formula: Callable[..., Any], precision: str) -> Callable[..., tuple[Array, Array]] | None:
    """`batch_sums` of a formula, or None if it differs from the formula."""
    from optbench.compile import dots as products
    from optbench.compile import fastmath

    def build() -> Callable[..., tuple[Array, Array]]:
        run = loop(
            f"{formula.__name__}_sums", _SUMS, {"formula": formula}, ("contract",), xp=fastmath, products=products
        )

        def sums(w: Array, Z: Array, samples: Array) -> tuple[Array, Array]:
            f, g = np.zeros(w.shape[:2], w.dtype), np.zeros(w.shape, w.dtype)
            run(np.ascontiguousarray(w), Z, samples, f, g)
            return f, g

        return sums

    def is_correct(sums: Callable[..., tuple[Array, Array]]) -> bool:
        rng = np.random.default_rng(0)
        w, Z = (rng.standard_normal(shape).astype(precision) for shape in ((2, 3, 5), (20, 5)))
        samples = rng.integers(0, 20, (2, 11))
        with np.errstate(all="ignore"):
            weight, e, rest = formula(np, w @ np.swapaxes(Z[samples], 1, 2))  # of the margins, (S, L, b)
            expected = np.sum(np.log1p(e) + rest, axis=-1), weight @ Z[samples]
            pairs = list(zip(sums(w, Z, samples), expected, strict=True))
        return all(np.allclose(a, b, rtol=1e3 * np.finfo(precision).eps) for a, b in pairs)

    return compile_checked(f"the sum of the formula {formula.__name__!r} over mini-batches", build, is_correct)


_SUMS = [
    "def run(w, Z, samples, f, g):",
    "    seeds, runs, _ = w.shape",
    "    whole = samples.shape[1] - samples.shape[1] % 4",
    "    margins, factors, rest = np.empty((runs, 4)), np.zeros((runs, 4)), np.zeros((runs, 4))",
    "    m, q, s = margins.ravel(), factors.ravel(), rest.ravel()",
    "    for k in range(seeds):",
    "        for i in range(0, whole, 4):",
    "            a, b, c, d = Z[samples[k, i]], Z[samples[k, i + 1]], Z[samples[k, i + 2]], Z[samples[k, i + 3]]",
    "            products.dots(w[k], a, b, c, d, margins)",
    "            for j in range(m.shape[0]):",
    "                m[j], e, part = formula(xp, m[j])",
    "                q[j] = q[j] + (e + q[j] * e)",  # (1 + q)(1 + e) - 1, which keeps the digits of small numbers
    "                s[j] += part",
    "            products.add(g[k], margins, a, b, c, d)",
    f"            if i % {FLUSH} == {FLUSH - 4} or i + 4 == whole:",
    "                for r in range(runs):",
    "                    for j in range(4):",
    "                        f[k, r] += xp.log1p(factors[r, j]) + rest[r, j]",
    "                        factors[r, j] = rest[r, j] = 0.0",
    "        for i in range(whole, samples.shape[1]):",
    "            a = Z[samples[k, i]]",
    "            for r in range(runs):",
    "                weight, e, part = formula(xp, products.dot(w[k, r], a))",
    "                f[k, r] += xp.log1p(e) + part",
    "                for j in range(a.shape[0]):",
    "                    g[k, r, j] += weight * a[j]",
]
