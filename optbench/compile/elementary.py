"""exp, log, log1p and tanh in plain arithmetic, as formulas to be traced and printed like those of rules and problems.

Calls of the C library prevent vector instructions. The functions here have no branches, tables or loops, so a loop
around them is vectorized. They get their operations as an argument, so the same text runs on symbols and on NumPy
arrays. Fused multiply-adds are written out, so all machines give the same digits. float32 needs no double arithmetic.
Infinities, NaN, signed zeros and subnormal numbers give what NumPy gives. Errors are in units in the last place (ulp).

References
----------
Cody & Waite, Software Manual for the Elementary Functions (1980): reduction of the argument by ln 2 in two parts.
Tang, Table-driven implementation of the logarithm function in IEEE floating-point arithmetic, ACM Trans. Math. Software
16 (1990), and fdlibm (Sun Microsystems 1993): how log(1 + f) keeps the digits of f.
Dekker, A floating-point technique for extending the available precision, Numer. Math. 18 (1971): sums of two parts.
Lanczos, Applied Analysis (1956), chapter 7: power series economized in Chebyshev polynomials.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple, Protocol

import numpy as np

LN2 = (0.6931471805599453, 2.3190468138462996e-17)  # the sum has 106 correct bits


class Operations(Protocol):
    """What the functions use besides + - * / and comparisons of values with values and Python floats.

    `fma` is a * b + c rounded once, `bits` gives the bits of a number as an integer of the same width, `number` the
    number with these bits. Integers support + << >> & | with each other and with Python integers, and wrap around.
    Arguments of `fma`, and one of the two that `where` chooses from, may be Python floats, also infinities and NaN.
    """

    def fma(self, a: Any, b: Any, c: Any) -> Any: ...
    def abs(self, x: Any) -> Any: ...
    def where(self, condition: Any, a: Any, b: Any) -> Any: ...
    def bits(self, x: Any) -> Any: ...
    def number(self, bits: Any) -> Any: ...


class Precision(NamedTuple):
    """A format of numbers, and the constants of the functions in it; polynomials have the highest power first."""

    mantissa: int  # bits, without the leading one
    bias: int  # of exponents
    round: float  # x + round has the whole number nearest to x in its lowest bits
    high: float  # ln 2 rounded to this format: x - n high is exact in a fused multiply-add if x / ln 2 is about n
    low: float  # ln 2 - high
    root: int  # bits of the square root of 1/2
    tail: tuple[float, ...]  # (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2
    rest: tuple[float, ...]  # (2 atanh(s) / s - 2) / s^2 in powers of s^2, for |s| <= (sqrt(2) - 1)^2


def _economized(series: list[float], low: float, high: float, degree: int) -> tuple[float, ...]:
    """A nearly best approximation on [low, high]: multiples of Chebyshev polynomials take the highest powers away."""
    u = np.array([2.0, -(low + high)]) / (high - low)  # (2,): runs from -1 to 1
    chebyshev = [np.ones(1), u]  # (k + 1,) each
    while len(chebyshev) < len(series):
        chebyshev.append(2 * np.convolve(u, chebyshev[-1]) - np.pad(chebyshev[-2], (2, 0)))
    p = np.array(series)  # (terms,), at the end (degree + 1,)
    for t in reversed(chebyshev[degree + 1 :]):
        p = (p - p[0] / t[0] * t)[1:]
    return tuple(p.tolist())


def _precision(mantissa: int, bias: int, tail_degree: int, rest_degree: int) -> Precision:
    unit = 2.0**mantissa
    high = round(LN2[0] * 2 * unit) / (2 * unit)
    root = ((bias - 1) << mantissa) + int((math.sqrt(2) - 1) * unit)
    tail = _economized([1 / math.factorial(k + 2) for k in reversed(range(16))], -0.347, 0.347, tail_degree)
    rest = _economized([2 / (2 * k + 3) for k in reversed(range(16))], 0.0, 0.0295, rest_degree)
    return Precision(mantissa, bias, 1.5 * unit, high, (LN2[0] - high) + LN2[1], root, tail, rest)


DOUBLE, SINGLE = _precision(52, 1023, 9, 6), _precision(23, 127, 5, 2)


def _polynomial(ops: Operations, coefficients: tuple[float, ...], x: Any) -> Any:
    return reduce(lambda p, c: ops.fma(p, x, c), coefficients)  # Horner's scheme


def _power(ops: Operations, shifted: Any, kind: Precision) -> Any:
    """2^n for the whole number n in shifted = n + round, -bias < n <= bias."""
    return ops.number(ops.bits(shifted + float(kind.bias)) << kind.mantissa)


def exp(ops: Operations, x: Any, kind: Precision) -> Any:
    """2^n e^r with n = round(x / ln 2) in two factors, so that the ends of the range are rounded once; within 1 ulp."""
    top, bottom = (float(math.ceil(bits * LN2[0])) for bits in (kind.bias + 1, kind.bias + kind.mantissa))
    x = ops.where(x > top, top, ops.where(x < -bottom, -bottom, x))  # NaN remains NaN, here and below
    n = ops.fma(x, 1 / LN2[0], kind.round) - kind.round
    half = ops.fma(x, 0.5 / LN2[0], kind.round)
    r = ops.fma(n, -kind.low, ops.fma(n, -kind.high, x))
    y = ops.fma(ops.fma(_polynomial(ops, kind.tail, r), r, 1.0), r, 1.0)
    return y * _power(ops, half, kind) * _power(ops, (n - (half - kind.round)) + kind.round, kind)


def tanh(ops: Operations, x: Any, kind: Precision) -> Any:
    """q / (q + 2) with q = e^(2 |x|) - 1 = 2^n (e^r - 1) + (2^n - 1), in which nothing cancels; within 2.5 ulp."""
    y = 2.0 * ops.abs(x)
    top = float(math.ceil((kind.mantissa + 4) * LN2[0]))  # from there on the result is 1
    y = ops.where(y > top, top, y)
    shifted = ops.fma(y, 1 / LN2[0], kind.round)
    n, power = shifted - kind.round, _power(ops, shifted, kind)
    r = ops.fma(n, -kind.high, y)  # exact; the low part of ln 2 changes the result by less than half an ulp
    linear = power * r
    q = ops.fma(_polynomial(ops, kind.tail, r) * r, linear, linear + (power - 1.0))
    sign = ops.bits(x) & -((2 * kind.bias + 2) << kind.mantissa)
    return ops.number(ops.bits(q / (q + 2.0)) | sign)


def _exponent(ops: Operations, bits: Any, kind: Precision) -> Any:
    """The exponent n in these bits: those of 2^mantissa + bias + n have bias + n in the lowest ones."""
    biased = ((bits >> kind.mantissa) & (2 * kind.bias + 1)) | ((kind.bias + kind.mantissa) << kind.mantissa)
    return ops.number(biased) - (2.0**kind.mantissa + kind.bias)


def _log(ops: Operations, n: Any, f: Any, kind: Precision) -> Any:
    """n ln 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2), where log(1 + f) = 2 atanh(s) with s = f / (2 + f)."""
    s, half = f / (2.0 + f), 0.5 * f
    z = s * s
    large = ops.fma(n, kind.high, f)
    lost = ops.fma(n, kind.high, -large) + f  # what rounding took from it
    small = ops.fma(half, f, z * _polynomial(ops, kind.rest, z))
    return large - ops.fma(half, f, -ops.fma(s, small, ops.fma(n, kind.low, lost)))


def log(ops: Operations, x: Any, kind: Precision) -> Any:
    """n ln 2 + log(m) with x = 2^n m and sqrt(1/2) <= m < sqrt(2); within 1 ulp."""
    subnormal = x < 2.0 ** (1 - kind.bias)  # these are scaled first
    bits = ops.bits(ops.where(subnormal, x * 2.0**64, x)) + ((kind.bias << kind.mantissa) - kind.root)
    n = _exponent(ops, bits, kind)
    m = ops.number((bits & ((1 << kind.mantissa) - 1)) + kind.root)
    y = _log(ops, ops.where(subnormal, n - 64.0, n), m - 1.0, kind)
    y = ops.where(x == 0.0, -math.inf, ops.where(x == math.inf, x, y))
    return ops.where(x >= 0.0, y, math.nan)


def log1p(ops: Operations, x: Any, kind: Precision) -> Any:
    """n ln 2 + log(1 + f) with 1 + x = 2^n (1 + f), where f = 2^-n x + (2^-n - 1) is rounded once; within 1.5 ulp."""
    huge = x > 2.0 ** (kind.bias - 2)  # there 2^-n is subnormal
    a = ops.where(huge, x * 2.0**-64, x)
    n = _exponent(ops, ops.bits(1.0 + a) + ((kind.bias << kind.mantissa) - kind.root), kind)
    scale = _power(ops, kind.round - n, kind)
    y = _log(ops, ops.where(huge, n + 64.0, n), ops.fma(a, scale, scale - 1.0), kind)
    y = ops.where(x == -1.0, -math.inf, ops.where(x == math.inf, x, y))
    return ops.where(x >= -1.0, ops.where(x == 0.0, x, y), math.nan)
