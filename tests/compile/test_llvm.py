"""Operations as LLVM IR have the digits of NumPy, and machine code is kept on disk."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.compile import cache, llvm
from optbench.compile.graph import INEXACT, OPERATIONS, TRUTHS, WEAK_ONLY
from optbench.compile.llvm import Writer, assemble, machine_code
from optbench.compile.rules import RuleKernel
from optbench.core.backend import PRECISIONS, get_backend
from optbench.optimizer import make_recipe
from optbench.runner.loop import minimize
from problems import Rosenbrock
from tests.conftest import run_python

ARGUMENTS = {"where": 3} | dict.fromkeys(("negative", "bitwise_not", "sqrt", "abs", "sign", "isnan", "isfinite"), 1)
ARGUMENTS |= dict.fromkeys(("exp", "log", "log1p", "tanh"), 1)


def specials(precision: str) -> np.ndarray:
    """Numbers at which operations differ if they are printed in another way."""
    info: Any = np.finfo(precision)
    ends = [0.0, 1.0, 0.3, 3.0, info.tiny, info.smallest_subnormal, info.max, 1 / info.max, np.inf, np.nan]
    return np.array([*ends, *(-end for end in ends)], precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - WEAK_ONLY))
def test_operations_have_the_digits_of_numpy(name: str, precision: str) -> None:
    def rule(xp: Any, x: Any, g: Any, t: int) -> Any:
        function = OPERATIONS[name] if xp is np else getattr(xp, name)
        is_logical = name.startswith("bitwise")
        args = (x > 0.5, g > 0.5) if is_logical else (x > 0.5, g, x) if name == "where" else (x, g)
        result = function(*args[: ARGUMENTS.get(name, 2)])
        return (xp.where(result, x, g) if is_logical or name in TRUTHS else result,)

    pairs = np.array([*itertools.product(specials(precision), repeat=2)]).T  # (2, 400)
    x, g = (np.ascontiguousarray(part.reshape(4, 100)) for part in pairs)  # whole vectors, and a rest
    with np.errstate(all="ignore"):
        (expected,) = rule(np, x, g, 1)
    kernel = RuleKernel(rule, get_backend("numpy", precision=precision), (), (), 100)
    result, _ = kernel(x.copy(), g, 1, (), ())
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=4 * float(np.finfo(precision).eps) * (name in INEXACT))
    known = ~np.isnan(expected)
    if name not in ("maximum", "minimum"):  # of 0.0 and -0.0, either is the larger one
        np.testing.assert_array_equal(np.signbit(result[known]), np.signbit(expected[known]))


def text_of(value: float, name: str = "f") -> str:
    """The IR of a function that stores a number at the address in its first argument."""
    w = Writer(name, "float64")
    w.store(w.constant(value, "double"), w.argument(0, "ptr"))
    return assemble([w])


def called(function: Callable[[int], None]) -> float:
    place, arguments = np.zeros(1), np.zeros(1, np.int64)
    arguments[0] = place.ctypes.data
    function(arguments.ctypes.data)
    return float(place[0])


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty folder for machine code; returns the keys that are stored."""
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path / "cache"))
    keys: list[str] = []
    store = cache.store

    def noted(key: str, code: bytes) -> None:
        keys.append(key)
        store(key, code)

    monkeypatch.setattr(cache, "store", noted)
    monkeypatch.setattr(llvm, "machine_code", machine_code.__wrapped__)
    return keys


@pytest.mark.parametrize("value", [1.5, 0.1, -0.0, float("inf"), 5e-324])
def test_constants_are_exact(value: float) -> None:
    (function,) = machine_code(text_of(value), ("f",))
    assert called(function).hex() == value.hex()


def test_code_is_compiled_once(empty_cache: list[str], tmp_path: Path) -> None:
    for _ in range(3):
        (function,) = llvm.machine_code(text_of(2.5), ("f",))
        assert called(function) == 2.5
    assert len(empty_cache) == 1
    (file,) = tmp_path.rglob("*.kernel")
    whole = file.read_bytes()
    for damaged in (whole[:-9], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
        file.write_bytes(damaged)
        (function,) = llvm.machine_code(text_of(2.5), ("f",))
        assert called(function) == 2.5
    assert len(empty_cache) == 4
    llvm.machine_code(text_of(2.5), ("f",))
    assert len(empty_cache) == 4


def test_functions_of_one_name_are_not_mixed_up(empty_cache: list[str]) -> None:
    functions = [llvm.machine_code(text_of(value), ("f",))[0] for value in (1.0, 2.0, 3.0)]
    assert [called(function) for function in functions] == [1.0, 2.0, 3.0]
    assert len(set(empty_cache)) == 3


def test_code_that_cannot_be_parsed_does_no_harm() -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError, match="parsing error"):
            machine_code("define void @f(ptr %a) { nonsense }", ("f",))
        gc.collect()
    (function,) = machine_code(text_of(7.25), ("f",))
    assert called(function) == 7.25


COUNTED = """
import sys
import optbench
from optbench.compile import cache
stored, store = [], cache.store
cache.store = lambda key, code: (stored.append(key), store(key, code))
run = optbench.sweep("rosenbrock:dim=5", "adam", lr=[0.01, 0.1], seeds=3, steps=40, fused=True)
print(len(stored), [float(x).hex() for x in run.x[0]])
"""


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    environment = {**os.environ, "OPTBENCH_CACHE": str(tmp_path)}
    first, second = (run_python("-c", COUNTED, env=environment) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    count, digits = first.stdout.split(maxsplit=1)
    assert int(count) > 0
    assert second.stdout.split(maxsplit=1) == ["0", digits]


def test_the_compiler_is_imported_when_it_is_needed() -> None:
    code = """
import sys
import optbench
loaded = [["llvmlite" in sys.modules, "numba" in sys.modules]]
for steps in (20, 20_000):
    optbench.sweep("rosenbrock:dim=5", "adam", lr=[0.01, 0.1], seeds=2, steps=steps)
    loaded.append(["llvmlite" in sys.modules, "numba" in sys.modules])
print(loaded)
"""
    done = run_python("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[[False, False], [False, False], [True, False]]"), done.stderr


def test_without_llvmlite_runs_are_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "is_available", lambda: False)
    monkeypatch.setattr(llvm, "machine_code", lambda *_: pytest.fail("compiles"))
    problem = Rosenbrock(dim=3)
    plain, other = (
        minimize(problem.on(get_backend("numpy", fused=fused)), make_recipe("adam").build({"lr": 0.1}), steps=20).x
        for fused in (False, True)
    )
    np.testing.assert_array_equal(other, plain)
