"""Kill workers and commands of a study at random moments, and check that its results are those of an undisturbed run.

The tests use a few kills of each kind. ``python -m tests.durability.kill 50`` makes fifty of each and prints a report.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optbench.results.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 100.0  # seconds in which a command must end, whatever was killed; it has a few seconds of work
USUAL_SECONDS = 2.0  # of a study, where that has not been measured
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK = "OPTBENCH_TEST_RUN"  # environment variable by which all processes of a command are found
EXCLUDED = ("created", "chunk_runs", "device_bytes")  # columns that may differ between two runs of a study

# evaluations take a known time without using a core, so that kills fall into the work on any machine
PROBLEM = """
import time
from dataclasses import dataclass

import numpy as np
from optbench import Optimum, Problem
from optbench.problem import problem


@problem("paced")
@dataclass(eq=False)
class Paced(Problem):
    dim: int = 3
    milliseconds: float = 1.0

    def __post_init__(self):
        self.place()

    def place(self):
        self.xp = self.backend.xp

    def value_and_grad(self, x, samples=None):
        time.sleep(self.milliseconds / 1000)
        return self.xp.sum(x**4, axis=-1) / 4, x**3

    def solve(self):
        return Optimum(f=0.0, lower=0.0, x=np.zeros(self.dim), method="by inspection", gradient_norm=0.0)
"""

# 21 chunks
STUDY = """
title = "A study to be killed"
import = ["paced.py"]
seeds = 2
steps = 100
lr = [0.01, 0.1]

[[compare]]
problems = ["paced:dim=3,milliseconds=MS", "paced:dim=4,milliseconds=MS", "quadratic:dim=10"]
optimizers = ["gradient_descent", "momentum", "nesterov", "adam", "rmsprop", "adagrad", "lbfgs"]
"""

POOL = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import optbench

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        runs = optbench.run("study.toml", store=sys.argv[1], executor=pool)
    sys.exit(runs.missing > 0)
"""

MODES = ("jobs 1", "jobs 2", "pool", "dask")


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of a store by key, as Python objects that compare by content, without the columns of `EXCLUDED`."""
    rows = Store(folder).load().rows.drop(columns=list(EXCLUDED))
    return {row["key"]: {name: plain(value) for name, value in row.items()} for row in rows.to_dict("records")}


def plain(value: Any) -> Any:
    """A value in which NaN equals itself, and arrays are tuples."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return "NaN" if value is None or value != value else value


def contents_of(folder: Path) -> dict[str, str]:
    """Hashes of the result files of a store, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Store(folder).files}


def assert_equal_rows(actual: Path, expected: Path) -> None:
    """Fail with the first difference between the rows of two stores."""
    left, right = rows_of(actual), rows_of(expected)
    assert left.keys() == right.keys(), f"{len(left)} rows instead of {len(right)}"
    for key, row in right.items():
        differences = {name: (left[key][name], value) for name, value in row.items() if left[key][name] != value}
        assert not differences, f"{row['method']} on {row['problem']}: {differences}"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def marked(mark: str) -> list[int]:
    """Living processes with this mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return sorted(pid for pid in found if is_alive(pid))


def end(mark: str) -> None:
    """Kill all processes with this mark."""
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def start(command: list[str], folder: Path, mark: str, errors: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {MARK: mark, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with errors.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
        )


@dataclass
class Cluster:
    """A Dask scheduler and two workers; what has been killed is started again by `repair`."""

    folder: Path
    mark: str = field(default_factory=lambda: f"cluster{secrets.token_hex(4)}")
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    def repair(self) -> None:
        if "scheduler" in self.processes and self.processes["scheduler"].poll() is not None:
            self.stop()  # workers of a lost scheduler wait for it at its old port
        if "scheduler" not in self.processes:
            self.file.unlink(missing_ok=True)
            self._start("scheduler", ["--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)])
            wait_until(self.file.exists, "a Dask scheduler")
        for name in ("worker 1", "worker 2"):
            if name not in self.processes or self.processes[name].poll() is not None:
                options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder)]
                self._start(name, ["--scheduler-file", str(self.file), *options])

    def _start(self, name: str, arguments: list[str]) -> None:
        command = ["-m", "dask", name.split()[0], *arguments]
        self.processes[name] = start(command, self.folder, self.mark, self.folder / f"{name}.log")

    def stop(self) -> None:
        end(self.mark)
        for process in self.processes.values():
            process.wait()
        self.processes.clear()


def wait_until(condition: Any, what: str, seconds: float = LIMIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


@dataclass
class Report:
    """What happened in one mode."""

    mode: str
    undisturbed_seconds: float = 0.0
    kills: collections.Counter[str] = field(default_factory=collections.Counter)  # by signal and victim
    ends: collections.Counter[int] = field(default_factory=collections.Counter)  # exit statuses after a kill
    studies: int = 0  # studies that were completed and compared
    longest_seconds: float = 0.0  # from a kill to the end of the command
    tracebacks: list[str] = field(default_factory=list)


class Torture:
    """Runs of one study in one mode."""

    def __init__(
        self, mode: str, folder: Path, milliseconds: float = 1.0, seed: int = 0, undisturbed: Path | None = None
    ) -> None:
        self.mode, self.folder, self.random, self.report = mode, folder, random.Random(f"{mode}{seed}"), Report(mode)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "paced.py").write_text(PROBLEM)
        (folder / "study.toml").write_text(STUDY.replace("MS", str(milliseconds)))
        (folder / "pool.py").write_text(POOL)
        self.cluster = Cluster(folder)
        self.errors = folder / "errors.txt"
        self.undisturbed = undisturbed or folder / "undisturbed"

    def command(self, store: str) -> list[str]:
        if self.mode == "pool":
            return ["pool.py", store]
        where = {"jobs 1": ["--jobs", "1"], "jobs 2": ["--jobs", "2"], "dask": ["--dask", self.address()]}
        return ["-m", "optbench", "run", "study.toml", "-o", store, "--no-report", *where[self.mode]]

    def address(self) -> str:
        if self.mode != "dask":
            return ""
        import json

        self.cluster.repair()
        return str(json.loads(self.cluster.file.read_text())["address"])

    @contextlib.contextmanager
    def started(self, store: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """A command and the mark of its processes; afterwards, none of them may be left."""
        self.errors.write_bytes(b"")
        mark = f"command{secrets.token_hex(4)}"
        process = start(self.command(store), self.folder, mark, self.errors)
        try:
            yield process, mark
            if self.mode == "pool":
                return  # workers of a user's pool do not notice the death of their parent; they are the user's
            wait_until(lambda: not marked(mark), f"processes that outlive their command: {self.errors.read_text()}", 15)
        finally:
            end(mark)
            process.wait()

    def run_undisturbed(self, store: str) -> int:
        begun = time.monotonic()
        with self.started(store) as (process, _):
            status = process.wait(LIMIT)
        self.report.undisturbed_seconds = time.monotonic() - begun
        return status

    def run(self, kills: int) -> Report:
        """Kill until `kills` processes have been killed and every study that was begun is complete."""
        try:
            if not self.undisturbed.is_dir():
                assert self.run_undisturbed("undisturbed") == 0, self.errors.read_text()
            if self.mode == "dask":
                self.cluster.repair()  # before the clock starts
            duration = self.report.undisturbed_seconds or USUAL_SECONDS
            while self.report.kills.total() < kills:
                self._one_study(f"store{self.report.studies}", duration, kills)
            return self.report
        finally:
            self.cluster.stop()

    def _one_study(self, store: str, duration: float, kills: int) -> None:
        path = self.folder / store
        stored: dict[str, str] = {}  # files that have once been there
        attempts = 0
        while True:
            attempts += 1
            assert attempts <= kills + 3, f"the study never completes: {self.errors.read_text()}"
            disturbed = self.report.kills.total() < kills
            with self.started(store) as (process, mark):
                if disturbed:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(self.random.uniform(0.0, duration))
                    disturbed = process.poll() is None and self._kill(process.pid, mark, path, stored)
                begun = time.monotonic()
                try:
                    status = process.wait(LIMIT)
                except subprocess.TimeoutExpired:
                    raise AssertionError(f"the command hangs after {self.report.kills}") from None
            self._check(path, stored)
            if disturbed:
                self.report.ends[status] += 1
                self.report.longest_seconds = max(self.report.longest_seconds, time.monotonic() - begun)
            text = self.errors.read_text(errors="replace")
            if "Traceback" in text and self.mode != "pool":
                self.report.tracebacks.append(text)
            if status == 0:
                break
            assert disturbed, f"exit status {status} without a kill: {text}"
        assert_equal_rows(path, self.undisturbed)
        # workers of a pool whose command was killed may still be writing
        wait_until(lambda: not self._temporary_files(path), f"removal of {self._temporary_files(path)}", 20)
        self.report.studies += 1

    def _kill(self, command: int, mark: str, path: Path, stored: dict[str, str]) -> bool:
        """Kill a process of the command, or of the cluster, at random; False if it had ended before."""
        others = [pid for pid in marked(mark) if pid != command]
        if self.mode == "dask":
            others += marked(self.cluster.mark)
        victim = command if not others or self.random.random() < 0.5 else self.random.choice(others)
        kind = self.random.choice(SIGNALS)
        stored |= contents_of(path)
        try:
            os.kill(victim, kind)
        except OSError:
            return False
        self.report.kills[f"{kind.name} {'command' if victim == command else 'worker'}"] += 1
        return True

    def _temporary_files(self, path: Path) -> list[str]:
        """Temporary files that the next command does not remove."""
        Store(path).check_writable()
        return [file.name for file in path.rglob("*.tmp")]

    def _check(self, path: Path, stored: Mapping[str, str]) -> None:
        """Complete files are as they were, and no row is marked failed."""
        now = contents_of(path)
        lost = [name for name, content in stored.items() if now.get(name) != content]
        assert not lost, f"{len(lost)} complete files are lost or changed"
        if now:
            failed = Store(path).load().rows.query("status == 'failed'")
            assert failed.empty, f"{len(failed)} healthy runs are marked failed: {set(failed['error'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=50, help="kills in each mode")
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background of a shell ignore it
    with tempfile.TemporaryDirectory() as folder:
        for mode in arguments.modes:
            begun = time.monotonic()
            report = Torture(mode, Path(folder) / mode.replace(" ", ""), seed=arguments.seed).run(arguments.kills)
            print(
                f"{mode}: {report.kills.total()} kills in {report.studies} studies of "
                f"{report.undisturbed_seconds:.1f} s, all equal to an undisturbed run\n"
                f"  kills {dict(report.kills)}\n  exit statuses {dict(report.ends)}; the longest end took "
                f"{report.longest_seconds:.1f} s; {time.monotonic() - begun:.0f} s in all; "
                f"{len(report.tracebacks)} tracebacks",
                flush=True,
            )
            for text in report.tracebacks[:3]:
                print("  | " + text[-3000:].replace("\n", "\n  | "), flush=True)


if __name__ == "__main__":
    main()
