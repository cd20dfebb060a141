"""What the benchmarks share: the backends as a parameter, with those that are absent skipped."""

from __future__ import annotations

from typing import Any

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import BackendError
from optbench.core.specs import parse_spec
from optbench.problem import Problem, make_problem

BACKENDS = ["numpy", "numpy float32", "cupy", "cupy float32"]


def backend_or_skip(name: str) -> Backend:
    """The backend of a name such as "numpy float32", or asv's word for a benchmark that does not apply here."""
    module, _, precision = name.partition(" ")
    try:
        return get_backend(module, precision=precision or "float64")
    except BackendError as error:
        raise NotImplementedError(str(error)) from None


def problem_of(spec: str, backend: Backend) -> Problem:
    """The problem of a spec, on a backend."""
    return make_problem(*parse_spec(spec)).on(backend)


def points(problem: Problem, runs: int) -> Any:
    """Start points of the seeds 0, 1, ...; shape (runs, d)."""
    return problem.starts(range(runs))
