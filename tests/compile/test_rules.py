"""Kernels of update rules: the digits of the formula, in place, or a warning that states the line that cannot be traced."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.compile import rules as fusing
from optbench.compile import steps as printing
from optbench.compile.graph import TraceError
from optbench.compile.rules import RuleKernel, fuse
from optbench.core.backend import PRECISIONS, get_backend
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.specs import parameters
from optbench.optimizer import At, FirstOrder, make_recipe
from optbench.runner.loop import init_state, minimize
from problems import Logistic, Quadratic
from tests.conftest import noting, present
from tests.rules import STATE_PER_RUN, UNKNOWN, by_norm, centered, curved, largest, normalized, radam, sums_of_state

RULES = [name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])]
PER_RUN = {name: OPTIMIZERS.traits(name).per_run for name in RULES}


# ---- equal to the formula --------------------------------------------------------------------------------------------


def stepped(
    rule: Any, fused: bool, settings: dict[str, Any], per_run: Any, shape: tuple[int, int], precision: str
) -> list[np.ndarray]:
    """Iterates and states after 40 steps with gradients drawn at random, some of them 0, huge, infinite or NaN."""
    backend = get_backend("numpy", precision=precision)
    optimizer = FirstOrder(rule, settings, traits=Traits(per_run=per_run, elementwise=False))
    kernel = fuse(rule, backend, optimizer.swept, per_run, shape[1]) if fused else None
    assert (kernel is not None) == fused
    rng = np.random.default_rng(1)
    x: Any = rng.standard_normal(shape).astype(precision)
    state: Any = optimizer.init(x, backend, kernel)
    with np.errstate(all="ignore"):
        for t in range(1, 41):
            g = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, (shape[0], 1))).astype(precision)
            g[rng.random(shape) < 0.02] = 0.0
            if t == 38:
                g[-1, -1] = (np.inf, np.nan, 1e30)[shape[1] % 3]
            x, state = optimizer.step(t, At(x, x[:, :1], g), state)
    return [x, *state]


def settings_of(rule: Any, swept: list[str], runs: int) -> dict[str, Any]:
    """Hyperparameters, those of `swept` with another value for each run."""
    factors = np.linspace(0.8, 1.0, runs)
    return {name: float(p.default) * (factors if name in swept else 1) for name, p in parameters(rule).items()}


def assert_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Equal numbers, with NaN and the signs of zeros."""
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    known = ~np.isnan(a)
    np.testing.assert_array_equal(np.signbit(a[known]), np.signbit(b[known]))


def assert_kernel(rule: Any, per_run: Any, swept: list[str], shape: tuple[int, int], precision: str) -> None:
    settings = settings_of(rule, swept, shape[0])
    formula, compiled = (stepped(rule, fused, settings, per_run, shape, precision) for fused in (False, True))
    for a, b in zip(formula, compiled, strict=True):
        assert_bits(a, b)


SHAPES = [(3, 33), (3, 1), (1, 7), (2, 130), (1, 300)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", RULES)
def test_kernels_have_the_digits_of_registered_rules(rule: str, precision: str) -> None:
    target = OPTIMIZERS[rule]
    declared = list(parameters(target))
    for shape in SHAPES:
        for swept in ([], declared[:1], declared)[: 3 if shape == SHAPES[0] else 2]:
            assert_kernel(target, PER_RUN[rule], swept, shape, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", UNKNOWN, ids=lambda rule: rule.__name__)
def test_kernels_have_the_digits_of_other_rules(rule: Callable[..., Any], precision: str) -> None:
    for shape in SHAPES:
        for swept in ([], ["lr"]):
            assert_kernel(rule, STATE_PER_RUN.get(rule, ()), swept, shape, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_numpy_rounds_in_its_own_way_stays_near(precision: str) -> None:
    eps = float(np.finfo(precision).eps)
    for shape in SHAPES:
        formula, compiled = (stepped(curved, fused, {}, (), shape, precision) for fused in (False, True))
        for a, b in zip(formula, compiled, strict=True):
            np.testing.assert_allclose(b, a, rtol=400 * eps, atol=400 * eps)


@pytest.mark.parametrize("rule", ["adam", "dog"])
def test_schedules_multiply_the_learning_rate_in_double_precision(rule: str) -> None:
    if "lr" not in parameters(OPTIMIZERS[rule]):
        return
    for rates in (0.1, [0.1, 0.3, 0.7]):
        results = []
        for fused in (False, True):
            backend = get_backend("numpy", precision="float32", fused=fused)
            optimizer = make_recipe(rule).build({"lr": rates}, lambda t: 1 / (1 + t))
            rng = np.random.default_rng(0)
            x: Any = rng.standard_normal((3, 5)).astype("float32")
            state = init_state(optimizer, x, backend)
            assert (getattr(optimizer, "kernel", None) is not None) == fused
            for t in range(1, 30):
                g = rng.standard_normal((3, 5)).astype("float32")
                x, state = optimizer.step(t, At(x, x[:, :1], g), state)
            results.append(x)
        assert_bits(*results)


# ---- in place, on threads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 11), (2, 40), (7, 5)])
@pytest.mark.parametrize("rule", RULES)
def test_threads_do_not_change_results(rule: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "MIN_THREADED", 0)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(fusing, "_threads", lambda threads=threads: threads)
        results.append(stepped(OPTIMIZERS[rule], True, {}, PER_RUN[rule], shape, "float64"))
    for one, several in zip(*results, strict=True):
        assert_bits(one, several)


def test_the_number_of_threads_follows_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fusing._threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert fusing._threads() >= 1


def test_iterates_and_state_are_overwritten() -> None:
    kernel = present(fuse(OPTIMIZERS["adam"], get_backend("numpy", fused=True)))
    x, m, v, g = np.ones((4, 2, 13))
    y, state = kernel(x, g, 1, (m, v), (0.1, 0.9, 0.999, 1e-8))
    assert y is x
    assert state[0] is m
    assert (x != 1).all()
    assert (m == 1).all()  # 0.9 + 0.1
    assert (g == 1).all()


@pytest.mark.parametrize("rule", ["adam", "dog"])
def test_start_points_in_any_layout_are_read_and_kept(rule: str) -> None:
    """Machine code reads rows one after another; start points may be columns, or every other number of a larger array."""
    problem = Logistic(data="iris").on(get_backend("numpy", fused=True))
    whole = np.random.default_rng(0).standard_normal((4, 2 * problem.dim))
    starts = whole[::2, ::2]
    layouts = starts.copy(), np.asfortranarray(starts), starts
    results = []
    for x0 in layouts:
        before = x0.copy()
        results.append(minimize(problem, make_recipe(rule).build({}), x0, seeds=(0, 1), steps=5, batch_size=10).x)
        np.testing.assert_array_equal(x0, before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


# ---- what cannot be traced -------------------------------------------------------------------------------------------


def branch(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    if (g > 0)[0, 0] if isinstance(g, np.ndarray) else g > 0:
        return (x - lr * g,)
    return (x - 2 * lr * g,)


def python_maximum(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * max(g, 0),)


def a_number_of_x(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - float(x[0]) * g,)


def numpy_root(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * np.sqrt(g),)


def numpy_where(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * np.where(g > 0, g, 0.0),)


def math_root(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * math.sqrt(t) * g,)


def loop_to_t(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    for _ in range(t):
        x = x - lr * g
    return (x,)


def unknown_function(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * xp.cumulative_sum(g, axis=-1),)


def every_other(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g[:, ::2],)


def sum_of_all(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / xp.sum(g * g),)


def sum_of_runs(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / xp.sum(g * g, axis=0),)


def without_keepdims(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / xp.sum(g * g, axis=-1),)


def another_dtype(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * np.ones(3, np.float16) * g,)


def too_few(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    return (x - lr * g,)


def bare(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return x - lr * g


def a_number_as_state(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    return x - lr * g, 0.0


def a_column_as_state(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    return x - lr * g, xp.sum(g, axis=-1, keepdims=True)


def assigns(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    x[...] = 0
    return (x,)


def number_of_runs(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / x.shape[0],)


def cube(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g**3,)


def power_of_numbers(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr**g,)


def remainder(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * (g % 3),)


def counted(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * xp.sum(g > 0, axis=-1, keepdims=True) * g,)


def undefined(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g.mean(axis=-1, keepdims=True),)


NUMBER = "turns a value that is only known when it runs into a Python number; use functions of xp"
DECISION = "decides in Python on a value that is only known when it runs; use xp.where"
STACK = "combines the runs of a stack; reduce over axis=-1"
REFUSED = [
    (branch, DECISION, "if (g > 0)"),
    (python_maximum, DECISION, "max(g, 0)"),
    (a_number_of_x, "takes elements of an array in a way that cannot be traced", "float(x[0])"),
    (numpy_root, "raises TypeError: operand 'Node' does not support ufuncs", "np.sqrt(g)"),
    (numpy_where, NUMBER, "np.where"),
    (math_root, NUMBER, "math.sqrt(t)"),
    (loop_to_t, NUMBER, "in range(t)"),
    (unknown_function, "uses xp.cumulative_sum, which cannot be traced", "xp.cumulative_sum(g"),
    (every_other, "takes elements of an array in a way that cannot be traced", "g[:, ::2]"),
    (sum_of_all, STACK, "xp.sum(g * g)"),
    (sum_of_runs, STACK, "axis=0"),
    (without_keepdims, "combines arrays of shapes ('r', 'i') and ('r',)", "axis=-1)"),
    (
        another_dtype,
        "uses ndarray array([1., 1., 1.], dtype=float16), which is neither a number nor an array float64",
        "np.float16",
    ),
    (too_few, "returns 1 arrays instead of 2", ""),
    (bare, "returns Node instead of a tuple of arrays", ""),
    (a_number_as_state, "returns v of shape () instead of ('r', 'i')", ""),
    (a_column_as_state, "returns v of shape ('r', 1) instead of ('r', 'i')", ""),
    (assigns, "assigns to elements of an array; use xp.where or xp.concat", "x[...] = 0"),
    (number_of_runs, "uses str 'r', which is neither a number nor an array", "x.shape[0]"),
    (cube, "raises an array to the power 3; multiply, or use", "g**3"),
    (power_of_numbers, "uses pow on arrays; use products", "lr**g"),
    (remainder, "uses remainder on arrays; use products", "g % 3"),
    (counted, "reduces truth values; use xp.where", "xp.sum(g > 0"),
    (undefined, "raises AttributeError: 'Node' object has no attribute 'mean'", "g.mean"),
]


@pytest.mark.parametrize(("rule", "cause", "source"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rule_that_cannot_be_traced_names_its_line(rule: Any, cause: str, source: str, precision: str) -> None:
    lines, first = inspect.getsourcelines(rule)
    with pytest.raises(TraceError) as error:
        RuleKernel(rule, get_backend("numpy", precision=precision), (), (), 13)
    message = str(error.value)
    assert message.startswith(cause.replace("float64", precision))
    if source:
        number = next(first + k for k, line in enumerate(lines) if source in line)
        assert f"(line {number} of test_rules.py: {lines[number - first].strip()})" in message


def test_it_runs_uncompiled_with_one_warning() -> None:
    problem = Quadratic(dim=4)
    plain = minimize(problem, FirstOrder(cube), steps=20)
    compiled = problem.on(get_backend("numpy", fused=True))
    message = r"^the rule 'cube' runs uncompiled, because it raises an array to the power 3; .*g\*\*3,\)\)$"
    with pytest.warns(UserWarning, match=message):
        first = minimize(compiled, FirstOrder(cube), steps=20)
    again = minimize(compiled, FirstOrder(cube), steps=20)  # a second warning would be an error
    np.testing.assert_array_equal(first.x, plain.x)
    np.testing.assert_array_equal(again.x, plain.x)


def late(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    if t == 7:
        return (x - lr * np.sqrt(g * g),)
    return (x - lr * g,)


def test_a_step_that_cannot_be_traced_runs_as_it_is_written() -> None:
    backend = get_backend("numpy", fused=True)
    with pytest.warns(UserWarning, match=r"'late' runs uncompiled for some t, because it raises TypeError.*np\.sqrt"):
        compiled = stepped(late, True, {}, (), (2, 5), "float64")
    assert_bits(compiled[0], stepped(late, False, {}, (), (2, 5), "float64")[0])
    assert fuse(late, backend) is not None


def test_other_array_modules_run_rules_as_they_are_written() -> None:
    import array_api_strict

    assert fuse(OPTIMIZERS["adam"], get_backend(array_api_strict)) is None


# ---- rules that combine runs -----------------------------------------------------------------------------------------


def clipped_stack(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    norm = xp.sqrt(xp.sum(g * g))
    return (x - lr * g / xp.maximum(norm, 1.0 + 0 * norm),)


def largest_of_stack(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g / xp.max(xp.abs(g)),)


def centered_stack(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    v = v + g - xp.mean(g)
    return x - lr * v, v


def neighbours(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A loop over the rows, which subtracts from each gradient the one before."""
    rows = [g[k, :] - g[k - 1, :] if k else g[k, :] for k in range(g.shape[0])]
    return (x - lr * xp.stack(rows, axis=0),)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rule", [clipped_stack, largest_of_stack, centered_stack, neighbours])
@pytest.mark.filterwarnings("ignore:the rule '.*' runs uncompiled")
def test_a_rule_that_combines_runs_is_refused(rule: Any, fused: bool) -> None:
    problem = Quadratic(dim=4)
    message = rf"the rule '{rule.__name__}' combines the runs of a stack.*axis=-1, keepdims=True"
    here = problem.on(get_backend("numpy", fused=fused))
    with pytest.raises(InputError, match=message):
        minimize(here, FirstOrder(rule), seeds=(0, 1, 2), steps=5)
    with pytest.raises(InputError, match=message):
        minimize(here, FirstOrder(rule), steps=5)
    for seeds in (1, 3):
        rows = optbench.compare([problem], [rule, "sgd"], lr=0.1, seeds=seeds, steps=5, fused=fused).rows
        assert (rows["status"] == np.where(rows["optimizer"] == "sgd", "budget", "failed")).all()
        assert rows["error"].fillna("").str.contains(message).sum() == seeds


@pytest.mark.parametrize("rule", [by_norm, normalized, largest, centered, sums_of_state])
def test_a_rule_that_combines_parameters_is_compiled(rule: Any) -> None:
    problem = Quadratic(dim=9, rotate=False)
    results = [minimize(problem.on(get_backend("numpy", fused=f)), FirstOrder(rule), steps=50).x for f in (False, True)]
    assert_bits(*results)
    kernel = RuleKernel(rule, get_backend("numpy"), (), (), 9)
    assert kernel.reduces


# ---- checks before use -----------------------------------------------------------------------------------------------


def test_kernels_are_compared_with_their_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each defect of the printer is found before a kernel is used."""
    original = printing.StepWriter.operation

    def negated(self: Any, node: Any, args: Any) -> Any:
        return original(self, node, args if node.op != "subtract" else args[::-1])

    def inactive(self: Any, node: Any, args: Any) -> Any:
        return args[1] if node.op == "where" and args[1].lanes else original(self, node, args)

    def neighbour(self: Any, node: Any, args: Any) -> Any:
        """In vectors, every lane gets the number of the lane before."""
        value = original(self, node, args)
        if node.op != "multiply" or not value.lanes:
            return value
        order = ", ".join(f"i32 {(k - 1) % value.lanes}" for k in range(value.lanes))
        mask = f"<{value.lanes} x i32> <{order}>"
        return self.write(f"shufflevector {value}, {value.type} poison, {mask}", value.kind, value.lanes)

    def contracted(self: Any, node: Any, args: Any) -> Any:
        """Products and sums rounded together."""
        value = original(self, node, args)
        self.lines[-1] = self.lines[-1].replace("fmul", "fmul contract").replace("fadd", "fadd contract")
        return value

    assert radam_kernel() is not None
    for defect in (negated, inactive, neighbour, contracted):
        with monkeypatch.context() as patch:
            patch.setattr(printing.StepWriter, "operation", defect)
            patch.setattr(printing, "_modules", {})
            patch.setattr(fusing, "_is_correct", {})
            patch.setattr(fusing, "_warn_once", lambda message: None)
            assert radam_kernel() is None, defect.__name__


def radam_kernel() -> Any:
    return fuse(radam, get_backend("numpy", fused=True), dim=40)


def test_large_sweeps_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    monkeypatch.setattr("optbench.runner.loop.fuse", noting(fuse, used))
    options: dict[str, Any] = {"lr": [0.01, 0.1], "beta1": [0.8, 0.9], "seeds": 2, "steps": 30, "batch_size": 10}
    plain = optbench.sweep(Logistic(data="iris"), "adamw", fused=False, **options)
    optbench.sweep(Logistic(data="iris"), "adamw", **options)  # too small
    assert not used
    compiled = optbench.sweep(Logistic(data="iris"), "adamw", fused=True, **options)
    assert used
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-11)  # type: ignore[arg-type]
