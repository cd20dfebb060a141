"""What a command computes again after its plug-in or a helper file was edited."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import run_python
from tests.durability.kill import LIMIT

RULE = """
import optbench
from helper import scaled

@optbench.rule
def own(xp, x, g, t, lr=0.1):
    return (x - scaled(lr) * g,)
"""
HELPER = """
FACTOR = 2

def scaled(lr):
    return FACTOR * lr
"""


def computed(folder: Path) -> str:
    """How many runs the command announces: to compute, and found."""
    study = ["--problem", "quadratic:dim=3", "--optimizer", "own", "--lr", "0.1", "--seeds", "2", "--steps", "5"]
    command = ["-m", "optbench", "run", "--import", "mine.py", *study, "--jobs", "1", "--no-report"]
    done = run_python(*command, cwd=folder, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[0].rpartition(": ")[2]


def test_only_edits_that_change_the_meaning_compute_again(tmp_path: Path) -> None:
    rule, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    rule.write_text(RULE)
    helper.write_text(HELPER)
    assert computed(tmp_path) == "2 runs to compute"
    # another rule, a docstring and a comment
    rule.write_text(RULE + RULE.partition("\n\n")[2].replace("own", "other"))
    helper.write_text("# a comment\n" + HELPER.replace("scaled(lr):", 'scaled(lr):\n    """A docstring."""'))
    assert computed(tmp_path) == "0 runs to compute, 2 found in the results folder"
    helper.write_text(HELPER.replace("FACTOR = 2", "FACTOR = 3"))  # a global value of a helper
    assert computed(tmp_path) == "2 runs to compute"
    helper.write_text(HELPER)  # as it was
    assert computed(tmp_path) == "0 runs to compute, 2 found in the results folder"
