"""Running plans: chunks in this process, in a pool of processes or on any executor; stored as they finish.

Chunks are independent, and a chunk's result does not depend on where it runs, so neither do the tables. Every chunk that is
done is stored at once: a run that is interrupted goes on where it was.

Processes are spawned, so a script that asks for them keeps what it does under ``if __name__ == "__main__":``. They stand
for a minute after a call, see `workers`.
"""

from __future__ import annotations

import concurrent.futures as cf
import heapq
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from optbench.core import workers
from optbench.core.errors import InputError, OptbenchError
from optbench.core.workers import blas_threads
from optbench.results.environment import environment
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.plan import Chunk, Plan
from optbench.runner.rows import Done, gathered, rows_of

_PATIENCE = 2  # times a chunk may take its worker process down before it counts as failed

START_SECONDS = 1.0  # until a crew of workers stands; measured: 0.8 for two, 1.3 for four on four cores
STEP_SECONDS = 4e-5  # of a step, whatever its number of runs

Progress = Callable[[float], None]  # is told how much more of the work is done


def execute(
    plans: Sequence[Plan],
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    retry_failed: bool = False,
    on_start: Callable[[float, int, int], None] | None = None,
    progress: Progress | None = None,
) -> Runs:
    """Compute what the store lacks of some plans, and return all of their runs.

    Parameters
    ----------
    store : Store, optional
        Where results are kept and looked up; without one everything is computed and kept in memory only.
    jobs : int or None
        Number of processes, or of BLAS threads where a plan is one loop around a large matrix (see `plan.for_threads`); 1
        computes in this process. None takes what should be fastest: all cores where the work is
        worth their start, as `optbench run` does. More than one needs a script with ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Where to run the chunks instead, such as a Dask cluster's. Its workers must see the store's folder.
    retry_failed : bool
        Whether runs that are stored as failed are tried again.
    on_start : callable, optional
        Told once, before work starts: the whole work (in the units of `progress`), the runs to compute and those found.

    Raises
    ------
    StoreError
        If the store cannot be written.
    InputError
        If the number of jobs is impossible.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"jobs must be at least 1, not {jobs!r}")
    stored: set[str] = set()
    if store is not None:
        store.check_writable()
        stored = store.keys(failed=not retry_failed)
    wanted: set[str] = set()
    if store is not None or len(plans) > 1:
        wanted = {plan.key(point, seed) for plan in plans for seed in plan.seeds for point in plan.grid}
    left = wanted - stored

    def missing(key: str) -> bool:
        if key not in left:
            return False
        left.remove(key)  # two plans may ask for the same run
        return True

    chunks = [chunk for plan in plans for chunk in plan.chunks(missing if wanted else None)]
    if on_start is not None:
        on_start(sum(map(work_of, chunks)), sum(chunk.size for chunk in chunks), len(wanted & stored))
    report = progress or (lambda done: None)
    if jobs is None:
        jobs = default_jobs(chunks)
    threads = 1
    if executor is not None:
        results = _on_executor(executor, chunks, store, report)
    elif jobs > 1 and len(chunks) > 1:
        results = _on_processes(jobs, chunks, store, report)
    else:
        threads = min(jobs, _cores()) if len(chunks) == 1 and chunks[0].plan.shared else 1
        results = ((chunk, _compute(chunk, store, report, threads)) for chunk in _solved(chunks))
    parts = [(chunk, done) for chunk, done in results if done is not None]
    if store is not None:
        return store.load(wanted)
    return gathered(parts, plans, [environment() | {"blas threads": str(threads)}])


def work_of(chunk: Chunk) -> float:
    """Roughly the seconds that a chunk takes."""
    return chunk.plan.steps * (chunk.size * chunk.plan.nanoseconds * 1e-9 + STEP_SECONDS)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(chunks: Sequence[Chunk]) -> int:
    """Processes that should be fastest: all cores, or this one where it is done before they would be.

    A GPU is not shared.
    """
    cores = _cores()
    if len(chunks) == 1 and chunks[0].plan.shared:
        return cores
    jobs = min(cores, len(chunks))
    if jobs < 2 or any(chunk.plan.problem.backend.name != "numpy" for chunk in chunks):
        return 1
    busy = [0.0] * jobs  # seconds of work of each process
    for chunk in _largest_first(chunks):
        heapq.heapreplace(busy, busy[0] + work_of(chunk))
    start = START_SECONDS if workers.standing() < cores else 0.05
    return cores if start + 1.25 * max(busy) < sum(busy) else 1  # cores share memory: all are slower than one


def _solved(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The chunks, their optima known: solved once here, and sent along."""
    for chunk in chunks:
        _ = chunk.plan.problem.optimum
    return chunks


def _compute(chunk: Chunk, store: Store | None, report: Progress | None = None, threads: int = 1) -> Done | None:
    """Compute one chunk and store it; what it left, or nothing if that is in the store."""
    share = work_of(chunk) / (chunk.plan.steps + 1)
    told = 0.0

    def step_done(steps: int) -> None:
        nonlocal told
        told += steps * share
        if report is not None:
            report(steps * share)

    backend = chunk.plan.problem.backend
    backend.free_memory()
    try:
        with blas_threads(threads):
            done = Done(chunk.compute(step_done), device_bytes=backend.peak_memory())
    except OptbenchError:
        raise
    except Exception as error:  # a defect in a problem or an optimizer, or too little memory: it becomes a record
        done = Done.failed(error)
    if report is not None:
        report(work_of(chunk) - told)
    return _kept(chunk, done, store)


def _kept(chunk: Chunk, done: Done, store: Store | None) -> Done | None:
    """What a chunk left, or nothing once that is in the store."""
    if store is None:
        return done
    store.write(rows_of(chunk, done))
    return None


def _on_executor(
    executor: cf.Executor, chunks: Sequence[Chunk], store: Store | None, report: Progress
) -> Iterator[tuple[Chunk, Done | None]]:
    futures = {executor.submit(_compute, chunk, store): chunk for chunk in _largest_first(_solved(chunks))}
    for future in cf.as_completed(futures):
        chunk = futures[future]
        try:
            done = future.result()
        except OptbenchError:
            raise
        except Exception as error:  # the worker died or the chunk cannot be sent: a record like any other failure
            done = _kept(chunk, Done.failed(error), store)
        report(work_of(chunk))
        yield chunk, done


def _compute_packed(packed: bytes, store: Store | None) -> Done | None:
    # unpacked here, because what cannot be would take the worker down
    return _compute(pickle.loads(packed), store, workers.tell)


def _on_processes(
    jobs: int, chunks: Sequence[Chunk], store: Store | None, report: Progress
) -> Iterator[tuple[Chunk, Done | None]]:
    """Worker processes, at most `jobs` at work; when one dies, the others are replaced too and go on with what is left."""

    def failed(chunk: Chunk, error: Exception) -> tuple[Chunk, Done | None]:
        return chunk, _kept(chunk, Done.failed(error), store)

    crew = workers.take(jobs)
    try:
        if crew.size == jobs <= len(chunks):  # all will be needed
            crew.warm()  # they start while the optima are solved
        left = dict.fromkeys(_largest_first(_solved(chunks)), 0)  # chunk -> times it was lost
        while left:
            # chunks under suspicion run one at a time, so that the guilty one is known
            suspects = [chunk for chunk, times in left.items() if times]
            queue = suspects[:1] if suspects else list(left)
            queue.reverse()
            # a chunk waits in the queue of the workers, so that none is idle, unless there are more workers than jobs
            most = jobs + (crew.size == jobs)
            futures: dict[cf.Future[Any], Chunk] = {}
            lost: list[Chunk] = []
            heard, broken = crew.told, False
            while futures or (queue and not broken):
                while queue and len(futures) < most and not broken:
                    chunk = queue.pop()
                    try:
                        futures[crew.submit(_compute_packed, pickle.dumps(chunk), store)] = chunk
                    except BrokenProcessPool:
                        broken = True
                    except Exception as error:  # it cannot be sent to a process
                        del left[chunk]
                        yield failed(chunk, error)
                done, _ = cf.wait(futures, timeout=0.2, return_when=cf.FIRST_COMPLETED)
                report(crew.told - heard)
                heard = crew.told
                for future in done:
                    chunk = futures.pop(future)
                    try:
                        result = chunk, future.result()
                    except OptbenchError:
                        raise
                    except BrokenProcessPool:
                        lost.append(chunk)
                        broken = True
                        continue
                    except Exception as error:  # it cannot be unpacked in a process
                        result = failed(chunk, error)
                    del left[chunk]
                    yield result
            if broken:
                crew.stop()
                crew = workers.Crew(jobs)
            for chunk in lost:
                left[chunk] += 1
                if left[chunk] > _PATIENCE or (suspects and left[chunk] == _PATIENCE):
                    del left[chunk]
                    yield failed(chunk, RuntimeError("the process that computed it died; too little memory, perhaps"))
    except BaseException:
        crew.stop()
        raise
    if all(chunk.plan.problem.backend.name == "numpy" for chunk in chunks):
        workers.give_back(crew)
    else:
        crew.dismiss()  # it holds memory of the device


def _largest_first(chunks: Sequence[Chunk]) -> list[Chunk]:
    """So that no long chunk is left for one process at the end."""
    return sorted(chunks, key=work_of, reverse=True)
