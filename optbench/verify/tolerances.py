"""Relative errors of the checks, and the tolerances: the largest errors that pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optbench.problem import Problem

ROUNDING = 4  # times the estimated rounding of a difference that pass, ...
LARGEST_LIMIT = 0.1  # ... up to this error: relative errors end at 1, so a larger limit would let anything pass
TINY = 1e-300  # avoids divisions by zero


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


def norm(a: np.ndarray) -> float:
    """Euclidean norm of a vector, Frobenius norm of a matrix."""
    return float(np.linalg.norm(a))


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / (|a| + |b|), Euclidean; 0 where both vanish."""
    return norm(a - b) / (norm(a) + norm(b) + TINY)


def limit_with_rounding(limit: float, rounding: float) -> float:
    """The limit of an error, raised to a multiple of the estimated rounding where that is larger."""
    return min(max(limit, ROUNDING * rounding), LARGEST_LIMIT)


def limits(problem: Problem) -> Limits:
    """The limits of the problem's precision."""
    return LIMITS[problem.backend.precision]
