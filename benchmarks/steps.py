"""Time of a step of a rule by size, plain and fused."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.common import BACKENDS, backend_or_skip
from optbench.optimizer import At, make_recipe
from optbench.runner.loop import init_state

RULES = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lion"]


class Step:
    """One step of a rule on a stack of runs, without the oracle."""

    params = (RULES, [(1, 100), (64, 10_000)], BACKENDS, ["plain", "fused"])
    param_names = ("rule", "runs x d", "backend", "update")

    def setup(self, rule: str, shape: tuple[int, int], backend: str, update: str) -> None:
        self.backend = dataclasses.replace(backend_or_skip(backend), fused=update == "fused")
        rng = np.random.default_rng(0)
        x, g = (self.backend.asarray(rng.standard_normal(shape)) for _ in range(2))
        self.optimizer = make_recipe(rule).build({"lr": np.full(shape[0], 1e-3)}, None)
        self.at = At(x, self.backend.zeros((shape[0], 1)), g)
        self.state = init_state(self.optimizer, x, self.backend)
        self.t = 0
        self.time_step()  # the first call compiles

    def time_step(self, *_: object) -> None:
        self.t += 1
        self.state = self.optimizer.step(self.t, self.at, self.state)[1]
        self.backend.synchronize()
