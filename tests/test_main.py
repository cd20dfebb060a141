"""The command in a process of its own: signals, and standard streams that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and streams of POSIX")

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

INTERRUPTED = """
import os, multiprocessing
from dataclasses import dataclass
import optbench
from optbench.problem import problem

@problem("interrupted")
@dataclass(eq=False)
class Interrupted(optbench.Problem):
    dim: int = 3

    def __post_init__(self):
        try:
            os.kill(os.getpid(), {number})
        except Exception:
            pass

{during_import}
"""


@pytest.mark.parametrize("during_import", [False, True], ids=["command", "import"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_a_signal_ends_a_command_with_one_line(tmp_path: Path, number: int, during_import: bool) -> None:
    text = INTERRUPTED.format(number=int(number), during_import="Interrupted()" if during_import else "")
    (tmp_path / "mine.py").write_text(text)
    arguments = ["check", "--import", str(tmp_path / "mine.py"), "interrupted"]
    done = run_python("-m", "optbench", *arguments, cwd=tmp_path)
    assert done.returncode == 128 + number
    assert done.stderr.startswith("optbench: interrupted")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_error_that_a_library_makes_of_an_interruption_is_not_shown(tmp_path: Path) -> None:
    text = INTERRUPTED.format(number=int(signal.SIGINT), during_import="")
    (tmp_path / "mine.py").write_text(
        text.replace("except Exception:\n            pass", "except BaseException:\n            1 / 0")
    )
    done = run_python("-m", "optbench", "check", "--import", "mine.py", "interrupted", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "optbench: interrupted; nothing was computed\n")


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (">&-", 2, "optbench: standard output is closed; send it to a file or to /dev/null\n"),
        (">/dev/full", 2, "optbench: [Errno 28] No space left on device\n"),
        (">/dev/null 2>&-", 0, ""),
        ("nope 2>&-", 2, ""),
        ("nope 2>/dev/full", 2, ""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("--help >/dev/full", 2, "optbench: standard output cannot be written: No space left on device\n"),
    ],
)
def test_standard_streams_that_cannot_be_used(tmp_path: Path, redirection: str, status: int, message: str) -> None:
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    command = f"'{sys.executable}' -m optbench list {redirection}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stderr) == (status, message)
