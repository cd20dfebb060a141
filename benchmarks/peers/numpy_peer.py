"""Plain NumPy, one run at a time, with gradients and rules by hand.

The formulas take their array module, so that JAX computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import BETA, BETA1, BETA2, EPS, Result, Work

# ---- (array module, parameters, batch, l2) -> value and gradient; batch: the selected rows of the data -------------------


def quadratic(xp: Any, x: Any, batch: Any, l2: float) -> Any:
    center, matrix = batch
    e = x[0] - center
    g = matrix @ e
    return 0.5 * (e @ g), (g,)


def logistic(xp: Any, w: Any, batch: Any, l2: float) -> Any:
    Z = batch[0]
    margin = Z @ w[0]
    e = xp.exp(-xp.abs(margin))
    weight = xp.where(margin <= 0, 1.0, e) / (1 + e)
    f = xp.mean(xp.log1p(e) + xp.maximum(-margin, 0)) + l2 / 2 * (w[0] @ w[0])
    return f, (l2 * w[0] - (weight @ Z) / len(Z),)


def mlp(xp: Any, w: Any, batch: Any, l2: float) -> Any:
    X, Y = batch
    W1, c1, W2, c2 = w
    a = xp.tanh(X @ W1.T + c1)
    z = a @ W2.T + c2
    z = z - z.max(axis=1, keepdims=True)
    e = xp.exp(z)
    total = e.sum(axis=1, keepdims=True)
    f = xp.mean(xp.log(total[:, 0]) - xp.sum(z * Y, axis=1)) + l2 / 2 * sum(xp.vdot(part, part) for part in w)
    delta = (e / total - Y) / len(X)
    back = (delta @ W2) * (1 - a * a)
    g = back.T @ X, back.sum(axis=0), delta.T @ a, delta.sum(axis=0)
    return f, tuple(gradient + l2 * part for gradient, part in zip(g, w, strict=True))


ORACLES: dict[str, Callable[..., Any]] = {"quadratic": quadratic, "logistic": logistic, "mlp": mlp}

# ---- rules: (array module, parameter, gradient, state, step from 1, learning rate) -> parameter and state ------------


def momentum(xp: Any, x: Any, g: Any, state: Any, t: Any, lr: Any) -> Any:
    v = BETA * state[0] + g
    return x - lr * v, (v,)


def adam(xp: Any, x: Any, g: Any, state: Any, t: Any, lr: Any) -> Any:
    m = BETA1 * state[0] + (1 - BETA1) * g
    v = BETA2 * state[1] + (1 - BETA2) * g * g
    return x - lr * (m / (1 - BETA1**t)) / (xp.sqrt(v / (1 - BETA2**t)) + EPS), (m, v)


RULES: dict[str, tuple[Callable[..., Any], int]] = {
    "adam": (adam, 2),
    "momentum": (momentum, 1),
}  # with arrays of state


def one_by_one(work: Work, runs: range) -> Callable[[], Result]:
    """The given runs, one after the other."""
    oracle, (rule, arrays), data = ORACLES[work.problem.name], RULES[work.rule], work.data

    def run() -> Result:
        values, last = np.empty((work.steps, len(runs))), []
        for column, r in enumerate(runs):
            x = work.parts(work.x0[r])
            states: list[Any] = [(np.zeros_like(part),) * arrays for part in x]
            if work.batch:
                oracle(np, x, data, work.l2)
            for t in range(work.steps):
                rows = None if work.samples is None else work.samples[t, r // len(work.rates)]
                batch = data if rows is None else [part[rows] for part in data]
                values[t, column], g = oracle(np, x, batch, work.l2)
                for k, gradient in enumerate(g):
                    x[k], states[k] = rule(np, x[k], gradient, states[k], t + 1, work.lr[r])
            oracle(np, x, data, work.l2)
            last.append(np.concatenate([part.ravel() for part in x]))
        return Result(values, np.stack(last))

    return run
