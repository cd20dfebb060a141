"""Common parts of the problems on data: data, blocks of samples that fit a cache, l2 regularization and cross-entropy.

Elementwise formulas are pure functions of numbers, which run on whole arrays or compiled; see `compile.elementwise`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from optbench.compile.elementwise import kernel
from optbench.core.backend import Backend
from optbench.core.types import Array
from optbench.problem import Problem

CPU_NUMBERS, DEVICE_NUMBERS = 2**16, 2**25  # size of an intermediate array: fits a second-level cache, fills a GPU

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

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None

    def set_samples(self, train: Data, test: Data | None = None) -> None:
        """Set `X`, `y`, `X_test` and `y_test` to read-only views, because the evaluation may use the same memory."""
        self.X, self.y = map(_read_only, train)
        if test is not None:
            self.X_test, self.y_test = map(_read_only, test)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def block_numbers(backend: Backend) -> int:
    """Size of an intermediate array of a block."""
    return CPU_NUMBERS if backend.name == "numpy" else DEVICE_NUMBERS


def blocks(n: int, length: int) -> Iterator[slice]:
    """n samples in blocks of about equal length, at most `length`."""
    count = -(-n // length)
    edges = (n * k // count for k in range(count + 1))
    return itertools.starmap(slice, itertools.pairwise(edges))


def ridge(xp: Any, g: Any, x: Any, share: Any, l2: Any) -> Any:
    """Gradient of (1/n) sum_i loss_i + l2/2 |x|^2, from the gradient g of the sum and share = 1/n."""
    return (g * share + l2 * x,)


def _scores(xp: Any, z: Any, c: Any, y: Any) -> Any:
    """Scores with biases; for each sample, the largest score of another class and the score of its own class."""
    z = z + c
    return z, xp.where(y > 0, -xp.inf, z), z * y


def _exponentials(xp: Any, z: Any, other: Any, own: Any) -> Any:
    """exp(z) with the largest score shifted to 0, which cannot overflow, and its sum, between 1 and K."""
    e = xp.exp(z - xp.maximum(other, own))
    return e, e


def _losses(xp: Any, other: Any, own: Any, total: Any, share: Any) -> Any:
    """log sum_k exp(z_k) - z_y, and the factor that turns exponentials into probabilities."""
    return xp.log(total) + (xp.maximum(other, own) - own), share / total


def _slopes(xp: Any, e: Any, scale: Any, y: Any, share: Any) -> Any:
    """Derivative of the loss by the scores, twice: the second is summed over the samples."""
    d = e * scale - y * share
    return d, d


def _correct(xp: Any, other: Any, own: Any) -> Any:
    """1 if the score of a sample's own class is larger than all others, else 0."""
    return (xp.where(own > other, 1.0, 0 * own),)


class CrossEntropy:
    """-log softmax(scores)_y for one-hot classes: scores z (S, L, K, b), biases c (S, L, K), codes y (S, K, b).

    There are S batches, each shared by L points, of b samples of K classes. The scores may be overwritten.
    """

    def __init__(self, backend: Backend) -> None:
        self.xp = backend.xp
        # letters of the axes: s batches, l points, q classes, b samples
        self._scores = kernel(_scores, "slqb, slq, sqb -> slqb, max slb, sum slb", backend)
        self._exponentials = kernel(_exponentials, "slqb, slb, slb -> slqb, sum slb", backend)
        self._losses = kernel(_losses, "slb, slb, slb, -> slb, slb", backend)
        self._slopes = kernel(_slopes, "slqb, slb, sqb, -> slqb, sum slq", backend)
        self._correct = kernel(_correct, "slb, slb -> sum sl", backend)

    def gradient(self, z: Array, c: Array, y: Array, share: float = 1.0) -> tuple[Array, Array, Array]:
        """Sums of the losses (S, L); `share` times their derivatives by the scores, and those summed over the samples.

        The derivatives have the shapes (S, L, K, b) and (S, L, K).
        """
        z, other, own = self._scores(z, c, y)
        e, total = self._exponentials(z, other, own)
        losses, scale = self._losses(other, own, total, share)
        slopes, slope_sums = self._slopes(e, scale, y, share)
        return self.xp.sum(losses, axis=-1), slopes, slope_sums

    def losses(self, z: Array, c: Array, y: Array) -> Array:
        """The loss of every sample, (S, L, b)."""
        z, other, own = self._scores(z, c, y)
        return self._losses(other, own, self._exponentials(z, other, own)[1], 1.0)[0]

    def loss_and_correct(self, z: Array, c: Array, y: Array) -> tuple[Array, Array]:
        """Sums of the losses, and numbers of samples classified correctly (ties are errors); each (S, L)."""
        z, other, own = self._scores(z, c, y)
        (correct,) = self._correct(other, own)
        losses, _ = self._losses(other, own, self._exponentials(z, other, own)[1], 1.0)
        return self.xp.sum(losses, axis=-1), correct

    def scores_and_correct(self, z: Array, c: Array, y: Array) -> tuple[Array, Array]:
        """Scores with biases (S, L, K, b), and numbers of samples classified correctly (S, L)."""
        z, other, own = self._scores(z, c, y)
        return z, self._correct(other, own)[0]

    def probabilities(self, z: Array, c: Array, y: Array) -> Array:
        """softmax(scores), (S, L, K, b); independent of the one-hot codes y."""
        z, other, own = self._scores(z, c, y)
        e, total = self._exponentials(z, other, own)
        return e / self.xp.expand_dims(total, axis=-2)


def total(parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Elementwise sum of tuples of arrays."""
    return functools.reduce(lambda left, right: tuple(a + b for a, b in zip(left, right, strict=True)), parts)
