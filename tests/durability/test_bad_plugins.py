"""Plug-ins that raise, hang, exit, crash or return nonsense: their runs fail with a reason, all others are computed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from optbench.results.store import Store
from tests.conftest import run_python
from tests.durability.kill import rows_of

LIMIT = 60  # seconds in which a command must end
HEALTHY = ["--optimizer", "adam", "--optimizer", "gradient_descent", "--problem", "quadratic:dim=3"]
COMMAND = ["run", "--import", "bad.py", *HEALTHY, "--lr", "0.1", "--seeds", "2", "--steps", "20", "--no-report"]

# what a plug-in does in the middle of its work
FAULTS = """
import ctypes, os, signal, sys, time

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__("a defect")
        self.function = lambda: None

class OfNoFamily(BaseException):
    pass

def raising(): raise ValueError("a defect")
def unprintable(): raise Unprintable
def unpicklable(): raise Unpicklable(1, 2)
def of_no_family(): raise OfNoFamily("a defect")
def interrupting(): raise KeyboardInterrupt
def generator_exit(): raise GeneratorExit("a defect")
def stopping(): raise StopIteration("a defect")
def sys_exit(): sys.exit(3)
def sys_exit_0(): sys.exit()
def os_exit(): os._exit(3)
def os_exit_0(): os._exit(0)
def segfault(): ctypes.string_at(0)
def abort(): os.abort()
def recursion(): recursion()
def hang(): time.sleep(3600)
def deaf():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)
def hog():
    arrays = []
    while True:
        arrays.append(bytearray(64 << 20))
"""

PROBLEM = """
@problem("{name}")
@dataclass(eq=False)
class {name}(Problem):
    dim: int = 3
    def __post_init__(self):
        self.place()
    def place(self):
        self.xp = self.backend.xp
    def value_and_grad(self, x, samples=None):
        {evaluate}
        return self.xp.sum(x**2, axis=-1) / 2, x
    def draw_start(self, rng):
        {start}
        return rng.standard_normal(self.dim)
    def solve(self):
        {solve}
        return Optimum(f=0.0, lower=0.0, x=np.zeros(self.dim), method="by inspection", gradient_norm=0.0)
"""

HEAD = """
from dataclasses import dataclass
import numpy as np
import optbench
import faults
from optbench import Optimum, Problem
from optbench.core.registry import OPTIMIZERS
from optbench.problem import problem
"""

RULE = """
@optbench.rule
def {name}(xp, x, g, t, lr=0.1):
    if t == 3:
        faults.{fault}()
    return (x - lr * g,)
"""

CLASS = """
class {name}(optbench.Optimizer):
    def init(self, x, backend):
        {init}
        return ()
    def step(self, t, at, state):
        {step}
OPTIMIZERS.register("{name}", {name})
"""


def problem_with(fault: str, place: str) -> tuple[str, str]:
    """Name and source of a problem with a fault in one of its methods."""
    name = f"p_{fault}_{place}"
    return name, PROBLEM.format(name=name, **{p: "pass" for p in ("evaluate", "start", "solve")} | {place: f"faults.{fault}()"})


def rule_with(fault: str) -> tuple[str, str]:
    return f"r_{fault}", RULE.format(name=f"r_{fault}", fault=fault)


class Outcome:
    """Rows, messages and exit status of a command with bad plug-ins."""

    def __init__(self, folder: Path, sources: list[tuple[str, str]], *options: str) -> None:
        (folder / "faults.py").write_text(FAULTS)
        (folder / "bad.py").write_text(HEAD + "".join(source for _, source in sources))
        self.names = [name for name, _ in sources]
        kinds = {name: "optimizer" if "(xp" in source or "Optimizer)" in source else "problem" for name, source in sources}
        bad = [part for name, kind in kinds.items() for part in (f"--{kind}", name)]
        begun = time.monotonic()
        try:
            done = run_python("-m", "optbench", *COMMAND, *bad, *options, cwd=folder, timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the command hangs: {error.stderr!r}") from None
        self.seconds = time.monotonic() - begun
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.rows = Store(folder / "results").load().rows if (folder / "results").is_dir() else pd.DataFrame()
        self.store = folder / "results"

    def rows_with(self, name: str) -> pd.DataFrame:
        return self.rows[(self.rows["problem_name"] == name) | (self.rows["optimizer"] == name)]

    @property
    def healthy(self) -> pd.DataFrame:
        return self.rows[~(self.rows["problem_name"].isin(self.names) | self.rows["optimizer"].isin(self.names))]

    def check(self, reasons: dict[str, str] | str = "") -> None:
        """Bad plug-ins have failed rows with a reason; everything else is well, and the command says so."""
        assert self.status == 1, self.err
        assert "Traceback" not in self.err
        assert set(self.healthy["status"]) == {"budget"}, self.err
        for name in self.names:
            rows = self.rows_with(name)
            reason = reasons if isinstance(reasons, str) else reasons[name]
            assert len(rows) > 0, f"{name} has no rows: {self.err}"
            assert set(rows["status"]) == {"failed"}, f"{name}: {set(rows['status'])}"
            assert rows["error"].str.contains(reason).all(), f"{name}: {set(rows['error'])}"
        assert "failed" in self.err
        assert "--retry-failed" in self.err  # the remedy


def everywhere(*names: str) -> list[tuple[str, str]]:
    return [problem_with(name, place) for name in names for place in ("evaluate", "start", "solve")] + [
        rule_with(name) for name in names
    ]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_plugins_that_raise(tmp_path: Path, jobs: str) -> None:
    names = "raising", "unprintable", "unpicklable", "of_no_family", "generator_exit", "stopping", "recursion"
    outcome = Outcome(tmp_path, everywhere(*names), "--jobs", jobs)
    outcome.check({name: _reason(name) for name in outcome.names})


def _reason(name: str) -> str:
    fault = name[2:].removesuffix("_evaluate").removesuffix("_start").removesuffix("_solve")
    return {"unprintable": "Unprintable", "recursion": "RecursionError"}.get(fault, "a defect")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_plugins_that_exit(tmp_path: Path, jobs: str) -> None:
    Outcome(tmp_path, everywhere("sys_exit", "sys_exit_0"), "--jobs", jobs).check("SystemExit|exit")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_plugins_that_end_their_process(tmp_path: Path, jobs: str) -> None:
    plugins = [problem_with("segfault", "evaluate"), problem_with("os_exit", "solve"), rule_with("abort")]
    Outcome(tmp_path, plugins, "--jobs", jobs).check("process")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_plugins_that_hang(tmp_path: Path, jobs: str) -> None:
    plugins = [problem_with("hang", "solve"), rule_with("deaf")]
    outcome = Outcome(tmp_path, plugins, "--jobs", jobs, "--time-limit", "1")
    outcome.check("time limit|--time-limit|seconds")
    assert "--time-limit" in outcome.err


def test_plugins_that_take_all_memory(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [problem_with("hog", "evaluate"), rule_with("hog")], "--jobs", "1", "--memory-limit", "1")
    outcome.check("[mM]emory")


def test_healthy_runs_are_those_of_a_study_without_bad_plugins(tmp_path: Path) -> None:
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    alone = Outcome(tmp_path / "good", [])
    assert alone.status == 0
    together = Outcome(tmp_path / "bad", [problem_with("segfault", "evaluate"), problem_with("raising", "solve")])
    expected, actual = rows_of(alone.store), rows_of(together.store)
    assert {key: actual[key] for key in expected} == expected


# ---- answers of the wrong kind ---------------------------------------------------------------------------------------

ANSWERS = {
    "value_shape": "return self.xp.zeros((7,)), x",
    "value_with_axis": "return self.xp.sum(x**2, axis=-1, keepdims=True), x",
    "scalar_value": "return 1.0, x",
    "gradient_shape": "return self.xp.sum(x**2, axis=-1), x[..., :2]",
    "transposed_gradient": "return self.xp.sum(x**2, axis=-1), x.T",
    "int_gradient": "return self.xp.sum(x**2, axis=-1), x.astype(int)",
    "complex_gradient": "return self.xp.sum(x**2, axis=-1), x + 0j",
    "complex_value": "return self.xp.sum(x**2, axis=-1) + 0j, x",
    "single_gradient": "return self.xp.sum(x**2, axis=-1), x.astype('float32')",
    "single_value": "return self.xp.sum(x**2, axis=-1).astype('float32'), x",
    "bool_value": "return self.xp.sum(x**2, axis=-1) > 0, x",
    "object_gradient": "return self.xp.sum(x**2, axis=-1), x.astype(object)",
    "text_gradient": "return self.xp.sum(x**2, axis=-1), x.astype(str)",
    "none": "return None",
    "no_gradient": "return self.xp.sum(x**2, axis=-1), None",
    "value_only": "return self.xp.sum(x**2, axis=-1)",
    "three": "return self.xp.sum(x**2, axis=-1), x, x",
    "list_gradient": "return self.xp.sum(x**2, axis=-1), x.tolist()",
    "masked_value": "return np.ma.masked_all(x.shape[:-1]), x",
    "changes_its_argument": "x *= 0; return self.xp.sum(x**2, axis=-1), x",
}

STEPS = {
    "iterate_shape": "return at.x[:, :2], ()",
    "fewer_runs": "return at.x[:1], ()",
    "row": "return at.x[0], ()",
    "single_iterate": "return at.x.astype('float32'), ()",
    "complex_iterate": "return at.x + 0j, ()",
    "int_iterate": "return at.x.astype(int), ()",
    "object_iterate": "return at.x.astype(object), ()",
    "none": "return None",
    "no_state": "return at.x",
    "none_iterate": "return None, ()",
    "list_iterate": "return at.x.tolist(), ()",
    "alters_values": "at.f[...] = 0; return at.x - 0.1 * at.g, ()",
    "alters_gradients": "at.g[...] = 0; return at.x - 0.1 * at.g, ()",
}


def answering(name: str, code: str) -> tuple[str, str]:
    name = f"p_{name}"
    return name, PROBLEM.format(name=name, evaluate=code, start="pass", solve="pass")


def stepping(name: str, code: str) -> tuple[str, str]:
    name = f"o_{name}"
    return name, CLASS.format(name=name, init="pass", step=code)


def test_answers_of_the_wrong_kind(tmp_path: Path) -> None:
    plugins = [answering(*item) for item in ANSWERS.items()]
    # an argument that is changed in place is read-only or a copy: then the run is like any other, or fails
    lenient = {"p_changes_its_argument", "p_list_gradient"}
    outcome = Outcome(tmp_path, plugins, "--jobs", "1")
    assert outcome.status == 1
    statuses = {name: {*outcome.rows_with(name)["status"]} for name in outcome.names if name not in lenient}
    assert statuses == {name: {"failed"} for name in statuses}
    errors = {name: {*outcome.rows_with(name)["error"]} for name in statuses}
    for name, texts in errors.items():
        assert all(name in text or "value_and_grad" in text for text in texts), f"{name}: {texts}"  # the culprit
    assert set(outcome.healthy["status"]) == {"budget"}


def test_steps_of_the_wrong_kind(tmp_path: Path) -> None:
    plugins = [stepping(*item) for item in STEPS.items()]
    lenient = {"o_alters_values", "o_alters_gradients", "o_list_iterate"}
    outcome = Outcome(tmp_path, plugins, "--jobs", "1")
    assert outcome.status == 1
    statuses = {name: {*outcome.rows_with(name)["status"]} for name in outcome.names if name not in lenient}
    assert statuses == {name: {"failed"} for name in statuses}
    errors = {name: {*outcome.rows_with(name)["error"]} for name in statuses}
    for name, texts in errors.items():
        assert all(name in text for text in texts), f"{name}: {texts}"  # not the problem
    assert set(outcome.healthy["status"]) == {"budget"}


def test_an_optimizer_cannot_alter_what_is_recorded(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [stepping(name, STEPS[name]) for name in ("alters_values", "alters_gradients")])
    rows = outcome.rows_with("o_alters_values")
    plain = outcome.healthy.query("optimizer == 'gradient_descent'")
    for (_, row), (_, other) in zip(rows.iterrows(), plain.iterrows(), strict=True):
        if row["status"] != "failed":
            assert tuple(row["f"]) == tuple(other["f"])
