"""Theory of rules and methods: closed forms, rates, lower bounds, special cases, symmetries, and effects of noise.

Stochastic statements are z-tests with fixed seeds over independent runs, |z| < 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.stats

from optbench.core.backend import NUMPY
from optbench.core.registry import OPTIMIZERS
from optbench.core.trace import TARGETS
from optbench.core.types import Array, Oracle
from optbench.optimizer import At, Optimizer, make_recipe
from optbench.optimizers.line_search import BFGS, LBFGS, LineSearchMethod
from optbench.optimizers.schedules import make_schedule
from optbench.runner.loop import minimize
from problems import Logistic, Quadratic, Rosenbrock, StrictSaddle
from tests.conftest import present

# f (R,), g (R, d) and perhaps the Hessian (R, d, d) at x (R, d)
OracleFunction = Callable[[Any], tuple[Any, ...]]


def make(spec: str) -> Optimizer:
    recipe = make_recipe(spec)
    return recipe.build(recipe.settings, None)


def requested(optimizer: Optimizer, oracle: OracleFunction, x0: Any, steps: int) -> np.ndarray:
    """The points at which the optimizer is evaluated, from x0 on; shape (steps + 1, d)."""
    x: Array = np.asarray(x0, dtype=float)[None, :]
    state, points = optimizer.init(x, NUMPY), [x[0]]
    for t in range(1, steps + 1):
        f, g, *hessian = oracle(x)
        x, state = optimizer.step(t, At(x, f[:, None], g, *hessian), state)
        points.append(x[0])
    return np.array(points)


def with_hessian(problem: Any) -> OracleFunction:
    return lambda x: (*problem.value_and_grad(x), problem.hessian(x))


def z_score(sample: np.ndarray, expected: float) -> float:
    return float((sample.mean() - expected) / (sample.std(ddof=1) / math.sqrt(len(sample))))


# ---- closed forms on a quadratic -------------------------------------------------------------------------------------


KAPPA = 100.0
MU, L = 1 / KAPPA, 1.0
QUADRATIC = Quadratic(dim=20, condition=KAPPA)
EIGENVALUES, BASIS = np.linalg.eigh(QUADRATIC.hessian(np.zeros(20)))


def modes(points: np.ndarray) -> np.ndarray:
    """Components of x - x* along the eigenvectors; one row per point."""
    components: np.ndarray = (points - present(QUADRATIC.x_star)) @ BASIS
    return components


def path(name: str, steps: int, **settings: float) -> np.ndarray:
    """The points of a rule with these settings on the quadratic."""
    return requested(make_recipe(name).build(settings), QUADRATIC.value_and_grad, QUADRATIC.start(0), steps)


@pytest.mark.parametrize("lr", [1 / L, 2 / (MU + L), 1.9 / L])
def test_gradient_descent_scales_each_mode(lr: float) -> None:
    c = modes(path("gradient_descent", 200, lr=lr))
    k = np.arange(201)[:, None]
    np.testing.assert_allclose(c, (1 - lr * EIGENVALUES) ** k * c[0], rtol=1e-10, atol=1e-13)


def test_optimal_step_of_gradient_descent() -> None:
    error = np.linalg.norm(modes(path("gradient_descent", 1000, lr=2 / (MU + L))), axis=1)
    # after the decay of the other modes, before rounding matters
    assert (error[1000] / error[700]) ** (1 / 300) == pytest.approx((KAPPA - 1) / (KAPPA + 1), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "limit"),
    [("sgd", {}, 2), ("momentum", {"beta": 0.5}, 2 * 1.5), ("nesterov", {"beta": 0.5}, 2 * 1.5 / (1 + 2 * 0.5))],
)
def test_stability_limit(name: str, settings: dict[str, float], limit: float) -> None:
    """Polyak 1964 for the heavy ball; for Nesterov the root -1 of z^2 - (1 + beta)(1 - lr L) z + beta (1 - lr L)."""
    paths = (path(name, 2000, lr=share * limit / L, **settings) for share in (0.99, 1.01))
    below, above = (np.linalg.norm(modes(points), axis=1) for points in paths)
    assert below[2000] < 1e-3 * below[0]
    assert above[2000] > 1e6 * above[0]


def test_heavy_ball_has_the_rate_of_its_matrix() -> None:
    root = math.sqrt(KAPPA)
    lr, beta = 4 / (math.sqrt(L) + math.sqrt(MU)) ** 2, ((root - 1) / (root + 1)) ** 2
    c = modes(path("momentum", 200, lr=lr, beta=beta))
    for i, eigenvalue in enumerate(EIGENVALUES):
        step = np.array([[1 + beta - lr * eigenvalue, -beta], [1, 0]])
        # at the tuned values there is a double root, which is computed to the square root of the rounding
        assert np.abs(np.linalg.eigvals(step)).max() == pytest.approx(math.sqrt(beta), abs=1e-6)
        pair = np.array([c[0, i], c[0, i]])
        for k in range(201):
            assert c[k, i] == pytest.approx(pair[0], abs=1e-12 * np.abs(c[0]).max())
            pair = step @ pair


def nesterov_points(lr: float, beta: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Look-ahead points y_k as the rule gives them, and x_{k+1} = y_k - lr g(y_k); both as modes."""
    y = path("nesterov", steps, lr=lr, beta=beta)
    return modes(y), modes(y - lr * QUADRATIC.value_and_grad(y)[1])


@pytest.mark.parametrize(
    ("lr", "root", "share"),
    [(1 / L, math.sqrt(KAPPA), 1), (4 / (3 * L + MU), math.sqrt(3 * KAPPA + 1), 2)],
    ids=["standard", "tuned to quadratics"],
)
def test_nesterov_follows_its_textbook_form_and_rate(lr: float, root: float, share: int) -> None:
    beta, rate = (root - share) / (root + share), 1 - share / root
    c_y, c_x = nesterov_points(lr, beta, 150)
    x = y = c_y[0]
    for k in range(150):
        assert c_y[k] == pytest.approx(y, abs=1e-12 * np.abs(c_y[0]).max())
        x, previous = y - lr * EIGENVALUES * y, x
        y = x + beta * (x - previous)
        assert c_x[k] == pytest.approx(x, abs=1e-12 * np.abs(c_y[0]).max())
    steps = [[[(1 + beta) * (1 - lr * e), -beta * (1 - lr * e)], [1, 0]] for e in EIGENVALUES]
    assert np.abs(np.linalg.eigvals(steps)).max() == pytest.approx(rate, abs=1e-6)


def test_nesterov_satisfies_its_bound() -> None:
    """f(x_k) - f* <= (1 - 1/sqrt(kappa))^k (delta_0 + mu/2 |e_0|^2) (Nesterov 2018, theorem 2.2.3)."""
    root = math.sqrt(KAPPA)
    c_y, c_x = nesterov_points(1 / L, (root - 1) / (root + 1), 150)
    start = 0.5 * np.sum((EIGENVALUES + MU) * c_y[0] ** 2)
    k = np.arange(1, 152)
    assert np.all(0.5 * np.sum(EIGENVALUES * c_x**2, axis=1) <= (1 - 1 / root) ** k * start)


@pytest.mark.parametrize("spec", ["adam:lr=0.1", "momentum:lr=0.5", "bfgs", "newton"])
def test_gap_lies_between_the_bounds_of_its_gradient(spec: str) -> None:
    """|g|^2 / (2 L) <= f - f* <= |g|^2 / (2 mu) at every recorded iterate."""
    points = requested(make(spec), with_hessian(QUADRATIC), QUADRATIC.start(1), 60)
    f, g = QUADRATIC.value_and_grad(points)
    square = np.sum(g * g, axis=1)
    assert np.all(square / (2 * L) <= f * (1 + 1e-12))
    assert np.all(f <= square / (2 * MU) * (1 + 1e-12) + 1e-30)


# ---- the chain: rates of convex problems, and what no gradient method can beat ---------------------------------------


LENGTH = 40


def chain(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L/4 (1/2 x^T A x - x_1) with L = 1, less f*; exact zeros of x stay exact zeros of the gradient."""
    left, right = np.zeros_like(x), np.zeros_like(x)
    left[:, 1:], right[:, :-1] = x[:, :-1], x[:, 1:]
    Ax = 2 * x - left - right
    g = Ax / 4
    g[:, 0] -= 0.25
    f = (0.5 * np.sum(x * Ax, axis=1) - x[:, 0]) / 4
    return f + (1 - 1 / (LENGTH + 1)) / 8, g


def test_convex_rate_of_gradient_descent() -> None:
    """delta_k <= L |e_0|^2 / (4 k + 2) at lr = 1/L (Drori & Teboulle 2014, theorem 3.1)."""
    points = requested(make("gradient_descent:lr=1"), chain, np.zeros(LENGTH), 200)
    x_star = 1 - np.arange(1, LENGTH + 1) / (LENGTH + 1)
    assert np.all(chain(points)[0] <= x_star @ x_star / (4 * np.arange(201) + 2))


def gradient_methods() -> list[str]:
    """All methods that use gradients only, those with a learning rate at three values."""
    specs = []
    for recipe in map(make_recipe, OPTIMIZERS.names()):
        if recipe.kind.oracle is Oracle.GRADIENT:
            specs += [f"{recipe.name}:lr={lr}" for lr in (0.01, 0.3, 1.0)] if "lr" in recipe.declared else [recipe.name]
    return [*specs, "lbfgs:memory=1"]


@pytest.mark.parametrize("spec", gradient_methods())
def test_no_gradient_method_beats_the_chain(spec: str) -> None:
    """delta_k >= L/8 (1/(k+1) - 1/(n+1)) after k gradients from 0 (Nesterov 2018, theorem 2.1.7); catches miscounting."""
    points = requested(make(spec), chain, np.zeros(LENGTH), LENGTH - 1)
    bound = (1 / np.arange(1, LENGTH + 1) - 1 / (LENGTH + 1)) / 8
    assert np.all(chain(points)[0] >= bound * (1 - 1e-12))


def test_newton_beats_the_chain() -> None:
    hessian = Quadratic(dim=LENGTH, spectrum="chain").hessian(np.zeros(LENGTH))
    points = requested(make("newton"), lambda x: (*chain(x), hessian[None]), np.zeros(LENGTH), 1)
    assert chain(points)[0][1] < 1e-12


# ---- Newton ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [10.0, 1e3, 1e6])
def test_newton_solves_a_quadratic_in_one_step(condition: float) -> None:
    problem = Quadratic(dim=15, condition=condition)
    points = requested(make("newton"), with_hessian(problem), problem.start(0), 1)
    start, end = np.linalg.norm(points - problem.x_star, axis=1)
    assert end <= 10 * condition * np.finfo(float).eps * start


def test_newton_has_order_two_on_logistic_regression() -> None:
    problem = Logistic(data="breast_cancer")
    points = requested(make("newton"), with_hessian(problem), problem.start(0), 12)
    error = np.linalg.norm(points - problem.x_star, axis=1)
    error = error[(error < 3) & (error > 1e-9)]
    orders = np.log(error[2:] / error[1:-1]) / np.log(error[1:-1] / error[:-2])
    assert orders[-1] == pytest.approx(2, abs=0.25)


def test_newton_on_a_quartic_has_ratio_two_thirds() -> None:
    def quartic(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return x[:, 0] ** 4, 4 * x**3, 12 * x[:, :, None] ** 2

    points = requested(make("newton"), quartic, [2.0], 30)
    np.testing.assert_allclose(points[1:, 0] / points[:-1, 0], 2 / 3, rtol=1e-14)


# ---- quasi-Newton: line search and secants ---------------------------------------------------------------------------


def rosenbrock(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return with_hessian(Rosenbrock(dim=6))(x)


def plain(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """A quadratic so flat that the first trials are too short."""
    return tuple(1e-3 * part for part in with_hessian(Quadratic(dim=6, condition=50))(x))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("newton", rosenbrock), ("bfgs", rosenbrock), ("lbfgs", rosenbrock), ("bfgs", plain), ("lbfgs", plain)],
)
def test_accepted_points_satisfy_the_wolfe_conditions(name: str, oracle: OracleFunction) -> None:
    optimizer = make(name)
    assert isinstance(optimizer, LineSearchMethod)
    x = Rosenbrock(dim=6).start(3)[None, :]
    state, accepted, refused = optimizer.init(x, NUMPY), 0, 0
    for t in range(1, 60):
        f, g, hessian = oracle(x)
        before = state
        x, state = optimizer.step(t, At(x, f[:, None], g, hessian), before)
        assert state.slope <= 0
        moved = not np.array_equal(state.x, before.x)
        if t > 1 and moved and f > 1e-20:  # t = 1 is the start point; for smaller f, rounding decides
            accepted += 1
            s, y = state.x - before.x, state.g - before.g
            assert f <= before.f + 1e-4 * before.alpha * before.slope
            assert g[0] @ before.p[0] >= 0.9 * before.slope
            assert s[0] @ y[0] > 0
            if name == "bfgs":
                assert state.model.h[0] @ y[0] == pytest.approx(s[0], rel=1e-8, abs=1e-10 * np.abs(s).max())
        refused += t > 1 and not moved
    assert accepted > 10
    assert refused > 0  # else no trial was rejected


@pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs"])
def test_line_searches_continue_if_rounding_hides_the_decrease(name: str) -> None:
    """Values of 1e6 have errors of one or two ulps, while gradients are accurate."""

    def rounded(x: np.ndarray) -> tuple[np.ndarray, ...]:
        f, *derivatives = bowl(x)
        return f + 1e6 + 2e-10 * np.sin(1e12 * x[:, 0]), *derivatives

    points = requested(make(name), rounded, START, 40)
    assert np.linalg.norm(bowl(points)[1], axis=1).min() < 1e-12


def test_newton_leaves_a_saddle() -> None:
    """The step along negative curvature has the length of Newton's step towards the saddle."""
    problem = StrictSaddle(offset=1e-3)
    points = requested(make("newton"), with_hessian(problem), problem.start(0), 30)
    assert points[1] == pytest.approx([0, 2e-3], abs=1e-8)
    assert points[-1] == pytest.approx([0, 1], abs=1e-12)


@pytest.mark.parametrize("method", [BFGS(), LBFGS(memory=1), LBFGS(memory=10)], ids=["bfgs", "lbfgs 1", "lbfgs 10"])
def test_exact_line_searches_end_after_d_steps(method: Any) -> None:
    """With exact steps on a quadratic the directions are those of conjugate gradients (Nocedal & Wright 2006, 6.4)."""
    problem = Quadratic(dim=6, condition=10)
    H, x = problem.hessian(np.zeros(6)), problem.start(0)[None, :]
    method.init(x, NUMPY)
    model, yes = method.model_init(x, NUMPY), np.array([[True]])
    _, g = problem.value_and_grad(x)
    conjugate, last = -g[0], g[0]
    start = np.linalg.norm(x - problem.x_star)
    for _ in range(6):
        p = method.direction(model, g)
        assert p[0] / np.linalg.norm(p) == pytest.approx(conjugate / np.linalg.norm(conjugate), abs=1e-8)
        s = -(g[0] @ p[0]) / (p[0] @ H @ p[0]) * p
        x, y = x + s, s @ H
        _, g = problem.value_and_grad(x)
        model = method.model_update(model, yes, ~yes, s, y, At(x, x[:, :1], g))
        conjugate, last = -g[0] + (g[0] @ g[0]) / (last @ last) * conjugate, g[0]
    assert np.linalg.norm(x - problem.x_star) < 1e-10 * start
    if isinstance(method, BFGS):
        np.testing.assert_allclose(model.h[0], np.linalg.inv(H), rtol=1e-6, atol=1e-7)


def test_lbfgs_with_full_memory_is_bfgs() -> None:
    """Directions are equal for the same first matrix, without the scaling of L-BFGS by each pair."""
    rng = np.random.default_rng(0)
    full, limited = BFGS(), LBFGS(memory=8)
    x = rng.standard_normal((3, 5))
    full.init(x, NUMPY), limited.init(x, NUMPY)
    one, other = full.model_init(x, NUMPY), limited.model_init(x, NUMPY)
    yes, gamma = np.ones((3, 1), dtype=bool), None
    for _ in range(7):
        s, g = rng.standard_normal((2, 3, 5))
        y = s * np.arange(1, 6) + 0.1 * rng.standard_normal((3, 5)) * np.abs(s)
        at = At(x, x[:, :1], g)
        one = full.model_update(one, yes, ~yes, s, y, at)
        other = limited.model_update(other, yes, ~yes, s, y, at)
        gamma = other.gamma if gamma is None else gamma
        expected = full.direction(one, g)
        np.testing.assert_allclose(limited.direction(other._replace(gamma=gamma), g), expected, rtol=1e-9, atol=1e-12)


# ---- inclusions and symmetries ---------------------------------------------------------------------------------------


def bowl(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """A strictly convex function without symmetries: sum of log cosh of affine functions, and a weak quadratic."""
    A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -0.7], [-1.0, 0.4, 0.6], [0.2, 0.9, 1.4]])
    margin = x @ A.T - [0.5, -1.0, 0.3, 0.8]
    t = np.tanh(margin)
    f = np.sum(np.log(np.cosh(margin)), axis=1) + 0.05 * np.sum(x * x, axis=1)
    return f, t @ A + 0.1 * x, (A.T * (1 - t * t)[:, None, :]) @ A + 0.1 * np.eye(3)


START = np.array([1.0, -0.7, 0.4])


SPECIAL_CASES = [
    (f"{name}:{settings}", other)
    for name in OPTIMIZERS.names()
    for settings, other in make_recipe(name).traits.special_cases.items()
]


@pytest.mark.parametrize(("special", "other"), SPECIAL_CASES)
def test_special_cases(special: str, other: str) -> None:
    a, b = (requested(make(spec), bowl, START, 30) for spec in (special, other))
    np.testing.assert_allclose(a, b, rtol=1e-15, atol=1e-15)


def test_adam_without_averages_is_the_sign_of_the_gradient() -> None:
    points = requested(make("adam:beta1=0,beta2=0,eps=0,lr=0.01"), bowl, START, 30)
    np.testing.assert_allclose(np.diff(points, axis=0), -0.01 * np.sign(bowl(points[:-1])[1]), rtol=1e-12)


class Change(NamedTuple):
    """A change of the problem: coordinates z with x = M z + shift, and values c f."""

    M: np.ndarray
    shift: float = 0.0
    c: float = 1.0

    def oracle(self, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """The bowl as a function of z."""
        f, g, hessian = bowl(self.x(z))
        return self.c * f, self.c * g @ self.M, self.c * (self.M.T @ hessian @ self.M)

    def x(self, z: np.ndarray) -> np.ndarray:
        x: np.ndarray = z @ self.M.T + self.shift
        return x

    def z(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.M, x - self.shift)


CHANGES = {
    "rotation": Change(np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]),
    "flip": Change(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])),  # a permutation with signs
    "shift": Change(np.eye(3), shift=3.0),
    "affine": Change(np.array([[2.0, 0.3, 0.0], [-0.4, 0.5, 0.2], [0.1, 0.0, 4.0]]), shift=1.0),
    "scale": Change(np.eye(3), c=2.0**-6),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS.names() if not make_recipe(name).kind.draws])
def test_equivariances(name: str, change: str) -> None:
    """Changes of the problem that commute with a method, and changes that do not."""
    recipe, changed = make_recipe(name), CHANGES[change]
    settings = {key: 0.05 for key in ("lr", recipe.traits.decay) if key in recipe.declared}
    if change == "scale" and "eps" in recipe.declared:
        settings["eps"] = 0.0
    optimizer = recipe.build(settings)
    plain = requested(optimizer, bowl, START, 15)
    z = requested(optimizer, changed.oracle, changed.z(START), 15)
    difference = float(np.abs(changed.x(z) - plain).max())
    assert difference < 1e-9 if change in recipe.traits.equivariances else difference > 1e-4


# ---- adaptive rules on constant gradients ----------------------------------------------------------------------------


def constant(*slopes: float) -> OracleFunction:
    g = np.array([slopes])
    return lambda x: (x @ g[0], g)


def test_adam_steps_by_the_learning_rate_on_a_constant_gradient() -> None:
    g, eps = np.array([3.0, -1e-4, 1e-8]), 1e-8
    moved = np.diff(requested(make(f"adam:lr=0.01,eps={eps}"), constant(*g), np.zeros(3), 300), axis=0)
    np.testing.assert_allclose(moved, np.broadcast_to(-0.01 * g / (np.abs(g) + eps), moved.shape), rtol=1e-9)


@pytest.mark.parametrize("zeros", [10, 2000, 20000])
def test_adam_leaps_on_a_gradient_after_zeros(zeros: int) -> None:
    """Step / lr = (1 - beta1) / sqrt(1 - beta2) sqrt(1 - beta2^t) / (1 - beta1^t): up to 3.16 learning rates."""
    x: Array = np.zeros((1, 1))
    adam = make("adam:lr=1,eps=0.001")
    state = adam.init(x, NUMPY)
    for t in range(1, zeros + 1, max(1, zeros // 10)):  # the averages of zeros are zero at any t
        x, state = adam.step(t, At(x, x, np.zeros((1, 1))), state)
    t, g = zeros + 1, 1e9
    x, _ = adam.step(t, At(x, x, np.full((1, 1), g)), state)
    expected = (1 - 0.9) / math.sqrt(1 - 0.999) * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    assert -x[0, 0] == pytest.approx(expected, rel=1e-9)


def test_adagrad_and_rmsprop_on_a_constant_gradient() -> None:
    t = np.arange(1, 201)
    for spec, steps in (("adagrad:lr=0.1,eps=0", t**-0.5), ("rmsprop:lr=0.1,eps=0,rho=0.9", (1 - 0.9**t) ** -0.5)):
        moved = np.diff(requested(make(spec), constant(2.5), np.zeros(1), 200), axis=0)[:, 0]
        np.testing.assert_allclose(moved, -0.1 * steps, rtol=1e-11)


def test_decoupled_decay_shrinks_and_coupled_l2_does_not() -> None:
    """Without a gradient AdamW is x_t = (1 - lr decay)^t x_0, while Adam divides l2 x by its own size."""
    x0, t = np.array([3.0, -0.02]), np.arange(101)[:, None]
    decoupled = requested(make("adamw:lr=0.1,weight_decay=0.2"), constant(0.0, 0.0), x0, 100)
    np.testing.assert_allclose(decoupled, (1 - 0.1 * 0.2) ** t * x0, rtol=1e-13)
    coupled = requested(make("adam_l2:lr=0.001,l2=0.2"), constant(0.0, 0.0), x0, 1)
    np.testing.assert_allclose(coupled[1] - x0, -0.001 * np.sign(x0), rtol=1e-5)


# ---- noise, saddles and random search --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "drops", "inverse_sqrt", "linear:warmup=0.2"])
def test_sgd_with_noise_in_the_mean(schedule: str, batch: int | None) -> None:
    """E delta = 1/2 sum lambda (m^2 + v), m <- (1 - lr_k lambda) m, v <- (1 - lr_k lambda)^2 v + lr_k^2 sigma^2 / b."""
    problem, steps, lr = Quadratic(dim=6, condition=10, rotate=False, noise=0.5), 60, 0.4
    _, factor = make_schedule(schedule)
    sgd = make_recipe("sgd").build({"lr": lr}, lambda t: factor(t, steps))
    x0 = np.ones(6)
    starts = np.tile(x0, (400, 1))
    trace = minimize(problem, sgd, starts, seeds=range(400), steps=steps, batch_size=batch, checkpoint_count=5)
    m, v = x0 - present(problem.x_star), np.zeros(6)
    for t in range(steps):
        rate = lr * factor(t, steps)
        shrink = 1 - rate * problem.eigenvalues
        m, v = shrink * m, shrink**2 * v + rate**2 * 0.25 / (batch or 1)
    assert abs(z_score(trace.f_end, 0.5 * np.sum(problem.eigenvalues * (m**2 + v)))) < 4


def test_noise_floor_of_sgd() -> None:
    """In the long run the excess is sum over modes of lr sigma^2 / (2 b (2 - lr lambda))."""
    problem, lr = Quadratic(dim=6, condition=10, rotate=False, noise=0.5), 0.4
    sgd = make_recipe("sgd").build({"lr": lr}, None)
    x0 = np.tile(present(problem.x_star), (400, 1))
    trace = minimize(problem, sgd, x0, seeds=range(400), steps=150, checkpoint_count=5)
    assert abs(z_score(trace.f_end, np.sum(lr * 0.25 / (2 * (2 - lr * problem.eigenvalues))))) < 4


def test_gradient_descent_leaves_a_strict_saddle_in_logarithmic_time() -> None:
    descent, problems = make("gradient_descent:lr=0.1"), [StrictSaddle(offset=offset) for offset in (1e-6, 0.0)]
    away, on = (np.abs(requested(descent, p.value_and_grad, p.start(0), 400)[:, -1]) for p in problems)
    assert np.argmax(away > 0.1) == math.ceil(math.log(0.1 / 1e-6) / math.log(1.1)) == 121
    assert away[-1] == pytest.approx(1)
    assert not on.any()


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_random_search_hits_with_its_chi_square_probability(scale: float) -> None:
    """Gaussian points around x_0: |x - x*|^2 / scale^2 is noncentral chi-square, so the first hit is geometric."""
    problem = Quadratic(dim=3, condition=1, rotate=False)  # f = 1/2 |x - x*|^2
    offset, runs, target = np.array([0.8, -0.3, 0.4]), 600, 1
    search = make_recipe("random_search").build({"scale": scale}, None)
    starts = np.tile(problem.x_star + offset, (runs, 1))
    trace = minimize(problem, search, starts, seeds=range(runs), steps=1500, checkpoint_count=2)
    square = offset @ offset
    p = scipy.stats.ncx2.cdf(TARGETS[target] * square / scale**2, 3, square / scale**2)
    hits = trace.steps_to_target[:, target]
    assert np.isfinite(hits).all()
    assert abs((hits.mean() - 1 / p) / (math.sqrt(1 - p) / p / math.sqrt(runs))) < 4
    reached = np.mean(hits <= 5)
    expected = 1 - (1 - p) ** 5
    assert abs((reached - expected) / math.sqrt(expected * (1 - expected) / runs)) < 4


@pytest.mark.parametrize("name", ["random_search", "local_search"])
def test_centers_of_random_search(name: str) -> None:
    rng, x0 = np.random.default_rng(0), np.ones((1, 4))
    search = make(f"{name}:scale=0.3")
    x: Array = x0
    state, best = search.init(x0, NUMPY), x
    for t in range(1, 50):
        z, f = rng.standard_normal((1, 4)), np.sum(x * x, axis=1, keepdims=True)
        best = x if f < np.sum(best * best) else best
        x, state = search.step(t, At(x, f, z=z), state)
        np.testing.assert_allclose(x, (best if name == "local_search" else x0) + 0.3 * z, rtol=1e-14)
