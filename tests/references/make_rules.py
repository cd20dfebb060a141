"""Fill in rules.json: paths of the optimizers of PyTorch and Optax, and factors of their learning-rate schedules.

Run with an interpreter that has NumPy, PyTorch and Optax: ``python tests/references/make_rules.py``. A case of rules.json
pairs a spec of ours with the call that makes its counterpart; a new one needs nothing else. All libraries are handed the
same gradients, computed here by NumPy in float64, so that a deviation is one of the update rule alone. The problems are a
quadratic in 5 parameters with condition number 50, and logistic regression on 30 samples of 4 features.

In a call, w is what torch.optim takes: a list of tensors; and o is an optimizer whose learning rate is 1. Optax puts eps
under the root in adagrad, always, and in rmsprop unless told otherwise: the first is comparable at eps = 0 only. Its
adagrad starts the sum of squares at 0.1 unless told otherwise. Ours ends a warm-up of W steps with the factor 1 and starts
what follows with 1 again, so the libraries' straight line takes W - 1 steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("rules.json")
STEPS = (1, 2, 5, 10, 50, 100, 200)
HORIZON = 40  # all steps of a schedule


def library(call: str) -> str:
    """The library that a call of rules.json belongs to."""
    return "optax" if call.startswith("optax.") else "torch"


def gradient(problem: str, data: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient of 1/2 x^T H x - b^T x, or of the mean of log(1 + exp(-z^T x)) over the rows of Z plus l2/2 |x|^2."""
    if problem == "quadratic":
        H, b = np.asarray(data["H"]), np.asarray(data["b"])
        return lambda x: H @ x - b
    Z, l2 = np.asarray(data["Z"]), data["l2"]
    return lambda x: -Z.T @ (1 / (1 + np.exp(Z @ x))) / len(Z) + l2 * x


def torch_path(call: str, grad: Callable[[np.ndarray], np.ndarray], x0: Any) -> list[list[float]]:
    import torch

    x = torch.tensor(x0, dtype=torch.float64)
    optimizer = eval(call, {"torch": torch, "w": [x]})

    def step() -> np.ndarray:
        x.grad = torch.from_numpy(grad(x.numpy()))
        optimizer.step()
        result: np.ndarray = x.numpy()
        return result

    return _recorded(step)


def optax_path(call: str, grad: Callable[[np.ndarray], np.ndarray], x0: Any) -> list[list[float]]:
    import jax
    import optax

    with jax.enable_x64(True):
        optimizer = eval(call, {"optax": optax})
        x = jax.numpy.asarray(np.asarray(x0))
        state = optimizer.init(x)

        def step() -> np.ndarray:
            nonlocal x, state
            updates, state = optimizer.update(jax.numpy.asarray(grad(np.asarray(x))), state, x)
            x = optax.apply_updates(x, updates)
            return np.asarray(x)

        return _recorded(step)


def _recorded(step: Callable[[], np.ndarray]) -> list[list[float]]:
    points = [step().tolist() for _ in range(max(STEPS))]
    return [points[t - 1] for t in STEPS]


def torch_factors(call: str) -> list[float]:
    import torch

    o = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = eval(call, vars(torch.optim.lr_scheduler) | {"o": o})
    factors = []
    for _ in range(HORIZON):
        factors.append(o.param_groups[0]["lr"])
        o.step()
        schedule.step()
    return factors


def optax_factors(call: str) -> list[float]:
    import jax
    import optax

    with jax.enable_x64(True):
        schedule = eval(call, {"optax": optax})
        return [float(schedule(jax.numpy.asarray(float(t)))) for t in range(HORIZON)]


PATHS = {"torch": torch_path, "optax": optax_path}
FACTORS = {"torch": torch_factors, "optax": optax_factors}


def main() -> None:
    cases = json.loads(FILE.read_text())
    for case in cases["paths"]:
        data = cases["data"][case["problem"]]
        case["x"] = PATHS[library(case["call"])](case["call"], gradient(case["problem"], data), data["x0"])
    for case in cases["schedules"]:
        case["factors"] = FACTORS[library(case["call"])](case["call"])
    lists = {name: ",\n".join(map(json.dumps, cases[name])) for name in ("paths", "schedules")}
    parts = [f'"data": {json.dumps(cases["data"])}', *(f'"{name}": [\n{lines}\n]' for name, lines in lists.items())]
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
