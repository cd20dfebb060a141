"""Fixtures shared by all tests: the backends, and a guard that forbids reading a device array on the host."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from optbench.core.backend import Backend, get_backend, gpu_problem

T = TypeVar("T")

# of processes that tests start; this one is pinned below, its BLAS being loaded already
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# a shell starts background jobs with Ctrl-C ignored, and so would be all commands that tests interrupt
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One or two files run in this process, which starts sooner and can be debugged; else xdist takes every core."""
    paths = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(paths) <= 2 and all(Path(path).is_file() for path in paths) else None


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One BLAS thread: the arrays of the tests are small, and machines are shared."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def strict_backend(precision: str = "float64") -> Backend:
    """`array-api-strict` on a pretend device: what is not in the standard fails, and so does mixing with host arrays."""
    import array_api_strict

    return get_backend(array_api_strict, device=array_api_strict.Device("device1"), precision=precision)


def made_backend(name: str) -> Backend:
    """The backend of a test parameter; skips where there is no GPU."""
    if name == "strict":
        return strict_backend()
    if name == "cupy" and gpu_problem():
        pytest.skip(str(gpu_problem()))
    if name == "numpy fused":
        return get_backend("numpy", fused=True)
    return get_backend(name)


GPU = pytest.param("cupy", marks=pytest.mark.gpu)


@pytest.fixture(params=["numpy", "numpy fused", "strict", GPU])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend that problems and update rules must work on."""
    return made_backend(request.param)


@contextlib.contextmanager
def host_reads_forbidden() -> Iterator[None]:
    """Make ``float(x)``, ``bool(x)``, ``int(x)`` and iteration over a strict array raise, as they would stall a GPU."""
    from array_api_strict._array_object import Array

    def refuse(name: str) -> Callable[..., Any]:
        def raiser(*_: Any) -> Any:
            raise AssertionError(f"{name} reads a device array on the host")

        return raiser

    with pytest.MonkeyPatch.context() as patch:
        for name in ("__float__", "__int__", "__bool__", "__index__", "__complex__", "__iter__"):
            patch.setattr(Array, name, refuse(name), raising=False)
        yield


@pytest.fixture
def no_host_sync() -> Iterator[None]:
    """No host read of a strict array in this test, except through `Backend.to_host`."""
    with host_reads_forbidden():
        yield


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files cannot be written to their end."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; `sys.path` is restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run_python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A new interpreter with these arguments, once it has ended; options such as ``cwd`` as `subprocess.run` has them."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


@contextlib.contextmanager
def short_errors() -> Iterator[None]:
    """Of what is raised, only an error of optbench with one short line is allowed."""
    from optbench.core.errors import MAX_MESSAGE, OptbenchError

    try:
        yield
    except OptbenchError as error:
        if len(str(error)) > MAX_MESSAGE or not str(error).isprintable():
            raise AssertionError("the message is not one short line") from error


def assert_refused(arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command refuses its arguments with one sentence that has the message, and stores nothing in the folder."""
    from optbench.cli import main

    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("optbench: ")
    assert err.count("\n") == 1
    assert len(err) < 500
    assert not list(folder.rglob("*.parquet"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)


def noting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The function, but it appends its positional arguments to `calls`, first."""

    @functools.wraps(function)
    def noted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **named)

    return noted


def present(value: T | None) -> T:
    """A value that is known not to be None, such as the optimum of a problem that has one."""
    assert value is not None
    return value


@contextlib.contextmanager
def gpu_waits_forbidden() -> Iterator[None]:
    """Make CuPy raise where it knows that it waits for the device: fetching an array, reading one as a number."""
    import warnings

    import cupyx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated for not seeing every wait; what it sees is enough here
        with cupyx.allow_synchronize(False):
            yield
