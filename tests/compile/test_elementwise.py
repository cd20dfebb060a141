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
from optbench.compile.graph import Node
from optbench.compile.llvm import Value
from optbench.compile.loops import LoopWriter, parse
from optbench.core.backend import Backend, get_backend
from optbench.core.specs import parse_spec
from optbench.problem import Problem, make_problem
from problems import learning, logistic, network
from tests.conftest import run_python

# all formulas of the problems, with their indices
FORMULAS: list[tuple[Callable[..., Any], str]] = [
    (logistic._weights, "slb -> slb, log1p sl, sum sl"),
    (logistic._losses, "rb -> log1p r, sum r, sum r"),
    (logistic._curvatures, "rb -> rb"),
    (network._tanh, "slhb, slh -> slhb"),
    (network._relu, "slhb, slh -> slhb"),
    (network._tanh_slope, "slhb, slhb -> slhb, sum slh"),
    (network._relu_slope, "slhb, slhb -> slhb, sum slh"),
    (network._residuals, "slqb, slq, sqb, -> slqb, sum sl, sum slq"),
    (learning.ridge, "sld, sld, , -> sld"),
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


SIZES = [(2, 3, 4, 45), (1, 1, 1, 1), (3, 2, 5, 1), (1, 4, 2, 128), (0, 3, 2, 5), (2, 1, 1, 0)]
SIZES += [(1, 2, 3, length) for length in (7, 8, 16, 37, 129, 1000, 5000)]
EXACT = {"_relu", "_tanh_slope", "_relu_slope", "_residuals", "ridge", "_scores", "_slopes", "_correct"}


@EVERY_FORMULA
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("sizes", SIZES)
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
    assert LoopWriter(formula, *parse(indices), precision).graph.exact == (formula.__name__ in EXACT)
    for a, b in zip(expected, result, strict=True):
        assert (b.shape, b.dtype) == (a.shape, np.dtype(precision))
        if formula.__name__ in EXACT:
            np.testing.assert_array_equal(b, a)
        else:  # elementary functions differ by some units in the last place
            rtol = 32 * float(np.finfo(precision).eps)
            np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol)


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


def test_arrays_of_wrong_shapes_are_rejected() -> None:
    run = kernel(learning.ridge, "rd, rd, , -> rd", fused())
    with pytest.raises(ValueError, match="ridge takes arrays rd, rd"):
        run(np.ones((2, 3)), np.ones((3, 2)), 1.0, 1.0)
    with pytest.raises(ValueError, match="ridge takes arrays rd, rd"):
        run(np.ones((2, 3, 1)), np.ones((2, 3, 1)), 1.0, 1.0)


MARGINS = [0.0, -0.0, 1e-300, -1e-300, 40.0, -40.0, 800.0, -800.0, 1e308, -1e308, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("fusing", [False, True])
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


def exponential(xp: Any, x: Any) -> Any:
    return (xp.exp(-x * x / (1 + abs(x))),)


# ---- problems --------------------------------------------------------------------------------------------------------


def points(problem: Problem, *lead: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((*lead, problem.dim)) / 2


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


# ---- the cache, and what cannot be compiled --------------------------------------------------------------------------


def test_nothing_is_compiled_before_the_first_call() -> None:
    code = (
        "import sys, problems; from optbench.core.backend import get_backend; "
        "problems.MLP(data='iris').on(get_backend(fused=True)); print('llvmlite' in sys.modules)"
    )
    assert run_python("-c", code).stdout.strip() == "False"


def flipped(xp: Any, x: Any) -> Any:
    return (x - xp.flip(x),)


def summed(xp: Any, x: Any) -> Any:
    return (x - xp.sum(x, axis=-1, keepdims=True),)


def branching(xp: Any, x: Any) -> Any:
    return (x if x > 0 else -x,)


def deciding(xp: Any, x: Any, share: Any) -> Any:
    return (x if share > 0 else -x,)


def selected(xp: Any, x: Any) -> Any:
    return (x[..., ::-1],)


@pytest.mark.parametrize(
    ("formula", "cause"),
    [
        (flipped, r"uses xp.flip.*line \d+ of test_elementwise.py: return \(x - xp.flip"),
        (summed, r"reduces .*line \d+ of test_elementwise.py: return \(x - xp.sum"),
        (branching, r"decides in Python.*line \d+ of test_elementwise.py: return \(x if x > 0"),
        (deciding, r"decides in Python.*line \d+ of test_elementwise.py: return \(x if share > 0"),
        (selected, r"takes elements.*line \d+ of test_elementwise.py: return \(x\["),
    ],
)
def test_a_formula_that_is_not_elementwise_runs_uncompiled(formula: Callable[..., Any], cause: str) -> None:
    kernels._checked_kernel.cache_clear()
    given: list[Any] = [np.random.default_rng(0).uniform(0.1, 2, (1, 1)), 0.5][: 1 + (formula is deciding)]
    indices = "rb, -> rb" if formula is deciding else "rb -> rb"
    run = kernel(formula, indices, fused())
    with pytest.warns(UserWarning, match=f"the formula '{formula.__name__}' runs uncompiled, because it {cause}"):
        result = run(*given)
    np.testing.assert_array_equal(result[0], formula(get_backend().xp, *given)[0])
    run(*given)  # a second warning would be an error
    kernel(formula, indices, fused())(*given)


class Wrong(LoopWriter):
    """Writes code that is wrong for numbers of one sign, at the end of a row, for large numbers or for zero."""

    fault = ""

    def compute(self, node: Node) -> Value:
        value = super().compute(node)
        faults: dict[str, Callable[[], Value | None]] = {
            "sign": lambda: self.compare("less", value, self.constant(0, value.kind, value.lanes)),
            "end": lambda: self.mask if self.mask.name.startswith("%") else None,
            "large": lambda: self.compare("greater", value, self.constant(1e3, value.kind, value.lanes)),
            "zero": lambda: self.compare("equal", value, self.constant(0, value.kind, value.lanes)),
        }
        condition = faults[self.fault]() if node.op == "input" else None
        return value if condition is None else self.select(condition, self.constant(3, value.kind, value.lanes), value)


@pytest.mark.parametrize("fault", ["sign", "end", "large", "zero"])
@pytest.mark.parametrize("formula", [same, exponential])
def test_wrong_code_is_not_used(formula: Callable[..., Any], fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LoopWriter", Wrong)
    monkeypatch.setattr(Wrong, "fault", fault)
    kernels._checked_kernel.cache_clear()
    x = np.linspace(-2, 2, 20).reshape(2, 10)
    with pytest.warns(UserWarning, match=f"the formula '{formula.__name__}' runs uncompiled, because its compiled"):
        result = kernel(formula, "rb -> rb", fused())(x.copy())
    kernels._checked_kernel.cache_clear()
    np.testing.assert_array_equal(result[0], formula(np, x)[0])


def test_other_array_modules_run_plain() -> None:
    import array_api_strict as strict

    run = kernel(learning.ridge, "rd, rd, , -> rd", get_backend(strict, fused=True))
    (result,) = run(strict.ones((2, 3)), strict.ones((2, 3)), 0.5, 0.25)
    assert bool(strict.all(result == 0.75))


# ---- elementary functions and reductions -----------------------------------------------------------------------------


def elementary(name: str) -> Callable[..., Any]:
    def formula(xp: Any, x: Any) -> Any:
        return (getattr(xp, name)(x),)

    return formula


def over(name: str, x: np.ndarray) -> np.ndarray:
    """A compiled elementary function of every number."""
    return np.asarray(kernel(elementary(name), "b -> b", fused(str(x.dtype)))(x.copy())[0])


def sizes(low: float, high: float, count: int = 50_000) -> np.ndarray:
    """Positive numbers spread over orders of magnitude, from 10^low to 10^high."""
    return 10.0 ** np.random.default_rng(0).uniform(low, high, count)


def spread(low: float, high: float, count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, count)


ARGUMENTS = {
    "exp": [spread(-750, 712), spread(-1, 1), -sizes(-320, 0), sizes(-320, 0)],
    "tanh": [spread(-25, 25), spread(-1, 1), sizes(-320, 300), -sizes(-320, 300)],
    "log": [sizes(-323, 308), spread(0.5, 2), 1 + spread(-1e-8, 1e-8), 1 - sizes(-16, -1)],
    "log1p": [spread(0, 1), spread(-1, 1), sizes(-320, 308), -sizes(-320, 0), sizes(-17, 0) - 1],
}
BOUNDS = {"exp": 1.0, "tanh": 2.5, "log": 1.0, "log1p": 1.5}  # units in the last place


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wider numbers to compare with")
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_machine_code_is_within_units_in_the_last_place(name: str, precision: str) -> None:
    with np.errstate(all="ignore"):
        x = np.concatenate(ARGUMENTS[name]).astype(precision)
        exact = getattr(np, name)(x.astype(np.longdouble))
        nearest = exact.astype(precision)
        result = over(name, x)
        finite = np.isfinite(nearest)
        np.testing.assert_array_equal(result[~finite], nearest[~finite])
        ulps = np.abs(result[finite] - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    assert ulps.max() < BOUNDS[name]


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e-45, 1.0, -1.0, -2.0, 1e308, -1e308])


@pytest.mark.parametrize("name", [*ARGUMENTS, "sqrt", "abs", "sign"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_special_values_equal_those_of_numpy(name: str, precision: str) -> None:
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(precision)
        expected, result = getattr(np, name)(x), over(name, x)
    np.testing.assert_allclose(result, expected, rtol=4 * float(np.finfo(precision).eps))
    zero = expected == 0
    assert np.array_equal(np.signbit(result[zero]), np.signbit(expected[zero])) or name == "sign"


LENGTHS = [0, 1, 7, 8, 9, 31, 37, 64, 100, 127, 128, 129, 136, 137, 256, 1000, 1031, 4096, 5000, 10_000]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("length", LENGTHS)
def test_sums_have_the_order_of_numpy(length: int, precision: str, rng: np.random.Generator) -> None:
    a = (10.0 ** rng.uniform(-3, 3, (3, 2, length)) * rng.choice([-1, 1], (3, 2, length))).astype(precision)
    for indices, axes in (("rhb -> sum rh", -1), ("rhb -> sum r", (1, 2)), ("rhb -> sum rb", 1)):
        np.testing.assert_array_equal(kernel(same, indices, fused(precision))(a)[0], np.sum(a, axis=axes))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("length", LENGTHS)
def test_sums_of_log1p(length: int, precision: str, rng: np.random.Generator) -> None:
    run = kernel(same, "rb -> log1p r", fused(precision))
    info = np.finfo(precision)
    for e in (rng.uniform(0, 1, length), np.ones(length), 10.0 ** -rng.uniform(0, 30, length), np.zeros(length)):
        e = e.astype(precision)
        exact = np.sum(np.log1p(e.astype(np.longdouble))).astype(float)
        assert run(e[None])[0][0] == pytest.approx(exact, rel=(8 + length**0.5) * float(info.eps), abs=0)
    if length:
        e[-1] = np.nan
        assert np.isnan(run(e[None])[0][0])


def test_numbers_are_rounded_once(rng: np.random.Generator) -> None:
    def scaled(xp: Any, x: Any, share: Any, l2: Any) -> Any:
        return x * (share * l2) - share / 3, xp.maximum(x, share - l2)

    x = rng.standard_normal((3, 19)).astype(np.float32)
    expected = scaled(np, x, 0.1, 1 / 3)
    for a, b in zip(kernel(scaled, "rb, , -> rb, rb", fused("float32"))(x.copy(), 0.1, 1 / 3), expected, strict=True):
        np.testing.assert_array_equal(a, b)
