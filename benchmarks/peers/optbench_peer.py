"""optbench, called as by its users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import optbench
from benchmarks.common import stepper
from benchmarks.peers.work import Result, Work
from optbench.core import workers
from optbench.core.backend import get_backend
from optbench.optimizer import At, make_recipe


def _runs(work: Work, checkpoint_count: int, jobs: int = 1) -> optbench.Runs:
    return optbench.sweep(
        work.problem,
        work.rule,
        lr=work.rates,
        seeds=work.seeds,
        steps=work.steps,
        batch_size=work.batch,
        checkpoint_count=checkpoint_count,
        jobs=jobs,
    )


def sweep(work: Work, jobs: int = 1, *, tables: bool = False) -> Callable[[], Result]:
    """The call of `optbench.sweep` with a number of processes, with its tables if `tables`."""
    _ = work.problem.optimum  # computed once per problem
    workers.IDLE_SECONDS = 3600.0  # they stay alive during the turns of other contenders

    def run() -> Result:
        runs = _runs(work, 2, jobs)
        if tables:
            _ = runs.table, runs.curves
        assert runs.x is not None
        return Result(None, runs.x)

    return run


def recorded(work: Work) -> Callable[[], int]:
    """A sweep with a checkpoint at every step, and the table of its curves; the number of its rows."""
    return lambda: len(
        _runs(work, 20 * work.steps).curves
    )  # with so many log-spaced checkpoints, all steps are recorded


def step_of(rule: str, x: np.ndarray, g: np.ndarray, lr: float, *, fused: bool) -> Callable[[int], Any]:
    """A function that takes a number of steps of a rule on one run, and returns the iterate."""
    optimizer = make_recipe(rule).build({"lr": lr}, fused=fused)
    backend = get_backend("numpy", fused=fused)
    row, gradient, f = x[None, :].copy(), g[None, :].copy(), np.zeros((1, 1))
    walk = stepper(optimizer, lambda x: At(x, f, gradient), row, backend)
    return lambda count: walk(count)[0]


def lbfgs(problem: Any, runs: int, tolerance: float, jobs: int) -> optbench.Runs:
    """L-BFGS from the start points of a number of seeds, each run until its gradient is small."""
    return optbench.sweep(
        problem, "lbfgs", seeds=runs, steps=1000, stop_at_gradient=tolerance, checkpoint_count=2, jobs=jobs
    )
