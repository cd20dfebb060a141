"""Properties of all registered optimizers and schedules, on all backends."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optbench.core.backend import NUMPY, Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, SCHEDULES
from optbench.core.specs import Interval
from optbench.core.trace import Trace
from optbench.core.types import Array
from optbench.optimizer import At, FirstOrder, Optimizer, make_recipe, rule
from optbench.optimizers.schedules import constant, make_schedule, schedule_parameters, warm_up
from optbench.runner.loop import init_state, minimize
from optbench.runner.plan import make_plans
from problems import Quadratic, Rosenbrock
from tests.conftest import strict_backend

NAMES = OPTIMIZERS.names()
RULES = [name for name in NAMES if inspect.isfunction(OPTIMIZERS[name])]
PROPOSING = [name for name in NAMES if make_recipe(name).kind.keeps_best]  # their points may be rejected
# allowed differences between array modules, or stacks of different lengths: rounding of sums, which grows over steps
ROUNDING: dict[str, Any] = {"rel": 1e-9, "abs": 1e-11}


def make(name: str, **settings: Any) -> Optimizer:
    """The optimizer with settings; a tuple has one value per run."""
    recipe = make_recipe(name, settings)
    return recipe.build(recipe.settings, None)


def run(name: str, backend: Backend, x0: np.ndarray, steps: int = 30, seeds: Any = (0,), **settings: Any) -> Trace:
    """Steps on a quadratic with diagonal Hessian, whose rounding does not depend on the stack."""
    problem = Quadratic(dim=4, condition=5, rotate=False).on(backend)
    return minimize(problem, make(name, **settings), x0, seeds=seeds, steps=steps)


@pytest.fixture
def starts(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 4))


# ---- all optimizers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_gives_the_same_numbers(
    name: str, backend: Backend, starts: np.ndarray, no_host_sync: None
) -> None:
    """No step reads the device, which would stall it."""
    expected, result = run(name, NUMPY, starts), run(name, backend, starts)
    assert result.x == pytest.approx(expected.x, **ROUNDING)
    assert result.f == pytest.approx(expected.f, **ROUNDING)


@pytest.mark.parametrize("name", PROPOSING)
def test_every_backend_gives_the_same_numbers_on_a_nonconvex_problem(
    name: str, backend: Backend, no_host_sync: None
) -> None:
    """The line searches of the runs differ, and Newton's method meets negative curvature."""
    problem = Rosenbrock(dim=4)
    x0 = np.concatenate([problem.starts([0, 1]), -problem.starts([2, 3])])
    expected, result = (minimize(problem.on(b), make(name), x0, seeds=range(4), steps=12) for b in (NUMPY, backend))
    assert result.x == pytest.approx(expected.x, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_runs_of_a_stack_equal_single_runs(name: str, backend: Backend, starts: np.ndarray, no_host_sync: None) -> None:
    stack = run(name, backend, starts, seeds=range(3))
    for r in range(3):
        assert stack.x[r] == pytest.approx(run(name, backend, starts[r], seeds=(r,)).x[0], **ROUNDING)


@pytest.mark.parametrize("name", [name for name in NAMES if make_recipe(name).sweepable])
def test_swept_settings_equal_single_runs(name: str, backend: Backend, starts: np.ndarray, no_host_sync: None) -> None:
    """All hyperparameters that can be swept, with different values in three runs."""
    recipe = make_recipe(name)
    defaults = {key: recipe.declared[key].default or 0.1 for key in sorted(recipe.sweepable)}
    swept: dict[str, Any] = {key: tuple(default * c for c in (0.5, 0.8, 1.0)) for key, default in defaults.items()}
    stack = run(name, backend, np.tile(starts[0], (3, 1)), **swept)
    for r in range(3):
        one = run(name, backend, starts[0], **{key: values[r] for key, values in swept.items()})
        assert stack.x[r] == pytest.approx(one.x[0], **ROUNDING)


@pytest.mark.parametrize("module", ["numpy", "strict"])
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_single(name: str, module: str, starts: np.ndarray) -> None:
    backend = strict_backend("float32") if module == "strict" else get_backend(precision="float32")
    problem = Quadratic(dim=4, condition=5).on(backend)
    recipe = make_recipe(name)
    columns = {key: (recipe.declared[key].default,) * 3 for key in recipe.sweepable}
    optimizer = recipe.build(columns, (lambda t: 0.5) if recipe.takes_schedule else None)
    x = backend.asarray(starts)
    state = init_state(optimizer, x, backend)
    for t in range(1, 6):
        f, g = problem.value_and_grad(x)
        x, state = optimizer.step(t, At(x, f[:, None], g, problem.hessian(x), x), state)
        assert all(part.dtype == backend.dtype for part in leaves((x, state)))


def leaves(state: Any) -> list[Any]:
    """The arrays of a state of nested tuples."""
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", NAMES)
def test_an_infinite_run_does_not_change_others(name: str, starts: np.ndarray) -> None:
    wild = starts.copy()
    wild[1] = 1e200
    expected, result = run(name, NUMPY, starts, seeds=range(3)), run(name, NUMPY, wild, seeds=range(3))
    assert result.x[::2] == pytest.approx(expected.x[::2], **ROUNDING)


# ---- first-order rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_state_is_declared_by_the_signature(name: str, starts: np.ndarray) -> None:
    optimizer = make(name)
    assert isinstance(optimizer, FirstOrder)
    state = optimizer.init(starts, NUMPY)
    signature = inspect.signature(OPTIMIZERS[name]).parameters.values()
    names = [p.name for p in list(signature)[4:] if p.default is inspect.Parameter.empty]
    shapes = [(3, 1) if name in optimizer.traits.per_run else (3, 4) for name in names]
    assert [part.shape for part in state] == shapes
    x, new = optimizer.step(1, At(starts, starts[:, :1], starts), state)
    assert [part.shape for part in (x, *new)] == [(3, 4), *shapes]
    assert not any(np.any(part) for part in state)  # a rule returns new arrays


@pytest.mark.parametrize("name", RULES)
def test_without_a_gradient_only_decay_moves_x(name: str, backend: Backend, starts: np.ndarray) -> None:
    decay = make_recipe(name).traits.decay
    optimizer, x = make(name, **({decay: 0.05} if decay else {})), backend.asarray(starts.copy())
    state = init_state(optimizer, x, backend)
    for t in range(1, 4):
        x, state = optimizer.step(t, At(x, x[:, :1], backend.zeros(x.shape)), state)
    assert np.array_equal(backend.to_host(x), starts) == (decay is None)


@pytest.mark.parametrize("name", NAMES)
def test_an_easy_quadratic_is_solved(name: str) -> None:
    """With one of four learning rates and a cosine schedule, without decay, which moves the optimum."""
    problem, recipe = Quadratic(dim=6, condition=4), make_recipe(name)
    settings: dict[str, Any] = {recipe.traits.decay: 0.0} if recipe.traits.decay else {}
    if recipe.takes_schedule:
        settings["lr"] = (0.03, 0.1, 0.3, 1.0)
    _, cosine = make_schedule("cosine")
    optimizer = recipe.build(settings, (lambda t: cosine(t, 400)) if recipe.takes_schedule else None)
    trace = minimize(problem, optimizer, np.tile(problem.start(0), (4, 1)), steps=400)
    assert trace.best_end.min() < recipe.traits.accuracy * trace.f[0, 0]


@pytest.mark.parametrize("name", PROPOSING)
def test_values_never_rise_where_points_may_be_rejected(name: str, starts: np.ndarray) -> None:
    trace = run(name, NUMPY, starts, steps=200, seeds=range(3))
    assert np.all(np.diff(trace.f, axis=1) <= 0)
    assert np.all(trace.f[:, -1] < trace.f[:, 0])


@pytest.mark.usefixtures("registry")
def test_a_rule_is_registered_unchanged() -> None:
    def halving(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.5) -> tuple[Any, ...]:
        return (lr * x,)

    assert rule(halving) is halving
    assert rule(name="other", full_batch=True)(halving) is halving
    assert [make(name).traits.full_batch for name in ("halving", "other")] == [False, True]
    assert run("halving", NUMPY, np.ones(4), steps=3).x == pytest.approx(np.full((1, 4), 0.125))


def numbers_outside(interval: Interval) -> list[float]:
    """Numbers outside the interval, with the ends that do not belong to it."""
    numbers = [interval.low - 1, interval.low, interval.high, interval.high + 1]
    return [number for number in numbers if np.isfinite(number) and number not in interval]


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_outside_their_range_are_rejected(name: str) -> None:
    for key, parameter in make_recipe(name).declared.items():
        assert parameter.range is not None
        assert parameter.default in parameter.range
        for number in numbers_outside(parameter.range):
            with pytest.raises(
                InputError, match=f"{key} must be {re.escape(parameter.range.violated_by(number))}, not"
            ):
                make_recipe(name, {key: number})
    with pytest.raises(InputError, match="has no parameter"):
        make_recipe(name, {"learning_rate": 0.1})


@pytest.mark.parametrize("name", [name for name in NAMES if make_recipe(name).traits.full_batch])
def test_methods_that_need_the_full_objective_reject_noise(name: str) -> None:
    with pytest.raises(InputError, match="would mislead it"):
        minimize(Quadratic(dim=3, noise=0.1), make(name), steps=1)


# ---- what a registration declares ------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo registrations of a test."""
    monkeypatch.setattr(OPTIMIZERS, "_objects", dict(OPTIMIZERS._objects))
    monkeypatch.setattr(OPTIMIZERS, "_traits", dict(OPTIMIZERS._traits))


@pytest.mark.usefixtures("registry")
def test_ranges_of_a_plug_in_are_checked() -> None:
    @rule(ranges={"power": Interval(0.5, 2), "beta": None})
    def powered(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.1, power: Any = 1.0, beta: Any = 0.5) -> tuple[Any, ...]:
        return (x - lr * xp.sign(g) * xp.abs(g) ** power,)

    with pytest.raises(InputError, match=r"optimizer 'powered': power must be in \[0.5, 2\], not 3"):
        make_recipe("powered", {"power": 3})
    with pytest.raises(InputError, match="lr must be above 0, not 0"):
        make_recipe(powered, {"lr": [0.1, 0]})
    assert make_recipe("powered", {"power": 2, "beta": 7}).settings == {"power": 2.0, "beta": 7.0}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"per_run": ("n",)}, "elementwise=False"),
        ({"per_run": ("m",), "elementwise": False}, "no parameter 'm'"),
        ({"decay": "weight_decay"}, "no parameter 'weight_decay'"),
        ({"ranges": {"rate": Interval(0)}}, "no parameter 'rate'"),
    ],
)
def test_traits_that_name_unknown_arguments_are_rejected(traits: dict[str, Any], message: str) -> None:
    def normed(xp: Any, x: Any, g: Any, t: int, n: Any, lr: Any = 0.1) -> tuple[Any, ...]:
        return x - lr * g, n

    with pytest.raises(InputError, match=message):
        rule(**traits)(normed)


@pytest.mark.usefixtures("registry")
def test_a_rule_that_is_not_elementwise_needs_no_warning(starts: np.ndarray) -> None:
    @rule(elementwise=False)
    def unit_step(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.1) -> tuple[Any, ...]:
        return (x - lr * g / xp.linalg.vector_norm(g, axis=-1, keepdims=True),)

    plain, fused = (run("unit_step", get_backend(fused=way), starts) for way in (False, True))
    np.testing.assert_array_equal(fused.x, plain.x)


def test_a_schedule_of_a_class_is_rejected() -> None:
    """A class may have a learning rate, but it does not take a schedule."""

    @dataclass
    class Steepest(Optimizer):
        step_size = "lr"
        lr: float = 0.1

    with pytest.raises(InputError, match="Steepest is not a rule with a learning rate, so a schedule has no effect"):
        make_recipe(Steepest).build({"lr": 0.1}, lambda t: 0.5)
    with pytest.raises(InputError, match="so the schedule 'cosine' has no effect; leave it out"):
        make_plans(Quadratic(), make_recipe(Steepest), schedule="cosine")


# ---- schedules -------------------------------------------------------------------------------------------------------


def factors(spec: str, T: int = 40) -> np.ndarray:
    """All factors of a schedule, and the one after the last step."""
    _, schedule = make_schedule(spec)
    return np.array([schedule(t, T) for t in range(T + 1)])


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_schedules_start_at_one_and_never_rise(name: str) -> None:
    f = factors(name)
    assert f[0] == 1
    assert np.all((f >= 0) & np.isfinite(f))
    assert np.all(np.diff(f) <= 0)
    assert factors(name, T=1)[0] == 1


@pytest.mark.parametrize(
    ("spec", "last"),
    [
        ("constant", 1.0),
        ("cosine", 0.0),
        ("cosine:final=0.2", 0.2),
        ("linear:final=0.3", 0.3),
        ("exponential:final=0.05", 0.05),
        ("drops", 0.01),
        ("drops:at=0.5,factor=0.2", 0.2),
        ("inverse_sqrt:shift=10", 50**-0.5 * 10**0.5),
    ],
)
def test_final_values(spec: str, last: float) -> None:
    assert factors(spec)[-1] == pytest.approx(last, abs=1e-15)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_parameters_of_schedules_outside_their_range_are_rejected(name: str) -> None:
    for key, parameter in schedule_parameters(name).items():
        assert parameter.range is not None
        for number in numbers_outside(parameter.range):
            with pytest.raises(InputError, match=f"{key} must be"):
                make_schedule(f"{name}:{key}={number}")


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize(
    ("warmup", "length"),
    [("warmup_steps=8", 8), ("warmup=0.2", 8), ("warmup_steps=1", 1), ("warmup_steps=100", 39), ("warmup=0", 0)],
)
def test_warm_up_is_linear_and_precedes_the_schedule(name: str, warmup: str, length: int) -> None:
    """The schedule has at least the last step."""
    f = factors(f"{name}:{warmup}")
    np.testing.assert_allclose(f[:length], np.arange(1, length + 1) / max(length, 1))
    np.testing.assert_array_equal(f[length:], factors(name, T=40 - length))


def test_no_warm_up_is_the_schedule_itself() -> None:
    assert warm_up(constant, 0) is constant


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("cosine:finale=0", "did you mean 'final'"),
        ("cosine:final=-0.1", "final must be at least 0, not -0.1"),
        ("linear:final=much", "final must be a finite number"),
        ("exponential:final=0", "final must be above 0"),
        ("inverse_sqrt:shift=0", "shift must be above 0, not 0"),
        ("drops:factor=-1", "factor must be at least 0, not -1"),
        ("drops:at=0.5-1.5", r"at must be in \(0, 1\), not 1.5"),
        ("constant:warmup=-3", r"warmup must be in \[0, 1\), not -3"),
        ("cosine:warmup=2", r"warmup must be in \[0, 1\), not 2"),
        ("cosine:warmup_steps=2.5", "warmup_steps must be a whole number"),
        ("cosine:warmup=0.5,warmup_steps=2", "give either warmup or warmup_steps"),
    ],
)
def test_impossible_schedules(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_schedule(spec)


@pytest.mark.parametrize("spec", ["cosine:final=0.1,warmup=0.05", "drops:at=0.25-0.5,factor=0.5", "constant"])
def test_canonical_specs_of_schedules(spec: str) -> None:
    assert make_schedule(spec)[0] == spec
    assert make_schedule(make_schedule(spec)[0])[0] == spec


@pytest.mark.parametrize("name", [name for name in NAMES if make_recipe(name).takes_schedule])
def test_the_factor_multiplies_the_learning_rate_of_each_step(name: str, starts: np.ndarray) -> None:
    """A rule whose learning rate is set at each step has the same iterates."""
    recipe = make_recipe(name)
    lr, schedule = recipe.declared["lr"].default, make_schedule("linear:warmup_steps=3")[1]
    optimizer = recipe.build({}, lambda t: schedule(t, 10))
    x: Array = starts
    y = starts
    state = memory = optimizer.init(x, NUMPY)
    for t in range(1, 11):
        x, state = optimizer.step(t, At(x, x[:, :1], np.sin(x)), state)
        y, *memory = recipe.target(NUMPY.xp, y, np.sin(y), t, *memory, lr=lr * schedule(t - 1, 10))
        np.testing.assert_array_equal(x, y)
