"""Execute plans: compute their chunks in this process, in worker processes or on any executor.

Chunks are independent, and their results do not depend on where they run. Every chunk is stored as soon as it is done, so
an interrupted call continues where it stopped. Worker processes stay alive for a minute and are reused, see `workers`.
"""

from __future__ import annotations

import concurrent.futures as cf
import heapq
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

from optbench.core import workers
from optbench.core.errors import InputError
from optbench.core.workers import available_cores
from optbench.results.environment import environment
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.chunks import Chunk, chunks_of
from optbench.runner.compute import Parts, Progress, compute, solve, store_parts
from optbench.runner.dispatch import Limits, OnExecutor, Processes, Results
from optbench.runner.plan import Parallelism, Plan, refreshed
from optbench.runner.rows import ChunkResult, runs_from_chunks

START_SECONDS = 1.0  # start of worker processes; measured: 0.8 for two, 1.3 for four on four cores
RESTART_SECONDS = 0.05  # the same, if they are still alive


def execute(
    plans: Sequence[Plan],
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    retry_failed: bool = False,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    isolate: bool = False,
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
        Number of processes, or of BLAS threads (see `chunks.for_threads`). 1 computes in this process, unless there is a
        limit; None chooses the fastest. Processes are spawned, so a script needs ``if __name__ == "__main__":``.
    executor : concurrent.futures.Executor, optional
        Runs the chunks instead of processes, such as a Dask cluster's. Workers that do not see the store's folder send
        their results here. If the executor breaks, worker processes of this machine compute the rest.
    retry_failed : bool
        Whether to compute runs again that are stored as failed.
    time_limit : float, optional
        Seconds after which a chunk fails and its process is killed. It has no effect on the workers of an executor.
    memory_limit : float, optional
        Gigabytes that the process of a chunk may allocate, only on Linux; also without effect on an executor.
    isolate : bool
        Whether to compute plug-in code in a worker process even with one job, with a time limit of an hour and a memory
        limit of about the memory of this machine, unless others are given.
    on_start : callable, optional
        Called once, before work starts, with the estimated seconds of work, the number of runs to compute and the number
        of stored runs.
    progress : callable, optional
        Called repeatedly with the estimated seconds of work done since its last call.
    on_chunk : callable, optional
        Called with each chunk once it has been computed.

    Returns
    -------
    Runs
        All runs that could be computed; `Runs.missing` counts the others, and a warning says why they are missing.

    Raises
    ------
    StoreError
        If the store cannot be written.
    InputError
        If the number of jobs is not at least 1, a limit is not above 0, or worker processes cannot start.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"jobs must be at least 1, not {jobs!r}")
    plans = refreshed(plans)
    limits = Limits(time_limit, memory_limit, isolate)
    stored: set[str] = set()
    if store is not None:
        store.check_writable()
        stored = store.keys(failed=not retry_failed)
    requested: set[str] = set()
    if store is not None or len(plans) > 1:  # computing keys takes time
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
    dispatcher: OnExecutor | Processes | None = None
    if executor is not None:
        dispatcher = OnExecutor(executor, limits, chunks, store, report)
    elif (jobs > 1 and len(chunks) > 1) or limits.need_processes(chunks):
        dispatcher = Processes(jobs, limits, chunks, store, report)
    elif _uses_threads(chunks):
        threads = min(jobs, available_cores())
    results = _here(chunks, store, report, threads) if dispatcher is None else dispatcher.results()
    parts: Parts = []
    for chunk, result in results:
        if on_chunk is not None:
            on_chunk(chunk)
        parts += result or []
    reasons = Counter[str]() if dispatcher is None else dispatcher.missing
    if store is not None:
        runs = store.load(requested)
        lost = len(requested.difference(runs.rows["key"]))
    else:
        runs = runs_from_chunks(parts, plans, [environment() | {"blas threads": str(threads)}])
        lost = reasons.total()
    if lost:
        runs.missing = lost
        why, left = [], lost  # runs may be stored although the news of it was lost with a cluster
        for reason, count in (*reasons.items(), ("the results folder does not have them", lost)):
            if part := min(count, left):
                why.append(f"{part}: {reason}")
                left -= part
        remedy = (
            "the same call again computes them"
            if store is not None
            else "call again with a store, which keeps the others"
        )
        warnings.warn(
            f"{lost} of {len(requested) or len(runs) + lost} runs are missing ({'; '.join(why)}); {remedy}",
            stacklevel=2,
        )
    return runs


def _here(chunks: Sequence[Chunk], store: Store | None, report: Progress, threads: int) -> Results:
    """Compute chunks in this process, one after the other."""
    reasons: dict[int, str | None] = {}  # why problems could not be solved; problems need not be hashable
    for chunk in chunks:
        problem = chunk.plan.problem.host
        if id(problem) not in reasons:
            reasons[id(problem)] = solve(problem)
        reason = reasons[id(problem)]
        parts = [(chunk, ChunkResult(None, reason))] if reason else compute(chunk, report, threads=threads)
        yield chunk, store_parts(parts, store)


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
    for chunk in sorted(chunks, key=lambda chunk: chunk.seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + chunk.seconds)
    start = START_SECONDS if workers.idle_size() < cores else RESTART_SECONDS
    return cores if start + 1.25 * max(busy) < sum(busy) else 1  # cores that share memory are slower than one
