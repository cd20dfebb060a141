"""Plug-ins that raise, hang, exit or crash; workers, executors and clusters that die."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import optbench
from optbench.core import workers
from optbench.core.errors import InputError
from optbench.problem import Optimum, Problem
from optbench.results.store import Store
from optbench.runner import dispatch
from optbench.runner.dispatch import Limits
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans
from problems import Quadratic

LIMIT = 4.0  # seconds; enough for what does not hang


@pytest.fixture(autouse=True)
def no_idle_pool() -> Iterator[None]:
    yield
    workers.dismiss_idle()


class Odd(Exception):
    """Can neither be pickled nor printed."""

    def __init__(self, first: int, second: int) -> None:
        self.function = lambda: (first, second)

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_odd() -> None:
    raise Odd(1, 2)


def recurse() -> None:
    recurse()


def warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("a warning", stacklevel=1)


def interrupt() -> None:
    raise KeyboardInterrupt


def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def allocate() -> None:
    bytearray(1 << 50)


# what a rule or a solver does, and the reason of its failed rows
FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (raise_odd, "Odd: (no message, because its __str__ raises RuntimeError) (test_dispatch.py, line "),
    "recurses": (recurse, "RecursionError: maximum recursion depth exceeded"),
    "warns": (warn, "UserWarning: a warning (test_dispatch.py, line "),
    "exits": (lambda: sys.exit("bye"), "SystemExit: bye (test_dispatch.py, line "),
    "interrupts": (interrupt, "KeyboardInterrupt (test_dispatch.py, line "),
    "allocates": (allocate, "it needs more than 10 GB; raise --memory-limit"),
    "hangs": (hang, f"it took longer than {LIMIT:g} s; raise --time-limit"),
    "crashes": (lambda: ctypes.string_at(0), "it ended its process: segmentation fault (SIGSEGV)"),
    "aborts": (os.abort, "it ended its process: aborted (SIGABRT)"),
    "ends": (lambda: os._exit(0), "it ended its process: exit code 0"),
}


def picky(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """Refuses large learning rates."""
    if (xp.asarray(lr) > 0.5).any():
        raise ValueError("too large")
    return (x - lr * g,)


@dataclass(eq=True)  # not hashable
class Faulty(Problem):
    """A bowl that commits a fault when it is evaluated, or when it is solved."""

    value: str = "none"
    solver: str = "none"
    dim: int = 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        if self.value != "none":
            FAULTS[self.value][0]()
        return (x**4).sum(axis=-1), 4 * x**3

    def solve(self) -> Optimum | None:
        if self.solver != "none":
            FAULTS[self.solver][0]()
        return None


def plans_of(*problems: Problem) -> list[Plan]:
    return [plan for problem in problems for plan in make_plans(problem, "sgd", seeds=2, steps=5)]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("where", ["value", "solver"])
def test_every_fault_fails_its_own_runs_with_the_reason(tmp_path: Path, where: str, jobs: int) -> None:
    faulty = {fault: Faulty(**{where: fault}) for fault in FAULTS}
    plans = plans_of(Quadratic(dim=3), *faulty.values(), Faulty())
    runs = execute(plans, store=Store(tmp_path), jobs=jobs, time_limit=LIMIT, memory_limit=10)
    assert (runs.missing, len(runs)) == (0, 2 * len(plans))
    assert set(runs.rows.loc[runs.rows["problem_spec"].isin(["quadratic:dim=3", Faulty().spec]), "status"]) == {
        "budget"
    }
    for fault, (_, reason) in FAULTS.items():
        rows = runs.rows[runs.rows["problem_spec"] == faulty[fault].spec]
        expected = f"solve() of {faulty[fault].spec}: {reason}" if where == "solver" else reason
        assert set(rows["status"]) == {"failed"}
        assert all(error.startswith(expected) for error in rows["error"])
    assert len(Store(tmp_path).keys(failed=False)) == 4


IN_THIS_PROCESS = [
    name for name in FAULTS if name not in ("interrupts", "allocates", "hangs", "crashes", "aborts", "ends")
]


@pytest.mark.parametrize("where", ["value", "solver"])
def test_exceptions_fail_runs_in_this_process(where: str) -> None:
    runs = execute(plans_of(Faulty(), *(Faulty(**{where: fault}) for fault in IN_THIS_PROCESS)))
    assert runs.rows["status"].tolist() == ["budget"] * 2 + ["failed"] * 2 * len(IN_THIS_PROCESS)
    assert all(
        FAULTS[fault][1] in error for fault, error in zip(IN_THIS_PROCESS, runs.rows["error"][2::2], strict=True)
    )


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plans_of(Faulty(value="interrupts")), store=Store(tmp_path))
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
        start = rng.standard_normal(self.dim)
        if start[0] == optbench.stream("start", 1).standard_normal():
            raise ValueError("an unlucky seed")
        return start


def test_an_exception_fails_only_the_seeds_that_raise_it() -> None:
    rows = execute(make_plans(UnluckySeed(), "sgd", seeds=3, steps=5)).rows
    assert rows["status"].tolist() == ["budget", "failed", "budget"]


def test_a_failed_run_is_superseded_by_a_successful_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = plans_of(Faulty(value="raises"))
    assert set(execute(plans, store=Store(tmp_path)).rows["status"]) == {"failed"}
    monkeypatch.setitem(FAULTS, "raises", (lambda: None, ""))
    assert set(execute(plans, store=Store(tmp_path)).rows["status"]) == {"failed"}
    assert set(execute(plans, store=Store(tmp_path), retry_failed=True).rows["status"]) == {"budget"}
    assert set(execute(plans, store=Store(tmp_path)).rows["status"]) == {"budget"}


@pytest.mark.parametrize("limits", [{"time_limit": 0}, {"time_limit": float("nan")}, {"memory_limit": -1}])
def test_limits_must_be_positive(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(limits))} must be a number above 0"):
        execute(plans_of(Faulty()), **limits)  # type: ignore[arg-type]


def test_only_plug_ins_are_isolated_and_have_limits_by_default() -> None:
    limits = Limits(isolate=True)
    own, other = (optbench.runner.chunks.chunks_of(plan) for plan in plans_of(Quadratic(dim=3), Faulty()))
    assert not limits.need_processes(list(own))
    assert limits.need_processes(list(other))
    assert (limits.seconds_of(True), limits.seconds_of(False)) == (None, dispatch.PLUGIN_SECONDS)
    assert limits.bytes_of(True, 1) is None
    assert Limits(seconds=5).seconds_of(True) == 5


# ---- killed from outside ---------------------------------------------------------------------------------------------


class Killed(Faulty):
    """Kills its process by a signal from outside the first `times` times; each writes a file."""

    def __init__(self, folder: str, times: int) -> None:
        self.folder, self.times, self.dim = folder, times, 3

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        deaths = len(list(Path(self.folder).iterdir()))
        if deaths < self.times:
            (Path(self.folder) / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().value_and_grad(x)
