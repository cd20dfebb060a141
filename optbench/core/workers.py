"""Worker processes, spawned with one BLAS thread each when there is work, and reused by later calls.

A caller acquires a pool, submits work and releases it. A released pool stays alive for the next call for `IDLE_SECONDS`.
Each worker has a pipe of its own, so that the death of one, or its end at a time limit, concerns its own task only.
"""

from __future__ import annotations

import atexit
import concurrent.futures as cf
import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import signal
import sys
import threading
import time
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

IDLE_SECONDS = 60.0  # a new pool costs about a second, an idle worker about 150 MB
MAX_START_DEATHS = 5  # workers in a row that may be killed before they are ready
PROGRESS_SECONDS = 0.1  # between two reports of a worker

# one BLAS thread per process, because the stacks are small
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_NAME = "optbench worker"
_UNGUARDED = 251  # exit code of a worker whose main script starts workers when it is imported


class WorkerDiedError(Exception):
    """A worker ended during a task, by itself or by a signal.

    Attributes
    ----------
    exitcode : int or None
        Its exit code; minus the number of the signal that ended it; None if it closed its pipe.
    """

    def __init__(self, exitcode: int | None) -> None:
        super().__init__(f"a worker process ended with exit code {exitcode}")
        self.exitcode = exitcode


class TimeLimitError(Exception):
    """A task took longer than its limit, and its worker was killed."""


class StartError(Exception):
    """No worker can start; the message says why."""


@dataclasses.dataclass(eq=False)
class _Task:
    future: cf.Future[Any]
    payload: bytes  # a function and its arguments, pickled
    limit: float | None  # seconds


class _Worker:
    """A process with its pipe, and the task that it computes."""

    def __init__(self) -> None:
        # spawn, because a fork of a process with threads (BLAS, CUDA, a notebook) may hang
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_work, args=(other_end,), name=_NAME)
        self.ready = self.is_late = False
        self.task: _Task | None = None
        self.deadline: float | None = None
        try:
            with _pinned(), _interrupts_wait():
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            other_end.close()

    def kill(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.process.kill()


class WorkerPool:
    """Up to `size` worker processes, each started when there is work for it.

    A thread starts the workers, sends them tasks and receives their results.

    Attributes
    ----------
    size : int
    progress : float
        Sum of what the workers have reported, see `report_progress`.
    """

    def __init__(self, size: int) -> None:
        process = multiprocessing.current_process()
        if process.name == _NAME and getattr(process, "_inheriting", False):
            os._exit(_UNGUARDED)  # this worker imports its main script; starting workers here would never end
        self.size, self.progress = size, 0.0
        self._setting = _current_setting()
        self._lock = threading.RLock()
        self._queue: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._to_start = 0  # workers to start without work
        self._start_deaths = 0
        self._failure: StartError | None = None
        self._closed = False
        self._woken, self._wake_up = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self._thread: threading.Thread | None = None
        self.timer: threading.Timer  # ends the idle pool
        _pools.add(self)

    def submit(self, function: Callable[..., Any], *arguments: Any, limit: float | None = None) -> cf.Future[Any]:
        """Call a function in a worker.

        Parameters
        ----------
        function : callable
        *arguments
        limit : float, optional
            Seconds after which the worker is killed, counted from when the function calls `start_clock`.

        Returns
        -------
        Future
            The result of the function or its exception. Further exceptions are `WorkerDiedError`, `TimeLimitError` and
            `StartError`.

        Raises
        ------
        Exception
            If the function or an argument cannot be pickled.
        """
        future: cf.Future[Any] = cf.Future()
        task = _Task(future, pickle.dumps((function, arguments)), limit)
        with self._lock:
            if self._failure is not None or self._closed:
                future.set_exception(self._failure or StartError("the pool is closed"))
                return future
            self._queue.append(task)
        self._wake()
        return future

    def warm(self) -> None:
        """Start all workers, without waiting for them."""
        self._to_start = self.size
        self._wake()

    def is_current(self) -> bool:
        """Whether new workers would start with the same folder, path and modules as these, and workers can start."""
        *places, modules = self._setting
        *now_places, now_modules = _current_setting()
        is_same = places == now_places and all(now_modules.get(name) is spec for name, spec in modules.items())
        return is_same and self._failure is None and not self._closed

    def refresh(self) -> None:
        """Record the present folder, path and modules as those of these workers."""
        self._setting = _current_setting()

    def dismiss(self) -> None:
        """Let the workers end after their work."""
        with self._lock:
            self._closed = True
        self._wake()

    def stop(self) -> None:
        """Stop the workers at once; waiting tasks are cancelled."""
        with self._lock:
            self._closed = True
            for task in self._queue:
                task.future.cancel()
            self._queue.clear()
            for worker in self._workers:
                worker.kill()
        self._wake()

    def join(self, timeout: float) -> None:
        """Wait until all workers of a dismissed or stopped pool have ended."""
        if self._thread is not None:
            self._thread.join(timeout)

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._manage, name="optbench workers", daemon=True)
                self._thread.start()
            elif self._thread.is_alive():
                self._wake_up.send_bytes(b"x")

    def _manage(self) -> None:
        while True:
            for worker, task in self._assign():
                with contextlib.suppress(OSError):  # it has died; its end is noticed below
                    worker.pipe.send_bytes(task.payload)
            with self._lock:
                if self._closed and not self._workers:
                    break
                workers = list(self._workers)
            deadlines = [worker.deadline for worker in workers if worker.deadline is not None]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            waited: list[Any] = [self._woken, *(worker.process.sentinel for worker in workers)]
            waited += [worker.pipe for worker in workers if not worker.pipe.closed]
            signalled = set(multiprocessing.connection.wait(waited, timeout))
            while self._woken.poll():
                self._woken.recv_bytes()
            for worker in workers:
                is_alive = worker.pipe not in signalled or self._receive(worker)
                if not is_alive or worker.process.sentinel in signalled:
                    self._remove(worker)
                elif worker.deadline is not None and time.monotonic() >= worker.deadline:
                    worker.is_late, worker.deadline = True, None
                    worker.kill()

    def _assign(self) -> list[tuple[_Worker, _Task]]:
        """Start workers for the tasks that wait, and choose a task for each that is idle."""
        with self._lock:
            if self._failure is None and not (self._closed and not self._queue):
                busy = sum(worker.task is not None for worker in self._workers)
                self._start(min(self.size, max(self._to_start, busy + len(self._queue))) - len(self._workers))
                self._to_start = 0
            assigned = []
            for worker in self._workers:
                while worker.ready and worker.task is None and self._queue:
                    task = self._queue.popleft()
                    if task.future.set_running_or_notify_cancel():
                        worker.task = task
                        assigned.append((worker, task))
            if self._closed and not self._queue:
                for worker in self._workers:
                    if worker.task is None:
                        worker.pipe.close()
            return assigned

    def _start(self, count: int) -> None:
        for _ in range(count):
            try:
                self._workers.append(_Worker())
            except Exception as error:  # such as too many processes or open files
                self._fail(StartError(f"{type(error).__name__}: {error}"))
                return

    def _receive(self, worker: _Worker) -> bool:
        """Read a message of a worker. Returns False at the end of its pipe."""
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            return False
        try:
            kind, value = pickle.loads(message)
        except Exception as error:  # such as an exception whose class takes other arguments
            kind, value = "error", RuntimeError(f"a result cannot be unpickled ({type(error).__name__}: {error})")
        task = worker.task
        if kind == "ready":
            worker.ready, self._start_deaths = True, 0
        elif kind == "progress":
            self.progress += value
        elif task is not None and kind == "begin":
            worker.deadline = None if task.limit is None else time.monotonic() + task.limit
        elif task is not None:
            worker.task = worker.deadline = None
            if kind == "result":
                task.future.set_result(value)
            else:
                task.future.set_exception(value)
        return True

    def _remove(self, worker: _Worker) -> None:
        """Forget a worker that has ended, and say what became of its task."""
        with contextlib.suppress(OSError):
            while worker.pipe.poll() and self._receive(worker):  # a result sent before its end counts
                pass
        worker.process.join(1.0)
        exitcode = worker.process.exitcode
        if exitcode is None:  # it has closed its pipe but goes on
            worker.kill()
            worker.process.join()
        with self._lock:
            self._workers.remove(worker)
            is_closed = self._closed
        worker.pipe.close()
        worker.process.close()
        if worker.task is not None:
            worker.task.future.set_exception(TimeLimitError() if worker.is_late else WorkerDiedError(exitcode))
        elif not worker.ready and not is_closed:
            self._start_deaths += 1
            if exitcode == _UNGUARDED:
                script = getattr(sys.modules.get("__main__"), "__file__", None) or "the script"
                self._fail(
                    StartError(
                        f"they import {Path(script).name}, which starts them again; put its calls under "
                        'if __name__ == "__main__":'
                    )
                )
            elif exitcode is None or exitcode >= 0:
                self._fail(StartError(f"a process ended with exit code {exitcode} before it was ready"))
            elif self._start_deaths >= MAX_START_DEATHS:
                self._fail(StartError(f"{MAX_START_DEATHS} in a row were killed before they were ready"))

    def _fail(self, error: StartError) -> None:
        """Refuse all waiting and future tasks."""
        with self._lock:
            self._failure = error
            tasks = list(self._queue)
            self._queue.clear()
        for task in tasks:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(error)


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()
_idle: WorkerPool | None = None
_lock = threading.Lock()


@atexit.register  # after multiprocessing.util, so that it runs before multiprocessing waits for its processes
def _stop_all() -> None:
    for pool in list(_pools):
        pool.stop()
    for pool in list(_pools):
        pool.join(2.0)


def acquire(size: int) -> WorkerPool:
    """The idle pool if it is large enough and current, else a new one."""
    pool = _take_idle()
    if pool is not None:
        if pool.size >= size and pool.is_current():
            return pool
        pool.dismiss()
    return WorkerPool(size)


def release(pool: WorkerPool) -> None:
    """Keep a pool alive for the next call."""
    global _idle
    pool.refresh()
    with _lock:
        if _idle is None:
            _idle, pool.timer = pool, threading.Timer(IDLE_SECONDS, dismiss_idle, [pool])
            pool.timer.daemon = True
            pool.timer.start()
            return
    pool.dismiss()  # another thread has released its pool


def idle_size() -> int:
    """Size of the idle pool; 0 if there is none."""
    pool = _idle
    return 0 if pool is None else pool.size


def dismiss_idle(only: WorkerPool | None = None) -> None:
    """End the idle pool; if `only` is given, only that one."""
    pool = _take_idle(only)
    if pool is not None:
        pool.dismiss()


def _take_idle(only: WorkerPool | None = None) -> WorkerPool | None:
    global _idle
    with _lock:
        pool = _idle
        if pool is None or only not in (None, pool):
            return None
        _idle = None
        pool.timer.cancel()
    return pool


def _current_setting() -> tuple[str, list[str], dict[str, Any]]:
    """The folder, the module path and the loaded modules, which new workers inherit."""
    try:
        folder = os.getcwd()  # noqa: PTH109
    except OSError:
        folder = ""
    loaded = list(sys.modules.items())
    modules = {name: m.__dict__.get("__spec__") for name, m in loaded if isinstance(m, types.ModuleType)}
    return folder, list(sys.path), modules


# ---- forked copies of this process -----------------------------------------------------------------------------------

_parents: list[Any] = []  # pools of the parent process, kept from the garbage collector


def _forget_parent() -> None:
    global _idle, _lock, _environment_lock
    _parents.append(list(_pools))
    _pools.clear()
    _idle, _lock, _environment_lock = None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


# ---- in a worker -----------------------------------------------------------------------------------------------------

_reporter: _Reporter | None = None  # of this worker


class _Reporter:
    """Sends progress through the pipe of this worker, not too often."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.amount, self.sent = pipe, 0.0, time.monotonic()

    def add(self, amount: float) -> None:
        self.amount += amount
        if time.monotonic() - self.sent > PROGRESS_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.amount:
            self.pipe.send(("progress", self.amount))
        self.amount, self.sent = 0.0, time.monotonic()


def in_worker() -> bool:
    """Whether this process is a worker."""
    return _reporter is not None


def report_progress(amount: float) -> None:
    """In a worker: add to the progress of its pool."""
    assert _reporter is not None
    _reporter.add(amount)


def start_clock() -> None:
    """In a worker: let the time limit of the task begin now, after its preparations."""
    assert _reporter is not None
    _reporter.pipe.send(("begin", None))


def _work(pipe: Any) -> None:
    """Compute tasks until the other end of the pipe is closed."""
    global _reporter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and stops its workers
    _end_with_parent()
    _reporter = _Reporter(pipe)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        pipe.send(("ready", None))
        while True:
            payload = pipe.recv_bytes()
            try:
                function, arguments = pickle.loads(payload)
                outcome = "result", function(*arguments)
            except Exception as error:
                outcome = "error", error
            except BaseException as error:  # must not end the process that waits for it
                outcome = "error", RuntimeError(f"{type(error).__name__}: {error}")
            _reporter.flush()
            try:
                pipe.send(outcome)
            except OSError:
                raise
            except Exception as error:  # the outcome cannot be pickled, so nothing has been sent
                pipe.send(("error", RuntimeError(f"a result cannot be pickled ({type(error).__name__}: {error})")))


def _end_with_parent() -> None:
    """End this process when its parent ends, even if it then holds the interpreter lock."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        import ctypes

        # the signal comes when the thread that has started this process ends, and that one waits for it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:
            os._exit(1)

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


# ---- while workers start ---------------------------------------------------------------------------------------------


_environment_lock = threading.Lock()


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Processes started in this context use one BLAS thread; the variables must be set before they import NumPy."""
    with _environment_lock, environment_variables(dict.fromkeys(_THREAD_VARIABLES, "1")):
        yield  # under the lock, or a thread would restore variables that another thread has set


@contextlib.contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started in this context; restored afterwards."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Delay Ctrl-C; processes started here ignore it, because one that is still importing would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- memory ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_limit(size: int | None) -> Iterator[None]:
    """A context in which this process cannot allocate more than `size` bytes in total; without effect if not on Linux."""
    if size is None or sys.platform != "linux":
        yield
        return
    import resource

    # private memory; the address space would include what libraries only reserve
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size if most == resource.RLIM_INFINITY else min(size, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


# ---- cores and BLAS --------------------------------------------------------------------------------------------------


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    """The loaded BLAS libraries; the search takes milliseconds and is repeated after further imports."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextlib.contextmanager
def blas_threads(count: int = 1) -> Iterator[None]:
    """A context in which BLAS, and compiled loops with large matrices, use `count` threads."""
    import threadpoolctl  # noqa: F401 - imported first, because the number of modules is the key of the cache

    token = _granted.set(count)
    try:
        with _libraries(len(sys.modules)).limit(limits=count, user_api="blas"):
            yield
    finally:
        _granted.reset(token)


_granted: ContextVar[int] = ContextVar("threads", default=1)


def granted_threads() -> int:
    """The number of threads of the innermost `blas_threads`, 1 outside of it."""
    return _granted.get()
