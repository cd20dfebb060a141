"""Time of a sweep with all runs in one array and one run at a time, and peak memory."""

from __future__ import annotations

import numpy as np

import optbench
from problems import Logistic, Quadratic

RATES = np.geomspace(1e-3, 1, 10)


class Sweep:
    """100 runs of Adam, 200 steps, in one array and one by one."""

    params = (["quadratic", "logistic"], ["together", "one by one"])
    param_names = ("problem", "how")
    timeout = 300

    def setup(self, problem: str, how: str) -> None:
        self.problem = Quadratic(dim=100) if problem == "quadratic" else Logistic()
        _ = self.problem.optimum

    def time_sweep(self, problem: str, how: str) -> None:
        if how == "together":
            optbench.sweep(self.problem, "adam", lr=RATES, seeds=10, steps=200)
        else:
            for seed in range(10):
                for lr in RATES:
                    optbench.sweep(self.problem, "adam", lr=lr, seeds=[seed], steps=200)


class Memory:
    """Peak memory of a process with a sweep of 100 runs of Adam, 20 steps, with imports and data."""

    params = (["quadratic:dim=100", "quadratic:dim=1000", "logistic:data=digits", "mlp:data=digits,hidden=12"],)
    param_names = ("problem",)

    def peakmem_sweep(self, problem: str) -> None:
        optbench.sweep(problem, "adam", lr=RATES, seeds=10, steps=20)
