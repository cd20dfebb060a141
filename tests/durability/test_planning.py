"""Plug-ins that raise or exit while a command prepares its work: one line names the plug-in and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from optbench.cli import main
from optbench.core.registry import OPTIMIZERS, PROBLEMS

PROBLEM = """
import sys
from dataclasses import dataclass

import numpy as np
from optbench import Problem
from optbench.problem import problem

def fault():
    {fault}

@problem("{name}")
@dataclass(eq=False)
class Faulty(Problem):
    dim: int = 3

    def value_and_grad(self, x, samples=None):
        return (x**2).sum(axis=-1), 2 * x

    {hook}
"""
METHOD, PROPERTY = "def {}(self, *arguments): fault()", "@property\n    def {}(self): fault()"
ATTRIBUTE = """def __getattribute__(self, name):
        if name == "{}":
            fault()
        return super().__getattribute__(name)
"""
# what a command asks of a problem before it computes
HOOKS = {
    **dict.fromkeys(
        ("__post_init__", "sampler", "bytes_per_run", "nanoseconds_per_run", "content_to_hash", "__reduce__"), METHOD
    ),
    **dict.fromkeys(("params", "spec", "host", "metric_types"), PROPERTY),
    **dict.fromkeys(("dim", "shares_matrix"), ATTRIBUTE),
}
FAULTS = {"sys.exit(0)": "SystemExit: 0", "raise ValueError('a defect')": "ValueError: a defect"}
COMMANDS = {
    "run": ["run", "--problem", "NAME", "--optimizer", "adam", "--steps", "5", "--seeds", "1", "--lr", "0.1"],
    "race": ["race", "--problem", "NAME", "--optimizer", "adam", "--steps", "5", "--rounds", "3"],
    "check": ["check", "NAME"],
}


@pytest.fixture(autouse=True)
def _forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (PROBLEMS, OPTIMIZERS):
        registry.names()  # what ships with optbench is registered before
        for attribute in ("_objects", "_traits"):
            monkeypatch.setattr(registry, attribute, dict(getattr(registry, attribute)))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_before_the_work_is_one_line(
    command: str, hook: str, fault: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"faulty_{command}_{hook.strip('_')}_{list(FAULTS).index(fault)}"
    (here / f"{name}.py").write_text(PROBLEM.format(fault=fault, name=name, hook=HOOKS[hook].format(hook)))
    arguments = [name if argument == "NAME" else argument for argument in COMMANDS[command]]
    status = main([*arguments, "--import", f"{name}.py", *["--no-report"] * (command == "run")])
    output, messages = capsys.readouterr()
    assert "Traceback" not in output + messages
    if status == 0:  # the command does not need what is wrong
        assert command != "run"
        return
    told = [line for line in messages.splitlines() if FAULTS[fault] in line]
    if status == 2:
        assert len(told) == 1
        assert f"{name}.py, line " in told[0]
    else:  # of runs that failed, or of a finding in the table
        assert told or FAULTS[fault].partition(":")[0] in output


RULE = """
import sys
import optbench

@optbench.rule
def {name}(xp, x, g, t, lr=0.1):
    {fault}
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_race_names_the_rule_that_fails(fault: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"faulty_rule_{list(FAULTS).index(fault)}"
    (here / f"{name}.py").write_text(RULE.format(name=name, fault=fault))
    status = main(["race", "--import", f"{name}.py", "--problem", "quadratic:dim=3", "--optimizer", name])
    assert status == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line == f"optbench: {name} on quadratic: {FAULTS[fault]} ({name}.py, line 7)"


@pytest.mark.parametrize("value", ["'text'", "float('nan')", "-1", "None"])
@pytest.mark.parametrize("hook", ["bytes_per_run", "nanoseconds_per_run"])
def test_estimates_must_be_numbers(hook: str, value: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"wrong_{hook}_{sum(map(ord, value))}"
    method = f"def {hook}(self, *arguments): return {value}"
    (here / f"{name}.py").write_text(PROBLEM.format(fault="pass", name=name, hook=method))
    arguments = [name if argument == "NAME" else argument for argument in COMMANDS["run"]]
    assert main([*arguments, "--import", f"{name}.py"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"optbench: adam on {name}: ")
