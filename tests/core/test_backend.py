"""Backends: what they make, and the ways in which a GPU can be missing."""

from __future__ import annotations

import pickle
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
    assert backend.to_host(backend.xp.take(array, backend.indices(np.array([2, 0])), axis=1)).tolist() == [
        [2, 0],
        [5, 3],
    ]
    assert backend.eps == np.finfo(precision).eps


def test_single_numbers_keep_their_shape(backend: Backend) -> None:
    assert backend.to_host(backend.asarray(0.5)).shape == ()


def test_clock_moves_forward(backend: Backend) -> None:
    assert backend.clock() <= backend.clock()


def test_solve_triangular_on_numpy() -> None:
    lower = np.array([[2.0, 0.0], [1.0, 4.0]])
    rhs = np.array([[2.0], [9.0]])
    np.testing.assert_allclose(get_backend("numpy").solve_triangular(lower, rhs, lower=True), [[1.0], [2.0]])
    with pytest.raises(BackendError, match="not on array_api_strict"):
        strict_backend().solve_triangular(lower, rhs, lower=True)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="choose cpu"):
        get_backend("tpu")
    with pytest.raises(InputError, match="float64 or float32"):
        get_backend("numpy", precision="float16")


def test_numpy_backend_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(get_backend("cpu", precision="float32"))) == get_backend(
        "cpu", precision="float32"
    )
    with pytest.raises(BackendError, match="another process"):
        pickle.dumps(strict_backend())


def _cupy(available: Any, total: Any, largest: Any = lambda: 4.0) -> ModuleType:
    """A CuPy of which only what the detection asks for is there."""
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


def _no_compiler() -> int:
    raise RuntimeError("libnvrtc.so not found\nsecond line")


def _no_cusolver() -> float:
    raise ImportError("libcusolver.so not found")


def _driver_too_old() -> bool:
    raise RuntimeError("cudaErrorInsufficientDriver")


def test_a_working_gpu_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", _cupy(lambda: True, lambda: 6))
    gpu_problem.cache_clear()
    try:
        assert gpu_problem() is None
    finally:
        gpu_problem.cache_clear()


@pytest.mark.parametrize(
    ("cupy", "message"),
    [
        (None, "not installed"),
        (_cupy(lambda: False, lambda: 6), "no usable GPU"),
        (_cupy(_driver_too_old, lambda: 6), "no usable GPU"),
        (_cupy(lambda: True, _no_compiler), r"cannot compile kernels for it \(libnvrtc.so not found\)"),
        (_cupy(lambda: True, lambda: 5), "computes 1 \\+ 2 \\+ 3 wrongly"),
        (_cupy(lambda: True, lambda: 6, _no_cusolver), r"cannot load the linear algebra .*libcusolver.so not found"),
        (_cupy(lambda: True, lambda: 6, lambda: 3.0), "computes eigenvalues wrongly"),
    ],
    ids=[
        "not installed",
        "no device",
        "driver too old",
        "no compiler",
        "wrong results",
        "no linear algebra",
        "wrong eigenvalues",
    ],
)
def test_why_a_gpu_cannot_be_used(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType | None, message: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    gpu_problem.cache_clear()
    try:
        with pytest.raises(BackendError, match=message):
            get_backend("gpu")
    finally:
        gpu_problem.cache_clear()
