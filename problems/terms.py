"""Elementwise texts that several problems share, the ridge and the cross-entropy of class scores, and sums over blocks.

Texts are pure functions of numbers and run as they stand on whole arrays, or compiled; see `optbench.kernels`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from optbench.compile.elementwise import kernel
from optbench.core.backend import Array, Backend


def ridge(xp: Any, g: Any, x: Any, share: Any, l2: Any) -> Any:
    """The gradient of a mean from that of a sum, share = 1/n, and of l2/2 |x|^2."""
    return (g * share + l2 * x,)


def _scores(xp: Any, z: Any, c: Any, y: Any) -> Any:
    """Scores with their biases; of each sample the largest of another class, and its own."""
    z = z + c
    return z, xp.where(y > 0, -xp.inf, z), z * y


def _exponentials(xp: Any, z: Any, other: Any, own: Any) -> Any:
    """exp(z) with the largest score moved to 0, so that none overflows, and their sum, between 1 and K."""
    e = xp.exp(z - xp.maximum(other, own))
    return e, e


def _losses(xp: Any, other: Any, own: Any, total: Any, share: Any) -> Any:
    """log sum_k exp(z_k) - z_y, and what takes exponentials to probabilities."""
    return xp.log(total) + (xp.maximum(other, own) - own), share / total


def _slopes(xp: Any, e: Any, scale: Any, y: Any, share: Any) -> Any:
    """Derivative of the loss by the scores, and the same for its sum over samples."""
    d = e * scale - y * share
    return d, d


def _right(xp: Any, other: Any, own: Any) -> Any:
    """1 where a sample's own class has the largest score, and has it alone."""
    return (xp.where(own > other, 1.0, 0 * own),)


class CrossEntropy:
    """-log softmax(scores)_y, for classes coded as 0 and 1: scores (S, L, K, b), biases (S, L, K), codes (S, K, b).

    S batches, of which each is seen by L points; b samples of K classes. Scores given may be overwritten.
    """

    def __init__(self, backend: Backend) -> None:
        self.xp = backend.xp
        self._scores = kernel(_scores, "slqb, slq, sqb -> slqb, max slb, sum slb", backend)
        self._exponentials = kernel(_exponentials, "slqb, slb, slb -> slqb, sum slb", backend)
        self._losses = kernel(_losses, "slb, slb, slb, -> slb, slb", backend)
        self._slopes = kernel(_slopes, "slqb, slb, sqb, -> slqb, sum slq", backend)
        self._right = kernel(_right, "slb, slb -> sum sl", backend)

    def gradient(self, z: Array, c: Array, y: Array, share: float = 1.0) -> tuple[Array, Array, Array]:
        """Sums of the losses (S, L); `share` times their derivatives by the scores, and those summed over the samples."""
        z, other, own = self._scores(z, c, y)
        e, total = self._exponentials(z, other, own)
        losses, scale = self._losses(other, own, total, share)
        slopes, slope_sums = self._slopes(e, scale, y, share)
        return self.xp.sum(losses, axis=-1), slopes, slope_sums

    def losses(self, z: Array, c: Array, y: Array) -> Array:
        """The loss of every sample, (S, L, b)."""
        z, other, own = self._scores(z, c, y)
        return self._losses(other, own, self._exponentials(z, other, own)[1], 1.0)[0]

    def answers(self, z: Array, c: Array, y: Array) -> tuple[Array, Array]:
        """Sums of the losses, and how many samples are classified rightly, not by a tie; each (S, L)."""
        z, other, own = self._scores(z, c, y)
        (right,) = self._right(other, own)
        losses, _ = self._losses(other, own, self._exponentials(z, other, own)[1], 1.0)
        return self.xp.sum(losses, axis=-1), right

    def right(self, z: Array, c: Array, y: Array) -> tuple[Array, Array]:
        """Scores with their biases, and how many samples are classified rightly, (S, L)."""
        z, other, own = self._scores(z, c, y)
        return z, self._right(other, own)[0]

    def probabilities(self, z: Array, c: Array, y: Array) -> Array:
        """softmax(scores); the codes are those of any class."""
        z, other, own = self._scores(z, c, y)
        e, total = self._exponentials(z, other, own)
        return e / self.xp.expand_dims(total, axis=-2)


def total(parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Sums of the corresponding members of tuples of arrays."""
    return functools.reduce(lambda left, right: tuple(a + b for a, b in zip(left, right, strict=True)), parts)
