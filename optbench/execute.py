"""Running plans: chunks in this process, in a pool of processes or on any executor; stored as they finish.

Chunks are independent, and a chunk's result does not depend on where it runs, so neither do the tables. Every chunk that is
done is stored at once: a run that is interrupted goes on where it was.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from optbench.errors import InputError, OptbenchError
from optbench.plan import Chunk, Plan
from optbench.results import Done, Runs, environment, gathered, rows_of
from optbench.store import Store

# One BLAS thread a process: the stacks are small, and two pools of threads at once cost far more than they give.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_PATIENCE = 2  # times a chunk may take its worker process down before it counts as failed

Progress = Callable[[float], None]  # is told how much more of the work is done


def execute(
    plans: Sequence[Plan],
    *,
    store: Store | None = None,
    jobs: int = 1,
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
    jobs : int
        Number of processes; 1 computes in this process.
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
    if not isinstance(jobs, int) or jobs < 1:
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
    for chunk in chunks:
        _ = chunk.plan.problem.optimum  # solved once here, and sent along
    if executor is not None:
        results = _on_executor(executor, chunks, store, report)
    elif jobs > 1 and len(chunks) > 1:
        results = _on_processes(min(jobs, len(chunks)), chunks, store, report)
    else:
        results = (_compute(chunk, store, report) for chunk in chunks)
    parts = [done for done in results if done is not None]
    if store is not None:
        return store.load(wanted)
    return gathered(parts, plans, [environment()])


def work_of(chunk: Chunk) -> float:
    """A rough measure of a chunk's work: bytes that its steps move."""
    plan = chunk.plan
    each = plan.problem.bytes_per_run(plan.batch_size) + 8 * plan.recipe.kind.matrices * plan.problem.dim**2
    return float(chunk.size * plan.steps * (each + 2000))


def default_jobs(plans: Sequence[Plan]) -> int:
    """Processes that pay: all cores, unless the work is done before a pool would stand."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = sum(work_of(chunk) for plan in plans for chunk in plan.chunks())
    return cores if work > 2e10 and all(plan.problem.backend.name == "numpy" for plan in plans) else 1


def _compute(chunk: Chunk, store: Store | None, report: Progress | None = None) -> Done | None:
    """Compute one chunk and store it; what it left, or nothing if that is in the store."""
    from threadpoolctl import threadpool_limits

    share = work_of(chunk) / (chunk.plan.steps + 1)
    told = 0.0

    def step_done(steps: int) -> None:
        nonlocal told
        told += steps * share
        if report is not None:
            report(steps * share)

    chunk.plan.problem.backend.free_memory()
    try:
        with threadpool_limits(1, user_api="blas"):
            done = Done(chunk, chunk.compute(step_done), device_bytes=chunk.plan.problem.backend.peak_memory())
    except OptbenchError:
        raise
    except Exception as error:  # a defect in a problem or an optimizer, or too little memory: it becomes a record
        done = Done.failed(chunk, error)
    if report is not None:
        report(work_of(chunk) - told)
    return _kept(done, store)


def _kept(done: Done, store: Store | None) -> Done | None:
    """What a chunk left, or nothing once that is in the store."""
    if store is None:
        return done
    store.write(rows_of(done))
    return None


def _on_executor(
    executor: cf.Executor, chunks: Sequence[Chunk], store: Store | None, report: Progress
) -> Iterator[Done | None]:
    futures = {executor.submit(_compute, chunk, store): chunk for chunk in _largest_first(chunks)}
    for future in cf.as_completed(futures):
        chunk = futures[future]
        try:
            done = future.result()
        except OptbenchError:
            raise
        except Exception as error:  # the worker died or the chunk cannot be sent: a record like any other failure
            done = _kept(Done.failed(chunk, error), store)
        report(work_of(chunk))
        yield done


# Work done so far by the chunks that a worker process is at, told to the process that waits for them.
_told: Any = None


def _attach(told: Any) -> None:
    global _told
    _told = told


def _compute_and_tell(chunk: Chunk, store: Store | None) -> Done | None:
    def tell(done: float) -> None:
        with _told.get_lock():
            _told.value += done

    return _compute(chunk, store, tell)


def _on_processes(jobs: int, chunks: Sequence[Chunk], store: Store | None, report: Progress) -> Iterator[Done | None]:
    """A pool of fresh processes that is built anew when one of them dies, and goes on with what is not done."""
    context = multiprocessing.get_context("spawn")
    told, heard = context.Value("d", 0.0), 0.0
    left = dict.fromkeys(_largest_first(chunks), 0)  # chunk -> times it was lost
    while left:
        lost: list[Chunk] = []
        # chunks under suspicion run one at a time, so that the guilty one is known
        suspects = [chunk for chunk, times in left.items() if times]
        batch, workers = (suspects[:1], 1) if suspects else (list(left), jobs)
        pool = cf.ProcessPoolExecutor(workers, mp_context=context, initializer=_attach, initargs=(told,))
        with _pinned(), pool:
            try:
                futures = {pool.submit(_compute_and_tell, chunk, store): chunk for chunk in batch}
                waiting = set(futures)
                while waiting:
                    done, waiting = cf.wait(waiting, timeout=0.2, return_when=cf.FIRST_COMPLETED)
                    report(told.value - heard)
                    heard = told.value
                    for future in done:
                        chunk = futures[future]
                        try:
                            left_by = future.result()
                        except OptbenchError:
                            raise
                        except BrokenProcessPool:
                            lost.append(chunk)
                            continue
                        except Exception as error:  # it cannot be sent to a process
                            left_by = _kept(Done.failed(chunk, error), store)
                        del left[chunk]
                        yield left_by
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for chunk in lost:
            left[chunk] += 1
            if left[chunk] > _PATIENCE or (suspects and left[chunk] == _PATIENCE):
                died = RuntimeError("the process that computed it died; too little memory, perhaps")
                del left[chunk]
                yield _kept(Done.failed(chunk, died), store)


def _largest_first(chunks: Sequence[Chunk]) -> list[Chunk]:
    """So that no long chunk is left for one process at the end."""
    return sorted(chunks, key=work_of, reverse=True)


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Processes started here begin with one BLAS thread, set before NumPy is imported in them."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
