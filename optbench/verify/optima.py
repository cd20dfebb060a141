"""The stated optimum and constants of a problem."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.problem import Problem
from optbench.verify.errors import TINY, norm
from optbench.verify.evaluation import directions, expect_shape, gradients, in_chunks, points_around_start, values


@dataclass(frozen=True)
class OptimumCheck:
    """The stated optimum, compared with what the problem evaluates to.

    Attributes
    ----------
    gradient_norm : float or None
        |g(x*)|, divided by the largest |g| at points around the start; None without x*.
    value_error : float or None
        |f(x*) - f*|, divided by the larger of |f*| and the gap at the points around the start; None without x*.
    interval : float
        Width f* - lower of the certified interval on the same scale; negative if lower is above f*.
    undercut : float
        How far the lowest of many values, at distances 0.001 to 1 around x* and at the end of a descent from points around
        the start, lies below `lower`, on the same scale; 0 if it does not.
    values : int
        Number of these values.
    """

    gradient_norm: float | None
    value_error: float | None
    interval: float
    undercut: float
    values: int


def check_optimum(problem: Problem, points: int = 8, seed: int = 0) -> OptimumCheck:
    """Check the stated optimum: a stationary point, the stated value, and nothing below it.

    Parameters
    ----------
    points : int
        Number of random points around the start, and at each distance around x*.
    seed : int
        Seed of the points.

    Raises
    ------
    InputError
        If the problem states no optimum.
    """
    optimum = problem.optimum
    if optimum is None:
        raise InputError(f"{problem.spec} states no optimum")
    rng = stream("check", seed)
    x = np.stack(list(points_around_start(problem, points, rng)))  # (points, d)
    at_start = in_chunks(problem, x, values)
    around = _descend(problem, x, at_start)
    steepest = float(np.max(np.linalg.norm(in_chunks(problem, x, gradients), axis=1)))
    scale = max(abs(optimum.f), float(np.max(at_start)) - optimum.f, TINY)
    gradient_norm = value_error = None
    if optimum.x is not None:
        x_star = np.asarray(optimum.x, dtype=problem.backend.precision)
        expect_shape("x*", x_star, (problem.dim,))
        gradient_norm = norm(gradients(problem, x_star[None])[0]) / (steepest + TINY)
        value_error = abs(float(values(problem, x_star[None])[0]) - optimum.f) / scale
        near = [x_star + r * directions(problem, points, rng) for r in (1e-3, 1e-2, 1e-1, 1.0)]
        around = np.concatenate([around, in_chunks(problem, np.concatenate(near), values)])
    undercut = max(optimum.lower - float(np.min(around)), 0.0) / scale
    return OptimumCheck(gradient_norm, value_error, (optimum.f - optimum.lower) / scale, undercut, len(around))


def _descend(problem: Problem, x: np.ndarray, f: np.ndarray, steps: int = 100) -> np.ndarray:
    """The values (k,) that normalized gradient descent reaches from points (k, d); a step that goes up is halved."""
    length = np.full((len(x), 1), 0.5, dtype=x.dtype)
    for _ in range(steps):
        g = in_chunks(problem, x, gradients)
        z = (x - length * g / (np.linalg.norm(g, axis=1, keepdims=True) + TINY)).astype(x.dtype)
        f_z = in_chunks(problem, z, values)
        down = ~(f_z >= f)  # keeps what is not a number, so that it is seen
        x, f = np.where(down[:, None], z, x), np.where(down, f_z, f)
        length = np.where(down[:, None], 1.5 * length, 0.5 * length).astype(x.dtype)
    return f


@dataclass(frozen=True)
class ConstantsCheck:
    """The curvatures met along random and iterated directions v, of unit length, at points around the start.

    Attributes
    ----------
    largest : float
        Largest |g(x + v) - g(x)|; L is at least this.
    smallest : float
        Smallest v^T (g(x + v) - g(x)); mu is at most this.
    """

    largest: float
    smallest: float


def check_constants(problem: Problem, points: int = 4, seed: int = 0, iterations: int = 20) -> ConstantsCheck:
    """Look for curvatures outside the stated range from `strong_convexity` to `smoothness`.

    The direction of each step is turned towards the largest curvature by power iteration on differences of the gradient,
    and towards the smallest by the same with the differences subtracted from L v. So this can refute constants and
    cannot prove them.

    Parameters
    ----------
    points : int
        Number of random points around the start.
    seed : int
        Seed of the points and first directions.
    iterations : int
        Number of steps of the power iterations.
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
            v = moved.astype(float) - x  # what was really added
            length = np.linalg.norm(v, axis=1, keepdims=True)  # (points, 1)
            change = in_chunks(problem, moved, gradients) - g
            # np.maximum, unlike max, keeps what is not a number
            largest = float(np.maximum(largest, np.max(np.linalg.norm(change, axis=1) / length[:, 0])))
            smallest = float(np.minimum(smallest, np.min(np.sum(v * change, axis=1) / length[:, 0] ** 2)))
            turned = change if upwards else (problem.smoothness or largest) * v - change
            size = np.linalg.norm(turned, axis=1, keepdims=True)
            v = np.where(size > 0, turned / np.where(size > 0, size, 1.0), start)
    return ConstantsCheck(largest, smallest)
