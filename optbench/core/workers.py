"""Worker processes that stand between calls: fresh ones, one BLAS thread each, started when work is there for them.

A crew is taken, given work and given back; for the next call it stands ready, until it has been idle for a while. What
the work is, is not known here.
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
from collections.abc import Callable, Iterator
from typing import Any

IDLE_SECONDS = 60.0  # that a crew stands for the next call; a start costs about a second, a worker some 150 MB

# One BLAS thread a process: the stacks are small, and two pools of threads at once cost far more than they give.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Crew:
    """Up to `size` worker processes, each started when first there is work for it.

    Attributes
    ----------
    size : int
    told : float
        What the workers have told of their work so far, see `tell`.
    """

    def __init__(self, size: int) -> None:
        # spawn, because a fork of a process with threads (BLAS, CUDA, a notebook) may hang
        context = multiprocessing.get_context("spawn")
        self.size = size
        self._told = context.Value("d", 0.0)
        self._pool = cf.ProcessPoolExecutor(size, mp_context=context, initializer=_begin, initargs=(self._told,))
        self._world = _world()

    @property
    def told(self) -> float:
        return float(self._told.value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> cf.Future[Any]:
        """Have a function called by a worker.

        Raises
        ------
        BrokenProcessPool
            If a worker has died.
        """
        with _pinned(), _interrupts_wait():
            return self._pool.submit(function, *arguments)

    def warm(self) -> None:
        """Start all workers, without waiting for them."""
        with contextlib.suppress(cf.BrokenExecutor):
            for _ in range(self.size):
                self.submit(_nothing)

    def knows(self) -> bool:
        """Whether fresh workers would find the world as these did: folder, path, and the modules they may have loaded."""
        folder, path, modules = self._world
        now_folder, now_path, now_modules = _world()
        same = all(now_modules.get(name) is spec for name, spec in modules.items())
        return same and (folder, path) == (now_folder, now_path)

    def look(self) -> None:
        """Note the world as it is."""
        self._world = _world()

    def dismiss(self) -> None:
        """Let the workers go once they have done what they were given."""
        self._pool.shutdown(wait=False)

    def stop(self) -> None:
        """Stop the workers, whatever they are at."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


_standing: Crew | None = None
_timer: threading.Timer | None = None
_lock = threading.Lock()


def take(size: int) -> Crew:
    """The crew that stands, if it is large enough and knows the world as it is now; else a new one."""
    global _standing, _timer
    with _lock:
        crew, _standing = _standing, None
        if _timer is not None:
            _timer.cancel()
            _timer = None
    if crew is not None:
        if crew.size >= size and crew.knows():
            return crew
        crew.dismiss()
    return Crew(size)


def give_back(crew: Crew) -> None:
    """Have a crew stand for the next call."""
    global _standing, _timer
    crew.look()
    with _lock:
        if _standing is None:
            _standing = crew
            _timer = threading.Timer(IDLE_SECONDS, _dismiss_idle, [crew])
            _timer.daemon = True
            _timer.start()
            return
    crew.dismiss()  # another thread was faster


def standing() -> int:
    """Size of the crew that stands; 0 if there is none."""
    crew = _standing
    return 0 if crew is None else crew.size


def dismiss() -> None:
    """Let the crew that stands go now."""
    with _lock:
        crew = _standing
    if crew is not None:
        _dismiss_idle(crew)


def _dismiss_idle(crew: Crew) -> None:
    global _standing
    with _lock:
        if _standing is not crew:
            return
        _standing = None
    crew.dismiss()


def _world() -> tuple[str, list[str], dict[str, Any]]:
    """What workers took over or will: the folder, where modules are found, and which have been loaded (or reloaded)."""
    try:
        folder = os.getcwd()  # noqa: PTH109
    except OSError:
        folder = ""
    loaded = list(sys.modules.items())
    modules = {name: m.__dict__.get("__spec__") for name, m in loaded if isinstance(m, types.ModuleType)}
    return folder, list(sys.path), modules


# ---- forked copies of this process -----------------------------------------------------------------------------------

_left: list[Any] = []  # crews of a parent process, kept from the garbage collector, which would disturb them


def _forget() -> None:
    global _standing, _timer, _lock, _environment
    _left.append(_standing)
    _standing, _timer, _lock, _environment = None, None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# ---- in a worker -----------------------------------------------------------------------------------------------------

_tally: Any = None


def tell(done: float) -> None:
    """In a worker: add to what its crew has told."""
    with _tally.get_lock():
        _tally.value += done


def _begin(tally: Any) -> None:
    global _tally
    _tally = tally
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits; it stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _nothing() -> None:
    pass


# ---- while workers start ---------------------------------------------------------------------------------------------


_environment = threading.Lock()


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Processes started here begin with one BLAS thread, set before NumPy is imported in them."""
    with _environment:  # else one thread might take what another has set for what was there
        yield from _one_thread_each()


def _one_thread_each() -> Iterator[None]:
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


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits, and processes started here never see it: one that is still importing would print where it was."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- BLAS ------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    """The BLAS libraries that are loaded, looked for again (milliseconds) only once more modules have been imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def blas_threads(count: int = 1) -> Any:
    """A context in which BLAS computes on so many threads."""
    import threadpoolctl  # noqa: F401 - counted with the others from the first time on

    return _libraries(len(sys.modules)).limit(limits=count, user_api="blas")
