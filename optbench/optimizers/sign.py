"""Update rules whose step is the sign of an average; see `gradient` for what a rule is."""

from __future__ import annotations

from optbench.optimizer import rule


@rule(
    decay="weight_decay",
    equivariances=("flip", "scale"),
    special_cases={"beta1=0,weight_decay=0,lr=0.01": "adam:beta1=0,beta2=0,eps=0,lr=0.01"},
    accuracy=1e-8,
)
def lion(xp, x, g, t, m, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Lion (Chen et al. 2023, Algorithm 2): the sign of an average of gradients, with decoupled weight decay."""
    c = beta1 * m + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    return x - lr * (xp.sign(c) + weight_decay * x), m
