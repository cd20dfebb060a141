"""Fixtures shared by all tests: the backends, and a guard that forbids reading a device array on the host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from optbench.arrays import Backend, get_backend, gpu_problem


def strict_backend(precision: str = "float64") -> Backend:
    """`array-api-strict` on a pretend device: what is not in the standard fails, and so does mixing with host arrays."""
    import array_api_strict

    return get_backend(array_api_strict, device=array_api_strict.Device("device1"), precision=precision)


@pytest.fixture(params=["numpy", "strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend that problems and optimizers must work on."""
    if request.param == "strict":
        return strict_backend()
    if request.param == "cupy" and gpu_problem():
        pytest.skip(str(gpu_problem()))
    return get_backend(request.param)


@contextlib.contextmanager
def host_reads_forbidden() -> Iterator[None]:
    """Make ``float(x)``, ``bool(x)``, ``int(x)`` and iteration over a strict array raise, as they would stall a GPU."""
    from array_api_strict._array_object import Array

    def refuse(name: str) -> Callable[..., Any]:
        def raiser(*_: Any) -> Any:
            raise AssertionError(f"{name} reads a device array on the host")

        return raiser

    names = ["__float__", "__int__", "__bool__", "__index__", "__complex__", "__iter__"]
    kept = {name: getattr(Array, name) for name in names if hasattr(Array, name)}
    for name in names:
        setattr(Array, name, refuse(name))
    try:
        yield
    finally:
        for name in names:
            if name in kept:
                setattr(Array, name, kept[name])
            else:
                delattr(Array, name)


@pytest.fixture
def no_host_sync() -> Iterator[None]:
    """No host read of a strict array in this test, except through `Backend.to_host`."""
    with host_reads_forbidden():
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)
