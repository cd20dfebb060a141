"""Logistic regression: derivatives, certified optima, mini-batches, extreme margins, backends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.problem import make_problem
from problems import Logistic
from tests.conftest import host_reads_forbidden, present, strict_backend

BINARY = {"data": "synthetic", "rows": 1300, "columns": 7, "l2": 0.05}  # several blocks of rows
MULTINOMIAL = {"data": "wine", "l2": 0.05}
KINDS = pytest.mark.parametrize("settings", [BINARY, MULTINOMIAL], ids=["binary", "multinomial"])


def textbook(problem: Logistic, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
    """f(x), sample by sample, from the formula; (d,) only."""
    Z, y = problem._train
    losses = []
    for z, label in zip(Z[rows], y[rows], strict=True):
        if problem.heads == 1:
            losses.append(np.logaddexp(0, -(z @ x)))
        else:
            scores = x.reshape(problem.heads, -1) @ z
            losses.append(np.logaddexp.reduce(scores) - scores[label])
    return math.fsum(losses) / len(losses) + problem.l2 / 2 * math.fsum(x * x)


def differences(function: Any, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Centered differences of a function of (d,), derivatives along the last axis."""
    sides = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]
    return np.stack(sides, axis=-1)


@KINDS
def test_value_and_gradient_follow_the_formula(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x = rng.standard_normal(problem.dim)
    f, g = problem.value_and_grad(x)
    assert f == pytest.approx(textbook(problem, x), rel=1e-13)
    assert np.allclose(g, differences(lambda u: problem.value(u), x), rtol=0, atol=1e-9)
    assert np.array_equal(f, problem.value(x))


@KINDS
def test_second_derivatives(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x, v = rng.standard_normal((2, 2, 3, problem.dim))
    H = problem.hessian(x)
    assert H.shape == (2, 3, problem.dim, problem.dim)
    assert np.allclose(H, np.swapaxes(H, -1, -2), rtol=0, atol=1e-15)
    assert np.allclose(H[1, 2], differences(lambda u: problem.value_and_grad(u)[1], x[1, 2]), rtol=0, atol=1e-8)
    assert np.allclose(problem.hvp(x, v), (H @ v[..., None])[..., 0], rtol=1e-12, atol=1e-13)
    assert np.allclose(problem.hvp(x[0, 0], v[0, 0]), H[0, 0] @ v[0, 0], rtol=1e-12, atol=1e-13)


@KINDS
def test_constants_bound_the_curvature(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    eigenvalues = np.linalg.eigvalsh(problem.hessian(rng.standard_normal((20, problem.dim))))
    assert problem.smoothness is not None
    assert eigenvalues.max() <= problem.smoothness * (1 + 1e-12)
    assert eigenvalues.min() >= present(problem.strong_convexity) * (1 - 1e-9)
    if problem.heads == 1:  # at the origin every curvature is 1/4: the bound is attained
        assert np.linalg.eigvalsh(problem.hessian(np.zeros(problem.dim)))[-1] == pytest.approx(problem.smoothness)


@KINDS
def test_a_stack_equals_single_points(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x = rng.standard_normal((4, 30, problem.dim))
    f, g = problem.value_and_grad(x)
    assert (f.shape, g.shape) == ((4, 30), x.shape)
    for i in np.ndindex(4, 30):
        f_one, g_one = problem.value_and_grad(x[i])
        assert f_one == pytest.approx(f[i], rel=1e-13)
        assert np.allclose(g_one, g[i], rtol=1e-12, atol=1e-14)


# ---- mini-batches ----------------------------------------------------------------------------------------------------


@KINDS
def test_the_mean_over_a_partition_is_the_full_gradient(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x = rng.standard_normal((5, problem.dim))
    batches = rng.permutation(present(problem.n_samples)).reshape(2, -1)
    parts = [problem.value_and_grad(x, batch) for batch in batches]
    f, g = problem.value_and_grad(x)
    assert np.allclose((parts[0][0] + parts[1][0]) / 2, f, rtol=1e-13, atol=0)
    assert np.allclose((parts[0][1] + parts[1][1]) / 2, g, rtol=1e-12, atol=1e-14)
    assert parts[0][0][0] == pytest.approx(textbook(problem, x[0], batches[0]), rel=1e-13)


@KINDS
@pytest.mark.parametrize("middle", [(), (4,), (2, 3), (50, 40)])
def test_each_seed_has_its_batch(settings: dict[str, Any], middle: tuple[int, ...], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x = rng.standard_normal((3, *middle, problem.dim))
    samples = rng.integers(0, problem.n_samples, (3, 11))
    f, g = problem.value_and_grad(x, samples)
    assert (f.shape, g.shape) == ((3, *middle), x.shape)
    for s in range(3):
        f_one, g_one = problem.value_and_grad(x[s], samples[s])
        assert np.allclose(f[s], f_one, rtol=1e-13, atol=0)
        assert np.allclose(g[s], g_one, rtol=1e-12, atol=1e-14)
    with pytest.raises(InputError, match="samples of shape"):
        problem.value_and_grad(x[:2], samples)


# ---- precision and range ---------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e2, 1e4])
def test_any_scale(
    settings: dict[str, Any], scale: float, precision: str, fused: bool, rng: np.random.Generator
) -> None:
    exact = Logistic(**settings)
    problem = exact.on(get_backend("numpy", precision=precision, fused=fused))
    x = (scale * rng.standard_normal((40, problem.dim))).astype(precision)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        f, g = problem.value_and_grad(x)
        h, hv = problem.hessian(x[:2]), problem.hvp(x, x)
    assert {a.dtype for a in (f, g, h, hv, *problem.metrics(x).values())} == {np.dtype(precision)}
    expected = [textbook(exact, row) for row in x.astype(float)[:2]]
    assert np.allclose(f[:2], expected, rtol=20 * problem.backend.eps, atol=0)
    assert np.allclose(g, exact.value_and_grad(x.astype(float))[1], rtol=0, atol=50 * problem.backend.eps * (1 + scale))


# ---- optimum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"l2": 1e-2}, "0.100446303781"),
        ({"l2": 1e-4}, "0.042655627270"),
        ({"l2": 1 / 569}, "0.066394069823"),
        ({"data": "iris", "l2": 1e-2}, "0.266201000802"),
        ({"data": "digits", "l2": 1e-2}, "0.271278690344"),
        ({"data": "digits_binary", "l2": 1e-3}, "0.247752302922"),
    ],
)
def test_certified_optimum(settings: dict[str, Any], value: str, rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    optimum = problem.optimum
    assert optimum is not None
    assert optimum.x is not None
    assert f"{optimum.f:.12f}" == value
    assert 0 <= optimum.f - optimum.lower < 1e-12
    assert optimum.gradient_norm is not None
    assert optimum.gradient_norm < 1e-15
    near = optimum.x + 1e-6 * rng.standard_normal((10, problem.dim))
    assert np.all(problem.value(near) > optimum.f)


@pytest.mark.parametrize("data", ["breast_cancer", "wine"])
def test_optimum_is_that_of_scikit_learn(data: str) -> None:
    from sklearn.linear_model import LogisticRegression

    problem = Logistic(data=data, l2=0.01)
    Z, y = problem._train
    if problem.heads == 1:
        Z = Z * np.where(y == 1, 1, -1)[:, None]
    model = LogisticRegression(C=1 / (len(y) * 0.01), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(Z, y)
    assert problem.x_star is not None
    assert np.allclose(model.coef_.ravel(), problem.x_star, rtol=0, atol=1e-6)
    assert problem.metrics(problem.x_star)["train_accuracy"] == pytest.approx(model.score(Z, y))


@KINDS
def test_optimum_of_a_large_problem_agrees(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    dense = Logistic(**settings).optimum
    monkeypatch.setattr("optbench.problems.logistic.DENSE_FLOPS", 0)
    products = Logistic(**settings).optimum
    assert dense is not None
    assert products is not None
    assert products.method.startswith("Newton-CG")
    assert products.f == pytest.approx(dense.f, abs=1e-14)
    assert products.f - products.lower < 1e-12


def test_no_optimum_without_a_ridge() -> None:
    problem = Logistic(data="iris", l2=0)
    assert (problem.optimum, problem.f_star, problem.condition_number) == (None, None, None)


def test_optimum_with_a_tiny_ridge() -> None:
    optimum = Logistic(l2=1e-10).optimum  # separable: the weights reach thousands
    assert optimum is not None
    assert optimum.f - optimum.lower < 1e-10 * optimum.f


# ---- backends --------------------------------------------------------------------------------------------------------


@KINDS
def test_backends_agree(settings: dict[str, Any], backend: Backend, rng: np.random.Generator) -> None:
    host = Logistic(**settings, test_fraction=0.25)
    x = rng.standard_normal((3, 4, host.dim))
    samples = rng.integers(0, host.n_samples, (3, 6))
    there = host.on(backend)
    points, drawn = backend.asarray(x), backend.indices(samples)
    with host_reads_forbidden():
        full, batch, common = (there.value_and_grad(points, s) for s in (None, drawn, drawn[0, ...]))
        others = [there.hessian(points), there.hvp(points, points), *there.metrics(points).values()]
        start = there.starts(range(3))
    expected = [*host.value_and_grad(x), *host.value_and_grad(x, samples), *host.value_and_grad(x, samples[0])]
    expected += [host.hessian(x), host.hvp(x, x), *host.metrics(x).values(), host.starts(range(3))]
    for got, want in zip([*full, *batch, *common, *others, start], expected, strict=True):
        assert np.allclose(backend.to_host(got), want, rtol=1e-12, atol=1e-14)


@KINDS
def test_float32_is_kept_on_a_device(settings: dict[str, Any]) -> None:
    problem = Logistic(**settings).on(strict_backend("float32"))
    f, g = problem.value_and_grad(problem.starts(range(2)))
    assert (f.dtype, g.dtype) == (problem.backend.dtype, problem.backend.dtype)
    assert problem.hessian(problem.start(0)).dtype == problem.backend.dtype


# ---- parameters, data, figures ---------------------------------------------------------------------------------------


def test_accuracies(rng: np.random.Generator) -> None:
    for name in ("digits_binary", "digits"):
        problem = Logistic(data=name, test_fraction=0.2, seed=1)
        assert problem.n_samples == 1438
        assert problem.x_star is not None
        figures = problem.metrics(np.stack([problem.x_star, -problem.x_star]))
        assert list(figures) == ["train_accuracy", "test_accuracy"]
        for share in figures.values():
            assert share.shape == (2,)
            assert share[0] > 0.85
            assert share[1] < 0.15
    assert list(Logistic().metrics(np.zeros(31))) == ["train_accuracy"]


def test_a_held_out_row_has_no_influence() -> None:
    whole, part = Logistic(data="wine"), Logistic(data="wine", test_fraction=0.5)
    assert part.n_samples == 89
    Z = part._train[0]
    assert np.allclose(Z[:, :-1].mean(axis=0), 0, atol=1e-14)
    assert np.allclose(Z[:, :-1].std(axis=0), 1)
    assert whole.f_star != part.f_star


def test_a_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("a,label,b\n" + "".join(f"{i % 7},{'xy'[i % 3 == 0]},{i % 5}\n" for i in range(60)))
    problem = make_problem("logistic", {"data": str(path), "target": "label", "l2": "0.1"})
    assert isinstance(problem, Logistic)
    assert (problem.dim, problem.classes, len(problem.fingerprint)) == (3, ("x", "y"), 64)
    assert problem.spec == f"logistic:data={path},l2=0.1,target=label"
    assert problem.params["data"] == str(path)
    assert problem.optimum is not None
    path.write_text(path.read_text().replace("6,", "7,"))
    assert Logistic(data=str(path), target="label").fingerprint != problem.fingerprint


def test_synthetic_data_have_the_condition_asked_for() -> None:
    problem = Logistic(data="synthetic", rows=500, columns=10, condition=1e3, l2=0)
    Z = problem._train[0][:, :-1] * np.where(problem._train[1] == 1, 1, -1)[:, None]
    assert np.linalg.cond(Z.T @ Z) == pytest.approx(1e3, rel=1e-9)
    assert problem.fingerprint == ""  # the parameters tell everything
    assert problem.code_version != ""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"l2": -1}, "l2 must be at least 0"),
        ({"test_fraction": 1.0}, "test_fraction must be below 1"),
        ({"test_fraction": -0.1}, "test_fraction must be at least 0"),
        ({"data": "breast"}, "did you mean 'breast_cancer'"),
        ({"data": "synthetic", "rows": 5}, "more rows than columns"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_parameters(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Logistic(**settings)


def test_hessian_of_too_many_parameters() -> None:
    problem = Logistic(data="synthetic", rows=1100, columns=1000)
    assert not problem.has_hessian
    with pytest.raises(InputError, match="1001 parameters"):
        problem.hessian(problem.start(0))


def test_smoothness_of_a_wide_problem_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Logistic().smoothness
    monkeypatch.setattr("optbench.problems.logistic.EXACT_SPECTRUM", 5)
    bound = Logistic().smoothness
    assert exact is not None
    assert bound is not None
    assert exact < bound < 50 * exact


@KINDS
def test_memory_in_flight_is_as_stated(settings: dict[str, Any]) -> None:
    import tracemalloc

    problem = Logistic(**settings)
    runs = 200
    samples = np.arange(100)
    x = problem.starts(range(runs))
    problem.value_and_grad(x, samples)
    tracemalloc.start()
    problem.value_and_grad(x, samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 < peak / (runs * problem.bytes_per_run(100)) < 2


@pytest.mark.parametrize("parameter", ["rows", "columns", "condition"])
def test_parameters_without_effect_are_refused_and_not_named(parameter: str) -> None:
    assert parameter not in Logistic().params
    assert parameter in Logistic(data="synthetic").params
    with pytest.raises(InputError, match=f"{parameter} has no effect here"):
        make_problem("logistic", {parameter: 50})
