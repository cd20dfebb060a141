"""Logistic regression: the formula, certified optima, extreme margins, data. See also tests/test_problem.py."""

from __future__ import annotations

import decimal
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.core.backend import get_backend
from optbench.problem import make_problem
from problems import Logistic
from tests.conftest import present

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


@KINDS
def test_constants_bound_the_curvature(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    eigenvalues = np.linalg.eigvalsh(problem.hessian(rng.standard_normal((20, problem.dim))))
    assert eigenvalues.max() <= present(problem.smoothness) * (1 + 1e-12)
    assert eigenvalues.min() >= present(problem.strong_convexity) * (1 - 1e-9)
    if problem.heads == 1:  # at the origin every curvature is 1/4: the bound is attained
        assert np.linalg.eigvalsh(problem.hessian(np.zeros(problem.dim)))[-1] == pytest.approx(problem.smoothness)


@KINDS
def test_values_follow_the_formula(settings: dict[str, Any], rng: np.random.Generator) -> None:
    problem = Logistic(**settings)
    x = rng.standard_normal(problem.dim)
    batch = rng.permutation(present(problem.n_samples))[:20]
    assert problem.value(x) == pytest.approx(textbook(problem, x), rel=1e-13)
    assert problem.value_and_grad(x)[0] == pytest.approx(textbook(problem, x), rel=1e-13)
    assert problem.value_and_grad(x, batch)[0] == pytest.approx(textbook(problem, x, batch), rel=1e-13)


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
    optimum = present(problem.optimum)
    assert f"{optimum.f:.12f}" == value
    assert 0 <= optimum.f - optimum.lower < 1e-12
    assert present(optimum.gradient_norm) < 1e-15
    near = present(optimum.x) + 1e-6 * rng.standard_normal((10, problem.dim))
    assert np.all(problem.value(near) > optimum.f)


@KINDS
def test_optimum_of_a_large_problem_agrees(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    dense = present(Logistic(**settings).optimum)
    monkeypatch.setattr("optbench.problems.logistic.DENSE_FLOPS", 0)
    products = present(Logistic(**settings).optimum)
    assert products.method.startswith("Newton-CG")
    assert products.f == pytest.approx(dense.f, abs=1e-14)
    assert products.f - products.lower < 1e-12


def decimal_optimum(problem: Logistic) -> decimal.Decimal:
    """The optimal value by Newton's method with 40 digits, from the formula for two classes."""
    number = decimal.Decimal
    rows = [[number(float(z)) for z in row] for row in problem._train[0]]  # (n, p + 1), times the classes -1 and 1
    n, d, l2 = len(rows), problem.dim, number(problem.l2)
    w = [number(float(value)) for value in present(present(problem.optimum).x)]

    def dot(a: list[decimal.Decimal], b: list[decimal.Decimal]) -> decimal.Decimal:
        return sum((x * y for x, y in zip(a, b, strict=True)), number(0))

    for _ in range(3):
        slopes = [1 / (1 + dot(row, w).exp()) for row in rows]
        g = [l2 * w[j] - dot(slopes, [row[j] for row in rows]) / n for j in range(d)]
        curved = [s * (1 - s) / n for s in slopes]
        H = [
            [dot(curved, [r[i] * r[j] for r in rows]) + (l2 if i == j else number(0)) for j in range(d)]
            for i in range(d)
        ]
        for i in range(d):  # Gaussian elimination of (H | g)
            for k in range(i + 1, d):
                ratio = H[k][i] / H[i][i]
                H[k] = [a - ratio * b for a, b in zip(H[k], H[i], strict=True)]
                g[k] -= ratio * g[i]
        p = [number(0)] * d
        for i in reversed(range(d)):
            p[i] = (g[i] - dot(H[i], p)) / H[i][i]
        w = [a - b for a, b in zip(w, p, strict=True)]
    losses = [(1 + (-dot(row, w)).exp()).ln() for row in rows]
    return sum(losses, number(0)) / n + l2 / 2 * dot(w, w)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_contains_the_optimum_of_exact_arithmetic(seed: int) -> None:
    problem = Logistic(data="synthetic", rows=15, columns=2, l2=[1.0, 0.1, 1e-2, 1e-4][seed], seed=seed)
    optimum = present(problem.optimum)
    with decimal.localcontext(prec=40):
        exact = decimal_optimum(problem)
        assert decimal.Decimal(optimum.lower) <= exact <= decimal.Decimal(optimum.f)
        assert decimal.Decimal(optimum.f) - exact < decimal.Decimal("2e-15") * exact


@KINDS
def test_extended_precision_narrows_the_interval(settings: dict[str, Any]) -> None:
    problem = Logistic(**settings)
    x = present(present(problem.optimum).x)
    wide, narrow = (problem._value_with_bounds(x, kind) for kind in (np.float64, np.longdouble))
    assert abs(wide[0] - narrow[0]) <= wide[1]
    if np.finfo(np.longdouble).eps < np.finfo(float).eps:
        assert narrow[1] < wide[1] / 2


def test_no_optimum_without_regularization() -> None:
    problem = Logistic(data="iris", l2=0)
    assert (problem.optimum, problem.f_star, problem.condition_number) == (None, None, None)


def test_optimum_with_small_regularization() -> None:
    optimum = present(Logistic(l2=1e-10).optimum)  # separable: the weights reach thousands
    assert optimum.f - optimum.lower < 1e-10 * optimum.f


# ---- parameters, data, figures ---------------------------------------------------------------------------------------


def test_accuracies(rng: np.random.Generator) -> None:
    for name in ("digits_binary", "digits"):
        problem = Logistic(data=name, test_fraction=0.2, seed=1)
        assert problem.n_samples == 1438
        figures = problem.metrics(np.outer([1, -1], present(problem.x_star)))
        assert list(figures) == ["train_accuracy", "test_accuracy"]
        for share in figures.values():
            assert share.shape == (2,)
            assert share[0] > 0.85
            assert share[1] < 0.15
    assert list(Logistic().metrics(np.zeros(31))) == ["train_accuracy"]


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


def test_synthetic_data_have_the_requested_condition() -> None:
    problem = Logistic(data="synthetic", rows=500, columns=10, condition=1e3, l2=0)
    Z = problem._train[0][:, :-1] * np.where(problem._train[1] == 1, 1, -1)[:, None]
    assert np.linalg.cond(Z.T @ Z) == pytest.approx(1e3, rel=1e-9)
    assert problem.fingerprint == ""  # the parameters determine the problem


def test_smoothness_of_a_wide_problem_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = present(Logistic().smoothness)
    monkeypatch.setattr("optbench.problems.logistic.EXACT_SPECTRUM", 5)
    assert exact < present(Logistic().smoothness) < 50 * exact


def test_parameters_without_effect_are_not_named() -> None:
    sizes = {"rows", "columns", "condition"}
    assert not sizes & Logistic().params.keys()
    assert sizes <= Logistic(data="synthetic").params.keys()
