"""Worker processes, spawned with one BLAS thread each when there is work, and reused by later calls.

A caller acquires a pool, submits work and releases it. A released pool stays alive for the next call for `IDLE_SECONDS`.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

IDLE_SECONDS = 60.0  # a new pool costs about a second, an idle worker about 150 MB

# one BLAS thread per process, because the stacks are small
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class WorkerPool:
    """Up to `size` worker processes, each started when there is work for it.

    Attributes
    ----------
    size : int
    progress : float
        Sum of what the workers have reported, see `report_progress`.
    """

    def __init__(self, size: int) -> None:
        # spawn, because a fork of a process with threads (BLAS, CUDA, a notebook) may hang
        context = multiprocessing.get_context("spawn")
        self.size = size
        self._progress = context.Value("d", 0.0)
        self._executor = cf.ProcessPoolExecutor(
            size, mp_context=context, initializer=_begin, initargs=(self._progress,)
        )
        self._setting = _current_setting()
        self.timer: threading.Timer  # ends the idle pool

    @property
    def progress(self) -> float:
        return float(self._progress.value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> cf.Future[Any]:
        """Call a function in a worker.

        Raises
        ------
        BrokenProcessPool
            If a worker has died.
        """
        with _pinned(), _interrupts_wait():
            return self._executor.submit(function, *arguments)

    def warm(self) -> None:
        """Start all workers, without waiting for them."""
        with contextlib.suppress(cf.BrokenExecutor):
            for _ in range(self.size):
                self.submit(os.getpid)

    def is_current(self) -> bool:
        """Whether new workers would start with the same folder, path and modules as these."""
        *places, modules = self._setting
        *now_places, now_modules = _current_setting()
        return places == now_places and all(now_modules.get(name) is spec for name, spec in modules.items())

    def refresh(self) -> None:
        """Record the present folder, path and modules as those of these workers."""
        self._setting = _current_setting()

    def dismiss(self) -> None:
        """Let the workers end after their work."""
        self._executor.shutdown(wait=False)

    def stop(self) -> None:
        """Stop the workers at once."""
        processes = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


_idle: WorkerPool | None = None
_lock = threading.Lock()


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
    _parents.append(_idle)
    _idle, _lock, _environment_lock = None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


# ---- in a worker -----------------------------------------------------------------------------------------------------

_progress: Any = None  # shared by the workers of a pool


def report_progress(amount: float) -> None:
    """In a worker: add to the progress of its pool."""
    with _progress.get_lock():
        _progress.value += amount


def _begin(progress: Any) -> None:
    global _progress
    _progress = progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


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
