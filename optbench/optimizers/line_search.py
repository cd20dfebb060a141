"""Newton, BFGS and L-BFGS: one line search with three models of curvature.

The line search and the outer iteration are one flattened loop: each step evaluates one trial, which some runs accept and
others reject. Decisions are `where` operations on rows instead of branches, so all runs share the array operations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from optbench.core.backend import Backend
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.specs import Interval
from optbench.core.types import Array, Namespace, Oracle
from optbench.optimizer import At, Optimizer


class Search(NamedTuple):
    """State of the line search; each of shape (R, 1) unless said otherwise."""

    x: Array  # accepted point, (R, d)
    f: Array  # its value
    g: Array  # its gradient, (R, d)
    p: Array  # search direction, (R, d)
    slope: Array  # g^T p, negative
    alpha: Array  # step length of the trial
    low: Array  # longest step known to be too short
    high: Array  # shortest step known to be too long
    trials: Array  # trials along p so far
    model: Any  # state of the model of curvature


class LineSearchMethod(Optimizer):
    """Base of the methods that search along a descent direction for a point that satisfies the weak Wolfe conditions.

    A trial x + alpha p is accepted when (Nocedal & Wright 2006, equations 3.6a and 3.6b)

        f(x + alpha p) <= f(x) + c1 alpha g^T p      (sufficient decrease)
        g(x + alpha p)^T p >= c2 g^T p               (curvature)

    Where rounding hides the decrease, the first is replaced by its equivalent in slopes, g(x + alpha p)^T p <= (2 c1 - 1)
    g^T p (Hager & Zhang 2005, equation 4.1). Steps that are too long shrink to the minimizer of the interpolating parabola;
    steps that are too short grow to where the secant of the slopes vanishes. Both are safeguarded.
    """

    traits = Traits(full_batch=True, equivariances=("rotation", "flip", "shift"))
    keeps_best: ClassVar[bool] = True
    c1: ClassVar[float] = 1e-4
    c2: ClassVar[float] = 0.9
    max_trials: ClassVar[int] = 25  # then the direction becomes steepest descent, and the model is reset

    def init(self, x: Array, backend: Backend) -> Search:
        self.xp = xp = backend.xp
        self.eps = backend.eps
        zeros, zero, inf = xp.zeros_like(x), backend.zeros((x.shape[0], 1)), backend.zeros((x.shape[0], 1)) + xp.inf
        model = self.model_init(x, backend)
        # with an infinite value and a zero direction, the start point satisfies both conditions
        return Search(x, inf, g=zeros, p=zeros, slope=zero, alpha=zero, low=zero, high=inf, trials=zero, model=model)

    def step(self, t: int, at: At, state: Search) -> tuple[Array, Search]:
        xp = self.xp
        x, f, g, p, slope, alpha, low, high, trials, model = state

        trial_slope = dot(xp, at.g, p)
        decrease = at.f <= f + self.c1 * alpha * slope
        hidden = (at.f <= f + 4 * self.eps * xp.abs(f)) & (trial_slope <= (2 * self.c1 - 1) * slope)
        short = decrease | hidden
        accept = short & (trial_slope >= self.c2 * slope)

        # a bracket [low, high] around acceptable steps, and the next trial inside it or beyond it
        low = xp.where(short, alpha, low)
        high = xp.where(short, high, alpha)
        bend = at.f - f - slope * alpha
        parabola = -slope * alpha * alpha / (2 * xp.where(bend > 0, bend, xp.inf))
        width = high - low
        inside = xp.where(
            short, low + width / 2, xp.maximum(low + 0.1 * width, xp.minimum(low + 0.5 * width, parabola))
        )
        flatter = trial_slope - slope
        secant = -slope * alpha / xp.where(flatter > 0, flatter, self.eps)
        beyond = xp.maximum(2 * alpha, xp.minimum(10 * alpha, secant))
        alpha = xp.where(high < xp.inf, inside, beyond)
        trials = trials + 1

        # move the accepted runs, update their model and choose their next direction
        s = xp.where(accept, at.x - x, xp.zeros_like(x))
        y = xp.where(accept, at.g - g, xp.zeros_like(g))
        x = xp.where(accept, at.x, x)
        f = xp.where(accept, at.f, f)
        g = xp.where(accept, at.g, g)
        stuck = ~accept & (trials >= self.max_trials)
        model = self.model_update(model, accept, stuck, s, y, at)
        new_p = self.direction(model, g)
        new_slope = dot(xp, g, new_p)
        # a NaN compares false, so it causes steepest descent too
        downhill = new_slope < 0
        new_p = xp.where(downhill, new_p, -g)
        new_slope = xp.where(downhill, new_slope, -dot(xp, g, g))

        turn, one, zero = accept | stuck, xp.ones_like(alpha), xp.zeros_like(alpha)
        old = {"p": p, "slope": slope, "alpha": alpha, "low": low, "high": high, "trials": trials}
        new = {"p": new_p, "slope": new_slope, "alpha": one, "low": zero, "high": zero + xp.inf, "trials": zero}
        state = Search(x, f, g, model=model, **{name: xp.where(turn, new[name], old[name]) for name in old})
        return x + state.alpha * state.p, state

    def model_init(self, x: Array, backend: Backend) -> Any:
        """State of the model of curvature at the start."""
        raise NotImplementedError(f"{type(self).__name__} does not implement model_init()")

    def model_update(self, model: Any, accept: Array, stuck: Array, s: Array, y: Array, at: At) -> Any:
        """Update the model of accepted runs by s = x_new - x and y = g_new - g; reset that of stuck runs."""
        raise NotImplementedError(f"{type(self).__name__} does not implement model_update()")

    def direction(self, model: Any, g: Array) -> Array:
        """Search direction -B^-1 g of the model; shape (R, d)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement direction()")

    def usable(self, accept: Array, s: Array, y: Array) -> tuple[Array, Array, Array]:
        """Whether pairs of accepted runs satisfy s^T y > 0 beyond rounding, and s^T y and y^T y (1 if not); each (R, 1)."""
        xp = self.xp
        sy, yy = dot(xp, s, y), dot(xp, y, y)
        keep = accept & (sy > self.eps * xp.sqrt(dot(xp, s, s) * yy))
        one = xp.ones_like(sy)
        return keep, xp.where(keep, sy, one), xp.where(keep, yy, one)

    def first_scale(self, g: Array) -> Array:
        """Scale of the identity before any pair is known: a first step of length at most 1. Shape (R, 1)."""
        norm = self.xp.sqrt(dot(self.xp, g, g))
        return 1 / self.xp.maximum(norm, self.xp.ones_like(norm))


@dataclass
class Newton(LineSearchMethod):
    """Newton's method with the eigenvalues of the Hessian replaced by their magnitudes, p = -|H|^-1 g.

    On a convex problem this is Newton's method; elsewhere the change of sign avoids saddle points (Dauphin et al. 2014;
    Nocedal & Wright 2006, section 3.4). Every trial evaluates one Hessian.
    """

    oracle: ClassVar[Oracle] = Oracle.HESSIAN
    traits = Traits(full_batch=True, equivariances=("rotation", "flip", "shift", "affine", "scale"))
    matrices: ClassVar[int] = 6

    def model_init(self, x: Array, backend: Backend) -> Array:
        runs, d = x.shape
        self.identity = backend.xp.eye(d, dtype=x.dtype, device=backend.device)
        return backend.xp.broadcast_to(self.identity, (runs, d, d))

    def model_update(self, model: Array, accept: Array, stuck: Array, s: Array, y: Array, at: At) -> Array:
        xp = self.xp
        usable = accept & xp.all(xp.isfinite(at.hessian), axis=(1, 2))[:, None]
        model = xp.where(usable[..., None], at.hessian, model)
        return xp.where(stuck[..., None], self.identity, model)

    def direction(self, model: Array, g: Array) -> Array:
        xp = self.xp
        values, vectors = xp.linalg.eigh(model)  # (R, d), (R, d, d)
        size = xp.abs(values)
        size = xp.maximum(size, self.eps * xp.max(size, axis=-1, keepdims=True))
        coefficients = xp.matrix_transpose(vectors) @ g[..., None]  # (R, d, 1)
        p: Array = -(vectors @ (coefficients / size[..., None]))[..., 0]
        return p


class Secants(NamedTuple):
    """Memory of L-BFGS: pairs from oldest to newest; an empty pair has rho = 0."""

    s: Array  # (h, R, d)
    y: Array  # (h, R, d)
    rho: Array  # 1 / s^T y, (h, R, 1)
    gamma: Array  # s^T y / y^T y of the newest pair, 0 before there is one, (R, 1)


@dataclass
class LBFGS(LineSearchMethod):
    """L-BFGS (Liu & Nocedal 1989): the two-loop recursion (Nocedal & Wright 2006, Algorithm 7.4) on all runs at once.

    Parameters
    ----------
    memory : int
        Number of stored pairs, at least 1.
    """

    traits = dataclasses.replace(LineSearchMethod.traits, ranges={"memory": Interval(1, 10_000)})

    memory: int = 10

    def model_init(self, x: Array, backend: Backend) -> Secants:
        h, (runs, d) = self.memory, x.shape
        pairs = backend.zeros((h, runs, d))
        return Secants(pairs, pairs, backend.zeros((h, runs, 1)), backend.zeros((runs, 1)))

    def model_update(self, model: Secants, accept: Array, stuck: Array, s: Array, y: Array, at: At) -> Secants:
        xp = self.xp
        keep, sy, yy = self.usable(accept, s, y)

        def push(old: Array, new: Array) -> Array:
            return xp.where(keep, xp.concat([old[1:, ...], new[None, ...]], axis=0), old)

        rho = push(model.rho, 1 / sy)
        gamma = xp.where(keep, sy / yy, model.gamma)
        forget = xp.zeros_like(gamma)
        return Secants(push(model.s, s), push(model.y, y), xp.where(stuck, forget, rho), xp.where(stuck, forget, gamma))

    def direction(self, model: Secants, g: Array) -> Array:
        xp = self.xp
        q, a = g, []
        for i in reversed(range(self.memory)):
            a.append(model.rho[i, ...] * dot(xp, model.s[i, ...], q))
            q = q - a[-1] * model.y[i, ...]
        q = q * xp.where(model.gamma > 0, model.gamma, self.first_scale(g))
        for i in range(self.memory):
            b = model.rho[i, ...] * dot(xp, model.y[i, ...], q)
            q = q + (a[self.memory - 1 - i] - b) * model.s[i, ...]
        return -q


class Inverse(NamedTuple):
    """Memory of BFGS."""

    h: Array  # approximation of the inverse Hessian, (R, d, d)
    fresh: Array  # 1 before the first pair, else 0, (R, 1)


@dataclass
class BFGS(LineSearchMethod):
    """BFGS (Nocedal & Wright 2006, Algorithm 6.1 and equation 6.17), the identity scaled by the first pair (6.20)."""

    matrices: ClassVar[int] = 6
    max_dim: ClassVar[int | None] = 2000

    def model_init(self, x: Array, backend: Backend) -> Inverse:
        runs, d = x.shape
        self.identity = backend.xp.eye(d, dtype=x.dtype, device=backend.device)
        return Inverse(backend.xp.broadcast_to(self.identity, (runs, d, d)), backend.zeros((runs, 1)) + 1)

    def model_update(self, model: Inverse, accept: Array, stuck: Array, s: Array, y: Array, at: At) -> Inverse:
        xp = self.xp
        keep, sy, yy = self.usable(accept, s, y)
        first = keep & (model.fresh > 0)
        h = xp.where(first[..., None], (sy / yy)[..., None] * self.identity, model.h)
        # (I - rho s y^T) H (I - rho y s^T) + rho s s^T, expanded to three outer products
        u = (h @ y[..., None])[..., 0]  # H y, (R, d)
        c = (1 + dot(xp, y, u) / sy) / sy  # (R, 1)
        us = u[..., :, None] * (s / sy)[..., None, :]  # (R, d, d)
        new = h - us - xp.matrix_transpose(us) + (c * s)[..., :, None] * s[..., None, :]
        h = xp.where(stuck[..., None], self.identity, xp.where(keep[..., None], new, h))
        fresh = xp.where(keep, xp.zeros_like(sy), model.fresh)
        return Inverse(h, xp.where(stuck, xp.ones_like(sy), fresh))

    def direction(self, model: Inverse, g: Array) -> Array:
        xp = self.xp
        p = -(model.h @ g[..., None])[..., 0]
        return xp.where(model.fresh > 0, p * self.first_scale(g), p)


def dot(xp: Namespace, a: Array, b: Array) -> Array:
    """Inner products of the rows, as a column; (R, d) and (R, d) give (R, 1)."""
    return xp.vecdot(a, b)[..., None]


OPTIMIZERS.register("newton", Newton)
OPTIMIZERS.register("bfgs", BFGS)
OPTIMIZERS.register("lbfgs", LBFGS)
