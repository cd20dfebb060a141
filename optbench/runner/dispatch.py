"""Distribute chunks: on our worker processes, or on any executor.

Errors of the computed code are results: failed rows. What happens to a process or a machine from outside is none: such
chunks are computed again, and counted as missing if that does not help.
"""

from __future__ import annotations

import abc
import concurrent.futures as cf
import contextlib
import dataclasses
import pickle
import queue
import signal
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from optbench.core import workers
from optbench.core.errors import InputError, OptbenchError, error_text
from optbench.core.imports import Imports
from optbench.core.memory import machine_memory
from optbench.core.workers import StartError, TimeLimitError, WorkerDiedError, available_cores
from optbench.problem import Problem
from optbench.results import files
from optbench.results.store import Store
from optbench.runner.chunks import Chunk
from optbench.runner.cluster import Cluster
from optbench.runner.compute import (
    Driver,
    Parts,
    Progress,
    compute_far,
    compute_sent,
    is_built_in,
    is_own_problem,
    received_parts,
    solve,
    solve_far,
    solve_sent,
    store_parts,
)
from optbench.runner.rows import ChunkResult

MAX_CRASHES = 2  # times a chunk may end its process before it counts as failed
MAX_KILLS = 5  # times the process of a chunk may be killed from outside before its runs count as missing
PLUGIN_SECONDS = 3600.0  # time limit of a chunk of plug-in code, if no limit is given and plug-ins are isolated
MEMORY_SHARE, MIN_MEMORY = (
    0.8,
    4e9,
)  # likewise: share of the memory for all processes together, and bytes for each at least
POLL_SECONDS = 0.2

# signals by which a process ends itself; all others come from outside
_CRASHES = {
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
}

Results = Iterator[tuple[Chunk, Parts | None]]  # each chunk with its results, or None if they are in the store


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of each chunk.

    Parameters
    ----------
    seconds : float or None
        Time, from when a worker begins the chunk.
    gigabytes : float or None
        Memory of the process that computes it.
    isolate : bool
        Whether plug-in code is computed in worker processes even with one job, and has limits if none are given.

    Raises
    ------
    InputError
        If a limit is not above 0.
    """

    seconds: float | None = None
    gigabytes: float | None = None
    isolate: bool = False

    def __post_init__(self) -> None:
        for name, value in (("time_limit", self.seconds), ("memory_limit", self.gigabytes)):
            if value is not None and not (isinstance(value, int | float) and 0 < value < float("inf")):
                raise InputError(f"{name} must be a number above 0, not {value!r}")

    def need_processes(self, chunks: Sequence[Chunk]) -> bool:
        """Whether some chunk must not be computed in this process."""
        is_limited = self.seconds is not None or self.gigabytes is not None
        return is_limited or (self.isolate and not all(is_built_in(chunk.plan) for chunk in chunks))

    def seconds_of(self, is_built_in: bool) -> float | None:
        """The time limit of built-in or of plug-in code."""
        return self.seconds if is_built_in or self.seconds is not None or not self.isolate else PLUGIN_SECONDS

    def bytes_of(self, is_built_in: bool, jobs: int) -> int | None:
        """The memory limit of built-in or of plug-in code, with several processes."""
        if self.gigabytes is not None:
            return int(self.gigabytes * 1e9)
        memory = machine_memory()
        if is_built_in or not self.isolate or memory is None:
            return None
        return int(MEMORY_SHARE * memory if jobs == 1 else max(MEMORY_SHARE * memory / jobs, min(MIN_MEMORY, memory)))


@dataclasses.dataclass(eq=False)
class _Task:
    """A chunk to compute, or a problem to solve."""

    problem: Problem
    chunk: Chunk | None = None
    crashes: int = 0
    kills: int = 0


class _Dispatcher(abc.ABC):
    """Sends tasks away and collects results. A chunk waits until the optimum of its problem is solved.

    Attributes
    ----------
    missing : Counter
        Number of runs that could not be computed, by reason.
    """

    def __init__(self, chunks: Sequence[Chunk], store: Store | None, report: Progress) -> None:
        self.chunks, self.store, self.report = chunks, store, report
        self.missing: Counter[str] = Counter()
        self.queue: deque[_Task] = deque()
        self.alone: deque[_Task] = deque()  # computed last, one at a time
        self.pending: dict[cf.Future[Any], _Task] = {}
        self.done: queue.SimpleQueue[cf.Future[Any]] = queue.SimpleQueue()
        self.waiting: dict[int, list[Chunk]] = {}  # chunks whose problem is not solved yet, by its id

    @abc.abstractmethod
    def send(self, task: _Task) -> cf.Future[Any]:
        """Send a task away; what this raises is the outcome of the task."""

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Whether another task can be sent."""

    @abc.abstractmethod
    def finish(self, task: _Task, future: cf.Future[Any]) -> Results:
        """The chunks of a task that has ended, with their results; or queue it again, or give it up."""

    @abc.abstractmethod
    def poll(self) -> None:
        """Called at least every `POLL_SECONDS`."""

    def results(self) -> Results:
        """Each chunk with its results, in order of completion, except for missing ones."""
        yield from self._enqueue()
        while self.queue or self.alone or self.pending:
            task = None
            if self.queue and self.has_room():
                task = self.queue.popleft()
            elif self.alone and not self.queue and not self.pending:
                task = self.alone.popleft()
            if task is not None:
                try:
                    future = self.send(task)
                except (Exception, SystemExit) as error:  # it cannot be pickled, or the executor does not take it
                    future = cf.Future()
                    future.set_exception(error)
                self.pending[future] = task
                future.add_done_callback(self.done.put)
            with contextlib.suppress(queue.Empty):
                done = self.done.get(timeout=0 if task is not None else POLL_SECONDS)
                if done in self.pending:
                    yield from self.finish(self.pending.pop(done), done)
            self.poll()

    def _enqueue(self) -> Results:
        """Queue all chunks, the largest first; problems of optbench are solved here, others where chunks are computed."""
        reasons: dict[int, str | None] = {}  # why problems could not be solved here
        for chunk in sorted(self.chunks, key=lambda chunk: chunk.seconds, reverse=True):
            problem = chunk.plan.problem.host
            name = id(problem)  # problems need not be hashable
            if name not in reasons and name not in self.waiting:
                if is_own_problem(problem) or problem.is_solved:
                    reasons[name] = solve(problem)
                else:
                    self.waiting[name] = []
                    self.queue.appendleft(_Task(problem))
            if name in self.waiting:
                self.waiting[name].append(chunk)
            elif (reason := reasons[name]) is None:
                self.queue.append(_Task(problem, chunk))
            else:
                yield from self.fail(_Task(problem, chunk), reason)

    def chunks_of(self, task: _Task) -> list[Chunk]:
        """The chunk of a task, or all that wait for its problem, which then wait no longer."""
        return self.waiting.pop(id(task.problem)) if task.chunk is None else [task.chunk]

    def succeed(self, task: _Task, value: Any) -> Results:
        """Take the result of `compute_sent` or `solve_sent`."""
        if task.chunk is not None:
            yield task.chunk, None if value is None else store_parts(received_parts(task.chunk, value), self.store)
            return
        optimum, reason = value
        if reason is not None:
            yield from self.fail(task, reason)
        else:
            task.problem.set_optimum(optimum)
            self.queue.extend(_Task(task.problem, chunk) for chunk in self.chunks_of(task))

    def fail(self, task: _Task, reason: str) -> Results:
        """Fail a chunk, or all chunks of a problem."""
        if task.chunk is None:
            reason = reason if reason.startswith("solve()") else f"solve() of {task.problem.spec}: {reason}"
        for chunk in self.chunks_of(task):
            yield chunk, store_parts([(chunk, ChunkResult(None, reason))], self.store)

    def miss(self, task: _Task, reason: str) -> None:
        """Give up a chunk, or all chunks of a problem, without storing anything."""
        self.missing[reason] += sum(chunk.size for chunk in self.chunks_of(task))


class Processes(_Dispatcher):
    """Chunks on our own worker processes, at most `jobs` at a time."""

    def __init__(
        self, jobs: int, limits: Limits, chunks: Sequence[Chunk], store: Store | None, report: Progress
    ) -> None:
        super().__init__(chunks, store, report)
        self.jobs, self.limits = jobs, limits
        self.pool = workers.acquire(jobs)
        self.reported = self.pool.progress

    def results(self) -> Results:
        try:
            if self.pool.size == self.jobs <= len(self.chunks):
                self.pool.warm()  # the processes start while the optima are solved
            yield from super().results()
        except BaseException:
            self.pool.stop()
            raise
        if all(chunk.plan.problem.backend.name == "numpy" for chunk in self.chunks):
            workers.release(self.pool)
        else:
            self.pool.dismiss()  # frees memory of the device

    def has_room(self) -> bool:
        # one more chunk than jobs waits, so that no worker is idle, unless there are more workers than jobs
        return len(self.pending) < self.jobs + (self.pool.size == self.jobs)

    def _limits(self, task: _Task) -> tuple[float | None, int | None]:
        """Seconds and bytes."""
        is_known = task.chunk is not None and is_built_in(task.chunk.plan)
        is_on_device = task.chunk is not None and task.chunk.plan.problem.backend.name != "numpy"
        # drivers of devices map more memory than they use
        size = None if is_on_device else self.limits.bytes_of(is_known, self.jobs)
        return self.limits.seconds_of(is_known), size

    def send(self, task: _Task) -> cf.Future[Any]:
        seconds, size = self._limits(task)
        pickled = pickle.dumps((Imports(), task.chunk or task.problem))  # the imports are unpickled first
        return self.pool.submit(_compute_pickled, pickled, self.store, size, limit=seconds)

    def finish(self, task: _Task, future: cf.Future[Any]) -> Results:
        try:
            value = future.result()
        except OptbenchError:
            raise
        except StartError as error:
            raise InputError(f"worker processes cannot start: {error}; or compute with jobs=1") from None
        except TimeLimitError:
            seconds, _ = self._limits(task)
            yield from self.fail(task, f"it took longer than {seconds:g} s; raise --time-limit")
        except WorkerDiedError as error:
            yield from self._finish_dead(task, error.exitcode)
        except (Exception, SystemExit) as error:  # the chunk cannot be pickled or unpickled
            yield from self.fail(task, error_text(error))
        else:
            yield from self.succeed(task, value)

    def _finish_dead(self, task: _Task, exitcode: int | None) -> Results:
        if exitcode is None or exitcode >= 0 or -exitcode in _CRASHES:
            task.crashes += 1
            if task.crashes < MAX_CRASHES:
                self.alone.append(task)
            else:
                yield from self.fail(task, f"it ended its process: {_ending(exitcode)}")
        else:
            task.kills += 1
            if task.kills == 1:
                self.queue.append(task)
            elif task.kills < MAX_KILLS:
                self.alone.append(task)
            else:
                reason = f"their worker process was killed {MAX_KILLS} times ({_ending(exitcode)})"
                self.miss(task, f"{reason}, perhaps for lack of memory")

    def poll(self) -> None:
        progress = self.pool.progress
        self.report(progress - self.reported)
        self.reported = progress


def _ending(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None or exitcode >= 0:
        return "it closed its pipe" if exitcode is None else f"exit code {exitcode}"
    with contextlib.suppress(ValueError):
        return f"{str(signal.strsignal(-exitcode)).lower()} ({signal.Signals(-exitcode).name})"
    return f"signal {-exitcode}"


def _compute_pickled(pickled: bytes, store: Store | None, memory: int | None) -> Any:
    if store is not None:
        # these imports take a second, which does not count
        import pandas  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    workers.start_clock()
    # unpickled here, where errors have messages
    try:
        _, item = pickle.loads(pickled)
    except AttributeError as error:
        if "__main__" in str(error):
            raise InputError(
                f"worker processes cannot import what a notebook or an interpreter defines ({error}); "
                "move it to a file and import it, or compute with jobs=1"
            ) from None
        raise
    if isinstance(item, Problem):
        return solve_sent(item, memory)
    return compute_sent(item, store, workers.report_progress, memory)


class OnExecutor(_Dispatcher):
    """Chunks on any executor. When it breaks, the chunks that remain are computed in our own processes."""

    def __init__(
        self, executor: cf.Executor, limits: Limits, chunks: Sequence[Chunk], store: Store | None, report: Progress
    ) -> None:
        super().__init__(chunks, store, report)
        self.executor, self.limits = executor, limits
        self.cluster = Cluster.of(executor)
        self.driver = Driver()
        self.failure: str | None = None  # of the executor
        self.left: list[Chunk] = []

    def results(self) -> Results:
        with self._probe():
            yield from super().results()
        if self.left:
            warnings.warn(
                f"the executor failed ({self.failure}); the remaining chunks are computed in worker processes",
                stacklevel=2,
            )
            jobs = min(available_cores(), len(self.left))
            processes = Processes(jobs, self.limits, self.left, self.store, self.report)
            yield from processes.results()
            self.missing += processes.missing

    @contextlib.contextmanager
    def _probe(self) -> Iterator[None]:
        """A file that tells workers whether they see the folder of the store."""
        if self.store is None:
            yield
            return
        probe = files.temporary_file(self.store.path)
        try:
            with contextlib.suppress(OSError):  # then workers send their rows
                probe.touch()
            self.driver = Driver(probe)
            yield
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def has_room(self) -> bool:
        return self.cluster is None or self.cluster.answers

    def send(self, task: _Task) -> cf.Future[Any]:
        if task.chunk is None:
            return self.executor.submit(solve_far, Imports(), task.problem, self.driver)
        return self.executor.submit(compute_far, task.chunk, self.store, self.driver)

    def finish(self, task: _Task, future: cf.Future[Any]) -> Results:
        error = cf.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            if task.chunk is not None:
                self.report(task.chunk.seconds)
            yield from self.succeed(task, future.result())
        elif isinstance(error, OptbenchError):
            raise error
        elif isinstance(error, ImportError):
            raise InputError(f"a worker of the executor lacks a module ({error}); install it there")
        elif isinstance(error, pickle.PicklingError | AttributeError | TypeError):  # the chunk cannot be sent
            yield from self.fail(task, error_text(error))
        elif self.cluster is not None and type(error).__name__ != "KilledWorker" and task.kills < MAX_KILLS:
            task.kills += 1  # the connection broke; `poll` decides whether the cluster is lost
            self.cluster.answers = False
            self.queue.append(task)
        else:  # the executor has broken, or the chunk has ended several workers
            self.failure = self.failure or error_text(error)
            self.left += self.chunks_of(task)

    def poll(self) -> None:
        reason = None if self.cluster is None else self.cluster.loss()
        if reason is None:
            return
        for task in (*self.pending.values(), *self.queue):
            self.miss(task, reason)
        for chunk in self.left:  # lost with their cluster
            self.missing[reason] += chunk.size
        for future in self.pending:
            future.cancel()
        for tasks in (self.pending, self.queue, self.left):
            tasks.clear()
