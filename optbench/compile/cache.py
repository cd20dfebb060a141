"""Machine code on disk. Whoever can write it can run code as the user: what others can write is refused, with a warning."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import warnings
from itertools import accumulate
from pathlib import Path

LIMIT = 64 * 2**20  # bytes of all files: thousands of kernels
_FORMAT = 1  # raise it when the layout of a file changes, or how IR becomes code
_warned: set[Path] = set()


def key(ir: str, cpu: str, features: str) -> str:
    """SHA-256 in hexadecimal digits of IR (with its target triple), CPU, its features, and versions of the compiler."""
    from llvmlite import __version__, binding

    parts = (ir, cpu, features, __version__, tuple(binding.llvm_version_info), _FORMAT)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def load(key: str) -> bytes | None:
    """The code stored under a key; None if there is none, if it is damaged, or if others could have written it."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError if there is no home
        path = _file(key, create=False)
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0))) as file:
            _check(path, os.fstat(file.fileno()))  # what is open: by now the name may mean another file
            digest, code = file.read(32), file.read()
        if digest == _digest(key, code):
            with contextlib.suppress(OSError):  # a folder that can only be read is still of use
                os.utime(path)
            return code
    return None


def store(key: str, code: bytes) -> None:
    """Keep code under a key. Where it cannot be written, nothing happens."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _file(key, create=True)
        handle, temporary = tempfile.mkstemp(".kernel", dir=path.parent)  # of mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(key, code) + code)  # not synced: the digest tells what a crash has cut off
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        if key.startswith("00"):  # one store in 256, for it takes 60 ms to look at thousands of files
            files = sorted(path.parent.glob("*.kernel"), key=lambda file: file.lstat().st_mtime, reverse=True)
            sizes = accumulate(file.lstat().st_size for file in files)
            for unused in [file for file, size in zip(files, sizes, strict=True) if size > LIMIT]:
                unused.unlink(missing_ok=True)


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()  # with the key, as a file may have been renamed


def _file(key: str, create: bool) -> Path:
    """The file of a key, which need not exist; `PermissionError` if it or a folder of ours cannot be trusted."""
    # Whoever can write to a parent of optbench can put another folder in its place, even after this check. That is
    # harmless: a file in it is read only if it belongs to the user, and only under the key that it was stored under.
    root = Path(os.environ.get("OPTBENCH_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    file = root / "optbench" / "kernels" / f"{key}.kernel"
    for folder in reversed(file.parents):
        if create and not folder.exists():
            with contextlib.suppress(FileExistsError):  # another process was faster, or it is a dangling link
                folder.mkdir(0o700)
                folder.chmod(0o700)  # whatever the umask is
        if folder.is_relative_to(root / "optbench"):
            _check(folder, folder.lstat(), is_folder=True)
    if os.path.lexists(file):
        _check(file, file.lstat())
    return file


def _check(path: Path, status: os.stat_result, is_folder: bool = False) -> None:
    """Warn, once for each path, and raise `PermissionError`, if others can have written what has this status."""
    posix = hasattr(os, "geteuid")  # elsewhere modes say nothing, and profiles are closed to others
    if not (stat.S_ISDIR if is_folder else stat.S_ISREG)(status.st_mode):
        problem = f"is no {'folder' if is_folder else 'regular file'}; remove it"
    elif posix and status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to you; remove it"
    elif posix and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "can be written by other users; " + (f"chmod 700 '{path}'" if is_folder else "remove it")
    else:
        return
    if path not in _warned:
        _warned.add(path)
        warnings.warn(f"code is not cached: {path} {problem}, or set OPTBENCH_CACHE to a folder of yours", stacklevel=4)
    raise PermissionError(path)
