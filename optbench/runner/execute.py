"""Execute plans: compute their chunks in this process, in worker processes or on any executor.

Chunks are independent, and their results do not depend on where they run. Every chunk is stored as soon as it is done, so
an interrupted call continues where it stopped. Worker processes stay alive for a minute and are reused, see `workers`.
"""

from __future__ import annotations

import concurrent.futures as cf
import heapq
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from optbench.core import workers
from optbench.core.errors import InputError, OptbenchError
from optbench.core.workers import available_cores, blas_threads
from optbench.results.environment import environment
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.chunks import Chunk, chunks_of
from optbench.runner.plan import Parallelism, Plan
from optbench.runner.rows import ChunkResult, chunk_rows, runs_from_chunks

MAX_LOSSES = 2  # times a worker process may die with a chunk before the chunk counts as failed

START_SECONDS = 1.0  # start of worker processes; measured: 0.8 for two, 1.3 for four on four cores
RESTART_SECONDS = 0.05  # the same, if they are still alive

Progress = Callable[[float], None]  # called with the work done since its last call, in seconds of `Chunk.seconds`
Results = Iterator[tuple[Chunk, ChunkResult | None]]  # each chunk with its result, or None if it is in the store


def execute(
    plans: Sequence[Plan],
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    retry_failed: bool = False,
    on_start: Callable[[float, int, int], None] | None = None,
    progress: Progress | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> Runs:
    """Compute the runs that the store lacks, and return all runs of the plans.

    Parameters
    ----------
    store : Store, optional
        Where runs are looked up and stored. Without a store everything is computed and stays in memory.
    jobs : int or None
        Number of processes, or of BLAS threads (see `chunks.for_threads`). 1 computes in this process; None chooses the
        fastest. Processes are spawned, so a script needs ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Runs the chunks instead of processes, such as a Dask cluster's. Its workers must see the store's folder.
    retry_failed : bool
        Whether to compute runs again that are stored as failed.
    on_start : callable, optional
        Called once, before work starts, with the estimated seconds of work, the number of runs to compute and the number
        of stored runs.
    progress : callable, optional
        Called repeatedly with the estimated seconds of work done since its last call.
    on_chunk : callable, optional
        Called with each chunk once it has been computed.

    Raises
    ------
    StoreError
        If the store cannot be written.
    InputError
        If the number of jobs is not at least 1.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"jobs must be at least 1, not {jobs!r}")
    stored: set[str] = set()
    if store is not None:
        store.check_writable()
        stored = store.keys(failed=not retry_failed)
    requested: set[str] = set()
    if store is not None or len(plans) > 1:
        requested = {key for plan in plans for key in plan.keys}
    missing = requested - stored

    def take_missing(key: str) -> bool:
        if key not in missing:
            return False
        missing.remove(key)  # two plans may contain the same run
        return True

    chunks = [chunk for plan in plans for chunk in chunks_of(plan, take_missing if requested else None)]
    if on_start is not None:
        on_start(sum(c.seconds for c in chunks), sum(c.size for c in chunks), len(requested & stored))
    report = progress or (lambda seconds: None)
    jobs = jobs or default_jobs(chunks)
    threads = 1
    if executor is not None:
        results = _on_executor(executor, chunks, store, report)
    elif jobs > 1 and len(chunks) > 1:
        results = _Processes(jobs, chunks, store, report).results()
    else:
        threads = min(jobs, available_cores()) if _uses_threads(chunks) else 1
        results = ((chunk, _compute(chunk, store, report, threads)) for chunk in _with_optima(chunks))
    parts = []
    for chunk, result in results:
        if on_chunk is not None:
            on_chunk(chunk)
        if result is not None:
            parts.append((chunk, result))
    if store is not None:
        return store.load(requested)
    return runs_from_chunks(parts, plans, [environment() | {"blas threads": str(threads)}])


def _uses_threads(chunks: Sequence[Chunk]) -> bool:
    return len(chunks) == 1 and chunks[0].plan.parallelism is Parallelism.THREADS


def default_jobs(chunks: Sequence[Chunk]) -> int:
    """The fastest number of processes: all cores, or 1 if the work is short or on a GPU."""
    cores = available_cores()
    if _uses_threads(chunks):
        return cores
    jobs = min(cores, len(chunks))
    if jobs < 2 or any(chunk.plan.problem.backend.name != "numpy" for chunk in chunks):
        return 1
    busy = [0.0] * jobs  # seconds of work of each process
    for chunk in _largest_first(chunks):
        heapq.heapreplace(busy, busy[0] + chunk.seconds)
    start = START_SECONDS if workers.idle_size() < cores else RESTART_SECONDS
    return cores if start + 1.25 * max(busy) < sum(busy) else 1  # cores that share memory are slower than one


def _with_optima(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The chunks, after solving the optima of their problems once, in this process."""
    for chunk in chunks:
        _ = chunk.plan.problem.optimum
    return chunks


def _largest_first(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks in an order that keeps all processes busy until the end."""
    return sorted(chunks, key=lambda chunk: chunk.seconds, reverse=True)


def _compute(
    chunk: Chunk, store: Store | None, report: Progress = lambda seconds: None, threads: int = 1
) -> ChunkResult | None:
    """Compute a chunk. Returns its result, or None after storing it."""
    step_seconds = chunk.seconds / (chunk.plan.steps + 1)
    reported = 0.0

    def report_steps(steps: int) -> None:
        nonlocal reported
        reported += steps * step_seconds
        report(steps * step_seconds)

    backend = chunk.plan.problem.backend
    backend.free_memory()
    try:
        with blas_threads(threads):
            result = ChunkResult(chunk.compute(report_steps), device_bytes=backend.peak_memory())
    except OptbenchError:
        raise
    except Exception as error:  # an error in a problem or an optimizer, or too little memory: stored as a failed run
        result = ChunkResult.failed(error)
    report(chunk.seconds - reported)
    return _store_result(chunk, result, store)


def _store_result(chunk: Chunk, result: ChunkResult, store: Store | None) -> ChunkResult | None:
    """The result of a chunk without a store; None after storing it."""
    if store is None:
        return result
    store.write(chunk_rows(chunk, result))
    return None


def _on_executor(executor: cf.Executor, chunks: Sequence[Chunk], store: Store | None, report: Progress) -> Results:
    futures = {executor.submit(_compute, chunk, store): chunk for chunk in _largest_first(_with_optima(chunks))}
    for future in cf.as_completed(futures):
        chunk = futures[future]
        try:
            result = future.result()
        except OptbenchError:
            raise
        except Exception as error:  # the worker died, or the chunk cannot be pickled
            result = _store_result(chunk, ChunkResult.failed(error), store)
        report(chunk.seconds)
        yield chunk, result


def _compute_pickled(pickled: bytes, store: Store | None) -> ChunkResult | None:
    # unpickled here, because an error in the pool's own unpickling would end the worker
    try:
        chunk = pickle.loads(pickled)
    except AttributeError as error:
        if "__main__" in str(error):
            raise InputError(
                f"worker processes cannot import what a notebook or an interpreter defines ({error}); "
                "move it to a file and import it, or compute with jobs=1"
            ) from None
        raise
    return _compute(chunk, store, workers.report_progress)


class _Processes:
    """Chunks on worker processes, at most `jobs` at a time. When a process dies, all processes are replaced."""

    def __init__(self, jobs: int, chunks: Sequence[Chunk], store: Store | None, report: Progress) -> None:
        self.jobs, self.chunks, self.store, self.report = jobs, chunks, store, report
        self.pool = workers.acquire(jobs)
        self.losses: dict[Chunk, int] = {}  # number of processes that died with each unfinished chunk

    def results(self) -> Results:
        """Each chunk with its result, in order of completion."""
        try:
            if self.pool.size == self.jobs <= len(self.chunks):
                self.pool.warm()  # the processes start while the optima are solved
            self.losses = dict.fromkeys(_largest_first(_with_optima(self.chunks)), 0)
            while self.losses:
                yield from self._round()
        except BaseException:
            self.pool.stop()
            raise
        if all(chunk.plan.problem.backend.name == "numpy" for chunk in self.chunks):
            workers.release(self.pool)
        else:
            self.pool.dismiss()  # frees memory of the device

    def _round(self) -> Results:
        """Compute unfinished chunks until a process dies."""
        # after a death, the chunks that were running go one at a time, to find the one that kills its process
        suspects = [chunk for chunk, losses in self.losses.items() if losses]
        queue = suspects[:1] if suspects else list(self.losses)
        queue.reverse()
        # one more chunk than jobs waits at the workers, so that none is idle, unless there are more workers than jobs
        limit = self.jobs + (self.pool.size == self.jobs)
        futures: dict[cf.Future[Any], Chunk] = {}
        lost: list[Chunk] = []
        reported, broken = self.pool.progress, False
        while futures or (queue and not broken):
            while queue and len(futures) < limit and not broken:
                chunk = queue.pop()
                try:
                    futures[self.pool.submit(_compute_pickled, pickle.dumps(chunk), self.store)] = chunk
                except BrokenProcessPool:
                    broken = True
                except Exception as error:  # the chunk cannot be pickled
                    yield self._fail(chunk, error)
            completed, _ = cf.wait(futures, timeout=0.2, return_when=cf.FIRST_COMPLETED)
            self.report(self.pool.progress - reported)
            reported = self.pool.progress
            for future in completed:
                chunk = futures.pop(future)
                try:
                    result = future.result()
                except OptbenchError:
                    raise
                except BrokenProcessPool:
                    lost.append(chunk)
                    broken = True
                except Exception as error:  # the chunk cannot be unpickled
                    yield self._fail(chunk, error)
                else:
                    del self.losses[chunk]
                    yield chunk, result
        if broken:
            self.pool.stop()
            self.pool = workers.WorkerPool(self.jobs)
        for chunk in lost:
            self.losses[chunk] += 1
            if self.losses[chunk] > MAX_LOSSES or (suspects and self.losses[chunk] == MAX_LOSSES):
                yield self._fail(chunk, RuntimeError("its worker process died, perhaps for lack of memory"))

    def _fail(self, chunk: Chunk, error: Exception) -> tuple[Chunk, ChunkResult | None]:
        del self.losses[chunk]
        return chunk, _store_result(chunk, ChunkResult.failed(error), self.store)
