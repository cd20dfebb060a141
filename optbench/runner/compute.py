"""Compute one chunk, or solve one problem, in whichever process or thread this is, and turn errors into failed results.

How chunks are distributed is in `dispatch`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from optbench.core import workers
from optbench.core.errors import BackendError, InputError, OptbenchError, StoreError, error_text
from optbench.core.imports import Imports, origin_of
from optbench.core.registry import SCHEDULES
from optbench.core.workers import blas_threads, memory_limit
from optbench.problem import Optimum, Problem
from optbench.results.store import Store
from optbench.runner.chunks import Chunk
from optbench.runner.describe import describe
from optbench.runner.plan import Plan
from optbench.runner.rows import ChunkResult, chunk_rows

Progress = Callable[[float], None]  # called with the work done since its last call, in seconds of `Chunk.seconds`
Parts = list[tuple[Chunk, ChunkResult]]  # a chunk with its result, or the parts of a chunk that failed as a whole
SentParts = list[
    tuple[tuple[dict[str, float], ...], tuple[int, ...], ChunkResult]
]  # settings and seeds, without the plan


def is_built_in(plan: Plan) -> bool:
    """Whether the problem, the optimizer and the schedule of a plan are those of optbench."""
    schedule = plan.schedule.partition(":")[0]
    return all(map(_is_own, (type(plan.problem), plan.recipe.target))) and origin_of(SCHEDULES, schedule) is None


def is_own_problem(problem: Problem) -> bool:
    """Whether the class of a problem is one of optbench."""
    return _is_own(type(problem))


def _is_own(target: Any) -> bool:
    return str(getattr(target, "__module__", "")).startswith("optbench.")


def compute(
    chunk: Chunk, report: Progress = lambda seconds: None, *, threads: int = 1, memory: int | None = None
) -> Parts:
    """The results of a chunk.

    An exception fails the runs that raise it: if the chunk fails, its settings are computed one by one, then the seeds of
    those that fail again. That at most triples the work. If all of them fail, the error of the whole chunk is reported.

    Parameters
    ----------
    report : callable
        Called with the work done.
    threads : int
        BLAS threads.
    memory : int, optional
        Bytes that this process may allocate.

    Raises
    ------
    BackendError
        If the backend cannot be used.
    """
    step_seconds = chunk.seconds / (chunk.plan.steps + 1)
    reported = 0.0

    def report_steps(steps: int) -> None:
        nonlocal reported
        reported += steps * step_seconds
        try:
            report(steps * step_seconds)
        except Exception as error:
            raise _ReportError(error) from error

    parts = _split(chunk, _attempt(chunk, report_steps, threads, memory), threads, memory)
    report(chunk.seconds - reported)
    return parts


class _ReportError(Exception):
    """An error of whoever receives progress, such as a closed terminal; it is no failure of the chunk."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


def _split(chunk: Chunk, attempt: tuple[ChunkResult, bool], threads: int, memory: int | None) -> Parts:
    result, depends_on_run = attempt
    pieces = chunk.pieces()
    if not depends_on_run or len(pieces) < 2:
        return [(chunk, result)]
    attempts = [_attempt(piece, None, threads, memory) for piece in pieces]
    if all(result.trace is None for result, _ in attempts):
        return [(chunk, result)]
    return [
        part
        for piece, attempt in zip(pieces, attempts, strict=True)
        for part in _split(piece, attempt, threads, memory)
    ]


def _attempt(
    chunk: Chunk, report: Callable[[int], None] | None, threads: int, memory: int | None
) -> tuple[ChunkResult, bool]:
    """The result of a chunk, and whether a part of it may succeed if it has failed."""
    backend = chunk.plan.problem.backend
    backend.free_memory()
    try:
        with blas_threads(threads), memory_limit(memory), _same_folder():
            return ChunkResult(chunk.compute(report), device_bytes=backend.peak_memory()), False
    except BackendError:
        raise
    except _ReportError as error:
        raise error.cause from None
    except BaseException as error:
        return ChunkResult(None, _reason(error, memory)), not isinstance(error, OptbenchError)


def _reason(error: BaseException, memory: int | None) -> str:
    """Why a computation failed; raises what is no failure of the computation."""
    if isinstance(error, KeyboardInterrupt | GeneratorExit) and not workers.in_worker():
        raise error  # Ctrl-C; our workers do not receive it
    if isinstance(error, MemoryError) and memory is not None:
        return f"it needs more than {memory / 1e9:.3g} GB; raise --memory-limit"
    return error_text(error)


@contextlib.contextmanager
def _same_folder() -> Iterator[None]:
    """Return to the working folder, which a problem may have changed."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - pathlib cannot say that there is none
    except OSError:
        folder = None
    try:
        yield
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):
                os.chdir(folder)


def solve(problem: Problem, *, memory: int | None = None) -> str | None:
    """Solve the optimum of a problem, once. Returns the reason if that fails."""
    if problem.is_solved:
        return None
    try:
        with memory_limit(memory), _same_folder():
            _ = problem.optimum
    except BaseException as error:
        reason = _reason(error, memory)
        return reason if isinstance(error, OptbenchError) else f"solve() of {problem.spec}: {reason}"
    return None


def rows_of(parts: Parts) -> list[dict[str, Any]]:
    """The rows of the parts of a chunk; failed rows if the problem cannot be described."""
    rows = []
    for chunk, result in parts:
        try:
            with _same_folder():
                rows += chunk_rows(chunk, result)
        except (Exception, SystemExit) as error:
            rows += chunk_rows(chunk, ChunkResult(None, error_text(error)))
    return rows


def store_parts(parts: Parts, store: Store | None) -> Parts | None:
    """Store results. Returns None; without a store, the results."""
    if store is None:
        return parts
    store.write(rows_of(parts))
    return None


# ---- in another process or on another machine ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Driver:
    """What other machines need to know of the process that distributes the work.

    Parameters
    ----------
    probe : Path or None
        A file in the folder of the store, which a worker finds if it sees the same folder.
    versions : dict
        Versions on which results depend.
    """

    probe: Path | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())

    def check_versions(self) -> None:
        """Raise `InputError` if this process has other versions than the driver."""
        here = versions()
        if other := [
            f"{name} {here[name]} instead of {there}" for name, there in self.versions.items() if here[name] != there
        ]:
            raise InputError(
                f"a worker on {platform.node() or 'another machine'} has {', '.join(other)}; install the same versions"
            )


def versions() -> dict[str, str]:
    """Versions of optbench, Python and NumPy in this process."""
    from optbench import __version__

    python = ".".join(platform.python_version_tuple()[:2])
    return {"optbench": __version__, "Python": python, "NumPy": np.__version__}


def compute_sent(
    chunk: Chunk, store: Store | None, report: Progress = lambda seconds: None, memory: int | None = None
) -> SentParts | None:
    """Compute a chunk that another process has sent. Returns None after storing it, or what that process must store."""
    parts = compute(chunk, report, memory=memory)
    if not is_own_problem(chunk.plan.problem):
        # here, because a plug-in that is evaluated in the other process may end it
        with _same_folder():
            parts = [(part, _described(part, result)) for part, result in parts]
    if store is not None:
        with contextlib.suppress(StoreError):  # that process may be able to store it, or will raise
            store.write(rows_of(parts))
            return None
    return [(part.grid, part.seeds, result) for part, result in parts]


def _described(chunk: Chunk, result: ChunkResult) -> ChunkResult:
    return dataclasses.replace(result, description=describe(chunk.plan.problem, evaluate=result.trace is not None))


def received_parts(chunk: Chunk, parts: SentParts) -> Parts:
    """The results of `compute_sent` with their chunks."""
    return [(dataclasses.replace(chunk, grid=grid, seeds=seeds), result) for grid, seeds, result in parts]


def compute_far(chunk: Chunk, store: Store | None, driver: Driver) -> SentParts | None:
    """Compute a chunk on any machine, see `compute_sent`."""
    driver.check_versions()
    sees_store = driver.probe is not None and driver.probe.is_file()
    return compute_sent(chunk, store if sees_store else None)


def solve_sent(problem: Problem, memory: int | None = None) -> tuple[Optimum | None, str | None]:
    """The optimum of a problem that another process has sent, or the reason why it cannot be solved."""
    reason = solve(problem, memory=memory)
    return None if reason is not None else problem.optimum, reason


def solve_far(imports: Imports, problem: Problem, driver: Driver) -> tuple[Optimum | None, str | None]:
    """Solve a problem on any machine, see `solve_sent`; the imports are unpickled before it."""
    driver.check_versions()
    return solve_sent(problem)
