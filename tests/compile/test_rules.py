"""Fused rules: in place, with the numbers of the formula, or a warning states why not."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.compile import rules as fusing
from optbench.compile.numba import has_numba
from optbench.compile.rules import fuse
from optbench.core.backend import get_backend
from optbench.core.registry import OPTIMIZERS
from optbench.optimizer import At, FirstOrder, make_recipe
from optbench.runner.loop import init_state, minimize
from problems import Logistic, Quadratic
from tests.conftest import noting

pytestmark = pytest.mark.skipif(not has_numba(), reason="Numba is not installed")

RULES = [
    name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name]) and OPTIMIZERS.traits(name).elementwise
]


def trajectory(
    rule: str, settings: dict[str, Any], precision: str, fused: bool, factor: Any = None
) -> list[np.ndarray]:
    """Iterates and state after 40 steps with gradients drawn at random."""
    backend = get_backend("numpy", precision=precision, fused=fused)
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.standard_normal((4, 7)))
    optimizer = make_recipe(rule).build(settings, factor)
    state = init_state(optimizer, x, backend)
    assert (getattr(optimizer, "kernel", None) is not None) == fused
    for t in range(1, 41):
        x, state = optimizer.step(t, At(x, x[:, :1], backend.asarray(rng.standard_normal((4, 7)))), state)
    return [x, *state]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("settings", [{"lr": 0.01}, {"lr": [1e-3, 1e-2, 0.1, 1.0]}], ids=["numbers", "swept"])
@pytest.mark.parametrize("factor", [None, lambda t: 1 / (1 + t)], ids=["constant", "schedule"])
def test_fused_rules_equal_the_formula(rule: str, settings: dict[str, Any], factor: Any) -> None:
    plain, fused = (trajectory(rule, settings, "float64", way, factor) for way in (False, True))
    for a, b in zip(plain, fused, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("rule", RULES)
def test_fused_keeps_single_precision(rule: str) -> None:
    plain, fused = (trajectory(rule, {"lr": 0.01}, "float32", way) for way in (False, True))
    for a, b in zip(plain, fused, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_a_fused_sweep_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Logistic(data="iris")
    options: dict[str, Any] = {"lr": [0.01, 0.1], "beta1": [0.8, 0.9], "seeds": 2, "steps": 30, "batch_size": 10}
    used: list[Any] = []
    monkeypatch.setattr("optbench.runner.loop.fuse", noting(fuse, used))
    plain = optbench.sweep(problem, "adamw", fused=False, **options)
    assert not used
    fused = optbench.sweep(problem, "adamw", fused=True, **options)
    assert used
    np.testing.assert_allclose(fused.x, plain.x, rtol=1e-11)  # type: ignore[arg-type]


def test_large_sweeps_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr("optbench.runner.loop.fuse", lambda *a: used.append(a))
    optbench.sweep(Quadratic(dim=10), "sgd", seeds=2, steps=10)
    assert not used
    optbench.sweep(Quadratic(dim=10), "sgd", seeds=50, steps=1000)
    assert used


@pytest.mark.parametrize("shape", [(1, 11), (2, 11), (7, 5)])
def test_threads_do_not_change_results(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("numpy", fused=True)
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape))
    given = [np.linspace(0.1, 0.2, shape[0])[:, None], 0.9, 0.999, 1e-8]
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(fusing, "MIN_THREADED", 0)
        monkeypatch.setattr(fusing, "_threads", lambda threads=threads: threads)
        kernel = fuse(OPTIMIZERS["adam"], backend, ["lr"])
        assert kernel is not None
        state: tuple[Any, ...] = (np.zeros(shape), np.zeros(shape))
        y, state = kernel(x.copy(), g, 1, state, given)
        results.append((y, *state))
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


def test_the_number_of_threads_follows_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fusing._threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert fusing._threads() >= 1


def test_start_points_are_not_overwritten() -> None:
    problem = Quadratic(dim=3).on(get_backend("numpy", fused=True))
    x0 = np.ones((2, 3))
    trace = minimize(problem, make_recipe("adam").build({"lr": 0.1}), x0, steps=5)
    np.testing.assert_array_equal(x0, np.ones((2, 3)))
    assert (trace.x != 1).all()


def normalized(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A rule that combines parameters by a reduction."""
    return (x - lr * g / xp.sqrt(xp.sum(g * g, axis=-1, keepdims=True)),)


def centered(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A rule that combines parameters and compiles with new Numba: the sum of a single number is that number."""
    return (x - lr * (g - xp.sum(g)),)


def rooted(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1, beta: float = 0.9) -> Any:
    """A rule with a decision by value, and two calls of another rule's formula."""
    v = beta * v + helper(g)
    return x - lr * xp.where(v > 1, g, 0.5 * g), v


def helper(g: Any) -> Any:
    return g * g


@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        (normalized, "TypingError: No implementation of function 'sum'"),
        (centered, "its compiled form differs|TypingError: No implementation of function 'sum'"),
    ],
)
def test_a_rule_that_cannot_be_compiled_runs_uncompiled(rule: Callable[..., Any], cause: str) -> None:
    cure = "if it combines parameters, declare it with @optbench.rule(elementwise=False)"
    message = rf"the rule {rule.__name__!r} runs uncompiled \((?:{cause})\); {re.escape(cure)}"
    fusing._checked_kernel.cache_clear()
    problem = Quadratic(dim=4)
    plain = minimize(problem, FirstOrder(rule), steps=20)
    fused = problem.on(get_backend("numpy", fused=True))
    with pytest.warns(UserWarning, match=f"^{message}$"):
        first = minimize(fused, FirstOrder(rule), steps=20)
    again = minimize(fused, FirstOrder(rule), steps=20)  # a second warning would be an error
    np.testing.assert_array_equal(first.x, plain.x)
    np.testing.assert_array_equal(again.x, plain.x)


def test_names_of_a_rule_do_not_clash_with_the_loop() -> None:
    """State and hyperparameters may have any name without an underscore in front, as names in the loop have one."""

    def clashing(
        xp: Any, x: Any, g: Any, t: int, r: Any, run: Any, lr: float = 0.1, i: float = 0.5, np: float = 2.0
    ) -> Any:
        return x - lr * i * g, i * r + g * g / np, run + r

    def underscored(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1, _k: float = 0.5) -> Any:
        return (x - _k * lr * g,)

    backend = get_backend("numpy", fused=True)
    with pytest.warns(UserWarning, match="'underscored' runs uncompiled.*name that begins with an underscore"):
        assert fuse(underscored, backend) is None
    assert fuse(clashing, backend, ["i"]) is not None


def test_decisions_and_helpers_are_fused() -> None:
    problem = Quadratic(dim=4)
    plain = minimize(problem, FirstOrder(rooted), steps=20)
    backend = get_backend("numpy", fused=True)
    assert fuse(rooted, backend) is not None
    fused = minimize(problem.on(backend), FirstOrder(rooted), steps=20)
    np.testing.assert_allclose(fused.x, plain.x, rtol=1e-13)


def test_a_rule_without_a_file_is_fused_too() -> None:
    scale = 2.0

    def typed(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x - scale * lr * g,)

    backend = get_backend("numpy", fused=True)
    assert fuse(typed, backend) is not None
    fused = minimize(Quadratic(dim=4).on(backend), FirstOrder(typed), steps=5)
    plain = minimize(Quadratic(dim=4), FirstOrder(typed), steps=5)
    np.testing.assert_allclose(fused.x, plain.x, rtol=1e-13)


def test_other_array_modules_and_a_missing_numba_run_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    import array_api_strict

    assert fuse(OPTIMIZERS["adam"], get_backend(array_api_strict)) is None
    monkeypatch.setattr(fusing, "has_numba", lambda: False)
    assert fuse(OPTIMIZERS["adam"], get_backend("numpy", fused=True)) is None
