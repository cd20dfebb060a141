"""Opening files that users name, which may be anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """A regular file, opened for reading.

    Raises
    ------
    OSError
        If it cannot be opened, or is a directory, a pipe, a socket or a device, which might never answer or end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(None, "it is a directory" if stat.S_ISDIR(mode) else "it is a pipe or a device, not a regular file")
