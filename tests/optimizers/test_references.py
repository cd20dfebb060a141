"""Rules and schedules compared with PyTorch, Optax and a scalar loop, and quasi-Newton methods with SciPy.

The values of `references/make_rules.py` are always compared, the libraries if they are installed.
"""

from __future__ import annotations

import inspect
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from optbench.core.backend import NUMPY, get_backend
from optbench.core.registry import OPTIMIZERS
from optbench.core.specs import parse_spec
from optbench.core.types import Array
from optbench.optimizer import At, make_recipe
from optbench.optimizers.line_search import LineSearchMethod
from optbench.optimizers.schedules import make_schedule
from optbench.problem import Problem, make_problem
from optbench.runner.loop import minimize
from tests.references import make_rules

RECORDED = json.loads(make_rules.FILE.read_text())
DATA = RECORDED["data"]
TOLERANCE = 1e-12  # of the largest coordinate


def our_path(spec: str, problem: str) -> np.ndarray:
    """Iterates of our rules at `make_rules.STEPS`, for the gradients of the recorded runs."""
    recipe = make_recipe(spec)
    optimizer = recipe.build(recipe.settings, None)
    gradient = make_rules.gradient(problem, DATA[problem])
    x: Array = np.array([DATA[problem]["x0"]])
    state, points = optimizer.init(x, NUMPY), {}
    for t in range(1, max(make_rules.STEPS) + 1):
        x, state = optimizer.step(t, At(x, x[:, :1], gradient(np.asarray(x[0]))[None, :]), state)
        points[t] = x[0]
    return np.array([points[t] for t in make_rules.STEPS])


def deviation(path: Any, reference: Any) -> float:
    """Largest difference relative to the largest coordinate of the point."""
    path, reference = np.asarray(path), np.asarray(reference)
    return float(np.max(np.abs(path - reference) / np.max(np.abs(reference), axis=1, keepdims=True)))


# ---- first-order rules -----------------------------------------------------------------------------------------------


PATHS = pytest.mark.parametrize("case", RECORDED["paths"], ids=lambda case: f"{case['call']}-{case['problem']}")
FACTORS = pytest.mark.parametrize("case", RECORDED["schedules"], ids=lambda case: case["call"])


def compared_library(call: str) -> str:
    """The library of a call, if it is installed; otherwise the test is skipped."""
    name = make_rules.library(call)
    pytest.importorskip(name, reason=f"compares with {name} itself; its recorded values are always compared")
    return name


@PATHS
def test_rules_equal_those_of_the_libraries(case: dict[str, Any]) -> None:
    assert deviation(our_path(case["spec"], case["problem"]), case["x"]) < TOLERANCE


@PATHS
def test_rules_equal_those_of_the_installed_libraries(case: dict[str, Any]) -> None:
    path, data = make_rules.PATHS[compared_library(case["call"])], DATA[case["problem"]]
    reference = path(case["call"], make_rules.gradient(case["problem"], data), data["x0"])
    assert deviation(our_path(case["spec"], case["problem"]), reference) < TOLERANCE


def scalar_adam_uncorrected(x: float, slope: float, lr: float, beta1: float, beta2: float, eps: float) -> float:
    m = v = 0.0
    for _ in range(200):
        g = slope * x + math.cos(x)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        x -= lr * m / (math.sqrt(v) + eps)
    return x


def scalar_sgdw(x: float, slope: float, lr: float, beta: float, weight_decay: float) -> float:
    v = 0.0
    for _ in range(200):
        v = beta * v + slope * x + math.cos(x)
        x = (1 - lr * weight_decay) * x - lr * v
    return x


def scalar_dog(x: float, slope: float, r_eps: float, eps: float) -> float:
    start, distance, squares = x, r_eps, 0.0
    for _ in range(200):
        distance = max(distance, abs(x - start))
        squares += (slope * x + math.cos(x)) ** 2
        x -= distance / math.sqrt(squares + eps) * (slope * x + math.cos(x))
    return x


SCALAR: dict[str, tuple[Callable[..., float], dict[str, float]]] = {
    "adam_uncorrected": (scalar_adam_uncorrected, {"lr": 0.03, "beta1": 0.8, "beta2": 0.97, "eps": 1e-3}),
    "sgdw": (scalar_sgdw, {"lr": 0.07, "beta": 0.8, "weight_decay": 0.3}),
    "dog": (scalar_dog, {"r_eps": 1e-3, "eps": 1e-6}),
}


@pytest.mark.parametrize("name", SCALAR)
def test_rules_equal_a_scalar_loop(name: str) -> None:
    loop, settings = SCALAR[name]
    starts, slopes = (1.5, -0.8, 3.0), (1.0, 2.5, 0.4)
    x: Array = np.array(starts)[:, None]  # three runs, (3, 1)
    slope = np.array(slopes)[:, None]
    optimizer = make_recipe(name, settings).build(settings, None)
    state = optimizer.init(x, NUMPY)
    for t in range(1, 201):
        x, state = optimizer.step(t, At(x, x[:, :1], slope * x + np.cos(x)), state)
    expected = [loop(start, slope, **settings) for start, slope in zip(starts, slopes, strict=True)]
    np.testing.assert_allclose(x[:, 0], expected, rtol=TOLERANCE)


def test_every_rule_has_a_reference() -> None:
    compared = {parse_spec(case["spec"])[0] for case in RECORDED["paths"]} | set(SCALAR)
    ours = {name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])}
    assert ours == compared


def test_coupled_l2_is_not_decoupled_decay() -> None:
    """For equal l2 and weight decay, iterates of Adam differ by far more than rounding, and those of sgd by lr."""
    adam, momentum = "lr=0.05,beta1=0.7,beta2=0.99", "lr=0.05,beta=0.8"
    coupled, averaged = (our_path(s, "logistic") for s in (f"adam_l2:{adam},l2=0.3", f"momentum_l2:{momentum},l2=0.1"))
    decoupled = our_path(f"adamw:{adam},weight_decay=0.3", "logistic")
    apart = our_path(f"sgdw:{momentum},weight_decay=0.1", "logistic")
    assert deviation(coupled, decoupled) > 0.1
    assert deviation(averaged[:1], apart[:1]) < 1e-15  # the first step has no averages
    assert deviation(averaged, apart) > 0.1


# ---- schedules -------------------------------------------------------------------------------------------------------


def our_factors(spec: str) -> list[float]:
    _, schedule = make_schedule(spec)
    return [schedule(t, make_rules.HORIZON) for t in range(make_rules.HORIZON)]


@FACTORS
def test_schedules_equal_those_of_the_libraries(case: dict[str, Any]) -> None:
    assert our_factors(case["spec"]) == pytest.approx(case["factors"], rel=1e-12, abs=1e-14)


@FACTORS
def test_schedules_equal_those_of_the_installed_libraries(case: dict[str, Any]) -> None:
    factors = make_rules.FACTORS[compared_library(case["call"])](case["call"])
    assert our_factors(case["spec"]) == pytest.approx(factors, rel=1e-12, abs=1e-14)


# ---- methods with curvature against SciPy ----------------------------------------------------------------------------


class Counted:
    """The oracle of a problem, with the gradient norm of every call."""

    def __init__(self, problem: Problem) -> None:
        self.oracle = problem.value_and_grad
        self.norms: list[float] = []

    def __call__(self, x: np.ndarray, samples: Any = None) -> tuple[Array, Array]:
        f, g = self.oracle(x, samples)
        self.norms.append(float(np.linalg.norm(g)))
        return f, g

    def calls(self, norm: float) -> int:
        """Calls until the gradient norm is at most `norm`."""
        reached = np.flatnonzero(np.array(self.norms) <= norm)
        assert len(reached), f"no gradient norm below {norm:g}; the least is {min(self.norms):g}"
        return int(reached[0]) + 1


COMPARED = ["quadratic:dim=30,condition=100", "logistic:data=breast_cancer", "rosenbrock", "rosenbrock:dim=3"]


@pytest.mark.parametrize("spec", COMPARED)
@pytest.mark.parametrize(
    ("name", "method", "options"), [("bfgs", "BFGS", {}), ("lbfgs", "L-BFGS-B", {"ftol": 0, "maxcor": 10})]
)
def test_quasi_newton_needs_no_more_calls_than_scipy(
    name: str, method: str, options: dict[str, Any], spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle calls until the gradient norm has fallen by 1e6, summed over three starts, and the optimum."""
    problem = make_problem(*parse_spec(spec))
    x_star, calls, reference = problem.x_star, 0, 0
    for seed in range(3):
        x0 = problem.start(seed)
        target = 1e-6 * float(np.linalg.norm(problem.value_and_grad(x0)[1]))
        theirs, ours = Counted(problem), Counted(problem)
        options = options | {"gtol": 1e-2 * target}
        reference_result = scipy.optimize.minimize(theirs, x0, jac=True, method=method, options=options)
        with monkeypatch.context() as patch:
            patch.setattr(problem, "value_and_grad", ours)
            trace = minimize(problem, make_recipe(name).build({}, None), x0, steps=150)
        calls, reference = calls + ours.calls(target), reference + theirs.calls(target)
        assert trace.x[0] == pytest.approx(x_star, abs=1e-6)
        assert trace.best_end[0] <= reference_result.fun + 1e-14
    assert calls <= 1.5 * reference


@pytest.mark.parametrize("spec", COMPARED)
@pytest.mark.parametrize("method", ["Newton-CG", "trust-exact"])
def test_newton_finds_the_optimum_of_scipy(spec: str, method: str) -> None:
    problem = make_problem(*parse_spec(spec))
    x0 = problem.start(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning: Desired error", category=RuntimeWarning)
        reference_result = scipy.optimize.minimize(
            problem.value_and_grad, x0, jac=True, hess=problem.hessian, method=method, options={"maxiter": 500}
        )
    trace = minimize(problem, make_recipe("newton").build({}, None), x0, steps=60)
    assert trace.best_end[0] <= reference_result.fun + 1e-14
    assert trace.x[0] == pytest.approx(reference_result.x, abs=2e-3)  # SciPy's trust region stops at a gradient of 1e-4
    assert np.linalg.norm(problem.value_and_grad(trace.x[0])[1]) < 1e-8  # beyond the accuracy of values


# ---- and where SciPy's starts are not --------------------------------------------------------------------------------


HARD = [
    "quadratic:dim=10,condition=1e4,rotate=false",
    "logistic:data=breast_cancer",
    "rosenbrock",
    "rosenbrock:dim=10",
    "himmelblau",
    "beale",
    "styblinski_tang:dim=10",
    "strict_saddle:dim=5",
    "monkey_saddle",
    "mlp:data=iris,hidden=4,l2=0.01",
]
CURVATURE = [name for name in OPTIMIZERS.names() if isinstance(make_recipe(name).build({}), LineSearchMethod)]


# in float32, the squares of gradients overflow earlier
@pytest.mark.parametrize(("precision", "far", "fall"), [("float64", 1e3, 1e-4), ("float32", 1e2, 3e-3)])
@pytest.mark.parametrize("name", CURVATURE)
@pytest.mark.parametrize("spec", HARD)
def test_every_start_leads_to_a_stationary_point(spec: str, name: str, precision: str, far: float, fall: float) -> None:
    """Starts of two seeds, also 1000 times nearer to the origin, and `far` times further away."""
    host = make_problem(*parse_spec(spec))
    problem = host.on(get_backend(precision=precision))
    x0 = np.concatenate([scale * host.starts([0, 1]) for scale in (1, 1e-3, far)])
    trace = minimize(problem, make_recipe(name).build({}, None), x0, steps=250)
    start = np.linalg.norm(host.value_and_grad(x0)[1], axis=1)
    end = np.linalg.norm(host.value_and_grad(trace.x.astype(float))[1], axis=1)
    assert trace.status == ["budget"] * 6
    assert np.all(end <= fall * np.maximum(start, 1)), end / start


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", CURVATURE)
@pytest.mark.parametrize("spec", ["quadratic:dim=8", "rosenbrock:dim=10", "himmelblau", "strict_saddle:dim=3"])
def test_a_start_at_the_optimum_stays_there(spec: str, name: str, precision: str) -> None:
    problem = make_problem(*parse_spec(spec)).on(get_backend(precision=precision))
    trace = minimize(problem, make_recipe(name).build({}, None), problem.x_star, steps=40)
    assert trace.status == ["budget"]
    assert trace.x[0] == pytest.approx(problem.x_star, abs=10 * problem.backend.eps**0.5)
