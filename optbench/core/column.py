"""Hyperparameters of rules: numbers that differ between runs, and functions of numbers, as precise as Python's numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from optbench.core.backend import Backend


class Column(np.ndarray):
    """One number (or truth) per run, (R, 1), in float64. Like a Python number it is rounded only where it meets an array.

    So a run gets the same digits whether its hyperparameters are numbers, or are stacked with those of other runs: in
    float32, ``1 - 0.999`` would keep four digits otherwise.

    Attributes
    ----------
    precision : str
        Precision of the arrays that it meets.
    """

    precision: str = "float64"

    @classmethod
    def of(cls, values: Any, precision: str) -> Column:
        """A column of values (R,) or (R, 1)."""
        column = np.array(values, dtype=np.float64).reshape(-1, 1).view(cls)
        column.precision = precision
        column.flags.writeable = False
        return column

    # as for numbers, ``lr *= 0.5`` gives the name a new value; the next step of a rule gets the old one
    __iadd__ = np.ndarray.__add__  # type: ignore[assignment]
    __isub__ = np.ndarray.__sub__  # type: ignore[assignment]
    __imul__ = np.ndarray.__mul__  # type: ignore[assignment]
    __itruediv__ = np.ndarray.__truediv__  # type: ignore[assignment]
    __ifloordiv__ = np.ndarray.__floordiv__  # type: ignore[assignment]
    __imod__ = np.ndarray.__mod__  # type: ignore[assignment]
    __ipow__ = np.ndarray.__pow__  # type: ignore[assignment]

    def __array_finalize__(self, source: Any) -> None:
        self.precision = getattr(source, "precision", "float64")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        is_weak_power = ufunc is np.power and not any(map(_is_array, inputs))
        return self._call(_power if is_weak_power else getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return self._call(function, args, options)

    def _call(self, function: Callable[..., Any], args: Any, options: Any) -> Any:
        meets_array = any(map(_is_array, args))

        def plain(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(map(plain, value))
            if isinstance(value, Column):
                value = value.view(np.ndarray)
                return value.astype(self.precision) if meets_array and value.dtype.kind == "f" else value
            return value

        result = function(*map(plain, args), **{key: plain(value) for key, value in options.items()})
        if meets_array or not isinstance(result, np.ndarray) or result.shape[1:] != (1,):
            return result
        column = result.view(Column)  # of truths too, which a rule may multiply by numbers
        column.precision = self.precision
        return column


def _is_array(value: Any) -> bool:
    """Whether a value decides about the precision of a result."""
    if isinstance(value, list | tuple):
        return any(map(_is_array, value))
    return (
        isinstance(value, np.ndarray) and not isinstance(value, Column) and value.ndim > 0 and value.dtype.kind == "f"
    )


@np.vectorize(otypes=[float])
def _power(a: float, b: float) -> float:
    """Python's power, whose last digit may differ from that of NumPy's vector functions."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if a == 0 else math.nan


class _Functions:
    """An array module whose functions of numbers return Python numbers."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._xp, name)
        if not callable(value) or isinstance(value, type):
            return value

        def function(*args: Any, **options: Any) -> Any:
            result = value(*args, **options)
            return result.item() if isinstance(result, np.generic | np.ndarray) and result.ndim == 0 else result

        setattr(self, name, function)  # the next time it is found at once
        return function


@functools.cache
def rule_module(backend: Backend) -> Any:
    """The array module with which rules are called.

    On NumPy in float32, its functions return Python numbers where NumPy returns float64 without axes, such as the root of
    a hyperparameter, because that would make float64 of the arrays that it meets.
    """
    return _Functions(backend.xp) if (backend.name, backend.precision) == ("numpy", "float32") else backend.xp
