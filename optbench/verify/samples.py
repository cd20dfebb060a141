"""Mini-batches, noise, shapes and metrics of a problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.problem import Problem
from optbench.verify.evaluation import directions, expect_shape, gradients, points_around_start, to_host
from optbench.verify.findings import TINY, Finding, limits, measurement, not_offered, relative_error

REPEATED = 64  # units in the last place by which repeated calls may differ


def samples_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """Compare the mean over mini-batches that partition the samples, weighted by their sizes, with the full objective.

    Batches of shape (S, b) at points of shape (S, L, d) are compared with one call per batch.
    """
    n = problem.n_samples
    if n is None:
        yield not_offered("mini-batches", "not a sum over samples")
    else:
        yield from _batch_findings(problem, n, seed)
    sampler = problem.sampler((0,), None)
    if sampler is not None and not sampler.integer:
        error, note = noise_error(problem, seed), "standard errors of the mean of 256 draws"
        yield measurement("noise", error, limits(problem).noise, note)


def _batch_findings(problem: Problem, n: int, seed: int) -> Iterator[Finding]:
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
    error = np.maximum(relative_error(f, full_f), relative_error(g, full_g))  # unlike max, keeps a NaN
    note = f"mean over {len(partition)} batches of {n} samples against the full sum"
    yield measurement("mini-batches", error, limits(problem).samples, note)
    errors = [relative_error(stacked[k], np.stack([one[k] for one in singles])) for k in (0, 1)]
    note = "(S, b) with (S, L, d) against single batches"
    yield measurement("batches by seed", np.max(errors), limits(problem).stack, note)


def noise_error(problem: Problem, seed: int = 0, draws: int = 256) -> float:
    """Distance of the mean of `draws` noisy gradients from the exact one along a random direction, in standard errors."""
    sampler = problem.sampler(tuple(range(seed, seed + draws)), None)
    assert sampler is not None
    rng = stream("check", seed)
    x = np.tile(next(points_around_start(problem, 1, rng)), (draws, 1))  # (S, d)
    direction = directions(problem, 1, rng)[0].astype(float)
    noise = problem.backend.asarray(sampler.draw(0, 1)[0])
    noisy = problem.backend.to_host(problem.value_and_grad(problem.backend.asarray(x), noise)[1]).astype(float)
    excess = (noisy - gradients(problem, x[:1])) @ direction  # (S,)
    return float(abs(np.mean(excess)) / (np.std(excess, ddof=1) / math.sqrt(draws) + TINY))


def shapes_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """Compare stacks of points, of shapes (R, d) and (S, L, d), with one call per point.

    Raises
    ------
    InputError
        If a value does not have the shape (...), a gradient not (..., d), or either has another precision.
    """
    backend = problem.backend
    points = np.stack(list(points_around_start(problem, 6, stream("check", seed))))  # (6, d)
    singles = [_host_pair(problem, backend.asarray(x)) for x in points]
    f, g = (np.stack([single[k] for single in singles]) for k in (0, 1))
    errors = []
    for shape in ((6,), (2, 3)):
        stacked_f, stacked_g = _host_pair(problem, backend.asarray(points.reshape(*shape, problem.dim)))
        errors += [relative_error(stacked_f.reshape(6), f), relative_error(stacked_g.reshape(6, -1), g)]
    yield measurement("shapes", np.max(errors), limits(problem).stack, "(R, d) and (S, L, d) against single points")


def metrics_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """Compare the values and metrics of `evaluate` with `value` and `metrics`.

    Raises
    ------
    InputError
        If the metrics are not the declared ones, or do not have the shape (...).
    """
    points = np.stack(list(points_around_start(problem, 3, stream("check", seed))))  # (3, d)
    x = problem.backend.asarray(points)
    f, evaluated = problem.evaluate(x)
    metrics = problem.metrics(x)
    problem.check_metrics(evaluated)
    problem.check_metrics(metrics)
    pairs = {"f": (f, problem.value(x)), **{name: (evaluated[name], metrics[name]) for name in metrics}}
    where = f"points of shape {points.shape}"
    errors = [
        relative_error(*(to_host(problem, name, array, (3,), where) for array in pair)) for name, pair in pairs.items()
    ]
    yield measurement("metrics", np.max(errors), limits(problem).stack, "evaluate() against value() and metrics()")


def history_findings(problem: Problem, seed: int = 0) -> Iterator[Finding]:
    """Repeat calls after many others: in another order, alone and in stacks, of everything that the problem offers.

    Values and gradients must be equal up to the last digits, and the arrays of earlier calls and the points unchanged.

    Raises
    ------
    InputError
        If a call changes the points or samples that it was given, or arrays that an earlier call returned.
    """
    backend, n = problem.backend, problem.n_samples
    points = np.stack(list(points_around_start(problem, 4, stream("check", seed))))  # (4, d)
    given = [backend.asarray(x.copy()) for x in points]
    stack, batch = backend.asarray(points.copy()), None if n is None else backend.indices(np.arange(min(n, 2)))
    returned = problem.value_and_grad(given[0])
    first = [_host_pair(problem, x) for x in given]
    kept = [np.array(backend.to_host(array)) for array in returned]
    for _ in range(3):
        problem.value_and_grad(stack)
        problem.evaluate(stack)
        problem.metrics(stack)
        if batch is not None:
            problem.value_and_grad(stack, batch)
        if problem.has_hvp:
            problem.hvp(given[1], given[2])
        if problem.has_hessian:
            problem.hessian(given[1])
    again = [_host_pair(problem, given[k]) for k in (2, 0, 3, 1)]
    if any(
        not np.array_equal(backend.to_host(x), point)
        for x, point in zip([*given, stack], [*points, points], strict=True)
    ):
        raise InputError("a call changes the points x that it is given; compute with a copy")
    if batch is not None and not np.array_equal(backend.to_host(batch), np.arange(batch.shape[0])):
        raise InputError("a call changes the samples that it is given; compute with a copy")
    if any(not np.array_equal(backend.to_host(a), b, equal_nan=True) for a, b in zip(returned, kept, strict=True)):
        raise InputError("a later call changes the arrays that an earlier one returned; return new arrays")
    singles = [np.stack([pair[k] for pair in first]) for k in (0, 1)]  # (4,) and (4, d)
    errors = [relative_error(np.stack([pair[k] for pair in again]), singles[k][[2, 0, 3, 1]]) for k in (0, 1)]
    values = to_host(problem, "f", problem.value(stack), (4,), f"points of shape {points.shape}")
    yield measurement(
        "repeated calls", np.max(errors), REPEATED * backend.eps, "the same points again, after other calls"
    )
    error = relative_error(values, singles[0])
    yield measurement("value", error, limits(problem).stack, "value() against value_and_grad()")


def _host_pair(problem: Problem, x: Any, samples: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient on the host; `InputError` if they have another shape or precision than the interface states."""
    backend = problem.backend
    f, g = problem.value_and_grad(x, None if samples is None else backend.indices(samples))
    f, g = backend.to_host(f), backend.to_host(g)
    for name, array, shape in (("f", f, x.shape[:-1]), ("g", g, x.shape)):
        expect_shape(name, array, tuple(shape), f"points of shape {tuple(x.shape)}")
        if array.dtype != backend.precision:
            raise InputError(f"{name} has the precision {array.dtype}, not {backend.precision}")
    return f.astype(float), g.astype(float)
