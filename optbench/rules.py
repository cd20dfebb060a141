"""First-order update rules, in order of difficulty, each beside its formula.

A rule is a pure function of the array module `xp`, the iterates `x` and gradients `g` (R runs as rows, shape (R, d)) and
the number `t` of this step, counted from 1. Arguments without a default are state, arrays like `x` that start at zero;
arguments with a default are hyperparameters, numbers or columns of shape (R, 1). It returns the new iterates followed by
the new state. Nothing here evaluates an objective; what turns a rule into an optimizer is in `optimizer`.

The rules carry no annotations: they are read as formulas, and take whatever `xp` computes with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from optbench.registry import OPTIMIZERS

__optbench__ = True

F = TypeVar("F", bound=Callable[..., Any])


@overload
def rule(function: F) -> F: ...
@overload
def rule(*, name: str | None = ..., full_batch: bool = ...) -> Callable[[F], F]: ...
def rule(function: Any = None, *, name: str | None = None, full_batch: bool = False) -> Any:
    """Register an update rule under its own name, or `name`, and return it unchanged.

    Parameters
    ----------
    full_batch : bool
        Whether the name promises the gradient of the whole objective, so that a mini-batch is refused.
    """

    def register(function: F) -> F:
        OPTIMIZERS.register(name or function.__name__, function, full_batch=full_batch)
        return function

    return register if function is None else register(function)


@rule(name="gradient_descent", full_batch=True)
@rule
def sgd(xp, x, g, t, lr=0.1):
    """Gradient descent (Cauchy 1847); with mini-batches, stochastic gradient descent (Robbins & Monro 1951)."""
    return (x - lr * g,)


@rule
def momentum(xp, x, g, t, v, lr=0.1, beta=0.9):
    """Heavy ball (Polyak 1964), in the form v = beta v + g, x = x - lr v, where lr is not folded into v."""
    v = beta * v + g
    return x - lr * v, v


@rule
def nesterov(xp, x, g, t, v, lr=0.1, beta=0.9):
    """Nesterov's accelerated gradient (Nesterov 1983) for the look-ahead point (Sutskever et al. 2013).

    The iterate is the point y = x - lr beta v at which the gradient is taken, so one gradient a step is enough.
    """
    v = beta * v + g
    return x - lr * (g + beta * v), v


@rule
def momentum_l2(xp, x, g, t, v, lr=0.1, beta=0.9, l2=1e-4):
    """Heavy ball with coupled l2: the gradient of l2/2 |x|^2 joins g and is averaged with it."""
    return momentum(xp, x, g + l2 * x, t, v, lr, beta)


@rule
def sgdw(xp, x, g, t, v, lr=0.1, beta=0.9, weight_decay=1e-4):
    """SGDW: heavy ball with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 1), the decay times lr."""
    y, v = momentum(xp, x, g, t, v, lr, beta)
    return y - lr * weight_decay * x, v


@rule
def adagrad(xp, x, g, t, s, lr=0.01, eps=1e-10):
    """AdaGrad, diagonal (Duchi, Hazan & Singer 2011, Figure 1; eps is added outside the root)."""
    s = s + g * g
    return x - lr * g / (xp.sqrt(s) + eps), s


@rule
def rmsprop(xp, x, g, t, v, lr=0.01, rho=0.99, eps=1e-8):
    """RMSProp (Tieleman & Hinton 2012, lecture 6e; not centered, eps is added outside the root)."""
    v = rho * v + (1 - rho) * g * g
    return x - lr * g / (xp.sqrt(v) + eps), v


@rule
def adam(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam (Kingma & Ba 2015, Algorithm 1; eps is added outside the root)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return x - lr * m_hat / (xp.sqrt(v_hat) + eps), m, v


@rule
def adam_uncorrected(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam without bias correction: the averages start at zero and are used as they are (for comparison with Adam)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return x - lr * m / (xp.sqrt(v) + eps), m, v


@rule
def adam_l2(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, l2=1e-2):
    """Adam with coupled l2: the gradient of l2/2 |x|^2 joins g, and is divided by the root of v like the rest."""
    return adam(xp, x, g + l2 * x, t, m, v, lr, beta1, beta2, eps)


@rule
def adamw(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2), the decay times lr."""
    y, m, v = adam(xp, x, g, t, m, v, lr, beta1, beta2, eps)
    return y - lr * weight_decay * x, m, v
