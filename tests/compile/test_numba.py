"""The cache of compiled code depends on everything that the code depends on; without a cache, code is compiled again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.compile.numba import _file, compile_checked, has_numba, loop
from tests.conftest import run_python

pytestmark = pytest.mark.skipif(not has_numba(), reason="Numba is not installed")

LINES = ["def run(x):", "    for i in range(x.shape[0]):", "        x[i] = formula(np, x[i])"]
SOURCES = {
    "formulas_of_a_user": (
        "import constants_of_a_user as constants\nfrom constants_of_a_user import LIMIT, clip\n"
        "def formula(xp, x):\n    return clip(xp, x) * LIMIT + constants.SHIFT\n"
    ),
    "constants_of_a_user": "LIMIT = {0}\nSHIFT = {0}\ndef clip(xp, x):\n    return xp.minimum(x, {0})\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cached_file(formula: Any) -> Path | None:
    return _file("formula", "\n".join(LINES), "", [formula], [])


def test_the_file_name_depends_on_globals_in_other_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    paths = []
    for number in (1, 2, 1):
        for name, source in SOURCES.items():
            (tmp_path / f"{name}.py").write_text(source.format(number))
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        paths.append(cached_file(importlib.import_module("formulas_of_a_user").formula))
    assert paths[0] == paths[2] != paths[1]
    assert None not in paths


def again(xp: Any, x: Any) -> Any:
    return x + 1


FIRST = again


def again(xp: Any, x: Any) -> Any:  # type: ignore[no-redef]
    return x + 2


def test_two_formulas_of_one_name_have_two_files() -> None:
    assert cached_file(FIRST) != cached_file(again)
    for formula, expected in ((FIRST, 1.0), (again, 2.0)):
        x = np.zeros(2)
        loop("again", LINES, {"formula": formula})(x)
        np.testing.assert_array_equal(x, expected)


def minimum(xp: Any, x: Any) -> Any:
    """Has the name of the NumPy function that it calls."""
    return xp.minimum(x, 0.5)


def test_an_attribute_is_not_a_function_of_the_same_name() -> None:
    x = np.ones(2)
    loop("minimum", LINES, {"formula": minimum})(x)
    np.testing.assert_array_equal(x, 0.5)


def test_names_that_are_not_valid_file_names() -> None:
    path = _file("<lambda> / " + "long" * 100, "", "", [minimum], [])
    assert path is not None
    assert path.exists()


@pytest.mark.parametrize("trouble", ["a file", "no home", "nothing beside"])
def test_loops_are_compiled_without_a_cache(trouble: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import FunctionCache

    def refuse(*_: Any) -> Any:
        raise RuntimeError("no place")

    if trouble == "a file":
        cache.touch()
    elif trouble == "no home":
        monkeypatch.setattr(Path, "expanduser", refuse)
    else:
        monkeypatch.setattr(FunctionCache, "__init__", refuse)
    x = np.ones(2)
    loop("minimum", LINES, {"formula": minimum})(x)
    np.testing.assert_array_equal(x, 0.5)


LOOPS = {
    "_tanh": (
        "from optbench.compile.elementwise import _loop; from problems.network import _tanh; "
        "run = _loop(_tanh, 'slhb, slh -> slhb'); a = np.ones((2, 3, 4, 5)); run(a, np.ones((2, 3, 4)))"
    ),
    "adamw": (
        "from optbench.compile.numba import loop; from optbench.compile.rules import step_lines; "
        "from optbench.optimizers.adaptive import adamw; "
        "run = loop('adamw', step_lines(adamw, ['lr']), {'_rule': adamw}, _xp=np); "
        "a, *rest = (np.ones((2, 3)) for _ in range(4)); "
        "run(a, rest[0], 1.0, *rest[1:], np.full((2, 1), 0.1), 0.9, 0.99, 1e-8, 0.0)"
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_compiled_loops_are_cached_between_processes(name: str, cache: Path) -> None:
    code = f"import numpy as np; {LOOPS[name]}; print(sum(run.stats.cache_hits.values()), float(a.sum()))"
    (hits, value), (hits_again, value_again) = (run_python("-c", code).stdout.split() for _ in range(2))
    assert (hits, hits_again) == ("0", "1")
    assert value == value_again
    assert name != "_tanh" or float(value) == pytest.approx(120 * np.tanh(2.0))
    assert len(list(cache.glob(f"optbench/loops/{name}_*.py"))) == 1


def unknown(xp: Any, x: Any) -> Any:
    return xp.no_such_function(x)


def test_the_warning_names_the_cause() -> None:
    message = r"^x runs uncompiled \(AttributeError: module 'numpy' has no attribute 'no_such_function'\)$"
    with pytest.warns(UserWarning, match=message):
        assert compile_checked("x", lambda: loop("unknown", LINES, {"formula": unknown})(np.ones(2)), bool) is None
