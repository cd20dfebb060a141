"""A quadratic, as benchopt wants its objectives."""

from benchopt import BaseObjective


class Objective(BaseObjective):
    name = "quadratic"
    sampling_strategy = "callback"

    def set_data(self, center, matrix, start):
        self.center, self.matrix, self.start = center, matrix, start

    def evaluate_result(self, x):
        e = x - self.center
        return {"value": 0.5 * (e @ (self.matrix @ e))}

    def get_objective(self):
        return {"center": self.center, "matrix": self.matrix, "start": self.start}

    def get_one_result(self):
        return {"x": self.start}
