"""Checks: differences are as accurate as in theory, correct problems pass, and each kind of error is found."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.random import stream
from optbench.core.registry import PROBLEMS
from optbench.problem import Optimum, Problem, make_problem
from optbench.verify import gradients
from optbench.verify.check import ProblemCheck, check_problem
from optbench.verify.evaluation import points_around_start
from optbench.verify.gradients import CENTERED, FORWARD, check_gradient, gradient_difference, hessian_difference
from optbench.verify.optima import curvatures
from optbench.verify.samples import noise_error
from problems.landscapes import Beale, Rosenbrock, StyblinskiTang
from problems.quadratic import Quadratic
from tests.conftest import strict_backend

Pair = tuple[Any, Any]


@dataclass(eq=False)
class Ridge(Problem):
    """A finite sum with everything a problem can offer: f(w) = 1/n sum_i 1/2 (x_i^T w - y_i)^2 + l2/2 |w|^2."""

    dim: int = 4
    n: int = 21
    l2: float = 0.1

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        self._X, self._y = rng.standard_normal((self.n, self.dim)), rng.standard_normal(self.n)
        self._H = self._X.T @ self._X / self.n + self.l2 * np.eye(self.dim)
        self.n_samples = self.n
        eigenvalues = np.linalg.eigvalsh(self._H)
        self.strong_convexity, self.smoothness = float(eigenvalues[0]), float(eigenvalues[-1])
        self.place()

    def place(self) -> None:
        self.X, self.y = self.backend.asarray(self._X), self.backend.asarray(self._y)
        self.H = self.backend.asarray(self._H)

    def loss(self, x: Any, samples: Any) -> Pair:
        xp = self.backend.xp
        if samples is None:
            X, y = self.X, self.y  # (n, d), (n,)
        else:
            shape = (*samples.shape, self.dim)
            X = xp.reshape(xp.take(self.X, xp.reshape(samples, (-1,)), axis=0), shape)  # ([S,] b, d)
            y = xp.reshape(xp.take(self.y, xp.reshape(samples, (-1,)), axis=0), samples.shape)  # ([S,] b)
        many = samples is not None and samples.ndim == 2
        r = x @ (xp.matrix_transpose(X) if many else X.T) - (y[:, None, :] if many else y)  # (..., b)
        b = r.shape[-1]
        return 0.5 * xp.vecdot(r, r) / b, r @ X / b

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = self.loss(self.points(x), samples)
        return f + 0.5 * self.l2 * self.backend.xp.vecdot(x, x), g + self.l2 * x

    def hessian(self, x: Any) -> Any:
        return self.backend.xp.broadcast_to(self.H, (*x.shape[:-1], self.dim, self.dim))

    def solve(self) -> Optimum:
        w = np.linalg.solve(self._H, self._X.T @ self._y / self.n)
        f = float(self.host.value(w))
        return Optimum(f, f - 1e-14, w, "normal equations")


@dataclass(eq=False)
class Relu(Problem):
    """f(x) = sum_i max(0, x_i - kink_i) + 1/2 x_i^2, with every kink `distance` above the first point checked."""

    dim: int = 5
    distance: float = 1e-6

    def __post_init__(self) -> None:
        self.place()

    def place(self) -> None:
        # kinks near the first point that the checks use
        self.kink: Any = 0.0
        first = next(points_around_start(self, 1, stream("check", 0)))
        self.kink = first + self.distance

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        z = x - self.kink
        return np.sum(np.maximum(z, 0) + 0.5 * x * x, axis=-1), np.where(z > 0, 1.0, 0.0) + x


def failures(result: ProblemCheck) -> set[str]:
    return {row.check for row in result.findings if row.passed is False}


# ---- differences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stencil", "error"), [(FORWARD, 1e-7), (CENTERED, 1e-9)])
def test_differences_approximate_the_gradient(stencil: tuple[int, int], error: float) -> None:
    problem, x = Rosenbrock(dim=4), np.array([-1.2, 1.0, 0.3, 2.0])
    g = problem.value_and_grad(x)[1]
    assert np.linalg.norm(gradient_difference(problem, x, stencil=stencil) - g) < error * np.linalg.norm(g)


@pytest.mark.parametrize(("stencil", "order"), [(FORWARD, 1), (CENTERED, 2)])
def test_differences_have_their_order(stencil: tuple[int, int], order: int) -> None:
    """Halving h divides the truncation error by 2^order."""
    problem, x = Beale(), np.array([0.7, -0.4])
    g = problem.value_and_grad(x)[1]
    coarse, fine = (np.linalg.norm(gradient_difference(problem, x, h, stencil) - g) for h in (2e-2, 1e-2))
    assert coarse / fine == pytest.approx(2**order, rel=0.1)


def test_steps_are_exact_in_the_precision() -> None:
    """A slope of 1 is exact for any rounding of x + h."""

    class Sum(Problem):
        dim = 3

        def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
            return x[..., 0] + 0 * x[..., 1], np.ones_like(x)

    x = np.array([1.1, 0.3, 1e5])
    assert gradient_difference(Sum(), x, 1e-7, FORWARD)[0] == 1
    assert gradient_difference(Sum(), x, 1e-5, CENTERED)[0] == 1


def test_hessian_difference() -> None:
    problem, x = StyblinskiTang(dim=4), np.array([0.5, -1.0, 2.0, 0.0])
    H = problem.hessian(x)
    np.testing.assert_allclose(hessian_difference(problem, x), H, atol=1e-8)
    np.testing.assert_allclose(hessian_difference(problem, x, np.array([2, 0])), H[:, [2, 0]], atol=1e-8)


def test_differences_are_taken_at_one_point() -> None:
    with pytest.raises(InputError, match="at one point of shape"):
        gradient_difference(Beale(), np.ones((3, 2)))


def test_chunks_do_not_change_the_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Rosenbrock(dim=9)
    whole = gradient_difference(problem, problem.start(0))
    monkeypatch.setattr("optbench.verify.evaluation.CHUNK_BYTES", 32 * 9 * 2)  # two points per call
    np.testing.assert_array_equal(gradient_difference(problem, problem.start(0)), whole)


# ---- true problems pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [Ridge(), Quadratic(dim=6, noise=0.5), Rosenbrock(dim=3), Relu()], ids=str)
def test_true_problems_pass(problem: Problem) -> None:
    result = check_problem(problem)
    assert result.passed, [row for row in result.findings if row.passed is False]


@pytest.mark.usefixtures("no_host_sync")
def test_checks_run_on_every_backend(backend: Backend) -> None:
    for problem in (Ridge(), Quadratic(dim=6, noise=0.5)):
        assert failures(check_problem(problem.on(backend))) == set()


@pytest.mark.parametrize("module", ["numpy", "strict"])
def test_checks_know_the_precision(module: str) -> None:
    backend = strict_backend("float32") if module == "strict" else get_backend(precision="float32")
    result = check_problem(Ridge().on(backend))
    assert failures(result) == set()
    limit = {row.check: row.limit for row in result.findings}["gradient"]
    assert limit is not None
    assert 1e-4 < limit < 1e-2


def test_findings_describe_what_was_checked() -> None:
    rows = {row.check: row for row in check_problem(Ridge()).findings}
    names = "shapes, repeated calls, value, gradient, each coordinate, hessian, hessian symmetry, hvp, gradient at x*"
    names += (
        ", f(x*) - f*, lower bound of f*, f >= f*, smoothness L, convexity mu, mini-batches, batches by seed, metrics"
    )
    assert ", ".join(rows) == names
    assert all(row.passed for row in rows.values())
    assert "all 4 coordinates at 3 points" in rows["gradient"].note


def test_what_is_not_offered_does_not_fail() -> None:
    rows = {row.check: row for row in check_problem(Relu()).findings}
    for name in ("hessian", "hvp", "optimum", "smoothness L", "convexity mu", "mini-batches"):
        assert rows[name].passed is None
        assert rows[name].note.startswith("not offered: ")


def test_checks_are_reproducible() -> None:
    assert check_problem(Ridge()).findings == check_problem(Ridge()).findings
    assert check_gradient(Beale(), seed=1) != check_gradient(Beale(), seed=2)


def test_large_gradients_are_sampled() -> None:
    (check,) = check_gradient(Quadratic(dim=2500, rotate=False), points=1)
    assert check.coordinates == 2000
    assert check.passed
    notes = {row.check: row.note for row in check_problem(Quadratic(dim=2500, rotate=False)).findings}
    assert "2000 of 2500 coordinates" in notes["gradient"]
    assert "200 of 2500 columns" in notes["hessian"]


# ---- kinks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1e-6, -1e-6, 1e-7, -3e-7])
def test_kinks_are_retried(distance: float) -> None:
    """All five coordinates are within h = 6e-6 of a kink, so the centered difference is the slope of neither side."""
    (check,) = check_gradient(Relu(distance=distance), points=1)
    assert check.centered_error > 1e-3
    assert check.relative_error < 1e-7
    assert check.retried == 5


def test_a_wrong_gradient_at_a_kink_stays_wrong() -> None:
    (check,) = check_gradient(with_oracle(lambda p, x, samples, f, g: (f, g + 1e-4), Relu), points=1)
    assert not check.passed
    assert check.relative_error > 1e-5


def test_retries_are_limited() -> None:
    doubled = with_oracle(lambda p, x, samples, f, g: (f, 2 * g), Quadratic, dim=300, rotate=False)
    (check,) = check_gradient(doubled, points=1)
    assert check.retried == 200
    assert check.relative_error == pytest.approx(1 / 3, rel=1e-3)


# ---- untruths are caught ---------------------------------------------------------------------------------------------


def with_oracle(change: Callable[..., Pair], true: type[Any] = Ridge, **parameters: Any) -> Any:
    """A problem that returns `change(problem, x, samples, f, g)`."""

    class Wrong(true):  # type: ignore[misc]
        def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
            return change(self, x, samples, *super().value_and_grad(x, samples))

    return Wrong(**parameters)


def with_optimum(change: Callable[[float, float, Any], tuple[float, float, Any]]) -> Ridge:
    """A `Ridge` whose optimum is `change(f, lower, x)` of the true one."""

    class Wrong(Ridge):
        def solve(self) -> Optimum:
            true = super().solve()
            return Optimum(*change(true.f, true.lower, true.x), "a guess")

    return Wrong()


def with_changed(name: str, change: Callable[[Any], Any]) -> Ridge:
    """A `Ridge` with one attribute changed: a constant, or its Hessian `H`."""
    problem = Ridge()
    setattr(problem, name, change(getattr(problem, name)))
    return problem


class TransposedHessianProduct(Ridge):
    def hvp(self, x: Any, v: Any) -> Any:
        return super().hvp(x, v[..., ::-1])


class UnscaledBatches(Ridge):
    def loss(self, x: Any, samples: Any) -> Pair:
        f, g = super().loss(x, samples)
        return (f, g) if samples is None else (f * self.n / samples.shape[-1], g * self.n / samples.shape[-1])


class SameBatchForAllSeeds(Ridge):
    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        return super().value_and_grad(x, samples[0] if samples is not None and samples.ndim == 2 else samples)


class Raises(Ridge):
    def hessian(self, x: Any) -> Any:
        raise ZeroDivisionError("no second derivative today\nand a long story")


WRONG = {
    "sign error": (
        with_oracle(lambda p, x, samples, f, g: (f, g * np.array([1.0, 1.0, -1.0, 1.0]))),
        {"gradient", "each coordinate", "hessian", "convexity mu"},
    ),
    "slightly wrong gradient": (
        with_oracle(lambda p, x, samples, f, g: (f, g * (1 + 1e-5))),
        {"gradient", "each coordinate", "smoothness L"},
    ),
    "no gradient of the regularizer": (
        with_oracle(lambda p, x, samples, f, g: (f, g - p.l2 * x)),
        {"gradient", "each coordinate", "hessian", "gradient at x*", "convexity mu"},
    ),
    "asymmetric Hessian": (with_changed("H", lambda H: H + 1e-3 * np.eye(4, k=1)), {"hessian", "hessian symmetry"}),
    "slightly asymmetric Hessian": (with_changed("H", lambda H: H + 1e-9 * np.eye(4, k=1)), {"hessian symmetry"}),
    "transposed Hessian product": (TransposedHessianProduct(), {"hvp"}),
    "wrong lowest value": (
        with_optimum(lambda f, lower, x: (f + 1e-6, lower + 1e-6, x)),
        {"f(x*) - f*", "f >= f*"},
    ),
    "wrong minimizer": (with_optimum(lambda f, lower, x: (f, lower, x + 1e-5)), {"gradient at x*"}),
    "interval upside down": (with_optimum(lambda f, lower, x: (f, f + 1e-3, x)), {"optimum"}),
    "unscaled batches": (UnscaledBatches(), {"mini-batches"}),
    "regularizer scaled by the batch": (
        with_oracle(
            lambda p, x, samples, f, g: (f, g if samples is None else g - p.l2 * x * (1 - samples.shape[-1] / p.n))
        ),
        {"mini-batches"},
    ),
    "same batch for all seeds": (SameBatchForAllSeeds(), {"batches by seed"}),
    "too small L": (with_changed("smoothness", lambda L: 0.99 * L), {"smoothness L"}),
    "too large mu": (with_changed("strong_convexity", lambda mu: 1.01 * mu), {"convexity mu"}),
    "column of values": (
        with_oracle(lambda p, x, samples, f, g: (f[..., None], g)),
        {"shapes", "gradient", "optimum", "mini-batches", "metrics", "repeated calls"},
    ),
    "runs disturb each other": (
        with_oracle(lambda p, x, samples, f, g: (f, g + (0 if x.ndim == 1 else 1e-6 * np.mean(x)))),
        {"shapes", "gradient", "each coordinate", "batches by seed"},
    ),
    "an error": (Raises(), {"hessian", "repeated calls"}),
}


@pytest.mark.parametrize(("problem", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_statements_fail(problem: Ridge, expected: set[str]) -> None:
    assert failures(check_problem(problem)) == expected


# ---- single coordinates ----------------------------------------------------------------------------------------------


def with_coordinate(problem: Problem, i: int, factor: float) -> Problem:
    """A copy whose gradient has one coordinate multiplied by a factor."""
    other = copy.copy(problem)

    def value_and_grad(x: Any, samples: Any = None) -> Pair:
        f, g = problem.value_and_grad(x, samples)
        g = np.array(g)
        g[..., i] *= factor
        return f, g

    vars(other).update(value_and_grad=value_and_grad, value=problem.value)
    return other


LARGE = [
    "rosenbrock:dim=500", "styblinski_tang:dim=2500", "quadratic:dim=1500,rotate=false,condition=1e6",
    "quadratic:dim=300,condition=1e4", "strict_saddle:dim=300", "teacher:activation=relu",
]  # fmt: skip


@pytest.mark.parametrize("spec", [*PROBLEMS.names(), *LARGE])
def test_an_error_of_1e_6_in_one_coordinate_is_found(spec: str, rng: np.random.Generator) -> None:
    """In any coordinate that is not too small beside the rounding of the value, of which the check tells the number."""
    problem = make_problem(spec)
    true = check_gradient(problem, points=1)[0]
    assert true.passed
    assert np.mean(true.unresolved) < 0.2
    resolved = np.flatnonzero(~true.unresolved)
    g = np.abs(problem.value_and_grad(next(points_around_start(problem, 1, stream("check", 0))))[1][resolved])
    chosen = {resolved[np.argmin(g)], resolved[np.argmax(g)], rng.choice(resolved)} if problem.dim < 1000 else {}
    for i in chosen or {rng.choice(resolved)}:
        found = check_gradient(with_coordinate(problem, int(i), 1 + 1e-6), points=1)[0]
        if problem.value_and_grad(problem.start(0))[1][i] != 0:
            assert not found.passed
            assert found.wrong == i


def test_the_note_names_the_wrong_coordinate() -> None:
    rows = {row.check: row for row in check_problem(with_coordinate(Quadratic(dim=40), 7, 1 + 1e-6)).findings}
    assert rows["gradient"].passed
    assert not rows["each coordinate"].passed
    assert rows["each coordinate"].error == pytest.approx(1e-6, rel=0.2)
    assert rows["each coordinate"].note.endswith("wrong coordinate 7")


def test_a_vanishing_coordinate_must_be_zero() -> None:
    """Also by an error that is tiny beside the others."""
    tilted = with_oracle(lambda p, x, samples, f, g: (f, g + 1e-9 * np.eye(4)[3]), Padded)
    assert check_gradient(Padded(), points=1)[0].passed
    assert check_gradient(tilted, points=1)[0].wrong == 3


class Padded(Rosenbrock):
    """Rosenbrock in three dimensions, with a fourth that does not matter."""

    def __init__(self) -> None:
        super().__init__(dim=4)

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = Rosenbrock(dim=3).value_and_grad(x[..., :3])
        return f, np.concatenate([g, np.zeros_like(x[..., 3:])], axis=-1)


# ---- calls do not depend on earlier calls ----------------------------------------------------------------------------


class Drifting(Ridge):
    """Each call adds to the value."""

    calls = 0

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = super().value_and_grad(x, samples)
        self.calls += 1
        return f + 1e-9 * self.calls, g


class RemembersBatches(Ridge):
    """After a mini-batch the gradient is another."""

    factor = 1.0

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = super().value_and_grad(x, samples)
        if samples is not None:
            self.factor = 1 + 1e-10
        return f, g * self.factor if samples is None else g


class RemembersPoint(Ridge):
    """The gradient contains a part of the one before."""

    before: Any = 0.0

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = super().value_and_grad(x, samples)
        mixed = g + 1e-9 * self.before
        self.before = np.max(g)
        return f, mixed


class ChangesPoints(Ridge):
    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        result = super().value_and_grad(x, samples)
        x *= 1 + 1e-12
        return result


class ReusesArrays(Ridge):
    """All gradients of one shape are the same array."""

    def value_and_grad(self, x: Any, samples: Any = None) -> Pair:
        f, g = super().value_and_grad(x, samples)
        cache = vars(self).setdefault("cache", {})
        array = cache.setdefault(g.shape, np.empty_like(g))
        array[...] = g
        return f, array


class OtherValue(Ridge):
    def value(self, x: Any) -> Any:
        return super().value(x) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("kind", "check", "reason"),
    [
        (Drifting, "repeated calls", ""),
        (RemembersBatches, "repeated calls", ""),
        (RemembersPoint, "repeated calls", ""),
        (ChangesPoints, "repeated calls", "a call changes the points x"),
        (ReusesArrays, "repeated calls", "return new arrays"),
        (OtherValue, "value", ""),
    ],
)
def test_values_that_depend_on_other_calls_are_found(kind: type[Ridge], check: str, reason: str) -> None:
    rows = {row.check: row for row in check_problem(kind()).findings}
    assert rows[check].passed is False
    assert reason in rows[check].note


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p, x, samples, f, g: (f, g + 0j), "g has the precision complex128, not float64"),
        (lambda p, x, samples, f, g: (f + 0j, g), "f has the precision complex128, not float64"),
        (lambda p, x, samples, f, g: (f.astype(int), g), "f has the precision int64, not float64"),
        (lambda p, x, samples, f, g: (f, g.astype(object)), "g has the precision object, not float64"),
    ],
)
def test_what_is_not_a_real_float_fails(change: Any, reason: str) -> None:
    finding = check_problem(with_oracle(change)).findings[0]
    assert finding.passed is False
    assert finding.note == f"InputError: {reason}"


def test_an_impossible_optimum_is_a_finding() -> None:
    rows = {row.check: row for row in check_problem(with_optimum(lambda f, lower, x: (np.nan, lower, x))).findings}
    assert rows["optimum"].passed is False
    assert "f is nan; give a finite float" in rows["optimum"].note


def test_only_what_the_check_proves_is_called_proved() -> None:
    def note(problem: Problem) -> str:
        return {row.check: row.note for row in check_problem(problem).findings}["lower bound of f*"]

    assert "proves it, if mu = " in note(Ridge())
    assert "stated by the problem, not proved" in note(Beale())
    assert "stated by the problem, not proved" in note(with_optimum(lambda f, lower, x: (f, f, x + 1e-6)))


def test_what_is_not_finite_fails() -> None:
    result = check_problem(with_oracle(lambda p, x, samples, f, g: (f, g * np.nan)))
    measured = {row.check for row in result.findings if row.error is not None and np.isnan(row.error)}
    assert failures(result) == measured
    assert {"shapes", "gradient", "hessian", "f >= f*", "smoothness L", "convexity mu", "mini-batches"} < measured
    assert all(row.note.startswith("not finite") for row in result.findings if row.check in measured)


def test_a_point_below_the_stated_minimum_is_found() -> None:
    class LocalMinimum(StyblinskiTang):
        def solve(self) -> Optimum:
            x = np.full(2, 2.746802770990)
            f = float(self.value(x))
            return Optimum(f, f, x, "a local minimum")

    assert failures(check_problem(LocalMinimum())) == {"f >= f*"}


def test_biased_noise_is_found() -> None:
    noisy: dict[str, Any] = {"dim": 3, "noise": 0.1}
    biased = with_oracle(lambda p, x, samples, f, g: (f, g if samples is None else g * 1.5), Quadratic, **noisy)
    assert noise_error(Quadratic(**noisy)) < 4
    assert failures(check_problem(biased)) == {"noise"}


def test_errors_become_findings() -> None:
    rows = {row.check: row for row in check_problem(Raises()).findings}
    assert rows["hessian"].note == "ZeroDivisionError: no second derivative today"
    assert rows["gradient"].passed


def test_wrong_metrics_are_found() -> None:
    class Undeclared(Rosenbrock):
        def metrics(self, x: Any) -> Any:
            return {"distance": x[..., 0]}

    class OtherReturn(Rosenbrock):
        def evaluate(self, x: Any) -> Any:
            return self.value_and_grad(x)

    class OtherValue(Rosenbrock):
        def evaluate(self, x: Any) -> Any:
            f, metrics = super().evaluate(x)
            return 1.001 * f, metrics

    for problem in (Undeclared(), OtherReturn(), OtherValue()):
        assert failures(check_problem(problem)) == {"metrics"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p, x, samples, f, g: (f[..., None], g),
            r"f has the shape \(1,\), not \(\), for points of shape \(4,\)",
        ),
        (lambda p, x, samples, f, g: (f, g.astype("float64")), "g has the precision float64, not float32"),
    ],
)
def test_wrong_shapes_and_precisions_fail(change: Any, message: str) -> None:
    finding = check_problem(with_oracle(change).on(get_backend(precision="float32"))).findings[0]
    assert finding.check == "shapes"
    assert re.fullmatch(f"InputError: {message}", finding.note)


def test_the_limit_with_rounding_is_bounded() -> None:
    """A constant of 1e12 hides the gradient in the rounding of f, which must not pass."""

    offset = with_oracle(lambda p, x, samples, f, g: (f + 1e12, -g), Quadratic, dim=3)
    (check,) = check_gradient(offset, points=1)
    assert check.limit == gradients.LARGEST_LIMIT
    assert not check.passed


def test_curvatures_of_a_quadratic() -> None:
    extremes = curvatures(Quadratic(dim=3, condition=10, spectrum="linear"), iterations=100)
    assert extremes == pytest.approx((1, 0.1), rel=1e-9)


def test_a_problem_may_be_a_spec() -> None:
    assert check_problem("quadratic:dim=5").problem.spec == "quadratic:dim=5"
    with pytest.raises(InputError, match="did you mean 'quadratic'"):
        check_problem("quadrati")
