"""What a problem is, as text that is stored with every row of its results.

Reports read stored rows alone, so what they say and draw of a problem (formula, constants, level lines, how difference
quotients err) is computed where rows are made.
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
STEPS = np.array([float(f"{h:.5e}") for h in np.geomspace(1e-1, 1e-13, 25)])  # h of difference quotients, two a decade
SECONDS = 0.2  # that differences may take by `Problem.nanoseconds_per_run`
PATIENCE = 2.0  # seconds on the clock, for problems that take much longer than they say
STACK_BYTES = 4 << 20  # of intermediate results of one call
STACK_POINTS = 512  # of one call, so that a slow problem is noticed early


def describe(problem: Problem, *, evaluate: bool = True) -> str:
    """JSON text, keys sorted, of what a problem is; made once a problem object, on the host and in float64.

    Parameters
    ----------
    problem : Problem
        On any backend.
    evaluate : bool
        Whether it may be evaluated; not where its runs failed. Without it the last three keys are missing, unless they
        were computed before.

    Returns
    -------
    text : str
        An object with the keys

        - ``formula``, ``citation``, ``summary`` (the first paragraph of the docstring): text, empty where there is none;
        - ``metrics``: [{name, better, unit}, ...], the `Metric` declarations of the problem;
        - ``n_samples``, ``smoothness``, ``strong_convexity``, ``gradient_norm`` (at the optimum): numbers, or null;
        - ``minimizers``: [[x, y], ...], for two-dimensional problems that know one;
        - ``surface``: {x: [low, high], y: [low, high], f: rows of values on a regular grid, y upwards and x along a row},
          for two-dimensional problems with a `view`; null where a value is not finite;
        - ``differences``: {h, forward, central}, see `differences`; missing where it would take too long.
    """
    host = problem.host
    kept = vars(host).get("_description")
    if kept is None:
        kept = _text(host, evaluate)
        if evaluate:
            vars(host)["_description"] = kept
    return str(kept)


def _text(problem: Problem, evaluate: bool) -> str:
    optimum = problem.optimum
    told: dict[str, Any] = {
        "formula": str(problem.formula),
        "citation": str(problem.citation),
        "summary": _summary(type(problem)),
        "metrics": [dataclasses.asdict(metric) for metric in problem.metric_types],
        "n_samples": _number(problem.n_samples, int),
        "smoothness": _number(problem.smoothness),
        "strong_convexity": _number(problem.strong_convexity),
        "gradient_norm": _number(optimum.gradient_norm if optimum is not None else None),
    }
    parts: dict[str, Callable[[Problem], Any]] = {}
    if evaluate:
        parts = {"minimizers": _minimizers, "surface": surface, "differences": differences}
    with (
        blas_threads(1),
        np.errstate(all="ignore"),
    ):  # one thread, so that the last digits are the same in every process
        for name, part in parts.items():
            try:
                found = part(problem)
            except Exception:  # whatever a problem raises here, its runs are worth keeping
                continue
            if found is not None:
                told[name] = found
    return json.dumps(told, sort_keys=True, allow_nan=False)


def _summary(kind: type) -> str:
    """First paragraph of the docstring, on one line; nothing for the signature that `dataclass` puts in its place."""
    text = " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())
    return "" if text.startswith(f"{kind.__name__}(") else text


def _number(value: Any, kind: Callable[[Any], Any] = float) -> Any:
    """A finite number as JSON knows it, or None."""
    try:
        return kind(value) if np.isfinite(value) else None
    except (TypeError, ValueError):
        return None


def _rounded(values: np.ndarray) -> list[float | None]:
    """Values (k,) to six significant digits; None where they are not finite."""
    texts = ("%.5e " * len(values) % tuple(values.tolist())).split()
    finite = np.isfinite(values).tolist()
    return [float(text) if known else None for text, known in zip(texts, finite, strict=True)]


def _minimizers(problem: Problem) -> list[list[float]] | None:
    """The global minimizers of a two-dimensional problem, as far as they are known."""
    found = problem.minimizers if problem.minimizers is not None else problem.x_star
    if problem.dim != 2 or found is None:
        return None
    points = np.asarray(found, dtype=float).reshape(-1, 2)
    return points.tolist() if np.isfinite(points).all() else None


def surface(problem: Problem) -> dict[str, Any] | None:
    """Values of a two-dimensional problem on a regular grid over its `view`; None for others."""
    if problem.dim != 2 or problem.view is None:
        return None
    (left, right), (low, high) = problem.view
    x, y = np.linspace(left, right, GRID), np.linspace(low, high, GRID)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    f = _rounded(_values(problem, (points[part] for part in _stacks(problem, len(points)))))
    rows = [f[k : k + GRID] for k in range(0, len(f), GRID)]
    return {"x": [float(left), float(right)], "y": [float(low), float(high)], "f": rows}


def differences(problem: Problem) -> dict[str, Any] | None:
    """How difference quotients of the value depart from the gradient as their step h shrinks.

    At the start point x of seed 0, along one unit vector v: |q - g^T v| / |g^T v| for q = (f(x + h v) - f(x)) / h and for
    q = (f(x + h v) - f(x - h v)) / 2h. Truncation makes it O(h) and O(h^2), rounding O(eps / h) (Nocedal & Wright,
    Numerical Optimization, 2nd ed. (2006), section 8.1).

    Returns
    -------
    errors : dict or None
        Lists ``h``, ``forward`` and ``central``; None where it would take longer than `SECONDS`, or an error is not finite.
    """
    moves = np.concatenate([STEPS, -STEPS])  # (50,)
    if (len(moves) + 1) * problem.nanoseconds_per_run(None) > 1e9 * SECONDS:
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
    """`count` points in stacks that keep intermediate results small."""
    size = min(STACK_POINTS, max(1, STACK_BYTES // max(problem.bytes_per_run(None), 32 * problem.dim)))
    return [slice(first, first + size) for first in range(0, count, size)]


def _values(problem: Problem, stacks: Iterable[np.ndarray]) -> np.ndarray:
    """Values of stacks of points, one after the other, each (k, d); all of them in one array."""
    end = time.monotonic() + PATIENCE
    parts = []
    for points in stacks:
        f = np.asarray(problem.value(points), dtype=float)
        if f.shape != points.shape[:1]:
            raise ValueError(f"{problem.spec} gives values of shape {f.shape} for points of shape {points.shape}")
        parts.append(f)
        if time.monotonic() > end:
            raise TimeoutError(f"{problem.spec} takes longer than {PATIENCE:g} s")
    return np.concatenate(parts)
