"""What the problems on data share.

Training and test data in the form that other libraries take, and blocks of samples whose intermediate arrays fit a cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from optbench.core.backend import Backend
from optbench.problem import Problem

CPU_NUMBERS, DEVICE_NUMBERS = 2**16, 2**25  # in one intermediate array: fits a second-level cache, fills a GPU

Data = tuple[np.ndarray, np.ndarray]  # inputs (n, p), and class numbers (n,) or targets (n,) or (n, q)


class LearningProblem(Problem):
    """The mean of a loss over the training part of a data set.

    Attributes
    ----------
    X : array of shape (n, p)
        Inputs of the training part, scaled if the problem scales them, without a column of ones for an intercept
        (NumPy float64, read-only).
    y : array of shape (n,) or (n, q)
        Class numbers 0 ... K-1 (integers) or targets (float64) of the training part, read-only.
    X_test, y_test : arrays of shape (m, p), and (m,) or (m, q), or None
        The same for the test part, scaled like the training part; None if the problem has no test part.
    """

    code_modules = (
        "optbench.problems.datasets",
        "optbench.problems.files",
        "optbench.problems.terms",
    )

    def training_data(self) -> Data:
        """`X` and `y`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement training_data()")

    def test_data(self) -> Data | None:
        """`X_test` and `y_test`, or None."""
        return None

    @property
    def X(self) -> np.ndarray:  # noqa: N802
        return _read_only(self.training_data()[0])

    @property
    def y(self) -> np.ndarray:
        return _read_only(self.training_data()[1])

    @property
    def X_test(self) -> np.ndarray | None:  # noqa: N802
        data = self.test_data()
        return None if data is None else _read_only(data[0])

    @property
    def y_test(self) -> np.ndarray | None:
        data = self.test_data()
        return None if data is None else _read_only(data[1])


def block_numbers(backend: Backend) -> int:
    """Numbers that an intermediate array of a block should have."""
    return CPU_NUMBERS if backend.name == "numpy" else DEVICE_NUMBERS


def blocks(n: int, length: int) -> Iterator[slice]:
    """n samples in blocks of about equal length, at most `length`."""
    count = -(-n // length)
    for first, last in itertools.pairwise(n * k // count for k in range(count + 1)):
        yield slice(first, last)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to: the evaluation may use the same memory."""
    view = array.view()
    view.flags.writeable = False
    return view
