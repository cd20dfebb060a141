"""Update rules that are not registered, for tests of compiled code: what people write, and what only looks harmless."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def radam(xp: Any, x: Any, g: Any, t: int, m: Any, v: Any, lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-8) -> Any:  # type: ignore[no-untyped-def]
    """RAdam (Liu et al. 2020, Algorithm 2), whose choice depends on t alone."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    longest = 2 / (1 - beta2) - 1
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    r2 = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
    r = xp.sqrt(xp.where(rho > 5, r2, 0.0))
    m_hat = m / (1 - beta1**t)
    return x - lr * xp.where(rho > 5, r * m_hat / (xp.sqrt(v / (1 - beta2**t)) + eps), m_hat), m, v


def by_value(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1, bound: float = 0.5) -> Any:
    return (x - lr * xp.clip(g, -bound, bound),)


def by_norm(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1, bound: float = 0.5) -> Any:
    norm = xp.sqrt(xp.sum(g * g, axis=-1, keepdims=True))
    return (x - lr * xp.where(norm > bound, bound / norm, 1.0) * g,)


def normalized(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / xp.linalg.vector_norm(g, axis=-1, keepdims=True),)


def largest(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    high, low = (f(g, axis=-1, keepdims=True) for f in (xp.max, xp.min))
    return (x - lr * g / xp.maximum(high, -low),)


def centered(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    """A reduction of a reduction, and without keepdims."""
    g = g - xp.sum(g, axis=-1)[..., None]
    v = beta * v + g / (1 + xp.sum(g * g, axis=-1)[..., None])
    return x - lr * v, v


def signs(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    agree = xp.sign(g) == xp.sign(v)
    v = beta * v + (1 - beta) * g
    return x - lr * xp.where(agree & (xp.abs(g) > 0.1) | ~xp.isfinite(g), xp.sign(v), (g > 0) * g), v


def amsgrad(xp: Any, x: Any, g: Any, t: int, m: Any, v: Any, top: Any, lr: float = 1e-2, beta2: float = 0.99) -> Any:
    m = 0.9 * m + 0.1 * g
    v = beta2 * v + (1 - beta2) * xp.square(g)
    top = xp.maximum(top, v)
    return x - lr * m / (xp.sqrt(top) + 1e-8), m, v, top


def chosen(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9, nesterov: bool = True) -> Any:
    v = beta * v + g
    if nesterov:
        return x - lr * (g + beta * v), v
    return x - lr * v, v


def restarted(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    """Decisions on t: a variant for each outcome."""
    if t == 1:
        v = g
    elif t % 10 == 0 or t // 7 == 3:
        v = 0.5 * v
    else:
        v = beta * v + g
    return x - lr * v, v


def in_place(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    v *= beta
    v += g
    x -= lr * v
    return x, v


def swapped(xp: Any, x: Any, g: Any, t: int, one: Any, other: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    return x - lr * (one - 0.5 * other + g), other, beta * one + g


def remembered(xp: Any, x: Any, g: Any, t: int, before: Any, old: Any, lr: float = 0.1) -> Any:
    """State that is the gradient and the iterate as they are."""
    return x - lr * (g - 0.5 * before / (1 + xp.sum(before * g, axis=-1, keepdims=True) ** 2) + 0.1 * old), g, x


def gathered(xp: Any, x: Any, g: Any, t: int, s: Any, G: Any, lr: float = 0.1) -> Any:
    """AdaGrad-Norm (Ward, Wu & Bottou 2019): state G with one number per run."""
    G = G + xp.sum(g * g, axis=-1, keepdims=True)
    return x - lr / xp.sqrt(G + 1e-8) * g, s + G * g, G


def powers(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    v = v + g**2
    return x - lr * (g * (v + 1.0) ** -1 + (v**0.5) ** 1), v


def of_t(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, c: float = 0.7) -> Any:
    """Numbers that depend on t, with minus signs, comparisons and powers."""
    v = (t - 1) / t * v + g / t
    return x - lr * t**-c * xp.where(t > 3, v, 0 - g) * (2 / (t + 1)) ** 2, v


WEIGHTS = np.float64(0.25), np.float32(0.5), np.int64(3)


def helped(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, scale: Any = 2) -> Any:
    v = helper(xp, v, g)
    return x - lr * float(WEIGHTS[0]) * scale * v, v


def helper(xp: Any, v: Any, g: Any, weight: float = 0.3) -> Any:
    return weight * v + (1 - weight) * (g if weight > 0.2 else -g)


def closure(scale: float) -> Callable[..., Any]:
    def closed(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x - scale * lr * g,)

    return closed


def sums_of_state(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    """LAMB's ratio of norms (You et al. 2020), of vectors that are overwritten."""
    v = beta * v + (1 - beta) * g
    size = xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))
    step = xp.sqrt(xp.sum(v * v, axis=-1, keepdims=True))
    ratio = xp.where((size > 0) & (step > 0), size / step, 1.0)
    return x - lr * ratio * v, v


def clashing(xp: Any, y: Any, h: Any, k: int, x: Any, g: Any, r: Any, lr=0.1, t=0.5, factor=0.7, _g=2.0) -> Any:  # type: ignore[no-untyped-def]
    """Names of state and hyperparameters that code around the rule could have."""
    x = t * x + h / k
    return y - lr * factor * t * x, x, g * _g + h * h, r + x


UNKNOWN: list[Any] = [
    *(radam, by_value, by_norm, normalized, largest, centered, signs, amsgrad, chosen, restarted, in_place, swapped),
    *(remembered, gathered, powers, of_t, helped, closure(3.0), sums_of_state, clashing),
]
STATE_PER_RUN: dict[Any, tuple[str, ...]] = {gathered: ("G",)}


def curved(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, rate: float = 0.05) -> Any:
    """Functions that NumPy rounds in its own way."""
    v = xp.tanh(v + g) + xp.log1p(g * g)
    return x - lr * xp.exp(-xp.abs(g)) * v / (1 + xp.log(1 + v * v)), v
