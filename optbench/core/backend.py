"""The array module, device and precision that problems and optimizers compute with.

Problems and optimizers are written to the array-API standard. `Backend` adds only what the standard lacks: copies from and
to the host, waiting for the device, a clock, the peak memory, and triangular solves.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from optbench.core.errors import BackendError, InputError
from optbench.core.types import Array, Namespace

PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class Backend:
    """Where arrays live: an array module, a device and a floating-point precision.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"cupy"``, or the name of another array-API namespace.
    xp : module
        The namespace, in the form that follows the array-API standard.
    device : object
        The namespace's own device object; None for its default.
    precision : str
        ``"float64"`` or ``"float32"``.
    fused : bool or None
        Whether update rules (`compile.rules`) and elementwise formulas of problems (`compile.elementwise`) run compiled;
        None leaves the choice to the optimizer, and does not compile formulas of problems.

    See Also
    --------
    get_backend : The backend for a name.

    Examples
    --------
    >>> backend = optbench.get_backend("numpy", precision="float32")
    >>> backend.label
    'numpy float32'
    >>> backend.zeros((2, 3)).dtype
    dtype('float32')
    """

    name: str
    xp: Namespace
    device: Any = None
    precision: str = "float64"
    fused: bool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # modules cannot be pickled, so a process looks the namespace up by name
        if self.name not in ("numpy", "cupy"):
            raise BackendError(f"the array module {self.name} cannot be sent to another process; use one job")
        return get_backend, (self.name, self.device, self.precision, self.fused)

    @functools.cached_property
    def dtype(self) -> Any:
        """Floating-point dtype of every array of this backend."""
        return getattr(self.xp, self.precision)

    @functools.cached_property
    def eps(self) -> float:
        """Machine epsilon: the distance from 1 to the next larger number."""
        return float(np.finfo(self.precision).eps)

    @property
    def label(self) -> str:
        """Array module and precision, for tables."""
        return f"{self.name} {self.precision}"

    def asarray(self, values: Any) -> Array:
        """Host values as an array of this backend's precision, on its device.

        Parameters
        ----------
        values : array_like
            Anything that NumPy can read.

        Returns
        -------
        array
            Of the same shape.
        """
        if self.name == "numpy":
            return np.asarray(values, dtype=self.precision)
        # contiguous, so that CuPy copies it through a page-locked buffer, without waiting for the device
        host = np.asarray(values, dtype=self.precision, order="C")
        return self.xp.asarray(host, dtype=self.dtype, device=self.device)

    def indices(self, values: np.ndarray) -> Array:
        """Host integers as an index array on the device.

        Parameters
        ----------
        values : array of int
            NumPy array of any shape.

        Returns
        -------
        array of int
            Of the same shape.
        """
        if self.name == "numpy":
            return np.asarray(values, dtype=np.intp)
        return self.xp.asarray(np.asarray(values, dtype=np.int64), device=self.device)

    def as_float64(self, values: np.ndarray) -> Array:
        """Host values as a float64 array on the device, for hyperparameters of a fused rule.

        In float32, 1 - 0.999 keeps four digits, and the fused rule would differ from the uncompiled one, which computes
        with Python floats.

        Parameters
        ----------
        values : array of float
            NumPy array of any shape.

        Returns
        -------
        array of float64
            Of the same shape.
        """
        host = np.asarray(values, dtype=np.float64, order="C")
        return host if self.name == "numpy" else self.xp.asarray(host, device=self.device)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Zeros of this precision on the device.

        Parameters
        ----------
        shape : tuple of int
            Shape of the array.

        Returns
        -------
        array
            Of this shape.
        """
        return self.xp.zeros(shape, dtype=self.dtype, device=self.device)

    def to_host(self, array: Array) -> np.ndarray:
        """A NumPy copy or view of an array of this backend; waits for the device.

        Parameters
        ----------
        array : array
            Array of this backend, of any shape.

        Returns
        -------
        numpy.ndarray
            Of the same shape and dtype.
        """
        if self.name == "numpy":
            return np.asarray(array)
        if self.name == "cupy":
            import cupy

            host: np.ndarray = cupy.asnumpy(array)
            return host
        import array_api_compat

        home = self.xp.__array_namespace_info__().default_device()
        return np.asarray(array_api_compat.to_device(array, home))

    def synchronize(self) -> None:
        """Wait until the device has finished its work."""
        if self.name == "cupy":
            import cupy

            with cupy.cuda.Device(self.device):
                cupy.cuda.get_current_stream().synchronize()

    def clock(self) -> float:
        """Seconds of a monotonic clock, read once the device is idle.

        Returns
        -------
        float
            Time in seconds since an arbitrary moment.
        """
        self.synchronize()
        return time.perf_counter()

    def peak_memory(self) -> int | None:
        """Largest size of the device's memory pool since `free_memory`.

        The pool keeps freed memory, so its present size is its peak. Handles and code of the libraries are not in it.

        Returns
        -------
        int or None
            Size in bytes; None on the CPU.
        """
        if self.name != "cupy":
            return None
        import cupy

        with cupy.cuda.Device(self.device):
            return int(cupy.get_default_memory_pool().total_bytes())

    def free_memory(self) -> None:
        """Return unused memory of the pool to the device, which resets `peak_memory`."""
        if self.name == "cupy":
            import cupy

            with cupy.cuda.Device(self.device):
                cupy.get_default_memory_pool().free_all_blocks()

    def solve_triangular(self, matrix: Array, rhs: Array, *, lower: bool) -> Array:
        """Solve a triangular system ``matrix @ y = rhs``.

        Parameters
        ----------
        matrix : array of shape (d, d)
            Triangular matrix.
        rhs : array of shape (d, k)
            Right-hand sides.
        lower : bool
            Whether the lower triangle is used, or the upper one.

        Returns
        -------
        array of shape (d, k)
            The solutions y.

        Raises
        ------
        BackendError
            If the namespace is neither NumPy nor CuPy.
        """
        if self.name == "numpy":
            from scipy.linalg import solve_triangular
        elif self.name == "cupy":
            from cupyx.scipy.linalg import solve_triangular
        else:
            raise BackendError(f"solve_triangular is available on numpy and cupy, not on {self.name}")
        solution: Array = solve_triangular(matrix, rhs, lower=lower)
        return solution


def get_backend(
    name: Any = "numpy", device: Any = None, precision: str = "float64", fused: bool | None = None
) -> Backend:
    """The backend for a name, a `--device` word or an array-API namespace.

    Parameters
    ----------
    name : str, module or Backend
        ``"numpy"`` or ``"cpu"``; ``"cupy"`` or ``"gpu"``; or an array-API namespace such as ``array_api_strict``. A
        `Backend` is returned as it is.
    device : object, optional
        Device of the namespace, as its creation functions take it. For CuPy the number of the GPU, which becomes the
        current device of this thread, because functions such as `zeros` use that one. One process uses one GPU.
    precision : {"float64", "float32"}
        Floating-point precision of all arrays.
    fused : bool, optional
        See `Backend`.

    Returns
    -------
    Backend
        The backend.

    Raises
    ------
    BackendError
        If a GPU is requested and cannot be used; the message states the cause.
    InputError
        If the name or the precision is unknown.

    Examples
    --------
    >>> optbench.get_backend("cpu").label
    'numpy float64'
    """
    if isinstance(name, Backend):
        return name
    if precision not in PRECISIONS:
        raise InputError(f"no precision {precision!r}; choose float64 or float32")
    if not isinstance(name, str):
        return Backend(name.__name__.rpartition(".")[2], name, device, precision, fused)
    if name in ("numpy", "cpu"):
        return Backend("numpy", _compatible("numpy"), None, precision, fused)
    if name in ("cupy", "gpu", "cuda"):
        problem = gpu_problem()
        if problem:
            raise BackendError(problem)
        if device is not None:
            import cupy

            try:
                cupy.cuda.Device(device).use()
            except Exception as error:  # CuPy raises its own type for errors of the driver
                raise BackendError(f"there is no GPU number {device!r} ({_first_line(error)})") from None
        return Backend("cupy", _compatible("cupy"), device, precision, fused)
    raise InputError(f"no device or array module {name!r}; choose cpu (numpy) or gpu (cupy)")


def _compatible(name: str) -> Any:
    """The namespace of an array library that follows the standard."""
    return importlib.import_module(f"array_api_compat.{name}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@functools.cache
def gpu_problem() -> str | None:
    """Why a GPU cannot be used here, in one sentence, or None if it can.

    CuPy can be imported without a driver, and loads NVRTC, cuBLAS and cuSOLVER only when they are first called. So each of
    them is tried in turn. The answer is cached for the process.
    """
    try:
        import cupy
    except ImportError:
        return "the GPU needs CuPy, which is not installed: pip install 'optbench[cuda13]' (or [cuda12], never both)"
    usable = False
    with contextlib.suppress(Exception):  # any error means that it is not usable
        usable = cupy.cuda.is_available()
    if not usable:
        return (
            "CuPy is installed but finds no usable GPU: check that nvidia-smi lists one and that the driver is as "
            "new as the CUDA version of the CuPy package; or use --device cpu"
        )

    def largest_eigenvalue() -> Any:
        square = cupy.ones((1, 2, 2))
        # the batched eigensolver of older cuSOLVERs left some matrices unchanged (cupy issue 4847)
        return cupy.linalg.eigh(square @ square)[0].max()

    tasks: list[tuple[str, str, Callable[[], Any], float]] = [
        ("compile kernels", "1 + 2 + 3", lambda: (cupy.arange(3) + 1).sum(), 6),
        ("load linear algebra", "eigenvalues", largest_eigenvalue, 4),
    ]
    for task, quantity, compute, expected in tasks:
        try:
            result = float(compute())
        except Exception as error:  # a missing library, an unsupported architecture, ...
            return (
                f"the GPU cannot be used: CuPy cannot {task} for it ({_first_line(error)}): install the CUDA component "
                "wheels with pip install 'optbench[cuda13]' (or [cuda12]), or a CUDA toolkit"
            )
        if not abs(result - expected) < 1e-12:
            return f"the GPU computes {quantity} wrongly; use --device cpu"
    return None


NUMPY = get_backend("numpy")
