"""Kernels for GPUs, without a GPU: NVRTC compiles them, and C runs their text thread by thread against NumPy."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.compile import cuda
from optbench.compile.cuda import Kernel, formula_kernel, literal
from optbench.compile.elementwise import kernel
from optbench.compile.graph import Graph, Node, TraceError, call
from optbench.compile.loops import parse
from optbench.compile.rules import RuleKernel, fuse, same
from optbench.core.backend import Backend, get_backend
from optbench.core.column import Column
from optbench.core.registry import OPTIMIZERS
from optbench.core.specs import parameters, state_names
from optbench.optimizer import make_recipe
from optbench.problem import make_problem
from optbench.runner.loop import minimize
from problems import learning
from tests.compile.test_elementwise import EVERY_FORMULA, FORMULAS
from tests.conftest import noting
from tests.rules import STATE_PER_RUN

RULES = [
    name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name]) and OPTIMIZERS.traits(name).elementwise
]
PRECISIONS = pytest.mark.parametrize("precision", ["float64", "float32"])
STEPS = {(1, 1): 100, (3, 7): 200, (2, 33): 100, (5, 1031): 20}  # by shape
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 5e-324)
SCALES = {"float32": (1.0, 1e-22, 1e12, 1e-40), "float64": (1.0, 1e-160, 1e100, 1e-310)}  # the last ones are subnormal


def swept_names(rule: Callable[..., Any], way: str) -> tuple[str, ...]:
    names = tuple(parameters(rule))
    return {"numbers": (), "lr": names[:1], "columns": names}[way]


def defaults(rule: Callable[..., Any]) -> dict[str, Any]:
    return {name: p.default for name, p in parameters(rule).items()}


def kernel_of(rule: Callable[..., Any], precision: str, swept: Any = ()) -> Kernel:
    """The kernel of a rule at the default values of its hyperparameters."""
    return rule_kernel(rule, precision, swept).variants[0].kernel  # type: ignore[union-attr]


def device(precision: str) -> Backend:
    """A pretended GPU, whose arrays are NumPy's."""
    return dataclasses.replace(get_backend("numpy", precision=precision), name="cupy")


def rule_kernel(rule: Callable[..., Any], precision: str, swept: Any = ()) -> RuleKernel:
    return RuleKernel(rule, device(precision), swept, (), 13)


# ---- the text as C: every thread of the grid in turn ------------------------------------------------------------------

SHIM = """#include <math.h>
static struct {unsigned x, y, z;} blockIdx, threadIdx, blockDim, gridDim;
static float __int_as_float(unsigned bits) { union {unsigned i; float f;} u = {bits}; return u.f; }
"""
THREADS = """
void grid(const unsigned *g, %s) {
  gridDim.x = g[0]; gridDim.y = g[1]; gridDim.z = g[2]; blockDim.x = g[3]; blockDim.y = g[4]; blockDim.z = g[5];
  for (blockIdx.z = 0; blockIdx.z < g[2]; blockIdx.z++) for (blockIdx.y = 0; blockIdx.y < g[1]; blockIdx.y++)
  for (blockIdx.x = 0; blockIdx.x < g[0]; blockIdx.x++) for (threadIdx.z = 0; threadIdx.z < g[5]; threadIdx.z++)
  for (threadIdx.y = 0; threadIdx.y < g[4]; threadIdx.y++) for (threadIdx.x = 0; threadIdx.x < g[3]; threadIdx.x++)
    %s(%s);
}
"""
C_TYPES = {np.int64: ctypes.c_longlong, np.float32: ctypes.c_float, np.float64: ctypes.c_double}


@pytest.fixture(scope="session")
def by_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Callable[..., None]]:
    """A replacement of `cuda.load`: kernels for NumPy arrays."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("kernels")

    @functools.cache
    def load(text: str, name: str) -> Callable[..., None]:
        declared = re.findall(rf"KERNEL {name}\((.*)\) {{", text)[0]
        names = [re.findall(r"\w+$", parameter)[0] for parameter in declared.split(", ")]
        source = folder / f"{len(list(folder.iterdir()))}.c"
        text = text.replace('extern "C" __global__ void', "static void")
        source.write_text(SHIM + text + THREADS % (declared, name, ", ".join(names)))
        library = source.with_suffix(".so")
        flags = ["-std=gnu11", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library), "-lm"], check=True)
        entry = ctypes.CDLL(str(library)).grid

        def launch(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            assert len(args) == len(names)
            assert np.prod(block) <= 1024
            assert all(a.flags.c_contiguous for a in args if isinstance(a, np.ndarray))
            values = [
                ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else C_TYPES[type(a)](a) for a in args
            ]
            entry((ctypes.c_uint * 6)(*grid, *block), *values)

        return launch

    return load


@pytest.fixture
def simulated(by_c: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load", by_c)
    cupy = types.ModuleType("cupy")
    cupy.__dict__.update(asnumpy=np.asarray)
    monkeypatch.setitem(sys.modules, "cupy", cupy)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], precision: str) -> np.ndarray:
    """Random numbers of all `SCALES`, where there are enough."""
    scales = np.resize(rng.permutation(SCALES[precision]), shape)
    with np.errstate(under="ignore"):
        return (rng.standard_normal(shape) * scales).astype(precision)


def assert_equal(actual: Any, expected: Any, exact: bool, atol: float = 0.0, case: Any = "") -> None:
    """Equal digits, or up to 8 roundings if a function is not exact."""
    expected = np.broadcast_to(expected, actual.shape)
    assert actual.dtype == expected.dtype
    if exact:
        np.testing.assert_array_equal(actual, expected, err_msg=str(case))
        return
    kind = np.finfo(actual.dtype)
    np.testing.assert_allclose(actual, expected, rtol=8 * kind.eps, atol=max(atol, 8 * kind.tiny), err_msg=str(case))


class Weak:
    """NumPy, but operations between numbers return Python numbers, which never widen an array."""

    def __getattr__(self, name: str) -> Any:
        def function(*args: Any) -> Any:
            result = getattr(np, name)(*args)
            return result if np.ndim(result) else result.item()

        return function if callable(getattr(np, name)) else getattr(np, name)


def follow(
    rule: Callable[..., Any], precision: str, swept: tuple[str, ...], shape: tuple[int, int], steps: int
) -> None:
    """Compare kernel and formula from the same points in every step; runs of the formula are taken one by one."""
    rng, runs, values = np.random.default_rng(0), shape[0], defaults(rule)
    columns: dict[str, Any] = {name: Column.of(values[name] * np.linspace(0.7, 1.0, runs), precision) for name in swept}
    kernel = rule_kernel(rule, precision, swept)
    exact = kernel_of(rule, precision, swept).graph.exact
    x = numbers(rng, shape, precision)
    state = [np.abs(numbers(rng, shape, precision)) for _ in state_names(rule)]
    for t in range(1, steps + 1):
        g = numbers(rng, shape, precision)
        if t % 50 == 0 and "lr" in columns:  # as a schedule does
            columns["lr"] = columns["lr"] * 0.9
        expected = [np.empty_like(a) for a in (x, *state)]
        for r in range(runs if swept else 1):
            row = slice(r, r + 1) if swept else slice(None)
            settings = values | {name: float(columns[name][r, 0]) for name in swept}
            results = rule(Weak(), x[row] + 0, g[row], t, *(s[row] + 0 for s in state), **settings)
            for out, a in zip(expected, results, strict=True):
                assert a.dtype == x.dtype
                out[row] = a
        place = [a.ctypes.data for a in (x, *state)]
        new, new_state = kernel(x, g, t, state, tuple((values | columns).values()))
        assert [a.ctypes.data for a in (new, *new_state)] == place  # overwritten
        for k, (a, b) in enumerate(zip((new, *new_state), expected, strict=True)):
            assert_equal(a, b, exact, case=(rule.__name__, precision, swept, shape, t, k))
        x, state = new, list(new_state)


@PRECISIONS
@pytest.mark.parametrize("way", ["numbers", "lr", "columns"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("simulated")
def test_rules_equal_the_formula(name: str, way: str, precision: str) -> None:
    rule = OPTIMIZERS[name]
    with np.errstate(all="ignore"):
        for shape, steps in STEPS.items():
            follow(rule, precision, swept_names(rule, way), shape, steps)


def traced(formula: Callable[..., Any], axes: list[str], precision: str) -> tuple[list[Node], list[Node]]:
    """Inputs and results of a formula."""
    graph = Graph(precision, stepwise=())
    dims = [tuple([letter if letter in part else 1 for letter in axes[0]]) for part in axes]
    nodes = [graph.input(str(k), dims[k]) if part else graph.number(str(k)) for k, part in enumerate(axes)]
    return [node for node in nodes if node.op == "input"], [graph.wrap(r) for r in call(formula, graph, *nodes)]


@PRECISIONS
@EVERY_FORMULA
@pytest.mark.usefixtures("simulated")
def test_formulas_equal_the_text(formula: Callable[..., Any], indices: str, precision: str) -> None:
    backend, rng = device(precision), np.random.default_rng(0)
    axes, _ = parse(indices)
    run, graph = formula_kernel(formula, axes, backend), traced(formula, axes, precision)[0][0].graph
    # a logarithm of up to 715 may cancel
    atol = 715 * backend.eps if any(node.op == "log" for node in graph.nodes) else 0.0
    for lengths in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 33, 2), (3, 1, 2, 1031), (2, 3, 1, 0)):
        sizes = dict(zip(axes[0], lengths[-len(axes[0]) :], strict=True))
        shapes = [[sizes[letter] for letter in part] for part in axes]
        for magnitude in SCALES[precision]:
            given: list[Any] = [
                (magnitude * rng.standard_normal(shape)).astype(precision) if part else 0.3
                for shape, part in zip(shapes, axes, strict=True)
            ]
            spread = [
                v.reshape([sizes[letter] if letter in part else 1 for letter in axes[0]]) if part else v
                for v, part in zip(given, axes, strict=True)
            ]
            given[0].flat[: len(SPECIAL)] = SPECIAL[: given[0].size]
            with np.errstate(all="ignore"):
                expected, actual = formula(np, *spread), run(*given)
            for a, b in zip(actual, expected, strict=True):
                assert a.shape == tuple(sizes.values())
                assert_equal(a, b, graph.exact, atol)


@PRECISIONS
@EVERY_FORMULA
@pytest.mark.usefixtures("simulated")
def test_formulas_pass_the_check_at_their_first_use(
    formula: Callable[..., Any], indices: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = dict(zip(parse(indices)[0][0], (2, 3, 5, 7)[-len(parse(indices)[0][0]) :], strict=True))
    rng = np.random.default_rng(0)
    launches: list[Any] = []
    given: list[Any] = [
        rng.uniform(0.1, 2, [sizes[letter] for letter in part]).astype(precision) if part else 0.3
        for part in parse(indices)[0]
    ]
    run = kernel(formula, indices, dataclasses.replace(device(precision), fused=True))
    run(*given)  # a warning would be an error
    monkeypatch.setattr(cuda.Kernel, "run", noting(cuda.Kernel.run, launches))
    for a, b in zip(run(*given), kernel(formula, indices, device(precision))(*given), strict=True):
        assert a.dtype == b.dtype
        with np.errstate(invalid="ignore"):  # inf - inf
            assert same(a, b, 32 * float(np.finfo(precision).eps))
    assert len(launches) == 1


@pytest.mark.usefixtures("simulated")
def test_threads_go_on_where_the_grid_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "MAX_BLOCKS", (1, 2, 2))
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        follow(OPTIMIZERS["adam"], "float64", ("lr",), (9, 1031), 2)
        follow(OPTIMIZERS["adam"], "float64", ("lr",), (700, 3), 2)
    e, scale, y = (rng.standard_normal(shape) for shape in ((2, 5, 300, 3), (2, 5, 3), (2, 300, 3)))
    for result in formula_kernel(learning._slopes, ["slqb", "slb", "sqb", ""], device("float64"))(e, scale, y, 0.5):
        np.testing.assert_array_equal(result, e * scale[:, :, None, :] - 0.5 * y[:, None, :, :])


@pytest.mark.parametrize("shape", [(1, 1), (100, 2), (1, 10**8), (10**6, 3), (70_000, 300), (10, 10**7), (0, 5)])
@pytest.mark.parametrize("swept", [(), ("lr",)])
def test_every_launch_is_allowed(
    shape: tuple[int, int], swept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    launches: list[Any] = []
    monkeypatch.setattr(cuda, "load", lambda *_: lambda *launch: launches.append(launch))
    backend = device("float32")
    monkeypatch.setattr(backend.xp, "ascontiguousarray", lambda a, dtype: a)
    large = np.broadcast_to(np.float32(0), shape)  # without memory
    lr = Column.of(np.ones(shape[0]), "float32") if swept else 0.1
    RuleKernel(OPTIMIZERS["sgd"], backend, swept, (), 13)(large, large, 1, (), (lr,))
    ((grid, block, args),) = launches
    assert all(n >= 1 for n in (*grid, *block))
    assert np.prod(block) <= 256
    assert grid[1] <= 65535
    assert args[:2] == (shape if swept else (1, np.prod(shape)))
    # all threads of a small array run at once
    assert grid[0] * block[0] >= min(args[1], 2**18)
    assert grid[1] * block[1] >= min(args[0], 65535)


# ---- rules that the project does not have ------------------------------------------------------------------------------


def radam(xp, x, g, t, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):  # type: ignore[no-untyped-def]
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    safe = xp.where(length > 4, length, 5.0)
    r = xp.sqrt((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe))
    step = xp.where(length > 4, r * m / (xp.sqrt(v / (1 - beta2**t)) + eps), m)
    return x - lr * step / (1 - beta1**t), m, v


def clipped(xp, x, g, t, v, lr=0.1, beta=0.9, most=1.0):  # type: ignore[no-untyped-def]
    v = beta * v + xp.clip(xp.where(xp.isfinite(g), g, 0.0), -most, most)
    return x - lr * xp.maximum(xp.minimum(v, 10 * most), -xp.inf), v


def by_signs(xp, x, g, t, s, last, lr=0.1):  # type: ignore[no-untyped-def]
    same = xp.sign(g) * xp.sign(last)
    s = xp.where(same > 0, 1.2 * s, xp.where((same < 0) & ~xp.isnan(g), 0.5 * s, s)) + 1e-3 * ((g > last) * s)
    return x - lr * xp.sign(g) * s, s, g


def restarted(xp, x, g, t, v, lr=0.1, beta=0.9):  # type: ignore[no-untyped-def]
    if t % 10 == 0:
        v = 0 * v
    if t == 1 and beta > 0:
        v = 1 * g
    v *= beta
    v += g
    return x - lr * v, v


def swapped(xp, x, g, t, long, float, lr=0.1):  # type: ignore[no-untyped-def]
    return x - lr * g - float, float, long + g


def smooth(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (xp.abs(x) + lr * xp.abs(xp.tanh(g)) * xp.exp(-xp.abs(x)) / (1 + xp.log1p(g * g)),)


@PRECISIONS
@pytest.mark.parametrize("swept", [(), ("lr",)], ids=["numbers", "lr"])
@pytest.mark.parametrize("rule", [radam, clipped, by_signs, restarted, swapped, smooth])
@pytest.mark.usefixtures("simulated")
def test_unknown_rules_equal_the_formula(rule: Callable[..., Any], swept: tuple[str, ...], precision: str) -> None:
    with np.errstate(all="ignore"):
        for shape in ((3, 7), (2, 33)):
            follow(rule, precision, swept, shape, 60)


@PRECISIONS
@pytest.mark.parametrize("rule", [*map(OPTIMIZERS.__getitem__, RULES), radam, clipped, by_signs, swapped, smooth])
@pytest.mark.usefixtures("simulated")
def test_infinities_nan_and_zeros(rule: Callable[..., Any], precision: str) -> None:
    values, count = defaults(rule), len(SPECIAL) ** 3
    columns = np.meshgrid(*[np.array(SPECIAL)] * 3)
    x, g, *states = [c.reshape(1, count).astype(precision) for c in (*columns, columns[2])]
    state = states[: len(state_names(rule))]
    with np.errstate(all="ignore"):
        expected = rule(Weak(), x + 0, g, 1, *[s + 0 for s in state], **values)
        new, new_state = rule_kernel(rule, precision)(x, g, 1, state, tuple(values.values()))
    for a, b in zip((new, *new_state), expected, strict=True):
        assert_equal(a, b, kernel_of(rule, precision).graph.exact)


def by_columns(xp, x, g, t, lr=0.1, beta=0.9):  # type: ignore[no-untyped-def]
    use = xp.where(beta**t < 0.5, 1.0, 0.0) * xp.where(beta < 0.8, 2.0, 1.0)
    return (xp.where((beta < 0.8) | (beta**t > 0.3), x - lr * use * g, x),)


@PRECISIONS
@pytest.mark.usefixtures("simulated")
def test_comparisons_of_columns(precision: str) -> None:
    with np.errstate(all="ignore"):
        follow(by_columns, precision, ("lr", "beta"), (5, 7), 20)


def total(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (x - lr * g / xp.sum(g * g, axis=-1, keepdims=True),)


def row(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (x - lr * xp.vecdot(g, g)[..., None],)


def first_only(xp, x, g, t, v, lr=0.1):  # type: ignore[no-untyped-def]
    return (x - lr * g,)


def constant(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (lr * t,)


def modulo(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (x % 2 - lr * g,)


def on_values(xp, x, g, t, lr=0.1):  # type: ignore[no-untyped-def]
    return (x - lr * g if g > 0 else x,)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (total, "uses sum"),
        (row, "uses dot|uses expand"),
        (first_only, "returns 1 arrays instead of 2"),
        (constant, r"returns x of shape \(\) instead of"),
        (modulo, "uses remainder"),
        (on_values, r"decides in Python .*line \d+ of test_cuda.py"),
    ],
)
def test_other_rules_are_refused(rule: Callable[..., Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        kernel_of(rule, "float64")


@pytest.mark.parametrize(("rule", "names"), STATE_PER_RUN.items())
def test_state_with_one_number_per_run_is_refused(rule: Callable[..., Any], names: tuple[str, ...]) -> None:
    with pytest.raises(TraceError, match=r"returns arrays of shapes .*\('r', 1\).*, not only \('r', 'd'\)"):
        RuleKernel(rule, device("float64"), (), names, 13)


@pytest.mark.usefixtures("simulated")
def test_arrays_of_any_layout_and_wrong_shapes() -> None:
    x, g = np.arange(6.0).reshape(2, 3).T, np.ones((3, 4))[:, ::2]
    new, _ = rule_kernel(OPTIMIZERS["sgd"], "float64")(x, g, 1, (), (0.5,))
    np.testing.assert_array_equal(new, x - 0.5)
    with pytest.raises(ValueError, match="sgd takes arrays"):
        rule_kernel(OPTIMIZERS["sgd"], "float64")(np.ones((2, 3)), np.ones((3, 2)), 1, (), (0.5,))
    with pytest.raises(ValueError, match="broadcast"):
        rule_kernel(OPTIMIZERS["sgd"], "float64", ["lr"])(np.ones((2, 3)), np.ones((2, 3)), 1, (), (np.ones((3, 1)),))
    ridge = formula_kernel(learning.ridge, ["rd", "rd", "", ""], device("float64"))
    np.testing.assert_array_equal(ridge(g, x, 2.0, 1.0)[0], 2 * g + x)
    with pytest.raises(ValueError, match="ridge takes arrays"):
        ridge(np.ones((2, 3)), np.ones((3, 2)), 1.0, 1.0)


@pytest.mark.usefixtures("simulated")
def test_gradients_may_share_memory_with_the_points() -> None:
    x = np.arange(6.0).reshape(2, 3)
    new, (v,) = rule_kernel(OPTIMIZERS["momentum"], "float64")(x, x, 1, (np.zeros((2, 3)),), (0.5, 0.9))
    np.testing.assert_array_equal(new, np.arange(6.0).reshape(2, 3) / 2)
    np.testing.assert_array_equal(v, np.arange(6.0).reshape(2, 3))


def test_columns_are_moved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[np.ndarray] = []
    monkeypatch.setattr(cuda, "load", lambda *_: lambda grid, block, args: used.append(args[4]))
    kernel = rule_kernel(OPTIMIZERS["sgd"], "float32", ["lr"])
    x, columns = np.ones((2, 3), "float32"), [Column.of([1.0, 1.0], "float32"), Column.of([2.0, 2.0], "float32")]
    for lr in (columns[0], columns[0], columns[1], columns[1]):
        kernel(x, x, 1, (), (lr,))
    assert [float(c[0, 0]) for c in used] == [1, 1, 2, 2]
    assert used[0] is used[1]
    assert used[2] is used[3]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("simulated")
def test_registered_rules_pass_the_check_at_their_first_use(name: str) -> None:
    for precision in ("float64", "float32"):
        for way in ("numbers", "columns"):
            assert fuse(OPTIMIZERS[name], device(precision), swept_names(OPTIMIZERS[name], way)) is not None


@pytest.mark.usefixtures("simulated")
def test_wrong_kernels_and_untraceable_rules_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match=r"the rule 'total' runs uncompiled, because it uses sum"):
        assert fuse(total, device("float64")) is None
    monkeypatch.setitem(cuda.TEXTS, "subtract", "{1} - {0}")
    with pytest.warns(UserWarning, match=r"the rule 'clipped' runs uncompiled, because its compiled form differs"):
        assert fuse(clipped, device("float64")) is None


def test_literals_are_exact() -> None:
    for value in (0.1, -2.0, 1e-45, 5e-324, 3, 1e300, -0.0):
        with np.errstate(over="ignore"):
            single = float(np.float32(value))
        text = literal(value, "double").strip("()")
        assert float.fromhex(text).hex() == float(value).hex()
        text = literal(value, "float").strip("()")
        assert text in ("INFINITY", "-INFINITY") or float.fromhex(text.removesuffix("f")).hex() == single.hex()
    assert [literal(v, "float") for v in (np.inf, -np.inf, np.nan)] == ["INFINITY", "(-INFINITY)", "NAN"]
    assert literal(-1.0, "float") == "(-0x1.0000000000000p+0f)"  # so that a sign before it is no decrement


@pytest.mark.parametrize("spec", ["logistic:data=iris", "mlp:data=iris,hidden=4", "quadratic:dim=5"])
@pytest.mark.usefixtures("simulated")
def test_runs_with_kernels_equal_those_as_written(spec: str) -> None:
    problem = make_problem(spec)
    curves: list[Any] = []
    for backend in (get_backend("numpy"), dataclasses.replace(device("float64"), fused=True)):
        optimizer = make_recipe("adam").build({"lr": [0.01, 0.1, 0.3]}, lambda t: 1 / (1 + t))
        done = minimize(problem.on(backend), optimizer, steps=50, seeds=(0,), x0=problem.start(0) + np.zeros((3, 1)))
        assert (getattr(optimizer, "kernel", None) is not None) == (backend.name == "cupy")
        curves.append(done.x)
    plain, compiled_run = curves
    np.testing.assert_allclose(compiled_run, plain, rtol=1e-9)


# ---- the text as CUDA ----------------------------------------------------------------------------------------------------


def nvrtc() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    files = (
        [f for folder in (spec.submodule_search_locations or ()) for f in Path(folder).glob("cuda_nvrtc/*/*nvrtc*")]
        if spec
        else []
    )
    names = ("libnvrtc.so.12", "nvrtc64_120_0.dll")
    found = [f for f in files if f.name in names]
    if not found:
        pytest.skip("the package nvidia-cuda-nvrtc-cu12 is not installed")
    return ctypes.CDLL(str(found[0]))


def compiled(text: str, arch: str) -> tuple[str, str]:
    """The PTX of a text, and the log of the compiler with registers and spills."""
    lib, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    flags = [*cuda.OPTIONS, f"--gpu-architecture=sm_{arch}", "--ptxas-options=-v"]
    options = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
    assert lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0

    def read(what: str) -> str:
        assert getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert getattr(lib, f"nvrtcGet{what}")(program, buffer) == 0
        return buffer.value.decode()

    try:
        failed = lib.nvrtcCompileProgram(program, len(flags), options)
        log = read("ProgramLog")
        assert not failed, log
        return read("PTX"), log
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


@functools.cache
def all_kernels(precision: str) -> list[tuple[str, str, bool]]:
    """Text and name of every kernel, and whether it computes columns that change with t in double precision."""
    kernels = [
        kernel_of(rule, precision, swept_names(rule, way))
        for rule in [*(OPTIMIZERS[name] for name in RULES), radam, clipped, by_signs, swapped, smooth]
        for way in ("numbers", "lr", "columns")
    ]
    for formula, indices in FORMULAS:
        axes, _ = parse(indices)
        kernels.append(Kernel(formula.__name__, axes[0], *traced(formula, axes, precision)))
    result = []
    for k, one in enumerate({one.text: one for one in kernels}.values()):
        name = f"optbench_{one.name}_{k}"
        double = any(kind == "double" for _, kind in [*one.columns, *one.numbers])
        result.append((one.text.replace(f"optbench_{one.name}(", f"{name}("), name, double))
    return result


@PRECISIONS
@pytest.mark.parametrize("arch", ["75", "80", "90", "100", "120"])
def test_nvrtc_compiles_all_kernels(arch: str, precision: str) -> None:
    kernels = all_kernels(precision)
    ptx, log = compiled(cuda.HEADER + "".join(text for text, _, _ in kernels), arch)
    assert not re.search("warning|error", log)
    assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
    assert max(map(int, re.findall(r"Used (\d+) registers", log))) <= 96
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    assert set(bodies) == {name for _, name, _ in kernels}
    for _, name, double in kernels:
        assert ".f16" not in bodies[name]
        assert (".f64" in bodies[name]) == (precision == "float64" or double), name
        assert not re.search(r"(add|sub|mul|div|sqrt)\S*\.ftz", bodies[name]), name
