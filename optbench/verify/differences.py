"""Numerical derivatives: difference quotients of a problem's values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from optbench.core.errors import InputError
from optbench.problem import Problem
from optbench.verify.evaluation import Evaluate, chunk_length, gradients, values


def forward_difference(problem: Problem, x: Any, h: float | np.ndarray | None = None) -> np.ndarray:
    """Gradient by forward differences, (f(x + h e_i) - f(x)) / h.

    Parameters
    ----------
    x : array of shape (d,)
        On the host or on the problem's backend.
    h : float or array of shape (d,), optional
        Steps; sqrt(eps) max(1, |x_i|) by default, where truncation and rounding errors balance. Each is changed to what
        x_i + h differs from x_i by in the problem's precision.

    Returns
    -------
    g : array of shape (d,), NumPy float64

    References
    ----------
    Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), equation (8.1).
    """
    x = host_point(problem, x)
    return Differences(problem, x).slopes(np.arange(problem.dim), steps(problem, x, h, 1 / 2), (0, 1))


def centered_difference(problem: Problem, x: Any, h: float | np.ndarray | None = None) -> np.ndarray:
    """Gradient by centered differences, (f(x + h e_i) - f(x - h e_i)) / 2h.

    Parameters
    ----------
    x : array of shape (d,)
        On the host or on the problem's backend.
    h : float or array of shape (d,), optional
        Steps; cbrt(eps) max(1, |x_i|) by default. Each is changed to what the points really differ by in the problem's
        precision.

    Returns
    -------
    g : array of shape (d,), NumPy float64

    References
    ----------
    Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), equation (8.7).
    """
    x = host_point(problem, x)
    return Differences(problem, x).slopes(np.arange(problem.dim), steps(problem, x, h, 1 / 3), (-1, 1))


def hessian_difference(problem: Problem, x: Any, coordinates: np.ndarray | None = None) -> np.ndarray:
    """Columns of the Hessian by centered differences of the gradient.

    Parameters
    ----------
    x : array of shape (d,)
        On the host or on the problem's backend.
    coordinates : array of k ints, optional
        Which columns; all by default.

    Returns
    -------
    columns : array of shape (d, k), NumPy float64
    """
    x = host_point(problem, x)
    coordinates = np.arange(problem.dim) if coordinates is None else coordinates
    h = steps(problem, x, None, 1 / 3)[coordinates]
    low, high = x[coordinates] - h, x[coordinates] + h
    g = displaced(problem, x, np.repeat(coordinates, 2), np.stack([low, high], axis=1).ravel(), gradients)  # (2k, d)
    width = high.astype(float) - low
    columns: np.ndarray = ((g[1::2] - g[::2]) / width[:, None]).T
    return columns


def host_point(problem: Problem, x: Any) -> np.ndarray:
    """The point x on the host, (d,), in the problem's precision."""
    point: np.ndarray = problem.backend.to_host(problem.points(x)).astype(problem.backend.precision)
    if point.shape != (problem.dim,):
        raise InputError(f"differences are taken at one point of shape ({problem.dim},), not {point.shape}")
    return point


def steps(problem: Problem, x: np.ndarray, h: float | np.ndarray | None, power: float) -> np.ndarray:
    """Steps of differences at x, (d,): h, or eps^power max(1, |x_i|)."""
    h = problem.backend.eps**power * np.maximum(1, np.abs(x)) if h is None else np.broadcast_to(h, x.shape)
    return np.asarray(h, dtype=x.dtype)


def displaced(
    problem: Problem,
    x: np.ndarray,
    coordinates: np.ndarray,
    places: np.ndarray,
    evaluate: Evaluate,
) -> np.ndarray:
    """`evaluate` at `x` with coordinate `coordinates[k]` moved to `places[k]`, for all k, chunk by chunk; (k, ...)."""
    length = chunk_length(problem)
    parts = []
    for first in range(0, len(coordinates), length):
        moved = coordinates[first : first + length]
        points = np.tile(x, (len(moved), 1))  # (k, d)
        points[np.arange(len(moved)), moved] = places[first : first + length]
        parts.append(evaluate(problem, points))
    return np.concatenate(parts)


class Differences:
    """Difference quotients of a problem's values around one point `x` (host, shape (d,), in the problem's precision)."""

    def __init__(self, problem: Problem, x: np.ndarray) -> None:
        self.problem, self.x = problem, x
        self.f = float(values(problem, x[None])[0])

    def slopes(self, coordinates: np.ndarray, h: np.ndarray, stencil: tuple[int, int]) -> np.ndarray:
        """Slope at x of the parabola through f at x, x + stencil[0] h and x + stencil[1] h along each coordinate, (k,).

        (-1, 1) is the centered difference, (1, 2) and (-2, -1) are the one-sided ones of second order; (0, 1) has two
        points only and is the forward difference. The places are what the precision makes of them, so their distances
        a and b are exact.
        """
        first, second = stencil
        b, slope_b = self._secant(coordinates, second * h)
        if first == 0:
            return slope_b
        a, slope_a = self._secant(coordinates, first * h)
        slopes: np.ndarray = (b * slope_a - a * slope_b) / (b - a)
        return slopes

    def _secant(self, coordinates: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What x + h differs from x by along each coordinate, and the slope of the line through both values; (k,)."""
        x = self.x[coordinates]
        places = (x + h).astype(x.dtype)
        a = places.astype(float) - x
        return a, (displaced(self.problem, self.x, coordinates, places, values) - self.f) / a
