"""Races on a simulated clock and device: what is timed, and in which order.

No test uses the real clock, because it would fail on a busy machine.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from optbench.analysis.timing import race_summary
from optbench.cli import main
from optbench.core.backend import NUMPY, Backend
from optbench.core.errors import InputError, StoreError
from optbench.core.random import Batches
from optbench.core.types import Array
from optbench.problem import Problem
from optbench.results.schema import RACE_COLUMNS
from optbench.results.store import Store
from optbench.runner import race
from optbench.runner.loop import Loop, minimize
from optbench.runner.plan import Plan
from tests.conftest import host_reads_forbidden, strict_backend
from tests.rows import race_rows


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the search for the idlest core and the garbage collection."""
    monkeypatch.setattr(race, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(gc, "collect", lambda: 0)


# ---- a simulated machine ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Machine:
    """A clock, a device that runs kernels asynchronously, and a list of events."""

    now: float = 0.0
    free: float = 0.0  # when the device finishes
    events: list[Any] = dataclasses.field(default_factory=list)

    def launch(self, seconds: float) -> None:
        """Start a kernel without waiting."""
        self.now += 1e-6
        self.free = max(self.free, self.now) + seconds

    def wait(self) -> None:
        self.now = max(self.now, self.free)


class Asynchronous(Backend):
    """NumPy on a simulated machine, whose kernels end only when waited for."""

    machine: Machine

    def synchronize(self) -> None:
        self.machine.wait()


@dataclasses.dataclass(eq=False)
class Kernels(Problem):
    """f(x) = |x|^2 / 2 by a kernel of 2 s; everything except the oracle calls of steps takes 1000 s."""

    name = "kernels"
    dim: int = 3

    def __post_init__(self) -> None:
        self.n_samples = 8

    def place(self) -> None:
        pass

    @property
    def machine(self) -> Machine:
        machine: Machine = self.backend.machine  # type: ignore[attr-defined]
        return machine

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        self.machine.launch(2.0)
        return np.sum(x * x, axis=-1) / 2, x

    def value(self, x: Array) -> Array:
        raise AssertionError("a race evaluates only the oracle calls of steps")

    def evaluate(self, x: Array) -> tuple[Array, dict[str, Array]]:
        raise AssertionError("a race evaluates only the oracle calls of steps")

    def starts(self, seeds: Any) -> Array:
        self.machine.now += 1000.0
        self.machine.events.append(tuple(seeds))
        return super().starts(seeds)

    def sampler(self, seeds: tuple[int, ...], batch_size: int | None) -> Any:
        if batch_size is None:
            return None
        machine = self.machine

        class SlowBatches(Batches):
            def draw(self, first: int, last: int) -> np.ndarray:
                machine.now += 1000.0
                return super().draw(first, last)

        return SlowBatches(seeds, 8, batch_size)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    simulated = Machine()
    # the check of a rule before work starts is no part of a race
    monkeypatch.setattr("optbench.runner.loop._keeps_runs_apart", lambda *rule: True)
    monkeypatch.setattr("optbench.core.backend.time", types.SimpleNamespace(perf_counter=lambda: simulated.now))
    return simulated


def backend_of(machine: Machine) -> Backend:
    backend = Asynchronous(NUMPY.name, NUMPY.xp, fused=False)
    object.__setattr__(backend, "machine", machine)
    return backend


def rule_of(machine: Machine, name: str, seconds: float, *, compiling: float = 0.0) -> Callable[..., Any]:
    """Gradient descent by a kernel; its first call takes `compiling` more seconds."""

    def rule(xp: Any, x: Array, g: Array, t: int, lr: float = 0.1) -> tuple[Array]:
        nonlocal compiling
        machine.now += compiling
        compiling = 0.0
        machine.launch(seconds)
        machine.events.append(name)
        return (x - lr * g,)

    rule.__name__ = name
    return rule


def run_race(machine: Machine, *rules: Callable[..., Any], **options: Any) -> pd.DataFrame:
    return race.race([Kernels()], rules, device=backend_of(machine), **{"rounds": 3, "steps": 5} | options)


def plan_of(problem: str, optimizer: str, **options: Any) -> Plan:
    (plan,) = race.make_race_plans([problem], [optimizer], **options)
    return plan


def loop_of(plan: Plan, steps: int, seed: int = 0) -> Loop:
    """A single run of a plan with one setting."""
    return Loop(plan.problem, plan.build(plan.grid, (seed,)), (seed,), steps, plan.batch_size, 1)


# ---- what is timed ---------------------------------------------------------------------------------------------------


# with many or few steps between two readings of the clock, and all batches at once or those of two steps
@pytest.mark.parametrize("part", [50, 1, 3])
@pytest.mark.parametrize(("batch", "block"), [(None, 1 << 24), (4, 1 << 24), (4, 64)])
def test_only_steps_are_timed_and_the_clock_waits_for_the_device(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, batch: int | None, block: int, part: int
) -> None:
    monkeypatch.setattr(race, "PART", part)
    monkeypatch.setattr("optbench.runner.loop.MAX_FEED_BYTES", block)
    rows = run_race(machine, rule_of(machine, "a", 3.0), batch_size=batch)
    np.testing.assert_allclose(rows["seconds"], 5 * (2 + 3), rtol=1e-5)
    np.testing.assert_allclose(rows["oracle_seconds"], 5 * 2, rtol=1e-5)
    assert (rows["seconds"] >= 25).all()
    assert set(rows["calls_per_step"]) == {1.0 if batch is None else 0.5}


def test_the_warm_up_is_timed_separately(machine: Machine) -> None:
    rows = run_race(machine, rule_of(machine, "a", 3.0, compiling=500.0), rule_of(machine, "b", 1.0))
    assert rows["seconds"].max() < 26
    a, b = (rows.loc[rows["place"] == place, "warmup_seconds"].iloc[0] for place in (0, 1))
    # two of the three passes take steps; an oracle call of 2 s ran while the host compiled
    assert a - b == pytest.approx(500 - 2 + 2 * 5 * (3 - 1), rel=1e-3)


def test_the_order_is_a_b_c_a_b_c_and_a_round_shares_its_seed(machine: Machine) -> None:
    rows = run_race(machine, *(rule_of(machine, name, 1.0) for name in "abc"), seed=7)
    turns = [entry for entry in machine.events if entry in ("a", "b", "c")]
    runs = turns[:: 2 * 5]  # each turn passes twice through 5 steps
    assert "".join(runs) == "abc" * 4
    starts = [entry for entry in machine.events if isinstance(entry, tuple)]
    assert starts == [(7,)] * 3 + [(7,)] * 3 + [(8,)] * 3 + [(9,)] * 3
    assert rows["configuration"].tolist() == ["a", "b", "c"] * 3
    assert rows["seed"].tolist() == [7, 7, 7, 8, 8, 8, 9, 9, 9]
    assert rows["round"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("optimizer", "batch"), [("adam", None), ("adam", 16), ("lbfgs", None)])
@pytest.mark.parametrize("fused", [False, True])
def test_a_race_takes_the_steps_of_a_run(optimizer: str, batch: int | None, fused: bool) -> None:
    plan = plan_of("logistic:data=iris", optimizer, steps=30, batch_size=batch, fused=fused)
    loop = loop_of(plan, 30, seed=3)
    x0 = plan.problem.starts((3,))
    start = np.array(x0)
    points = race._visited_points(loop, x0)
    *_, x = race._time_steps(loop, x0, points)
    trace = minimize(plan.problem, plan.build(plan.grid, (3,)), x0, seeds=(3,), steps=30, batch_size=batch)
    np.testing.assert_array_equal(x, trace.x)
    np.testing.assert_array_equal(x0, start)
    np.testing.assert_array_equal(points[0], start)


def test_the_saved_points_are_few_and_evenly_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("quadratic:dim=10", "sgd", steps=100)
    monkeypatch.setattr(race, "POINT_BYTES", 8 * 10 * 7)
    loop = loop_of(plan, 100)
    x0 = plan.problem.starts((0,))
    points = race._visited_points(loop, x0)
    assert len(points) == 7
    np.testing.assert_array_equal(points[1], race._time_steps(loop_of(plan, 15), x0, points)[2])


def test_the_timed_steps_read_nothing_on_the_host() -> None:
    plan = plan_of("logistic:data=iris", "adam", steps=5, batch_size=16, device=strict_backend())
    loop = loop_of(plan, 5)
    x0 = plan.problem.starts((0,))
    with host_reads_forbidden():
        race._time_steps(loop, x0, race._visited_points(loop, x0))


def test_rules_are_compiled_unless_disabled() -> None:
    for fused in (True, False):
        rows = race.race("quadratic:dim=5", ["adam", "lbfgs"], rounds=3, steps=3, fused=fused)
        assert rows["fused"].tolist() == [fused, False] * 3


def test_diverged_runs_are_marked() -> None:
    races = race.race("rosenbrock", ["sgd:lr=100", "sgd:lr=1e-5"], rounds=3, steps=20)
    assert race_summary(races)["finite"].tolist() == [False, True]


# ---- the machine -----------------------------------------------------------------------------------------------------


def machine_state() -> tuple[Any, ...]:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return cores, gc.isenabled(), [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """BLAS has two threads; the test leaves them, the cores and the garbage collector as it finds them."""
    with threadpool_limits(2, user_api="blas"):
        before = machine_state()
        yield
        assert machine_state() == before


@pytest.mark.usefixtures("two_threads")
def test_quiet_restores_the_machine() -> None:
    with race.quiet() as core:
        assert not gc.isenabled()
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
        if core is not None:
            assert os.sched_getaffinity(0) == {core}


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_rule_restores_the_machine(machine: Machine) -> None:
    def defect(xp: Any, x: Array, g: Array, t: int, lr: float = 0.1) -> tuple[Array]:
        raise ZeroDivisionError

    with pytest.raises(InputError, match=r"^defect on kernels: ZeroDivisionError \(test_race.py, line"):
        run_race(machine, defect)


@pytest.mark.usefixtures("two_threads")
def test_a_system_that_cannot_pin_threads_or_report_load(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refuse, raising=False)
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        patch.delattr(os, "getloadavg", raising=False)
        patch.setattr(race, "_busy_ticks", dict)
        rows = run_race(machine, rule_of(machine, "a", 1.0))
    assert rows[["core", "load_before", "load_after"]].isna().all(axis=None)
    assert race_summary(rows)["reason"].tolist() == [""]


def test_the_idlest_core_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([{0: 5, 1: 5, 2: 5}, {0: 25, 1: 6, 2: 25}])
    monkeypatch.setattr(race, "_busy_ticks", lambda: next(ticks))
    assert race._idlest({0, 1, 2}) == 1
    monkeypatch.setattr(race, "_busy_ticks", dict)
    assert race._idlest({0, 1, 2}) == 2  # on many machines the first core handles interrupts


# ---- the store -------------------------------------------------------------------------------------------------------


def test_every_race_adds_a_file_to_the_store(machine: Machine, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load_races().empty
    first = run_race(machine, rule_of(machine, "a", 1.0), store=store)
    (path,) = store.table_files("races")
    before = path.read_bytes()
    second = run_race(machine, rule_of(machine, "a", 1.0), store=str(tmp_path))
    assert path.read_bytes() == before
    assert store.files == []
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".parquet"] * 2
    loaded = store.load_races()
    assert list(loaded.columns) == list(RACE_COLUMNS)
    expected, loaded = (
        table.sort_values(["race", "round"], kind="stable", ignore_index=True)
        for table in (pd.concat([first, second]), loaded)
    )
    pd.testing.assert_frame_equal(loaded, expected)


@pytest.mark.usefixtures("full_disk")
def test_a_race_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No space left"):
        Store(tmp_path).write_race(race_rows("a"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ---- requests --------------------------------------------------------------------------------------------------------


def test_every_column_of_a_race_is_filled(machine: Machine) -> None:
    plans = race.make_race_plans([Kernels()], [rule_of(machine, "a", 1.0)], device=backend_of(machine), rounds=3)
    assert set(race.compete(plans)[0]) == set(RACE_COLUMNS)


def test_a_configuration_is_named_by_its_settings_and_a_method_is_not() -> None:
    plans = race.make_race_plans(
        ["logistic:data=iris"], ["adam:lr=0.5,beta1=0.8", "adam"], batch_size=8, schedule="cosine", rounds=3
    )
    named = [race._identity(0, plan) for plan in plans]
    assert named[0]["configuration"] == "adam:lr=0.5,beta1=0.8, cosine, batch 8"
    assert [json.loads(row["fixed"]) for row in named] == [{"beta1": 0.8}, {}]
    assert named[1]["configuration"] == "adam, cosine, batch 8"
    lbfgs = plan_of("logistic:data=iris", "lbfgs:memory=3", schedule="cosine")
    assert (lbfgs.fixed, lbfgs.schedule) == ({"memory": 3}, "constant")
    assert json.loads(race._identity(0, lbfgs)["structure"])["memory"] == 3


def test_impossible_races_are_refused() -> None:
    for bad in ([], [plan_of("quadratic:dim=3", "sgd", rounds=rounds) for rounds in (3, 4)]):
        with pytest.raises(InputError, match="needs configurations"):
            race.compete(bad)


SHORT = ["race", "--problem", "quadratic:dim=4", "--optimizer", "adam:lr=0.01", "--optimizer", "lbfgs"]
SHORT += ["--rounds", "3", "--steps", "5"]


def test_the_command_prints_and_stores(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*SHORT, "--problem", "logistic:data=iris", "--precision", "float32", "--no-fused"]) == 0
    out, err = capsys.readouterr()
    assert "4 configurations, 3 rounds of 5 steps" in err
    for word in ("quadratic:dim=4", "logistic:data=iris", "adam:lr=0.01", "lbfgs", "times adam", "oracle", "float32"):
        assert word in out
    assert "1e-4" not in out
    (path,) = Store("results").table_files("races")
    assert str(path) in out
    races = Store("results").load_races()
    assert len(races) == 12
    assert not races["fused"].any()
    assert Store("results").load().rows.empty


def test_the_command_shows_seconds_to_target_of_tuned_methods(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--problem", "quadratic:dim=4", "--optimizer", "adam", "--seeds", "3", "--jobs", "1", "--no-report"]
    assert main(["run", *options, "--lr", "0.01,0.1"]) == 0
    assert main(["run", *options, "--lr", "0.01,0.1", "--steps", "400"]) == 0
    capsys.readouterr()
    assert main(SHORT) == 0
    out = capsys.readouterr().out
    assert "tuned, to 1e-4" in out
    adam, lbfgs = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("adam", "lbfgs"))
    assert len(adam.split()) > len(lbfgs.split())
