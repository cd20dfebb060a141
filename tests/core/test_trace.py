"""The recorder: targets that can be resolved, impossible values, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optbench.core.trace import ROUNDING, TARGETS, Recorder, Trace, checkpoints
from optbench.core.types import Oracle, Status

EPS = float(np.finfo(float).eps)


def trace_of(f: Any, blocks: Any = (1, 3), *, f_star: float | None = 0.0, stop: bool = False, **options: Any) -> Trace:
    """The trace of values (T + 1, R) that are folded in blocks of these lengths, in turn."""
    f = np.asarray(f, dtype=float)
    steps, runs = len(f) - 1, f.shape[1]
    recorder = Recorder(runs, steps, checkpoints(steps, 1000), f_star, stop, **options)
    first, turn = 0, 0
    while first <= steps:
        last = min(first + blocks[turn % len(blocks)], steps + 1)
        curves = {"f": f[first:last]} if recorder.sparse else {}
        recorder.fold(last - 1, f[first:last], curves)
        first, turn = last, turn + 1
    return recorder.trace(np.zeros((runs, 2)), 1.0, Oracle.GRADIENT)


FALLING = 10.0 ** -np.arange(0, 13.0)[:, None]  # one target factor of ten per step


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0, 1e4, 1e12])
def test_targets_below_the_resolution_are_unknown(shift: float, sparse: bool) -> None:
    resolution = 8 * EPS * shift
    trace = trace_of(shift + FALLING, f_star=shift, resolution=resolution, stop=True, sparse=sparse)
    is_resolved = resolution <= TARGETS
    np.testing.assert_array_equal(np.isfinite(trace.steps_to_target[0]), is_resolved)
    np.testing.assert_array_equal(np.isnan(trace.steps_to_target[0]), ~is_resolved)
    whole = trace_of(FALLING)
    if shift <= 1.0:
        np.testing.assert_array_equal(trace.steps_to_target[:, is_resolved], whole.steps_to_target[:, is_resolved])
    # only the last target of all ends a run
    assert trace.status == [Status.TARGET if is_resolved.all() else Status.BUDGET]


def test_each_run_has_its_own_resolved_targets() -> None:
    f = FALLING * [1.0, 1e-5, 0.0, 1e5]
    trace = trace_of(f, resolution=1e-8)
    np.testing.assert_array_equal(np.isnan(trace.steps_to_target).sum(axis=1), [10, 35, 50, 0])


def test_an_interval_that_is_not_finite_resolves_nothing() -> None:
    trace = trace_of(FALLING, resolution=np.inf)
    assert np.isnan(trace.steps_to_target).all()
    assert trace.status == [Status.BUDGET]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("blocks", [(1,), (2, 3), (100,)])
def test_a_value_below_the_lower_bound_makes_a_run_invalid(blocks: Any, sparse: bool) -> None:
    f = np.linspace(1.0, 0.5, 11)[:, None].repeat(4, axis=1)
    f[7, 1], f[9, 1] = 0.1, 0.05
    f[4, 2], f[8, 2] = np.nan, 0.0  # after its end
    f[10, 3] = 0.2
    trace = trace_of(f, blocks, f_star=0.3, lower=0.25, sparse=sparse)
    assert trace.status == [Status.BUDGET, Status.INVALID, Status.DIVERGED, Status.INVALID]
    assert [error and error.partition(";")[0] for error in trace.errors] == [
        None,
        "the value 0.1 at step 7 is below the stated lower bound 0.25",
        None,
        "the value 0.2 at step 10 is below the stated lower bound 0.25",
    ]
    assert np.isinf(trace.steps_to_target[[1, 3]]).all()
    assert np.isfinite(trace.steps_to_target[0, 0])
    np.testing.assert_array_equal(trace.f, f.T)
    np.testing.assert_array_equal(trace.end, [10, 10, 4, 10])
    assert np.isnan(trace.x[2]).all()


def test_an_invalid_run_has_missed_targets_that_cannot_be_resolved_too() -> None:
    trace = trace_of([[1.0], [-1.0]], resolution=1e-3)
    assert trace.status == [Status.BUDGET]  # no lower bound is certified
    trace = trace_of([[1.0], [-1.0]], resolution=1e-3, lower=0.0)
    assert trace.status == [Status.INVALID]
    assert np.isinf(trace.steps_to_target).all()


def test_a_start_below_the_optimum_makes_a_run_invalid() -> None:
    trace = trace_of([[2.0, 0.9, 1.0], [1.5, 1.2, 1.0]], f_star=1.0, lower=0.5)
    assert trace.status == [Status.BUDGET, Status.INVALID, Status.BUDGET]
    assert "the start value 0.9 is below the stated optimal value 1.0; correct solve()" in str(trace.errors[1])
    assert np.isinf(trace.steps_to_target[1]).all()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("f_star", "start"), [(0.0, 1.0), (-5.0, 100.0), (1e6, 1e6 + 1)])
def test_rounding_is_no_contradiction(precision: str, f_star: float, start: float) -> None:
    eps = float(np.finfo(precision).eps)
    allowed = ROUNDING * eps * (abs(f_star) + start - f_star)
    for factor, status in ((0.9, Status.BUDGET), (1.1, Status.INVALID)):
        f = [[start], [f_star - factor * allowed]]
        assert trace_of(f, f_star=f_star, lower=f_star, eps=eps).status == [status]
    begin = [[f_star - 0.9 * ROUNDING * eps * abs(f_star)], [f_star]]
    assert trace_of(begin, f_star=f_star, lower=f_star, eps=eps).status == [Status.BUDGET]


def test_a_run_that_ends_early_is_judged_up_to_its_end() -> None:
    f = [[1.0], [1e-11], [-1.0], [-1.0]]
    assert trace_of(f, (4,), lower=0.0, stop=True).status == [Status.TARGET]
    assert trace_of(f, (4,), lower=0.0).status == [Status.INVALID]


def test_without_an_optimum_nothing_is_impossible() -> None:
    trace = trace_of([[1.0], [-1e300]], f_star=None)
    assert trace.status == [Status.BUDGET]
    assert np.isnan(trace.steps_to_target).all()
