"""Oracle calls to a target. They are deterministic, so that every change of behaviour is visible. Lower is better."""

from __future__ import annotations

from typing import Any

import numpy as np

import optbench
from optbench.analysis import tuning, validity

CASES: dict[str, dict[str, Any]] = {
    "gradient_descent": {"lr": 1.9},
    "momentum": {"lr": 1.0},
    "nesterov": {"lr": 1.0},
    "adam": {"lr": 0.3},
    "newton": {},
    "bfgs": {},
    "lbfgs": {},
}


class Calls:
    """Median over three seeds of the calls to 1e-4 of the initial gap."""

    params = (list(CASES), ["quadratic:dim=100", "logistic"])
    param_names = ("optimizer", "problem")
    unit = "oracle calls"

    def track_calls_to_target(self, optimizer: str, problem: str) -> float:
        runs = optbench.sweep(problem, optimizer, seeds=3, steps=1000, stop_at_target=True, **CASES[optimizer])
        return float(np.median(validity.calls_to_target(runs.rows)[:, tuning.target_index(1e-4)]))

    track_calls_to_target.unit = unit  # type: ignore[attr-defined]
