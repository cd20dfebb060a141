"""An array module of single numbers for compiled formulas: elementary functions in plain arithmetic.

Calls of the C library prevent vector instructions, and NumPy's own loops need AVX-512 to be fast. The functions here are
branch-free polynomials, so a loop around them is vectorized on all processors. They take float64 or float32, compute in
float64 and are within 2.5 units in the last place over the whole range, with subnormal numbers, infinities, NaN and signed
zeros. Only compiled loops can use them. This module needs Numba, and is imported when something is compiled.

References
----------
Cody & Waite, Software Manual for the Elementary Functions (1980): reduction of the argument by ln 2 in two parts.
Tang, Table-driven implementation of the logarithm function in IEEE floating-point arithmetic, ACM Trans. Math. Software 16
(1990), and fdlibm (Sun Microsystems 1993): how log(1 + f) keeps the digits of f.
Lanczos, Applied Analysis (1956), chapter 7: power series economized in Chebyshev polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

# `contract` fuses a product and a sum; `reassoc` would undo the rounding by ROUND and the sums of two parts
number = numba.njit(error_model="numpy", fastmath={"contract"})


@intrinsic
def _bits(context, x):
    """The bits of a float64 as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(64)
    )


@intrinsic
def _float(context, bits):
    """The float64 of these bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.DoubleType()
    )


def _economized(series: Sequence[float], low: float, high: float, degree: int) -> list[float]:
    """Coefficients of a nearly best approximation of a polynomial by one of lower degree on [low, high]."""
    near = Polynomial(series).convert(domain=[low, high], kind=Chebyshev).truncate(degree + 1)
    return [float(c) for c in near.convert(kind=Polynomial).coef]


ROUND = 1.5 * 2.0**52  # x + ROUND has the whole number nearest to x in its lowest bits
LN2_HIGH, LN2_LOW = (
    0.693145751953125,
    1.42860682030941723212e-6,
)  # the first has 17 bits, so its product with any exponent is exact
PER_LN2 = 1 / math.log(2)
SIGN, MANTISSA, EXPONENTS = -(2**63), 2**52 - 1, 2**12 - 1
ROOT = 0x3FE6A09E667F3BCD  # bits of the square root of 1/2
WHOLE = 0x4330000000000000  # bits of 2^52; with a whole number n in the lowest bits, those of 2^52 + n
BIAS = 1023  # of exponents

# (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, and (2 atanh(s) / s - 2) / s^2 as a series in s^2 for |s| <= (sqrt(2) - 1)^2
E0, E1, E2, E3, E4, E5, E6, E7, E8, E9 = _economized([1 / math.factorial(k + 2) for k in range(16)], -0.347, 0.347, 9)
A0, A1, A2, A3, A4, A5, A6, A7 = _economized([2 / (2 * k + 3) for k in range(16)], 0.0, 0.0295, 7)


@number
def _tail(r):
    """(e^r - 1 - r) / r^2 for |r| <= ln(2)/2."""
    p = E9 * r + E8
    p = p * r + E7
    p = p * r + E6
    p = p * r + E5
    p = p * r + E4
    p = p * r + E3
    p = p * r + E2
    p = p * r + E1
    return p * r + E0


@number
def _rest(x, n):
    """x - n ln 2."""
    return (x - n * LN2_HIGH) - n * LN2_LOW


@number
def exp(x):
    """2^n e^r with n = round(x / ln 2), in two factors 2^h 2^(n - h), so that the ends of the range are rounded once."""
    x = 710.0 if x > 710.0 else x  # NaN remains NaN, here and below
    x = -746.0 if x < -746.0 else x
    n = (x * PER_LN2 + ROUND) - ROUND
    half = x * (0.5 * PER_LN2) + ROUND
    other = (n - (half - ROUND)) + (ROUND + BIAS)
    r = _rest(x, n)
    return ((_tail(r) * r + 1.0) * r + 1.0) * _float(_bits(half + BIAS) << 52) * _float(_bits(other) << 52)


@number
def tanh(x):
    """q / (q + 2) with q = e^(2 |x|) - 1 = 2^n (e^r - 1) + (2^n - 1), in which nothing cancels."""
    y = 2.0 * abs(x)
    y = 40.0 if y > 40.0 else y  # from about 38 on the result is 1
    shifted = y * PER_LN2 + ROUND
    r = _rest(y, shifted - ROUND)
    power = _float(_bits(shifted + BIAS) << 52)
    q = power * (_tail(r) * (r * r) + r) + (power - 1.0)
    return _float(_bits(q / (q + 2.0)) | (_bits(x) & SIGN))


@number
def _log(n, f):
    """n ln 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2), where log(1 + f) = 2 atanh(s) with s = f / (2 + f)."""
    s = f / (2.0 + f)
    z = s * s
    p = A7 * z + A6
    p = p * z + A5
    p = p * z + A4
    p = p * z + A3
    p = p * z + A2
    p = p * z + A1
    p = p * z + A0
    square = 0.5 * f * f
    return n * LN2_HIGH - ((square - (s * (square + p * z) + n * LN2_LOW)) - f)


@number
def log(x):
    """n ln 2 + log(m) with x = 2^n m and sqrt(1/2) <= m < sqrt(2)."""
    small = x < 2.0**-1022  # subnormal numbers are scaled first
    bits = _bits(x * 2.0**54 if small else x) - ROOT + (BIAS << 52)
    n = _float(((bits >> 52) & EXPONENTS) | WHOLE) - (2.0**52 + BIAS)
    m = _float((bits & MANTISSA) + ROOT)
    y = _log(n - 54.0 if small else n, m - 1.0)
    y = x if x == np.inf else y
    y = -np.inf if x == 0.0 else y
    return y if x >= 0.0 else np.nan


@number
def log1p(x):
    """n ln 2 + log(1 + f) with 1 + x = 2^n (1 + f), where f = 2^-n x + (2^-n - 1) is rounded once."""
    huge = x > 1e300  # there 2^-n is subnormal
    a = x * 2.0**-64 if huge else x
    n = ((_bits(1.0 + a) - ROOT + (BIAS << 52)) >> 52) & EXPONENTS
    scale = _float((2 * BIAS - n) << 52)
    exponent = _float(n | WHOLE) - (2.0**52 + BIAS)
    y = _log(exponent + 64.0 if huge else exponent, a * scale + (scale - 1.0))
    y = x if x == np.inf or x == 0.0 else y
    y = -np.inf if x == -1.0 else y
    return y if x >= -1.0 else np.nan


inf, nan = np.inf, np.nan


@number
def sqrt(x):
    return np.sqrt(x)


@number
def abs(x):
    return np.abs(x)


@number
def sign(x):
    y = 1.0 if x > 0 else x
    return -1.0 if x < 0 else y


@number
def maximum(a, b):
    """The larger number, or NaN if either is, as in NumPy."""
    return a if a > b or a != a else b


@number
def minimum(a, b):
    """The smaller number, or NaN if either is."""
    return a if a < b or a != a else b


@number
def where(condition, a, b):
    return a if condition else b


# ---- reductions of rows ----------------------------------------------------------------------------------------------


@numba.njit(error_model="numpy", fastmath={"reassoc", "contract"})
def total(a):
    """Sum of a row, in any order."""
    s = 0.0
    for i in range(a.shape[0]):
        s += a[i]
    return s


@number
def _product(rows):
    """(1 + a)(1 + b) = 1 + (a + b + a b): all rows multiplied into the first."""
    for j in range(1, rows.shape[0]):
        for i in range(rows.shape[1]):
            rows[0, i] = rows[0, i] + (rows[j, i] + rows[0, i] * rows[j, i])


@number
def total_log1p(a):
    """Sum of log1p over a row of numbers in [0, 1], which is overwritten.

    Factors 1 + a are multiplied into eight products, whose logarithms are summed. All terms are positive, so small numbers
    keep their digits.
    """
    s = 0.0
    for first in range(0, a.shape[0], 4096):  # 512 factors of at most 2 do not overflow
        part = a[first : first + 4096]
        count = part.shape[0]
        if count >= 32:
            whole = count - count % 32
            _product(part[:whole].reshape(whole // 32, 32))
            left, right = part[: count - whole], part[whole:]
            for i in range(left.shape[0]):
                left[i] = left[i] + (right[i] + left[i] * right[i])
            _product(part[:32].reshape(4, 8))
            count = 8
        for i in range(count):
            part[i] = log1p(part[i])
        s += total(part[:count])
    return s
