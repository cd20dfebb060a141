"""Landscapes: values printed in the literature, minimizers, start points and saddles. See also tests/test_problem.py."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der, rosen_hess

from optbench.core.errors import InputError
from optbench.problem import make_problem
from problems.landscapes import Beale, Landscape, MonkeySaddle, Rosenbrock, StrictSaddle, StyblinskiTang, Valley
from tests.conftest import present
from tests.test_problem import SPECS, make

LANDSCAPES = pytest.mark.parametrize(
    "landscape", [problem for problem in map(make, SPECS) if isinstance(problem, Landscape)], ids=str
)


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 50, 1000])
def test_the_optimum_of_styblinski_tang_is_rounded_outward(dim: int) -> None:
    """The minimum of the quartic q by Newton's method in exact fractions, certified by q'' > 34 around it."""
    t = Fraction(-2.903534027771177)
    for _ in range(3):
        t = (t - (2 * t**3 - 16 * t + Fraction(5, 2)) / (6 * t**2 - 16)).limit_denominator(10**40)
    upper = (t**4 - 16 * t**2 + 5 * t) / 2
    lower = upper - (2 * t**3 - 16 * t + Fraction(5, 2)) ** 2 / 68
    optimum = present(StyblinskiTang(dim=dim).optimum)
    assert optimum.lower <= dim * lower <= dim * upper <= optimum.f
    assert optimum.f == np.nextafter(optimum.lower, np.inf)


# ---- values from the literature --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("rosenbrock", (-1.2, 1.0), 24.2),  # More, Garbow & Hillstrom 1981, problem 1
        ("beale", (1.0, 1.0), 14.203125),  # problem 5
        ("beale", (0.0, 0.0), 14.203125),
        ("himmelblau", (0.0, 0.0), 170.0),
        ("himmelblau", (-0.270845, -0.923039), 181.617),  # the local maximum
        ("styblinski_tang", (0.0, 0.0), 0.0),
        ("styblinski_tang", (2.746803, 2.746803), 2 * -25.029446),  # the local minimum
        ("strict_saddle", (0.0, 0.0), 0.0),
        ("monkey_saddle", (1.0, 0.0), 1.75),
        ("valley", (0.0, 0.0), 0.0),
    ],
)
def test_value(name: str, x: tuple[float, float], expected: float) -> None:
    f, _ = make_problem(name).value_and_grad(np.asarray(x))
    assert f == pytest.approx(expected, rel=1e-5, abs=1e-15)


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_rosenbrock_equals_scipy(dim: int, rng: np.random.Generator) -> None:
    problem, x, v = Rosenbrock(dim=dim), rng.standard_normal((4, dim)), rng.standard_normal((4, dim))
    f, g = problem.value_and_grad(x)
    np.testing.assert_allclose(f, [rosen(row) for row in x], rtol=1e-13)
    np.testing.assert_allclose(g, [rosen_der(row) for row in x], rtol=1e-11, atol=1e-11)
    H = np.stack([rosen_hess(row) for row in x])
    np.testing.assert_allclose(problem.hessian(x), H, rtol=1e-13)
    np.testing.assert_allclose(problem.hvp(x, v), np.einsum("rij,rj->ri", H, v), rtol=1e-11, atol=1e-11)


def test_rosenbrock_has_a_second_minimum_from_dimension_4() -> None:
    problem, x = Rosenbrock(dim=4), np.array([-0.77565922, 0.61309337, 0.38206284, 0.14597202])
    for _ in range(3):
        x = x - np.linalg.solve(problem.hessian(x), problem.value_and_grad(x)[1])
    f, g = problem.value_and_grad(x)
    assert f == pytest.approx(3.70143, abs=5e-6)
    assert np.linalg.norm(g) < 1e-10
    assert np.linalg.eigvalsh(problem.hessian(x))[0] > 0


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_styblinski_tang_minimum(dim: int) -> None:
    assert StyblinskiTang(dim=dim).f_star == pytest.approx(-39.16616570377142 * dim, rel=1e-15)


def test_valley_has_the_stated_spectrum() -> None:
    problem = Valley(condition=50, angle=37)
    H = problem.hessian(np.zeros(2))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), [1 / 50, 1], rtol=1e-13)
    along = np.array([np.cos(np.radians(37)), np.sin(np.radians(37))])
    np.testing.assert_allclose(H @ along, along / 50, rtol=1e-12)
    assert problem.condition_number == pytest.approx(50)


# ---- what every landscape has ----------------------------------------------------------------------------------------


@LANDSCAPES
def test_every_minimizer_attains_the_minimum(landscape: Landscape) -> None:
    f, g = landscape.value_and_grad(landscape.minimizers)
    np.testing.assert_allclose(f, present(landscape.f_star), rtol=1e-14, atol=1e-27)
    np.testing.assert_allclose(g, 0, atol=1e-13)
    assert np.all(np.linalg.eigvalsh(landscape.hessian(landscape.minimizers)) > 0)
    np.testing.assert_array_equal(landscape.x_star, landscape.minimizers[0])


def test_minimizers_are_distinct() -> None:
    for name, count in {"himmelblau": 4, "monkey_saddle": 3, "strict_saddle": 2}.items():
        assert len(np.unique(np.round(present(make_problem(name).minimizers), 3), axis=0)) == count


@LANDSCAPES
def test_start(landscape: Landscape) -> None:
    starts = landscape.starts(range(5))
    np.testing.assert_array_equal(landscape.start(3), starts[3])
    assert len(np.unique(starts, axis=0)) == 5
    assert landscape.classic_start.shape == (landscape.dim,)
    assert np.all(np.abs(starts - landscape.classic_start) < 5 * landscape.spread)


# ---- saddles ---------------------------------------------------------------------------------------------------------


def test_gradient_descent_leaves_the_strict_saddle_after_the_predicted_steps() -> None:
    """y grows by 1 + lr per step: from 1e-6 to 0.1 in log(1e5) / log(1.1) = 120.8 steps."""
    problem = StrictSaddle(offset=1e-6)
    x, steps = problem.start(0), 0
    while abs(x[-1]) <= 0.1 and steps < 200:
        x, steps = x - 0.1 * problem.value_and_grad(x)[1], steps + 1
    assert steps == 121


def test_gradient_descent_stays_on_the_ridge_of_the_strict_saddle() -> None:
    x = StrictSaddle(offset=0).start(0)
    for _ in range(300):
        x = x - 0.1 * StrictSaddle(offset=0).value_and_grad(x)[1]
    assert x[-1] == 0
    assert abs(x[0]) < 1e-12


def test_rounding_never_takes_the_strict_saddle_below_its_minimum(rng: np.random.Generator) -> None:
    problem = StrictSaddle(dim=3)
    x = problem.minimizers[0] + 1e-9 * rng.standard_normal((1000, 3))
    assert np.min(problem.value(x)) >= problem.f_star


def test_monkey_saddle_has_no_curvature_at_the_saddle() -> None:
    np.testing.assert_array_equal(MonkeySaddle().hessian(np.zeros(2)), 0)
    assert np.linalg.norm(MonkeySaddle(offset=0.05).start(4)) == pytest.approx(0.05)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_samples_are_rejected() -> None:
    with pytest.raises(InputError, match="takes no samples"):
        Beale().value_and_grad(np.ones(2), samples=np.arange(3))
