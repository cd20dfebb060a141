"""Numerical derivatives, and the checks that every problem has to pass: is what it states true?

Each check takes any `Problem`, a plug-in's too, and compares what it states (gradient, Hessian, optimum, constants,
mini-batches, shapes) with what its values say. Points are displaced along all coordinates in one batched call, in chunks
that bound the memory. `check_problem` bundles the checks into rows for a table; nothing is printed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from optbench.differences import (
    CHUNK_BYTES,
    Differences,
    expect_shape,
    gradients,
    hessian_difference,
    steps,
    values,
)
from optbench.errors import InputError
from optbench.problem import Problem
from optbench.sampling import stream

MAX_COORDINATES = 2000  # of the gradient; more are sampled
MAX_FORWARD = 200  # coordinates of the forward differences, which nothing rests on
MAX_COLUMNS = 200  # of the Hessian; more are sampled
MAX_RETRIED = 200  # coordinates near a kink; more than these is a wrong gradient, not a kink
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
    return [_check_gradient_at(problem, x, k, rng) for k, x in enumerate(_points_around_start(problem, points, rng))]


def _check_gradient_at(problem: Problem, x: np.ndarray, point: int, rng: np.random.Generator) -> GradientCheck:
    coordinates = _sample(problem.dim, MAX_COORDINATES, rng)
    g = gradients(problem, x[None])[0, coordinates]
    differences = Differences(problem, x)
    h = steps(problem, x, None, 1 / 3)[coordinates]
    few = slice(None, None, math.ceil(len(coordinates) / MAX_FORWARD))
    forward = differences.slopes(coordinates[few], steps(problem, x, None, 1 / 2)[coordinates[few]], (0, 1))
    centered = differences.slopes(coordinates, h, (-1, 1))

    scale = _norm(centered) + _norm(g) + TINY
    rounding = problem.backend.eps * abs(differences.f) * _norm(1 / h) / scale
    limit = _limit(LIMITS[problem.backend.precision].gradient, rounding)
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
        relative_error=_relative(best, g),
        limit=limit,
        h=float(np.median(h)),
        worst=int(coordinates[worst]),
        worst_error=float(error[worst] / scale),
        centered_error=_relative(centered, g),
        forward_error=_relative(forward, g[few]),
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
    if not problem.has_hessian and type(problem).hvp is Problem.hvp:
        raise InputError(f"{problem.spec} has no Hessian")
    rng = stream("check", seed)
    return [_check_hessian_at(problem, x, k, rng) for k, x in enumerate(_points_around_start(problem, points, rng))]


def _check_hessian_at(problem: Problem, x: np.ndarray, point: int, rng: np.random.Generator) -> HessianCheck:
    backend = problem.backend
    limits = LIMITS[backend.precision]
    columns = _sample(problem.dim, MAX_COLUMNS, rng)
    v = rng.standard_normal(problem.dim)
    v = (v / _norm(v)).astype(x.dtype)
    product = backend.to_host(problem.hvp(backend.asarray(x), backend.asarray(v))).astype(float)
    expect_shape("hvp", product, (problem.dim,))
    h = backend.eps ** (1 / 3) * max(1.0, _norm(x))
    g = gradients(problem, np.stack([x + np.asarray(h, x.dtype) * v, x - np.asarray(h, x.dtype) * v]))
    rounding = backend.eps * _norm(g[0]) / h
    if not problem.has_hessian:
        expected = (g[0] - g[1]) / (2 * h)
        limit = _limit(limits.hessian, rounding / (_norm(expected) + _norm(product) + TINY))
        return HessianCheck(point, None, None, _relative(product, expected), limit, 0)
    matrix = backend.to_host(problem.hessian(backend.asarray(x))).astype(float)
    expect_shape("hessian", matrix, (problem.dim, problem.dim))
    expected = hessian_difference(problem, x, columns)
    rounding *= math.sqrt(len(columns)) / (_norm(expected) + _norm(matrix[:, columns]) + TINY)
    return HessianCheck(
        point=point,
        relative_error=_relative(matrix[:, columns], expected),
        asymmetry=_norm(matrix - matrix.T) / (_norm(matrix) + TINY),
        product_error=_relative(product, matrix @ v),
        limit=_limit(limits.hessian, rounding),
        columns=len(columns),
    )


# ---- the optimum and the constants -----------------------------------------------------------------------------------


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
    x = np.stack(list(_points_around_start(problem, points, rng)))  # (points, d)
    at_start = _in_chunks(problem, x, values)
    around = _descend(problem, x, at_start)
    steepest = float(np.max(np.linalg.norm(_in_chunks(problem, x, gradients), axis=1)))
    scale = max(abs(optimum.f), float(np.max(at_start)) - optimum.f, TINY)
    gradient_norm = value_error = None
    if optimum.x is not None:
        x_star = np.asarray(optimum.x, dtype=problem.backend.precision)
        expect_shape("x*", x_star, (problem.dim,))
        gradient_norm = _norm(gradients(problem, x_star[None])[0]) / (steepest + TINY)
        value_error = abs(float(values(problem, x_star[None])[0]) - optimum.f) / scale
        near = [x_star + r * _directions(problem, points, rng) for r in (1e-3, 1e-2, 1e-1, 1.0)]
        around = np.concatenate([around, _in_chunks(problem, np.concatenate(near), values)])
    undercut = max(optimum.lower - float(np.min(around)), 0.0) / scale
    return OptimumCheck(gradient_norm, value_error, (optimum.f - optimum.lower) / scale, undercut, len(around))


def _descend(problem: Problem, x: np.ndarray, f: np.ndarray, steps: int = 100) -> np.ndarray:
    """The values (k,) that normalized gradient descent reaches from points (k, d); a step that goes up is halved."""
    length = np.full((len(x), 1), 0.5, dtype=x.dtype)
    for _ in range(steps):
        g = _in_chunks(problem, x, gradients)
        z = (x - length * g / (np.linalg.norm(g, axis=1, keepdims=True) + TINY)).astype(x.dtype)
        f_z = _in_chunks(problem, z, values)
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
    x = np.stack(list(_points_around_start(problem, points, rng)))  # (points, d)
    g = _in_chunks(problem, x, gradients)
    start = _directions(problem, points, rng)
    largest, smallest = 0.0, math.inf
    for upwards in (True, False):
        v = start
        for _ in range(iterations):
            moved = (x + v).astype(x.dtype)
            v = moved.astype(float) - x  # what was really added
            length = np.linalg.norm(v, axis=1, keepdims=True)  # (points, 1)
            change = _in_chunks(problem, moved, gradients) - g
            # np.maximum, unlike max, keeps what is not a number
            largest = float(np.maximum(largest, np.max(np.linalg.norm(change, axis=1) / length[:, 0])))
            smallest = float(np.minimum(smallest, np.min(np.sum(v * change, axis=1) / length[:, 0] ** 2)))
            turned = change if upwards else (problem.smoothness or largest) * v - change
            size = np.linalg.norm(turned, axis=1, keepdims=True)
            v = np.where(size > 0, turned / np.where(size > 0, size, 1.0), start)
    return ConstantsCheck(largest, smallest)


# ---- the stochastic oracle and the shapes ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SamplesCheck:
    """Mini-batches, compared with the full objective.

    Attributes
    ----------
    value_error, gradient_error : float
        Relative error of the mean over a partition of the samples into batches, weighted by their sizes.
    stack_error : float
        Largest relative error of batches of shape (S, b) at points of shape (S, L, d) against one call a batch.
    batches : int
        Number of batches in the partition.
    """

    value_error: float
    gradient_error: float
    stack_error: float
    batches: int


def check_samples(problem: Problem, seed: int = 0) -> SamplesCheck:
    """Compare the mean over mini-batches that partition the samples with the full objective and gradient.

    Parameters
    ----------
    seed : int
        Seed of the point and of the partition.

    Raises
    ------
    InputError
        If the problem is not a sum over samples.
    """
    n = problem.n_samples
    if n is None:
        raise InputError(f"{problem.spec} is not a sum over samples")
    backend = problem.backend
    rng = stream("check", seed)
    points = np.stack(list(_points_around_start(problem, 6, rng)))  # (6, d)
    x = backend.asarray(points[:2])  # (2, d)
    partition = np.array_split(rng.permutation(n), min(4, n))
    parts = [_host_pair(problem, x, samples) for samples in partition]
    weights = np.array([len(batch) / n for batch in partition])
    f, g = (np.tensordot(weights, np.stack([part[k] for part in parts]), axes=1) for k in (0, 1))
    full_f, full_g = _host_pair(problem, x)
    size = len(partition[-1])
    batches = np.stack([batch[:size] for batch in partition[:2]])  # (S, b); S = 1 for a single sample
    stack = points[: 3 * len(batches)].reshape(len(batches), 3, problem.dim)  # (S, L, d)
    stacked = _host_pair(problem, backend.asarray(stack), batches)
    singles = [_host_pair(problem, backend.asarray(stack[s]), batch) for s, batch in enumerate(batches)]
    stack_error = max((_relative(stacked[k], np.stack([one[k] for one in singles])) for k in (0, 1)), key=_order)
    return SamplesCheck(_relative(f, full_f), _relative(g, full_g), stack_error, len(partition))


def check_noise(problem: Problem, draws: int = 256, seed: int = 0) -> float:
    """How many standard errors the mean of a noisy gradient is away from the noiseless one, along a random direction.

    Parameters
    ----------
    draws : int
        Number of seeds S whose first draw is taken.
    seed : int
        Seed of the point and of the direction; the noise takes its seeds from here on.

    Raises
    ------
    InputError
        If the problem's full oracle draws no noise.
    """
    sampler = problem.sampler(tuple(range(seed, seed + draws)), None)
    if sampler is None or sampler.integer:
        raise InputError(f"{problem.spec} has no noise")
    rng = stream("check", seed)
    x = np.tile(next(_points_around_start(problem, 1, rng)), (draws, 1))  # (S, d)
    direction = _directions(problem, 1, rng)[0].astype(float)
    noise = problem.backend.asarray(sampler.draw(0, 1)[0])
    noisy = problem.backend.to_host(problem.value_and_grad(problem.backend.asarray(x), noise)[1]).astype(float)
    excess = (noisy - gradients(problem, x[:1])) @ direction  # (S,)
    return float(abs(np.mean(excess)) / (np.std(excess, ddof=1) / math.sqrt(draws) + TINY))


def check_shapes(problem: Problem, seed: int = 0) -> float:
    """Largest relative error of stacks of points, of shapes (R, d) and (S, L, d), against one call a point.

    Raises
    ------
    InputError
        If a value is not of shape (...), a gradient not of shape (..., d), or the precision is not kept.
    """
    backend = problem.backend
    points = np.stack(list(_points_around_start(problem, 6, stream("check", seed))))  # (6, d)
    singles = [_host_pair(problem, backend.asarray(x)) for x in points]
    f, g = (np.stack([single[k] for single in singles]) for k in (0, 1))
    errors = []
    for shape in ((6,), (2, 3)):
        stacked_f, stacked_g = _host_pair(problem, backend.asarray(points.reshape(*shape, problem.dim)))
        errors += [_relative(stacked_f.reshape(6), f), _relative(stacked_g.reshape(6, -1), g)]
    return max(errors, key=_order)


def _host_pair(problem: Problem, x: Any, samples: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient on the host, once their shapes and precision are what the interface promises."""
    backend = problem.backend
    f, g = problem.value_and_grad(x, None if samples is None else backend.indices(samples))
    f, g = backend.to_host(f), backend.to_host(g)
    for name, array, shape in (("f", f, x.shape[:-1]), ("g", g, x.shape)):
        expect_shape(name, array, tuple(shape), f"points of shape {tuple(x.shape)}")
        if array.dtype != backend.precision:
            raise InputError(f"{name} has the precision {array.dtype}, not {backend.precision}")
    return f.astype(float), g.astype(float)


# ---- all checks of a problem -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One row of the table of checks.

    Attributes
    ----------
    check : str
        What was checked.
    figure, limit : float or None
        The measured error and the largest that passes; None where nothing was measured.
    passed : bool or None
        None for what the problem does not offer.
    note : str
        How it was measured, or why it was not.
    """

    check: str
    figure: float | None
    limit: float | None
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class ProblemCheck:
    """All findings about one problem."""

    spec: str
    rows: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what the problem does not offer does not count."""
        return all(row.passed is not False for row in self.rows)


def check_problem(problem: Problem, seed: int = 0) -> ProblemCheck:
    """Run every check that the problem offers something for.

    A check that raises becomes a failed row with the message of the error.

    Parameters
    ----------
    seed : int
        Seed of all random points, directions and partitions.
    """
    rows: list[Finding] = []
    for name, find in _CHECKS.items():
        try:
            # what is not finite fails by its figure; the products are small, and threads that wait for one another
            # made the check of a network eight times as slow on a busy machine
            with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
                rows += find(problem, seed)
        except Exception as error:  # a broken plug-in is a finding, not a traceback
            lines = str(error).splitlines()
            message = f": {lines[0]}" if lines else ""
            rows.append(Finding(name, None, None, False, f"{type(error).__name__}{message}"))
    return ProblemCheck(problem.spec, tuple(rows))


def _finding(check: str, figure: float, limit: float, note: str) -> Finding:
    return Finding(check, figure, limit, figure <= limit, note if math.isfinite(figure) else f"not finite; {note}")


def _not_offered(check: str, why: str) -> Finding:
    return Finding(check, None, None, None, f"not offered: {why}")


def _find_shapes(problem: Problem, seed: int) -> Iterable[Finding]:
    error = check_shapes(problem, seed)
    yield _finding(
        "shapes", error, LIMITS[problem.backend.precision].stack, "(R, d) and (S, L, d) against single points"
    )


def _find_gradient(problem: Problem, seed: int) -> Iterable[Finding]:
    checks = check_gradient(problem, seed=seed)
    worst = max(checks, key=lambda c: (not c.passed, c.relative_error / c.limit))
    part = f"{worst.coordinates} of {problem.dim}" if worst.coordinates < problem.dim else f"all {problem.dim}"
    note = f"{part} coordinates at {len(checks)} points, h = {worst.h:.1e}, forward {worst.forward_error:.1e}"
    retried = sum(c.retried for c in checks)
    if retried:
        note += f", {retried} retried near a kink" if worst.passed else f", {retried} retried"
    if not worst.passed:
        note += f", worst coordinate {worst.worst}"
    yield _finding("gradient", worst.relative_error, worst.limit, note)


def _find_hessian(problem: Problem, seed: int) -> Iterable[Finding]:
    if not problem.has_hessian and type(problem).hvp is Problem.hvp:
        defined = type(problem).hessian is not Problem.hessian
        why = f"d is above {problem.max_hessian_dim}" if defined else "no second derivatives"
        yield from (_not_offered(name, why) for name in ("hessian", "hessian symmetry", "hvp"))
        return
    checks, limits = check_hessian(problem, seed=seed), LIMITS[problem.backend.precision]
    worst = checks[0]
    if worst.relative_error is not None and worst.asymmetry is not None:
        worst = max(checks, key=lambda c: _order((c.relative_error or 0.0) / c.limit))
        part = f"{worst.columns} of {problem.dim}" if worst.columns < problem.dim else f"all {problem.dim}"
        note = f"{part} columns at {len(checks)} points"
        yield _finding("hessian", worst.relative_error or 0.0, worst.limit, note)
        asymmetry = max((c.asymmetry or 0.0 for c in checks), key=_order)
        yield _finding("hessian symmetry", asymmetry, limits.symmetry, "|H - H^T| / |H|")
        error = max((c.product_error for c in checks), key=_order)
        yield _finding("hvp", error, limits.stack, "against the Hessian")
        return
    yield from (_not_offered(name, "products only") for name in ("hessian", "hessian symmetry"))
    worst = max(checks, key=lambda c: _order(c.product_error / c.limit))
    yield _finding("hvp", worst.product_error, worst.limit, "against differences of the gradient")


def _find_optimum(problem: Problem, seed: int) -> Iterable[Finding]:
    optimum, limits = problem.optimum, LIMITS[problem.backend.precision]
    if optimum is None:
        yield _not_offered("optimum", "f* is not known")
        return
    found = check_optimum(problem, seed=seed)
    if found.gradient_norm is None or found.value_error is None:
        yield _not_offered("x*", "f* is known, a minimizer is not")
    else:
        yield _finding("gradient at x*", found.gradient_norm, limits.x_star, "relative to the gradient at the start")
        yield _finding("f(x*) - f*", found.value_error, limits.f_star, optimum.method)
    width = f"certified to {found.interval:.1e}" if found.interval >= 0 else "the lower bound is above f*"
    yield _finding("lower <= f*", max(0.0, -found.interval), 0.0, width)
    yield _finding(
        "f >= f*", found.undercut, limits.f_star, f"{found.values} values around x* and after a short descent"
    )


def _find_constants(problem: Problem, seed: int) -> Iterable[Finding]:
    L, mu = problem.smoothness, problem.strong_convexity
    limit = LIMITS[problem.backend.precision].constants
    found = check_constants(problem, seed=seed) if L is not None or mu is not None else ConstantsCheck(0, 0)
    if L is None:
        yield _not_offered("smoothness L", "not known")
    else:
        note = f"L = {L:.6g}, largest curvature met {found.largest:.6g}"
        yield _finding("smoothness L", max(found.largest - L, 0.0) / (L + TINY), limit, note)
    if mu is None:
        yield _not_offered("convexity mu", "not known to be convex")
    else:
        note = f"mu = {mu:.6g}, smallest curvature met {found.smallest:.6g}"
        yield _finding("convexity mu", max(mu - found.smallest, 0.0) / (found.largest + TINY), limit, note)


def _find_samples(problem: Problem, seed: int) -> Iterable[Finding]:
    limits = LIMITS[problem.backend.precision]
    if problem.n_samples is None:
        yield _not_offered("mini-batches", "not a sum over samples")
    else:
        found = check_samples(problem, seed)
        error = max(found.value_error, found.gradient_error, key=_order)
        note = f"mean over {found.batches} batches of {problem.n_samples} samples against the full sum"
        yield _finding("mini-batches", error, limits.samples, note)
        yield _finding(
            "batches by seed", found.stack_error, limits.stack, "(S, b) with (S, L, d) against single batches"
        )
    sampler = problem.sampler((0,), None)
    if sampler is not None and not sampler.integer:
        yield _finding(
            "noise", check_noise(problem, seed=seed), limits.noise, "standard errors of the mean of 256 draws"
        )


_CHECKS: dict[str, Callable[[Problem, int], Iterable[Finding]]] = {
    "shapes": _find_shapes,
    "gradient": _find_gradient,
    "hessian": _find_hessian,
    "optimum": _find_optimum,
    "constants": _find_constants,
    "mini-batches": _find_samples,
}


# ---- points and norms ------------------------------------------------------------------------------------------------


def _points_around_start(problem: Problem, points: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Start points of seeds 0, 1, ..., each moved by a tenth of its size (at least of 1) in a random direction; (d,)."""
    for seed in range(points):
        start = problem.backend.to_host(problem.start(seed))
        yield (start + 0.1 * max(1.0, _norm(start)) * _directions(problem, 1, rng)[0]).astype(problem.backend.precision)


def _directions(problem: Problem, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors, (count, d), in the problem's precision."""
    v = rng.standard_normal((count, problem.dim))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return v.astype(problem.backend.precision)


def _sample(count: int, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)


def _in_chunks(
    problem: Problem, points: np.ndarray, evaluate: Callable[[Problem, np.ndarray], np.ndarray]
) -> np.ndarray:
    chunk = max(1, CHUNK_BYTES // max(problem.bytes_per_run(None), 32 * problem.dim))
    parts = [evaluate(problem, points[k : k + chunk]) for k in range(0, len(points), chunk)]
    return np.concatenate(parts)


def _norm(a: np.ndarray) -> float:
    return float(np.linalg.norm(a))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / (|a| + |b|), Euclidean; 0 where both vanish."""
    return _norm(a - b) / (_norm(a) + _norm(b) + TINY)


def _limit(stated: float, rounding: float) -> float:
    return min(max(stated, ROUNDING * rounding), LARGEST_LIMIT)


def _order(figure: float) -> float:
    """What to sort a figure by: one that is not a number is the worst."""
    return math.inf if math.isnan(figure) else figure
