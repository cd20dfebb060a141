"""Write rules.json: paths of the optimizers of PyTorch and Optax, and factors of their learning-rate schedules.

Run with an interpreter that has NumPy, PyTorch and Optax: ``python tests/references/make_rules.py``. Each case pairs a spec
of ours with the call that makes its counterpart. All libraries are handed the same gradients, computed here by NumPy in
float64, so that a deviation is one of the update rule alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = (1, 2, 5, 10, 50, 100, 200)
HORIZON = 40  # all steps of a schedule

# w is what torch.optim takes: a list of tensors
TORCH = [
    ("sgd:lr=0.3", "torch.optim.SGD(w, lr=0.3)"),
    ("gradient_descent:lr=0.05", "torch.optim.SGD(w, lr=0.05)"),
    ("momentum:lr=0.1", "torch.optim.SGD(w, lr=0.1, momentum=0.9)"),
    ("momentum:lr=0.2,beta=0.5", "torch.optim.SGD(w, lr=0.2, momentum=0.5)"),
    ("nesterov:lr=0.1", "torch.optim.SGD(w, lr=0.1, momentum=0.9, nesterov=True)"),
    ("nesterov:lr=0.05,beta=0.7", "torch.optim.SGD(w, lr=0.05, momentum=0.7, nesterov=True)"),
    ("momentum_l2", "torch.optim.SGD(w, lr=0.1, momentum=0.9, weight_decay=1e-4)"),
    ("momentum_l2:lr=0.05,beta=0.8,l2=0.1", "torch.optim.SGD(w, lr=0.05, momentum=0.8, weight_decay=0.1)"),
    ("adagrad", "torch.optim.Adagrad(w, lr=0.01)"),
    ("adagrad:lr=0.5,eps=0.001", "torch.optim.Adagrad(w, lr=0.5, eps=0.001)"),
    ("rmsprop", "torch.optim.RMSprop(w, lr=0.01)"),
    ("rmsprop:lr=0.003,rho=0.9,eps=0.01", "torch.optim.RMSprop(w, lr=0.003, alpha=0.9, eps=0.01)"),
    ("adam", "torch.optim.Adam(w, lr=1e-3)"),
    ("adam:lr=0.02,beta1=0.8,beta2=0.95,eps=0.001", "torch.optim.Adam(w, lr=0.02, betas=(0.8, 0.95), eps=0.001)"),
    ("adam_l2", "torch.optim.Adam(w, lr=1e-3, weight_decay=1e-2)"),
    (
        "adam_l2:lr=0.05,beta1=0.7,beta2=0.99,l2=0.3",
        "torch.optim.Adam(w, lr=0.05, betas=(0.7, 0.99), weight_decay=0.3)",
    ),
    ("adamw", "torch.optim.AdamW(w, lr=1e-3, weight_decay=1e-2)"),
    (
        "adamw:lr=0.05,beta1=0.7,beta2=0.99,weight_decay=0.3",
        "torch.optim.AdamW(w, lr=0.05, betas=(0.7, 0.99), weight_decay=0.3)",
    ),
]

# Optax puts eps under the root in adagrad, always, and in rmsprop unless told otherwise: the first is comparable at
# eps = 0 only. Its adagrad starts the sum of squares at 0.1 unless told otherwise.
OPTAX = [
    ("sgd:lr=0.3", "optax.sgd(0.3)"),
    ("momentum:lr=0.2,beta=0.5", "optax.sgd(0.2, momentum=0.5)"),
    ("nesterov:lr=0.05,beta=0.7", "optax.sgd(0.05, momentum=0.7, nesterov=True)"),
    (
        "momentum_l2:lr=0.05,beta=0.8,l2=0.1",
        "optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.05, momentum=0.8))",
    ),
    (
        "sgdw:lr=0.05,beta=0.8,weight_decay=0.1",
        "optax.chain(optax.trace(0.8), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(0.05))",
    ),
    ("adagrad:lr=0.2,eps=0", "optax.adagrad(0.2, initial_accumulator_value=0, eps=0)"),
    ("rmsprop:lr=0.003,rho=0.9,eps=0.01", "optax.rmsprop(0.003, decay=0.9, eps=0.01, eps_in_sqrt=False)"),
    ("adam:lr=0.02,beta1=0.8,beta2=0.95,eps=0.001", "optax.adam(0.02, b1=0.8, b2=0.95, eps=0.001)"),
    ("adam_l2:lr=0.01,l2=0.3", "optax.chain(optax.add_decayed_weights(0.3), optax.adam(0.01))"),
    (
        "adamw:lr=0.05,beta1=0.7,beta2=0.99,weight_decay=0.3",
        "optax.adamw(0.05, b1=0.7, b2=0.99, weight_decay=0.3)",
    ),
    ("lion:lr=0.01", "optax.lion(0.01, weight_decay=0)"),
    ("lion:lr=0.05,beta1=0.7,beta2=0.8,weight_decay=0.3", "optax.lion(0.05, b1=0.7, b2=0.8, weight_decay=0.3)"),
]

# o is an optimizer whose learning rate is 1. Ours ends a warm-up of W steps with the factor 1 and starts what follows with
# 1 again, so the libraries' straight line takes W - 1 steps.
TORCH_SCHEDULES = [
    ("cosine", "CosineAnnealingLR(o, 40)"),
    ("cosine:final=0.2", "CosineAnnealingLR(o, 40, eta_min=0.2)"),
    ("linear:final=0.1", "LinearLR(o, start_factor=1, end_factor=0.1, total_iters=40)"),
    ("exponential:final=0.01", "ExponentialLR(o, 0.01 ** (1 / 40))"),
    ("drops", "MultiStepLR(o, [20, 30], gamma=0.1)"),
    ("drops:at=0.25-0.5-0.9,factor=0.5", "MultiStepLR(o, [10, 20, 36], gamma=0.5)"),
]
OPTAX_SCHEDULES = [
    ("constant", "optax.constant_schedule(1)"),
    ("cosine:final=0.2", "optax.cosine_decay_schedule(1, 40, alpha=0.2)"),
    ("linear:final=0.1", "optax.linear_schedule(1, 0.1, 40)"),
    ("exponential:final=0.01", "optax.exponential_decay(1, 40, 0.01)"),
    ("drops:at=0.25-0.5,factor=0.5", "optax.piecewise_constant_schedule(1, {10: 0.5, 20: 0.5})"),
    (
        "cosine:final=0.1,warmup=8",
        "optax.join_schedules([optax.linear_schedule(1 / 8, 1, 7), optax.cosine_decay_schedule(1, 32, 0.1)], [8])",
    ),
    (
        "linear:warmup=0.2",
        "optax.join_schedules([optax.linear_schedule(1 / 8, 1, 7), optax.linear_schedule(1, 0, 32)], [8])",
    ),
]


def make_data() -> dict[str, Any]:
    """A quadratic in 5 parameters with condition number 50, and 30 samples of 4 features for logistic regression."""
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    H = (basis * np.geomspace(0.04, 2, 5)) @ basis.T
    Z = rng.standard_normal((30, 4)) * [1, 0.5, 2, 1]
    return {
        "quadratic": {"H": (H + H.T) / 2, "b": rng.standard_normal(5), "x0": rng.standard_normal(5)},
        "logistic": {"Z": Z, "l2": 0.01, "x0": rng.standard_normal(4)},
    }


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


PATHS = {"torch": (TORCH, torch_path), "optax": (OPTAX, optax_path)}
FACTORS = {"torch": (TORCH_SCHEDULES, torch_factors), "optax": (OPTAX_SCHEDULES, optax_factors)}


def main() -> None:
    data = make_data()
    paths = [
        {
            "spec": spec,
            "call": call,
            "problem": problem,
            "x": path(call, gradient(problem, data[problem]), data[problem]["x0"]),
        }
        for cases, path in PATHS.values()
        for (spec, call), problem in itertools.product(cases, data)
    ]
    schedules = [
        {"spec": spec, "call": call, "factors": factors(call)}
        for cases, factors in FACTORS.values()
        for spec, call in cases
    ]
    parts = [
        '"data": ' + json.dumps(data, default=np.ndarray.tolist),
        '"paths": [\n' + ",\n".join(json.dumps(case) for case in paths) + "\n]",
        '"schedules": [\n' + ",\n".join(json.dumps(case) for case in schedules) + "\n]",
    ]
    Path(__file__).with_name("rules.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
