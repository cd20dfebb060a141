"""The outcome of a check, and the limits: the largest errors that pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optbench.problem import Problem


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        What was checked.
    error, limit : float or None
        The measured error and the largest that passes; None if nothing was measured.
    passed : bool or None
        None if the problem does not offer what is checked.
    note : str
        How the error was measured, or why it was not measured.
    """

    check: str
    error: float | None
    limit: float | None
    passed: bool | None
    note: str = ""


def measurement(check: str, error: float, limit: float, note: str) -> Finding:
    """The finding of an error, which passes up to the limit; a NaN fails."""
    error = float(error)
    return Finding(check, error, limit, error <= limit, note if math.isfinite(error) else f"not finite; {note}")


def not_offered(check: str, why: str) -> Finding:
    """The finding of a check of something that the problem does not offer."""
    return Finding(check, None, None, None, f"not offered: {why}")


TINY = 1e-300  # avoids divisions by zero


@dataclass(frozen=True)
class Limits:
    """The largest relative error that passes, by check."""

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


def limits(problem: Problem) -> Limits:
    """The limits of the problem's precision."""
    return LIMITS[problem.backend.precision]
