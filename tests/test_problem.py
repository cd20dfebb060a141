"""The interface that every registered problem keeps, and what is checked of a problem of your own."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from optbench import problem as module
from optbench.core.backend import Backend
from optbench.core.errors import InputError
from optbench.core.registry import PROBLEMS
from optbench.core.specs import parse_spec
from optbench.core.trace import TARGETS
from optbench.core.types import Array, Metric
from optbench.optimizer import make_recipe
from optbench.problem import Optimum, Problem, make_problem
from optbench.runner.loop import minimize
from optbench.verify.check import check_problem
from problems.learning import LearningProblem
from problems.quadratic import SPECTRA
from tests.conftest import host_reads_forbidden, present

SPECS = [
    *PROBLEMS.names(),
    *(
        f"quadratic:dim={dim},spectrum={spectrum},rotate={rotate},condition=50"
        for dim in (1, 2, 17)
        for spectrum in SPECTRA
        for rotate in ("true", "false")
    ),
    "quadratic:dim=6,noise=0.5",
    "rosenbrock:dim=7",
    "styblinski_tang:dim=1",
    "styblinski_tang:dim=5",
    "strict_saddle:dim=6,curvature=100",
    "valley:condition=1e4,angle=-20",
    "logistic:data=synthetic,rows=1300,columns=7,l2=0.05",  # several blocks of rows
    "logistic:data=synthetic,rows=1300,columns=7,l2=0.05,test_fraction=0.25",
    "logistic:data=wine,l2=0.05",
    "logistic:data=iris,test_fraction=0.2",
    "mlp:data=iris,hidden=6-5",
    "mlp:data=iris,hidden=",
    "mlp:data=wine,hidden=5,activation=relu,l2=0",
    "mlp:data=breast_cancer,hidden=3-2-3",
    "mlp:data=digits,hidden=2",
    "mlp:data=moons,hidden=4-3,loss=squared,rows=100",
    "mlp:data=moons,hidden=6,activation=relu,loss=squared,noise=0.1",
    "teacher:inputs=3,outputs=2,hidden=6-5,teacher_hidden=3-4,activation=relu,rows=60,l2=0.001",
    "autoencoder:data=iris,hidden=2,scaling=feature",
    "autoencoder:data=wine,hidden=3",
]
LEARNING = [spec for spec in SPECS if issubclass(PROBLEMS[parse_spec(spec)[0]], LearningProblem)]
SAME: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-13}
make = functools.cache(make_problem)


@pytest.fixture(params=SPECS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return make(request.param)


@pytest.fixture(params=LEARNING)
def sum_problem(request: pytest.FixtureRequest) -> Problem:
    return make(request.param)


def outputs(problem: Problem, x: Array, v: Array, samples: Array | None) -> list[Array]:
    """Everything that a problem computes of points x and vectors v (S, L, d), and of samples (S, b) if it is a sum."""
    results = [*problem.value_and_grad(x), problem.value(x), *problem.metrics(x).values(), problem.starts((2, 5))]
    if samples is not None:
        results += [*problem.value_and_grad(x, samples), *problem.value_and_grad(x, samples[0, ...])]
    if problem.has_hvp:
        results.append(problem.hvp(x, v))
    if problem.has_hessian:
        results.append(problem.hessian(x[0, :2, :]))
    return results


def draws(problem: Problem, rng: np.random.Generator) -> np.ndarray | None:
    """Two batches of six sample numbers, (S, b), if the problem is a sum."""
    return None if problem.n_samples is None else rng.integers(0, problem.n_samples, (2, 6))


# ---- every problem ---------------------------------------------------------------------------------------------------


def test_all_checks_pass(problem: Problem) -> None:
    """Derivatives, the optimum, constants, mini-batches, shapes and metrics; closer than a stranger's problem must be."""
    findings = check_problem(problem).findings
    assert [finding for finding in findings if finding.passed is False] == []
    errors = {finding.check: finding.error or 0.0 for finding in findings}
    assert errors["gradient"] < 1e-7
    assert errors["hessian"] < 1e-7
    assert errors["hessian symmetry"] < 1e-15
    assert errors["hvp"] < 1e-11 or not problem.has_hessian
    assert errors["mini-batches"] < 1e-12


def test_a_stack_of_points_is_its_single_points(problem: Problem, rng: np.random.Generator) -> None:
    x, v = rng.standard_normal((2, 2, 3, problem.dim)) / 2
    f, g = problem.value_and_grad(x)
    assert (f.shape, g.shape) == ((2, 3), x.shape)
    metrics = problem.metrics(x)
    for k in np.ndindex(2, 3):
        one_f, one_g = problem.value_and_grad(x[k])
        assert (one_f.shape, one_g.shape) == ((), (problem.dim,))
        np.testing.assert_allclose(f[k], one_f, rtol=1e-13)
        np.testing.assert_allclose(g[k], one_g, **SAME)
        if problem.has_hvp:
            np.testing.assert_allclose(problem.hvp(x, v)[k], problem.hvp(x[k], v[k]), **SAME)
        for name, value in problem.metrics(x[k]).items():
            np.testing.assert_allclose(metrics[name][k], value, rtol=1e-12)
    if problem.has_hessian:
        np.testing.assert_allclose(problem.hessian(x[0])[1], problem.hessian(x[0, 1]), **SAME)


def test_no_points_are_no_values(problem: Problem) -> None:
    f, g = problem.value_and_grad(np.empty((0, problem.dim)))
    assert (f.shape, g.shape) == ((0,), (0, problem.dim))


def test_evaluate_gives_values_and_the_declared_metrics(problem: Problem) -> None:
    x = problem.starts((0, 1))  # (2, d)
    f, metrics = problem.evaluate(x)
    assert f.shape == (2,)
    np.testing.assert_allclose(f, problem.value(x), rtol=1e-14)
    assert list(metrics) == [metric.name for metric in problem.metric_types]
    assert {values.shape for values in metrics.values()} <= {(2,)}
    assert list(problem.metrics(x)) == list(metrics)


def test_every_backend_gives_the_same_numbers(problem: Problem, backend: Backend, rng: np.random.Generator) -> None:
    (x, v), samples = rng.standard_normal((2, 2, 3, problem.dim)) / 2, draws(problem, rng)
    there, at, along = problem.on(backend), backend.asarray(x), backend.asarray(v)
    drawn = None if samples is None else backend.indices(samples)
    with host_reads_forbidden():
        results = outputs(there, at, along, drawn)
    for result, expected in zip(results, outputs(problem, x, v, samples), strict=True):
        np.testing.assert_allclose(backend.to_host(result), expected, **SAME)
    np.testing.assert_array_equal(backend.to_host(there.start(1)), problem.start(1))


def test_single_precision_stays_single(problem: Problem, backend: Backend, rng: np.random.Generator) -> None:
    backend = dataclasses.replace(backend, precision="float32")
    there, x, samples = problem.on(backend), rng.standard_normal((2, 3, problem.dim)) / 2, draws(problem, rng)
    at, drawn = backend.asarray(x), None if samples is None else backend.indices(samples)
    with host_reads_forbidden():
        results = outputs(there, at, at, drawn)
    assert all(result.dtype == backend.dtype for result in results)
    f, g = problem.value_and_grad(x)
    np.testing.assert_allclose(backend.to_host(results[0]), f, rtol=1e-4)
    np.testing.assert_allclose(backend.to_host(results[1]), g, rtol=1e-4, atol=1e-4 * np.abs(g).max())
    if samples is not None:
        assert there.bytes_per_run(8) == problem.bytes_per_run(8) // 2


def test_a_spec_makes_the_same_problem_again(problem: Problem) -> None:
    again = make_problem(problem.spec)
    x = problem.start(0)
    assert problem.value(x) == again.value(x)
    assert problem.fingerprint == again.fingerprint


def test_a_view_shows_starts_and_minimizers(problem: Problem) -> None:
    if problem.dim == 2:
        low, high = np.transpose(present(problem.view))
        minimizers = np.atleast_2d(present(problem.x_star)) if problem.minimizers is None else problem.minimizers
        shown = np.vstack([minimizers, problem.starts(range(20))])
        assert ((low < shown) & (shown < high)).all()


def test_points_of_another_length_are_refused(problem: Problem) -> None:
    with pytest.raises(InputError, match=r"takes points of shape \(\.\.\., "):
        problem.value_and_grad(np.zeros(problem.dim + 1))


@pytest.mark.parametrize("spec", ["quadratic:dim=5", "logistic:test_fraction=0.5", "mlp:data=moons", "teacher"])
def test_another_seed_makes_another_problem(spec: str) -> None:
    name, settings = parse_spec(spec)
    other = make_problem(name, settings | {"seed": 1})
    x = other.start(0)
    assert other.value(x) != make(spec).value(x)


# ---- sums over samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("middle", [(), (4,), (2, 3), (50, 40)])
def test_each_seed_sees_its_own_batch(sum_problem: Problem, middle: tuple[int, ...], rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, *middle, sum_problem.dim)) / 2
    samples = rng.integers(0, sum_problem.n_samples, (3, 11))
    f, g = sum_problem.value_and_grad(x, samples)
    assert (f.shape, g.shape) == ((3, *middle), x.shape)
    for s in range(3):
        one_f, one_g = sum_problem.value_and_grad(x[s], samples[s])
        np.testing.assert_allclose(f[s], one_f, rtol=1e-13)
        np.testing.assert_allclose(g[s], one_g, **SAME)
    with pytest.raises(InputError, match="samples of shape"):
        sum_problem.value_and_grad(x[:2], samples)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("quadratic", {"dim": 0}, "dim must be at least 1"),
        ("quadratic", {"dim": 2.5}, "dim must be a whole number"),
        ("quadratic", {"condition": 0.5}, "condition must be at least 1"),
        ("quadratic", {"condition": "inf"}, "condition must be a finite number"),
        ("quadratic", {"noise": -1}, "noise must be at least 0"),
        ("quadratic", {"seed": -1}, "seed must be at least 0"),
        ("quadratic", {"spectrum": "wild"}, "spectrum must be one of log, linear"),
        ("quadratic", {"conditon": 3}, "did you mean 'condition'"),
        ("rosenbrock", {"dim": 1}, "dim"),
        ("styblinski_tang", {"dim": 0}, "dim"),
        ("strict_saddle", {"dim": 1}, "dim"),
        ("strict_saddle", {"curvature": 0.5}, "curvature"),
        ("strict_saddle", {"offset": -1e-3}, "offset"),
        ("monkey_saddle", {"offset": 0}, "offset"),
        ("valley", {"condition": 0.5}, "condition"),
        ("valley", {"angle": "steep"}, "angle"),
        ("beale", {"dim": 3}, "dim"),
        ("logistic", {"l2": -1}, "l2 must be at least 0"),
        ("logistic", {"test_fraction": 1.0}, r"test_fraction must be in \[0, 1\)"),
        ("logistic", {"test_fraction": -0.1}, r"test_fraction must be in \[0, 1\)"),
        ("logistic", {"data": "breast"}, "did you mean 'breast_cancer'"),
        ("logistic", {"data": "synthetic", "rows": 5}, "more rows than columns"),
        ("logistic", {"seed": -1}, "seed must be at least 0"),
        ("logistic", {"rows": 50}, "rows has no effect here"),
        ("logistic", {"columns": 50}, "columns has no effect here"),
        ("logistic", {"condition": 50}, "condition has no effect here"),
        ("mlp", {"data": "digit"}, "did you mean 'digits'"),
        ("mlp", {"hidden": "16-0"}, "every number of hidden"),
        ("mlp", {"hidden": "wide"}, "numbers such as 32-16"),
        ("mlp", {"activation": "sigmoid"}, "one of tanh, relu"),
        ("mlp", {"loss": "hinge"}, "one of cross_entropy, squared"),
        ("mlp", {"l2": -1}, "l2 must be at least 0"),
        ("mlp", {"data": "moons", "rows": 5}, "rows must be at least 10"),
        ("mlp", {"data": "moons", "noise": -0.1}, "noise must be at least 0"),
        ("mlp", {"seed": -1}, "seed must be at least 0"),
        ("mlp", {"width": 3}, "no parameter 'width'"),
        ("teacher", {"teacher_hidden": "17"}, "none of them wider"),
        ("teacher", {"teacher_hidden": "4-4"}, "as many layers"),
        ("teacher", {"teacher_hidden": "0"}, "every number of teacher_hidden"),
        ("teacher", {"inputs": 0}, "inputs must be at least 1"),
        ("teacher", {"outputs": 0}, "outputs must be at least 1"),
        ("teacher", {"rows": 9}, "rows must be at least 10"),
        ("autoencoder", {"hidden": 0}, "hidden must be at least 1"),
        ("autoencoder", {"hidden": 65}, "at most the 64 features"),
        ("autoencoder", {"scaling": "none"}, "one of table, feature"),
    ],
)
def test_impossible_parameters_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_problem(name, settings)


@pytest.mark.parametrize(
    "spec", ["rosenbrock:dim=1001", "logistic:data=synthetic,rows=1100,columns=1000", "mlp:data=digits,hidden=16"]
)
def test_a_large_hessian_is_refused_and_its_product_is_not(spec: str) -> None:
    problem = make(spec)
    x = problem.start(0)
    assert not problem.has_hessian
    with pytest.raises(InputError, match=r"offers its Hessian up to d = \d+, not \d+; use hvp"):
        problem.hessian(x)
    assert problem.hvp(x, x).shape == x.shape


@pytest.mark.parametrize("x", ["abcd", ["a"] * 4, [[1, 2], [3]], np.ones(4) * 1j])
def test_points_that_are_not_numbers_are_refused(x: Any) -> None:
    with pytest.raises(InputError, match="takes points of shape"):
        make("quadratic:dim=4").value_and_grad(x)


# ---- metrics ---------------------------------------------------------------------------------------------------------


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


# ---- what a worker process keeps -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "kept"), [({"MAX_RECEIVED": 2}, "ac"), ({"MAX_RECEIVED_BYTES": 900}, "ac")])
def test_a_worker_keeps_the_problems_used_last(
    most: dict[str, int], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_received": {}, **most}.items():
        monkeypatch.setattr(f"optbench.problem.{name}", value)
    for key in "abac":
        bowl = Bowl()
        bowl.minimizers = np.zeros((1, 50))  # 400 bytes
        module._receive(key, bowl)
    assert "".join(module._received) == kept
    bowl.minimizers = np.zeros((1, 500))  # too large alone, and kept as the last
    module._receive("d", bowl)
    assert list(module._received)[-1] == "d"
    assert len(module._received) == (1 if "MAX_RECEIVED_BYTES" in most else 2)


# ---- what solve() returns is checked ---------------------------------------------------------------------------------

POINT = np.zeros(3)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (0.0, "it returned 0.0"),
        ((0.0, 0.0, POINT, "a tuple"), "it returned (0.0, 0.0, array"),
        (Optimum(np.nan, 0.0, POINT, ""), "f is nan; give a finite float"),
        (Optimum(np.inf, 0.0, POINT, ""), "f is inf"),
        (Optimum(0.0, -np.inf, POINT, ""), "lower is -inf"),
        (Optimum(0.0, np.nan, POINT, ""), "lower is nan"),
        (Optimum(1j, 0.0, POINT, ""), "f is 1j"),  # type: ignore[arg-type]
        (Optimum("0", 0.0, POINT, ""), "f is '0'"),  # type: ignore[arg-type]
        (Optimum(True, 0.0, POINT, ""), "f is True"),
        (Optimum(0.0, None, POINT, ""), "lower is None"),  # type: ignore[arg-type]
        (Optimum(np.zeros(1), 0.0, POINT, ""), "f is array([0.])"),  # type: ignore[arg-type]
        (Optimum([[1], [1, 2]], 0.0, POINT, ""), "f is [[1], [1, 2]]"),  # type: ignore[arg-type]
        (Optimum(1.0, 2.0, POINT, ""), "the lower bound 2.0 is above f = 1.0"),
        (
            Optimum(0.0, 0.0, np.zeros(2), ""),
            "x is an array of shape (2,) and type float64; give finite floats of shape (3,)",
        ),
        (Optimum(0.0, 0.0, np.zeros((1, 3)), ""), "x is an array of shape (1, 3)"),
        (Optimum(0.0, 0.0, np.array([0, np.nan, 0]), ""), "with a value that is not finite; give finite floats"),
        (Optimum(0.0, 0.0, POINT + 1j, ""), "type complex128"),
        (Optimum(0.0, 0.0, "abc", ""), "x is 'abc'"),  # type: ignore[arg-type]
        (Optimum(0.0, 0.0, POINT, None), "method is None"),  # type: ignore[arg-type]
        (Optimum(0.0, 0.0, POINT, "", np.nan), "gradient_norm is nan"),
        (Optimum(0.0, 0.0, POINT, "", -1.0), "gradient_norm is -1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_optima_are_refused(returned: Any, reason: str) -> None:
    class Stated(Problem):
        name = "stated"
        dim = 3

        def solve(self) -> Any:
            return returned

    with pytest.raises(InputError) as caught:
        _ = Stated().optimum
    text = str(caught.value)
    assert text.startswith("stated: solve() must return a valid optbench.Optimum, or None if no optimum is known, but ")
    assert reason in text
    assert "\n" not in text


def test_optima_become_plain_floats_and_a_read_only_copy() -> None:
    center = np.array([1, 2, 3], dtype=np.float32)

    class Stated(Problem):
        dim = 3

        def solve(self) -> Optimum:
            return Optimum(np.float32(0.5), np.array(0), center, "a guess", 0)  # type: ignore[arg-type]

    optimum = present(Stated().optimum)
    assert (optimum.f, optimum.lower, optimum.gradient_norm) == (0.5, 0.0, 0.0)
    assert all(type(value) is float for value in (optimum.f, optimum.lower, optimum.gradient_norm))
    x = present(optimum.x)
    assert (x.dtype, x.tolist(), x.flags.writeable) == (np.dtype(float), [1, 2, 3], False)
    center[0] = 7
    assert x[0] == 1


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(-1, 3), Fraction(0), Fraction(-1, 4), Fraction(10**30 + 1)])
def test_exact_optima_are_rounded_outward(value: Fraction) -> None:
    optimum = Optimum.of_exact(value, None, "closed form")
    assert optimum.lower <= value <= optimum.f
    assert optimum.f in (optimum.lower, np.nextafter(optimum.lower, np.inf))
    assert (optimum.f == optimum.lower) == (Fraction(float(value)) == value)


@pytest.mark.parametrize("spec", SPECS)
def test_intervals_are_far_narrower_than_the_last_target(spec: str) -> None:
    problem = make(spec)
    if (optimum := problem.optimum) is not None:
        gap = float(problem.value(problem.start(0))) - optimum.f
        assert optimum.f - optimum.lower <= 1e-3 * TARGETS[-1] * gap
