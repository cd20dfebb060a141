"""Classic functions of the optimization literature in closed form: curved valleys, several minima, and saddles.

Each class has the formulas of value, gradient and Hessian. Common code is in `Landscape`, and in `Plane` for functions of
two variables x and y. Only start points are random; they scatter around the classic start of the literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

import numpy as np

from optbench.core.errors import InputError
from optbench.core.specs import MAX_DIM, NONNEGATIVE, POSITIVE, Interval
from optbench.core.types import Array
from optbench.problem import Optimum, Problem, View, problem


class Landscape(Problem):
    """A smooth function in closed form, with a classic start point and known minimizers.

    Attributes
    ----------
    minimizers : array of shape (k, d)
        All k global minimizers (NumPy, float64); the first is `x_star`.
    classic_start : array of shape (d,)
        The start point of the literature (NumPy, float64).
    spread : float
        Standard deviation of the Gaussian perturbation of each coordinate of the start.
    view : ((float, float), (float, float))
        Ranges of x and of y with the minima and the start in two dimensions.
    minimum : Fraction
        The smallest value, up to an error far below the rounding of floats.
    """

    spread: ClassVar[float] = 0.1
    view: View | None
    classic_start: np.ndarray
    minimizers: np.ndarray
    minimum = Fraction(0)

    def place(self) -> None:
        self.xp = self.backend.xp

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective (...) and gradient (..., d) at points (..., d); `samples` as in `Problem.value_and_grad`."""
        if samples is not None:
            raise InputError(f"{self.spec} has an exact oracle and takes no samples")
        return self.closed_form(self.points(x))

    def closed_form(self, x: Array) -> tuple[Array, Array]:
        """Value (...) and gradient (..., d) at points (..., d)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement closed_form()")

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """The classic start plus Gaussian noise of standard deviation `spread`; (d,)."""
        return self.classic_start + self.spread * rng.standard_normal(self.dim)

    def solve(self) -> Optimum:
        return Optimum.of_exact(self.minimum, self.minimizers[0], "closed form")

    def curvatures(self, x: Array) -> Array:
        """The diagonal of the Hessian, (..., d), at points (..., d)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement curvatures()")

    def hessian(self, x: Array) -> Array:
        """Hessians (..., d, d) at points (..., d), diagonal unless a subclass adds to it."""
        self.check_hessian_dim()
        h = self.curvatures(self.points(x))
        return self.xp.eye(self.dim, dtype=h.dtype, device=self.backend.device) * h[..., None]

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        return self.curvatures(self.points(x)) * self.points(v)


class Plane(Landscape):
    """A landscape of two variables x and y; subclasses implement partial derivatives."""

    dim = 2

    def __post_init__(self) -> None:
        self.check_parameters()
        self.place()
        self.seal()

    def partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """f, df/dx and df/dy, each of the shape of x and y."""
        raise NotImplementedError(f"{type(self).__name__} does not implement partials()")

    def second_partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """d2f/dx2, d2f/dxdy and d2f/dy2, each of the shape of x and y."""
        raise NotImplementedError(f"{type(self).__name__} does not implement second_partials()")

    def closed_form(self, x: Array) -> tuple[Array, Array]:
        f, f_x, f_y = self.partials(x[..., 0], x[..., 1])
        return f, self.xp.stack([f_x, f_y], axis=-1)

    def hessian(self, x: Array) -> Array:
        """Hessians (..., d, d) at points (..., d)."""
        x = self.points(x)
        f_xx, f_xy, f_yy = self.second_partials(x[..., 0], x[..., 1])
        stack = self.xp.stack
        return stack([stack([f_xx, f_xy], axis=-1), stack([f_xy, f_yy], axis=-1)], axis=-2)

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        x, v = self.points(x), self.points(v)
        f_xx, f_xy, f_yy = self.second_partials(x[..., 0], x[..., 1])
        v_x, v_y = v[..., 0], v[..., 1]
        return self.xp.stack([f_xx * v_x + f_xy * v_y, f_xy * v_x + f_yy * v_y], axis=-1)


@problem("rosenbrock")
@dataclass(eq=False)
class Rosenbrock(Landscape):
    """f(x) = sum over i < d of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2: a flat, curved valley.

    The only global minimizer is (1, ..., 1). For dim >= 4 there is a local minimum near (-1, 1, ..., 1) (with value 3.70143
    for dim = 4), so a run that does not reach f* = 0 may not be slow but in this minimum. Starts scatter around
    (-1.2, 1, -1.2, 1, ...) with standard deviation 0.1.

    Parameters
    ----------
    dim : int
        Number of parameters, at least 2.

    References
    ----------
    Rosenbrock, The Computer Journal 3 (1960) 175-184; start: More, Garbow & Hillstrom, ACM TOMS 7 (1981) 17-41, problem
    1; second minimum: Shang & Qiu, Evolutionary Computation 14 (2006) 119-126.

    Examples
    --------
    >>> f, g = optbench.problems.Rosenbrock(dim=3).value_and_grad(np.array([0.0, 0.0, 0.0]))
    >>> float(f), g.tolist()
    (2.0, [-2.0, -2.0, 0.0])
    """

    citation = "Rosenbrock, The Computer Journal 3 (1960) 175-184; More, Garbow & Hillstrom, ACM TOMS 7 (1981) 17-41"
    formula = "f(x) = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2"
    view = ((-2.0, 2.0), (-1.0, 3.0))

    dim: Annotated[int, Interval(2, MAX_DIM)] = 2

    def __post_init__(self) -> None:
        self.check_parameters()
        self.classic_start = np.resize([-1.2, 1.0], self.dim)
        self.minimizers = np.ones((1, self.dim))
        self.place()
        self.seal()

    def closed_form(self, x: Array) -> tuple[Array, Array]:
        a, b = x[..., :-1], x[..., 1:]  # x_i and x_{i+1}, (..., d - 1)
        r = b - a * a
        f = self.xp.sum(100 * r * r + (1 - a) ** 2, axis=-1)
        return f, self._add(-400 * a * r - 2 * (1 - a), 200 * r)

    def _add(self, by_a: Array, by_b: Array) -> Array:
        """Sums over terms i of their parts for coordinates i and i + 1: (..., d - 1) twice gives (..., d)."""
        zero = self.xp.zeros_like(by_a[..., :1])
        return self.xp.concat([by_a, zero], axis=-1) + self.xp.concat([zero, by_b], axis=-1)

    def curvatures(self, x: Array) -> Array:
        a, b = x[..., :-1], x[..., 1:]
        return self._add(1200 * a * a - 400 * b + 2, self.xp.full_like(b, 200.0))

    def hessian(self, x: Array) -> Array:
        """Hessians (..., d, d) at points (..., d)."""
        x = self.points(x)
        band = -400 * x[..., :-1]  # next to the diagonal, (..., d - 1)
        shift = self.xp.eye(self.dim, k=1, dtype=x.dtype, device=self.backend.device)
        upper = shift * self.xp.concat([band, self.xp.zeros_like(band[..., :1])], axis=-1)[..., None]
        return super().hessian(x) + upper + self.xp.matrix_transpose(upper)

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        x, v = self.points(x), self.points(v)
        band = -400 * x[..., :-1]
        return super().hvp(x, v) + self._add(band * v[..., 1:], band * v[..., :-1])


@problem("beale")
@dataclass(eq=False)
class Beale(Plane):
    """f(x, y) = (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2: a steep cross on a wide plain.

    Minimizer (3, 1/2) with f* = 0. Starts scatter around (1, 1) with standard deviation 0.1.

    References
    ----------
    Beale, Technical Report 25, Statistical Techniques Research Group, Princeton (1958); start: More, Garbow &
    Hillstrom, ACM TOMS 7 (1981) 17-41, problem 5.

    Examples
    --------
    >>> float(optbench.problems.Beale().value(np.array([3.0, 0.5])))
    0.0
    """

    citation = "Beale, Technical Report 25, Princeton (1958); More, Garbow & Hillstrom, ACM TOMS 7 (1981) 17-41"
    formula = "f(x, y) = (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2"
    view = ((-1.0, 4.5), (-1.5, 1.5))
    classic_start = np.array([1.0, 1.0])
    minimizers = np.array([[3.0, 0.5]])

    def partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        y2, y3 = y * y, y * y * y
        a, b, c = 1.5 - x + x * y, 2.25 - x + x * y2, 2.625 - x + x * y3
        f = a * a + b * b + c * c
        f_x = 2 * (a * (y - 1) + b * (y2 - 1) + c * (y3 - 1))
        f_y = 2 * x * (a + 2 * b * y + 3 * c * y2)
        return f, f_x, f_y

    def second_partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        y2, y3 = y * y, y * y * y
        a, b, c = 1.5 - x + x * y, 2.25 - x + x * y2, 2.625 - x + x * y3
        f_xx = 2 * ((y - 1) ** 2 + (y2 - 1) ** 2 + (y3 - 1) ** 2)
        f_xy = 2 * (a + 2 * b * y + 3 * c * y2) + 2 * x * ((y - 1) + 2 * y * (y2 - 1) + 3 * y2 * (y3 - 1))
        f_yy = 2 * x * (x + 2 * b + 4 * x * y2 + 6 * c * y + 9 * x * y2 * y2)
        return f_xx, f_xy, f_yy


@problem("himmelblau")
@dataclass(eq=False)
class Himmelblau(Plane):
    """f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2: four minima of equal depth.

    Minimizers (3, 2), (-3.779310, -3.283186), (-2.805118, 3.131313) and (3.584428, -1.848127), all with f* = 0. Starts
    scatter around the origin, near the local maximum between them, with standard deviation 0.1.

    References
    ----------
    Himmelblau, Applied Nonlinear Programming (McGraw-Hill 1972).

    Examples
    --------
    >>> problem = optbench.problems.Himmelblau()
    >>> float(problem.value(np.zeros(2))), problem.minimizers.shape
    (170.0, (4, 2))
    """

    citation = "Himmelblau, Applied Nonlinear Programming (1972)"
    formula = "f(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2"
    view = ((-5.0, 5.0), (-5.0, 5.0))
    classic_start = np.zeros(2)
    minimizers = np.transpose(
        [
            [3.0, -3.779310253377747, -2.805118086952745, 3.5844283403304917],
            [2.0, -3.2831859912861696, 3.131312518250573, -1.8481265269644034],
        ]
    )

    def partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        a, b = x * x + y - 11, x + y * y - 7
        return a * a + b * b, 4 * x * a + 2 * b, 2 * a + 4 * y * b

    def second_partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        a, b = x * x + y - 11, x + y * y - 7
        return 4 * a + 8 * x * x + 2, 4 * x + 4 * y, 4 * b + 8 * y * y + 2


@problem("styblinski_tang")
@dataclass(eq=False)
class StyblinskiTang(Landscape):
    """f(x) = 1/2 sum_i x_i^4 - 16 x_i^2 + 5 x_i: two minima along each coordinate, 2^d in all, one of them global.

    The minimizer has all coordinates at the lowest root -2.903534 of f' = 2 t^3 - 16 t + 5/2, and f* = -39.166166 d.
    Starts scatter around the origin with standard deviation 0.1. A coordinate that starts above the middle root 0.1567 is
    in the basin of the local minimum 2.746803, where f is larger by 14.14.

    Parameters
    ----------
    dim : int
        Number of parameters, at least 1.

    References
    ----------
    Styblinski & Tang, Neural Networks 3 (1990) 467-483.

    Examples
    --------
    >>> problem = optbench.problems.StyblinskiTang(dim=3)
    >>> round(problem.f_star, 4), problem.x_star.round(4).tolist()
    (-117.4985, [-2.9035, -2.9035, -2.9035])
    """

    citation = "Styblinski & Tang, Neural Networks 3 (1990) 467-483"
    formula = "f(x) = 1/2 sum_i (x_i^4 - 16 x_i^2 + 5 x_i)"
    view = ((-4.5, 4.5), (-4.5, 4.5))

    dim: Annotated[int, Interval(1, MAX_DIM)] = 2

    def __post_init__(self) -> None:
        self.check_parameters()
        t = -2.903534027771177  # the lowest root of f' = 2 t^3 - 16 t + 5/2, to the last digit
        self.classic_start = np.zeros(self.dim)
        self.minimizers = np.full((1, self.dim), t)
        # f is exact at t, and f' there, below 1e-14, moves the minimum by less than 1e-29
        self.minimum = self.dim * (Fraction(t) ** 4 - 16 * Fraction(t) ** 2 + 5 * Fraction(t)) / 2
        self.place()
        self.seal()

    def closed_form(self, x: Array) -> tuple[Array, Array]:
        x2 = x * x
        f = 0.5 * self.xp.sum(x2 * x2 - 16 * x2 + 5 * x, axis=-1)
        return f, 2 * x2 * x - 16 * x + 2.5

    def curvatures(self, x: Array) -> Array:
        return 6 * x * x - 16


@problem("strict_saddle")
@dataclass(eq=False)
class StrictSaddle(Landscape):
    """f(x, y) = 1/2 sum_i lambda_i x_i^2 - 1/2 y^2 + 1/4 y^4: a saddle at 0 between two minima.

    The d - 1 curvatures lambda_i are log-spaced from `curvature` down to 1, and y is the last coordinate. Minimizers
    x = 0, y = 1 and y = -1, with f* = -1/4. The value is computed as 1/2 sum lambda_i x_i^2 + 1/4 (y^2 - 1)^2 - 1/4, which
    rounding cannot decrease below f*. Starts have y = `offset` exactly, and x_i scattered around 1 with standard deviation
    0.1. Gradient descent with learning rate lr needs about log(1 / offset) / log(1 + lr) steps to leave the saddle.

    Parameters
    ----------
    dim : int
        Number of parameters, at least 2.
    curvature : float
        Largest curvature lambda across the escape direction, at least 1; the only one for dim = 2.
    offset : float
        Distance of the start from the saddle along the escape direction, at least 0; at 0 descent ends there.

    References
    ----------
    Nesterov, Introductory Lectures on Convex Optimization (2004), section 1.2.3 (the function at d = 2, lambda = 1);
    Lee, Simchowitz, Jordan & Recht, Gradient Descent Only Converges to Minimizers, COLT 2016 (strict saddles).

    Examples
    --------
    >>> f, g = optbench.problems.StrictSaddle(curvature=4).value_and_grad(np.array([1.0, 0.0]))
    >>> float(f), g.tolist()
    (2.0, [4.0, 0.0])
    """

    citation = "Nesterov, Introductory Lectures on Convex Optimization (2004), section 1.2.3; Lee et al., COLT 2016"
    formula = "f(x, y) = 1/2 sum_i lambda_i x_i^2 - 1/2 y^2 + 1/4 y^4"
    view = ((-1.5, 1.5), (-1.5, 1.5))
    minimum = Fraction(-1, 4)

    dim: Annotated[int, Interval(2, MAX_DIM)] = 2
    curvature: Annotated[float, Interval(1)] = 10.0
    offset: Annotated[float, NONNEGATIVE] = 1e-3

    def __post_init__(self) -> None:
        self.check_parameters()
        # lambda_i, and 0 for y, whose curvature is not constant
        self._lambdas = np.append(np.geomspace(self.curvature, 1, self.dim - 1), 0.0)  # (d,)
        self.classic_start = np.append(np.ones(self.dim - 1), self.offset)
        self.minimizers = np.zeros((2, self.dim))
        self.minimizers[:, -1] = 1, -1
        self.place()
        self.seal()

    def place(self) -> None:
        super().place()
        self.lambdas = self.backend.asarray(self._lambdas)  # (d,)
        self.escape = self.backend.asarray(np.arange(self.dim) == self.dim - 1)  # unit vector along y, (d,)

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """(1, ..., 1) plus Gaussian noise of standard deviation `spread`, with y = `offset`; (d,)."""
        start = super().draw_start(rng)
        start[-1] = self.offset
        return start

    def closed_form(self, x: Array) -> tuple[Array, Array]:
        y = x[..., -1:]  # (..., 1)
        g = self.lambdas * x
        w = y * y - 1
        f = 0.5 * self.xp.sum(g * x, axis=-1) + (0.25 * w * w - 0.25)[..., 0]
        return f, g + self.escape * (y * w)

    def curvatures(self, x: Array) -> Array:
        y = x[..., -1:]
        return self.lambdas + self.escape * (3 * y * y - 1)  # (..., d)


@problem("monkey_saddle")
@dataclass(eq=False)
class MonkeySaddle(Plane):
    """f(x, y) = x^3 - 3 x y^2 + 3/4 (x^2 + y^2)^2: three descents from a saddle with zero Hessian.

    The quartic bounds the monkey saddle from below. In polar coordinates f = r^3 cos(3 theta) + 3/4 r^4, so the minimizers
    are (-1, 0), (1/2, sqrt(3)/2) and (1/2, -sqrt(3)/2), with f* = -1/4. Starts have distance `offset` from the saddle and a
    uniformly random direction; the classic start is at 45 degrees.

    Parameters
    ----------
    offset : float
        Distance of the start from the saddle, above 0.

    References
    ----------
    Hilbert & Cohn-Vossen, Anschauliche Geometrie (1932) (the surface); Anandkumar & Ge, Efficient
    Approaches for Escaping Higher Order Saddle Points in Non-Convex Optimization, COLT 2016 (as an optimization problem).

    Examples
    --------
    >>> optbench.problems.MonkeySaddle().hessian(np.zeros(2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """

    citation = "Anandkumar & Ge, Efficient Approaches for Escaping Higher Order Saddle Points, COLT 2016"
    formula = "f(x, y) = x^3 - 3 x y^2 + 3/4 (x^2 + y^2)^2"
    view = ((-1.5, 1.5), (-1.5, 1.5))
    minimum = Fraction(-1, 4)
    minimizers = np.array([[-1.0, 0.0], [0.5, 0.75**0.5], [0.5, -(0.75**0.5)]])

    offset: Annotated[float, POSITIVE] = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classic_start = np.full(2, self.offset * 0.5**0.5)
        self.seal()

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """A point at distance `offset` from the saddle in a uniformly random direction; (2,)."""
        theta = rng.uniform(0, 2 * np.pi)
        return self.offset * np.array([np.cos(theta), np.sin(theta)])

    def partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        r2 = x * x + y * y
        f = x * x * x - 3 * x * y * y + 0.75 * r2 * r2
        return f, 3 * x * x - 3 * y * y + 3 * r2 * x, -6 * x * y + 3 * r2 * y

    def second_partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        r2 = x * x + y * y
        return 6 * x + 3 * r2 + 6 * x * x, -6 * y + 6 * x * y, -6 * x + 3 * r2 + 6 * y * y


@problem("valley")
@dataclass(eq=False)
class Valley(Plane):
    """f(x, y) = 1/2 (u^2 / condition + v^2): a straight valley, ill-conditioning in two dimensions.

    u = c x + s y is along the valley floor and v = c y - s x across it, with c and s the cosine and sine of `angle`.
    Minimizer 0 with f* = 0; L = 1 and mu = 1 / condition. Starts scatter around u = 2, v = 1 with standard deviation 0.1.

    Parameters
    ----------
    condition : float
        Condition number L / mu, at least 1.
    angle : float
        Angle between the valley floor and the x-axis, in degrees. At 0 the Hessian is diagonal.

    References
    ----------
    Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), section 3.3 (steepest descent on such a quadratic).

    Examples
    --------
    >>> problem = optbench.problems.Valley(condition=50, angle=0)
    >>> np.diag(problem.hessian(np.zeros(2))).tolist(), problem.smoothness, problem.strong_convexity
    ([0.02, 1.0], 1.0, 0.02)
    """

    citation = "Nocedal & Wright, Numerical Optimization, 2nd ed. (2006), section 3.3"
    formula = "f(x, y) = 1/2 (u^2 / condition + v^2), u along and v across the valley"
    view = ((-2.5, 2.5), (-2.5, 2.5))
    minimizers = np.zeros((1, 2))
    smoothness = 1.0

    condition: Annotated[float, Interval(1)] = 100.0
    angle: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.strong_convexity = 1 / self.condition
        self._cos, self._sin = float(np.cos(np.radians(self.angle))), float(np.sin(np.radians(self.angle)))
        self.classic_start = np.array([2 * self._cos - self._sin, 2 * self._sin + self._cos])
        self.seal()

    def partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        mu, c, s = 1 / self.condition, self._cos, self._sin
        u, v = c * x + s * y, c * y - s * x
        return 0.5 * (mu * u * u + v * v), mu * c * u - s * v, mu * s * u + c * v

    def second_partials(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        mu, c, s = 1 / self.condition, self._cos, self._sin
        full = self.xp.full_like
        return full(x, mu * c * c + s * s), full(x, (mu - 1) * c * s), full(x, mu * s * s + c * c)
