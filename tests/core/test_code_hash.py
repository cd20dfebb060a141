"""Hashes of code: what changes them, and what does not."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.core.code_hash import Hasher, is_importable, module_hash, qualified_name
from optbench.runner.plan import ENGINE
from tests.conftest import run_python

FILES = {
    "mine/__init__.py": "",
    "mine/rules.py": """
'''Rules.'''
import functools

import numpy as np

from mine import tools
from . import settings
from .helper import direction, unused

SCALE = 2.0
TABLE = np.array([1.0, 2.0])
OPTIONS = {"sign": [1, -1], "weights": {"a": 0.5}}


class Base:
    shrink = 0.5

    def factor(self, lr):
        return self.half(lr) * self.shrink

    def half(self, lr):
        return lr / 2

    @property
    def power(self):
        return 2

    @staticmethod
    def offset():
        return 0.25


class Model(Base):
    '''A model.'''

    def __call__(self, lr, power=1.5):
        return super().factor(lr) ** self.power


def closure(weight):
    def weighted(g):
        return weight * g

    return weighted


weighted = closure(3.0)
shifted = functools.partial(max, 0.125)


@functools.cache
def cached(n):
    return n + 10


def unrelated(x):
    return x


def rule(xp, x, g, t, lr=0.1):
    '''A rule.'''
    from .late import lazy
    import mine.later as later

    def inner(v):
        return [SCALE * w + nested for w in v]

    nested = settings.NESTED
    g = direction(g) + tools.norms.size(g) * TABLE.sum() * OPTIONS["sign"][0]
    x = x - Model()(lr) * weighted(g) * lazy(g) * later.later(g) * shifted(lr) * cached(t)
    return (sum(inner([x])),)
""",
    "mine/settings.py": "NESTED = 5\nOTHER = 6\n",
    "mine/helper.py": """
from .deep import deepest


def direction(g):
    return deepest(g)


def unused(g):
    return g
""",
    "mine/deep.py": "def deepest(g):\n    return g * 1.0\n\n\ndef idle():\n    return 7\n",
    "mine/tools/__init__.py": "from . import norms\n",
    "mine/tools/norms.py": "def size(g):\n    return abs(g)\n\n\ndef other(g):\n    return -g\n",
    "mine/late.py": "RATE = 11\n\n\ndef lazy(g):\n    return RATE\n\n\ndef idle():\n    return 12\n",
    "mine/later.py": "def later(g):\n    return 13\n\n\ndef idle():\n    return 14\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package ``mine``."""
    write(tmp_path, FILES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def hash_of(name: str = "rule") -> str:
    """Hash of an object of the package ``mine``, imported anew."""
    forget()
    return Hasher().hash(getattr(importlib.import_module("mine.rules"), name))


CHANGES = {
    "a global number": ("mine/rules.py", "SCALE = 2.0", "SCALE = 3.0"),
    "the type of a number": ("mine/rules.py", "SCALE = 2.0", "SCALE = 2"),
    "a global array": ("mine/rules.py", "[1.0, 2.0]", "[1.0, 2.5]"),
    "the dtype of an array": ("mine/rules.py", "np.array([1.0, 2.0])", "np.array([1.0, 2.0], np.float32)"),
    "the shape of an array": ("mine/rules.py", "np.array([1.0, 2.0])", "np.array([[1.0, 2.0]])"),
    "a list in a global dict": ("mine/rules.py", "[1, -1]", "[2, -1]"),
    "a dict in a global dict": ("mine/rules.py", '"a": 0.5', '"a": 0.6'),
    "an attribute of a base class": ("mine/rules.py", "shrink = 0.5", "shrink = 0.6"),
    "a method of a base class": ("mine/rules.py", "self.half(lr) *", "self.half(lr) +"),
    "what a method calls": ("mine/rules.py", "lr / 2", "lr / 3"),
    "a property": ("mine/rules.py", "        return 2\n", "        return 3\n"),
    "a static method": ("mine/rules.py", "return 0.25", "return 0.5"),
    "a default argument": ("mine/rules.py", "power=1.5", "power=1.25"),
    "a default argument of the rule": ("mine/rules.py", "t, lr=0.1", "t, lr=0.2"),
    "a closure": ("mine/rules.py", "closure(3.0)", "closure(4.0)"),
    "arguments of a partial": ("mine/rules.py", "partial(max, 0.125)", "partial(max, 0.25)"),
    "the function of a partial": ("mine/rules.py", "partial(max, 0.125)", "partial(min, 0.125)"),
    "a cached function": ("mine/rules.py", "n + 10", "n + 11"),
    "a nested function": ("mine/rules.py", "SCALE * w", "SCALE + w"),
    "a name": ("mine/rules.py", "TABLE.sum()", "TABLE.max()"),
    "a constant of another module": ("mine/settings.py", "NESTED = 5", "NESTED = 6"),
    "a helper of a helper": ("mine/deep.py", "g * 1.0", "g * 2.0"),
    "a function of a module of a package": ("mine/tools/norms.py", "abs(g)", "abs(g) + 1"),
    "a value of a module imported inside": ("mine/late.py", "RATE = 11", "RATE = 12"),
    "a module imported inside": ("mine/later.py", "return 13", "return 15"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_matters_changes_the_hash(folder: Path, change: str) -> None:
    before = hash_of()
    name, old, new = CHANGES[change]
    assert old in FILES[name]
    write(folder, {name: FILES[name].replace(old, new)})
    assert hash_of() != before


SAME = {
    "a docstring": ("mine/rules.py", "'''A rule.'''", "'''Another word.'''"),
    "no docstring": ("mine/rules.py", "'''A rule.'''", ""),
    "the docstring of a class": ("mine/rules.py", "'''A model.'''", "'''What it is.'''"),
    "no docstring of a class": ("mine/rules.py", "'''A model.'''", ""),
    "a docstring where there was none": ("mine/deep.py", "(g):\n", "(g):\n    '''Deep.'''\n"),
    "a docstring of a module": ("mine/deep.py", "def deepest", "'''Deep.'''\n\n\ndef deepest"),
    "a comment": ("mine/rules.py", "return lr / 2", "# half\n        return lr / 2  # of it"),
    "blank lines": ("mine/rules.py", "SCALE = 2.0", "\n\n\n\nSCALE = 2.0\n\n"),
    "annotations": ("mine/deep.py", "def deepest(g):", "def deepest(g: float) -> float:"),
    "another rule": ("mine/rules.py", "def unrelated(x)", "def new(x):\n    return SCALE\n\n\ndef unrelated(x)"),
    "what is not used": ("mine/rules.py", "def unrelated(x):\n    return x", "def unrelated(x):\n    return -x"),
    "an unused import": ("mine/helper.py", "    return g\n", "    return g + 1\n"),
    "an unused function of a helper of a helper": ("mine/deep.py", "return 7", "return 8"),
    "an unused value of a module": ("mine/settings.py", "OTHER = 6", "OTHER = 7"),
    "an unused function of a module of a package": ("mine/tools/norms.py", "return -g", "return 2 * g"),
    "an unused function of a module imported inside": ("mine/late.py", "return 12", "return 0"),
    "an unused function of another one": ("mine/later.py", "return 14", "return 0"),
    "the order of functions": (
        "mine/deep.py",
        FILES["mine/deep.py"],
        "\n\n".join(reversed(FILES["mine/deep.py"].split("\n\n"))),
    ),
    "the order of values": ("mine/settings.py", "NESTED = 5\nOTHER = 6", "OTHER = 6\nNESTED = 5"),
}  # fmt: skip


@pytest.mark.parametrize("change", SAME)
def test_a_change_that_does_not_matter_keeps_the_hash(folder: Path, change: str) -> None:
    before = hash_of()
    name, old, new = SAME[change]
    assert old in FILES[name]
    write(folder, {name: FILES[name].replace(old, new)})
    assert hash_of() == before


def test_the_place_of_files_does_not_matter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = hash_of()
    other = tmp_path_factory.mktemp("other")
    write(other, FILES)
    sys.path.insert(0, str(other))
    try:
        after = hash_of()
        assert sys.modules["mine"].__file__ == str(other / "mine/__init__.py")
    finally:
        sys.path.remove(str(other))
    assert after == before


def test_what_has_been_loaded_and_called_does_not_matter(folder: Path) -> None:
    before = hash_of()
    module = importlib.import_module("mine.rules")
    assert "mine.late" in sys.modules  # the rule imports it
    module.cached(3)
    module.Model()(0.1)
    module.rule(np, 1.0, 2.0, 3)
    assert Hasher().hash(module.rule) == before


def test_two_processes_agree(folder: Path) -> None:
    """Whatever the order of sets, and the addresses of objects."""
    (folder / "mine/deep.py").write_text(
        "NAMES = {'a', 'b', 'c', ('d', 1), frozenset({'e', 'f'})}\nLOOKUP = object()\n\n\n"
        "def deepest(g):\n    return g if g in {'x', 'y', 'z'} or LOOKUP in NAMES else NAMES\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); from optbench.core.code_hash import Hasher; import mine.rules; "
        "print(Hasher().hash(mine.rules.rule))"
    )
    seeds = "1", "2", "3"
    done = [run_python("-c", code, env={**os.environ, "PYTHONHASHSEED": seed}) for seed in seeds]
    assert [process.returncode for process in done] == [0, 0, 0], done[0].stderr
    assert len({process.stdout for process in done}) == 1


def test_a_replaced_function_changes_the_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of()
    rules = importlib.import_module("mine.rules")
    for module, name in (("deep", "deepest"), ("late", "lazy"), ("tools.norms", "size")):
        with monkeypatch.context() as patch:
            target = importlib.import_module(f"mine.{module}")
            patch.setattr(target, name, lambda g: g + 1)
            assert (Hasher().hash(rules.rule) != before) == (name != "deepest"), "helper.py has its own deepest"
            patch.setattr(rules, "direction", lambda g: g + 1)
            assert Hasher().hash(rules.rule) != before
    assert Hasher().hash(rules.rule) == before


def test_a_file_counts_as_it_was_imported(folder: Path) -> None:
    """Until it is reloaded."""
    before = hash_of("direction")
    helper, deep = importlib.import_module("mine.helper"), importlib.import_module("mine.deep")
    write(folder, {"mine/deep.py": "def deepest(g):\n    return -g\n"})
    assert Hasher().hash(helper.direction) == before
    importlib.reload(deep)
    assert Hasher().hash(helper.direction) == before  # helper.py still has the old function
    assert Hasher().hash(importlib.reload(helper).direction) != before


def test_a_module_that_is_used_as_a_whole_counts_as_a_whole(folder: Path) -> None:
    write(folder, {"mine/rules.py": "from . import deep\n\n\ndef rule(name):\n    return getattr(deep, name)\n"})
    before = hash_of()
    write(folder, {"mine/deep.py": FILES["mine/deep.py"].replace("return 7", "return 8")})
    assert hash_of() != before
    write(folder, {"mine/deep.py": FILES["mine/deep.py"].replace("def deepest", "# a comment\ndef deepest")})
    assert hash_of() == before


@pytest.mark.parametrize(
    "statement",
    [
        "from mine.deep import deepest as f",
        "import mine.deep as d; f = d.deepest",
        "from mine import deep as d; f = d.deepest",
        "import mine.deep; f = mine.deep.deepest",
        "from .deep import idle, deepest; f = deepest",
    ],
)
def test_every_form_of_import_is_followed(folder: Path, statement: str) -> None:
    write(folder, {"mine/rules.py": f"def rule(g):\n    {statement}\n    return (lambda: f(g))()\n"})
    before = hash_of()
    write(folder, {"mine/deep.py": FILES["mine/deep.py"].replace("return 7", "return 8")})
    assert hash_of() == before
    write(folder, {"mine/deep.py": FILES["mine/deep.py"].replace("g * 1.0", "g * 2.0")})
    assert hash_of() != before


def test_an_import_that_fails_is_no_error(folder: Path) -> None:
    text = "def rule(g):\n    from nowhere_at_all import f\n    import mine.broken\n    return f(g)\n"
    write(folder, {"mine/rules.py": text, "mine/broken.py": "import sys\nsys.exit(3)\n"})
    assert hash_of() == hash_of()


# ---- values --------------------------------------------------------------------------------------------------------------


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x

    def get(self) -> Any:
        return self.x

    @functools.cached_property
    def derived(self) -> float:
        return 2.0


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x: Any) -> None:
        self.x = x


def of_closure(value: Any) -> Callable[..., Any]:
    def rule() -> Any:
        return value

    return rule


DIFFERENT: list[Any] = [
    *(1, 1.0, True, 1 + 0j, "1", b"1", None, ..., 0.0, -0.0, complex(0.0, -0.0), float("nan"), float("inf"), 10**5000),
    *((), (1,), (1.0,), ((1,),), [1], [1.0], [[1]], {1}, frozenset({1}), {1.0}, {1: 2}, {2: 1}, {1: 2.0}),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, [1, 2], [2, 1], [0] * 20, [0.0] * 20, [False] * 20, (0,) * 20),
    *(np.float64(1), np.float32(1), np.int64(1), np.zeros(2), np.zeros((2, 1)), np.zeros(2, int), np.zeros(0)),
    *(np.array(1.0), np.array([0.0, -0.0]), np.array(["a"]), np.array(["a"], object), np.array([None])),
    *(np.ma.masked_array([0.0, 0.0], [False, True]), np.zeros(2, "f4,f8"), np.array(["2020-01-01"], "M8[D]")),
    *(np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.arange(6.0).reshape(3, 2)),
    *(Point(1), Point(1.0), Point([1]), Slots(1), Slots(2), types.SimpleNamespace(x=1), types.MappingProxyType({1: 2})),
    *(len, max, np.add, np.sum, functools.partial(max, 1), functools.partial(max, 2), [].append, [1].append),
    *("".join, "a".join, np.random.default_rng(0), np.random.default_rng(1), range(3), range(4), slice(3)),
    *(Path("a"), Path("b"), int, float, Point, Point(1).get, Point(2).get),
    *(lambda x: x, lambda y: y, lambda x: -x, lambda x=1: x, lambda x=1.0: x, lambda *x: x, lambda *, x: x),
    *(lambda: {1, 2}, lambda: {1, 3}, lambda: 0.0, lambda: -0.0, lambda: (yield)),
]


def test_different_values_have_different_hashes() -> None:
    for to_hash in (lambda value: [value], of_closure, Point):
        hashes = [Hasher().hash(to_hash(value)) for value in DIFFERENT]
        equal = [
            (DIFFERENT[i], DIFFERENT[j])
            for i, j in itertools.combinations(range(len(hashes)), 2)
            if hashes[i] == hashes[j]
        ]
        assert equal == []  # fmt: skip


def test_equal_values_have_equal_hashes() -> None:
    for make in (
        *(lambda: [float("nan")], lambda: {"a": [1, {2}]}, lambda: Point(np.arange(3)), lambda: Slots([1])),
        *(lambda: of_closure(np.arange(3.0)), lambda: functools.partial(max, 1), lambda: np.random.default_rng(3)),
        *(lambda: {"x" * 3: 10**100}, lambda: types.SimpleNamespace(a=1, b=2), lambda: np.arange(10)[::2]),
    ):
        assert Hasher().hash(make()) == Hasher().hash(make())
    assert Hasher().hash(np.arange(10)[::2]) == Hasher().hash(np.arange(0, 10, 2))
    assert Hasher().hash({3, 1, 2}) == Hasher().hash({2, 3, 1})
    assert Hasher().hash(types.SimpleNamespace(a=1, b=2)) == Hasher().hash(types.SimpleNamespace(b=2, a=1))


def test_caches_are_no_content() -> None:
    point = Point(1)
    before = Hasher().hash(point)
    assert point.derived == 2.0
    assert Hasher().hash(point) == before


def test_circles_end() -> None:
    """Also those through a set."""
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [2]
    other.append(other)
    assert Hasher().hash(ring) != Hasher().hash(other)
    first, second = Point(1), Point(2)
    first.x, second.x = {second}, {first}
    assert Hasher().hash(first) == Hasher().hash(first)


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def test_functions_may_call_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Hasher().hash(even)
    assert before != Hasher().hash(odd)
    monkeypatch.setattr(sys.modules[__name__], "odd", lambda n: not even(n))
    assert Hasher().hash(even) != before


def wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*values: Any) -> Any:
        return function(*values)

    return wrapped


@pytest.mark.parametrize(
    "decorate", [wrapper, functools.cache, functools.singledispatch, staticmethod, classmethod, property]
)
def test_decorated_functions_count(decorate: Callable[..., Any]) -> None:
    hashes = {Hasher().hash(decorate(function)) for function in (lambda x: x, lambda x: -x)}
    assert len(hashes) == 2


def test_implementations_by_type_count() -> None:
    hashes = set()
    for function in (lambda x: x, lambda x: -x):
        general = functools.singledispatch(even)
        general.register(float, function)
        hashes.add(Hasher().hash(general))
    assert len(hashes) == 2


def test_what_cannot_be_compared_is_never_the_same() -> None:
    for value in (threading.Lock(), (k for k in range(3)), np.frompyfunc(lambda x: x, 1, 1)):
        with pytest.warns(UserWarning, match=r"the rule 'mine': the content of .* cannot be compared"):
            first = Hasher().hash(of_closure(value), owner="the rule 'mine'")
        with warnings.catch_warnings():  # one warning is enough
            warnings.simplefilter("error")
            hasher = Hasher()
            assert hasher.hash(of_closure(value), owner="the rule 'mine'") != first
        assert hasher.random


def test_a_hasher_by_name_distinguishes_data_and_not_code() -> None:
    def hash_of(value: Any) -> str:
        return Hasher(names_suffice=True).hash(value)

    assert hash_of(Point(1)) != hash_of(Point(2))
    assert hash_of(even) != hash_of(odd)
    assert hash_of(of_closure(1)) != hash_of(of_closure(2)), "they have one name"
    before = hash_of([even, Point])
    code = even.__code__
    try:
        even.__code__ = odd.__code__
        assert hash_of([even, Point]) == before
    finally:
        even.__code__ = code


def test_names_that_lead_to_their_object() -> None:
    assert is_importable(even)
    assert is_importable(Point.__init__)
    assert not is_importable(of_closure(1))
    assert not is_importable(lambda: 1)
    assert qualified_name(Point) == f"{__name__}.Point"


# ---- modules of optbench -------------------------------------------------------------------------------------------------


def test_a_module_is_hashed_without_its_comments(folder: Path) -> None:
    text = FILES["mine/rules.py"]
    hashes = {}
    for name, changed in {
        "same": text,
        "comments": text.replace("SCALE = 2.0", "# scale\nSCALE = 2.0").replace("'''Rules.'''", "'''Many rules.'''"),
        "docstrings": text.replace("A model", "The model").replace("A rule", "The rule"),
        "number": text.replace("SCALE = 2.0", "SCALE = 3.0"),
        "function": text.replace("def unrelated(x):\n    return x", "def unrelated(x):\n    return -x"),
    }.items():
        write(folder, {f"{name}.py": changed})
        hashes[name] = module_hash((name,))
    assert hashes["same"] == hashes["comments"] == hashes["docstrings"]
    assert len({hashes["same"], hashes["number"], hashes["function"]}) == 3


# modules that those of the engine import and that do not compute anything of a run
NOT_COMPUTING = {
    *("", ".core", ".compile", ".runner", ".results", ".optimizers", ".optimizers.schedules", ".compile.cache"),
    *(".core.code_hash", ".core.errors", ".core.imports", ".core.lazy", ".core.registry", ".core.specs", ".core.types"),
    *(
        ".core.memory",
        ".core.workers",
        ".runner.describe",
        ".runner.options",
        ".results.methods",
        ".results.runs",
        ".results.schema",
    ),
}


def test_the_engine_is_complete() -> None:
    """Each module that a module of the engine imports belongs to it, or does not compute."""
    for name in ENGINE:
        module = importlib.import_module(name)
        used = {getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(module).values()}
        ours = {str(other) for other in used if str(other).startswith("optbench")}
        assert ours <= {*ENGINE, *(f"optbench{rest}" for rest in NOT_COMPUTING)}, name
