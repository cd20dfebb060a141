"""Durable writes, careful reads, stale temporary files and the lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optbench.core.errors import StoreError
from optbench.results import files


def failing(function: Callable[..., Any], at: int, number: int) -> Callable[..., Any]:
    """The function, but its call number `at` raises an error of the system."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > at:
            raise OSError(number, os.strerror(number))
        return function(*arguments, **named)

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(
    "call", ["pathlib.Path.open", "pathlib.Path.mkdir", "pathlib.Path.replace", "os.fsync", "os.open"]
)
def test_a_write_that_fails_changes_nothing(
    call: str, at: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "deep" / "new"
    files.write_file(old, b"before")
    module, _, name = call.rpartition(".")
    owner = Path if module == "pathlib.Path" else os
    messages = []
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), at, number))
        for path in (new, old):
            try:
                files.write_file(path, b"after")
            except StoreError as error:
                messages.append(str(error))
    assert messages or at > 0
    assert all(os.strerror(number) in message for message in messages)
    assert all(("free some space" in message) == (number in (errno.ENOSPC, errno.EDQUOT)) for message in messages)
    assert old.read_bytes() in (b"before", b"after")
    assert not new.exists() or new.read_bytes() == b"after"
    assert not [*tmp_path.rglob("*.tmp")]
    files.write_file(new, b"after")
    assert new.read_bytes() == b"after"


def test_an_interrupted_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_file(tmp_path / "a", b"some")
    assert not [*tmp_path.iterdir()]


def test_folders_are_synced_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name open files")
    monkeypatch.setattr(os, "fsync", note)
    files.write_file(tmp_path / "a" / "b" / "c", b"some")
    assert synced[:2] == [str(tmp_path), str(tmp_path / "a")]
    assert synced[2].endswith(".tmp")
    assert synced[3:] == [str(tmp_path / "a" / "b")]


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "loop", "nowhere", "folder"):
        with pytest.raises(files.DamagedFileError):
            files.read_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        files.read_file(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"some")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert files.read_file(tmp_path / "link") == b"some"


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_file_that_cannot_be_read_now_is_not_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"some")
    monkeypatch.setattr(Path, "open", failing(Path.open, 0, number))
    with pytest.raises(StoreError, match=os.strerror(number)) as caught:
        files.read_file(tmp_path / "a")
    assert not isinstance(caught.value, files.DamagedFileError)


def test_only_files_that_nobody_writes_are_stale(tmp_path: Path) -> None:
    code = "import os, sys; from optbench.results import files; from pathlib import Path\n"
    code += "os.fsync = lambda descriptor: os._exit(0)\nfiles.write_file(Path(sys.argv[1]), b'some')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "killed")], check=True)
    (killed,) = tmp_path.iterdir()
    mine = killed.with_name(killed.name.replace(killed.name.split("-")[1], str(os.getpid())))
    elsewhere = killed.with_name("0" * 8 + killed.name[8:])
    old, foreign = tmp_path / "old.tmp", tmp_path / "foreign.tmp"
    for path in (mine, elsewhere, old, foreign):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    assert set(files.stale_files(tmp_path)) == {killed, old}


def test_a_lock_is_held_once_and_ends_with_its_process(tmp_path: Path) -> None:
    code = "import os, sys; from optbench.results import files; from pathlib import Path\n"
    code += "with files.locked(Path(sys.argv[1])): os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=True)
    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(StoreError, match="another process maintains"),
        files.locked(tmp_path / "lock"),
    ):
        pass
    with files.locked(tmp_path / "lock"):
        pass
