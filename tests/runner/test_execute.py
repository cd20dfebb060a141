"""Limits of execution in worker processes."""

from __future__ import annotations

from tests.conftest import run_python

INTERPRETER = """
import optbench

def my_rule(xp, x, g, t, lr=0.1):
    return (x - lr * g,)

if __name__ == "__main__":
    optbench.compare(["quadratic:dim=3", "beale"], [my_rule, "sgd"], lr=0.01, seeds=2, steps=5, jobs=2)
"""


def test_rules_defined_in_an_interpreter_cannot_be_sent_to_processes() -> None:
    done = run_python("-c", INTERPRETER)
    assert done.returncode == 1
    assert "InputError: worker processes cannot import what a notebook or an interpreter defines" in done.stderr
    assert "my_rule" in done.stderr
    assert "compute with jobs=1" in done.stderr
