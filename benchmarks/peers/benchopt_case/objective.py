"""A quadratic, as benchopt wants its objectives."""

from typing import Any

import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    name = "quadratic"
    sampling_strategy = "callback"

    def set_data(self, center: np.ndarray, matrix: np.ndarray, start: np.ndarray) -> None:
        self.center, self.matrix, self.start = center, matrix, start

    def evaluate_result(self, x: np.ndarray) -> dict[str, Any]:
        e = x - self.center
        return {"value": 0.5 * (e @ (self.matrix @ e))}

    def get_objective(self) -> dict[str, Any]:
        return {"center": self.center, "matrix": self.matrix, "start": self.start}

    def get_one_result(self) -> dict[str, Any]:
        return {"x": self.start}
