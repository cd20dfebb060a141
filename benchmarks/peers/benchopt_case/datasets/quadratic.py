"""The quadratics of optbench, with the start point of a seed."""

from typing import Any

from benchopt import BaseDataset

from problems import Quadratic


class Dataset(BaseDataset):
    name = "quadratic"
    parameters = {"dim": [10], "start_seed": [0]}  # noqa: RUF012

    def get_data(self) -> dict[str, Any]:
        problem = Quadratic(dim=self.dim)
        return {"center": problem.center, "matrix": problem.H, "start": problem.start(self.start_seed)}
