"""Time of a value and gradient, by problem."""

from __future__ import annotations

from benchmarks.common import BACKENDS, backend_or_skip
from optbench.core.random import Batches
from optbench.core.types import Array
from optbench.problem import as_problem

SPECS = [
    "quadratic:dim=100",
    "quadratic:dim=1000",
    "logistic:data=breast_cancer",
    "logistic:data=digits",
    "mlp:data=digits,hidden=12",
    "rosenbrock:dim=100",
]


class Oracle:
    """Value and gradient of the full objective, 20 runs at once."""

    params = (SPECS, BACKENDS)
    param_names = ("problem", "backend")
    samples: Array | None = None

    def setup(self, spec: str, backend: str) -> None:
        self.backend = backend_or_skip(backend)
        self.problem = as_problem(spec).on(self.backend)
        self.x = self.problem.starts(range(20))
        self.time_value_and_grad()

    def time_value_and_grad(self, *_: object) -> None:
        self.problem.value_and_grad(self.x, self.samples)
        self.backend.synchronize()


class MiniBatch(Oracle):
    """Value and gradient on mini-batches of 64, 5 seeds x 4 settings."""

    params = (["logistic:data=digits", "mlp:data=digits,hidden=12"], BACKENDS)

    def setup(self, spec: str, backend: str) -> None:
        super().setup(spec, backend)
        self.x = self.backend.xp.reshape(self.x, (5, 4, self.problem.dim))
        assert self.problem.n_samples is not None
        batches = Batches(tuple(range(5)), self.problem.n_samples, 64)
        self.samples = self.backend.indices(batches.draw(0, 1)[0])
        self.time_value_and_grad()
