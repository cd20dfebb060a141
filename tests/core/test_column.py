"""A hyperparameter has the same digits as a number and as one of many in a stack of runs."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from optbench.compile.rules import fuse
from optbench.core.backend import PRECISIONS, get_backend
from optbench.core.column import Column, rule_module
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.specs import parameters
from optbench.optimizer import At, FirstOrder
from tests.rules import STATE_PER_RUN, UNKNOWN

RULES: dict[str, Any] = {name: OPTIMIZERS[name] for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])}
PER_RUN = {name: OPTIMIZERS.traits(name).per_run for name in RULES}
RULES |= {rule.__name__: rule for rule in UNKNOWN if rule.__name__ != "chosen"}  # which decides on a hyperparameter
PER_RUN |= {rule.__name__: STATE_PER_RUN.get(rule, ()) for rule in UNKNOWN}


def of_numbers(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9, c: float = 0.6) -> Any:
    """Functions, comparisons and powers of numbers."""
    longest = xp.where(lr < 0.09, xp.sqrt(beta), xp.maximum(beta, c) / 3)
    v = xp.minimum(beta, 1 - beta**t) * v + (1 - beta) * g * xp.abs(-c) + t**-c * x
    return x - xp.where(t > 4, lr**t * longest, lr / xp.sqrt(t)) * v - lr * (c > 0.5) * g, v


RULES["of_numbers"], PER_RUN["of_numbers"] = of_numbers, ()


def steps(
    rule: str, settings: dict[str, Any], rows: slice, precision: str, factor: Any, fused: bool
) -> list[np.ndarray]:
    """Iterates and states of some of three runs after 20 steps."""
    backend = get_backend("numpy", precision=precision)
    optimizer = FirstOrder(RULES[rule], settings, factor, traits=Traits(per_run=PER_RUN[rule], elementwise=False))
    rng = np.random.default_rng(0)
    x: Any = rng.standard_normal((3, 5)).astype(precision)[rows].copy()
    kernel = fuse(RULES[rule], backend, optimizer.swept, PER_RUN[rule], 5) if fused else None
    assert (kernel is not None) == fused
    state: Any = optimizer.init(x, backend, kernel)
    with np.errstate(all="ignore"):
        for t in range(1, 21):
            g = rng.standard_normal((3, 5)).astype(precision)[rows].copy()
            x, state = optimizer.step(t, At(x, x[:, :1], g), state)
    return [x, *state]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", RULES)
def test_numbers_and_columns_have_the_same_digits(rule: str, precision: str, fused: bool) -> None:
    defaults = {name: float(p.default) for name, p in parameters(RULES[rule]).items()}
    for swept in [*([name] for name in defaults if not fused or name == "lr"), list(defaults)]:
        factor = (lambda t: 1 / (1 + 0.3 * t)) if "lr" in defaults and swept[0] == "lr" else None
        columns = {name: defaults[name] * np.array([1.0, 0.9, 0.7]) for name in swept}
        stack = steps(rule, defaults | columns, slice(0, 3), precision, factor, fused)
        for r in range(3):
            numbers = {name: float(values[r]) for name, values in columns.items()}
            alone = steps(rule, defaults | numbers, slice(r, r + 1), precision, factor, fused)
            for whole, row in zip(stack, alone, strict=True):
                assert whole.dtype == row.dtype == np.dtype(precision)
                np.testing.assert_array_equal(whole[r : r + 1], row, err_msg=f"{swept}, run {r}")


def column(*values: float, precision: str = "float32") -> Column:
    return Column.of(values, precision)


@pytest.mark.parametrize(
    "result",
    [
        lambda c, xp: 1 - c, lambda c, xp: c * c, lambda c, xp: 3 / c, lambda c, xp: -c, lambda c, xp: c**7,
        lambda c, xp: 2**c,
        lambda c, xp: xp.sqrt(c), lambda c, xp: xp.maximum(c, 0.95), lambda c, xp: xp.where(c > 0.95, c, 2 * c),
        lambda c, xp: xp.where(True, c, 0.0), lambda c, xp: xp.clip(c, 0.0, 0.95), lambda c, xp: np.float64(2) * c,
    ],
)  # fmt: skip
def test_operations_of_columns_keep_double_precision(result: Any) -> None:
    values = 0.9, 0.999
    y = result(column(*values), np)
    assert isinstance(y, Column)
    assert y.dtype == np.float64
    assert y.shape == (2, 1)
    assert y.precision == "float32"
    for k, value in enumerate(values):
        assert float(y[k, 0]) == float(result(value, np))


def test_columns_are_rounded_once_where_they_meet_arrays() -> None:
    c, x = column(0.9, 0.999), np.ones((2, 3), np.float32)
    for y in ((1 - c) * x, x * (1 - c), np.where(x > 0, 1 - c, x), np.multiply(1 - c, x), np.maximum(1 - c, 0 * x)):
        assert type(y) is np.ndarray
        assert y.dtype == np.float32
        assert y[:, 0].tolist() == [np.float32(1 - 0.9), np.float32(1 - 0.999)]
    assert np.float32(1) - np.float32(0.999) != np.float32(1 - 0.999)  # as an array of float32 would have it
    x *= c
    assert x.dtype == np.float32
    assert np.concatenate([x, c], axis=1).dtype == np.float32


def test_powers_are_those_of_python() -> None:
    bases, exponents = [0.9, 0.999, 3.0, 0.1], [7, 300, -2.5, 0.5]
    for exponent in exponents:
        with np.errstate(all="ignore"):  # as in a loop over steps
            y = column(*bases) ** exponent
        assert y[:, 0].tolist() == [base**exponent for base in bases]
    for base, exponent, expected in [(10.0, 400, math.inf), (0.0, -1, math.inf), (-2.0, 0.5, math.nan)]:
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal((column(base) ** exponent)[0, 0], expected)


def test_truths_are_columns_and_other_shapes_ordinary_arrays() -> None:
    c = column(0.9, 0.999)
    assert (c > 0.95)[:, 0].tolist() == [False, True]
    assert (c > 0.95).dtype == bool
    x = np.ones((2, 3), np.float32)
    assert (0.1 * (c > 0.95) * x).dtype == np.float32
    assert np.where((c > 0.95) & (x > 0), 0.1 * x, x)[:, 0].tolist() == [1.0, np.float32(0.1)]
    assert np.sum(c) == 0.9 + 0.999
    assert (c + np.zeros((1, 4))).shape == (2, 4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_functions_of_numbers_do_not_widen_arrays(precision: str) -> None:
    xp, x = rule_module(get_backend("numpy", precision=precision)), np.ones((2, 3), precision)
    for number in (xp.sqrt(2.0), xp.maximum(0.5, 2), xp.where(True, 0.1, 0.2), xp.where(False, 1, 2), xp.exp(-1)):
        y = number * x
        assert y.dtype == np.dtype(precision)
        np.testing.assert_array_equal(y, np.full_like(x, float(number)))
    assert xp.sum(x, axis=-1).dtype == x.dtype
    assert xp.linalg.vector_norm(x, axis=-1).dtype == x.dtype
    assert xp.float32 is np.float32
    assert xp.pi == math.pi
    with pytest.raises(AttributeError, match="no_such_function"):
        xp.no_such_function(x)
