"""Identities and keys: a stored run is reused if and only if the same question would be computed by the same code."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES
from optbench.problem import Problem, make_problem
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans, refreshed
from optbench.runner.study import load_study
from optbench.runner.sweep import compare, run, sweep
from problems import MLP, Logistic, Quadratic, Rosenbrock
from tests.conftest import run_python

SMALL: Any = {"seeds": 2, "steps": 20}


@dataclass(eq=False)
class Bowl(Problem):
    """x^2 times a factor; it holds arrays that the parameters may not determine."""

    weight: Any = 1.0
    dim: int = 3

    def __post_init__(self) -> None:
        self.offset = np.zeros(self.dim)
        self.place()

    def place(self) -> None:
        self.xp = self.backend.xp
        self.o = self.backend.asarray(self.offset)

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        return ((x - self.o) ** 2).sum(-1), 2 * (x - self.o)


@dataclass(eq=False)
class Dish(Problem):
    """The same with a quartic."""

    weight: Any = 1.0
    dim: int = 3

    def place(self) -> None:
        self.xp = self.backend.xp

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        return (x**4).sum(-1), 4 * x**3


SCALE = 1.0


def scaled(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - SCALE * lr * g,)


def still(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x,)


def weighted(weight: float) -> Callable[..., Any]:
    def rule(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x - weight * lr * g,)

    return rule


def bowl_of(factor: float) -> type[Problem]:
    @dataclass(eq=False)
    class Local(Dish):
        def value_and_grad(self, x: Any, samples: Any = None) -> Any:
            f, g = super().value_and_grad(x)
            return factor * f, factor * g

    return Local


def plan_of(problem: Problem, optimizer: Any = "sgd", settings: Any = None, **options: Any) -> Plan:
    (plan,) = make_plans(problem, optimizer, settings, **SMALL | options)
    return plan


def key_of(problem: Problem, optimizer: Any = "sgd", **options: Any) -> tuple[str, str]:
    """Key and identity of the first run."""
    plan = plan_of(problem, optimizer, **options)
    return plan.key(plan.grid[0], 0), plan.identity(plan.grid[0], 0)


# ---- different questions ---------------------------------------------------------------------------------------------


def bent(weight: Any) -> Callable[[], Problem]:
    def make() -> Problem:
        problem = Bowl()
        problem.offset = problem.offset + weight
        problem.place()
        return problem

    return make


PROBLEMS_APART: list[Callable[[], Problem]] = [
    *(Bowl, Dish, bowl_of(1.0), bowl_of(2.0), bent(1.0), bent(2.0), lambda: Bowl(dim=4), lambda: Bowl(weight=2.0)),
    *(lambda: Bowl(weight=1), lambda: Bowl(weight=True), lambda: Bowl(weight=-0.0), lambda: Bowl(weight=0.0)),
    *(lambda: Bowl(weight=float("nan")), lambda: Bowl(weight=float("inf")), lambda: Bowl(weight=1 + 1e-15)),
    *(lambda: Bowl(weight=np.zeros(2)), lambda: Bowl(weight=np.ones(2)), lambda: Bowl(weight=[1, 2])),
    *(lambda: Bowl(weight=np.arange(10000)), lambda: Bowl(weight=np.r_[:5000, 0, 5001:10000])),
    *(lambda: Bowl(weight=len), lambda: Bowl(weight=max), lambda: Bowl(weight=lambda x: x)),
    *(lambda: Bowl(weight=lambda x: -x), lambda: Bowl(weight=weighted), lambda: Bowl(weight=weighted(1.0))),
    *(lambda: Bowl(weight=weighted(2.0)), lambda: Bowl(weight=types.SimpleNamespace(a=1))),
    lambda: Bowl(weight=types.SimpleNamespace(a=2)),
]


def test_different_problems_have_different_keys_and_labels(tmp_path: Path) -> None:
    problems = [make() for make in PROBLEMS_APART]
    keys = [key_of(problem) for problem in problems]
    for part in zip(*keys, strict=True):  # keys, and identities
        assert len(set(part)) == len(problems)
    runs = compare(problems, "sgd", lr=0.1, **SMALL, store=tmp_path)
    assert len(runs) == 2 * len(problems)
    assert runs.rows["problem"].nunique() == len(problems)
    assert not (Store(tmp_path).load().rows["status"] == "failed").any()
    again: list[Any] = []
    plans = [plan_of(make(), settings={"lr": 0.1}) for make in PROBLEMS_APART]
    execute(plans, store=Store(tmp_path), on_start=lambda *counts: again.append(counts))
    # functions made anew are the same if their code is
    assert again[0][1:] == (0, 2 * len(problems))


def test_different_optimizers_have_different_keys_and_labels(tmp_path: Path) -> None:
    def sgd(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x - 0.5 * lr * g,)

    rules = [
        *("sgd", "momentum", sgd, weighted(1.0), weighted(2.0), scaled),
        *(lambda xp, x, g, t, lr=0.1: (x - lr * g,), lambda xp, x, g, t, lr=0.1: (x - lr * g / 2,)),
    ]
    runs = compare("quadratic:dim=3", rules, lr=0.1, **SMALL, store=tmp_path)
    assert len(runs) == 2 * len(rules)
    for column in ("key", "identity"):
        assert runs.rows[column].nunique() == 2 * len(rules)
    assert runs.rows["method"].nunique() == len(rules)
    assert {"sgd [optbench.optimizers.gradient]", "momentum", "scaled"} < set(runs.rows["method"])


def test_two_modules_may_use_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from dataclasses import dataclass

import optbench


@dataclass(eq=False)
class Bowl(optbench.Problem):
    dim: int = 3

    def place(self):
        pass

    def value_and_grad(self, x, samples=None):
        return (x**2).sum(-1), 2 * x


def mine(xp, x, g, t, lr=0.1):
    return (x - lr * g,)
"""
    for name in ("bowls_a", "bowls_b"):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import bowls_a  # type: ignore[import-not-found]
    import bowls_b  # type: ignore[import-not-found]

    runs = compare([bowls_a.Bowl, bowls_b.Bowl], [bowls_a.mine, bowls_b.mine], lr=0.1, **SMALL)
    assert len(runs) == 8
    assert set(runs.rows["problem"]) == {"Bowl [bowls_a]", "Bowl [bowls_b]"}
    assert set(runs.rows["method"]) == {"mine [bowls_a]", "mine [bowls_b]"}
    assert set(runs.rows["problem_name"]) == {"Bowl"}
    assert runs.rows["code"].nunique() == 1, "their code is the same"


def test_identities_do_not_depend_on_code(monkeypatch: pytest.MonkeyPatch) -> None:
    key, identity = key_of(Dish(), scaled)
    changes: list[tuple[Any, str, Any]] = [
        *((Dish, "value_and_grad", Bowl.value_and_grad), (scaled, "__code__", still.__code__)),
        (sys.modules[__name__], "SCALE", 2.0),
    ]
    for target, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            changed, same = key_of(Dish(), scaled)
            assert (changed != key, same) == (True, identity)
    assert key_of(Dish(), scaled) == (key, identity)


# ---- the same question ------------------------------------------------------------------------------------------------


def test_new_names_recompute_nothing() -> None:
    """A rule, a problem and a schedule more."""
    before = [
        key_of(Quadratic(), name, schedule=schedule) for name in ("adam", "sgd") for schedule in ("constant", "cosine")
    ]
    try:
        OPTIMIZERS.register("another", weighted(3.0))
        PROBLEMS.register("another", Bowl)
        SCHEDULES.register("another", weighted)
        after = [
            key_of(Quadratic(), name, schedule=schedule)
            for name in ("adam", "sgd")
            for schedule in ("constant", "cosine")
        ]
    finally:
        for registry in (OPTIMIZERS, PROBLEMS, SCHEDULES):
            del registry._objects["another"]
    assert after == before


def test_the_code_of_a_schedule_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def steady(t: int, T: int) -> float:
        return 1.0

    def slow(t: int, T: int) -> float:
        return 0.5

    keys = []
    for function in (steady, slow):
        monkeypatch.setitem(SCHEDULES._objects, "mine", function)
        keys.append(key_of(Quadratic(), schedule="mine"))
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


def test_a_problem_keeps_its_key_while_it_is_used() -> None:
    for problem in (Bowl(), Quadratic(dim=3), Logistic(data="iris")):
        before = key_of(problem)
        problem.starts([0, 1])
        assert problem.optimum is not None or type(problem) is Bowl
        problem.value_and_grad(problem.start(0))
        assert len(sweep(problem, "sgd", **SMALL).table) == 2  # whose rows describe the problem
        sweep(problem, "sgd", **SMALL, fused=True)
        sweep(problem, "sgd", **SMALL, precision="float32")
        assert key_of(problem) == before


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_a_changed_built_in_problem_is_another_problem(name: str, tmp_path: Path) -> None:
    first, second = make_problem(name), make_problem(name)
    assert first.held_data == {}
    assert key_of(first) == key_of(second)
    arrays = {name: value for name, value in vars(second).items() if isinstance(value, np.ndarray) and value.size}
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    second.smoothness = 123.0
    (before, identity), (after, other) = key_of(first), key_of(second)
    assert before != after
    assert identity != other
    there = pickle.loads(pickle.dumps(second))
    assert (there.smoothness, key_of(there)) == (123.0, (after, other))
    for name in arrays:
        third = make_problem(second.spec)
        setattr(third, name, arrays[name] + 1)
        assert key_of(third)[0] not in (before, after)
        np.testing.assert_array_equal(vars(pickle.loads(pickle.dumps(third)))[name], arrays[name] + 1)
    assert key_of(first)[0] == before


def test_keys_are_those_of_the_time_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also if a study is run twice, and the rule or the data were changed in between."""
    problem = Bowl()
    study = load_study({"compare": [{"problems": [problem], "optimizers": [scaled]}]}, lr=0.1, **SMALL)
    first = run(study, store=tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    second = run(study, store=tmp_path)
    assert not set(first.rows["key"]) & set(second.rows["key"])
    assert (first.rows["f_end"] != second.rows["f_end"]).all()
    problem.offset[0] = 5.0
    problem.place()
    third = run(study, store=tmp_path)
    assert not set(second.rows["key"]) & set(third.rows["key"])
    assert (second.rows["f_end"] != third.rows["f_end"]).all()


def test_content_that_cannot_be_compared_is_computed_again(tmp_path: Path) -> None:
    lock = threading.Lock()

    def rule(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        with lock:
            return (x - lr * g,)

    with pytest.warns(UserWarning, match=r"rule on quadratic:dim=3: the content of 'lock' of .* \(a lock\) cannot be"):
        sweep("quadratic:dim=3", rule, **SMALL, store=tmp_path)
    sweep("quadratic:dim=3", rule, **SMALL, store=tmp_path)
    assert len(Store(tmp_path).keys()) == 4


# ---- compiled or not ---------------------------------------------------------------------------------------------------


def test_compiled_and_uncompiled_runs_have_their_own_keys() -> None:
    for problem, rule in ((Rosenbrock(), "sgd"), (Logistic(data="iris"), "lbfgs"), (MLP(data="iris"), "rmsprop")):
        (fused, same), (plain, identity) = (key_of(problem, rule, fused=fused) for fused in (True, False))
        assert fused != plain
        assert same == identity
        assert plan_of(problem, rule, fused=True).is_compiled


def test_they_share_a_key_where_nothing_is_compiled(tmp_path: Path) -> None:
    for rule in ("lbfgs", "random_search"):
        assert key_of(Rosenbrock(), rule, fused=True) == key_of(Rosenbrock(), rule, fused=False)
        runs = [sweep(Rosenbrock(), rule, fused=fused, **SMALL) for fused in (True, False)]
        np.testing.assert_array_equal(runs[0].x, runs[1].x)
        assert not any(part.rows["fused"].any() for part in runs)
    assert key_of(Bowl(), "lbfgs", fused=True) != key_of(Bowl(), "lbfgs", fused=False), "it may look at its backend"


def test_a_row_says_whether_it_was_compiled(tmp_path: Path) -> None:
    for fused in (True, False):
        runs = sweep("rosenbrock", "sgd", fused=fused, **SMALL, store=tmp_path)
        assert set(runs.rows["fused"]) == {fused}
    assert len(Store(tmp_path).keys()) == 4
    assert len(Store(tmp_path).load()) == 2, "the newest of each run"


# ---- other processes --------------------------------------------------------------------------------------------------


def test_keys_travel_with_a_plan() -> None:
    for problem in (Quadratic(dim=3), Bowl(weight=np.arange(3.0)), bent(2.0)()):
        for rule in ("adam", scaled):
            (plan,) = refreshed([plan_of(problem, rule)])
            there = pickle.loads(pickle.dumps(plan))
            assert there.keys == plan.keys
            assert (there.code, there.data_hash, there.params) == (plan.code, plan.data_hash, plan.params)


def test_data_of_an_instance_reach_the_workers(tmp_path: Path) -> None:
    """Even if its constructor makes others."""
    problem = bent(3.0)()
    assert pickle.loads(pickle.dumps(problem)).offset.tolist() == [3.0, 3.0, 3.0]
    alone = sweep(problem, "sgd", lr=[0.1, 0.2], **SMALL)
    there = sweep(problem, "sgd", lr=[0.1, 0.2], **SMALL, precision="float64", jobs=2, store=tmp_path)
    np.testing.assert_array_equal(np.sort(there.rows["f_end"]), np.sort(alone.rows["f_end"]))


def test_data_that_cannot_be_sent_must_be_the_same_there() -> None:
    problem = Bowl()
    problem.helper = lambda x: x  # type: ignore[attr-defined]
    data = pickle.dumps(problem)
    with pytest.raises(InputError, match=r"Bowl: a worker process makes another 'helper' .* or compute with jobs=1"):
        pickle.loads(data)


def test_problems_that_refer_to_themselves_can_be_sent() -> None:
    problem = Bowl()
    problem.method = problem.value  # type: ignore[attr-defined]
    assert key_of(problem) == key_of(problem)
    with pytest.raises(InputError, match="makes another 'method'"):
        pickle.loads(pickle.dumps(problem))


def test_code_that_differs_in_a_worker_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    with pytest.raises(InputError, match=r"scaled on .*: the code in a worker process is not the code here"):
        compare(["quadratic:dim=3", "rosenbrock"], scaled, lr=0.1, **SMALL, jobs=2, store=tmp_path)


# ---- files ---------------------------------------------------------------------------------------------------------------

MINE = """
from dataclasses import dataclass

import numpy as np

import optbench
from optbench.problem import problem
import helper

STRENGTH = 1.0
MATRIX = np.eye(3)


@problem("bowl")
@dataclass(eq=False)
class Bowl(optbench.Problem):
    dim: int = 3

    def place(self):
        pass

    def value_and_grad(self, x, samples=None):
        g = x @ MATRIX
        return (x * g).sum(-1) / 2, g


@optbench.rule
def mine(xp, x, g, t, lr=0.1):
    '''Mine.'''
    return (x - STRENGTH * lr * helper.direction(g),)
"""
HELPER = "from further import factor\n\n\ndef direction(g):\n    return factor() * g\n"
FURTHER = "def factor():\n    return 1.0\n"

# edits of files, and how many of the four runs on bowl and quadratic, by mine and sgd, are computed again
MORE = "@optbench.rule\ndef more(xp, x, g, t, lr=0.1):\n    return (x,)\n\n\n@optbench.rule\n"
EDITS: list[tuple[list[tuple[str, str, str]], int]] = [
    (
        [
            *(
                ("mine.py", "'''Mine.'''", "'''My own rule.'''"),
                ("mine.py", "STRENGTH = 1.0", "# strong\n\nSTRENGTH = 1.0"),
            ),
            *(("mine.py", "@optbench.rule\n", MORE), ("helper.py", "def direction", "UNUSED = 3\n\n\ndef direction")),
        ],
        0,
    ),
    ([("further.py", "1.0", "2.0")], 2),
    ([("mine.py", "np.eye(3)", "2 * np.eye(3)")], 2),
]


def test_edits_of_files_recompute_what_uses_them(tmp_path: Path) -> None:
    """In a new process after each edit."""
    files = {"mine.py": MINE, "helper.py": HELPER, "further.py": FURTHER}
    options = "--problem bowl --problem quadratic:dim=3 --optimizer mine --optimizer sgd --lr 0.1 --seeds 1 --steps 5"
    command = ["-m", "optbench", "run", "--import", "mine.py", *options.split(), "--no-report", "--jobs", "1"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for edits, count in [([], 4), *EDITS]:
        texts = dict(files)
        for name, old, new in edits:
            assert old in texts[name]
            texts[name] = texts[name].replace(old, new)
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        done = run_python(*command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"{count} runs to compute, {4 - count} found" in done.stderr + " 4 runs to compute, 0 found" * (
            not edits
        ), edits
