"""Small types that all packages share: arrays, status of a run, oracles and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

import numpy as np


class Array(Protocol):
    """An array of any array-API namespace.

    On a device, `__array__`, `__float__`, `__int__` and `__bool__` wait for it or raise; use `Backend.to_host`.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def T(self) -> Array: ...  # noqa: N802
    @property
    def mT(self) -> Array: ...  # noqa: N802

    def __getitem__(self, key: Any, /) -> Array: ...
    def __array__(self) -> np.ndarray: ...
    def __float__(self) -> float: ...
    def __int__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __neg__(self) -> Array: ...
    def __abs__(self) -> Array: ...
    def __invert__(self) -> Array: ...
    def __add__(self, other: Any, /) -> Array: ...
    def __radd__(self, other: Any, /) -> Array: ...
    def __sub__(self, other: Any, /) -> Array: ...
    def __rsub__(self, other: Any, /) -> Array: ...
    def __mul__(self, other: Any, /) -> Array: ...
    def __rmul__(self, other: Any, /) -> Array: ...
    def __truediv__(self, other: Any, /) -> Array: ...
    def __rtruediv__(self, other: Any, /) -> Array: ...
    def __floordiv__(self, other: Any, /) -> Array: ...
    def __rfloordiv__(self, other: Any, /) -> Array: ...
    def __mod__(self, other: Any, /) -> Array: ...
    def __rmod__(self, other: Any, /) -> Array: ...
    def __pow__(self, other: Any, /) -> Array: ...
    def __rpow__(self, other: Any, /) -> Array: ...
    def __matmul__(self, other: Any, /) -> Array: ...
    def __rmatmul__(self, other: Any, /) -> Array: ...
    def __and__(self, other: Any, /) -> Array: ...
    def __or__(self, other: Any, /) -> Array: ...
    def __lt__(self, other: Any, /) -> Array: ...
    def __le__(self, other: Any, /) -> Array: ...
    def __gt__(self, other: Any, /) -> Array: ...
    def __ge__(self, other: Any, /) -> Array: ...
    def __eq__(self, other: Any, /) -> Any: ...
    def __ne__(self, other: Any, /) -> Any: ...


class Namespace(Protocol):
    """An array-API namespace: a module whose functions return one array, except those listed here."""

    inf: float
    linalg: Any
    broadcast_arrays: Callable[..., list[Array]]
    result_type: Callable[..., Any]
    __array_namespace_info__: Callable[[], Any]

    def __getattr__(self, name: str, /) -> Callable[..., Array]: ...


class Status(StrEnum):
    """How a run ended."""

    BUDGET = "budget"  # all steps were taken
    TARGET = "target"  # it reached the last target
    GRADIENT = "gradient"  # its gradient became small enough
    DIVERGED = "diverged"  # an iterate, or its value, was not finite
    INVALID = "invalid"  # its problem contradicts itself, for example by a value below its stated lower bound
    FAILED = "failed"  # the computation raised an error, or ended its process, or exceeded its limits

    @property
    def is_lost(self) -> bool:
        """Whether the run has no valid end: it diverged, is invalid or failed."""
        return self in (Status.DIVERGED, Status.INVALID, Status.FAILED)


class Oracle(StrEnum):
    """What one oracle call returns at a point; each kind includes the ones before it.

    Examples
    --------
    >>> [str(kind) for kind in optbench.Oracle]
    ['value', 'gradient', 'hessian']
    >>> optbench.make_recipe("newton").kind.oracle
    <Oracle.HESSIAN: 'hessian'>
    """

    VALUE = "value"
    GRADIENT = "gradient"
    HESSIAN = "hessian"


@dataclass(frozen=True)
class Metric:
    """A number other than the objective that a problem reports of an iterate.

    Parameters
    ----------
    name : str
        ``"test_accuracy"``, for example.
    better : {"lower", "higher"} or None
        Which values are better; None if neither is, as for coordinates.
    unit : str
        Empty for numbers without a unit, such as fractions.

    Examples
    --------
    >>> optbench.Metric("test_accuracy", better="higher")
    Metric(name='test_accuracy', better='higher', unit='')
    """

    name: str
    better: Literal["lower", "higher"] | None
    unit: str = ""
