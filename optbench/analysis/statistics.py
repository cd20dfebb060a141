"""Medians, ranks, bootstrap intervals and tests, as functions of arrays."""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95  # of all intervals
DIGITS = 12  # means are rounded before they are compared, so that the order of summation does not matter


def median(values: np.ndarray) -> float:
    """Median of values (n,) that may be infinite; the larger of the middle two if n is even, NaN if n is 0.

    NaN counts as larger than infinity.
    """
    return float(np.sort(values)[len(values) // 2]) if len(values) else np.nan


def group_medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`median` of the values (R,) of each group, without NaN; groups (R,) are numbered 0 to G - 1. Shape (G,)."""
    order = np.lexsort((values, group))
    starts = np.searchsorted(group[order], np.arange(group.max(initial=-1) + 1))
    middle: np.ndarray = values[order][starts + np.bincount(group, ~np.isnan(values)).astype(int) // 2]
    return middle


def spread(values: np.ndarray) -> float:
    """Interquartile range over median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def resample(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Bootstrap resamples (Efron 1979) of n values, drawn with replacement; shape (count, n)."""
    draws: np.ndarray = values[np.random.default_rng(seed).integers(len(values), size=(count, len(values)))]
    return draws


def interval(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (...) of the middle 95 % of resampled estimates (..., B), not interpolated because they may be infinite."""
    ordered, count = np.sort(estimates, axis=-1), estimates.shape[-1]
    low, high = (math.ceil(round(q * count, 6)) - 1 for q in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return ordered[..., low], ordered[..., high]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the first axis, 1 for the largest value; ties share their mean rank."""
    result = np.empty(values.shape)
    values = values.round(DIGITS)
    for i, value in enumerate(values):
        result[i] = 0.5 + (values > value).sum(axis=0) + 0.5 * (values == value).sum(axis=0)
    return result


def resampled_mean_ranks(scores: np.ndarray, seeds: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mean ranks of methods over problems in every sample of a two-level bootstrap.

    Problems are drawn with replacement, then seeds of each drawn problem. All methods share the draws, so that comparisons
    are paired.

    Parameters
    ----------
    scores : array of shape (M, P, S)
        Scores of every method, problem and seed; larger is better. Missing seeds come last.
    seeds : array of int, shape (M, P)
        Number of seeds.
    count : int
        Number of samples B.
    seed : int
        Seed of the random numbers.

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
        # one number for all methods selects the same seed if they have the same number of seeds
        u = rng.random((S, count))
        sums = np.zeros((M, count))
        for s in range(S):
            drawn = (u[s] * ran).astype(int)  # (M, B)
            sums += np.where(s < ran, scores[np.arange(M)[:, None], problem, drawn], 0.0)
        total += ranks(sums / ran)
    mean: np.ndarray = total / P
    return mean


def sign_test(ahead: int, behind: int) -> float:
    """Two-sided p-value of the exact sign test: the probability that fair coins split at least as unevenly.

    Ties are not counted. With n problems the p-value is at least 2^(1-n), so five are never significant at 5 %.
    """
    n, fewer = ahead + behind, min(ahead, behind)
    return min(1.0, sum(math.comb(n, k) for k in range(fewer + 1)) / 2.0 ** (n - 1))
