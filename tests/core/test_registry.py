"""Names, specs and parameters, and the messages about wrong ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pytest

from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.core.specs import Choices, Interval, Parameter, Parametrized, canonical, coerce, format_spec, parse_spec
from optbench.optimizer import make_recipe, rule
from optbench.optimizers.adaptive import adam
from optbench.optimizers.gradient import sgd
from optbench.problem import make_problem


@pytest.mark.parametrize("registry", [PROBLEMS, OPTIMIZERS, SCHEDULES], ids=lambda r: r.kind)
def test_everything_has_a_description(registry: Registry) -> None:
    for name in registry.names():
        assert len((registry[name].__doc__ or "").strip()) > 10, name


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_every_problem_names_its_source(name: str) -> None:
    assert len(PROBLEMS[name].citation) > 10
    assert len(PROBLEMS[name].formula) > 5


def test_a_decorator_registers_and_returns_the_function_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x - lr * g,)

    monkeypatch.setattr(OPTIMIZERS, "_objects", dict(OPTIMIZERS._objects))
    assert rule(mine) is mine
    assert OPTIMIZERS["mine"] is mine
    assert OPTIMIZERS["gradient_descent"] is sgd


def test_a_clash_of_names_is_an_error() -> None:
    def adam(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        return (x,)

    with pytest.raises(InputError, match="two optimizers are called 'adam'"):
        rule(adam)


@pytest.mark.parametrize(
    ("registry", "name", "hint"),
    [
        (OPTIMIZERS, "adm", "did you mean 'adam'"),
        (PROBLEMS, "logstic", "did you mean 'logistic'"),
        (SCHEDULES, "cosin", "did you mean 'cosine'"),
        (PROBLEMS, "xyzzy", "optbench list shows all"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(registry: Registry, name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        registry[name]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """A function that creates a registry whose plug-ins are the given entry points to a module ``plug``."""

    def make(**values: str) -> Registry:
        registry = Registry("optimizer", ())
        (tmp_path / "plug.py").write_text(PLUG)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "plug", raising=False)
        monkeypatch.setitem(SHARED, 0, registry)
        points = [EntryPoint(name, value, registry.group) for name, value in values.items()]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
        return registry

    return make


SHARED: dict[int, Registry] = {}  # the registry in which the plug-in registers its rule
PLUG = """
from tests.core.test_registry import SHARED

def bb():
    pass

SHARED[0].register("barzilai_borwein", bb)
"""


def test_a_decorated_rule_is_listed_once(plugin: Callable[..., Registry]) -> None:
    registry = plugin(bb="plug:bb")
    assert registry.names() == ["barzilai_borwein"]
    assert registry["bb"] is registry["barzilai_borwein"]


def test_a_plug_in_that_registered_itself_is_listed_once(plugin: Callable[..., Registry]) -> None:
    registry = plugin(barzilai_borwein="plug:bb")
    importlib.import_module("plug")
    assert registry.names() == ["barzilai_borwein"]  # a warning would be an error


def test_an_entry_point_that_names_a_module_is_left_out(plugin: Callable[..., Registry]) -> None:
    registry = plugin(plug="plug")
    with pytest.warns(UserWarning, match=r"'plug' .* cannot be used \(plug is a module; name the object: plug:NAME\)"):
        assert registry.names() == ["barzilai_borwein"]
    assert registry.names() == ["barzilai_borwein"]


def test_specs() -> None:
    assert parse_spec("quadratic: dim=100, condition=1e4 ") == ("quadratic", {"dim": "100", "condition": "1e4"})
    assert parse_spec("adam") == ("adam", {})
    assert format_spec("mlp", {"hidden": (32, 16), "l2": 1e-3, "rotate": True, "b": None}) == (
        "mlp:hidden=32-16,l2=0.001,rotate=true,b=none"
    )
    for wrong in ("quadratic:dim", "quadratic:=3", "quadratic:dim=1,dim=2"):
        with pytest.raises(InputError):
            parse_spec(wrong)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (int, "1e3", 1000),
        (int, 7.0, 7),
        (float, "1e-2", 0.01),
        (float, -0.0, 0.0),
        (bool, "no", False),
        (str, "a", "a"),
        (tuple[int, ...], "32-16", (32, 16)),
        (tuple[int, ...], [8], (8,)),
        (tuple[int, ...], "", ()),
        (tuple[float, ...], "1e-3-0.5", (0.001, 0.5)),
        (int | None, "none", None),
        (int | None, "3", 3),
    ],
)
def test_coerce(kind: Any, given: Any, expected: Any) -> None:
    value = coerce("x", Parameter("p", kind, None), given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [(int, "2.5"), (int, True), (float, "nan"), (float, "inf"), (float, "abc"), (bool, "maybe"), (int, None), (str, 3)]
    + [(int, "inf"), (tuple[int, ...], "-3"), (tuple[int, ...], "3--2")],
)
def test_impossible_values(kind: Any, given: Any) -> None:
    with pytest.raises(InputError, match="x: p must be"):
        coerce("x", Parameter("p", kind, None), given)


@dataclass
class Grid(Parametrized):
    name = "grid"
    kind = "thing"
    always_shown = ("size",)

    size: Annotated[int, Interval(1)] = 3
    shape: Annotated[str, Choices(("square", "round"))] = "square"
    turn: Annotated[float, Interval(-1, closed="neither")] = 0.0

    def __post_init__(self) -> None:
        self.check_parameters()

    @property
    def unused(self) -> frozenset[str]:
        return frozenset({"turn"} if self.shape == "round" else ())


def test_spec_names_what_differs_and_what_is_always_shown() -> None:
    assert str(Grid()) == Grid().spec == "grid:size=3"
    assert Grid(turn=0.5).spec == "grid:size=3,turn=0.5"
    assert Grid(shape="round").params == {"size": 3, "shape": "round"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "thing 'grid': size must be at least 1, not 0"),
        ({"turn": -1.0}, "turn must be above -1, not -1"),
        ({"shape": "oval"}, "shape must be one of square, round, not 'oval'"),
        ({"shape": "round", "turn": 1.0}, "thing 'grid:size=3,shape=round': turn has no effect here; leave it out"),
        ({"size": "many"}, "thing 'grid': size must be a whole number below 2.63, not 'many'"),
    ],
)
def test_wrong_parameters_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_the_spec_of_a_problem_recreates_it(name: str) -> None:
    problem = make_problem(name)
    again = make_problem(*parse_spec(problem.spec))
    assert again.params == problem.params
    assert canonical({"params": [list(v) if isinstance(v, tuple) else v for v in problem.params.values()]})


@pytest.mark.parametrize(
    ("optimizer", "settings", "message"),
    [
        ("adam", {"lr": 0}, "lr must be above 0"),
        ("adam", {"lr": [0.1, -1]}, "lr must be above 0"),
        ("adam", {"beta1": 1}, r"beta1 must be in \[0, 1\)"),
        ("adam", {"lrate": 1}, "did you mean"),
        ("adam", {"lr": "a/b"}, "must be a finite number"),
        ("adam", {"lr": []}, "empty list"),
        ("lbfgs", {"memory": 0}, "at least 1"),
        ("lbfgs", {"memory": 2.5}, "a whole number"),
        (3, {}, "an optimizer must be a name"),
    ],
)
def test_impossible_recipes(optimizer: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_recipe(optimizer, settings)


def test_recipe_spec() -> None:
    assert make_recipe("adam", {"lr": "0.1/0.2", "eps": 1e-7}).spec == "adam:lr=0.1/0.2,eps=1e-07"
    assert make_recipe(adam).name == "adam"
