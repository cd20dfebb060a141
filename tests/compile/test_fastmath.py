"""Elementary functions for compiled loops: errors in units in the last place, ends of the range, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optbench.compile.numba import has_numba

pytestmark = pytest.mark.skipif(not has_numba(), reason="Numba is not installed")

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.0, -1.0, -2.0, 1e308, -1e308])


def over(name: str, *arrays: np.ndarray) -> np.ndarray:
    """A function of the module applied to every element."""
    import numba

    from optbench.compile import fastmath

    function = getattr(fastmath, name)
    if len(arrays) == 1:

        @numba.njit(error_model="numpy")
        def run(a: Any, out: Any) -> None:
            for i in range(a.size):
                out[i] = function(a[i])

    else:

        @numba.njit(error_model="numpy")
        def run(a: Any, b: Any, out: Any) -> None:
            for i in range(a.size):
                out[i] = function(a[i], b[i])

    out = np.empty_like(arrays[0])
    loop: Any = run
    loop(*arrays, out)
    return out


def sizes(low: float, high: float, count: int = 50_000) -> np.ndarray:
    """Positive numbers spread over orders of magnitude, from 10^low to 10^high."""
    return 10.0 ** np.random.default_rng(0).uniform(low, high, count)


def spread(low: float, high: float, count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, count)


ARGUMENTS = {
    "exp": [spread(-750, 712), spread(-1, 1), -sizes(-320, 0), sizes(-320, 0)],
    "tanh": [spread(-25, 25), spread(-1, 1), sizes(-320, 300), -sizes(-320, 300)],
    "log": [sizes(-323, 308), spread(0.5, 2), 1 + spread(-1e-8, 1e-8), 1 - sizes(-16, -1)],
    "log1p": [spread(0, 1), spread(-1, 1), sizes(-320, 308), -sizes(-320, 0), sizes(-17, 0) - 1],
}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider numbers to compare with")
@pytest.mark.parametrize(("name", "bound"), [("exp", 1.0), ("tanh", 2.5), ("log", 1.0), ("log1p", 1.25)])
def test_within_units_in_the_last_place(name: str, bound: float) -> None:
    x = np.concatenate(ARGUMENTS[name])
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(np.longdouble))
        nearest = exact.astype(float)
        result = over(name, x)
        finite = np.isfinite(nearest)
        assert np.array_equal(np.isfinite(result), finite)
        ulps = np.abs(result[finite] - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    assert ulps.max() < bound


@pytest.mark.parametrize("name", [*ARGUMENTS, "sqrt", "abs", "sign"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_special_values_equal_those_of_numpy(name: str, precision: str) -> None:
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(precision)
        expected, result = getattr(np, name)(x), over(name, x)
    assert result.dtype == precision
    np.testing.assert_allclose(result, expected, rtol=4 * float(np.finfo(precision).eps))
    zero = expected == 0
    assert np.array_equal(np.signbit(result[zero]), np.signbit(expected[zero])) or name == "sign"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_single_precision(name: str) -> None:
    with np.errstate(all="ignore"):
        x = np.concatenate(ARGUMENTS[name]).astype(np.float32)
        x = x[np.isfinite(x)]
        expected = getattr(np, name)(x.astype(float)).astype(np.float32)
        np.testing.assert_allclose(over(name, x), expected, rtol=float(np.finfo(np.float32).eps))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_maximum_and_minimum_propagate_nan(name: str) -> None:
    a, b = (pair.ravel() for pair in np.meshgrid(SPECIAL, SPECIAL))
    np.testing.assert_array_equal(over(name, a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 31, 32, 33, 63, 100, 655, 4095, 4096, 4127, 10_000])
def test_sums_of_log1p(length: int) -> None:
    from optbench.compile import fastmath

    rng = np.random.default_rng(length)
    for e in (rng.uniform(0, 1, length), np.ones(length), 10.0 ** -rng.uniform(0, 300, length), np.zeros(length)):
        expected = np.sum(np.log1p(e.astype(np.longdouble))).astype(float)
        assert fastmath.total(e) == pytest.approx(e.sum(), rel=1e-14)
        assert fastmath.total_log1p(e.copy()) == pytest.approx(expected, rel=1e-14, abs=0)
    if length:
        e[-1] = np.nan
        assert np.isnan(fastmath.total_log1p(e))
