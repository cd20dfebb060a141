"""PyTorch: torch.optim one run at a time, and torch.func.vmap over all runs at once; gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import grad_and_value, vmap
from torch.nn import functional

from benchmarks.peers.work import BETA, BETA1, BETA2, EPS, Result, Work


def quadratic(x: Any, batch: Any, l2: float) -> Any:
    center, matrix = batch
    e = x[0] - center
    return 0.5 * (e @ (matrix @ e))


def logistic(w: Any, batch: Any, l2: float) -> Any:
    return functional.softplus(-(batch[0] @ w[0])).mean() + l2 / 2 * (w[0] @ w[0])


def mlp(w: Any, batch: Any, l2: float) -> Any:
    X, Y = batch
    W1, c1, W2, c2 = w
    z = functional.linear(torch.tanh(functional.linear(X, W1, c1)), W2, c2)
    f = (torch.logsumexp(z, 1) - (z * Y).sum(1)).mean()
    return f + l2 / 2 * sum((part * part).sum() for part in w)


VALUES = {"quadratic": quadratic, "logistic": logistic, "mlp": mlp}


def optimizer(rule: str, parameters: list[Any], lr: float, **how: bool) -> torch.optim.Optimizer:
    if rule == "adam":
        return torch.optim.Adam(parameters, lr, (BETA1, BETA2), EPS, **how)
    return torch.optim.SGD(parameters, lr, momentum=BETA, **how)


def one_by_one(work: Work, runs: range, **how: bool) -> Callable[[], Result]:
    """The given runs, each with its own optimizer; `how` may set `fused` or `foreach`."""
    value = VALUES[work.problem.name]
    data = [torch.tensor(part) for part in work.data]
    samples = None if work.samples is None else torch.tensor(work.samples)

    def run() -> Result:
        values, last = np.empty((work.steps, len(runs))), []
        for column, r in enumerate(runs):
            x = [torch.tensor(part, requires_grad=True) for part in work.parts(work.x0[r])]
            opt = optimizer(work.rule, x, float(work.lr[r]), **how)
            seed = r // len(work.rates)
            if work.batch:
                value(x, data, work.l2).item()
            for t in range(work.steps):
                batch = data if samples is None else [part[samples[t, seed]] for part in data]
                opt.zero_grad()
                f = value(x, batch, work.l2)
                f.backward()
                values[t, column] = f.item()
                opt.step()
            with torch.no_grad():
                value(x, data, work.l2).item()
            last.append(torch.cat([part.detach().ravel() for part in x]).numpy())
        return Result(values, np.stack(last))

    return run


def mapped(work: Work) -> Callable[[], Result]:
    """All runs at once: gradients by torch.func, the rule on stacks of parameters, a Python loop over steps."""
    value = VALUES[work.problem.name]
    data = tuple(torch.tensor(part) for part in work.data)
    samples = None if work.samples is None else torch.tensor(work.samples)
    lead = (len(work.seeds), len(work.rates))
    oracle = vmap(grad_and_value(lambda x, batch: value(x, batch, work.l2)), in_dims=(0, None))
    of_seeds = vmap(oracle)  # runs of a seed share its batch
    full = vmap(lambda x: value(x, data, work.l2))

    def gradient(x: tuple[Any, ...], t: int) -> Any:
        if samples is None:
            return oracle(x, data)
        batch = tuple(part[samples[t]] for part in data)  # each (S, b, ...)
        g, f = of_seeds(tuple(part.reshape(*lead, *part.shape[1:]) for part in x), batch)
        return [part.flatten(0, 1) for part in g], f.flatten()

    def run() -> Result:
        x = tuple(torch.tensor(part) for part in work.parts(work.x0))
        rates = [torch.tensor(work.lr).reshape(-1, *[1] * (part.ndim - 1)) for part in x]
        m, v = ([torch.zeros_like(part) for part in x] for _ in range(2))
        values = torch.empty((work.steps, work.runs), dtype=x[0].dtype)
        if work.batch:
            full(x)
        for t in range(work.steps):
            g, values[t] = gradient(x, t)
            if work.rule == "adam":
                for part, lr, gi, mi, vi in zip(x, rates, g, m, v, strict=True):
                    mi.mul_(BETA1).add_(gi, alpha=1 - BETA1)
                    vi.mul_(BETA2).addcmul_(gi, gi, value=1 - BETA2)
                    root = (vi / (1 - BETA2 ** (t + 1))).sqrt_().add_(EPS)
                    part -= lr * (mi / (1 - BETA1 ** (t + 1))) / root
            else:
                for part, lr, gi, vi in zip(x, rates, g, v, strict=True):
                    vi.mul_(BETA).add_(gi)
                    part -= lr * vi
        full(x)
        return Result(values.numpy(), work.joined([part.numpy() for part in x]))

    return run


def step_of(rule: str, x: np.ndarray, g: np.ndarray, lr: float, **how: bool) -> Callable[[int], Any]:
    """A function that takes a number of steps of torch.optim on one tensor, and returns the iterate."""
    tensor = torch.tensor(x, requires_grad=True)
    tensor.grad = torch.tensor(g)
    opt = optimizer(rule, [tensor], lr, **how)

    def run(count: int) -> Any:
        for _ in range(count):
            opt.step()
        return tensor.detach().numpy()

    return run
