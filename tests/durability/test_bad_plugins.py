"""Plug-ins that raise, hang, exit, crash or return nonsense: their runs fail with a reason, all others are computed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

import optbench
from optbench.results.store import Store
from tests.conftest import run_python
from tests.durability.kill import rows_of

LIMIT = 120  # seconds in which a command must end
COMMAND = ["run", "study.toml", "--no-report"]

# healthy methods on a healthy problem, bad ones on it, and a healthy method on bad problems
STUDY = """
import = ["bad.py"]
lr = [0.1]
seeds = 2
steps = 20
[[compare]]
problems = ["quadratic:dim=3"]
optimizers = ["adam", "gradient_descent", OPTIMIZERS]
"""
BAD_PROBLEMS = """
[[compare]]
problems = [PROBLEMS]
optimizers = ["adam"]
"""

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
        return ()
    def step(self, t, at, state):
        {step}
OPTIMIZERS.register("{name}", {name})
"""


class Plugin(NamedTuple):
    """A problem or an optimizer with a defect."""

    name: str
    kind: str  # problem or optimizer
    source: str
    reason: str  # regular expression of the error of its runs


def problem_with(fault: str, place: str, reason: str) -> Plugin:
    """A problem with a fault in one of its methods."""
    name = f"p_{fault}_{place}"
    places = dict.fromkeys(("evaluate", "start", "solve"), "pass") | {place: f"faults.{fault}()"}
    return Plugin(name, "problem", PROBLEM.format(name=name, **places), reason)


def rule_with(fault: str, reason: str) -> Plugin:
    name = f"r_{fault}"
    return Plugin(name, "optimizer", RULE.format(name=name, fault=fault), reason)


def everywhere(fault: str, reason: str) -> list[Plugin]:
    return [*(problem_with(fault, place, reason) for place in ("evaluate", "start", "solve")), rule_with(fault, reason)]


class Outcome:
    """Rows, messages and exit status of a command with bad plug-ins."""

    def __init__(self, folder: Path, plugins: list[Plugin], *options: str) -> None:
        self.plugins = plugins
        (folder / "faults.py").write_text(FAULTS)
        (folder / "bad.py").write_text(HEAD + "".join(plugin.source for plugin in plugins))
        study = STUDY.replace("OPTIMIZERS", self._list("optimizer"))
        if problems := self._list("problem"):
            study += BAD_PROBLEMS.replace("PROBLEMS", problems)
        (folder / "study.toml").write_text(study)
        try:
            done = run_python("-m", "optbench", *COMMAND, *options, cwd=folder, timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the command hangs: {error.stderr!r}") from None
        self.status, self.err = done.returncode, done.stderr
        self.store = folder / "results"
        self.rows = Store(self.store).load().rows if self.store.is_dir() else pd.DataFrame()

    def _list(self, kind: str) -> str:
        return ", ".join(f'"{plugin.name}"' for plugin in self.plugins if plugin.kind == kind)

    def rows_with(self, name: str) -> pd.DataFrame:
        return self.rows[(self.rows["problem_name"] == name) | (self.rows["optimizer"] == name)]

    @property
    def healthy(self) -> pd.DataFrame:
        names = [plugin.name for plugin in self.plugins]
        return self.rows[~(self.rows["problem_name"].isin(names) | self.rows["optimizer"].isin(names))]

    def check(self, *, may_be_late: bool = False) -> None:
        """Runs of bad plug-ins failed with a reason, all others are well, and the command says what to do.

        With `may_be_late`, a slow machine may have exceeded a time limit for other runs, too.
        """
        assert self.status == 1, self.err
        assert "Traceback" not in self.err
        assert len(self.healthy) == 4
        is_late = self.healthy["error"].str.contains("--time-limit", na=False)
        assert may_be_late or not is_late.any(), self.err
        assert set(self.healthy.loc[~is_late, "status"]) <= {"budget"}, self.err
        for plugin in self.plugins:
            rows = self.rows_with(plugin.name)
            assert len(rows) == 2, f"{plugin.name} has {len(rows)} rows: {self.err}"
            assert set(rows["status"]) == {"failed"}, f"{plugin.name}: {set(rows['status'])}"
            assert rows["error"].str.contains(plugin.reason).all(), f"{plugin.name}: {set(rows['error'])}"
        assert "--retry-failed" in self.err  # the remedy


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
}

STEPS = {
    "iterate_shape": "return at.x[:, :2], ()",
    "fewer_runs": "return at.x[:0], ()",
    "row": "return at.x[0], ()",
    "single_iterate": "return at.x.astype('float32'), ()",
    "complex_iterate": "return at.x + 0j, ()",
    "int_iterate": "return at.x.astype(int), ()",
    "object_iterate": "return at.x.astype(object), ()",
    "none": "return None",
    "no_state": "return at.x",
    "none_iterate": "return None, ()",
    "list_iterate": "return at.x.tolist(), ()",
}

# an array that is changed in place is a copy or read-only: then the run is like any other, or fails
ALTERING = {
    "values": "at.f[...] = 0; return at.x - 0.1 * at.g, ()",
    "gradients": "at.g[...] = 0; return at.x - 0.1 * at.g, ()",
}


def answering(name: str, code: str) -> Plugin:
    name = f"p_{name}"
    source = PROBLEM.format(name=name, evaluate=code, start="pass", solve="pass")
    return Plugin(name, "problem", source, f"{name}|value_and_grad")  # the culprit


def stepping(name: str, code: str) -> Plugin:
    name = f"o_{name}"
    return Plugin(name, "optimizer", CLASS.format(name=name, step=code), name)


RAISING = [
    *everywhere("raising", "a defect"),
    *everywhere("unpicklable", "a defect"),
    *everywhere("unprintable", "Unprintable"),
    *everywhere("of_no_family", "a defect"),
    *everywhere("sys_exit", "exit|SystemExit"),
    *(rule_with("generator_exit", "a defect"), rule_with("stopping", "a defect"), rule_with("sys_exit_0", "exit|Exit")),
    problem_with("recursion", "evaluate", "RecursionError"),
]
WRONG = [*(answering(*item) for item in ANSWERS.items()), *(stepping(*item) for item in STEPS.items())]
DEADLY = {
    "1": [problem_with("segfault", "evaluate", "process"), problem_with("os_exit", "solve", "process")],
    "2": [problem_with("os_exit_0", "start", "process"), rule_with("abort", "process")],
}  # by the number of jobs


def test_plugins_that_raise_or_answer_in_the_wrong_way(tmp_path: Path) -> None:
    Outcome(tmp_path, [*RAISING, *WRONG], "--jobs", "1").check()


@pytest.mark.parametrize("jobs", DEADLY)
def test_plugins_that_end_their_process(tmp_path: Path, jobs: str) -> None:
    outcome = Outcome(tmp_path, DEADLY[jobs], "--jobs", jobs)
    outcome.check()
    study = {"problems": ["quadratic:dim=3"], "optimizers": ["adam", "gradient_descent"], "lr": [0.1]}
    optbench.run({"compare": [study]}, seeds=2, steps=20, store=tmp_path / "alone")
    expected, actual = rows_of(tmp_path / "alone"), rows_of(outcome.store)
    assert {key: actual.get(key) for key in expected} == expected  # healthy runs are as without bad plug-ins


def test_plugins_that_hang_or_take_all_memory(tmp_path: Path) -> None:
    plugins = [rule_with("deaf", "--time-limit"), rule_with("hog", "--memory-limit|--time-limit")]
    outcome = Outcome(tmp_path, plugins, "--jobs", "2", "--time-limit", "3", "--memory-limit", "1")
    outcome.check(may_be_late=True)


def test_an_optimizer_cannot_alter_what_is_recorded(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [stepping(*item) for item in ALTERING.items()], "--jobs", "1")
    (plain,) = outcome.healthy.query("optimizer == 'gradient_descent' and seed == 0")["f"]
    for plugin in outcome.plugins:
        rows = outcome.rows_with(plugin.name).query("seed == 0")
        assert len(rows) == 1
        if set(rows["status"]) != {"failed"}:
            assert rows["f"].iloc[0][0] == plain[0]
            assert rows["gradient_norm"].iloc[0][0] > 0
