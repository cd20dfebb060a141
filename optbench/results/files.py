"""Files on disk that are complete or absent: durable writes, careful reads, folders, stale files and a lock.

Nothing here depends on what the files contain; Parquet belongs in `schema`, the layout of a results folder in `store`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from optbench.core.errors import StoreError

_TEMPORARY = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.tmp")  # host, process, random part
_STALE_SECONDS = 24 * 3600  # after which nobody still writes a temporary file
_ADVICE = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}


class DamagedFileError(StoreError):
    """A file that is not what was written, or was never a file of ours."""


def temporary_file(folder: Path) -> Path:
    """A new name in a folder for a file of this process; once the process has ended, `stale_files` finds the file."""
    # not by tempfile, whose files other users of a shared disk cannot read
    return folder / f"{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


def write_file(path: Path, data: bytes | bytearray) -> None:
    """Write a file that is complete as soon as it is visible, and survives a crash of the machine.

    It is written under a temporary name, synced and renamed, and then the folder is synced.

    Raises
    ------
    StoreError
        If it cannot be written; a file of this name then stays as it was.
    """
    temporary = temporary_file(path.parent)
    try:
        make_folder(path.parent)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another folder")
        raise StoreError(
            f"cannot write to {str(path.parent)!r} ({reason_of(error)}); {advice}. Earlier results are safe"
        ) from None


def reason_of(error: BaseException) -> str:
    """The reason of an error in a few words, on one line."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, and sync what gained an entry."""
    if folder.is_dir():
        return
    absent = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(absent):
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a crash; not all systems can, and those that cannot are left alone."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file (any more).
    DamagedFileError
        If there is something else of this name: a folder, a pipe, a link that leads nowhere.
    StoreError
        If it cannot be read at the moment, or not by this user.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise DamagedFileError("it is not a regular file")
        with path.open("rb") as file:
            return file.read()
    except FileNotFoundError:
        if path.is_symlink():
            raise DamagedFileError("it is a link that leads nowhere") from None
        raise
    except StoreError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFileError("it is a link to itself") from None
        raise StoreError(f"{path} cannot be read ({reason_of(error)}); nothing was changed, try again") from None


def exists(path: Path, *, folder: bool) -> bool:
    """Whether there is a folder, or a regular file, at a path; not for names that no system allows."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False


def list_files(folder: Path, suffix: str, depth: int = 1) -> list[Path]:
    """All entries of a folder, and of its folders down to `depth`, whose names end in `suffix`, sorted.

    Raises
    ------
    StoreError
        If the folder exists but cannot be listed.
    """
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    found.append(folder / entry.name)
                elif depth > 1 and entry.is_dir():
                    found += list_files(folder / entry.name, suffix, depth - 1)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"the folder {str(folder)!r} cannot be listed ({reason_of(error)})") from None
    return sorted(found)


def stale_files(folder: Path, depth: int = 1) -> list[Path]:
    """Temporary files that nobody writes any more: their process ended, or they are older than a day."""
    return [path for path in list_files(folder, ".tmp", depth) if _is_stale(path)]


def _is_stale(path: Path) -> bool:
    try:
        if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
            return True
    except OSError:  # it is gone
        return False
    writer = _TEMPORARY.fullmatch(path.name)
    # where signals are no POSIX signals, asking for a process could end it
    if writer is None or writer[1] != _host() or os.name != "posix":
        return False
    try:
        os.kill(int(writer[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.cache
def _host() -> str:
    """Names the machine since its start and, where containers share a host name, the numbering of its processes."""
    facts = [platform.node()]
    with contextlib.suppress(OSError):
        facts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file for the time of a ``with`` block; it ends with the process that holds it.

    Raises
    ------
    StoreError
        If another process holds it, or the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = path.open("ab")
    except OSError as error:
        raise StoreError(f"{str(path.parent)!r} cannot be locked ({reason_of(error)})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"another process maintains {str(path.parent)!r}; try again when it has ended") from None
        except OSError as error:
            raise StoreError(f"{str(path.parent)!r} cannot be locked ({reason_of(error)})") from None
        yield
