"""Kernels of update rules: the digits of the formula, in place, or a warning that states the line that cannot be traced."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.compile import rules as fusing
from optbench.compile import steps as printing
from optbench.compile.graph import TraceError
from optbench.compile.rules import RuleKernel, fuse
from optbench.core.backend import PRECISIONS, get_backend
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.specs import parameters, state_names
from optbench.optimizer import At, FirstOrder, make_recipe
from optbench.runner.loop import init_state, minimize
from problems import Logistic, Quadratic
from tests.conftest import noting

RULES = [name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])]
PER_RUN = {name: OPTIMIZERS.traits(name).per_run for name in RULES}


# ---- rules that are not registered -----------------------------------------------------------------------------------


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


def gathered(xp: Any, x: Any, g: Any, t: int, s: Any, G: Any, lr: float = 0.1) -> Any:
    """AdaGrad-Norm (Ward, Wu & Bottou 2019): state G with one number per run."""
    G = G + xp.sum(g * g, axis=-1, keepdims=True)
    return x - lr / xp.sqrt(G + 1e-8) * g, s + G * g, G


def powers(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    v = v + g**2
    return x - lr * (g * (v + 1) ** -0.5 if False else g * (v + 1.0) ** -1 + (v**0.5) ** 1), v


def of_t(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, c: float = 0.7) -> Any:
    """Numbers that depend on t, with minus signs, comparisons and powers."""
    v = (t - 1) / t * v + g / t
    return x - lr * t**-c * xp.where(t % 2 == 0 if False else t > 3, v, -(-g)) * (2 / (t + 1)) ** 2, v


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


def clashing(xp: Any, x: Any, g: Any, t: int, r: Any, steps: Any, lr=0.1, i=0.5, factor=1.0, _k=2.0) -> Any:  # type: ignore[no-untyped-def]
    """Names of state and hyperparameters that code around the rule could have."""
    return x - lr * factor * i * g, i * r + g * g / _k, steps + r


UNKNOWN = [
    *(radam, by_value, by_norm, normalized, largest, centered, signs, amsgrad, chosen, restarted, in_place, swapped),
    *(gathered, powers, of_t, helped, closure(3.0), sums_of_state, clashing),
]
STATE_PER_RUN = {gathered: ("G",)}


def curved(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, rate: float = 0.05) -> Any:
    """Functions that NumPy rounds in its own way."""
    v = xp.tanh(v + g) + xp.log1p(g * g)
    return x - lr * xp.exp(-xp.abs(g)) * v / (1 + xp.log(1 + v * v)), v


# ---- equal to the formula --------------------------------------------------------------------------------------------


def stepped(
    rule: Any, fused: bool, settings: dict[str, Any], per_run: Any, shape: tuple[int, int], precision: str
) -> list[np.ndarray]:
    """Iterates and states after 40 steps with gradients drawn at random, some of them 0, huge, infinite or NaN."""
    backend = get_backend("numpy", precision=precision)
    optimizer = FirstOrder(rule, settings, traits=Traits(per_run=per_run, elementwise=False))
    kernel = fuse(rule, backend, optimizer.swept, per_run, shape[1]) if fused else None
    assert (kernel is not None) == fused
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(precision)
    state = optimizer.init(x, backend, kernel)
    with np.errstate(all="ignore"):
        for t in range(1, 41):
            g = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, (shape[0], 1))).astype(precision)
            g[rng.random(shape) < 0.02] = 0.0
            if t == 38:
                g[-1, -1] = (np.inf, np.nan, 1e30)[shape[1] % 3]
            x, state = optimizer.step(t, At(x, x[:, :1], g), state)
    return [x, *state]


def settings_of(rule: Any, swept: list[str], runs: int) -> dict[str, Any]:
    """Hyperparameters, those of `swept` with another value for each run."""
    factors = np.linspace(0.8, 1.0, runs)
    return {name: float(p.default) * (factors if name in swept else 1) for name, p in parameters(rule).items()}


def assert_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Equal numbers, with NaN and the signs of zeros."""
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    known = ~np.isnan(a)
    np.testing.assert_array_equal(np.signbit(a[known]), np.signbit(b[known]))


def assert_kernel(rule: Any, per_run: Any, swept: list[str], shape: tuple[int, int], precision: str) -> None:
    settings = settings_of(rule, swept, shape[0])
    formula, compiled = (stepped(rule, fused, settings, per_run, shape, precision) for fused in (False, True))
    for a, b in zip(formula, compiled, strict=True):
        assert_bits(a, b)


SHAPES = [(3, 1), (1, 7), (2, 16), (3, 33), (2, 130), (1, 300)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", RULES)
def test_kernels_have_the_digits_of_registered_rules(rule: str, precision: str) -> None:
    target = OPTIMIZERS[rule]
    declared = list(parameters(target))
    for shape in SHAPES:
        for swept in ([], declared[:1], declared):
            assert_kernel(target, PER_RUN[rule], swept, shape, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", UNKNOWN, ids=lambda rule: rule.__name__)
def test_kernels_have_the_digits_of_other_rules(rule: Callable[..., Any], precision: str) -> None:
    for shape in SHAPES:
        for swept in ([], ["lr"]):
            assert_kernel(rule, STATE_PER_RUN.get(rule, ()), swept, shape, precision)
