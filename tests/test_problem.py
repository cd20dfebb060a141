"""The interface that every registered problem keeps, and what is checked of a problem of your own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from optbench.core.errors import InputError
from optbench.core.registry import PROBLEMS
from optbench.core.specs import parse_spec
from optbench.core.types import Array, Metric
from optbench.optimizer import make_recipe
from optbench.problem import Problem, make_problem
from optbench.runner.loop import minimize

SPECS = [
    *PROBLEMS.names(),
    "logistic:data=iris,test_fraction=0.2",
    "mlp:data=iris,loss=squared",
    "teacher:outputs=2",
]


@pytest.fixture(params=SPECS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return make_problem(*parse_spec(request.param))


def test_evaluate_gives_values_and_the_declared_metrics(problem: Problem) -> None:
    x = problem.starts((0, 1))  # (2, d)
    f, metrics = problem.evaluate(x)
    assert f.shape == (2,)
    np.testing.assert_allclose(f, problem.value(x), rtol=1e-14)
    assert list(metrics) == [metric.name for metric in problem.metric_types]
    assert {values.shape for values in metrics.values()} <= {(2,)}
    assert list(problem.metrics(x)) == list(metrics)


def test_directions_of_metrics() -> None:
    direction = {metric.name: metric.better for metric in make_problem("mlp", {"data": "iris"}).metric_types}
    assert direction == {
        "train_accuracy": "higher",
        "validation_accuracy": "higher",
        "validation_loss": "lower",
        "test_accuracy": "higher",
        "test_loss": "lower",
    }
    assert make_problem("beale").metric_types == (Metric("x_1", None), Metric("x_2", None))
    assert make_problem("quadratic", {"dim": 3}).metric_types == ()


@dataclass(eq=False)
class Bowl(Problem):
    """f(x) = |x|^2 / 2, with a metric that it does or does not declare."""

    dim: int = 3

    def place(self) -> None:
        pass

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        return np.sum(x * x, axis=-1) / 2, x

    def metrics(self, x: Array) -> dict[str, Array]:
        return {"error_rate": x[..., 0]}


class DeclaredBowl(Bowl):
    metric_types = (Metric("error_rate", "lower"),)


class ForgetfulBowl(Bowl):
    metric_types = (Metric("error_rate", "lower"), Metric("length", None))


def test_a_declared_metric_is_recorded() -> None:
    trace = minimize(DeclaredBowl(), make_recipe("sgd").build({}), steps=3)
    assert list(trace.metrics) == ["error_rate"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Bowl, r"metrics\(\) returns 'error_rate'.* declare it in metric_types"),
        (ForgetfulBowl, r"metrics\(\) does not return 'length', which metric_types declares"),
    ],
)
def test_metrics_must_be_the_declared_ones(kind: type[Problem], message: str) -> None:
    with pytest.raises(InputError, match=message):
        minimize(kind(), make_recipe("sgd").build({}), steps=3)
