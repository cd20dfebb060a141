"""Rule and oracle in one compiled loop: traces equal those of the plain loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optbench.compile.fused_loop import FusedLoop
from optbench.compile.numba import has_numba
from optbench.core.backend import get_backend
from optbench.core.trace import Trace
from optbench.optimizer import FirstOrder, make_recipe
from optbench.problem import Optimum, OracleFormula, Problem
from optbench.runner import loop as looping
from optbench.runner.loop import minimize
from problems import Quadratic

pytestmark = pytest.mark.skipif(not has_numba(), reason="Numba is not installed")

RATES = [1e-3, 1e-2, 0.1, 0.5]
SEEDS = (0, 1, 2)


def run(problem: Problem, rule: Any, fused: bool, *, factor: Any = None, settings: Any = None, **more: Any) -> Trace:
    """Twelve runs: four learning rates by three seeds."""
    precision = more.pop("precision", "float64")
    problem = problem.on(get_backend("numpy", precision=precision, fused=fused))
    given = {"lr": RATES * len(SEEDS)} | (settings or {})
    optimizer = make_recipe(rule).build(given, factor) if isinstance(rule, str) else FirstOrder(rule, given, factor)
    x0 = np.repeat(problem.starts(SEEDS), len(RATES), axis=0)
    return minimize(problem, optimizer, x0, **{"steps": 60, "checkpoint_count": 20} | more)


def assert_same(one: Trace, other: Trace, rtol: float = 1e-9, atol: float = 1e-13) -> None:
    assert one.status == other.status
    np.testing.assert_array_equal(one.t, other.t)
    np.testing.assert_array_equal(one.end, other.end)
    np.testing.assert_array_equal(np.isfinite(one.steps_to_target), np.isfinite(other.steps_to_target))
    finite = np.isfinite(one.steps_to_target)
    np.testing.assert_allclose(one.steps_to_target[finite], other.steps_to_target[finite], atol=1)
    assert np.sum(one.steps_to_target[finite] != other.steps_to_target[finite]) <= 0.01 * np.sum(finite)
    for name in ("f", "best", "gradient_norm", "f_end", "best_end", "x"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> list[FusedLoop]:
    """All fused loops that are used."""
    loops: list[FusedLoop] = []
    run_fused = looping._run_fused

    def noted(fused_loop: FusedLoop, *rest: Any) -> Any:
        loops.append(fused_loop)
        return run_fused(fused_loop, *rest)

    monkeypatch.setattr(looping, "_run_fused", noted)
    return loops


def both(used: list[FusedLoop], problem: Problem, rule: Any, **options: Any) -> tuple[Trace, Trace]:
    """The traces of the plain loop and the fused loop, which must have been used."""
    used.clear()
    plain = run(problem, rule, False, **options)
    assert not used
    fused = run(problem, rule, True, **options)
    assert used
    return plain, fused


def of_the_step(xp: Any, x: Any, g: Any, t: int, r: Any, steps: Any, lr: float = 0.1, i: float = 0.9) -> Any:
    """State and hyperparameters with names of variables of the generated loops."""
    r = i * r + g
    return x - lr * r, r, steps + r


def of_the_record(
    xp: Any, x: Any, g: Any, t: int, best: Any, k: Any, lr: float = 0.1, first: float = 0.9, factor: float = 1.0
) -> Any:
    """More such names."""
    best = first * best + g
    return x - lr * factor * best, best, k + best


# rules that differ in state and hyperparameters; all rules are compiled in test_rules, but a pair takes seconds
@pytest.mark.parametrize(
    ("rule", "rotate", "options"),
    [
        ("sgd", True, {}),
        ("momentum", False, {}),
        ("adagrad", True, {}),
        ("adamw", True, {}),
        ("adam", True, {"factor": lambda t: 1 / (1 + t)}),
        (of_the_step, True, {}),
        (of_the_record, True, {}),
    ],
)
def test_rules_run_with_a_quadratic(rule: Any, rotate: bool, options: dict[str, Any], used: list[FusedLoop]) -> None:
    plain, fused = both(used, Quadratic(dim=7, rotate=rotate), rule, **options)
    assert_same(fused, plain)


def test_single_precision_stays_within_its_rounding(used: list[FusedLoop]) -> None:
    plain, fused = both(used, Quadratic(dim=5), "momentum", precision="float32", steps=20)
    assert fused.x.dtype == np.float32
    for name in ("f", "gradient_norm", "x"):
        np.testing.assert_allclose(getattr(fused, name), getattr(plain, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stop", [False, True])
def test_diverged_and_finished_runs_have_the_same_status(stop: bool, used: list[FusedLoop]) -> None:
    options: Any = {"settings": {"lr": [1e-3, 0.7, 1e3, 1e200] * len(SEEDS)}, "steps": 400, "stop_at_target": stop}
    plain, fused = both(used, Quadratic(dim=4, condition=3), "sgd", **options)
    assert set(plain.status) == ({"budget", "target", "diverged"} if stop else {"budget", "diverged"})
    assert_same(fused, plain, atol=1e-12)


def test_the_loop_ends_with_its_last_run(used: list[FusedLoop]) -> None:
    settings = {"lr": [0.5, 0.6, 0.7, 0.8] * len(SEEDS)}
    options: Any = {"settings": settings, "steps": 100_000, "stop_at_target": True, "checkpoint_count": 200}
    plain, fused = both(used, Quadratic(dim=4, condition=3), "sgd", **options)
    assert set(fused.status) == {"target"}
    assert fused.end.max() < 1000
    assert fused.t[-1] < 2 * fused.end.max() + 20
    short = min(len(plain.t), len(fused.t))
    np.testing.assert_array_equal(plain.end, fused.end)
    np.testing.assert_allclose(plain.f[:, :short], fused.f[:, :short], rtol=1e-9, atol=1e-12)


def test_a_start_that_is_not_finite_diverges(used: list[FusedLoop]) -> None:
    problem = Quadratic(dim=3).on(get_backend("numpy", fused=True))
    x0 = np.ones((4, 3))
    x0[1, 2] = np.inf
    trace = minimize(problem, make_recipe("sgd").build({"lr": 0.1}), x0, steps=5)
    assert used
    assert trace.status == ["budget", "diverged", "budget", "budget"]
    assert np.isnan(trace.steps_to_target[1]).all()
    assert trace.end[1] == 0


@pytest.mark.parametrize("longest", [1, 3, 1000])
def test_the_length_of_blocks_does_not_change_results(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(dim=5)
    whole = run(problem, "momentum", True)
    init = FusedLoop.__init__

    def shorter(self: FusedLoop, *args: Any) -> None:
        init(self, *args)
        self.max_block = longest

    monkeypatch.setattr(FusedLoop, "__init__", shorter)
    pieces = run(problem, "momentum", True)
    for name in ("f", "best", "gradient_norm", "steps_to_target", "end", "x"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_what_cannot_be_fused_runs_step_by_step(used: list[FusedLoop]) -> None:
    swept = {"beta1": [0.8, 0.9, 0.8, 0.9] * len(SEEDS)}
    fused, plain = (run(Quadratic(dim=4), "adam", way, settings=swept) for way in (True, False))
    assert_same(fused, plain)
    fused, plain = (run(Quadratic(dim=4, noise=0.1), "sgd", way, steps=10, seeds=SEEDS) for way in (True, False))
    np.testing.assert_allclose(fused.x, plain.x, rtol=1e-12)
    assert not used


@dataclass(eq=False)
class Bowl(Problem):
    """A problem of a user with an oracle formula and no known optimum."""

    factor: float = 1.0
    dim: int = 3

    def __post_init__(self) -> None:
        self.place()

    def place(self) -> None:
        self.xp = self.backend.xp

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        return bowl(self.xp, x, 1.0)

    @property
    def oracle_formula(self) -> OracleFormula:
        return OracleFormula(bowl, (self.factor,))

    def solve(self) -> Optimum | None:
        return None


def bowl(xp: Any, x: Any, factor: float) -> tuple[Any, Any]:
    squares = x * x
    return factor * xp.vecdot(squares, squares) / 4 + xp.vecdot(x, x), squares * x * factor + (x + x)


def test_the_oracle_formula_of_a_user_is_compiled(used: list[FusedLoop]) -> None:
    looping._is_correct.clear()
    plain, fused = both(used, Bowl(), "momentum")
    assert np.isnan(plain.steps_to_target).all()
    assert np.isnan(fused.steps_to_target).all()
    assert_same(fused, plain)


@dataclass(eq=False)
class Walled(Quadratic):
    """Inherits an oracle formula, but computes something else."""

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        f, g = super().value_and_grad(x, samples)
        return 2 * f, 2 * g


def test_an_inherited_formula_of_another_oracle_is_not_used(used: list[FusedLoop]) -> None:
    run(Quadratic(dim=4), "sgd", True)  # which has the formula and computes it
    used.clear()
    assert_same(run(Walled(dim=4), "sgd", True), run(Walled(dim=4), "sgd", False))
    assert not used


@dataclass(eq=False)
class Exponential(Bowl):
    """Its oracle formula uses a function that `compile.points` does not have."""

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        return exponential(self.xp, x)

    @property
    def oracle_formula(self) -> OracleFormula:
        return OracleFormula(exponential, ())


def exponential(xp: Any, x: Any) -> tuple[Any, Any]:
    e = xp.exp(x)
    return xp.vecdot(e, e), 2 * e * e


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Bowl(2.0), "its compiled form differs"),
        (Exponential(), r"the oracle formula of Exponential runs uncompiled .*has no attribute 'exp'"),
    ],
)
def test_a_formula_that_differs_from_the_oracle_is_not_used(
    problem: Problem, message: str, used: list[FusedLoop]
) -> None:
    looping._is_correct.clear()
    plain = run(problem, "sgd", False)
    with pytest.warns(UserWarning, match=message):
        fused = run(problem, "sgd", True)
    run(problem, "sgd", True)  # a second warning would be an error
    assert not used
    assert_same(fused, plain)


def test_metrics_are_computed_between_steps(used: list[FusedLoop]) -> None:
    trace = run(Quadratic(dim=2), "sgd", True)
    assert not used
    assert set(trace.metrics) == {"x_1", "x_2"}
    run(Quadratic(dim=3), "sgd", True)
    assert used


def test_one_and_several_learning_rates_use_one_compiled_version(used: list[FusedLoop]) -> None:
    problem = Quadratic(dim=3)
    for rates in (0.1, RATES * len(SEEDS)):
        run(problem, "sgd", True, settings={"lr": rates})
    first, second = (loop._hyperparameters[0] for loop in used)
    assert np.asarray(first).flags.writeable
    assert np.asarray(second).flags.writeable  # Numba compiles another version for read-only arrays


def test_a_start_of_another_precision_is_converted() -> None:
    problem = Quadratic(dim=3)
    start = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    for way in (False, True):
        there = problem.on(get_backend("numpy", fused=way))
        trace = minimize(there, make_recipe("sgd").build({"lr": 0.1}), start, steps=3)
        wide = minimize(there, make_recipe("sgd").build({"lr": 0.1}), start.astype(float), steps=3)
        np.testing.assert_array_equal(trace.x, wide.x)
        assert trace.x.dtype == np.float64
