"""Elementary functions in plain arithmetic: errors in units in the last place, special values, exact constants."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from optbench.compile import elementary

PRECISIONS = {"float64": elementary.DOUBLE, "float32": elementary.SINGLE}
WIDER = {"float64": np.longdouble, "float32": np.float64}


class Arrays:
    """The operations of the functions on arrays of one precision.

    `fma` is computed in the next wider format and rounded twice. In float32 the product is exact, so only ties of the
    first rounding can differ from a true fma. In float64 the product is rounded to 64 bits: this shows that the formulas
    are right and how large their errors are, but not the last digits of machine code.
    """

    def __init__(self, precision: str) -> None:
        self.dtype, self.wider = np.dtype(precision), WIDER[precision]
        self.integers = np.dtype(f"int{8 * self.dtype.itemsize}")

    def _widened(self, a: Any) -> Any:
        assert isinstance(a, float) or a.dtype == self.dtype
        return np.asarray(a, self.dtype).astype(self.wider)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return (self._widened(a) * self._widened(b) + self._widened(c)).astype(self.dtype)

    def abs(self, x: Any) -> Any:
        return np.abs(x)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return np.where(condition, a, b)

    def bits(self, x: Any) -> Any:
        assert x.dtype == self.dtype
        return x.view(self.integers)

    def number(self, bits: Any) -> Any:
        assert bits.dtype == self.integers
        return bits.view(self.dtype)


def over(name: str, x: np.ndarray) -> np.ndarray:
    """A function of the module applied to every element."""
    precision = str(x.dtype)
    with np.errstate(all="ignore"):
        result: np.ndarray = getattr(elementary, name)(Arrays(precision), x, PRECISIONS[precision])
    assert result.dtype == x.dtype
    return result


def sizes(low: float, high: float) -> np.ndarray:
    """Positive numbers spread over orders of magnitude, from 10^low to 10^high."""
    return 10.0 ** np.random.default_rng(0).uniform(low, high, 50_000)


def spread(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, 200_000)


def patterns(precision: str) -> np.ndarray:
    """Numbers of all sizes and signs, subnormal ones, infinities and NaN: random bits."""
    width = np.dtype(precision).itemsize
    count = 2_000_000 if precision == "float32" else 200_000
    return np.frombuffer(np.random.default_rng(2).bytes(count * width), precision)


ARGUMENTS = {
    "exp": [spread(-750, 712), spread(-105, 90), spread(-1, 1), -sizes(-320, 0), sizes(-320, 0)],
    "tanh": [spread(-25, 25), spread(-1, 1), sizes(-320, 300), -sizes(-320, 300)],
    "log": [sizes(-323, 308), sizes(-45, 38), spread(0.5, 2), 1 + spread(-1e-8, 1e-8), 1 - sizes(-16, -1)],
    "log1p": [spread(0, 1), spread(-1, 1), sizes(-320, 308), sizes(-45, 38), -sizes(-320, 0), sizes(-17, 0) - 1],
}
BOUNDS = {"exp": 1.0, "tanh": 2.5, "log": 1.0, "log1p": 1.5}
needs_long_double = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider numbers to compare with")
precisions = pytest.mark.parametrize("precision", [pytest.param("float64", marks=needs_long_double), "float32"])


@pytest.mark.parametrize("name", ARGUMENTS)
@precisions
def test_within_units_in_the_last_place(name: str, precision: str) -> None:
    with np.errstate(all="ignore"):
        x = np.concatenate([*(a.astype(precision) for a in ARGUMENTS[name]), patterns(precision)])
        exact = getattr(np, name)(x.astype(WIDER[precision]))
        nearest, result = exact.astype(precision), over(name, x)
    finite = np.isfinite(nearest)
    assert np.array_equal(np.isfinite(result), finite)
    assert np.array_equal(result[~finite], nearest[~finite], equal_nan=True)
    assert np.array_equal(np.signbit(result[finite]), np.signbit(nearest[finite]))
    ulps = np.abs(result[finite] - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    assert ulps.max() < BOUNDS[name]


@pytest.mark.parametrize("name", ARGUMENTS)
@precisions
def test_special_values_equal_those_of_numpy(name: str, precision: str) -> None:
    info = np.finfo(precision)
    ends = [0.0, info.smallest_subnormal, info.tiny, info.max, np.inf, np.nan, 1.0, 2.0, np.nextafter(1.0, 2.0)]
    x = np.array([*ends, *(-value for value in ends)], precision)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    result = over(name, x)
    np.testing.assert_allclose(result, expected, rtol=4 * float(info.eps))
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(result[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_reduction_by_ln_2_is_exact(precision: str) -> None:
    """The first part of ln 2 has the digits of the format, and both parts have twice as many correct ones."""
    kind, digits = PRECISIONS[precision], np.finfo(precision).nmant + 1
    assert float(np.dtype(precision).type(kind.high)) == kind.high
    with localcontext(prec=50):
        error = abs(Decimal(kind.high) + Decimal(kind.low) - Decimal(2).ln())
    assert error < Decimal(2) ** (-2 * digits)
