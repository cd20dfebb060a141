"""Update rules that adapt the step size of each parameter; see `gradient` for what a rule is."""

from __future__ import annotations

from optbench.core.specs import POSITIVE
from optbench.optimizer import rule

SCALE_FREE = ("flip", "shift", "scale")  # equivariances of rules that divide each coordinate by its own size


@rule(equivariances=SCALE_FREE)
def adagrad(xp, x, g, t, s, lr=0.01, eps=1e-10):
    """AdaGrad, diagonal (Duchi, Hazan & Singer 2011, Figure 1; eps is added outside the root)."""
    s = s + g * g
    return x - lr * g / (xp.sqrt(s) + eps), s


@rule(
    equivariances=SCALE_FREE,
    special_cases={"rho=0.9,lr=0.01": "adam_uncorrected:beta1=0,beta2=0.9,lr=0.01"},
)
def rmsprop(xp, x, g, t, v, lr=0.01, rho=0.99, eps=1e-8):
    """RMSProp (Tieleman & Hinton 2012, lecture 6e; not centered, eps is added outside the root)."""
    v = rho * v + (1 - rho) * g * g
    return x - lr * g / (xp.sqrt(v) + eps), v


@rule(equivariances=SCALE_FREE)
def adam(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam (Kingma & Ba 2015, Algorithm 1; eps is added outside the root)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return x - lr * m_hat / (xp.sqrt(v_hat) + eps), m, v


@rule(equivariances=SCALE_FREE, special_cases={"beta1=0,beta2=0": "adam:beta1=0,beta2=0"})
def adam_uncorrected(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam without bias correction: the averages start at zero and are used as they are (for comparison with Adam)."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return x - lr * m / (xp.sqrt(v) + eps), m, v


@rule(decay="l2", equivariances=("flip",), special_cases={"l2=0": "adam"})
def adam_l2(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, l2=1e-2):
    """Adam with coupled l2: the gradient of l2/2 |x|^2 is added to g, and is divided by the root of v with it."""
    return adam(xp, x, g + l2 * x, t, m, v, lr, beta1, beta2, eps)


@rule(decay="weight_decay", equivariances=("flip", "scale"), special_cases={"weight_decay=0": "adam"})
def adamw(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2):
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2), the decay times lr."""
    y, m, v = adam(xp, x, g, t, m, v, lr, beta1, beta2, eps)
    return y - lr * weight_decay * x, m, v


@rule(
    elementwise=False,
    per_run=("r", "G"),
    equivariances=("rotation", "flip", "shift", "scale"),
    ranges={"r_eps": POSITIVE},
)
def dog(xp, x, g, t, s, r, G, r_eps=1e-6, eps=1e-8):
    """DoG, distance over gradients (Ivgi, Hinder & Carmon 2023, Algorithm 1; eps is added to G as in the authors' code).

    The step size is r / sqrt(G), where r is the largest distance from the start so far and G the sum of squared gradient
    norms, so there is no learning rate. The first step has the length `r_eps`. The state s is x minus the start.
    """
    r = xp.maximum(r, xp.linalg.vector_norm(s, axis=-1, keepdims=True))
    r = xp.maximum(r, r_eps + 0 * r)
    G = G + xp.sum(g * g, axis=-1, keepdims=True)
    step = r / xp.sqrt(G + eps) * g
    return x - step, s - step, r, G
