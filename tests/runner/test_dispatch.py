"""Plug-ins that raise, hang, exit or crash; workers, executors and clusters that die."""

from __future__ import annotations

import concurrent.futures as cf
import ctypes
import dataclasses
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optbench.core.errors import InputError, StoreError
from optbench.problem import Optimum, Problem
from optbench.results.store import Store
from optbench.runner import dispatch
from optbench.runner.chunks import chunks_of
from optbench.runner.compute import Driver
from optbench.runner.dispatch import Limits
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans
from problems import Quadratic
from tests.conftest import run_python


class OddError(Exception):
    """Can neither be pickled nor printed."""

    def __init__(self, first: int, second: int) -> None:
        self.function = lambda: (first, second)

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_odd() -> None:
    raise OddError(1, 2)


def recurse() -> None:
    recurse()


def warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("a warning", stacklevel=1)


def interrupt() -> None:
    raise KeyboardInterrupt


def hang() -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def allocate() -> None:
    bytearray(1 << 50)


# what a rule or a solver does, and the reason of its failed rows
FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (raise_odd, "OddError: (no message, because its __str__ raises RuntimeError) (test_dispatch.py, line "),
    "recurses": (recurse, "RecursionError: maximum recursion depth exceeded"),
    "warns": (warn, "UserWarning: a warning (test_dispatch.py, line "),
    "exits": (lambda: sys.exit("bye"), "SystemExit: bye (test_dispatch.py, line "),
    "interrupts": (interrupt, "KeyboardInterrupt (test_dispatch.py, line "),
    "allocates": (allocate, "it needs more than 10 GB; raise --memory-limit"),
    "crashes": (lambda: ctypes.string_at(0), "it ended its process: segmentation fault (SIGSEGV)"),
    "ends": (lambda: os._exit(0), "it ended its process: exit code 0"),
}


def picky(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """Refuses large learning rates."""
    if (xp.asarray(lr) > 0.5).any():
        raise ValueError("too large")
    return (x - lr * g,)


@dataclass(eq=True)  # so it has no hash
class Faulty(Problem):
    """A bowl that commits a fault when it is evaluated, or when it is solved."""

    when_evaluated: str = "none"
    when_solved: str = "none"
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        if self.when_evaluated != "none":
            FAULTS[self.when_evaluated][0]()
        return (x**4).sum(axis=-1), 4 * x**3

    def solve(self) -> Optimum | None:
        if self.when_solved != "none":
            FAULTS[self.when_solved][0]()
        return None


def faulty(when: str, fault: str) -> Faulty:
    return Faulty(**{when: fault})  # type: ignore[arg-type]


def plans_of(*problems: Problem) -> list[Plan]:
    return [plan for problem in problems for plan in make_plans(problem, "sgd", seeds=2, steps=5)]


@pytest.mark.parametrize(("where", "jobs"), [("when_evaluated", 2), ("when_solved", 1)])
def test_every_fault_fails_its_own_runs_with_the_reason(tmp_path: Path, where: str, jobs: int) -> None:
    problems = {fault: faulty(where, fault) for fault in FAULTS}
    plans = plans_of(Quadratic(dim=3), *problems.values(), Faulty())
    runs = execute(plans, store=Store(tmp_path), jobs=jobs, time_limit=600, memory_limit=10)
    assert (runs.missing, len(runs)) == (0, 2 * len(plans))
    assert set(runs.rows.loc[runs.rows["problem_spec"].isin(["quadratic:dim=3", Faulty().spec]), "status"]) == {
        "budget"
    }
    for fault, (_, reason) in FAULTS.items():
        rows = runs.rows[runs.rows["problem_spec"] == problems[fault].spec]
        expected = f"solve() of {problems[fault].spec}: {reason}" if where == "when_solved" else reason
        assert set(rows["status"]) == {"failed"}
        assert all(error.startswith(expected) for error in rows["error"])
    assert len(Store(tmp_path).keys(failed=False)) == 4


@dataclass(eq=False)
class Hanging(Problem):
    """Ignores the signal that asks it to end, and never returns."""

    solves: bool
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        hang()

    def solve(self) -> Optimum | None:
        return None if self.solves else hang()


def test_what_hangs_is_killed_at_the_time_limit() -> None:
    runs = execute(plans_of(Hanging(True), Hanging(False)), jobs=2, time_limit=0.5)
    assert set(runs.rows["status"]) == {"failed"}
    assert all("it took longer than 0.5 s; raise --time-limit" in error for error in runs.rows["error"])


IN_THIS_PROCESS = [name for name in FAULTS if name not in ("interrupts", "allocates", "crashes", "ends")]


@pytest.mark.parametrize("where", ["when_evaluated", "when_solved"])
def test_exceptions_fail_runs_in_this_process(where: str) -> None:
    runs = execute(plans_of(Faulty(), *(faulty(where, fault) for fault in IN_THIS_PROCESS)))
    assert runs.rows["status"].tolist() == ["budget"] * 2 + ["failed"] * 2 * len(IN_THIS_PROCESS)
    assert all(
        FAULTS[fault][1] in error for fault, error in zip(IN_THIS_PROCESS, runs.rows["error"][2::2], strict=True)
    )


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plans_of(Faulty(when_evaluated="interrupts")), store=Store(tmp_path))
    assert Store(tmp_path).keys() == set()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_fails_only_the_settings_that_raise_it(jobs: int) -> None:
    plans = [
        plan for d in (3, 4) for plan in make_plans(Quadratic(dim=d), picky, {"lr": [0.1, 0.2, 1.0]}, seeds=2, steps=5)
    ]
    rows = execute(plans, jobs=jobs).rows
    assert rows["status"].tolist() == ["budget", "budget", "failed"] * 4


@dataclass(eq=False)
class UnluckySeed(Problem):
    """Cannot draw a start point for one seed."""

    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        return (x**2).sum(axis=-1), 2 * x

    def draw_start(self, rng: Any) -> Any:
        if rng.bit_generator.seed_seq.entropy == 1:
            raise ValueError("an unlucky seed")
        return rng.standard_normal(self.dim)


def test_an_exception_fails_only_the_seeds_that_raise_it() -> None:
    rows = execute(make_plans(UnluckySeed(), "sgd", seeds=3, steps=5)).rows
    assert rows["status"].tolist() == ["budget", "failed", "budget"]


@dataclass(eq=False)
class Obstructed(Problem):
    """Fails while a file exists, such as a full disk would let it."""

    file: str
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        if Path(self.file).exists():
            raise OSError("obstructed")
        return (x**4).sum(axis=-1), 4 * x**3


def test_a_failed_run_is_superseded_by_a_successful_retry(tmp_path: Path) -> None:
    plans, store = plans_of(Obstructed(str(tmp_path / "file"))), Store(tmp_path / "store")
    (tmp_path / "file").touch()
    assert set(execute(plans, store=store).rows["status"]) == {"failed"}
    (tmp_path / "file").unlink()
    assert set(execute(plans, store=store).rows["status"]) == {"failed"}
    assert set(execute(plans, store=store, retry_failed=True).rows["status"]) == {"budget"}
    assert set(execute(plans, store=store).rows["status"]) == {"budget"}


@pytest.mark.parametrize("limits", [{"time_limit": 0}, {"time_limit": float("nan")}, {"memory_limit": -1}])
def test_limits_must_be_positive(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(limits))} must be a number above 0"):
        execute(plans_of(Faulty()), **limits)  # type: ignore[arg-type]


def test_only_plug_ins_are_isolated_and_have_limits_by_default() -> None:
    limits = Limits(isolate=True)
    own, other = (list(chunks_of(plan)) for plan in plans_of(Quadratic(dim=3), Faulty()))
    assert not limits.need_processes(own)
    assert limits.need_processes(other)
    assert (limits.seconds_of(True), limits.seconds_of(False)) == (None, dispatch.PLUGIN_SECONDS)
    assert limits.bytes_of(True, 1) is None
    assert Limits(seconds=5).seconds_of(True) == 5


# ---- killed from outside, broken executors ---------------------------------------------------------------------------


@dataclass(eq=False)
class Killed(Problem):
    """Its process is killed from outside in the first evaluations; each death adds a file to the folder."""

    folder: str
    deaths: int
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        files = len(list(Path(self.folder).iterdir()))
        if files < self.deaths:
            (Path(self.folder) / str(files)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return (x**4).sum(axis=-1), 4 * x**3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_chunks_of_killed_workers_are_computed_again_and_missing_if_that_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MAX_KILLS", 2)
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    problems = Killed(str(tmp_path / "once"), 1), Killed(str(tmp_path / "twice"), 2), Quadratic(dim=3)
    store = Store(tmp_path / "store")
    with pytest.warns(UserWarning, match=r"2 of 6 runs are missing \(2: .* killed 2 times .*SIGKILL.*same call again"):
        runs = execute(plans_of(*problems), store=store, jobs=2)
    assert (len(runs), runs.missing, set(runs.rows["status"])) == (4, 2, {"budget"})
    again = execute(plans_of(*problems), store=store, jobs=1)
    assert (len(again), again.missing, set(again.rows["status"])) == (6, 0, {"budget"})


def test_a_broken_executor_is_replaced_by_worker_processes(tmp_path: Path) -> None:
    problems = [Quadratic(dim=d) for d in range(3, 9)]
    told = pytest.warns(UserWarning, match="the executor failed .* computed in worker processes")
    with cf.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, told:
        runs = execute(plans_of(Faulty(when_evaluated="ends"), *problems), store=Store(tmp_path), executor=pool)
    assert runs.rows["status"].value_counts().to_dict() == {"budget": 12, "failed": 2}
    assert runs.missing == 0


def test_an_executor_that_is_shut_down_is_replaced(tmp_path: Path) -> None:
    pool = cf.ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.warns(UserWarning, match="cannot schedule new futures after shutdown"):
        runs = execute(plans_of(Quadratic(dim=3)), store=Store(tmp_path), executor=pool)
    assert set(runs.rows["status"]) == {"budget"}


class Far(cf.ThreadPoolExecutor):
    """Workers that do not see the folders of this machine."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        hidden = (dataclasses.replace(a, probe=Path("/nowhere")) if isinstance(a, Driver) else a for a in arguments)
        return super().submit(function, *hidden, **options)


def test_workers_without_the_folder_send_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []
    write = Store.write

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return write(*arguments)

    monkeypatch.setattr(Store, "write", noted)
    with Far(1) as pool:
        runs = execute(plans_of(Quadratic(dim=3), Faulty()), store=Store(tmp_path), executor=pool)
    assert set(threads) == {threading.main_thread()}
    assert (len(runs), set(runs.rows["status"])) == (4, {"budget"})
    assert not list(tmp_path.rglob("*.tmp"))


def test_workers_of_other_versions_are_refused(tmp_path: Path) -> None:
    class Old(cf.ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            driver = Driver(None, {"optbench": "0.0.1", "NumPy": "1.0"})
            return super().submit(function, *(driver if isinstance(a, Driver) else a for a in arguments))

    with (
        Old(1) as pool,
        pytest.raises(InputError, match=r"has optbench .* instead of 0.0.1, NumPy .*; install the same"),
    ):
        execute(plans_of(Quadratic(dim=3)), executor=pool)


# ---- the store -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Vandal(Problem):
    """Deletes the folder of the store, and may put a file in its place."""

    folder: str
    blocks: bool = False
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        if Path(self.folder).is_dir():
            shutil.rmtree(self.folder)
            if self.blocks:
                Path(self.folder).touch()
        return (x**4).sum(axis=-1), 4 * x**3


def test_runs_of_a_store_that_is_deleted_are_missing(tmp_path: Path) -> None:
    plans = plans_of(Quadratic(dim=3), Vandal(str(tmp_path / "store")))
    with pytest.warns(UserWarning, match="2 of 4 runs are missing .*the results folder does not have them"):
        runs = execute(plans, store=Store(tmp_path / "store"))
    assert (len(runs), runs.missing) == (2, 2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_store_that_can_no_longer_be_written_stops_the_call(tmp_path: Path, jobs: int) -> None:
    plans = plans_of(Vandal(str(tmp_path / "store"), blocks=True), Quadratic(dim=3))
    with pytest.raises(StoreError):
        execute(plans, store=Store(tmp_path / "store"), jobs=jobs)


@dataclass(eq=False)
class Wanderer(Problem):
    """Changes the working folder."""

    folder: str
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        os.chdir(self.folder)
        return (x**4).sum(axis=-1), 4 * x**3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_problem_that_changes_the_folder_loses_nothing(
    here: Path, tmp_path_factory: pytest.TempPathFactory, jobs: int
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    plans = plans_of(Wanderer(str(elsewhere)), Quadratic(dim=3))
    runs = execute(plans, store=Store("results"), jobs=jobs)
    assert (len(runs), runs.missing) == (4, 0)
    assert Path.cwd() == here
    assert not list(elsewhere.iterdir())


# ---- scripts ---------------------------------------------------------------------------------------------------------

UNGUARDED = """
import optbench
print("begun", flush=True)
optbench.compare(["quadratic:dim=3", "beale"], ["adam", "sgd"], lr=0.01, seeds=2, steps=5, jobs=2)
"""


def test_a_script_without_a_guard_gets_one_message(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = run_python(str(tmp_path / "script.py"), timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert (
        'they import script.py, which starts them again; put its calls under if __name__ == "__main__"' in done.stderr
    )
