"""What the benchmarks share: the backends as a parameter, with those that are absent skipped."""

from __future__ import annotations

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import BackendError

BACKENDS = ["numpy", "numpy float32", "cupy", "cupy float32"]


def backend_or_skip(name: str) -> Backend:
    """The backend of a name such as "numpy float32"; asv skips the benchmark if it is absent."""
    module, _, precision = name.partition(" ")
    try:
        return get_backend(module, precision=precision or "float64")
    except BackendError as error:
        raise NotImplementedError(str(error)) from None
