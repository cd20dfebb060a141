"""Gradients and Hessians against difference quotients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.problem import Problem
from optbench.verify.differences import Differences, hessian_difference, steps
from optbench.verify.errors import LIMITS, TINY, limit_with_rounding, norm, relative_error
from optbench.verify.evaluation import expect_shape, gradients, points_around_start, sample_coordinates

MAX_COORDINATES = 2000  # of the gradient; more are sampled
MAX_FORWARD = 200  # coordinates of the forward differences, which nothing rests on
MAX_COLUMNS = 200  # of the Hessian; more are sampled
MAX_RETRIED = 200  # coordinates near a kink; more than these is a wrong gradient, not a kink


# ---- the gradient ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientCheck:
    """The gradient at one point, compared with differences of the value.

    Attributes
    ----------
    point : int
        Number of the point.
    relative_error : float
        |g_num - g| / (|g_num| + |g|), Euclidean norms over the coordinates compared, after the retries.
    limit : float
        Largest relative error that passes: `Limits.gradient`, or the estimated rounding of the differences where that
        is larger.
    h : float
        Median step of the centered differences.
    worst : int
        Coordinate with the largest difference.
    worst_error : float
        That difference, on the scale of `relative_error`.
    centered_error, forward_error : float
        Relative errors of plain centered and forward differences, without retries; the latter, which is shown for
        comparison only, over at most 200 coordinates.
    coordinates : int
        Number of coordinates compared: all d, or a sample of 2000.
    retried : int
        Coordinates whose centered difference disagreed and was taken again with smaller or one-sided steps: kinks.
    """

    point: int
    relative_error: float
    limit: float
    h: float
    worst: int
    worst_error: float
    centered_error: float
    forward_error: float
    coordinates: int
    retried: int

    @property
    def passed(self) -> bool:
        return self.relative_error <= self.limit


def check_gradient(problem: Problem, points: int = 3, seed: int = 0) -> list[GradientCheck]:
    """Compare the gradient with centered differences of the value at random points around the start.

    Where the two disagree on a coordinate, as they do within h of a kink (ReLU), the difference is taken again with
    h/10 and h/100 and with one-sided stencils of second order, and the closest estimate counts. All of them converge to
    the derivative, so a wrong gradient stays wrong: no retry can come closer than the rounding of the values.

    Parameters
    ----------
    points : int
        Number of points.
    seed : int
        Seed of the points and of the sample of coordinates where d is above 2000.
    """
    rng = stream("check", seed)
    return [_check_gradient_at(problem, x, k, rng) for k, x in enumerate(points_around_start(problem, points, rng))]


def _check_gradient_at(problem: Problem, x: np.ndarray, point: int, rng: np.random.Generator) -> GradientCheck:
    coordinates = sample_coordinates(problem.dim, MAX_COORDINATES, rng)
    g = gradients(problem, x[None])[0, coordinates]
    differences = Differences(problem, x)
    h = steps(problem, x, None, 1 / 3)[coordinates]
    few = slice(None, None, math.ceil(len(coordinates) / MAX_FORWARD))
    forward = differences.slopes(coordinates[few], steps(problem, x, None, 1 / 2)[coordinates[few]], (0, 1))
    centered = differences.slopes(coordinates, h, (-1, 1))

    scale = norm(centered) + norm(g) + TINY
    rounding = problem.backend.eps * abs(differences.f) * norm(1 / h) / scale
    limit = limit_with_rounding(LIMITS[problem.backend.precision].gradient, rounding)
    best = centered.copy()
    error = np.abs(best - g)
    doubtful = np.flatnonzero(~(error <= limit * scale / math.sqrt(len(g))))
    doubtful = doubtful[np.argsort(-error[doubtful], kind="stable")][:MAX_RETRIED]
    if len(doubtful):
        retries = [(-1, 1, 10), (-1, 1, 100), *((a, b, k) for a, b in ((1, 2), (-2, -1)) for k in (1, 10, 100))]
        for a, b, shrink in retries:
            again = differences.slopes(coordinates[doubtful], h[doubtful] / shrink, (a, b))
            closer = np.abs(again - g[doubtful]) < error[doubtful]
            best[doubtful[closer]] = again[closer]
            error[doubtful] = np.abs(best - g)[doubtful]
    worst = int(np.argmax(error))  # a NaN counts as the largest
    return GradientCheck(
        point=point,
        relative_error=relative_error(best, g),
        limit=limit,
        h=float(np.median(h)),
        worst=int(coordinates[worst]),
        worst_error=float(error[worst] / scale),
        centered_error=relative_error(centered, g),
        forward_error=relative_error(forward, g[few]),
        coordinates=len(coordinates),
        retried=len(doubtful),
    )


# ---- the Hessian -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HessianCheck:
    """The Hessian and its products with vectors at one point, compared with differences of the gradient.

    Attributes
    ----------
    point : int
        Number of the point.
    relative_error : float or None
        |H_num - H| / (|H_num| + |H|), Frobenius norms over the columns compared; None without a Hessian.
    asymmetry : float or None
        |H - H^T| / |H|, Frobenius norms; None without a Hessian.
    product_error : float
        |p - H v| / (|p| + |H v|) of p = hvp(x, v) for a random v; H v by differences where there is no Hessian.
    limit : float
        Largest `relative_error` that passes, and `product_error` too where that is measured by differences.
    columns : int
        Number of columns compared: all d, or a sample of 200.
    """

    point: int
    relative_error: float | None
    asymmetry: float | None
    product_error: float
    limit: float
    columns: int


def check_hessian(problem: Problem, points: int = 2, seed: int = 0) -> list[HessianCheck]:
    """Compare the Hessian, and products with it, with centered differences of the gradient.

    Parameters
    ----------
    points : int
        Number of random points around the start.
    seed : int
        Seed of the points, of the vectors and of the sample of columns where d is above 200.

    Raises
    ------
    InputError
        If the problem offers neither a Hessian nor products with it.
    """
    if not problem.has_hvp:
        raise InputError(f"{problem.spec} has no Hessian")
    rng = stream("check", seed)
    return [_check_hessian_at(problem, x, k, rng) for k, x in enumerate(points_around_start(problem, points, rng))]


def _check_hessian_at(problem: Problem, x: np.ndarray, point: int, rng: np.random.Generator) -> HessianCheck:
    backend = problem.backend
    limits = LIMITS[backend.precision]
    columns = sample_coordinates(problem.dim, MAX_COLUMNS, rng)
    v = rng.standard_normal(problem.dim)
    v = (v / norm(v)).astype(x.dtype)
    product = backend.to_host(problem.hvp(backend.asarray(x), backend.asarray(v))).astype(float)
    expect_shape("hvp", product, (problem.dim,))
    h = backend.eps ** (1 / 3) * max(1.0, norm(x))
    g = gradients(problem, np.stack([x + np.asarray(h, x.dtype) * v, x - np.asarray(h, x.dtype) * v]))
    rounding = backend.eps * norm(g[0]) / h
    if not problem.has_hessian:
        expected = (g[0] - g[1]) / (2 * h)
        limit = limit_with_rounding(limits.hessian, rounding / (norm(expected) + norm(product) + TINY))
        return HessianCheck(point, None, None, relative_error(product, expected), limit, 0)
    matrix = backend.to_host(problem.hessian(backend.asarray(x))).astype(float)
    expect_shape("hessian", matrix, (problem.dim, problem.dim))
    expected = hessian_difference(problem, x, columns)
    rounding *= math.sqrt(len(columns)) / (norm(expected) + norm(matrix[:, columns]) + TINY)
    return HessianCheck(
        point=point,
        relative_error=relative_error(matrix[:, columns], expected),
        asymmetry=norm(matrix - matrix.T) / (norm(matrix) + TINY),
        product_error=relative_error(product, matrix @ v),
        limit=limit_with_rounding(limits.hessian, rounding),
        columns=len(columns),
    )
