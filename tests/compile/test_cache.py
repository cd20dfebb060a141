"""Compiled code outlives its process, damaged files are replaced, and what other users could have written is not read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from optbench.compile import cache
from tests.conftest import run_python

KEY, OTHER = "0" * 64, "1" * 64
CODE = bytes(range(256)) * 16
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners and modes")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kernels, which does not exist yet."""
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "optbench" / "kernels"


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_code_is_found_by_another_process() -> None:
    code = "from optbench.compile import cache; cache.store(cache.key('ir', 'cpu', '+fma'), bytes(range(256)) * 16)"
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert cache.load(cache.key("ir", "cpu", "+fma")) == CODE
    assert cache.load(cache.key("ir", "cpu", "-fma")) is None


def test_machine_code_runs_in_another_process() -> None:
    program = """if True:
        import ctypes, sys
        from llvmlite import binding
        from optbench.compile import cache
        binding.initialize_native_target(); binding.initialize_native_asmprinter()
        ir = "define i64 @twice(i64 %x) { %y = shl i64 %x, 1 \\n ret i64 %y }"
        key = cache.key(ir, "", "")
        machine = binding.Target.from_default_triple().create_target_machine(jit=True)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(ir), machine)
        found = cache.load(key)
        engine.set_object_cache(lambda _, code: cache.store(key, code), lambda _: found)
        engine.finalize_object()
        twice = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("twice"))
        print(twice(21), found is not None)
    """
    assert [run_python("-c", program).stdout for _ in range(2)] == ["42 False\n", "42 True\n"]


def test_the_key_covers_each_ingredient(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {cache.key(*parts) for parts in [("i", "c", "f"), ("j", "c", "f"), ("i", "d", "f"), ("i", "c", "g")]}
    keys |= {cache.key("ic", "", "f"), cache.key("i", "cf", "")}  # text does not move between ingredients
    for name, value in {
        "llvmlite.__version__": "0.0",
        "llvmlite.binding.llvm_version_info": (1, 2, 3),
        "optbench.compile.cache._FORMAT": 0,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            keys.add(cache.key("i", "c", "f"))
    assert len(keys) == 9
    assert cache.key("i", "c", "f") in keys
    assert all(len(key) == 64 and int(key, 16) for key in keys)


def test_the_import_is_light() -> None:
    done = run_python("-c", "import sys; from optbench.compile import cache; print('llvmlite' in sys.modules)")
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OPTBENCH_CACHE": "own", "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "own"),
        ({"OPTBENCH_CACHE": "", "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "xdg"),
        ({"HOME": "home", "USERPROFILE": "home"}, "home/.cache"),
    ],
)
def test_the_place_of_the_folder(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPTBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value and str(tmp_path / value))
    cache.store(KEY, CODE)
    assert only_file(tmp_path / expected / "optbench" / "kernels").name.startswith(KEY)


@POSIX
@pytest.mark.parametrize("mask", [0o000, 0o077, 0o277])
def test_folders_and_files_are_closed_to_others(mask: int, tmp_path: Path, folder: Path) -> None:
    before = os.umask(mask)
    try:
        cache.store(KEY, CODE)
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "cache", folder.parent, folder)] == [0o700] * 3
    assert mode(only_file(folder)) == 0o600 & ~mask
    assert cache.load(KEY) == CODE


@POSIX
def test_a_folder_is_never_open_to_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)  # as long as it has not been called
    before = os.umask(0)
    try:
        cache.store(KEY, CODE)
    finally:
        os.umask(before)
    assert mode(folder) == mode(folder.parent) == 0o700


def test_another_process_may_create_the_folder_at_the_same_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(OTHER, CODE)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self not in (folder, folder.parent) and exists(self))
    cache.store(KEY, CODE)
    assert cache.load(KEY) == CODE


@POSIX
def test_a_dangling_link_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.parent.chmod(0o700)
    folder.symlink_to(tmp_path / "missing")
    (message,) = warnings_of_refusal()
    assert f"{folder} is no folder" in message
    assert not (tmp_path / "missing").exists()


def move_behind_a_link(path: Path) -> None:
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)


def put_a_pipe(path: Path) -> None:
    if path.is_dir():
        path.rename(path.with_name("elsewhere"))
    else:
        path.unlink()
    os.mkfifo(path)


def warnings_of_refusal() -> list[str]:
    """The warnings of two searches that find nothing, and of two stores."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert cache.load(KEY) is None
            cache.store(KEY, b"new")
    return [str(warning.message) for warning in caught]


def place(name: str, folder: Path) -> Path:
    return {"optbench": folder.parent, "kernels": folder, "file": only_file(folder)}[name]


@POSIX
@pytest.mark.parametrize("name", ["optbench", "kernels", "file"])
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.chmod(path.stat().st_mode | 0o020), "can be written by other users"),
        (lambda path: path.chmod(path.stat().st_mode | 0o002), "can be written by other users"),
        (move_behind_a_link, "is no "),
        (put_a_pipe, "is no "),
    ],
    ids=["group", "others", "link", "pipe"],
)
def test_what_others_can_change_is_refused(
    name: str, spoil: Callable[[Path], None], problem: str, tmp_path: Path, folder: Path
) -> None:
    cache.store(KEY, CODE)
    path = place(name, folder)
    spoil(path)
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    (message,) = warnings_of_refusal()
    assert f"{path} {problem}" in message
    assert ("chmod 700" in message) == ("written" in problem and name != "file")
    assert "OPTBENCH_CACHE" in message
    after = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert {path: status.st_mtime_ns for path, status in after.items()} == {
        path: status.st_mtime_ns for path, status in before.items()
    }


@POSIX
def test_the_cure_of_the_warning_works(folder: Path) -> None:
    cache.store(KEY, CODE)
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match="chmod 700") as caught:
        assert cache.load(KEY) is None
    subprocess.run(["sh", "-c", str(caught[0].message).split(";")[1].split(", or")[0]], check=True)
    assert cache.load(KEY) == CODE


@POSIX
@pytest.mark.parametrize("name", ["optbench", "kernels", "file"])
def test_what_belongs_to_another_user_is_refused(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, CODE)
    user, path = os.geteuid(), place(name, folder)
    status = {other: other.lstat() for other in (folder.parent, folder, only_file(folder))}

    def lstat(self: Path) -> os.stat_result:
        fields = list(status[self])
        fields[4] += self == path  # the owner
        return os.stat_result(fields)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", lstat)
        (message,) = warnings_of_refusal()
    assert f"{path} belongs to user {user + 1}, not to you" in message
    assert cache.load(KEY) == CODE


@POSIX
def test_the_effective_user_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, CODE)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    (message,) = warnings_of_refusal()
    assert f"{folder.parent} belongs to user {user}, not to you" in message


@POSIX
@pytest.mark.parametrize("spoil", [lambda path: path.chmod(0o666), move_behind_a_link], ids=["mode", "link"])
def test_a_file_exchanged_after_the_check_is_refused(
    spoil: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(KEY, CODE)
    file = only_file(folder)
    status = {path: path.lstat() for path in (folder.parent, folder, file)}
    spoil(file)
    monkeypatch.setattr(Path, "lstat", lambda self: status[self])
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)
    assert cache.load(KEY) is None


def test_owners_and_modes_are_not_asked_for_where_there_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid", raising=False)
    cache.store(KEY, CODE)
    folder.chmod(0o777)
    only_file(folder).chmod(0o666)
    assert cache.load(KEY) == CODE


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:32],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: bytes(len(content)),
    ],
)
def test_a_damaged_file_is_ignored_and_replaced(damage: Callable[[bytes], bytes], folder: Path) -> None:
    cache.store(KEY, CODE)
    only_file(folder).write_bytes(damage(only_file(folder).read_bytes()))
    assert cache.load(KEY) is None
    cache.store(KEY, CODE)
    assert cache.load(KEY) == CODE


def test_a_file_under_the_name_of_another_key_is_ignored(folder: Path) -> None:
    cache.store(KEY, CODE)
    file = only_file(folder)
    file.rename(file.with_name(file.name.replace(KEY, OTHER)))
    assert cache.load(OTHER) is None


def test_processes_may_write_the_same_key_at_once(folder: Path) -> None:
    program = """if True:
        import sys
        from optbench.compile import cache
        for _ in range(30):
            cache.store("0" * 64, sys.argv[1].encode() * 500_000)
    """
    cache.store(KEY, b"0" * 500_000)
    writers = [subprocess.Popen([sys.executable, "-c", program, digit]) for digit in "123"]
    seen: set[bytes | None] = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(cache.load(KEY))  # always a whole file of one writer
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    seen.add(cache.load(KEY))
    assert seen <= {digit * 500_000 for digit in (b"0", b"1", b"2", b"3")}
    assert len(seen) > 1
    assert only_file(folder).name.startswith(KEY)


def refuse(number: int) -> Callable[..., NoReturn]:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("pathlib.Path.mkdir", errno.EROFS),
        ("pathlib.Path.exists", errno.EACCES),
        ("tempfile.mkstemp", errno.EACCES),
        ("pathlib.Path.replace", errno.ENOSPC),
    ],
)
def test_a_folder_that_cannot_be_written_is_not_used(
    function: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(function, refuse(number))
        cache.store(KEY, CODE)
    assert cache.load(KEY) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_in_the_place_of_a_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    cache.store(KEY, CODE)
    assert cache.load(KEY) is None


@POSIX
def test_a_full_disk_leaves_nothing_behind(folder: Path) -> None:
    program = """if True:
        import resource
        from optbench.compile import cache
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        cache.store("0" * 64, bytes(4096))
    """
    done = run_python("-W", "error", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(folder.iterdir())


def refuse_user(number: int) -> NoReturn:
    raise KeyError(number)


@POSIX
def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPTBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", refuse_user)
    cache.store(KEY, CODE)
    assert cache.load(KEY) is None


def test_code_is_read_from_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, CODE)
    monkeypatch.setattr(os, "utime", refuse(errno.EROFS))
    assert cache.load(KEY) == CODE


def test_the_files_unused_for_longest_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 4 * (len(CODE) + 32))
    keys = [digit * 64 for digit in "123456"]
    for age, key in enumerate(reversed(keys)):
        cache.store(key, CODE)
        file = next(folder.glob(f"{key}*"))
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 3600 * (len(keys) - age)))
    assert len(list(folder.iterdir())) == 6
    ages = {file.name[0]: file.stat().st_mtime for file in folder.iterdir()}
    oldest = sorted(ages, key=lambda digit: ages[digit])
    assert cache.load(oldest[0] * 64) == CODE  # used again
    (folder / "notes.txt").write_bytes(bytes(100_000))
    cache.store(KEY, CODE)
    kept = {file.name[0] for file in folder.glob("*.kernel")}
    assert kept == {"0", oldest[0], oldest[-1], oldest[-2]}
    assert (folder / "notes.txt").exists()


def test_nothing_is_said_when_all_is_well(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.load(KEY) is None
        assert not folder.exists()  # a search creates nothing
        cache.store(KEY, b"")
        assert cache.load(KEY) == b""
