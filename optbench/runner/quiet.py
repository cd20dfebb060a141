"""A quiet machine for timings: one core, one thread, and how busy the machine is otherwise."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

WATCH_SECONDS = 0.2  # during which the idlest core is determined


@contextlib.contextmanager
def quiet() -> Iterator[int | None]:
    """Restrict this thread to one core and one BLAS thread, without garbage collection; restore all of it afterwards.

    Yields the number of the core that this thread is pinned to, the idlest one at the moment; None where the system cannot
    pin or does not permit it.
    """
    from threadpoolctl import threadpool_limits

    before: set[int] | None = None
    core: int | None = None
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        core = _idlest(before)
        try:
            os.sched_setaffinity(0, {core})
        except OSError:  # some containers forbid it
            core = None
    collecting = gc.isenabled()
    gc.disable()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield core
    finally:
        if collecting:
            gc.enable()
        if before is not None and core is not None:
            os.sched_setaffinity(0, before)


def _idlest(cores: set[int]) -> int:
    """The least busy core during `WATCH_SECONDS`; the last one where the system does not tell."""
    before = _busy_ticks()
    if before:
        time.sleep(WATCH_SECONDS)
    after = _busy_ticks()
    return min(cores, key=lambda core: (after.get(core, 0) - before.get(core, 0), -core))


def _busy_ticks() -> dict[int, int]:
    """Ticks that each core has spent on work since the start of the system (Linux, proc_stat(5))."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    busy = {}
    for name, *ticks in (line.split() for line in lines if line[:3] == "cpu" and line[3:4].isdigit()):
        user, nice, system, _idle, _waiting, *rest = map(int, ticks)
        busy[int(name[3:])] = user + nice + system + sum(rest[:3])  # interrupts, and what other guests took
    return busy


def load_average() -> float | None:
    """Processes that ran or wanted to, averaged over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
