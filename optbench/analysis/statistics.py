"""Medians, intervals and tests: what estimates rest on. Functions of arrays."""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95  # of all intervals
DIGITS = 12  # of means that are compared: sums of the same numbers in another order are the same


def median(values: np.ndarray) -> float:
    """Median with infinite values last; of an even number the larger of the middle two, so as not to halve infinity.

    NaN counts as larger than infinity; of no values (shape (0,)) the median is NaN.
    """
    return float(np.sort(values)[len(values) // 2]) if len(values) else np.nan


def group_medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`median` of the values (R,) that are not NaN in every group, by the numbers of groups (R,), 0 to G - 1; (G,)."""
    order = np.lexsort((values, group))
    starts = np.searchsorted(group[order], np.arange(group.max(initial=-1) + 1))
    middle: np.ndarray = values[order][starts + np.bincount(group, ~np.isnan(values)).astype(int) // 2]
    return middle


def spread(values: np.ndarray) -> float:
    """Interquartile range over median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def resample(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Bootstrap resamples (Efron 1979): as many of the n values, drawn with replacement; shape (count, n)."""
    draws: np.ndarray = values[np.random.default_rng(seed).integers(len(values), size=(count, len(values)))]
    return draws


def interval(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of resampled estimates (..., B), each end (...); not interpolated, as estimates may be infinite."""
    ordered, count = np.sort(estimates, axis=-1), estimates.shape[-1]
    low, high = (math.ceil(round(q * count, 6)) - 1 for q in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return ordered[..., low], ordered[..., high]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the first axis, 1 for the largest value; those that tie share the mean of their ranks."""
    result = np.empty(values.shape)
    values = values.round(DIGITS)
    for i, own in enumerate(values):
        result[i] = 0.5 + (values > own).sum(axis=0) + 0.5 * (values == own).sum(axis=0)
    return result


def resampled_mean_ranks(scores: np.ndarray, seeds: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mean ranks of methods over problems in every resample of a bootstrap of two levels.

    Problems are drawn with replacement, and for each problem drawn, seeds of it. All methods share the draws, so that they
    stay paired.

    Parameters
    ----------
    scores : array of shape (M, P, S)
        Of every method, problem and seed; larger is better. The seeds that ran come first.
    seeds : array of int, shape (M, P)
        How many seeds ran.
    count : int
        Number of resamples B.
    seed : int
        Of the random numbers.

    Returns
    -------
    array of shape (M, B)
    """
    rng = np.random.default_rng(seed)
    M, P, S = scores.shape
    total = np.zeros((M, count))
    for _ in range(P):
        problem = rng.integers(P, size=count)  # (B,)
        ran = seeds[:, problem]  # (M, B)
        # one number a draw for all methods: the same seed wherever they have the same seeds
        u = rng.random((S, count))
        sums = np.zeros((M, count))
        for s in range(S):
            drawn = (u[s] * ran).astype(int)  # (M, B)
            sums += np.where(s < ran, scores[np.arange(M)[:, None], problem, drawn], 0.0)
        total += ranks(sums / ran)
    mean: np.ndarray = total / P
    return mean


def sign_test(ahead: int, behind: int) -> float:
    """Two-sided p-value of the exact sign test: how likely fair coins split that many problems as unevenly, or more.

    Ties do not take part. With n problems the p-value is at least 2^(1-n): five are never significant at 5 %.
    """
    n, fewer = ahead + behind, min(ahead, behind)
    return min(1.0, sum(math.comb(n, k) for k in range(fewer + 1)) / 2.0 ** (n - 1))
