"""Sums over mini-batches: one pass gives what matrix products give, for all numbers of runs, samples and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optbench.compile import batches
from optbench.compile.batches import FEW_RUNS, BatchWriter, batch_sums
from optbench.compile.llvm import Value
from optbench.core.backend import Backend, get_backend
from optbench.problem import make_problem
from problems import logistic


def fused(precision: str = "float64") -> Backend:
    return get_backend("numpy", precision=precision, fused=True)


SHAPES = [
    (1, 1, 1, 1),
    (2, 3, 4, 13),
    (3, 10, 11, 8),
    (1, 2, 9001, 13),
    (2, 5, 16, 31),
    (1, 32, 128, 100),
    (1, 1, 5, 16),
]
SHAPES += [(0, 2, 4, 3), (1, 0, 4, 3), (2, 2, 0, 3)]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("seeds", "runs", "batch", "d"), SHAPES)
def test_sums_equal_the_formula(precision: str, seeds: int, runs: int, batch: int, d: int) -> None:
    rng = np.random.default_rng(0)
    w = 3 * rng.standard_normal((seeds, runs, d)).astype(precision)
    Z = rng.standard_normal((50, d)).astype(precision)
    samples = rng.integers(0, 50, (seeds, batch))
    sums = batch_sums(logistic._weights, fused(precision))
    assert sums is not None
    f, g = sums(w, Z, samples)
    margins = np.einsum("slk,sbk->slb", w.astype(float), Z[samples].astype(float))
    weight, e, excess = logistic._weights(np, margins)
    size = 100 * max(batch, 1) ** 0.5 * np.finfo(precision).eps
    np.testing.assert_allclose(f, np.sum(np.log1p(e) + excess, axis=-1), rtol=size)
    np.testing.assert_allclose(g, np.einsum("slb,sbk->slk", weight, Z[samples]), rtol=size, atol=size * batch)
    assert f.dtype == g.dtype == w.dtype


def test_arrays_of_any_layout() -> None:
    rng = np.random.default_rng(0)
    w, Z, samples = rng.standard_normal((2, 3, 7)), rng.standard_normal((20, 7)), rng.integers(0, 20, (2, 9))
    sums = batch_sums(logistic._weights, fused())
    assert sums is not None
    expected = sums(w, Z, samples)
    for other in ((np.asfortranarray(w), Z, samples), (w, np.asfortranarray(Z), samples), (w, Z, samples.astype("i4"))):
        for a, b in zip(sums(*other), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_samples_that_do_not_exist_are_rejected() -> None:
    problem = make_problem("logistic").on(fused())
    x = problem.starts(range(2))
    assert problem.n_samples is not None
    for wrong in (problem.n_samples, -problem.n_samples - 1, 2**40):
        with pytest.raises(IndexError, match="out of bounds"):
            problem.value_and_grad(x, np.array([[0, 1, 2], [0, wrong, 1]]))
    last = [problem.value_and_grad(x, np.array([[0, k], [1, k]])) for k in (-1, problem.n_samples - 1)]
    for a, b in zip(*last, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_a_diverged_run_does_not_change_others_of_its_batch() -> None:
    problem = make_problem("logistic").on(fused())
    x = problem.starts(range(3))[:, None, :] * np.array([1.0, 1e160, np.nan])[:, None]
    samples = np.arange(30).reshape(3, 10)
    f, g = problem.value_and_grad(x[:, :1], samples)
    with np.errstate(all="ignore"):  # as the loop does
        f_all, g_all = problem.value_and_grad(x, samples)
    np.testing.assert_allclose(f_all[:, :1], f, rtol=1e-13)
    np.testing.assert_allclose(g_all[:, :1], g, rtol=1e-12)
    assert np.isnan(f_all[:, 2]).all()
    assert np.isnan(g_all[:, 2]).all()


@pytest.mark.parametrize("runs", [FEW_RUNS, FEW_RUNS + 1])
def test_few_and_many_runs_of_a_batch_give_the_same(runs: int) -> None:
    plain = make_problem("logistic")
    x = 0.5 * np.random.default_rng(0).standard_normal((2, runs, plain.dim))
    samples = np.random.default_rng(1).integers(0, plain.n_samples, (2, 37))
    for a, b in zip(plain.on(fused()).value_and_grad(x, samples), plain.value_and_grad(x, samples), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def counted(xp: Any, m: Any) -> Any:
    e = np.exp(-abs(m))  # not of `xp`
    return m, e, m


class Wrong(BatchWriter):
    """Forgets the last samples of a batch whose size is no multiple of four."""

    def first(self, count: Value, numbers: Any) -> Value:
        return super().first(self.integer("sub", count, 1) if isinstance(numbers, list) else count, numbers)


@pytest.mark.parametrize("formula", [counted, logistic._weights])
def test_what_cannot_be_compiled_runs_uncompiled(formula: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    batches._checked_sums.cache_clear()
    monkeypatch.setattr(batches, "BatchWriter", Wrong)
    sums = batch_sums(formula, fused())
    assert sums is not None
    rng = np.random.default_rng(0)
    w, Z, samples = rng.standard_normal((1, 2, 3)), rng.standard_normal((5, 3)), np.array([[0, 4, 3]])
    with pytest.warns(UserWarning, match=f"'{formula.__name__}' over mini-batches runs uncompiled, because it"):
        f, g = sums(w, Z, samples)
    batches._checked_sums.cache_clear()
    weight, e, rest = formula(np, w @ Z[samples].mT)
    np.testing.assert_array_equal(g, weight @ Z[samples])
    np.testing.assert_array_equal(f, np.sum(np.log1p(e) + rest, axis=-1))
