"""Fill in mlp.json: values, gradients and Hessian products of the networks by PyTorch's automatic differentiation.

Run with an interpreter that has PyTorch and this checkout: ``python tests/references/make_mlp.py``. A case is the spec of a
problem, from which only the data come; layers, losses and derivatives are PyTorch's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from optbench.core.specs import parse_spec
from optbench.problem import make_problem
from problems import LinearAutoencoder
from problems.network import Perceptron

FILE = Path(__file__).with_name("mlp.json")


def perceptron(problem: Perceptron) -> Callable[[torch.Tensor], torch.Tensor]:
    X, Y = (torch.from_numpy(part) for part in problem._parts["train"])
    activation = getattr(torch, problem.activation)

    def objective(w: torch.Tensor) -> torch.Tensor:
        a, k = X, 0
        for p, q in zip(problem.sizes, problem.sizes[1:], strict=False):
            a = activation(a) if k else a
            W, c = w[k : k + q * p].reshape(q, p), w[k + q * p : k + q * p + q]
            a, k = torch.nn.functional.linear(a, W, c), k + q * p + q
        if problem.loss == "squared":
            loss = ((a - Y) ** 2).sum(dim=1).mean() / 2
        else:
            loss = torch.nn.functional.cross_entropy(a, Y.argmax(dim=1))
        return loss + problem.l2 / 2 * (w @ w)

    return objective


def autoencoder(problem: LinearAutoencoder) -> Callable[[torch.Tensor], torch.Tensor]:
    X = torch.tensor(problem.X)

    def objective(w: torch.Tensor) -> torch.Tensor:
        W1, W2 = w.reshape(2, -1)
        W1, W2 = W1.reshape(problem.hidden, -1), W2.reshape(-1, problem.hidden)
        return ((X - X @ W1.T @ W2.T) ** 2).sum(dim=1).mean() / 2

    return objective


def main() -> None:
    cases = []
    for spec in [case["spec"] for case in json.loads(FILE.read_text())]:
        problem = make_problem(*parse_spec(spec))
        if isinstance(problem, LinearAutoencoder):
            objective = autoencoder(problem)
        else:
            assert isinstance(problem, Perceptron)
            objective = perceptron(problem)
        x, v = np.random.default_rng(1).standard_normal((2, problem.dim)) / 2
        w = torch.from_numpy(x).requires_grad_()
        f = objective(w)
        (g,) = torch.autograd.grad(f, w, create_graph=True)
        (hv,) = torch.autograd.grad(g @ torch.from_numpy(v), w)
        cases.append({"spec": spec, "f": f.item(), "g": g.tolist(), "hv": hv.tolist()})
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
