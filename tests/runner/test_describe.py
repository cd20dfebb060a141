"""Stored descriptions of problems: text, constants, surface, and errors of difference quotients."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.core.backend import Backend, get_backend
from optbench.core.specs import parse_spec
from optbench.problem import Optimum, Problem, make_problem
from optbench.runner import describe as module
from optbench.runner.describe import describe
from problems import MLP, Logistic, Quadratic
from problems.landscapes import Himmelblau, Rosenbrock
from tests.conftest import noting


def description_of(problem: Problem, **options: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(describe(problem, **options))
    return content


@dataclass(eq=False)
class Bowl(Problem):
    dim: int = 2

    def __post_init__(self) -> None:
        self.place()

    def place(self) -> None:
        self.xp = self.backend.xp

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        x = self.points(x)
        return self.xp.sum(x**4, axis=-1), 4 * x**3


def test_text_and_constants() -> None:
    content = description_of(Quadratic(dim=5, condition=20))
    assert content["formula"] == Quadratic.formula
    assert content["citation"] == Quadratic.citation
    assert content["summary"].startswith("f(x) = 1/2 (x - x*)^T H (x - x*) + f*, with eigenvalues")
    assert content["n_samples"] is None
    assert (content["smoothness"], content["gradient_norm"]) == (1.0, 0.0)
    assert content["strong_convexity"] == pytest.approx(1 / 20)
    assert not {"surface", "minimizers"} & set(content)
    assert description_of(Logistic(data="iris"))["n_samples"] == 150


@pytest.mark.parametrize("docstring", [None, "Bowl(dim: int = 2)"])
def test_a_problem_without_text_and_constants(docstring: str | None) -> None:
    class Silent(Bowl):
        pass

    Silent.__doc__ = docstring
    Silent.__name__ = "Bowl"
    content = description_of(Silent())
    assert [content[name] for name in ("formula", "citation", "summary")] == ["", "", ""]
    assert [content[name] for name in ("n_samples", "smoothness", "strong_convexity", "gradient_norm")] == [None] * 4
    assert set(content) & {"surface", "minimizers", "differences"} == {"differences"}


@pytest.mark.parametrize(
    "spec", ["rosenbrock", "beale", "himmelblau", "strict_saddle", "valley", "monkey_saddle", "styblinski_tang"]
)
def test_surfaces_of_landscapes(spec: str) -> None:
    problem = make_problem(spec)
    surface = description_of(problem)["surface"]
    f = np.array(surface["f"])
    assert f.shape == (81, 81)
    assert problem.view is not None
    assert [tuple(surface["x"]), tuple(surface["y"])] == list(problem.view)
    x, y = (np.linspace(surface[name][0], surface[name][1], 81) for name in "xy")
    for i, j in [(0, 0), (3, 70), (80, 12)]:
        assert f[i, j] == pytest.approx(problem.value(np.array([x[j], y[i]])), rel=5e-6, abs=1e-20)
    np.testing.assert_array_equal(description_of(problem)["minimizers"], problem.minimizers)


@pytest.mark.parametrize("settings", [{}, {"spectrum": "chain"}, {"rotate": False, "seed": 3}])
def test_quadratics_in_two_dimensions_have_a_minimizer(settings: dict[str, Any]) -> None:
    problem = Quadratic(dim=2, **settings)
    content = description_of(problem)
    np.testing.assert_array_equal(content["minimizers"], [problem.x_star])
    assert np.min(content["surface"]["f"]) >= problem.optimum.f  # type: ignore[union-attr]


def test_values_that_are_not_finite_are_null() -> None:
    class Half(Bowl):
        view = ((-1.0, 1.0), (0.0, 2.0))

        def value_and_grad(self, x: Any, samples: Any = None) -> Any:
            f, g = super().value_and_grad(x)
            return np.where(x[..., 0] < 0, np.nan, f), g

    rows = description_of(Half())["surface"]["f"]
    assert rows[0][:40] == [None] * 40
    assert rows[0][40:43] == [0.0, pytest.approx(0.025**4), pytest.approx(0.05**4)]


@pytest.mark.parametrize(
    "problem", [Quadratic(dim=10), Rosenbrock(), Himmelblau(), Logistic(data="iris", l2=0.1), Bowl(dim=3)], ids=str
)
def test_errors_of_differences_follow_theory(problem: Problem) -> None:
    errors = {name: np.array(values) for name, values in description_of(problem)["differences"].items()}
    h = errors["h"]
    np.testing.assert_allclose(h, np.geomspace(1e-1, 1e-13, 25), rtol=1e-5)
    assert {name: len(values) for name, values in errors.items()} == {"h": 25, "forward": 25, "central": 25}
    linear = slice(4, 10)  # h = 1e-3 to 3e-6, where truncation is far above rounding
    rates = np.diff(np.log(errors["forward"][linear])) / np.diff(np.log(h[linear]))
    np.testing.assert_allclose(rates, 1, atol=0.1)
    assert errors["central"].min() < 1e-8 < errors["forward"].min() * 1e3
    assert errors["forward"][-1] > 1e-6  # rounding
    assert errors["central"][-1] > 1e-6


def test_differences_are_those_of_the_formula() -> None:
    problem = Bowl(dim=3)
    x, v = problem.start(0), optbench.problem.stream("check", 0).standard_normal(3)
    v /= np.linalg.norm(v)
    slope = problem.value_and_grad(x)[1] @ v
    errors = description_of(problem)["differences"]
    for k in (0, 3):
        h = errors["h"][k]
        forward = (problem.value(x + h * v) - problem.value(x)) / h
        central = (problem.value(x + h * v) - problem.value(x - h * v)) / (2 * h)
        assert errors["forward"][k] == pytest.approx(abs(forward / slope - 1), rel=1e-4)
        assert errors["central"][k] == pytest.approx(abs(central / slope - 1), rel=1e-4)


def test_differences_of_slow_problems_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bowl, "nanoseconds_per_run", lambda *_: 1e7)
    assert "differences" not in description_of(Bowl())


def test_problems_slower_than_estimated_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(module, "TIMEOUT", -1.0)
    monkeypatch.setattr(Bowl, "value", noting(lambda self, x: np.zeros(len(x)), calls))
    monkeypatch.setattr(Bowl, "view", ((-1.0, 1.0), (-1.0, 1.0)))
    assert not {"surface", "differences"} & set(description_of(Bowl()))
    assert [len(x) for _, x in calls] == [512, 50]


def test_stacks_of_large_points_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    problem = Quadratic(dim=10)
    whole = description_of(problem)
    monkeypatch.setattr(module, "STACK_BYTES", 32 * 10 * 7)
    monkeypatch.setattr(Quadratic, "value", noting(Problem.value, calls), raising=False)
    parts = description_of(Quadratic(dim=10))
    assert [len(x) for _, x in calls] == [7] * 7 + [1]
    np.testing.assert_allclose(parts["differences"]["forward"][:10], whole["differences"]["forward"][:10], rtol=1e-4)


def test_an_error_in_a_description_loses_no_run() -> None:
    class Defect(Bowl):
        view = ((-1.0, 1.0), (-1.0, 1.0))
        minimizers = "none"  # type: ignore[assignment]
        smoothness = "large"  # type: ignore[assignment]

        def value(self, x: Any) -> Any:
            raise ZeroDivisionError("a defect")

    runs = optbench.sweep(Defect(), "sgd", lr=1e-3, seeds=2, steps=5)
    assert set(runs.rows["status"]) == {"budget"}
    content = json.loads(runs.rows["description"].iloc[0])
    assert not {"surface", "differences", "minimizers"} & set(content)
    assert content["smoothness"] is None


def test_problems_whose_runs_failed_are_not_evaluated_again() -> None:
    class Fails(Bowl):
        calls = 0

        def value_and_grad(self, x: Any, samples: Any = None) -> Any:
            Fails.calls += 1
            raise MemoryError("too large")

    runs = optbench.sweep(Fails(), "sgd", seeds=2, steps=5)
    assert set(runs.rows["status"]) == {"failed"}
    assert "differences" not in json.loads(runs.rows["description"].iloc[0])
    assert Fails.calls == 3  # both seeds together, then one by one


def test_a_problem_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(module, "_describe", noting(module._describe, calls))
    problem = Quadratic(dim=4)
    texts = [optbench.sweep(problem, name, seeds=2, steps=5).rows["description"] for name in ("sgd", "adam")]
    assert len(calls) == 1
    assert len({text for column in texts for text in column}) == 1
    assert describe(problem, evaluate=False) == texts[0].iloc[0]


@pytest.mark.parametrize("spec", ["rosenbrock", "quadratic:dim=6"])
def test_descriptions_are_the_same_on_every_backend(backend: Backend, spec: str) -> None:
    name, settings = parse_spec(spec)
    expected = describe(make_problem(name, settings))
    assert describe(make_problem(name, settings).on(backend)) == expected
    assert describe(make_problem(name, settings).on(get_backend("numpy", precision="float32"))) == expected


def test_a_file_stores_each_description_once(tmp_path: Path) -> None:
    sizes = {}
    for seeds in (1, 40):
        folder = tmp_path / str(seeds)
        runs = optbench.sweep("rosenbrock", "sgd", lr=1e-4, seeds=seeds, steps=3, store=folder)
        assert len({id(text) for text in runs.rows["description"]}) == 1  # in memory too
        sizes[seeds] = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    assert runs.rows["description"].iloc[0] == describe(make_problem("rosenbrock"))
    assert sizes[40] - sizes[1] < len(runs.rows["description"].iloc[0]) / 2
    assert "description" not in runs.table.columns


def test_an_optimum_that_states_its_gradient() -> None:
    class Stated(Bowl):
        def solve(self) -> Optimum:
            return Optimum(0.0, 0.0, np.zeros(2), "by inspection", 1e-17)

    content = description_of(Stated())
    assert content["gradient_norm"] == 1e-17
    assert content["minimizers"] == [[0.0, 0.0]]
    assert description_of(MLP(data="iris", hidden=(2,)))["gradient_norm"] is None


def test_metrics_are_declared() -> None:
    assert description_of(Quadratic(dim=5))["metrics"] == []
    accuracy = {"name": "train_accuracy", "better": "higher", "unit": ""}
    assert description_of(Logistic(data="iris"))["metrics"] == [accuracy]
    assert [metric["better"] for metric in description_of(Rosenbrock())["metrics"]] == [None, None]
