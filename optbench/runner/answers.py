"""What problems and optimizers return in the loop: a wrong shape or type is an error that names who returned it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any, NoReturn

import numpy as np

from optbench.core.types import Array
from optbench.problem import Problem

PAIRS = (tuple, list)


class Answers:
    """Checks of the answers of a problem and of an optimizer.

    Parameters
    ----------
    problem : Problem
        Its backend says what arrays and which type of numbers are right.
    optimizer : str
        Name of the optimizer.
    """

    def __init__(self, problem: Problem, optimizer: str) -> None:
        self.problem, self.optimizer, self.xp = problem, optimizer, problem.backend.xp
        zeros = problem.backend.zeros((1,))
        self.kind, self.dtype = type(zeros), zeros.dtype
        self.shows_owner = problem.backend.name in ("numpy", "cupy")  # as the attribute `base`

    def fits(self, value: Any, shape: tuple[int, ...]) -> bool:
        """Whether a value is an array of this shape, of the module and the precision of the run."""
        return type(value) is self.kind and value.shape == shape and value.dtype == self.dtype

    def own(self, function: str, results: Any, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """Results of a function of the problem as arrays that nobody else can change or read.

        An optimizer may change what it gets, so it gets copies of arrays that the problem may hold.

        Raises
        ------
        TypeError
            If the results are not arrays of these shapes and of the precision of the run.
        """
        if not isinstance(results, PAIRS) or len(results) != len(shapes):
            self._blame_problem(function, f"must return the pair (f, g), not {_description(results)}")
        arrays, kind, dtype = list(results), self.kind, self.dtype
        del results  # now only `arrays` refers to an array that the problem does not hold
        for k, shape in enumerate(shapes):
            array = arrays[k]
            if type(array) is not kind or array.shape != shape or array.dtype != dtype:
                name = "f" if k == 0 else "g"
                self._refuse(function, "H" if function == "hessian" else name, array, shape)
            del array
            # names count as references too; here there are that by the list, and that by the argument
            if (
                not self.shows_owner
                or getrefcount(arrays[k]) > 2
                or (arrays[k].base is not None and _is_shared(arrays[k]))
            ):
                arrays[k] = self.copy(arrays[k])
        return arrays

    def copy(self, array: Array) -> Array:
        """A copy of an array of the run."""
        copied: Any = array
        return copied.copy() if self.shows_owner else self.xp.asarray(array, copy=True)

    def check_metrics(self, metrics: Any, shape: tuple[int, ...]) -> None:
        """Raise an error unless metrics are those that the problem declares, real numbers of this shape."""
        if not isinstance(metrics, Mapping):
            self._blame_problem("metrics", f"must return a dict, not {_description(metrics)}")
        self.problem.check_metrics(metrics)
        for name, values in metrics.items():
            if not self.fits(values, shape):
                self._refuse("metrics", repr(name), values, shape)

    def blame_optimizer(self, x: Any, shape: tuple[int, ...]) -> NoReturn:
        """Raise the error for points of an optimizer that do not have this shape."""
        if type(x) is self.kind and x.shape == shape:
            cure = (
                "keep the type of x, for example by xp.astype(..., x.dtype); "
                "NumPy's 0.5 * (g > 0) is float64, whatever the type of g"
                if x.dtype.kind in "fiub"
                else "its points must be real numbers"
            )
        else:
            cure = "return one row for each run, as x has"
        raise TypeError(
            f"the optimizer {self.optimizer!r} returned {_description(x)} as points instead of {self._expected(shape)}; "
            f"{cure}"
        )

    def _refuse(self, function: str, name: str, value: Any, shape: tuple[int, ...]) -> NoReturn:
        self._blame_problem(function, f"returned {_description(value)} as {name} instead of {self._expected(shape)}")

    def _blame_problem(self, function: str, what: str) -> NoReturn:
        raise TypeError(f"{function}() of the problem {self.problem.spec} {what}")

    def _expected(self, shape: tuple[int, ...]) -> str:
        kind = "array" if self.kind is np.ndarray else self.kind.__name__
        return f"an {kind} of shape {shape} and type {self.dtype}"


def _is_shared(view: Any) -> bool:
    """Whether others may hold the memory of an array that is a view."""
    return type(view.base) is not type(view) or getrefcount(view.base) > 2


def _description(value: Any) -> str:
    """The kind of a value, for messages."""
    if value is None:
        return "None"
    kind = type(value).__name__
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    kind = "array" if type(value) is np.ndarray else kind
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} of shape {tuple(value.shape)} and type {value.dtype}"
