"""Convex quadratics with a prescribed spectrum, closed-form optimum and optional gradient noise."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np

from optbench.core.errors import InputError
from optbench.core.random import Normals, Sampler
from optbench.core.specs import MAX_DIM, NONNEGATIVE, Choices, Interval
from optbench.core.types import Array
from optbench.problem import Optimum, Problem, problem, stream

MAX_MATRIX = 20_000  # 3 GiB in float64
SPECTRA = Choices(("log", "linear", "clusters", "distinct", "chain"))


@problem("quadratic")
@dataclass(eq=False)
class Quadratic(Problem):
    """f(x) = 1/2 (x - x*)^T H (x - x*) + f*, with eigenvalues of H between mu = 1/condition and L = 1.

    The value is computed in this shifted form, so that even the smallest gaps f - f* are accurate.

    Parameters
    ----------
    dim : int
        Number of parameters, at least 1.
    condition : float
        Condition number L / mu, at least 1. For ``chain`` it is about (2 (dim + 1) / pi)^2 instead.
    spectrum : str
        ``log``: log-spaced eigenvalues; ``linear``: equally spaced; ``clusters``: one half within 10 % above mu, the
        other within 10 % below L; ``distinct``: three values, mu, sqrt(mu L) and L, in equal numbers; ``chain``: the
        tridiagonal worst case of Nesterov's lower bound, f = L/4 (1/2 x^T A x - x_1) with A = tridiag(-1, 2, -1).
    rotate : bool
        Whether H is rotated by a random orthogonal matrix (Haar); otherwise it is diagonal and costs O(d). ``chain`` is
        never rotated, because its lower bound depends on the coordinates.
    noise : float
        Standard deviation of Gaussian noise on each coordinate of the gradient; a batch of b divides the variance by b.
        The stochastic objective is F(x; xi) = f(x) + xi^T (x - x*), whose mean is f.
    seed : int
        Seed of the rotation and of x*, which is standard normal (except for ``chain``).

    References
    ----------
    Nesterov, Lectures on Convex Optimization (2018), section 2.1.2 (chain) and 2.1.4.

    Examples
    --------
    >>> problem = optbench.problems.Quadratic(dim=3, condition=100)
    >>> problem.eigenvalues.round(4).tolist()
    [0.01, 0.1, 1.0]
    >>> float(problem.value(problem.x_star)), problem.condition_number
    (0.0, 100.0)
    """

    citation = "Nesterov, Lectures on Convex Optimization, 2nd ed. (2018), sections 2.1.2 and 2.1.4"
    formula = "f(x) = 1/2 (x - x*)^T H (x - x*) + f*"
    max_hessian_dim = 5000
    always_shown = ("dim",)

    dim: Annotated[int, Interval(1, MAX_DIM)] = 100
    condition: Annotated[float, Interval(1)] = 100.0
    spectrum: Annotated[str, SPECTRA] = "log"
    rotate: bool = True
    noise: Annotated[float, NONNEGATIVE] = 0.0
    seed: Annotated[int, NONNEGATIVE] = 0

    @property
    def bytes_to_create(self) -> float:
        has_matrix = (self.rotate or self.spectrum == "chain") and self.dim <= MAX_MATRIX  # else it is refused below
        return 8 * self.dim * (6 + 4 * self.dim * has_matrix)  # the factors and the product of a rotation

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.dim > MAX_MATRIX and (self.rotate or self.spectrum == "chain"):
            raise InputError(
                f"problem {self.spec!r} has a dense matrix, for which dim must be at most {MAX_MATRIX}; "
                "use rotate=false with another spectrum than chain"
            )
        rng = stream("data", self.seed)
        self._center = rng.standard_normal(self.dim)  # x*, (d,)
        self._f_star = 0.0
        self._matrix: np.ndarray | None = None  # (d, d); None for a diagonal H
        self.eigenvalues = self._spectrum()  # ascending, (d,)
        if self.spectrum == "chain":
            self._center = 1 - np.arange(1, self.dim + 1) / (self.dim + 1)
            self._f_star = self._chain_optimum().f
            self._matrix = (2 * np.eye(self.dim) - np.eye(self.dim, k=1) - np.eye(self.dim, k=-1)) / 4
        elif self.rotate and self.dim > 1:
            # with these signs, QR of a Gaussian matrix gives the Haar distribution (Mezzadri 2007)
            q, r = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))
            q = q * np.sign(np.diagonal(r))
            self._matrix = (q * self.eigenvalues) @ q.T
            self._matrix = (self._matrix + self._matrix.T) / 2
        self.shares_matrix = self._matrix is not None
        self.smoothness = float(self.eigenvalues[-1])
        self.strong_convexity = float(self.eigenvalues[0])
        if self.dim == 2:
            self.view = self._around(self._center[0]), self._around(self._center[1])
        self.place()
        self.seal()

    @staticmethod
    def _around(center: float) -> tuple[float, float]:
        """A range that contains a coordinate of x* and 999 of 1000 start points, which are standard normal."""
        return float(min(-3.5, center - 0.5)), float(max(3.5, center + 0.5))

    def _spectrum(self) -> np.ndarray:
        d, low = self.dim, 1 / self.condition
        if self.spectrum == "chain":
            return np.sort(np.sin(np.arange(1, d + 1) * np.pi / (2 * (d + 1))) ** 2)
        if d == 1:
            return np.ones(1)
        if self.spectrum == "log":
            values = np.geomspace(low, 1, d)
        elif self.spectrum == "linear":
            values = np.linspace(low, 1, d)
        elif self.spectrum == "clusters":
            half = d // 2
            values = np.concatenate([low * np.linspace(1, 1.1, half), np.linspace(0.9, 1, d - half)])
            values = np.clip(values, low, 1)
        else:
            values = np.repeat([low, low**0.5, 1.0], [len(part) for part in np.array_split(np.arange(d), 3)])
        values[-1] = 1.0
        return np.sort(values)

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self.center = to(self._center)  # (d,)
        self.H = to(self.eigenvalues if self._matrix is None else self._matrix)  # (d,) if diagonal, else (d, d)

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective (...) and gradient (..., d) at points (..., d); `samples` as in `Problem.value_and_grad`."""
        x = self.points(x)
        e = x - self.center
        g = e * self.H if self._matrix is None else e @ self.H
        f = 0.5 * self.xp.sum(e * g, axis=-1) + self._f_star
        if samples is not None:
            xi = self.per_seed(samples, x)
            f, g = f + self.xp.vecdot(x - self.center, xi), g + xi
        return f, g

    def hessian(self, x: Array) -> Array:
        """Hessians (..., d, d) at points (..., d)."""
        x = self.points(x)
        self.check_hessian_dim()
        h = self.H
        if self._matrix is None:
            h = self.xp.eye(self.dim, dtype=x.dtype, device=self.backend.device) * h
        return self.xp.broadcast_to(h, (*x.shape[:-1], self.dim, self.dim))

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        v = self.points(v)
        return v * self.H if self._matrix is None else v @ self.H

    def solve(self) -> Optimum | None:
        """The optimum; None if rounding errors of a rotated matrix could make its smallest eigenvalue negative."""
        if self.spectrum == "chain":
            return self._chain_optimum()
        if self._matrix is not None and not self.eigenvalues[0] > self.dim * np.finfo(float).eps:
            return None
        return Optimum(0.0, 0.0, self._center, "exact by construction", 0.0)

    def _chain_optimum(self) -> Optimum:
        """(-1 + 1/(d + 1)) / 8, rounded outward; f is the value at x*."""
        value = Fraction(-self.dim, 8 * (self.dim + 1))
        return Optimum.of_exact(value, self._center, "exact by construction", 0.0)

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        return self.dim * (1.0 if self._matrix is None else 1.0 + 0.05 * self.dim)

    def sampler(self, seeds: tuple[int, ...], batch_size: int | None) -> Sampler | None:
        if self.noise == 0:
            return super().sampler(seeds, batch_size)
        return Normals(seeds, self.dim, self.noise / (batch_size or 1) ** 0.5, "noise")
