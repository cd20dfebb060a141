"""Common parts of the benchmarks: backends as a parameter, steps of an optimizer, and timing of calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import BackendError
from optbench.core.types import Array
from optbench.optimizer import At, Optimizer
from optbench.runner.loop import init_state

BACKENDS = ["numpy", "numpy float32", "cupy", "cupy float32"]


def backend_or_skip(name: str) -> Backend:
    """The backend of a name such as "numpy float32"; asv skips the benchmark if there is none."""
    module, _, precision = name.partition(" ")
    try:
        return get_backend(module, precision=precision or "float64")
    except BackendError as error:
        raise NotImplementedError(str(error)) from None


def stepper(
    optimizer: Optimizer, evaluate: Callable[[Array], At], x: Array, backend: Backend
) -> Callable[[int], Array]:
    """A function that continues from x (R, d) by a number of steps at each call, and returns the points."""
    latest: list[Any] = [x, init_state(optimizer, x, backend), 0]

    def advance(count: int) -> Any:
        x, state, taken = latest
        with np.errstate(all="ignore"):
            for t in range(taken + 1, taken + count + 1):
                x, state = optimizer.step(t, evaluate(x), state)
        latest[:] = x, state, taken + count
        return x

    return advance


def seconds_of(run: Callable[[int], Any], count: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of `run(count)`."""
    start = clock()
    run(count)
    return clock() - start


def calls_within(run: Callable[[int], Any], seconds: float, clock: Callable[[], float] = time.perf_counter) -> int:
    """The count for which `run(count)` takes about so many seconds."""
    count = 1
    while (taken := seconds_of(run, count, clock)) <= seconds / 4:
        count *= 4
    return max(1, round(count * seconds / taken))
