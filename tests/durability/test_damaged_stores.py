"""Stores that are damaged, deleted, full or used by several commands at once: nothing is wrong or lost in silence."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import optbench
from optbench.cli import main
from optbench.results.store import Store
from tests.conftest import run_python
from tests.durability.kill import LIMIT, PROBLEM, ROOT, STUDY, assert_equal_rows, rows_of, wait_until

SMALL = ["run", "--problem", "quadratic:dim=4", "--optimizer", "adam", "--optimizer", "momentum", "--seeds", "2"]
SMALL += ["--steps", "20", "--lr", "0.01,0.1", "--jobs", "1", "--no-report"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def reference(here: Path) -> Path:
    """A store with the runs of `SMALL` in two files."""
    assert main([*SMALL, "-o", "reference"]) == 0
    return here / "reference"


def copied(store: Path, name: str) -> Path:
    return Path(shutil.copytree(store, store.parent / name))


def result_files(store: Path) -> list[Path]:
    """Every file that holds results, and whatever else the store needs."""
    return sorted(path for path in store.rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_never_changes_a_table(reference: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    chooser = random.Random(seed)
    expected = rows_of(reference)
    for number, original in enumerate(result_files(reference)):
        store = copied(reference, f"copy{number}")
        path = store / original.relative_to(reference)
        content = bytearray(path.read_bytes())
        content[chooser.randrange(len(content))] ^= 1 << chooser.randrange(8)
        path.write_bytes(content)
        capsys.readouterr()
        status = main([*SMALL, "-o", str(store)])
        message = capsys.readouterr().err
        assert (status, rows_of(store)) == (0, expected), message
        assert path.stem[:8] in message
        assert "Traceback" not in message


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    path.write_bytes(b"not parquet" * 1000)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def of_another_table(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"key": [1.5]}).to_parquet(path)


def exchanged(path: Path) -> None:
    """Its rows are those of another file."""
    other = next(each for each in path.parent.parent.rglob("*.parquet") if each != path)
    path.write_bytes(other.read_bytes())


DAMAGES: list[Callable[[Path], None]] = [
    *(empty, truncated, foreign, folder, dangling, loop, pipe, endless, of_another_table, exchanged)
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named_and_its_runs_are_computed_again(
    reference: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    expected = rows_of(reference)
    damaged = Store(reference).files[0]
    damage(damaged)
    capsys.readouterr()
    if damage in (pipe, endless):  # in another process, as reading them would never end
        done = run_python("-m", "optbench", *SMALL, "-o", "reference", timeout=LIMIT, env=ENVIRONMENT)
        status, error = done.returncode, done.stderr
    else:
        status, error = main([*SMALL, "-o", "reference"]), capsys.readouterr().err
    assert status == 0, error
    assert rows_of(reference) == expected
    if damage is not exchanged:
        assert damaged.stem[:8] in error  # one message names the file
        assert len(error.splitlines()) <= 4
    capsys.readouterr()
    assert main([*SMALL, "-o", "reference"]) == 0
    assert "0 runs to compute" in capsys.readouterr().err  # and it is said once


def test_report_of_a_damaged_store_uses_the_rest(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = Store(reference).files
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 4
    first.write_bytes(content)
    capsys.readouterr()
    status = main(["report", "reference"])
    _, err = capsys.readouterr()
    assert status in (0, 1), err
    assert first.stem[:8] in err
    assert "Traceback" not in err
    assert len(Store(reference).load()) == 4
    assert second.exists()


# ---- while a command runs --------------------------------------------------------------------------------------------


@pytest.fixture
def study(here: Path) -> Path:
    """A study of 21 chunks, two thirds of which take a known time."""
    (here / "paced.py").write_text(PROBLEM)
    (here / "study.toml").write_text(STUDY.replace("MS", "0.2"))
    return here


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "optbench", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


RUN = ["run", "study.toml", "--no-report", "--jobs", "1"]


def test_a_store_that_is_deleted_midway_is_reported(study: Path) -> None:
    process = start(*RUN)
    try:
        wait_until(lambda: len(Store("results").files) > 3, "the first results")
        Path("results").rename("removed")
        _, error = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.communicate()
    rows = rows_of(study / "results") if (study / "results").is_dir() else {}
    assert "Traceback" not in error
    assert process.returncode == 1, error
    assert f"{78 - len(rows)} of 78" in error  # how many are missing
    assert (
        run_python("-m", "optbench", *RUN, env=ENVIRONMENT).returncode == 0
    )  # a new process, as this one may know another paced.py
    assert len(rows_of(study / "results")) == 78


def test_two_commands_may_fill_one_store(study: Path) -> None:
    processes = [start(*RUN), start(*RUN)]
    for process in processes:
        _, error = process.communicate(timeout=2 * LIMIT)
        assert process.returncode == 0, error
    assert run_python("-m", "optbench", *RUN, "-o", "alone", env=ENVIRONMENT).returncode == 0
    assert_equal_rows(study / "results", study / "alone")
    assert not list(study.rglob("*.tmp"))


def test_a_store_may_be_maintained_while_a_command_fills_it(study: Path) -> None:
    process = start(*RUN)
    try:
        wait_until(lambda: len(Store("results").files) > 2, "the first results")
        while process.poll() is None:
            assert main(["store", "compact", "results"]) == 0
            assert main(["store", "merge", "results", "-o", "copy"]) == 0
            assert main(["store", "check", "results"]) == 0
            time.sleep(0.1)
        _, error = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, error
    assert run_python("-m", "optbench", *RUN, "-o", "alone", env=ENVIRONMENT).returncode == 0
    assert_equal_rows(study / "results", study / "alone")
    everything, part = rows_of(study / "alone"), rows_of(study / "copy")
    assert part
    assert part == {key: everything[key] for key in part}


def test_a_full_disk_is_reported_and_nothing_is_stored_as_failed(here: Path) -> None:
    limited = "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
    limited += "from optbench.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["-o", "results"]
    done = run_python("-c", limited, *SMALL, *options, timeout=LIMIT, env=ENVIRONMENT)
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr
    stored = rows_of(here / "results")
    assert {row["status"] for row in stored.values()} <= {"budget"}
    assert not list(here.rglob("*.tmp"))
    assert main([*SMALL, *options]) == 0
    assert len(rows_of(here / "results")) == 8


def test_temporary_files_of_a_killed_command_are_removed(here: Path) -> None:
    code = """
import sys
from pathlib import Path
from optbench.results import files
for name in sys.argv[1:]:
    Path(name).mkdir(parents=True, exist_ok=True)
    files.temporary_file(Path(name)).touch()
"""
    store = Store(here / "results")
    store.check_writable()
    version = next(store.path.iterdir())
    run_python("-c", code, str(store.path), str(version), str(version / "ab"), env=ENVIRONMENT)
    assert len(list(store.path.rglob("*.tmp"))) == 3
    store.check_writable()
    assert not list(store.path.rglob("*.tmp"))


WANDERING = PROBLEM.replace("import time", "import os, time").replace("time.sleep", "os.chdir('/'); time.sleep")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_problem_that_changes_the_folder_loses_nothing(study: Path, jobs: str) -> None:
    (study / "paced.py").write_text(WANDERING)
    methods = ["--optimizer", "adam", "--optimizer", "momentum", "--lr", "0.01,0.1", "--seeds", "2", "--steps", "10"]
    process = start("run", "--import", "paced.py", "--problem", "paced", *methods, "--jobs", jobs, "-o", "results")
    _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, error
    assert len(rows_of(study / "results")) == 8
    assert (study / "results" / "report.html").exists()


def test_ten_threads_share_a_store(here: Path) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(10)

    def work(number: int) -> None:
        try:
            barrier.wait(30)
            runs = optbench.sweep(
                "quadratic:dim=4", "adam", lr=[0.1, 0.2], seeds=[number % 3, number % 5 + 3], steps=20, store="results"
            )
            assert len(runs) == 4
        except BaseException as error:  # reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    alone = optbench.sweep("quadratic:dim=4", "adam", lr=[0.1, 0.2], seeds=8, steps=20, store="alone")
    assert len(alone) == 16
    assert_equal_rows(here / "results", here / "alone")


def test_threads_in_a_new_process_find_everything() -> None:
    code = """
import threading
import optbench
errors = []
barrier = threading.Barrier(8)
def work():
    try:
        barrier.wait(30)
        optbench.sweep("quadratic:dim=3", "adam", seeds=1, steps=3)
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join(60) for thread in threads]
assert not errors, errors
"""
    done = run_python("-c", code, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a file system that refuses to be written")
@pytest.mark.parametrize("folder", ["/proc/results", "/dev/null", "/dev/null/results", "", "a\0b", "x" * 5000])
def test_folders_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    try:
        status: Any = main([*SMALL, "-o", folder])
    except SystemExit as stop:  # of argparse
        status = stop.code
    assert status == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("optbench: ")
    assert len(error) < 500
