"""The array module of oracle formulas in a fused loop: stacks of points, stored with one point per column.

An oracle formula is written for R points of shape (R, d). They are stored as (d, R), so that inner loops are over runs,
which are contiguous and many even if d is 2. Only the operations of the oracle formulas in `problems` are defined: sums,
differences and products with points, vectors (d,) and numbers, products with a matrix, and `vecdot`.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.extending import overload

MAX_ROWS = 12  # of a product without BLAS: 1.0 instead of 1.4 microseconds for 10 rows of 100 runs
_OPTIONS: Any = {"error_model": "numpy", "fastmath": {"contract"}}


class Points(NamedTuple):
    """Points of shape (R, d), stored as an array (d, R)."""

    array: Any


def _is_points(kind: Any) -> bool:
    return isinstance(kind, types.BaseNamedTuple) and getattr(kind, "instance_class", None) is Points


def _reader(kind: Any) -> Any:
    """A function ``(y, i, r)`` that reads parameter i of run r from points, a vector (d,) or a number; else None."""
    if _is_points(kind):
        return numba.njit(lambda y, i, r: y.array[i, r])
    if isinstance(kind, types.Array) and kind.ndim == 1:
        return numba.njit(lambda y, i, r: y[i])
    return numba.njit(lambda y, i, r: y) if isinstance(kind, types.Number) else None


def _elementwise(op: Any) -> None:
    """Define an operator between points, and between points and vectors (d,) or numbers."""

    @overload(op, jit_options=_OPTIONS)
    def of_points(x, y):  # type: ignore[no-untyped-def]
        read = _reader(y)
        if not _is_points(x) or read is None:
            return None

        def combined(x, y):  # type: ignore[no-untyped-def]
            a = x.array
            out = np.empty_like(a)  # (d, R)
            for i in range(a.shape[0]):
                for r in range(a.shape[1]):
                    out[i, r] = op(a[i, r], read(y, i, r))
            return Points(out)

        return combined


for _operator in (operator.add, operator.sub, operator.mul):
    _elementwise(_operator)


@numba.njit(**_OPTIONS)
def _small_product(matrix, a):  # type: ignore[no-untyped-def]
    """matrix.T @ a for matrix (d, k) and a (d, R), four rows at a time; faster than BLAS for few rows."""
    d, runs = a.shape
    out = np.zeros((matrix.shape[1], runs), a.dtype)  # (k, R)
    whole = d - d % 4
    for j in range(matrix.shape[1]):
        for i in range(0, whole, 4):
            p, q, s, t = matrix[i, j], matrix[i + 1, j], matrix[i + 2, j], matrix[i + 3, j]
            for r in range(runs):
                out[j, r] += p * a[i, r] + q * a[i + 1, r] + s * a[i + 2, r] + t * a[i + 3, r]
        for i in range(whole, d):
            p = matrix[i, j]
            for r in range(runs):
                out[j, r] += p * a[i, r]
    return out


@overload(operator.matmul, jit_options=_OPTIONS)
def _times_matrix(x, matrix):  # type: ignore[no-untyped-def]
    if _is_points(x) and isinstance(matrix, types.Array) and matrix.ndim == 2:

        def product(x, matrix):  # type: ignore[no-untyped-def]
            if x.array.shape[0] > MAX_ROWS:
                return Points(np.dot(matrix.T, x.array))
            return Points(_small_product(matrix, x.array))

        return product
    return None


@numba.njit(**_OPTIONS)
def vecdot(x, y):  # type: ignore[no-untyped-def]
    """Scalar products of points with points: (R,)."""
    a, b = x.array, y.array
    out = np.zeros(a.shape[1])
    for i in range(a.shape[0]):
        for r in range(a.shape[1]):
            out[r] += a[i, r] * b[i, r]
    return out
