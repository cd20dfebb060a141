"""Descriptions of problems, stored with every row of their results.

Reports read stored rows alone, so all they show of a problem (formula, constants, surface, errors of difference quotients)
is computed together with the rows.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from optbench.core.random import stream
from optbench.core.workers import blas_threads
from optbench.problem import Problem

GRID = 81  # points along each axis of a surface
STEPS = np.array([float(f"{h:.5e}") for h in np.geomspace(1e-1, 1e-13, 25)])  # h of differences, two per decade; (25,)
MAX_SECONDS = 0.2  # for `differences`, as estimated by `Problem.nanoseconds_per_run`
TIMEOUT = 2.0  # seconds, for problems that take much longer than estimated
STACK_BYTES = 4 << 20  # intermediate results of one call
STACK_POINTS = 512  # points of one call; few, so that the timeout stops a slow problem early


def describe(problem: Problem, *, evaluate: bool = True) -> str:
    """The description of a problem as JSON text with sorted keys.

    It is computed once for each problem object, on the host and in float64.

    Parameters
    ----------
    problem : Problem
        A problem on any backend.
    evaluate : bool
        Whether the problem may be evaluated. If not, the last three keys are missing, unless they were computed before.

    Returns
    -------
    text : str
        A JSON object with the keys

        - ``formula``, ``citation``, ``summary`` (first paragraph of the docstring): text, possibly empty;
        - ``metrics``: [{name, better, unit}, ...], the `Metric` declarations of the problem;
        - ``n_samples``, ``smoothness``, ``strong_convexity``, ``gradient_norm`` (at the optimum): numbers, or null;
        - ``minimizers``: [[x, y], ...], for two-dimensional problems with a known minimizer;
        - ``surface``: {x: [low, high], y: [low, high], f: values on a regular grid, one row for each y}, for
          two-dimensional problems with a `view`; values that are not finite are null;
        - ``differences``: {h, forward, central}, see `differences`; missing if the problem is too slow.
    """
    host = problem.host
    if host.cached_description is not None:
        return host.cached_description
    text = _describe(host, evaluate)
    if evaluate:
        host.cached_description = text
    return text


def _describe(problem: Problem, evaluate: bool) -> str:
    optimum = problem.optimum if evaluate or problem.is_solved else None  # `solve` may have failed
    facts: dict[str, Callable[[Problem], Any]] = {
        "formula": lambda problem: str(problem.formula),
        "citation": lambda problem: str(problem.citation),
        "summary": lambda problem: _summary(type(problem)),
        "metrics": lambda problem: [dataclasses.asdict(metric) for metric in problem.metric_types],
        "n_samples": lambda problem: _number(problem.n_samples, int),
        "smoothness": lambda problem: _number(problem.smoothness),
        "strong_convexity": lambda problem: _number(problem.strong_convexity),
    }
    content: dict[str, Any] = {"formula": "", "citation": "", "summary": "", "metrics": [], "n_samples": None}
    content |= {"smoothness": None, "strong_convexity": None}
    content["gradient_norm"] = _number(optimum.gradient_norm if optimum is not None else None)
    parts = facts | ({"minimizers": _minimizers, "surface": surface, "differences": differences} if evaluate else {})
    # one thread, so that every process computes the same last digits
    with blas_threads(1), np.errstate(all="ignore"):
        for name, compute in parts.items():
            try:
                part = compute(problem)
            except (Exception, SystemExit):  # an error here must not lose the rows
                continue
            if part is not None:
                content[name] = part
    return json.dumps(content, sort_keys=True, allow_nan=False)


def _summary(kind: type) -> str:
    """First paragraph of the docstring on one line; empty for the signature that `dataclass` generates."""
    text = " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())
    return "" if text.startswith(f"{kind.__name__}(") else text


def _number(value: Any, kind: Callable[[Any], Any] = float) -> Any:
    """A finite number for JSON, or None."""
    try:
        return kind(value) if np.isfinite(value) else None
    except (TypeError, ValueError):
        return None


def _rounded(values: np.ndarray) -> list[float | None]:
    """Values (k,) rounded to six significant digits; None if not finite."""
    digits = ("%.5e " * len(values) % tuple(values.tolist())).split()
    return [float(text) if finite else None for text, finite in zip(digits, np.isfinite(values).tolist(), strict=True)]


def _minimizers(problem: Problem) -> list[list[float]] | None:
    """The known global minimizers of a two-dimensional problem."""
    minimizers = problem.minimizers if problem.minimizers is not None else problem.x_star
    if problem.dim != 2 or minimizers is None:
        return None
    points = np.asarray(minimizers, dtype=float).reshape(-1, 2)
    return points.tolist() if np.isfinite(points).all() else None


def surface(problem: Problem) -> dict[str, Any] | None:
    """Values of a two-dimensional problem on a regular grid over its `view`; None without a view."""
    if problem.dim != 2 or problem.view is None:
        return None
    (left, right), (low, high) = problem.view
    x, y = np.linspace(left, right, GRID), np.linspace(low, high, GRID)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)  # (GRID^2, 2)
    f = _rounded(_values(problem, (points[part] for part in _stacks(problem, len(points)))))
    rows = [f[k : k + GRID] for k in range(0, len(f), GRID)]
    return {"x": [float(left), float(right)], "y": [float(low), float(high)], "f": rows}


def differences(problem: Problem) -> dict[str, Any] | None:
    """Relative errors of difference quotients as a function of their step h.

    The errors are |q - g^T v| / |g^T v| at the start point x of seed 0, along one unit vector v, for the forward quotient
    q = (f(x + h v) - f(x)) / h and the central one q = (f(x + h v) - f(x - h v)) / 2h. Their truncation errors are O(h)
    and O(h^2), their rounding errors O(eps / h) (Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), section 8.1).

    Returns
    -------
    errors : dict or None
        Lists ``h``, ``forward`` and ``central``; None if they would take longer than `MAX_SECONDS` or are not all finite.
    """
    moves = np.concatenate([STEPS, -STEPS])  # (50,)
    if (len(moves) + 1) * problem.nanoseconds_per_run(None) > 1e9 * MAX_SECONDS:
        return None
    x = np.asarray(problem.start(0), dtype=float)  # (d,)
    v = stream("check", 0).standard_normal(problem.dim)
    v /= np.linalg.norm(v)
    f, g = problem.value_and_grad(x)
    slope = float(np.asarray(g) @ v)
    ahead, behind = np.split(_values(problem, (x + moves[part, None] * v for part in _stacks(problem, len(moves)))), 2)
    quotients = {"forward": (ahead - f) / STEPS, "central": (ahead - behind) / (2 * STEPS)}
    errors = {name: np.abs(q - slope) / np.abs(slope) for name, q in quotients.items()}
    if not all(np.isfinite(error).all() for error in errors.values()):
        return None
    return {"h": STEPS.tolist(), **{name: _rounded(error) for name, error in errors.items()}}


def _stacks(problem: Problem, count: int) -> list[slice]:
    """Slices that cut `count` points into stacks with small intermediate results."""
    size = min(STACK_POINTS, max(1, STACK_BYTES // max(problem.bytes_per_run(None), 32 * problem.dim)))
    return [slice(first, first + size) for first in range(0, count, size)]


def _values(problem: Problem, stacks: Iterable[np.ndarray]) -> np.ndarray:
    """Values of the points of all stacks (k, d), in one array."""
    deadline = time.monotonic() + TIMEOUT
    parts = []
    for points in stacks:
        f = np.asarray(problem.value(points), dtype=float)
        if f.shape != points.shape[:1]:
            raise ValueError(f"{problem.spec} returns values of shape {f.shape} for points of shape {points.shape}")
        parts.append(f)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{problem.spec} takes longer than {TIMEOUT:g} s")
    return np.concatenate(parts)
