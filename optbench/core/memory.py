"""How much memory there is, so that requests that cannot fit are refused before work starts."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from optbench.core.errors import InputError


@functools.cache
def machine_memory() -> int | None:
    """Bytes of memory that the processes of this machine or control group may use; None if unknown."""
    try:
        import resource

        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), resource.getrlimit(resource.RLIMIT_AS)[0]]
    except (ImportError, AttributeError, OSError, ValueError):  # not on Windows
        return None
    for folder in _control_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                sizes.append(int((folder / name).read_text()))
    return min(size for size in sizes if size > 0)  # an unlimited address space is -1


def _control_groups() -> Iterator[Path]:
    """Folders of the control groups, of version 2 or 1, of which this process may be a member."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / controllers
            group = top / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def check_memory(what: str, size: float) -> None:
    """Raise `InputError` if arrays of `size` bytes do not fit into the memory of this machine."""
    most = machine_memory()
    if most is not None and size > most:
        raise InputError(
            f"{what} needs about {size / 2**30:,.4g} GiB of memory, and this machine has {most / 2**30:.3g}; request less"
        )
