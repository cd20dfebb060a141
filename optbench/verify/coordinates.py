"""Every coordinate of a gradient against extrapolated differences of the value, with limits from their own errors.

One wrong coordinate out of thousands does not show in the norm of the gradient. Here differences are extrapolated to step
zero (Richardson), so that steps can be large and the rounding of the value hardly counts. Groups of coordinates are moved
together first, and those of doubtful groups one by one, at several scales of steps and from either side, because the value
may have kinks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from optbench.problem import Problem
from optbench.verify.evaluation import directions, in_chunks, values
from optbench.verify.findings import limits, norm

RESOLVED = 5e-7  # an error of a coordinate by this factor is found if its limit is smaller
# powers of eps: the largest step of each scale, relative to max(1, |x_i|)
TOGETHER = (1 / 7, 0)  # of groups
ALONE = (0, 1 / 9, 1 / 6, 1 / 3)  # of single coordinates; the third resolves most
HALVINGS = 2.0 ** -np.arange(4)  # steps of a scale, relative to its largest
MAX_GROUPS = 128
MAX_SINGLE = 200  # coordinates that are moved alone
NOISE = 16  # multiple of the estimated rounding of a value that the rounding of a difference does not exceed
CLEARLY = 4  # times their limits differ estimates that contradict each other clearly
SAFETY = 4  # multiple of the estimated truncation error


class CoordinateErrors(NamedTuple):
    """Errors of the coordinates of a gradient at one point.

    Attributes
    ----------
    error, limit : arrays of shape (d,)
        Difference of the gradient and the extrapolated differences, and the largest that passes. Coordinates of a group
        share the difference of the group, unless they were moved alone. The limit is infinite if the group is in doubt
        and there were too many such coordinates to move them alone.
    size : array of shape (d,)
        |g_i|.
    """

    error: np.ndarray
    limit: np.ndarray
    size: np.ndarray

    @property
    def worst(self) -> int:
        """The coordinate with the largest error relative to its limit; a NaN counts as the largest."""
        return int(np.argmax(self.error / self.limit))

    @property
    def unresolved(self) -> np.ndarray:
        """Whether a relative error of 1e-6 could go unnoticed, because the coordinate is too small; shape (d,)."""
        return (self.limit > RESOLVED * self.size) & (self.size > 0)


class Estimates(NamedTuple):
    """Extrapolated errors along k directions, their limits, and all quotients that they come from."""

    error: np.ndarray  # (k,)
    limit: np.ndarray  # (k,)
    quotients: np.ndarray  # (4, k)


def coordinate_errors(problem: Problem, x: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> CoordinateErrors:
    """The errors of the gradient g at the point x, both (d,) on the host."""
    probe = _Probe(problem, x, g, rng)
    size = np.abs(g)
    error, limit = np.zeros(problem.dim), np.full(problem.dim, np.inf)
    # what rounding hides at the largest steps stays hidden; the larger coordinates are to be resolved
    hidden = RESOLVED * size * probe.unit < probe.floor(min(TOGETHER))
    needed = np.where(hidden, np.inf, RESOLVED * size)  # (d,)

    def settle(groups: Sequence[np.ndarray] | np.ndarray, power: float) -> np.ndarray:
        """Set the errors of groups that agree within small limits; the coordinates of all others, most doubtful first."""
        centered, _, _ = probe.estimates(groups, power)
        rest = np.zeros(problem.dim, dtype=bool)
        for group, r, most in zip(groups, centered.error, centered.limit, strict=True):
            if abs(r) <= most <= np.min(needed[group] * probe.unit[group]):
                error[group], limit[group] = abs(r) / probe.unit[group], most / probe.unit[group]
            else:
                rest[group] = True
                doubt[group] = np.maximum(doubt[group], abs(r) / most if np.isfinite(r) else np.inf)
        return np.argsort(np.where(rest, -doubt, 1.0), kind="stable")[: np.count_nonzero(rest)]

    doubt = np.zeros(problem.dim)  # largest errors relative to their limits so far
    doubtful = np.arange(problem.dim)
    for power in TOGETHER:
        if len(doubtful):
            doubtful = settle(np.array_split(rng.permutation(doubtful), min(len(doubtful), MAX_GROUPS)), power)
    doubtful = doubtful[:MAX_SINGLE]
    if len(doubtful):
        doubtful = settle(doubtful[:, None], ALONE[2])
    if len(doubtful):
        scales = [probe.estimates(doubtful[:, None], power) for power in ALONE]
        for k, i in enumerate(doubtful):
            error[i], limit[i] = (value / probe.unit[i] for value in _trusted(scales, k))
    # rounding of the gradient; in float32 no step is large beside rounding and small beside the distance of kinks
    rounding = 16 * problem.backend.eps if problem.backend.precision == "float64" else 4 * limits(problem).gradient
    return CoordinateErrors(error, np.maximum(limit, np.maximum(1e-8 * size, rounding * norm(g))), size)


def _trusted(scales: Sequence[tuple[Estimates, Estimates, Estimates]], k: int) -> tuple[float, float]:
    """Error and limit of direction k, by the most accurate of the centered and one-sided differences of all scales.

    Those of the largest steps count only if the next ones agree. If the smallest steps contradict the selected difference
    or each other, or other differences contradict each other clearly, the value has a kink within the steps. Then the limit
    is the range of all quotients at the smallest steps, between which the derivatives on both sides of the kink lie.
    """
    by_scale = [[(float(e.error[k]), float(e.limit[k])) for e in kinds] for kinds in scales]
    if any(_contradict(a, b) for a, b in itertools.product(*by_scale[:2])):
        del by_scale[0]
    best = min(itertools.chain(*by_scale), key=lambda estimate: estimate[1])
    error, limit = best
    clear = itertools.combinations(itertools.chain(*by_scale), 2)
    if any(itertools.starmap(_contradict, itertools.combinations([best, *by_scale[-1]], 2))) or any(
        _contradict(a, b, CLEARLY) for a, b in clear
    ):
        quotients = np.stack([e.quotients[:, k] for e in scales[-1]])  # (3, 4)
        error = float(quotients.flat[np.argmin(np.abs(quotients))])
        limit = max(limit, float(np.ptp(quotients)))
    return abs(error), limit


def _contradict(one: tuple[float, float], other: tuple[float, float], times: float = 1.0) -> bool:
    """Whether two errors differ by more than so many times their limits."""
    return abs(one[0] - other[0]) > times * (one[1] + other[1])


class _Probe:
    """Differences of the value around x, less what the gradient g predicts."""

    def __init__(self, problem: Problem, x: np.ndarray, g: np.ndarray, rng: np.random.Generator) -> None:
        self.problem, self.x, self.g = problem, x, g
        self.unit = np.maximum(1.0, np.abs(x.astype(float)))  # (d,)
        self.sign = rng.choice([-1.0, 1.0], problem.dim)
        self.f, self.noise = self._rounding(rng)

    def floor(self, power: float) -> float:
        """The limit by rounding alone of an estimate at the smallest step of this scale."""
        return self.noise * NOISE / float(float(self.problem.backend.eps) ** power * HALVINGS[-1])

    def _rounding(self, rng: np.random.Generator) -> tuple[float, float]:
        """f(x), and the size of its rounding error, from sixth differences along a line (Hamming 1973, section 6).

        Differences of order k multiply the standard deviation of independent errors by sqrt((2k)! / k!^2), and cancel
        polynomials of smaller degree.
        """
        v = directions(self.problem, 1, rng)[0].astype(float)
        step = float(self.problem.backend.eps) ** 0.5 * max(1.0, float(np.abs(self.x).max()))
        points = (self.x + np.arange(-6, 7)[:, None] * step * v).astype(self.x.dtype)  # (13, d)
        f = values(self.problem, points)
        noise = float(np.sqrt(np.mean(np.diff(f, 6) ** 2) / math.comb(12, 6)))
        return float(f[6]), max(noise, float(self.problem.backend.eps) * float(np.abs(f).max()))

    def estimates(
        self, groups: Sequence[np.ndarray] | np.ndarray, power: float
    ) -> tuple[Estimates, Estimates, Estimates]:
        """The error of the gradient along each group of coordinates: centered, and from below and from above."""
        h = float(self.problem.backend.eps) ** power * HALVINGS  # (4,)
        above, below = (np.stack([self._excess(groups, side * step) for step in h]) for side in (1, -1))  # (4, k)
        by = h[:, None]
        return (
            self._extrapolated((above - below) / (2 * by), h, 2),
            self._extrapolated(-below / by, h, 1),
            self._extrapolated(above / by, h, 1),
        )

    def _excess(self, groups: Sequence[np.ndarray] | np.ndarray, h: float) -> np.ndarray:
        """f(z) - f(x) - g^T (z - x) at the points z, moved by h times unit and sign along each group; (k,)."""

        def moved(problem: Problem, rows: np.ndarray) -> np.ndarray:
            points = np.tile(self.x, (len(rows), 1))  # (rows, d)
            predicted = np.empty(len(rows))
            for row, j in enumerate(rows):
                i = groups[j]
                points[row, i] = self.x[i] + h * self.unit[i] * self.sign[i]
                predicted[row] = self.g[i] @ (points[row, i].astype(float) - self.x[i])
            return values(problem, points) - self.f - predicted

        return in_chunks(self.problem, np.arange(len(groups)), moved)

    def _extrapolated(self, r: np.ndarray, h: np.ndarray, order: int) -> Estimates:
        """The most accurate entry of the table of Richardson for quotients r (4, k) at steps h (4,).

        The error of an entry is estimated by its differences from those behind it, as by Ridders (1982), plus rounding.
        """
        error, limit = r[-1], np.full(r.shape[1], np.inf)
        behind = r
        for level in range(len(h)):
            factor = 2.0 ** (order * level)
            entries = (factor * behind[1:] - behind[:-1]) / (factor - 1) if level else behind[1:]
            change = np.maximum(np.abs(entries - behind[1:]), np.abs(entries - behind[:-1]))
            first = max(level, 1)
            bounds = SAFETY * change + NOISE * self.noise / h[first:, None]
            for entry, bound in zip(entries, bounds, strict=True):
                closer = bound < limit
                error, limit = np.where(closer, entry, error), np.where(closer, bound, limit)
            behind = entries if level else behind
        return Estimates(error, limit, r)
