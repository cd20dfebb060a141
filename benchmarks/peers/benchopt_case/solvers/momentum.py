"""Momentum in NumPy, recorded at every step."""

import numpy as np
from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion


class Solver(BaseSolver):
    name = "momentum"
    sampling_strategy = "callback"
    parameters = {"lr": [0.1]}  # noqa: RUF012
    stopping_criterion = NoCriterion(strategy="callback")

    def set_objective(self, center, matrix, start):
        self.center, self.matrix, self.start = center, matrix, start

    def run(self, callback):
        self.x, v = self.start.copy(), np.zeros_like(self.start)
        while callback():
            v = 0.9 * v + self.matrix @ (self.x - self.center)
            self.x = self.x - self.lr * v

    def get_next(self, stop_val):
        return stop_val + 1

    def get_result(self):
        return {"x": self.x}
