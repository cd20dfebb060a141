"""The stated optimum and constants of a problem."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from optbench.core.random import stream
from optbench.problem import Optimum, Problem
from optbench.verify.evaluation import directions, expect_shape, gradients, in_chunks, points_around_start, values
from optbench.verify.findings import TINY, Finding, limits, measurement, norm, not_offered

ROUNDING = 64 * float(np.finfo(float).eps)  # by which a proved bound may be below the stated one


def optimum_findings(problem: Problem, seed: int = 0, points: int = 8) -> Iterator[Finding]:
    """Check that the stated optimum is stationary, has the stated value, and that no lower value is found.

    Lower values are searched at distances 0.001 to 1 from x*, and by a short descent from points around the start, with
    `points` random points each. Errors of values are relative to the larger of |f*| and the gap at the points around the
    start; the gradient at x* is relative to the largest gradient there.
    """
    optimum = problem.optimum
    if optimum is None:
        yield not_offered("optimum", "f* is not known")
        return
    rng = stream("check", seed)
    x = np.stack(list(points_around_start(problem, points, rng)))  # (points, d)
    at_start = in_chunks(problem, x, values)
    around = _descend(problem, x, at_start)
    steepest = float(np.max(np.linalg.norm(in_chunks(problem, x, gradients), axis=1)))
    scale = max(abs(optimum.f), float(np.max(at_start)) - optimum.f, TINY)
    if optimum.x is None:
        yield not_offered("x*", "f* is known, a minimizer is not")
    else:
        x_star = np.asarray(optimum.x, dtype=problem.backend.precision)
        expect_shape("x*", x_star, (problem.dim,))
        slope = norm(gradients(problem, x_star[None])[0]) / (steepest + TINY)
        yield measurement("gradient at x*", slope, limits(problem).x_star, "relative to the gradient at the start")
        error = abs(float(values(problem, x_star[None])[0]) - optimum.f) / scale
        yield measurement("f(x*) - f*", error, limits(problem).f_star, optimum.method)
        near = [x_star + r * directions(problem, points, rng) for r in (1e-3, 1e-2, 1e-1, 1.0)]
        around = np.concatenate([around, in_chunks(problem, np.concatenate(near), values)])
    yield _lower_finding(problem, optimum, scale)
    undercut = max(optimum.lower - float(np.min(around)), 0.0) / scale
    note = f"{len(around)} values around x* and after a short descent"
    yield measurement("f >= f*", undercut, limits(problem).f_star, note)


def _lower_finding(problem: Problem, optimum: Optimum, scale: float) -> Finding:
    """Whether the lower bound can be proved here: by f(x*) - |g|^2 / (2 mu), if f is strongly convex with the stated mu."""
    mu, name = problem.strong_convexity, "lower bound of f*"
    width = f"f* = {optimum.f:.12g} within {optimum.f - optimum.lower:.1e}"
    unproved = Finding(name, None, None, None, f"{width}, stated by the problem, not proved ({optimum.method})")
    if optimum.x is None or not mu:
        return unproved
    x = optimum.x[None]
    f, g = float(values(problem.host, x)[0]), gradients(problem.host, x)[0]
    bound = f - float(g @ g) / (2 * mu)
    excess = max(optimum.lower - bound, 0.0) / scale
    if excess > ROUNDING:
        return unproved
    note = f"{width}; f(x*) - |g|^2 / (2 mu) proves it, if mu = {mu:.6g} holds"
    return measurement(name, excess, ROUNDING, note)


def _descend(problem: Problem, x: np.ndarray, f: np.ndarray, steps: int = 100) -> np.ndarray:
    """The values (k,) that normalized gradient descent reaches from points (k, d); steps that increase f are halved."""
    length = np.full((len(x), 1), 0.5, dtype=x.dtype)
    for _ in range(steps):
        g = in_chunks(problem, x, gradients)
        z = (x - length * g / (np.linalg.norm(g, axis=1, keepdims=True) + TINY)).astype(x.dtype)
        f_z = in_chunks(problem, z, values)
        down = ~(f_z >= f)  # accepts a NaN, so that it is reported
        x, f = np.where(down[:, None], z, x), np.where(down, f_z, f)
        length = np.where(down[:, None], 1.5 * length, 0.5 * length).astype(x.dtype)
    return f


def constants_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """Search for curvatures outside the stated range from `strong_convexity` to `smoothness`."""
    L, mu = problem.smoothness, problem.strong_convexity
    largest, smallest = curvatures(problem, seed) if L is not None or mu is not None else (0.0, 0.0)
    limit = limits(problem).constants
    if L is None:
        yield not_offered("smoothness L", "not known")
    else:
        note = f"L = {L:.6g}, largest curvature met {largest:.6g}"
        yield measurement("smoothness L", max(largest - L, 0.0) / (L + TINY), limit, note)
    if mu is None:
        yield not_offered("convexity mu", "not known to be convex")
    else:
        note = f"mu = {mu:.6g}, smallest curvature met {smallest:.6g}"
        yield measurement("convexity mu", max(mu - smallest, 0.0) / (largest + TINY), limit, note)


def curvatures(problem: Problem, seed: int = 0, points: int = 4, iterations: int = 20) -> tuple[float, float]:
    """The largest and the smallest curvature found along unit directions v at random points around the start.

    The largest value of |g(x + v) - g(x)| is a lower bound of L, and the smallest of v^T (g(x + v) - g(x)) an upper bound
    of mu. Power iteration on differences of the gradient turns v towards the largest curvature; with the differences
    subtracted from L v it turns v towards the smallest. So this can refute constants, but not prove them.
    """
    rng = stream("check", seed)
    x = np.stack(list(points_around_start(problem, points, rng)))  # (points, d)
    g = in_chunks(problem, x, gradients)
    start = directions(problem, points, rng)
    largest, smallest = 0.0, math.inf
    for upwards in (True, False):
        v = start
        for _ in range(iterations):
            moved = (x + v).astype(x.dtype)
            v = moved.astype(float) - x  # the rounded step
            length = np.linalg.norm(v, axis=1, keepdims=True)  # (points, 1)
            change = in_chunks(problem, moved, gradients) - g
            # np.maximum, unlike max, keeps a NaN
            largest = float(np.maximum(largest, np.max(np.linalg.norm(change, axis=1) / length[:, 0])))
            smallest = float(np.minimum(smallest, np.min(np.sum(v * change, axis=1) / length[:, 0] ** 2)))
            turned = change if upwards else (problem.smoothness or largest) * v - change
            size = np.linalg.norm(turned, axis=1, keepdims=True)
            v = np.where(size > 0, turned / np.where(size > 0, size, 1.0), start)
    return largest, smallest
