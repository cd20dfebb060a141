"""What optimizers get and return, and what problems return: nothing recorded can be changed, and nothing wrong counts."""

from __future__ import annotations

import functools
import gc
import inspect
import types
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import optbench
from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS
from optbench.core.types import Metric, Oracle
from optbench.optimizer import At, FirstOrder, Optimizer, make_recipe
from optbench.problem import Optimum, Problem
from optbench.runner.loop import Loop, minimize
from optbench.runner.plan import make_plans
from problems import Logistic, Quadratic, Rosenbrock
from tests.conftest import strict_backend

# ---- isolation -------------------------------------------------------------------------------------------------------


@dataclass
class Honest(Optimizer):
    """Gradient steps, or random ones if only values are known; parts of all answers enter the next points."""

    lr: Any = 0.01
    sweepable: ClassVar[tuple[str, ...]] = ("lr",)

    def init(self, x: Any, backend: Backend) -> Any:
        self.xp = backend.xp
        self.rates = backend.asarray(np.reshape(self.lr, (-1, 1)))  # (R, 1) or (1, 1)
        return [x + 0]

    def step(self, t: int, at: At, state: Any) -> Any:
        direction: Any = at.z if at.g is None else at.g
        if at.hessian is not None:
            direction = direction + 0.1 * (at.hessian @ direction[..., None])[..., 0]
        return at.x - self.rates * direction, [state[0] + 0 * at.f]


class Vandal(Honest):
    """Computes the same, and then overwrites all that it can reach, now and later."""

    reachable: ClassVar[list[Any]] = []  # also by other runs

    def init(self, x: Any, backend: Backend) -> Any:
        state = super().init(x, backend)
        self.backend = backend
        self.overwrite(x)
        backend.__dict__.update(precision="float32", dtype=backend.xp.float32, eps=1.0)
        return state

    def step(self, t: int, at: At, state: Any) -> Any:
        x, state = super().step(t, at, state)
        self.overwrite(*at[1:], at.x if t > 1 else None)
        self.overwrite(*self.reachable[:-1])
        self.reachable.append(x)
        self.oracle = Oracle.HESSIAN  # type: ignore[misc]
        self.keeps_best = not type(self).keeps_best  # type: ignore[misc]
        return x, state

    def overwrite(self, *arrays: Any) -> None:
        for array in arrays:
            for each in (array, getattr(array, "base", None)):
                if each is not None and hasattr(each, "dtype"):
                    if isinstance(each, np.ndarray) and each.base is None:
                        each.flags.writeable = True
                    each[...] = 0.0


@dataclass(eq=False)
class Buffered(Problem):
    """A bowl that returns the same arrays every time, and views of its data."""

    dim: int = 2
    view = ((-1.0, 1.0), (-1.0, 1.0))  # so that the metrics are views of the points

    def place(self) -> None:
        self.xp = self.backend.xp
        self.matrix = self.backend.asarray(np.eye(self.dim))
        self.values: dict[Any, Any] = {}

    def __post_init__(self) -> None:
        self.place()

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        f, g = self.values.setdefault(x.shape, (0 * x[..., 0], 0 * x))
        f[...], g[...] = 0.5 * self.xp.sum(x * x, axis=-1), x
        return f, g

    def hessian(self, x: Any) -> Any:
        return self.xp.broadcast_to(self.matrix, (*x.shape, self.dim))

    def solve(self) -> Optimum:
        return Optimum(0.0, 0.0, np.zeros(self.dim), "by inspection")


class Mirror(Buffered):
    """Its gradient is the very array of its points."""

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        return 0.5 * self.xp.sum(x * x, axis=-1), x


def with_traits(kind: type[Optimizer], **attributes: Any) -> Optimizer:
    optimizer: Optimizer = type(kind.__name__, (kind,), attributes)(lr=np.array([0.1, 0.2, 0.1, 0.2]))
    return optimizer


@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("problem", [Buffered(), Mirror(), Quadratic(dim=2), Logistic(data="iris")], ids=str)
@pytest.mark.parametrize(
    ("attributes", "batch_size"),
    [
        ({}, None),
        ({}, 5),
        ({"oracle": Oracle.HESSIAN}, None),
        ({"oracle": Oracle.VALUE, "draws": True}, None),
        ({"oracle": Oracle.VALUE, "draws": True, "keeps_best": True}, None),
        ({"keeps_best": True}, None),
    ],
    ids=str,
)
def test_an_optimizer_cannot_change_what_is_recorded(
    problem: Problem, attributes: dict[str, Any], batch_size: int | None, backend: str
) -> None:
    if batch_size and problem.n_samples is None:
        pytest.skip("no mini-batches")
    problem = problem.on(get_backend() if backend == "numpy" else strict_backend())
    options: dict[str, Any] = {"steps": 25, "seeds": (0, 1), "batch_size": batch_size, "checkpoint_count": 10}
    x0 = np.repeat(problem.host.starts((0, 1)), 2, axis=0)  # (4, d)
    Vandal.reachable.clear()
    expected, trace, again = (
        minimize(problem, with_traits(kind, **attributes), x0, **options) for kind in (Honest, Vandal, Honest)
    )
    Vandal("later").overwrite(*Vandal.reachable)
    for other in (trace, again):
        for name, values in vars(expected).items():
            if name == "metrics":
                for metric, curve in values.items():
                    np.testing.assert_array_equal(other.metrics[metric], curve)
            else:
                np.testing.assert_array_equal(getattr(other, name), values, err_msg=name)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("problem", [Buffered(), Mirror(), Rosenbrock()], ids=str)
def test_rules_may_work_in_place(problem: Problem, fused: bool, precision: str) -> None:
    def in_place(xp: Any, x: Any, g: Any, t: int, m: Any, lr: float = 0.1) -> Any:
        lr *= 0.01
        g += 0.1 * x
        m *= 0.9
        m += g
        x -= lr * m
        return x, m

    def formula(xp: Any, x: Any, g: Any, t: int, m: Any, lr: float = 0.1) -> Any:
        g = g + 0.1 * x
        m = 0.9 * m + g
        return x - lr * 0.01 * m, m

    problem = problem.on(get_backend(precision=precision))
    x0 = np.repeat(problem.starts((0,)), 2, axis=0)
    settings = {"lr": [0.1, 0.2]}
    expected = minimize(problem, FirstOrder(formula, settings), x0, steps=20)
    trace = minimize(problem, FirstOrder(in_place, settings, fused=fused), x0, steps=20)
    for name in ("f", "x", "gradient_norm"):
        np.testing.assert_allclose(getattr(trace, name), getattr(expected, name), rtol=1e-5, err_msg=name)


def references(roots: list[Any]) -> list[Any]:
    """Objects that can be reached from others by attributes, items, cells and bases, but not by modules or classes."""
    seen: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, types.ModuleType | type):
            continue
        seen[id(each)] = each
        if isinstance(each, types.FunctionType):  # without its module's names
            waiting += [each.__closure__, each.__defaults__, each.__kwdefaults__, each.__dict__]
        else:
            waiting += gc.get_referents(each)
    return list(seen.values())


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_nothing_that_an_optimizer_gets_leads_to_the_problem(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_fused_loop", lambda *_: None)  # which does not call optimizers
    schedule = "cosine" if inspect.isfunction(OPTIMIZERS[name]) and make_recipe(name).takes_schedule else "constant"
    problem = Quadratic(dim=3)
    (plan,) = make_plans(problem, name, seeds=1, steps=5, schedule=schedule, fused=True)
    optimizer = plan.build(plan.grid, plan.seeds)
    given: list[Any] = []

    def spy(original: Any, *arguments: Any) -> Any:
        given.append(arguments)
        return original(*arguments)

    for call in ("init", "step"):
        monkeypatch.setattr(optimizer, call, functools.partial(spy, getattr(optimizer, call)))
    minimize(problem, optimizer, steps=5, stop_at_target=True)
    monkeypatch.undo()
    assert len(given) == 6
    found = references([*given, optimizer])
    assert any(isinstance(each, np.ndarray) for each in found)
    assert not [each for each in found if isinstance(each, Problem | Loop)]


# ---- answers of optimizers -------------------------------------------------------------------------------------------


def widening(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * (0.5 * (g > 0) + 0.25),)


def widening_late(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    return (x - lr * g if t < 5 else x - lr * (0.5 * (g > 0)),)


def wide_state(xp: Any, x: Any, g: Any, t: int, n: Any, lr: float = 0.1) -> Any:
    n = n + 0.5 * (g > 0)
    return x - lr * g, n


@pytest.mark.filterwarnings("ignore:the rule .* runs uncompiled")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rule", [widening, widening_late])
def test_points_of_another_precision_are_refused(rule: Any, fused: bool) -> None:
    assert set(optbench.sweep("rosenbrock", rule, steps=9, lr=1e-3, fused=fused).table["status"]) == {"budget"}
    runs = optbench.sweep("rosenbrock", rule, steps=9, lr=1e-3, precision="float32", fused=fused)
    assert set(runs.table["status"]) == {"failed"}
    assert (
        f"the optimizer {rule.__name__!r} returned an array of shape (5, 2) and type float64" in runs.table["error"][0]
    )
    assert "xp.astype(..., x.dtype)" in runs.table["error"][0]


def test_state_may_have_another_precision() -> None:
    runs = optbench.sweep("rosenbrock", wide_state, steps=9, lr=1e-3, precision="float32", fused=False)
    assert set(runs.table["status"]) == {"budget"}


class Returns(Optimizer):
    """Gradient steps, except that the points of step 3 are changed."""

    change: ClassVar[Any]

    def init(self, x: Any, backend: Backend) -> Any:
        return ()

    def step(self, t: int, at: At, state: Any) -> Any:
        x = at.x - 0.01 * at.g
        return (x if t != 3 else type(self).change(x)), state


CHANGES: dict[str, Any] = {
    "a list": lambda x: x.tolist(),
    "None": lambda x: None,
    "type complex128": lambda x: x + 0j,
    "type int64": lambda x: x.astype(np.int64),
    "type bool": lambda x: x > 0,
    "type object": lambda x: x.astype(object),
    "type float32": lambda x: x.astype(np.float32),
    "type float128": lambda x: x.astype(np.longdouble),
    "type >f8": lambda x: x.astype(">f8"),
    "a MaskedArray of shape": np.ma.masked_array,
    "shape ()": lambda x: x[0, 0][...] if x.ndim else x,
    "shape (0,": lambda x: x[:0],
    "an array of shape (": lambda x: x[..., None],
}


def change_id(change: str) -> str:
    return change.strip("(,")


@pytest.mark.parametrize("expected", CHANGES, ids=change_id)
def test_wrong_points_are_blamed_on_the_optimizer(expected: str) -> None:
    Bad = type("Bad", (Returns,), {"change": staticmethod(CHANGES[expected])})
    runs = optbench.compare(Quadratic(dim=3), [Bad, "momentum"], seeds=2, steps=9)
    table = runs.table.set_index("optimizer")
    assert set(table.loc["Bad", "status"]) == {"failed"}
    assert set(table.loc["momentum", "status"]) == {"budget"}
    error = table.loc["Bad", "error"].iloc[0]
    assert "the optimizer 'Bad' returned" in error
    assert expected in error
    assert "instead of an array of shape (2, 3) and type float64; " in error


@pytest.mark.parametrize("result", [None, 1.0, "x", np.ones((2, 3)), (np.ones((2, 3)),)], ids=repr)
def test_a_step_must_return_a_pair(result: Any) -> None:
    Bad = type("Bad", (Returns,), {"step": lambda *_: result})
    with pytest.raises(TypeError, match=r"step\(\) of 'Bad' must return the pair \(x, state\), not"):
        minimize(Quadratic(dim=3), Bad(), seeds=(0, 1), steps=2)


# ---- answers of problems ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Wrong(Quadratic):
    """A quadratic that returns one result wrongly from its call number 5 on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls, self.part = 0, ""
        self.change: Any = None

    def changed(self, part: str, value: Any) -> Any:
        self.calls += part == self.part
        return self.change(value) if part == self.part and self.calls > 5 else value

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        f, g = super().value_and_grad(x, samples)
        return self.changed("pair", (self.changed("f", f), self.changed("g", g)))

    def hessian(self, x: Any) -> Any:
        return self.changed("H", super().hessian(x))

    @property
    def metric_types(self) -> tuple[Metric, ...]:
        return (Metric("size", None),)

    def metrics(self, x: Any) -> Any:
        return self.changed("metrics", {"size": self.changed("'size'", self.xp.sum(x, axis=-1))})


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("expected", [change for change in CHANGES if change != "shape (0,"], ids=change_id)
@pytest.mark.parametrize("part", ["f", "g", "H", "'size'"])
def test_wrong_answers_are_blamed_on_the_problem(part: str, expected: str, noise: float) -> None:
    if part == "H" and noise:
        pytest.skip("Newton's method needs exact gradients")
    problem = Wrong(dim=3, noise=noise)
    problem.part = part
    problem.change = (lambda a: a.reshape(-1)[0]) if expected == "shape ()" else CHANGES[expected]
    with pytest.raises(TypeError) as caught:
        minimize(problem, make_recipe("newton" if part == "H" else "sgd").build({}), seeds=(0, 1), steps=20)
    name = "hessian" if part == "H" else "metrics" if part == "'size'" else "value_and_grad"
    message = str(caught.value)
    assert message.startswith((f"{name}() of the problem {problem.spec} returned", "evaluate() of the problem"))
    assert (expected if expected != "shape ()" else "a float64") in message
    assert f" as {part} instead of an array of shape (" in message


def test_a_column_of_values_is_not_broadcast() -> None:
    problem = Wrong(dim=3)
    problem.part, problem.change = "f", lambda f: f[:, None]
    with pytest.raises(TypeError, match=r"shape \(2, 1\) and type float64 as f instead of an array of shape \(2,\)"):
        minimize(problem, make_recipe("sgd").build({}), seeds=(0, 1), steps=20)


@pytest.mark.parametrize("change", [lambda pair: pair[0], lambda pair: None, lambda pair: (*pair, 1)])
def test_a_problem_must_return_a_pair(change: Any) -> None:
    problem = Wrong(dim=3)
    problem.part, problem.change = "pair", change
    with pytest.raises(TypeError, match=r"value_and_grad\(\) of the problem .* must return the pair \(f, g\)"):
        minimize(problem, make_recipe("sgd").build({}), steps=20)


@dataclass(eq=False)
class Start(Quadratic):
    """A quadratic with a given start point."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.result: Any = None

    def draw_start(self, rng: np.random.Generator) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.array([0.0, np.nan, 0.0]), "not finite for seed 0"),
        (np.array([0.0, np.inf, 0.0]), "not finite for seed 0"),
        (np.ones(3, complex), "not shape (3,) and type complex128"),
        (np.ones(3, int), "not shape (3,) and type int64"),
        (np.ones(3, object), "not shape (3,) and type object"),
        (np.ones(2), "not shape (2,) and type float64"),
        (np.ones((1, 3)), "not shape (1, 3) and type float64"),
        ([1.0, 2.0, 3.0], "not a list"),
        (None, "not a NoneType"),
        (np.ma.ones(3), "not shape (3,)"),
    ],
    ids=repr,
)
def test_wrong_start_points_are_blamed_on_the_problem(result: Any, message: str) -> None:
    problem = Start(dim=3)
    problem.result = result
    for call in (functools.partial(problem.start, 0), functools.partial(problem.starts, (0, 1))):
        with pytest.raises(InputError) as caught:
            call()
        assert message in str(caught.value)
        assert "draw_start()" in str(caught.value)
