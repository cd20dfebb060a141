"""Backends: arrays that they create, and reasons why a GPU cannot be used."""

from __future__ import annotations

import pickle
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optbench.core.backend import Backend, get_backend, gpu_problem
from optbench.core.errors import BackendError, InputError
from tests.conftest import strict_backend


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_round_trip_keeps_values_and_precision(backend: Backend, precision: str) -> None:
    backend = get_backend(backend.xp if backend.name == "array_api_strict" else backend.name, backend.device, precision)
    values = np.arange(6.0).reshape(2, 3)
    array = backend.asarray(values)
    assert array.dtype == backend.dtype
    np.testing.assert_array_equal(backend.to_host(array), values)
    assert backend.to_host(backend.zeros((2, 0))).shape == (2, 0)
    taken = backend.xp.take(array, backend.indices(np.array([2, 0])), axis=1)
    np.testing.assert_array_equal(backend.to_host(taken), values[:, [2, 0]])
    assert backend.to_host(backend.asarray(0.5)).shape == ()
    assert backend.eps == np.finfo(precision).eps
    assert backend.clock() <= backend.clock()


def test_solve_triangular_on_numpy() -> None:
    lower = np.array([[2.0, 0.0], [1.0, 4.0]])
    rhs = np.array([[2.0], [9.0]])
    np.testing.assert_allclose(get_backend("numpy").solve_triangular(lower, rhs, lower=True), [[1.0], [2.0]])
    with pytest.raises(BackendError, match="not on array_api_strict"):
        strict_backend().solve_triangular(lower, rhs, lower=True)


def test_unknown_names_are_rejected() -> None:
    with pytest.raises(InputError, match="choose cpu"):
        get_backend("tpu")
    with pytest.raises(InputError, match="float64 or float32"):
        get_backend("numpy", precision="float16")


def test_numpy_backend_can_be_sent_to_another_process() -> None:
    backend = get_backend("cpu", precision="float32")
    assert pickle.loads(pickle.dumps(backend)) == backend
    with pytest.raises(BackendError, match="another process"):
        pickle.dumps(strict_backend())


def _cupy(available: Any, total: Any, largest: Any = lambda: 4.0) -> ModuleType:
    """A CuPy with only what the detection of a GPU needs."""
    module = ModuleType("cupy")

    class Numbers:
        def __add__(self, other: int) -> Numbers:
            return self

        def __matmul__(self, other: Numbers) -> Numbers:
            return self

        def sum(self) -> Any:
            return total()

        def max(self) -> Any:
            return largest()

    module.cuda = SimpleNamespace(is_available=available)  # type: ignore[attr-defined]
    module.arange = lambda n: Numbers()  # type: ignore[attr-defined]
    module.ones = lambda shape: Numbers()  # type: ignore[attr-defined]
    module.linalg = SimpleNamespace(eigh=lambda a: (a, a))  # type: ignore[attr-defined]
    return module


def _raising(error: Exception) -> Any:
    def call() -> Any:
        raise error

    return call


NO_DRIVER = _raising(RuntimeError("cudaErrorInsufficientDriver"))
NO_COMPILER = _raising(RuntimeError("libnvrtc.so not found\nsecond line"))
NO_CUSOLVER = _raising(ImportError("libcusolver.so not found"))
GPUS: dict[str, tuple[ModuleType | None, str]] = {
    "it works": (_cupy(lambda: True, lambda: 6), ""),
    "not installed": (None, "not installed"),
    "no device": (_cupy(lambda: False, lambda: 6), "no usable GPU"),
    "driver too old": (_cupy(NO_DRIVER, lambda: 6), "no usable GPU"),
    "no compiler": (_cupy(lambda: True, NO_COMPILER), "cannot compile kernels for it (libnvrtc.so not found)"),
    "wrong results": (_cupy(lambda: True, lambda: 5), "computes 1 + 2 + 3 wrongly"),
    "no linear algebra": (_cupy(lambda: True, lambda: 6, NO_CUSOLVER), "for it (libcusolver.so not found)"),
    "wrong eigenvalues": (_cupy(lambda: True, lambda: 6, lambda: 3.0), "computes eigenvalues wrongly"),
}


@pytest.mark.parametrize(("cupy", "message"), GPUS.values(), ids=GPUS)
def test_why_a_gpu_cannot_be_used(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType | None, message: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    gpu_problem.cache_clear()
    try:
        assert message in (gpu_problem() or "")
        assert bool(gpu_problem()) == bool(message)
        if message:
            with pytest.raises(BackendError, match=re.escape(message)):
                get_backend("gpu")
    finally:
        gpu_problem.cache_clear()
