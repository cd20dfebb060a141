"""First-order update rules, in order of difficulty.

A rule is a pure function of the array module `xp`, the iterates `x` and gradients `g` (R runs as rows, shape (R, d)) and
the number `t` of this step, counted from 1. Arguments without a default are state, arrays like `x` that start at zero;
arguments with a default are hyperparameters, numbers or columns of shape (R, 1). It returns the new iterates followed by
the new state. The decorator declares properties of the rule, see `Traits`. `optimizer.FirstOrder` turns a rule into an
optimizer. Rules have no annotations, because they take arrays, numbers and symbols of compilers.
"""

from __future__ import annotations

from optbench.optimizer import rule

ISOTROPIC = ("rotation", "flip", "shift")  # equivariances of rules that treat all directions alike


@rule(name="gradient_descent", full_batch=True, equivariances=ISOTROPIC)
@rule(equivariances=ISOTROPIC)
def sgd(xp, x, g, t, lr=0.1):
    """Gradient descent (Cauchy 1847); with mini-batches, stochastic gradient descent (Robbins & Monro 1951)."""
    return (x - lr * g,)


@rule(equivariances=ISOTROPIC, special_cases={"beta=0": "sgd"})
def momentum(xp, x, g, t, v, lr=0.1, beta=0.9):
    """Heavy ball (Polyak 1964), in the form v = beta v + g, x = x - lr v, where lr is not folded into v."""
    v = beta * v + g
    return x - lr * v, v


@rule(equivariances=ISOTROPIC, special_cases={"beta=0": "sgd"})
def nesterov(xp, x, g, t, v, lr=0.1, beta=0.9):
    """Nesterov's accelerated gradient (Nesterov 1983) for the look-ahead point (Sutskever et al. 2013).

    The iterate is the point y = x - lr beta v at which the gradient is taken, so one gradient per step is enough.
    """
    v = beta * v + g
    return x - lr * (g + beta * v), v


@rule(
    decay="l2",
    equivariances=("rotation", "flip"),
    special_cases={"l2=0": "momentum", "beta=0,l2=0.2": "sgdw:beta=0,weight_decay=0.2"},
)
def momentum_l2(xp, x, g, t, v, lr=0.1, beta=0.9, l2=1e-4):
    """Heavy ball with coupled l2: the gradient of l2/2 |x|^2 is added to g and averaged with it."""
    return momentum(xp, x, g + l2 * x, t, v, lr, beta)


@rule(decay="weight_decay", equivariances=("rotation", "flip"), special_cases={"weight_decay=0": "momentum"})
def sgdw(xp, x, g, t, v, lr=0.1, beta=0.9, weight_decay=1e-4):
    """SGDW: heavy ball with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 1), the decay times lr."""
    y, v = momentum(xp, x, g, t, v, lr, beta)
    return y - lr * weight_decay * x, v
