"""Medians, intervals and tests."""

from __future__ import annotations

import numpy as np
import pytest

from optbench.analysis import statistics


def test_infinite_values_come_last_in_a_median() -> None:
    assert statistics.median(np.array([3.0, 1.0, 2.0])) == 2
    assert statistics.median(np.array([1.0, np.inf, 2.0, np.inf])) == np.inf  # the worse of the middle two
    assert np.isnan(statistics.median(np.empty(0)))


def test_intervals_are_the_inverted_distribution_function() -> None:
    estimates = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    assert [float(end) for end in statistics.interval(estimates)] == [25, 975]
    expected = np.quantile(estimates[:2000], [0.025, 0.975], method="inverted_cdf")
    assert [float(end) for end in statistics.interval(estimates)] == expected.tolist()
    low, high = statistics.interval(np.stack([estimates, np.where(estimates > 900, np.inf, estimates)]))
    assert low.tolist() == [25, 25]
    assert high.tolist() == [975, np.inf]


def test_resamples_are_the_same_every_time() -> None:
    values = np.arange(5.0)
    draws = statistics.resample(values, 100, seed=3)
    assert draws.shape == (100, 5)
    assert set(draws.ravel()) == set(values)
    np.testing.assert_array_equal(draws, statistics.resample(values, 100, seed=3))


def test_sign_test_known_values() -> None:
    assert statistics.sign_test(0, 0) == 1
    assert statistics.sign_test(5, 0) == statistics.sign_test(0, 5) == 0.0625
    assert statistics.sign_test(6, 0) == 0.03125
    assert statistics.sign_test(3, 3) == 1
    assert statistics.sign_test(7, 1) == pytest.approx(2 * 9 / 256)
