"""Elementwise formulas: compiled kernels give the same numbers for arrays of any layout, or a warning states why not."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optbench.compile import elementwise as kernels
from optbench.compile.elementwise import kernel
from optbench.compile.numba import has_numba
from optbench.core.backend import Backend, get_backend
from optbench.core.specs import parse_spec
from optbench.problem import Problem, make_problem
from problems import learning, logistic, network
from tests.conftest import run_python

numba = pytest.mark.skipif(not has_numba(), reason="Numba is not installed")

# all formulas of the problems, with their indices
FORMULAS: list[tuple[Callable[..., Any], str]] = [
    (logistic._weights, "rb -> rb, log1p r, sum r"),
    (logistic._losses, "rb -> log1p r, sum r, sum r"),
    (logistic._curvatures, "rb -> rb"),
    (network._tanh, "slhb, slh -> slhb"),
    (network._relu, "slhb, slh -> slhb"),
    (network._tanh_slope, "slhb, slhb -> slhb, sum slh"),
    (network._relu_slope, "slhb, slhb -> slhb, sum slh"),
    (network._residuals, "slqb, slq, sqb, -> slqb, sum sl, sum slq"),
    (learning.ridge, "rd, rd, , -> rd"),
    (learning._scores, "slqb, slq, sqb -> slqb, max slb, sum slb"),
    (learning._exponentials, "slqb, slb, slb -> slqb, sum slb"),
    (learning._losses, "slb, slb, slb, -> slb, slb"),
    (learning._slopes, "slqb, slb, sqb, -> slqb, sum slq"),
    (learning._correct, "slb, slb -> sum sl"),
]
EVERY_FORMULA = pytest.mark.parametrize(
    ("formula", "indices"), FORMULAS, ids=[formula.__name__ for formula, _ in FORMULAS]
)
PROBLEMS = [
    "logistic",
    "logistic:data=wine,test_fraction=0.3",
    "logistic:data=synthetic,rows=1300,columns=7",
    "mlp:data=iris,hidden=6-5",
    "mlp:data=wine,hidden=5,activation=relu,loss=squared",
    "mlp:data=digits,hidden=32",
    "mlp:data=moons,hidden=",
    "teacher:outputs=2,rows=400",
    "autoencoder:data=wine,hidden=3",
]


def fused(precision: str = "float64") -> Backend:
    return get_backend("numpy", precision=precision, fused=True)


def arrays(indices: str, sizes: dict[str, int], precision: str = "float64") -> list[Any]:
    """Positive random numbers for the arguments of a formula."""
    rng = np.random.default_rng(0)
    letters = [part.strip() for part in indices.split("->")[0].split(",")]
    shapes = [tuple(sizes[letter] for letter in part) for part in letters]
    return [rng.uniform(0.1, 2, shape).astype(precision) if shape else 0.25 for shape in shapes]


def copies(given: list[Any]) -> list[Any]:
    return [value.copy() if isinstance(value, np.ndarray) else value for value in given]


@numba
@EVERY_FORMULA
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "sizes", [(2, 3, 4, 45), (1, 1, 1, 1), (3, 2, 5, 1), (1, 4, 2, 128), (0, 3, 2, 5), (2, 1, 1, 0)]
)
def test_compiled_kernels_equal_the_formula(
    formula: Callable[..., Any], indices: str, precision: str, sizes: tuple[int, ...]
) -> None:
    if indices.split("->")[0].count("q") and sizes[-1] == 0:
        pytest.skip("the largest of no numbers")
    lengths = dict(zip("slqb", sizes, strict=True)) | {"r": sizes[0] * sizes[1], "h": sizes[2], "d": sizes[3]}
    given = arrays(indices, lengths, precision)
    plain = kernel(formula, indices, get_backend("numpy", precision=precision))
    with np.errstate(all="ignore"):
        expected = plain(*given)
        result = kernel(formula, indices, fused(precision))(*copies(given))
    rtol = 1e-13 if precision == "float64" else 2e-5
    for a, b in zip(expected, result, strict=True):
        assert (b.shape, b.dtype) == (a.shape, np.dtype(precision))
        np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol / 10)


@numba
@EVERY_FORMULA
def test_arrays_of_any_layout(formula: Callable[..., Any], indices: str) -> None:
    given = arrays(indices, dict(zip("slqbrhd", range(3, 10), strict=True)))
    run = kernel(formula, indices, fused())
    expected = run(*copies(given))
    strided = [np.repeat(v, 2, axis=-1)[..., ::2] if isinstance(v, np.ndarray) else v for v in given]
    turned = [np.asfortranarray(v) if isinstance(v, np.ndarray) else v for v in given]
    locked = copies(given)
    for value in locked:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    for layout in (strided, turned, locked):
        for a, b in zip(expected, run(*layout), strict=True):
            np.testing.assert_array_equal(a, b)
    for value, original in zip(locked, given, strict=True):
        np.testing.assert_array_equal(value, original)


@numba
def test_arrays_of_wrong_shapes_are_rejected() -> None:
    run = kernel(learning.ridge, "rd, rd, , -> rd", fused())
    with pytest.raises(ValueError, match="ridge takes arrays rd, rd"):
        run(np.ones((2, 3)), np.ones((3, 2)), 1.0, 1.0)


MARGINS = [0.0, -0.0, 1e-300, -1e-300, 40.0, -40.0, 800.0, -800.0, 1e308, -1e308, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("fusing", [False, pytest.param(True, marks=numba)])
def test_extreme_margins(precision: str, fusing: bool) -> None:
    backend = get_backend("numpy", precision=precision, fused=fusing)
    with np.errstate(all="ignore"):
        m = np.array(MARGINS).astype(precision)
        wide = m.astype(np.longdouble)
        expected = 1 / (1 + np.exp(wide)), np.log1p(np.exp(-np.abs(wide))) + np.maximum(-wide, 0)
        weight, loss, excess = kernel(logistic._weights, "rb -> rb, log1p r, sum r", backend)(m[:, None].copy())
    finite = np.isfinite(m)
    close: dict[str, Any] = {"rtol": 8 * backend.eps, "atol": float(np.finfo(precision).tiny)}
    np.testing.assert_allclose(weight[finite, 0], expected[0][finite].astype(precision), **close)
    np.testing.assert_allclose((loss + excess)[finite], expected[1][finite].astype(precision), **close)
    assert np.isnan(weight[-1, 0])
    assert np.isnan(loss[-1])
    assert weight[10, 0] == 0  # margin inf
    assert not np.isfinite(excess[11])  # margin -inf


def test_small_losses_keep_their_digits(rng: np.random.Generator) -> None:
    e = 10.0 ** -rng.uniform(0, 300, (40, 569))
    for fusing in (False, True):
        run = kernel(same, "rb -> log1p r", get_backend(fused=fusing))
        for scale in (1, 1e-30):
            exact = np.sum(np.log1p((e * scale).astype(np.longdouble)), axis=1).astype(float)
            np.testing.assert_allclose(run(e * scale)[0], exact, rtol=1e-14)


def same(xp: Any, e: Any) -> Any:
    return (e,)


# ---- problems --------------------------------------------------------------------------------------------------------


def points(problem: Problem, *lead: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((*lead, problem.dim)) / 2


@numba
@pytest.mark.parametrize("spec", PROBLEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_fused_problem_equals_the_plain_one(spec: str, precision: str) -> None:
    host = make_problem(*parse_spec(spec))
    plain, quick = (host.on(get_backend(precision=precision, fused=way)) for way in (False, True))
    assert host.n_samples is not None
    samples = np.random.default_rng(0).integers(0, host.n_samples, (2, 9))
    x = points(host, 2, 3).astype(precision)
    close: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-14} if precision == "float64" else {"rtol": 1e-4, "atol": 1e-5}
    for drawn in (None, samples, samples[0], samples[:, :1]):
        for a, b in zip(plain.value_and_grad(x, drawn), quick.value_and_grad(x, drawn), strict=True):
            np.testing.assert_allclose(b, a, **close)
    np.testing.assert_allclose(quick.value(x), plain.value(x), **close)
    np.testing.assert_allclose(quick.hvp(x, x), plain.hvp(x, x), **close)
    (f, figures), (g, others) = plain.evaluate(x), quick.evaluate(x)
    np.testing.assert_allclose(g, f, **close)
    assert list(figures) == list(others)
    for name, values in figures.items():
        np.testing.assert_allclose(others[name], values, **close)


@numba
@pytest.mark.parametrize("spec", PROBLEMS)
def test_the_fused_gradient_agrees_with_differences(spec: str) -> None:
    problem = make_problem(*parse_spec(spec)).on(fused())
    x, h = points(problem), 1e-7 if "relu" in spec else 1e-6
    along = np.random.default_rng(1).standard_normal((4, problem.dim)) / problem.dim**0.5
    slopes = (problem.value(x + h * along) - problem.value(x - h * along)) / (2 * h)
    np.testing.assert_allclose(along @ problem.value_and_grad(x)[1], slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spec", PROBLEMS)
def test_points_and_results_are_not_overwritten(spec: str) -> None:
    problem = make_problem(*parse_spec(spec)).on(fused())
    x = points(problem, 2, 3)
    original, samples = x.copy(), np.arange(8).reshape(2, 4)
    f, g = problem.value_and_grad(x, samples)
    f_kept, g_kept = np.array(f), np.array(g)
    problem.value_and_grad(x + 1, samples)
    problem.value_and_grad(x + 1)
    problem.evaluate(x + 1)
    again = problem.value_and_grad(x, samples)
    for a, b in ((x, original), (f, f_kept), (g, g_kept), (again[0], f), (again[1], g)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("spec", ["logistic", "mlp:data=digits,hidden=32"])
def test_two_threads_share_a_problem(spec: str) -> None:
    problem = make_problem(*parse_spec(spec)).on(fused())
    samples = np.arange(64)
    tasks = [points(problem, 10) * scale for scale in (0.5, 1.0)]
    expected = [problem.value_and_grad(x, samples) for x in tasks]
    wrong = []

    def work(k: int) -> None:
        for _ in range(50):
            f, g = problem.value_and_grad(tasks[k], samples)
            if not (np.array_equal(f, expected[k][0]) and np.array_equal(g, expected[k][1])):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("spec", PROBLEMS)
def test_copies_share_arrays_and_keep_the_flag(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_problem(*parse_spec(spec))
    monkeypatch.setattr(type(host), "place", lambda self: pytest.fail("arrays were created again"))
    quick = host.on(fused())
    shared = [name for name, value in vars(host).items() if isinstance(value, np.ndarray)]
    assert shared
    assert all(vars(quick)[name] is vars(host)[name] for name in shared)
    back = quick.on(host.backend)
    monkeypatch.undo()
    x = points(host, 2)
    np.testing.assert_array_equal(back.value_and_grad(x)[1], host.value_and_grad(x)[1])
    there = pickle.loads(pickle.dumps(quick))
    assert there.backend.fused
    np.testing.assert_array_equal(there.value_and_grad(x)[1], quick.value_and_grad(x)[1])
    assert quick.code_version == host.code_version


# ---- the cache, and what cannot be compiled --------------------------------------------------------------------------


def test_nothing_is_compiled_before_the_first_call() -> None:
    code = (
        "import sys, problems; from optbench.core.backend import get_backend; "
        "problems.MLP(data='iris').on(get_backend(fused=True)); print('numba' in sys.modules)"
    )
    assert run_python("-c", code).stdout.strip() == "False"


def centered(xp: Any, x: Any) -> Any:
    """Combines elements in a way that compiles: the maximum of a single number is that number."""
    return (x - xp.maximum(x, xp.flip(x)),)


def unknown(xp: Any, x: Any) -> Any:
    return (xp.cumulative_sum(x, axis=0),)


@numba
@pytest.mark.parametrize("formula", [centered, unknown])
def test_a_formula_that_is_not_elementwise_runs_uncompiled(
    formula: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from optbench.compile import fastmath

    monkeypatch.setattr(fastmath, "flip", fastmath.abs, raising=False)
    kernels._checked_kernel.cache_clear()
    x = np.random.default_rng(0).standard_normal((3, 4))
    run = kernel(formula, "rb -> rb", fused())
    with pytest.warns(UserWarning, match=f"the formula '{formula.__name__}' runs uncompiled"):
        result = run(x)
    np.testing.assert_array_equal(result[0], formula(get_backend().xp, x)[0])
    run(x)  # a second warning would be an error
    kernel(formula, "rb -> rb", fused())(x)


def test_without_numba_formulas_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_numba", lambda: False)
    host = make_problem("logistic", {})
    quick = host.on(fused())
    x = points(host, 3)
    for a, b in zip(host.value_and_grad(x), quick.value_and_grad(x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_array_modules_run_plain() -> None:
    import array_api_strict as strict

    run = kernel(learning.ridge, "rd, rd, , -> rd", get_backend(strict, fused=True))
    (result,) = run(strict.ones((2, 3)), strict.ones((2, 3)), 0.5, 0.25)
    assert bool(strict.all(result == 0.75))


@numba
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("seeds", "runs", "batch"), [(1, 1, 1), (2, 3, 4), (3, 10, 11), (1, 2, 9001)])
def test_sums_over_mini_batches_equal_the_formula(precision: str, seeds: int, runs: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    w = 3 * rng.standard_normal((seeds, runs, 13)).astype(precision)
    Z = rng.standard_normal((50, 13)).astype(precision)
    samples = rng.integers(0, 50, (seeds, batch))
    sums = kernels.batch_sums(logistic._weights, fused(precision))
    assert sums is not None
    f, g = sums(w, Z, samples)
    margins = np.einsum("slk,sbk->slb", w.astype(float), Z[samples].astype(float))
    weight, e, excess = logistic._weights(np, margins)
    size = 100 * batch**0.5 * np.finfo(precision).eps
    np.testing.assert_allclose(f, np.sum(np.log1p(e) + excess, axis=-1), rtol=size)
    np.testing.assert_allclose(g, np.einsum("slb,sbk->slk", weight, Z[samples]), rtol=size, atol=size * batch)
    assert f.dtype == g.dtype == w.dtype


@numba
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


@numba
@pytest.mark.parametrize("runs", [kernels.FEW_RUNS, kernels.FEW_RUNS + 1])
def test_few_and_many_runs_of_a_batch_give_the_same(runs: int) -> None:
    plain = make_problem("logistic")
    x = 0.5 * np.random.default_rng(0).standard_normal((2, runs, plain.dim))
    samples = np.random.default_rng(1).integers(0, plain.n_samples, (2, 37))
    for a, b in zip(plain.on(fused()).value_and_grad(x, samples), plain.value_and_grad(x, samples), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@numba
def test_batch_sums_of_another_formula_run_uncompiled() -> None:
    def counted(xp: Any, m: Any) -> Any:
        return m, np.sum(m), m

    with pytest.warns(UserWarning, match="over mini-batches runs uncompiled"):
        assert kernels.batch_sums(counted, fused()) is None
