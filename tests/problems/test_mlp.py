"""Networks: derivatives against PyTorch, weights of any scale, known optima, metrics. See also tests/test_problem.py."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import array_api_strict
import numpy as np
import pytest

from optbench.core.backend import get_backend
from problems import MLP, LinearAutoencoder, TeacherStudent
from tests.conftest import present, strict_backend
from tests.test_problem import make

REFERENCES = json.loads((Path(__file__).parent.parent / "references" / "mlp.json").read_text())
FUSED = pytest.mark.parametrize("fused", [False, True])


def normals(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape) / 2


def test_hessian_in_blocks_is_that_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make("mlp:data=iris,hidden=6-5")
    x = normals(2, problem.dim)
    whole = problem.hessian(x)
    monkeypatch.setattr("optbench.problems.network.HESSIAN_BYTES", 7 * 2 * problem.bytes_per_run(None))
    assert problem.hessian(x) == pytest.approx(whole, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("case", REFERENCES, ids=[case["spec"] for case in REFERENCES])
def test_value_gradient_and_hessian_products_equal_those_of_pytorch(case: dict[str, Any]) -> None:
    problem = make(case["spec"])
    x, v = np.random.default_rng(1).standard_normal((2, problem.dim)) / 2
    f, g = problem.value_and_grad(x)
    assert f == pytest.approx(case["f"], rel=1e-12)
    assert np.linalg.norm(g - case["g"]) < 1e-12 * np.linalg.norm(case["g"])
    assert np.linalg.norm(problem.hvp(x, v) - case["hv"]) < 1e-12 * np.linalg.norm(case["hv"])


@FUSED
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e3, 1e6])
@pytest.mark.parametrize("spec", ["mlp:data=iris,hidden=6-5", "mlp:data=iris,hidden=6,activation=relu", "teacher"])
def test_any_scale_of_the_weights_is_safe(spec: str, scale: float, precision: str, fused: bool) -> None:
    problem = make(spec).on(get_backend("numpy", precision=precision, fused=fused))
    x = scale * problem.backend.asarray(normals(3, problem.dim))
    hv = problem.hvp(x, problem.backend.asarray(normals(3, problem.dim)))
    assert all(np.isfinite(values).all() for values in (*problem.value_and_grad(x), hv))


@FUSED
def test_the_loss_of_a_wrong_class_is_the_margin(fused: bool) -> None:
    problem = make("mlp:data=iris,hidden=,l2=0").on(get_backend(fused=fused))
    x = np.zeros(problem.dim)
    x[-3] = 1e200  # all samples are classified as the first class, which a third of them are
    f, g = problem.value_and_grad(x)
    others = np.mean(cast(MLP, problem).y != 0)
    assert f == pytest.approx(others * 1e200)
    assert g[-3] == pytest.approx(others)


@FUSED
def test_a_diverged_run_does_not_change_others(fused: bool) -> None:
    problem = make("mlp:data=iris,hidden=6-5").on(get_backend(fused=fused))
    x = normals(3, problem.dim)
    expected = problem.value_and_grad(x[::2])
    x[1] = np.nan
    f, g = problem.value_and_grad(x)
    assert np.isnan(f[1])
    assert np.array_equal(f[::2], expected[0])
    assert np.array_equal(g[::2], expected[1])


# ---- known optima ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["autoencoder", "autoencoder:data=wine,hidden=3,scaling=feature", "autoencoder:data=iris,hidden=4"]
)
def test_optimum_of_the_autoencoder_is_certified(spec: str) -> None:
    problem = make(spec)
    optimum = present(problem.optimum)
    f, g = problem.value_and_grad(present(optimum.x))
    scale = problem.value(np.zeros(problem.dim))  # half the variance
    assert optimum.lower <= optimum.f
    assert optimum.f - optimum.lower < 1e-12 * scale
    assert abs(f - optimum.f) < 1e-14 * scale
    assert np.linalg.norm(g) == optimum.gradient_norm < 1e-13 * scale


@pytest.mark.parametrize("spec", ["autoencoder:data=iris,hidden=1", "autoencoder:data=iris,hidden=3,scaling=feature"])
def test_the_interval_of_the_autoencoder_contains_exact_values(spec: str) -> None:
    """Against the value at x* and half the sum of the smallest eigenvalues of the Gram matrix, in exact fractions."""
    problem = cast(LinearAutoencoder, make(spec))
    optimum = present(problem.optimum)
    X = [[Fraction(float(value)) for value in row] for row in problem.X]  # (n, p)
    p, h = len(X[0]), problem.hidden
    x = [Fraction(float(value)) for value in present(optimum.x)]
    W1, W2 = (
        [x[start + k * width : start + (k + 1) * width] for k in range(rows)]
        for start, rows, width in ((0, h, p), (h * p, p, h))
    )
    product = [[sum(W2[i][k] * W1[k][j] for k in range(h)) for j in range(p)] for i in range(p)]
    residuals = ((row[i] - sum(product[i][j] * row[j] for j in range(p))) ** 2 for row in X for i in range(p))
    assert sum(residuals) / (2 * len(X)) <= optimum.f
    # eigenvalues by Rayleigh quotients, whose errors are squares of those of the eigenvectors
    gram = [[sum(row[i] * row[j] for row in X) / len(X) for j in range(p)] for i in range(p)]
    V = [[Fraction(float(value)) for value in row] for row in np.linalg.eigh(np.array(gram, dtype=float))[1].T]
    rayleigh = [sum(v[i] * gram[i][j] * v[j] for i in range(p) for j in range(p)) for v in V]
    exact = float(sum(rayleigh[: p - h])) / 2
    assert optimum.lower <= exact * (1 + 1e-15)
    assert optimum.f >= exact * (1 - 1e-15)


def test_optimum_of_the_autoencoder_on_digits() -> None:
    problem = LinearAutoencoder()
    assert problem.f_star == pytest.approx(0.765224093975, abs=5e-13)
    X = problem.X
    W1, W2 = np.split(present(problem.x_star), 2)
    W1, W2 = W1.reshape(8, 64), W2.reshape(64, 8)
    assert ((X - X @ W1.T @ W2.T) ** 2).sum() / (2 * len(X)) == pytest.approx(problem.f_star, rel=1e-13)


@pytest.mark.parametrize(
    ("spec", "steps", "gap"),
    [("autoencoder", 300, 1e-3), ("autoencoder:data=wine,hidden=3,scaling=feature", 5000, 1e-12)],
)
def test_lbfgs_reaches_the_optimum_of_the_autoencoder(spec: str, steps: int, gap: float) -> None:
    from scipy.optimize import minimize

    problem = make(spec)
    options = {"maxiter": steps, "ftol": 0, "gtol": 1e-9, "maxfun": 10**5}
    result = minimize(problem.value_and_grad, problem.start(0), jac=True, method="L-BFGS-B", options=options)
    assert 0 <= result.fun - present(problem.optimum).lower < gap


@pytest.mark.parametrize(
    "spec",
    [
        "teacher",
        "teacher:inputs=3,outputs=2,hidden=6-5,teacher_hidden=3-4,activation=relu",
        "teacher:hidden=4,teacher_hidden=4,seed=1",
    ],
)
def test_the_teacher_is_a_minimizer(spec: str) -> None:
    problem = make(spec)
    optimum = present(problem.optimum)
    assert (optimum.f, optimum.lower) == (0, 0)
    x_star = present(optimum.x)
    f, g = problem.value_and_grad(x_star)
    assert f < 1e-28
    assert np.linalg.norm(g) < 1e-13
    assert problem.metrics(x_star)["test_loss"] < 1e-28
    assert np.linalg.eigvalsh(problem.hessian(x_star)).min() > -1e-12


def test_unknown_optima_are_none() -> None:
    assert TeacherStudent(l2=1e-3).optimum is None
    assert make("mlp:data=iris,hidden=6-5").optimum is None


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_accuracies_count_correct_classes() -> None:
    problem = make("mlp:data=wine,hidden=5,activation=relu,l2=0")
    x = normals(problem.dim)
    metrics = problem.metrics(x)
    for part, (X, targets) in cast(MLP, problem)._parts.items():
        W1, c1, W2, c2 = np.split(x, [65, 70, 85])
        outputs = np.maximum(X @ W1.reshape(5, 13).T + c1, 0) @ W2.reshape(3, 5).T + c2
        hits = outputs.argmax(axis=1) == targets.argmax(axis=1)
        assert metrics[f"{part}_accuracy"] == pytest.approx(hits.mean())
        if part != "train":
            losses = np.log(np.exp(outputs).sum(axis=1)) - (outputs * targets).sum(axis=1)
            assert metrics[f"{part}_loss"] == pytest.approx(losses.mean())
    assert "train_loss" not in metrics


def test_ties_are_errors() -> None:
    metrics = make("mlp:data=iris,hidden=6-5").metrics(np.zeros(make("mlp:data=iris,hidden=6-5").dim))
    assert metrics["train_accuracy"] == metrics["test_accuracy"] == 0


def test_a_trained_network_generalizes() -> None:
    from scipy.optimize import minimize

    for spec in ("mlp:data=moons,hidden=16", "mlp:data=wine,hidden=8", "mlp:data=breast_cancer,activation=relu"):
        problem = make(spec)
        result = minimize(
            problem.value_and_grad, problem.start(0), jac=True, method="L-BFGS-B", options={"maxiter": 100}
        )
        assert problem.metrics(result.x)["test_accuracy"] > 0.9


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 1), ("relu", 2)])
def test_start_weights_have_the_variance_of_their_layer(activation: str, gain: float) -> None:
    problem = MLP(hidden=(100, 50), activation=activation)
    layers = problem._layers(problem.start(0))
    for W, c in layers:
        assert W.shape[1] * np.var(W) == pytest.approx(gain, rel=0.15)
        assert not np.any(c)


def test_a_file_of_a_user(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.csv"
    rows = [f"{a},{b},{'left' if a < 0 else 'right'}" for a, b in rng.standard_normal((60, 2))]
    path.write_text("\n".join(["a,b,side", *rows]))
    problem = MLP(data=str(path), hidden=(3,))
    assert (problem.sizes, problem.n_samples) == ((2, 3, 2), 42)
    autoencoder = LinearAutoencoder(data=str(path), hidden=1)
    assert autoencoder.value(present(autoencoder.x_star)) == pytest.approx(autoencoder.f_star)


def test_problems_of_the_strict_backend_are_on_its_second_device() -> None:
    # otherwise tests with this backend would not detect arrays on the default device
    there = MLP(data="iris", hidden=(6, 5)).on(strict_backend())
    rows: Any = there._batch.rows
    assert rows.device == array_api_strict.Device("device1")
