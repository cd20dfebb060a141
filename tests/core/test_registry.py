"""Names, specs and parameters, and the messages about wrong ones."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pytest

from optbench.core.code_hash import source_hash
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.core.specs import Choices, Interval, Parameter, Parametrized, canonical, coerce, format_spec, parse_spec
from optbench.optimizer import make_recipe, rule
from optbench.optimizers.adaptive import adam
from optbench.optimizers.gradient import momentum, sgd
from optbench.problem import make_problem
from tests.conftest import run_python


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


def twin(x: float) -> float:
    return x


FIRST = twin


def twin(x: float) -> float:  # type: ignore[no-redef]
    return -x


def test_source_hash_distinguishes_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_hash([momentum]) == source_hash([sgd])  # one module, one version
    assert source_hash([adam]) != source_hash([make_problem])
    typed: dict[str, Any] = {"__name__": "__console__"}
    exec("def f(x): return x.sin()\ndef g(x): return x.cos()", typed)
    monkeypatch.setitem(sys.modules, "__console__", types.ModuleType("__console__"))
    assert source_hash([typed["f"]]) != source_hash([typed["g"]])
    assert source_hash([FIRST]) != source_hash([twin])


def test_source_hash_follows_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules_of_a_user.py"
    path.write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("rules_of_a_user")
    before = source_hash([module.f])
    path.write_text("def f(x):\n    return -x\n")
    os.utime(path, (1e9, 1e9))
    assert source_hash([module.f]) == before  # the loaded source is still the old one
    importlib.reload(module)
    assert source_hash([module.f]) != before


def test_source_hash_distinguishes_closures() -> None:
    def scaled(factor: float) -> Any:
        def rule(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
            return (x - factor * lr * g,)

        return rule

    assert source_hash([scaled(1.0)]) == source_hash([scaled(1.0)])
    assert source_hash([scaled(1.0)]) != source_hash([scaled(2.0)])
    assert source_hash([lambda x: x.sin()]) != source_hash([lambda x: x.cos()])


THREADS = """
import os, sys, threading
import optbench

def ask(barrier, errors, question):
    barrier.wait()
    try:
        question()
    except BaseException as error:
        errors.append(error)

def by_import():
    from optbench.core.imports import import_all
    import_all("mine.py")
    optbench.make_recipe("lately:lr=0.1")

def by_registry(kind, name):
    from optbench.core import registry
    assert name in getattr(registry, kind).names()

def by_module():
    from optbench.optimizers.schedules import make_schedule
    make_schedule("cosine:warmup=0.1")

questions = [
    lambda: optbench.make_problem("quadratic:dim=3"),
    lambda: optbench.make_recipe("adam"),
    lambda: by_registry("PROBLEMS", "rosenbrock"),
    lambda: by_registry("OPTIMIZERS", "lbfgs"),
    lambda: by_registry("SCHEDULES", "linear"),
    by_module,
    by_import,
]
for repetition in range(6):
    if os.fork() == 0:  # in each process nothing is loaded yet
        sys.setswitchinterval(1e-5)
        barrier, errors = threading.Barrier(2 * len(questions)), []
        threads = [threading.Thread(target=ask, args=(barrier, errors, question)) for question in questions * 2]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(errors, end="")
        sys.stdout.flush()
        os._exit(len(errors))
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="repeats by forks")
def test_many_threads_may_ask_first(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import time\nimport optbench\ntime.sleep(0.05)\n\n"
        "@optbench.rule\ndef lately(xp, x, g, t, lr=0.1):\n    return (x - lr * g,)\n"
    )
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    done = run_python("-W", "ignore", "-c", THREADS, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert (done.stdout, done.returncode) == ("[]" * 6, 0), done.stderr


def test_a_module_that_fails_while_it_registers_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halves.py").write_text(
        "from tests.core.test_registry import SHARED\nSHARED[0].register('a', len)\n1 / 0\n"
    )
    registry = Registry("optimizer", ("halves",))
    monkeypatch.setitem(SHARED, 0, registry)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            registry["a"]
    (tmp_path / "halves.py").write_text(
        "from tests.core.test_registry import SHARED\nSHARED[0].register('a', len)\nSHARED[0]['a']\n"
    )
    importlib.invalidate_caches()
    assert registry["a"] is len, "a module may ask for what it has registered while it loads"
    assert registry.names() == ["a"]
    sys.modules.pop("halves")


@pytest.mark.parametrize(
    ("given", "expected"), [("9007199254740993", 2**53 + 1), ("1e4", 10_000), (str(2**63 - 1), 2**63 - 1)]
)
def test_whole_numbers_are_exact(given: str, expected: int) -> None:
    assert coerce("it", Parameter("n", int, 1), given) == expected
