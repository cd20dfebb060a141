"""Momentum in NumPy, recorded at every step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion


class Solver(BaseSolver):
    name = "momentum"
    sampling_strategy = "callback"
    parameters = {"lr": [0.1]}  # noqa: RUF012
    stopping_criterion = NoCriterion(strategy="callback")

    def set_objective(self, center: np.ndarray, matrix: np.ndarray, start: np.ndarray) -> None:
        self.center, self.matrix, self.start = center, matrix, start

    def run(self, callback: Callable[[], bool]) -> None:
        self.x, v = self.start.copy(), np.zeros_like(self.start)
        while callback():
            v = 0.9 * v + self.matrix @ (self.x - self.center)
            self.x = self.x - self.lr * v

    def get_next(self, stop_val: int) -> int:
        return stop_val + 1

    def get_result(self) -> dict[str, Any]:
        return {"x": self.x}
