"""What the checks of problems share: limits of their figures, points and directions to check at, norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from optbench.problem import Problem
from optbench.verify.differences import (
    CHUNK_BYTES,
)

ROUNDING = 4  # how many times the estimated rounding of a difference is forgiven, ...
LARGEST_LIMIT = 0.1  # ... up to this: relative errors end at 1, so a larger limit would let anything pass
TINY = 1e-300


@dataclass(frozen=True)
class Limits:
    """The largest error that passes, by check; all relative, as the checks describe them."""

    gradient: float = 1e-7
    hessian: float = 1e-5
    symmetry: float = 1e-12
    stack: float = 1e-11
    samples: float = 1e-10
    noise: float = 4.5  # standard errors: one correct problem in 150 000 fails
    x_star: float = 1e-7
    f_star: float = 1e-10
    constants: float = 1e-9


LIMITS = {
    "float64": Limits(),
    "float32": Limits(
        gradient=2e-3, hessian=2e-2, symmetry=1e-5, stack=1e-4, samples=1e-4, x_star=1e-3, f_star=1e-5, constants=1e-4
    ),
}


# ---- points and norms ------------------------------------------------------------------------------------------------


def points_around_start(problem: Problem, points: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Start points of seeds 0, 1, ..., each moved by a tenth of its size (at least of 1) in a random direction; (d,)."""
    for seed in range(points):
        start = problem.backend.to_host(problem.start(seed))
        yield (start + 0.1 * max(1.0, norm(start)) * directions(problem, 1, rng)[0]).astype(problem.backend.precision)


def directions(problem: Problem, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors, (count, d), in the problem's precision."""
    v = rng.standard_normal((count, problem.dim))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return v.astype(problem.backend.precision)


def sample(count: int, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)


def in_chunks(
    problem: Problem, points: np.ndarray, evaluate: Callable[[Problem, np.ndarray], np.ndarray]
) -> np.ndarray:
    chunk = max(1, CHUNK_BYTES // max(problem.bytes_per_run(None), 32 * problem.dim))
    parts = [evaluate(problem, points[k : k + chunk]) for k in range(0, len(points), chunk)]
    return np.concatenate(parts)


def norm(a: np.ndarray) -> float:
    return float(np.linalg.norm(a))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / (|a| + |b|), Euclidean; 0 where both vanish."""
    return norm(a - b) / (norm(a) + norm(b) + TINY)


def limit_of(stated: float, rounding: float) -> float:
    return min(max(stated, ROUNDING * rounding), LARGEST_LIMIT)


def order(figure: float) -> float:
    """What to sort a figure by: one that is not a number is the worst."""
    return math.inf if math.isnan(figure) else figure
