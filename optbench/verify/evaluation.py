"""Points at which problems are checked, and values and gradients there, on the host and in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from optbench.core.errors import InputError
from optbench.core.types import Array
from optbench.problem import Problem
from optbench.verify.findings import norm

CHUNK_BYTES = 64 * 2**20  # of intermediate results in one call

Evaluate = Callable[[Problem, np.ndarray], np.ndarray]  # of points (k, d): results (k, ...)


# ---- points ----------------------------------------------------------------------------------------------------------


def points_around_start(problem: Problem, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Start points of seeds 0, 1, ..., each moved by a tenth of its size (at least of 1) in a random direction; (d,)."""
    for seed in range(count):
        start = problem.backend.to_host(problem.start(seed))
        yield (start + 0.1 * max(1.0, norm(start)) * directions(problem, 1, rng)[0]).astype(problem.backend.precision)


def directions(problem: Problem, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors, (count, d), in the problem's precision."""
    v = rng.standard_normal((count, problem.dim))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return v.astype(problem.backend.precision)


# ---- values and gradients --------------------------------------------------------------------------------------------


def values(problem: Problem, points: np.ndarray) -> np.ndarray:
    """f at points (k, d), float64 of shape (k,)."""
    f = problem.value(problem.backend.asarray(points))
    return to_host(problem, "f", f, points.shape[:1], f"points of shape {points.shape}")


def gradients(problem: Problem, points: np.ndarray) -> np.ndarray:
    """Gradients at points (k, d), float64 of shape (k, d)."""
    _, g = problem.value_and_grad(problem.backend.asarray(points))
    return to_host(problem, "g", g, points.shape, f"points of shape {points.shape}")


def in_chunks(problem: Problem, points: np.ndarray, evaluate: Evaluate) -> np.ndarray:
    """`evaluate` at points (k, d), in chunks of bounded memory; (k, ...)."""
    length = max(1, CHUNK_BYTES // max(problem.bytes_per_run(None), 32 * problem.dim))
    return np.concatenate([evaluate(problem, points[k : k + length]) for k in range(0, len(points), length)])


def to_host(
    problem: Problem, name: str, array: Array, shape: tuple[int, ...], where: str = "a single point"
) -> np.ndarray:
    """An array of the problem's backend as float64 on the host; `InputError` unless it has this shape and precision."""
    host = problem.backend.to_host(array)
    expect_shape(name, host, shape, where)
    if host.dtype != problem.backend.precision:
        raise InputError(f"{name} has the precision {host.dtype}, not {problem.backend.precision}")
    return host.astype(float)


def expect_shape(name: str, array: np.ndarray, shape: tuple[int, ...], where: str = "a single point") -> None:
    """Raise `InputError` unless an array has this shape."""
    if array.shape != shape:
        raise InputError(f"{name} has the shape {array.shape}, not {shape}, for {where}")
