"""Plans: whether compiling pays depends on the plan alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from optbench.problem import Problem
from optbench.runner.plan import make_plans, pays_to_compile
from optbench.runner.sweep import sweep
from problems import MLP, Logistic, Quadratic, Rosenbrock
from tests.conftest import run_python


def pays(problem: Problem, rule: Any = "adam", **options: Any) -> bool:
    (plan,) = make_plans(problem, rule, **options)
    assert plan.fused == pays_to_compile(plan)
    return plan.fused


def test_large_plans_are_compiled_and_small_ones_are_not() -> None:
    for problem in (Rosenbrock(dim=5), Quadratic(dim=10), Logistic(data="iris"), MLP(data="iris")):
        assert not pays(problem, seeds=2, steps=100)
        assert pays(problem, seeds=2, steps=50_000)
        assert pays(problem, seeds=2, steps=2000, settings={"lr": [0.1 / k for k in range(1, 5000)]})
    assert pays(Quadratic(dim=10), seeds=1, steps=20_000)
    assert pays(Rosenbrock(dim=2), seeds=1, steps=20_000)


@pytest.mark.parametrize("problem", [Rosenbrock(dim=5), Quadratic(dim=300), Logistic(data="iris")])
def test_more_work_never_speaks_against_compiling(problem: Problem) -> None:
    for growing in (
        [{"seeds": 2, "steps": 10 * 3**k} for k in range(9)],
        [{"seeds": 3**k, "steps": 1000} for k in range(9)],
    ):
        choices = [pays(problem, **options) for options in growing]
        assert choices == sorted(choices)
        assert set(choices) == {False, True}


def test_a_choice_of_the_user_counts() -> None:
    for fused in (False, True):
        for steps in (10, 50_000):
            (plan,) = make_plans(Rosenbrock(dim=5), "adam", seeds=1, steps=steps, fused=fused)
            assert plan.fused == fused


CHOICES = """
from optbench.runner.plan import make_plans
from optbench.problem import make_problem
print([make_plans(make_problem("rosenbrock:dim=5"), "adam", seeds=2, steps=200 * k)[0].fused for k in range(1, 60)])
"""


def test_neither_machine_nor_history_decides(tmp_path: Path) -> None:
    """An empty or full cache, the number of cores and threads, and what has been compiled make no difference."""
    here = str([make_plans(Rosenbrock(dim=5), "adam", seeds=2, steps=200 * k)[0].fused for k in range(1, 60)])
    assert {"True", "False"} == set(here.strip("[]").split(", "))
    sweep(Rosenbrock(dim=5), "adam", seeds=2, steps=20, fused=True)
    again = str([make_plans(Rosenbrock(dim=5), "adam", seeds=2, steps=200 * k)[0].fused for k in range(1, 60)])
    environment = {**os.environ, "OPTBENCH_CACHE": str(tmp_path), "OMP_NUM_THREADS": "7"}
    done = run_python("-c", CHOICES, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, here), done.stderr
    assert again == here
    assert not list(tmp_path.rglob("*.kernel"))
