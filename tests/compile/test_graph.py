"""Formulas as graphs: what is traced, with which types and shapes, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optbench.compile.graph import OPERATIONS, Graph, T, TraceError, call, evaluate

D = 5


def traced(formula: Callable[..., Any], precision: str = "float64", **values: float) -> tuple[Graph, Any]:
    """The graph and the results of a formula of `xp`, points `x` (R, 5), the step `t`, and numbers of these values."""
    graph = Graph(precision, values)
    numbers = {name: graph.number(name) for name in values}
    return graph, call(formula, graph, graph.input("x", ("r", D)), graph.number(T), **numbers)


# ---- nodes -----------------------------------------------------------------------------------------------------------


def test_equal_operations_are_one_node() -> None:
    graph, (a, b) = traced(lambda xp, x, t, lr: (x * lr + xp.sqrt(x), x * lr + x**0.5), lr=0.1)
    assert a is b
    assert len({id(node) for node in graph.nodes}) == len(graph.nodes)
    for node in graph.nodes:  # arguments come first
        assert all(argument.id < node.id for argument in node.args)


def test_constants_differ_by_their_digits_and_type() -> None:
    graph = Graph("float64")
    values: list[Any] = [0.0, -0.0, 0, 1.0, 1, math.nan, np.float32(0.1), 0.1]
    assert len({graph.wrap(value).id for value in values}) == len(values)
    assert graph.wrap(True) is graph.wrap(1)
    assert graph.wrap(np.float64(0.1)) is graph.wrap(0.1)
    assert graph.wrap(math.nan) is graph.wrap(math.nan)


def test_signatures_tell_formulas_apart() -> None:
    formulas: list[Callable[..., Any]] = [
        *(lambda xp, x, t, lr: (x - lr * x,), lambda xp, x, t, lr: (x + lr * x,), lambda xp, x, t, lr: (x - 0.5 * x,)),
        *(lambda xp, x, t, lr: (x - t * x,), lambda xp, x, t, lr: (x[..., 1:],), lambda xp, x, t, lr: (x[..., :-1],)),
    ]
    signatures = [
        traced(formula, precision, lr=0.1)[0].signature for formula in formulas for precision in ("float64", "float32")
    ]
    assert len(set(signatures)) == len(signatures)
    assert traced(formulas[0], lr=0.1)[0].signature == traced(formulas[0], lr=0.2)[0].signature


@pytest.mark.parametrize(
    ("formula", "dims", "weak", "stepwise"),
    [
        (lambda xp, x, t, lr: lr * (1 - lr), (), True, False),
        (lambda xp, x, t, lr: 1 - lr**t, (), True, True),
        (lambda xp, x, t, lr: xp.where(t > 5, lr, 1.0), (), True, True),
        (lambda xp, x, t, lr: lr * x / t, ("r", D), False, False),
        (lambda xp, x, t, lr: xp.sum(x, axis=-1), ("r",), False, False),
        (lambda xp, x, t, lr: xp.sum(x, axis=1, keepdims=True), ("r", 1), False, False),
        (lambda xp, x, t, lr: xp.max(x, axis=-1)[..., None] * x, ("r", D), False, False),
        (lambda xp, x, t, lr: xp.sum(x, axis=-1)[:, None] * x, ("r", D), False, False),
        (lambda xp, x, t, lr: x[..., 1:4], ("r", 3), False, False),
        (lambda xp, x, t, lr: x[:, -2:], ("r", 2), False, False),
        (lambda xp, x, t, lr: x[..., -1], ("r",), False, False),
        (lambda xp, x, t, lr: xp.concat([x, x[..., :2]], axis=-1), ("r", 7), False, False),
        (lambda xp, x, t, lr: xp.stack([x[..., 0], x[..., 2]], axis=-1), ("r", 2), False, False),
        (lambda xp, x, t, lr: x @ np.ones((D, 3)), ("r", 3), False, False),
        (lambda xp, x, t, lr: np.arange(5.0) * x, ("r", D), False, False),
        (lambda xp, x, t, lr: xp.zeros_like(x) + lr, ("r", D), False, False),
        (lambda xp, x, t, lr: xp.vecdot(x, x), ("r",), False, False),
        (lambda xp, x, t, lr: xp.linalg.vector_norm(x, axis=-1, keepdims=True), ("r", 1), False, False),
    ],
)  # fmt: skip
def test_shapes_and_types(formula: Any, dims: Any, weak: bool, stepwise: bool) -> None:
    _, (node,) = traced(lambda xp, x, t, lr: (formula(xp, x, t, lr),), lr=0.1)
    assert (node.dims, node.shape, node.ndim) == (dims, dims, len(dims))
    assert (node.weak, node.stepwise) == (weak, stepwise)
    assert node.dtype == np.float64


def test_columns_are_weak_and_have_one_number_per_run() -> None:
    graph = Graph("float32")
    lr, x = graph.column("lr"), graph.input("x", ("r", D))
    assert (lr.dims, lr.weak, (1 - lr).weak) == (("r", 1), True, True)
    assert ((lr * x).dims, (lr * x).weak) == (("r", D), False)
    with pytest.raises(TraceError, match="decides in Python"):
        bool(lr > 0.5)


def test_powers_are_those_of_numpy() -> None:
    graph = Graph("float64")
    x = graph.input("x", ("r", D))
    assert x**2 is x * x
    assert x**2.0 is x * x
    assert x**0.5 is graph.sqrt(x)
    assert x**-1 is 1 / x
    assert x**1 is x


def test_exact_formulas_are_known() -> None:
    graph, _ = traced(lambda xp, x, t: (xp.sqrt(x) / t + xp.sum(x, axis=-1, keepdims=True),))
    assert graph.exact
    for inexact in (lambda xp, x: xp.exp(x), lambda xp, x: xp.vecdot(x, x), lambda xp, x: x @ np.eye(D)):
        graph, _ = traced(lambda xp, x, t, inexact=inexact: (inexact(xp, x),))
        assert not graph.exact


def test_constant_arrays_are_kept_once() -> None:
    weights, others = np.arange(5.0), np.arange(5.0)
    graph, _ = traced(lambda xp, x, t: (weights * x + weights - others,))
    assert [data is weights for data in graph.data] == [True, False]


# ---- decisions and values on the host --------------------------------------------------------------------------------


def test_decisions_are_recorded() -> None:
    def formula(xp: Any, x: Any, t: Any, nesterov: Any) -> Any:
        return (x if nesterov and t % 3 == 0 else -x,)

    for nesterov, t, outcomes in ((1.0, 6, [True, True]), (1.0, 7, [True, False]), (0.0, 6, [False])):
        graph = Graph("float64", {"nesterov": nesterov, T: t})
        x = graph.input("x", ("r", D))
        (result,) = call(formula, graph, x, graph.number(T), graph.number("nesterov"))
        assert [outcome for _, outcome in graph.decisions] == outcomes
        assert (result is x) == all(outcomes)


def test_a_loop_over_steps_cannot_decide_on_t() -> None:
    with pytest.raises(TraceError, match="decides in Python on a value that is only known when it runs"):
        traced(lambda xp, x, t: (x if t == 1 else -x,))


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_weak_values_are_computed_as_python_does(name: str) -> None:
    graph, numbers = Graph("float32"), (0.7, 3.0, 2.0)
    count = {"where": 3} | dict.fromkeys(("negative", "sqrt", "abs", "sign", "exp", "log", "log1p", "tanh"), 1)
    count |= dict.fromkeys(("isnan", "isfinite", "bitwise_not"), 1)
    names = ["a", "b", "c"][: count.get(name, 2)]
    node = graph.operation(name, *map(graph.number, names))
    values = dict(zip(("a", "b", "c"), numbers, strict=True))
    assert evaluate(node, values) == OPERATIONS[name](*(values[key] for key in names))
    assert node.weak


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Callable[..., Any], str]] = [
    (lambda xp, x, t: x if x[..., 0] > 0 else -x, "decides in Python"),
    (lambda xp, x, t: max(x, 0), "decides in Python"),
    (lambda xp, x, t: 0 < x < 1, "decides in Python"),
    (lambda xp, x, t: float(x[..., 0]), "into a Python number"),
    (lambda xp, x, t: int(t) * x, "into a Python number"),
    (lambda xp, x, t: round(t) * x, "into a Python number"),
    (lambda xp, x, t: list(x), "into a Python number"),
    (lambda xp, x, t: len(x) * x, "into a Python number"),
    (lambda xp, x, t: [1.0, 2.0][t] * x, "into a Python number"),
    (lambda xp, x, t: np.abs(x), "does not support ufuncs"),
    (lambda xp, x, t: np.clip(x, 0, 1), "into a Python number"),
    (lambda xp, x, t: np.asarray(x), "into a Python number"),
    (lambda xp, x, t: x[0], "takes elements"),
    (lambda xp, x, t: x[..., ::2], "takes elements"),
    (lambda xp, x, t: x[..., 7], "takes elements"),
    (lambda xp, x, t: x[..., 3:3], "takes elements"),
    (lambda xp, x, t: x[x > 0], "takes elements"),
    (lambda xp, x, t: x[1:, :], "takes elements"),
    (lambda xp, x, t: x[..., None], "takes elements"),
    (lambda xp, x, t: x.__setitem__(..., 0), "assigns to elements"),
    (lambda xp, x, t: xp.sum(x), "combines the runs of a stack"),
    (lambda xp, x, t: xp.max(x, axis=0), "combines the runs of a stack"),
    (lambda xp, x, t: xp.sum(xp.sum(x, axis=-1), axis=-1), "no parameter axis"),
    (lambda xp, x, t: xp.sum(x > 0, axis=-1), "reduces truth values"),
    (lambda xp, x, t: x - xp.sum(x, axis=-1), r"combines arrays of shapes \('r', 5\) and \('r',\)"),
    (lambda xp, x, t: x * np.ones(4), r"combines arrays of shapes \('r', 5\) and \(4,\)"),
    (lambda xp, x, t: x * np.ones(5, np.float32), "neither a number nor an array float64"),
    (lambda xp, x, t: x * np.ones((1, 1, 5)), "neither a number nor an array float64"),
    (lambda xp, x, t: x + "text", "uses str 'text'"),
    (lambda xp, x, t: x + None, "uses NoneType None"),
    (lambda xp, x, t: x**3, "to the power 3"),
    (lambda xp, x, t: x**-2, "to the power -2"),
    (lambda xp, x, t: 2**x, "uses pow on arrays"),
    (lambda xp, x, t: x**t, "uses pow on arrays"),
    (lambda xp, x, t: x % 2, "uses remainder on arrays"),
    (lambda xp, x, t: x // 2, "uses floor_divide on arrays"),
    (lambda xp, x, t: x @ x, "multiplies matrices other than"),
    (lambda xp, x, t: x @ np.ones((4, 5)), "multiplies matrices other than"),
    (lambda xp, x, t: xp.concat([x, x], axis=0), "joins arrays along another axis"),
    (lambda xp, x, t: xp.stack([x, x], axis=0), "stacks arrays other than"),
    (lambda xp, x, t: xp.cumsum(x), "uses xp.cumsum, which cannot be traced"),
    (lambda xp, x, t: xp.fft.fft(x), "uses xp.fft, which cannot be traced"),
    (lambda xp, x, t: x.mean(), "raises AttributeError: 'Node' object has no attribute 'mean'"),
    (lambda xp, x, t: f"{t:.2f}", "raises TypeError: unsupported format string"),
    (lambda xp, x, t: 1 / 0, "raises ZeroDivisionError"),
]


@pytest.mark.parametrize(("formula", "message"), REFUSED)
def test_what_cannot_be_traced_names_the_line(formula: Any, message: str) -> None:
    line = formula.__code__.co_firstlineno
    with pytest.raises(TraceError, match=rf"{message}.*\(line {line} of test_graph\.py: \(lambda xp, x, t: "):
        traced(lambda *args: (formula(*args),))


@pytest.mark.parametrize("result", [None, "text", lambda x: x])
def test_a_formula_returns_a_tuple_of_arrays(result: Any) -> None:
    with pytest.raises(TraceError, match=f"returns {type(result).__name__} instead of a tuple of arrays"):
        traced(lambda xp, x, t: result)
    with pytest.raises(TraceError, match="returns tuple instead of a tuple of arrays"):
        traced(lambda xp, x, t: (x, result))


def test_the_line_is_that_of_the_helper() -> None:
    def helper(x: Any) -> Any:
        return x**5

    with pytest.raises(
        TraceError, match=rf"\(line {helper.__code__.co_firstlineno + 1} of test_graph.py: return x\*\*5\)"
    ):
        traced(lambda xp, x, t: (helper(x),))


def test_symbols_are_no_sequences() -> None:
    """NumPy would take a symbol with a length apart."""
    graph = Graph("float64")
    x = graph.input("x", ("r", D))
    assert (np.float64(2.0) * x) is (2.0 * x)
    product: Any = np.arange(5.0) * x
    assert product.op == "multiply"
