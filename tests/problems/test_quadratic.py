"""Quadratics: the stated spectrum, the closed-form path of gradient descent, the chain and the noise."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from optbench.core.errors import InputError
from problems.quadratic import SPECTRA, Quadratic
from tests.conftest import present
from tests.test_problem import SPECS, make

VARIANTS = pytest.mark.parametrize(
    "quadratic", [problem for problem in map(make, SPECS) if isinstance(problem, Quadratic)], ids=str
)


# ---- the stated properties -------------------------------------------------------------------------------------------


@VARIANTS
def test_hessian_has_the_stated_spectrum(quadratic: Quadratic) -> None:
    H = quadratic.hessian(np.zeros(quadratic.dim))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), quadratic.eigenvalues, atol=1e-13)
    np.testing.assert_array_equal(H, H.T)
    assert quadratic.smoothness == quadratic.eigenvalues[-1]
    assert quadratic.strong_convexity == quadratic.eigenvalues[0]


@pytest.mark.parametrize("spectrum", [s for s in SPECTRA if s != "chain"])
def test_condition_number(spectrum: str) -> None:
    problem = Quadratic(dim=12, spectrum=spectrum, condition=1e6)
    assert problem.condition_number == pytest.approx(1e6)
    assert problem.smoothness == 1


def test_shape_of_the_spectra() -> None:
    def spectrum(name: str) -> np.ndarray:
        return Quadratic(dim=9, condition=100, spectrum=name).eigenvalues

    np.testing.assert_allclose(np.diff(np.log(spectrum("log"))), np.log(100) / 8)
    np.testing.assert_allclose(np.diff(spectrum("linear")), 0.99 / 8)
    assert np.all((spectrum("clusters") < 0.011 + 1e-15) | (spectrum("clusters") > 0.9 - 1e-15))
    np.testing.assert_allclose(spectrum("distinct"), np.repeat([0.01, 0.1, 1], 3))


@VARIANTS
def test_optimum_by_construction(quadratic: Quadratic) -> None:
    f, g = quadratic.value_and_grad(present(quadratic.x_star))
    assert f == pytest.approx(quadratic.f_star, abs=1e-16)
    np.testing.assert_allclose(g, 0, atol=1e-16)


@pytest.mark.parametrize("eta", [1.0, 2 / 1.01, 1.9], ids=["1/L", "2/(mu+L)", "1.9/L"])
def test_gradient_descent_follows_its_closed_form(eta: float) -> None:
    """Each component of x - x* along an eigenvector shrinks by 1 - eta lambda_i per step."""
    problem = Quadratic(dim=30, condition=100)
    eigenvalues, basis = np.linalg.eigh(problem.hessian(np.zeros(30)))
    x = problem.start(0)
    c = basis.T @ (x - problem.x_star)
    for k in range(201):
        expected = 0.5 * np.sum(eigenvalues * ((1 - eta * eigenvalues) ** k * c) ** 2)
        f, g = problem.value_and_grad(x)
        assert f == pytest.approx(expected, rel=1e-10)
        x = x - eta * g


def test_the_gap_keeps_its_digits_near_the_optimum() -> None:
    problem = Quadratic(dim=10, rotate=False)
    x_star = present(problem.x_star)
    e = 1e-12 * np.where(x_star == 0, 1.0, x_star)
    e = (x_star + e) - x_star  # e after rounding
    assert problem.value(x_star + e) == pytest.approx(0.5 * np.sum(problem.eigenvalues * e**2), rel=1e-14)


# ---- the chain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 25])
def test_chain(n: int, rng: np.random.Generator) -> None:
    """f* = (L/8) (-1 + 1/(n+1)) and x*_i = 1 - i/(n+1), with L = 1 (Nesterov 2018, section 2.1.2)."""
    problem, x = Quadratic(dim=n, spectrum="chain"), rng.standard_normal(n)
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    x_star = np.linalg.solve(A, np.eye(n)[0])
    np.testing.assert_allclose(present(problem.x_star), x_star, rtol=1e-12)
    np.testing.assert_allclose(present(problem.x_star), 1 - np.arange(1, n + 1) / (n + 1))
    assert problem.f_star == pytest.approx((0.5 * x_star @ A @ x_star - x_star[0]) / 4)
    assert problem.f_star == pytest.approx((-1 + 1 / (n + 1)) / 8)
    f, g = problem.value_and_grad(x)
    assert f == pytest.approx((0.5 * x @ A @ x - x[0]) / 4)
    np.testing.assert_allclose(g, (A @ x - np.eye(n)[0]) / 4, atol=1e-15)


def test_gradient_of_the_chain_uncovers_one_coordinate_a_step() -> None:
    """The basis of the lower bound: after k steps from 0, only the first k coordinates can differ from 0."""
    problem, x = Quadratic(dim=10, spectrum="chain"), np.zeros(10)
    for k in range(1, 11):
        f, g = problem.value_and_grad(x)
        assert f - problem.f_star >= (1 / k - 1 / 11) / 8 * (1 - 1e-12)
        x = x - np.where(np.abs(g) > 1e-15, g, 0)
        assert np.count_nonzero(x) <= k


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 4])
def test_noise_has_the_stated_variance(batch_size: int | None) -> None:
    problem = Quadratic(dim=50, noise=0.3)
    sampler = problem.sampler(tuple(range(8)), batch_size)
    assert sampler is not None
    noise = sampler.draw(0, 100)  # (100, S, d)
    variance, count = 0.09 / (batch_size or 1), noise.size
    assert abs(noise.mean() / np.sqrt(variance / count)) < 4
    assert abs((np.mean(noise**2) - variance) / (variance * np.sqrt(2 / count))) < 4


def test_noise_is_added_to_the_gradient_by_seed(rng: np.random.Generator) -> None:
    problem = Quadratic(dim=3, noise=1.0)
    x, xi = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 3))
    (f, g), (f_full, g_full) = problem.value_and_grad(x, xi), problem.value_and_grad(x)
    np.testing.assert_allclose(g - g_full, np.broadcast_to(xi[:, None], x.shape), atol=1e-14)
    np.testing.assert_allclose(f - f_full, np.einsum("slj,sj->sl", x - present(problem.x_star), xi), atol=1e-13)


def test_exact_quadratics_have_no_sampler() -> None:
    assert Quadratic().sampler((0, 1), None) is None
    with pytest.raises(InputError, match="not a sum over samples"):
        Quadratic().sampler((0, 1), 16)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_noise_of_other_seeds_is_rejected() -> None:
    with pytest.raises(InputError, match=r"need points of shape \(2, \.\.\., 4\)"):
        Quadratic(dim=4, noise=1).value_and_grad(np.ones((3, 4)), np.ones((2, 4)))


@pytest.mark.parametrize("dim", [1, 2, 3, 9, 99, 1000])
def test_the_optimum_of_the_chain_is_rounded_outward(dim: int) -> None:
    problem = Quadratic(dim=dim, spectrum="chain")
    optimum = present(problem.optimum)
    assert optimum.lower <= Fraction(-dim, 8 * (dim + 1)) <= optimum.f
    assert optimum.f - optimum.lower < 1e-16
    assert problem.value(present(optimum.x)) == optimum.f


def test_a_matrix_that_rounding_may_make_indefinite_has_no_stated_optimum() -> None:
    assert Quadratic(dim=50, condition=1e15).optimum is None
    assert present(Quadratic(dim=50, condition=1e15, rotate=False).optimum).f == 0
    for condition in (1e8, 1e13):
        problem = Quadratic(dim=50, condition=condition)
        assert present(problem.optimum).f == 0
        assert np.linalg.eigvalsh(problem.hessian(np.zeros(50)))[0] > 0
