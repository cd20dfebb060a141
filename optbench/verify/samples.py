"""Mini-batches, noise, shapes and metrics of a problem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.problem import Problem
from optbench.verify.errors import TINY, nan_is_largest, relative_error
from optbench.verify.evaluation import directions, expect_shape, gradients, points_around_start


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
    points = np.stack(list(points_around_start(problem, 6, rng)))  # (6, d)
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
    stack_error = max(
        (relative_error(stacked[k], np.stack([one[k] for one in singles])) for k in (0, 1)), key=nan_is_largest
    )
    value_error, gradient_error = relative_error(f, full_f), relative_error(g, full_g)
    return SamplesCheck(value_error, gradient_error, stack_error, len(partition))


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
    x = np.tile(next(points_around_start(problem, 1, rng)), (draws, 1))  # (S, d)
    direction = directions(problem, 1, rng)[0].astype(float)
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
    points = np.stack(list(points_around_start(problem, 6, stream("check", seed))))  # (6, d)
    singles = [_host_pair(problem, backend.asarray(x)) for x in points]
    f, g = (np.stack([single[k] for single in singles]) for k in (0, 1))
    errors = []
    for shape in ((6,), (2, 3)):
        stacked_f, stacked_g = _host_pair(problem, backend.asarray(points.reshape(*shape, problem.dim)))
        errors += [relative_error(stacked_f.reshape(6), f), relative_error(stacked_g.reshape(6, -1), g)]
    return max(errors, key=nan_is_largest)


def check_metrics(problem: Problem, seed: int = 0) -> float:
    """Largest relative error of the values that `evaluate` gives against `value`, and of its metrics against `metrics`.

    Raises
    ------
    InputError
        If the metrics are not the declared ones, or not of shape (...).
    """
    backend = problem.backend
    points = np.stack(list(points_around_start(problem, 3, stream("check", seed))))  # (3, d)
    x = backend.asarray(points)
    f, evaluated = problem.evaluate(x)
    metrics = problem.metrics(x)
    problem.check_metrics(evaluated)
    problem.check_metrics(metrics)
    pairs = {"f": (f, problem.value(x)), **{name: (evaluated[name], metrics[name]) for name in metrics}}
    errors = []
    for name, pair in pairs.items():
        one, other = (backend.to_host(array).astype(float) for array in pair)
        for array in (one, other):
            expect_shape(name, array, (3,), f"points of shape {points.shape}")
        errors.append(relative_error(one, other))
    return max(errors, key=nan_is_largest)


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
