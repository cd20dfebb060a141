"""optbench, as its users call it, and cut over processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from work import Result, Work

import optbench
from optbench.arrays import get_backend
from optbench.loop import minimize
from optbench.optimizer import At, FirstOrder, make_recipe


def sweep(work: Work, executor: Any = None) -> Callable[[], Result]:
    """The whole call of `optbench.sweep`, tables included."""
    _ = work.problem.optimum  # solved once for a problem, however many sweeps follow

    def run() -> Result:
        runs = optbench.sweep(
            work.problem,
            work.rule,
            lr=work.rates,
            seeds=work.seeds,
            steps=work.steps,
            batch_size=work.batch,
            checkpoint_count=2,
            executor=executor,
        )
        return Result(None, runs.x)

    return run


def one_chunk_a_core(work: Work, executor: ProcessPoolExecutor, cores: int) -> Callable[[], Result]:
    """The loop itself, runs cut by hand into as many arrays as there are cores: what `jobs` could reach."""
    seeds = [tuple(map(int, part)) for part in np.array_split(work.seeds, cores) if len(part)]
    name = f"{work.title}-{work.steps}"
    for _ in range(20 * cores):  # every worker of the pool makes the problem before the clock starts
        executor.submit(_place, name, work).result()

    def run() -> Result:
        futures = [executor.submit(_loop, name, part) for part in seeds]
        return Result(None, np.concatenate([future.result() for future in futures]))

    return run


_placed: dict[str, Work] = {}


def _place(name: str, work: Work) -> None:
    if name not in _placed:
        _placed[name] = work


def _loop(name: str, seeds: tuple[int, ...]) -> np.ndarray:
    work = _placed[name]
    lr = np.tile(work.rates, len(seeds))
    optimizer = make_recipe(work.rule).build({"lr": lr}, fused=True)
    x0 = np.repeat(work.problem.starts(seeds), len(work.rates), axis=0)
    with threadpool_limits(1, "blas"):
        trace = minimize(
            work.problem, optimizer, x0, seeds=seeds, steps=work.steps, batch_size=work.batch, checkpoint_count=2
        )
    return trace.x


def pool(cores: int) -> ProcessPoolExecutor:
    """Fresh processes of one BLAS thread each, all of them up."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    executor = ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"))
    list(executor.map(_ready, range(8 * cores)))
    return executor


def _ready(number: int) -> int:
    return number


def step_of(rule: str, x: np.ndarray, g: np.ndarray, lr: float, *, fused: bool) -> Callable[[int], np.ndarray]:
    """A function that takes so many steps of a rule on one run, and returns the iterate."""
    optimizer = make_recipe(rule).build({"lr": lr}, fused=fused)
    assert isinstance(optimizer, FirstOrder)
    backend = get_backend("numpy", fused=fused)
    row, gradient, f = x[None, :].copy(), g[None, :].copy(), np.zeros((1, 1))
    kept: list[Any] = [row, optimizer.init(row, backend), 0]

    def run(count: int) -> np.ndarray:
        x, state, taken = kept
        for t in range(taken + 1, taken + count + 1):
            x, state = optimizer.step(t, At(x, f, gradient), state)
        kept[:] = x, state, taken + count
        return x[0]

    return run


def lbfgs(problem: Any, runs: int, tolerance: float) -> optbench.Runs:
    """L-BFGS from the start points of so many seeds, each run until its gradient is small."""
    return optbench.sweep(problem, "lbfgs", seeds=runs, steps=1000, stop_at_gradient=tolerance, checkpoint_count=2)
