"""Gradients and Hessians against difference quotients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.problem import Problem
from optbench.verify.coordinates import coordinate_errors
from optbench.verify.evaluation import Evaluate, gradients, in_chunks, points_around_start, to_host, values
from optbench.verify.findings import TINY, Finding, limits, measurement, norm, not_offered, relative_error

MAX_COORDINATES = 2000  # of the gradient; of more, a sample is checked
MAX_FORWARD = 200  # coordinates of the forward differences, which are shown only
MAX_COLUMNS = 200  # of the Hessian; of more, a sample is checked
MAX_RETRIED = 200  # coordinates near a kink; more of them mean a wrong gradient
FORWARD, CENTERED = (0, 1), (-1, 1)  # stencils of differences
ROUNDING = 4  # errors up to this multiple of the estimated rounding pass, ...
LARGEST_LIMIT = 0.1  # ... but none above this limit; relative errors are at most 1


# ---- differences -----------------------------------------------------------------------------------------------------


def gradient_difference(
    problem: Problem, x: Any, h: float | np.ndarray | None = None, stencil: tuple[int, int] = CENTERED
) -> np.ndarray:
    """Gradient by differences of the value.

    Parameters
    ----------
    x : array of shape (d,)
        On the host or on the problem's backend.
    h : float or array of shape (d,), optional
        Steps; by default cbrt(eps) max(1, |x_i|), for `FORWARD` sqrt(eps) max(1, |x_i|), which balance truncation and
        rounding errors. Quotients divide by the exact distance of the rounded points.
    stencil : (int, int)
        `CENTERED`, `FORWARD` or another, see `Differences.slopes`.

    Returns
    -------
    g : array of shape (d,), NumPy float64

    References
    ----------
    Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), equations (8.1) and (8.7).
    """
    x = host_point(problem, x)
    h = steps(problem, x, 1 / 2 if stencil == FORWARD else 1 / 3) if h is None else np.full_like(x, h)
    return Differences(problem, x).slopes(np.arange(problem.dim), h, stencil)


def hessian_difference(problem: Problem, x: Any, coordinates: np.ndarray | None = None) -> np.ndarray:
    """Columns of the Hessian at x (d,) by centered differences of the gradient; (d, k) on the host, all by default."""
    x = host_point(problem, x)
    coordinates = np.arange(problem.dim) if coordinates is None else coordinates
    h = steps(problem, x, 1 / 3)[coordinates]
    low, high = x[coordinates] - h, x[coordinates] + h
    places = np.stack([low, high], axis=1).ravel()
    g = evaluate_displaced(problem, x, np.repeat(coordinates, 2), places, gradients)  # (2k, d)
    width = high.astype(float) - low
    return np.asarray(((g[1::2] - g[::2]) / width[:, None]).T)


def host_point(problem: Problem, x: Any) -> np.ndarray:
    """The point x on the host, (d,), in the problem's precision."""
    point: np.ndarray = problem.backend.to_host(problem.points(x)).astype(problem.backend.precision)
    if point.shape != (problem.dim,):
        raise InputError(f"differences are taken at one point of shape ({problem.dim},), not {point.shape}")
    return point


def steps(problem: Problem, x: np.ndarray, power: float) -> np.ndarray:
    """Steps of differences at x, (d,): eps^power max(1, |x_i|)."""
    return np.asarray(problem.backend.eps**power * np.maximum(1, np.abs(x)), dtype=x.dtype)


def evaluate_displaced(
    problem: Problem, x: np.ndarray, coordinates: np.ndarray, places: np.ndarray, evaluate: Evaluate
) -> np.ndarray:
    """`evaluate` at `x` with coordinate `coordinates[k]` moved to `places[k]`, for all k, chunk by chunk; (k, ...)."""

    def moved(problem: Problem, k: np.ndarray) -> np.ndarray:
        points = np.tile(x, (len(k), 1))  # (k, d)
        points[np.arange(len(k)), coordinates[k]] = places[k]
        return evaluate(problem, points)

    return in_chunks(problem, np.arange(len(coordinates)), moved)


class Differences:
    """Difference quotients of a problem's values around one point `x` (host, shape (d,), in the problem's precision)."""

    def __init__(self, problem: Problem, x: np.ndarray) -> None:
        self.problem, self.x = problem, x
        self.f = float(values(problem, x[None])[0])

    def slopes(self, coordinates: np.ndarray, h: np.ndarray, stencil: tuple[int, int]) -> np.ndarray:
        """Slope at x of the parabola through f at x, x + stencil[0] h and x + stencil[1] h along each coordinate, (k,).

        (-1, 1) is the centered difference, (1, 2) and (-2, -1) are one-sided differences of second order, and (0, 1) is
        the forward difference. The distances a and b are those of the rounded points.
        """
        first, second = stencil
        b, slope_b = self._secant(coordinates, second * h)
        if first == 0:
            return slope_b
        a, slope_a = self._secant(coordinates, first * h)
        return np.asarray((b * slope_a - a * slope_b) / (b - a))

    def _secant(self, coordinates: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances of x and the rounded x + h along each coordinate, and slopes of the secants; each (k,)."""
        x = self.x[coordinates]
        places = (x + h).astype(x.dtype)
        a = places.astype(float) - x
        return a, (evaluate_displaced(self.problem, self.x, coordinates, places, values) - self.f) / a


def limit_with_rounding(limit: float, rounding: float) -> float:
    """The limit of an error, raised to a multiple of the estimated rounding where that is larger."""
    return min(max(limit, ROUNDING * rounding), LARGEST_LIMIT)


def sample_coordinates(dim: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """All coordinates 0 ... dim-1, or `most` of them at random, in ascending order."""
    return np.sort(rng.choice(dim, most, replace=False)) if dim > most else np.arange(dim)


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
        Relative errors of centered and forward differences without retries, for comparison; the latter over at most 200
        coordinates.
    coordinates : int
        Number of coordinates compared: all d, or a sample of 2000.
    retried : int
        Coordinates whose centered difference disagreed, and was repeated with smaller or one-sided steps.
    wrong : int
        Coordinate with the largest error by extrapolated differences, relative to its limit.
    wrong_error, wrong_limit : float
        Relative error of this coordinate, and the largest that passes.
    unresolved : array of bool, shape (d,)
        Coordinates so small that a relative error of 1e-6 could go unnoticed.
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
    wrong: int
    wrong_error: float
    wrong_limit: float
    unresolved: np.ndarray = field(compare=False)

    @property
    def passed(self) -> bool:
        return self.relative_error <= self.limit and self.wrong_error <= self.wrong_limit


def check_gradient(problem: Problem, points: int = 3, seed: int = 0) -> list[GradientCheck]:
    """Compare the gradient with centered differences of the value at random points around the start.

    If they disagree on a coordinate, as they do within h of a kink (ReLU), the difference is repeated with h/10 and h/100
    and with one-sided stencils of second order, and the closest estimate counts. All of them converge to the derivative,
    so a wrong gradient still fails. In addition every coordinate is compared with extrapolated differences, whose own
    errors are the limit: a relative error of 1e-6 in one coordinate fails, unless the coordinate is too small beside the
    rounding of the value.

    Parameters
    ----------
    problem : Problem
        Any problem, also of a plug-in.
    points : int
        Number of points, at least 1.
    seed : int
        Seed of the points and of the sample of coordinates where d is above 2000.

    Returns
    -------
    list of GradientCheck
        Relative error, limit and worst coordinate for each point.

    Examples
    --------
    >>> [check.passed for check in optbench.check_gradient(optbench.make_problem("beale"), points=2)]
    [True, True]
    """
    rng = stream("check", seed)
    return [_check_gradient_at(problem, x, k, rng) for k, x in enumerate(points_around_start(problem, points, rng))]


def _check_gradient_at(problem: Problem, x: np.ndarray, point: int, rng: np.random.Generator) -> GradientCheck:
    coordinates = sample_coordinates(problem.dim, MAX_COORDINATES, rng)
    whole = gradients(problem, x[None])[0]  # (d,)
    each = coordinate_errors(problem, x, whole, rng)
    g = whole[coordinates]
    differences = Differences(problem, x)
    h = steps(problem, x, 1 / 3)[coordinates]
    few = slice(None, None, math.ceil(len(coordinates) / MAX_FORWARD))
    forward = differences.slopes(coordinates[few], steps(problem, x, 1 / 2)[coordinates[few]], FORWARD)
    centered = differences.slopes(coordinates, h, CENTERED)

    scale = norm(centered) + norm(g) + TINY
    rounding = problem.backend.eps * abs(differences.f) * norm(1 / h) / scale
    limit = limit_with_rounding(limits(problem).gradient, rounding)
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
    wrong = each.worst
    size = each.size[wrong] + each.error[wrong] + TINY
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
        wrong=wrong,
        wrong_error=float(each.error[wrong] / size),
        wrong_limit=float(each.limit[wrong] / size),
        unresolved=each.unresolved,
    )


def gradient_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """The finding of `check_gradient` at its worst point."""
    checks = check_gradient(problem, seed=seed)
    worst = max(checks, key=lambda c: np.nan_to_num(c.relative_error / c.limit, nan=np.inf))
    note = f"{_part(worst.coordinates, problem.dim)} coordinates at {len(checks)} points, h = {worst.h:.1e}"
    note += f", forward {worst.forward_error:.1e}"
    retried = sum(c.retried for c in checks)
    if retried:
        note += f", {retried} retried near a kink" if worst.relative_error <= worst.limit else f", {retried} retried"
    if not worst.relative_error <= worst.limit:
        note += f", worst coordinate {worst.worst}"
    yield measurement("gradient", worst.relative_error, worst.limit, note)
    worst = max(checks, key=lambda c: np.nan_to_num(c.wrong_error / c.wrong_limit, nan=np.inf))
    resolved = problem.dim - int(np.logical_and.reduce([c.unresolved for c in checks]).sum())
    note = f"relative error of each coordinate; 1e-6 would be found in {_part(resolved, problem.dim)}"
    if not worst.wrong_error <= worst.wrong_limit:
        note += f", wrong coordinate {worst.wrong}"
    yield measurement("each coordinate", worst.wrong_error, worst.wrong_limit, note)


def _part(count: int, dim: int) -> str:
    return f"{count} of {dim}" if count < dim else f"all {dim}"


# ---- the Hessian -----------------------------------------------------------------------------------------------------


def hessian_findings(problem: Problem, seed: int = 0, points: int = 2) -> Iterator[Finding]:
    """Compare the Hessian, and products with it, with centered differences of the gradient at points around the start."""
    if not problem.has_hvp:
        defined = type(problem).hessian is not Problem.hessian
        why = f"d is above {problem.max_hessian_dim}" if defined else "no second derivatives"
        yield from (not_offered(name, why) for name in ("hessian", "hessian symmetry", "hvp"))
        return
    rng = stream("check", seed)
    rows = np.array([_hessian_errors(problem, x, rng) for x in points_around_start(problem, points, rng)])
    error, limit = rows[np.argmax(rows[:, 0] / rows[:, 1]), :2].tolist()  # a NaN counts as the largest
    if not problem.has_hessian:
        yield from (not_offered(name, "products only") for name in ("hessian", "hessian symmetry"))
        yield measurement("hvp", error, limit, "against differences of the gradient")
        return
    part = _part(min(MAX_COLUMNS, problem.dim), problem.dim)
    yield measurement("hessian", error, limit, f"{part} columns at {points} points")
    yield measurement("hessian symmetry", rows[:, 2].max(), limits(problem).symmetry, "|H - H^T| / |H|")
    yield measurement("hvp", rows[:, 3].max(), limits(problem).stack, "against the Hessian")


def _hessian_errors(problem: Problem, x: np.ndarray, rng: np.random.Generator) -> tuple[float, ...]:
    """Errors at the point x, (d,).

    The first is |H_num - H| / (|H_num| + |H|), Frobenius norms over at most 200 columns, and the second the largest that
    passes. Then follow |H - H^T| / |H|, and |p - H v| / (|p| + |H v|) of p = hvp(x, v) for a random v. Without a Hessian,
    there are two: the last, with H v by differences, and the largest that passes.
    """
    backend = problem.backend
    columns = sample_coordinates(problem.dim, MAX_COLUMNS, rng)
    v = rng.standard_normal(problem.dim)
    v = (v / norm(v)).astype(x.dtype)
    product = to_host(problem, "hvp", problem.hvp(backend.asarray(x), backend.asarray(v)), (problem.dim,))
    h = backend.eps ** (1 / 3) * max(1.0, norm(x))
    g = gradients(problem, np.stack([x + np.asarray(h, x.dtype) * v, x - np.asarray(h, x.dtype) * v]))
    rounding = backend.eps * norm(g[0]) / h
    if not problem.has_hessian:
        expected = (g[0] - g[1]) / (2 * h)
        rounding /= norm(expected) + norm(product) + TINY
        return relative_error(product, expected), limit_with_rounding(limits(problem).hessian, rounding)
    matrix = to_host(problem, "hessian", problem.hessian(backend.asarray(x)), (problem.dim, problem.dim))
    expected = hessian_difference(problem, x, columns)
    rounding *= math.sqrt(len(columns)) / (norm(expected) + norm(matrix[:, columns]) + TINY)
    return (
        relative_error(matrix[:, columns], expected),
        limit_with_rounding(limits(problem).hessian, rounding),
        norm(matrix - matrix.T) / (norm(matrix) + TINY),
        relative_error(product, matrix @ v),
    )
