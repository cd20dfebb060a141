"""Plain NumPy, one run at a time: what a careful user writes first. Gradients by hand, nothing batched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.work import BETA, BETA1, BETA2, EPS, Result, Work

Parts = list[np.ndarray]


def quadratic(x: Parts, rows: Any, data: Any, l2: float) -> tuple[float, Parts]:
    center, matrix = data
    e = x[0] - center
    g = matrix @ e
    return 0.5 * (e @ g), [g]


def logistic(w: Parts, rows: Any, data: Any, l2: float) -> tuple[float, Parts]:
    Z = data[0] if rows is None else data[0][rows]
    margin = Z @ w[0]
    e = np.exp(-np.abs(margin))
    weight = np.maximum(e, margin <= 0) / (1 + e)
    f = np.mean(np.log1p(e) + np.maximum(-margin, 0)) + l2 / 2 * (w[0] @ w[0])
    return f, [l2 * w[0] - (weight @ Z) / len(Z)]


def mlp(w: Parts, rows: Any, data: Any, l2: float) -> tuple[float, Parts]:
    X, Y = data if rows is None else (part[rows] for part in data)
    W1, c1, W2, c2 = w
    a = np.tanh(X @ W1.T + c1)
    z = a @ W2.T + c2
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    f = np.mean(np.log(total[:, 0]) - np.sum(z * Y, axis=1)) + l2 / 2 * sum(np.vdot(part, part) for part in w)
    delta = (e / total - Y) / len(X)
    back = (delta @ W2) * (1 - a * a)
    g = [back.T @ X, back.sum(axis=0), delta.T @ a, delta.sum(axis=0)]
    return f, [gradient + l2 * part for gradient, part in zip(g, w, strict=True)]


ORACLES: dict[str, Callable[..., tuple[float, Parts]]] = {"quadratic": quadratic, "logistic": logistic, "mlp": mlp}


def momentum(x: np.ndarray, g: np.ndarray, t: int, state: Parts, lr: float) -> np.ndarray:
    state[0] = BETA * state[0] + g
    x_new: np.ndarray = x - lr * state[0]
    return x_new


def adam(x: np.ndarray, g: np.ndarray, t: int, state: Parts, lr: float) -> np.ndarray:
    state[0] = BETA1 * state[0] + (1 - BETA1) * g
    state[1] = BETA2 * state[1] + (1 - BETA2) * g * g
    return x - lr * (state[0] / (1 - BETA1**t)) / (np.sqrt(state[1] / (1 - BETA2**t)) + EPS)


RULES: dict[str, Callable[..., np.ndarray]] = {"momentum": momentum, "adam": adam}


def one_by_one(work: Work, runs: range) -> Callable[[], Result]:
    """The given runs, each in a loop of its own."""
    oracle, rule, data = ORACLES[work.kind], RULES[work.rule], work.data

    def run() -> Result:
        values, last = np.empty((work.steps, len(runs))), []
        for column, r in enumerate(runs):
            x = work.parts(work.x0[r])
            states = [[np.zeros_like(part), np.zeros_like(part)] for part in x]
            seed = r // len(work.rates)
            if work.batch:
                oracle(x, None, data, work.l2)
            for t in range(work.steps):
                rows = None if work.samples is None else work.samples[t, seed]
                values[t, column], g = oracle(x, rows, data, work.l2)
                x = [rule(part, *rest, work.lr[r]) for part, *rest in zip(x, g, [t + 1] * len(g), states, strict=True)]
            oracle(x, None, data, work.l2)
            last.append(np.concatenate([part.ravel() for part in x]))
        return Result(values, np.stack(last))

    return run
