"""Random arguments of commands: every command line ends with a status and short messages, never with a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optbench.cli import main, make_parser

SECONDS = 20  # in which every command must end
LONGEST = 1500  # characters of all messages
STATUSES = {0, 1, 2}

NUMBERS = [
    "0",
    "1",
    "2",
    "-1",
    "3.5",
    "1e300",
    "-1e300",
    "nan",
    "inf",
    "1e-400",
    "9" * 400,
    "0x10",
    "1_0",
    "٣",
    "",
    " ",
]
TEXTS = [
    "",
    " ",
    "-",
    "--",
    "\0",
    "\n",
    "é",
    "\udcff",
    "%s",
    "{}",
    "x" * 3000,
    "'",
    '"',
    "[",
    "~nobody/x",
    "$HOME",
    "\x1b[31m",
]
PROBLEMS = [
    *("quadratic", "quadratic:dim=3", "rosenbrock", "beale", "logistic:data=iris", "quadratic:dim=-1"),
    *("quadratic:dim=1e9", "quadratic:dim=2,dim=3", "quadratic:", ":", "quadratic:dim", "quadratic:dim=", "quadratc"),
    *("logistic:data=absent.csv", "logistic:data=.", "logistic:data=garbage.csv", "logistic:data=/dev/null"),
]
OPTIMIZERS = [
    *("adam", "momentum:beta=0.5/0.9", "lbfgs", "adam:lr=0", "adam:lr=nan", "adam:beta1=2", "adam:", "adm", "adam:x=1"),
    *("gradient_descent:lr=1e308", "momentum:beta=0.5/0.5", "random_search", "newton"),
]
SCHEDULES = ["constant", "cosine", "cosine:warmup=0.5", "cosine:warmup=2", "linear:", "absent", "cosine:warmup=nan"]
RATES = ["0.1", "0.1,0.2", "1e-3:1:3", "1:1e-3:3", "0", "-1", "nan", "1e-3:1:1e9", "::", "a:b:c", "0.1,", ",", "inf"]
COUNTS = ["1", "2", "3,", "0,1", "0", "-1", "1.5", "1e300", "1,1", "a", "", "2,"]
PATHS = ["results", "store", "garbage.csv", "study.toml", "bad.toml", "absent", ".", "/dev/null", "/proc/x", "pipe"]
FILES = ["mine.py", "broken.py", "absent.py", "garbage.csv", "os", "no.such.module", "study.toml", "raising.py"]

# values by the name of an option; of others: any text
VALUES = {
    "--problem": PROBLEMS,
    "--optimizer": OPTIMIZERS,
    "--schedule": SCHEDULES,
    "--lr": RATES,
    "--seeds": COUNTS,
    "--batch-size": COUNTS,
    "--steps": ["1", "3", "0", "-1", "1.5", "a"],
    "--calls": ["1", "3", "0", "1e300", "nan", "a"],
    "--rounds": ["3", "0", "-1", "a", "1e300"],
    "--jobs": ["1", "0", "-1", "a", "1.5", "1e9"],
    "--import": FILES,
    "--store": PATHS,
    "-o": PATHS,
    "--output": PATHS,
    "--dask": ["", "absent", "tcp://", "tcp://127.0.0.1:1", "http://x", "tcp://127.0.0.1:x"],
    "--device": ["cpu", "gpu", "tpu", ""],
    "--precision": ["float64", "float32", "float16", ""],
}
QUICK = {"run": ["--steps 3", "--seeds 1", "--jobs 1", "--no-report"], "race": ["--steps 3", "--rounds 3"]}
BEGINNINGS = {
    "run": ["--problem", "quadratic:dim=3", "--optimizer", "adam"],
    "race": ["--problem", "quadratic:dim=3", "--optimizer", "adam", "--optimizer", "momentum"],
}


def commands() -> dict[str, Any]:
    """Every command with its options, as the parser declares them."""
    (subparsers,) = [action for action in make_parser()._actions if hasattr(action, "choices") and action.choices]
    return dict(subparsers.choices)  # type: ignore[arg-type]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command, often with a request that is possible, and random options and words."""
    known = commands()
    name = draw(st.sampled_from(sorted(known)))
    options = {text: action for action in known[name]._actions for text in action.option_strings}
    words: list[str] = [name]
    if name in BEGINNINGS and draw(st.booleans()):
        words += BEGINNINGS[name]
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from([*options, None, None]))
        if option is None:
            words.append(draw(st.sampled_from([*PROBLEMS, *OPTIMIZERS, *PATHS, *TEXTS, *NUMBERS, "check", "repair"])))
        else:
            takes_value = options[option].nargs != 0
            usual = VALUES.get(option, [*NUMBERS, *TEXTS, *PATHS])
            value = st.one_of(st.sampled_from(usual), st.sampled_from(usual), st.sampled_from([*NUMBERS, *TEXTS]))
            words += [option, draw(value)] if takes_value else [option]
    for quick in QUICK.get(name, []):
        words += [] if quick.split()[0] in words else quick.split()
    return words


@contextlib.contextmanager
def time_limit(seconds: int, what: object) -> Iterator[None]:
    """Fail if the block takes longer."""

    def fail(*_: Any) -> None:
        raise AssertionError(f"more than {seconds} seconds: {what}")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a store, studies, plug-ins and garbage."""
    path = Path(tempfile.mkdtemp())
    (path / "garbage.csv").write_bytes(b"a,b\n1,\xff\0\n" * 3)
    (path / "study.toml").write_text(
        "[[compare]]\nproblems=['quadratic:dim=3']\noptimizers=['momentum']\nlr=[0.1]\nseeds=1\nsteps=3\n"
    )
    (path / "bad.toml").write_text("[[compare]\n")
    (path / "mine.py").write_text(
        "import optbench\n@optbench.rule\ndef fuzzed(xp, x, g, t, lr=0.1):\n    return (x - lr * g,)\n"
    )
    (path / "broken.py").write_text("def f(:\n")
    (path / "raising.py").write_text("raise RuntimeError('a defect')\n")
    os.mkfifo(path / "pipe")
    with contextlib.chdir(path), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["run", "study.toml", "-o", "store", "--jobs", "1", "--no-report"]) == 0
    yield path
    shutil.rmtree(path)


def outcome(words: list[str]) -> tuple[int, str]:
    """Exit status and messages of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), time_limit(SECONDS, words):
        try:
            status = main(words)
        except SystemExit as stop:  # of argparse
            status = int(stop.code or 0)
    return status, err.getvalue()


@settings(
    max_examples=int(os.environ.get("OPTBENCH_FUZZ_EXAMPLES", "20")),
    deadline=None,
    derandomize="OPTBENCH_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(words=command_lines())
def test_commands_end_with_a_status_and_a_short_message(folder: Path, words: list[str]) -> None:
    with contextlib.chdir(folder):
        status, err = outcome(words)
    assert status in STATUSES, (words, status, err)
    assert "Traceback" not in err, (words, err)
    assert len(err) < LONGEST, (words, err)
    if status == 2:
        assert err.startswith("optbench: "), (words, err)
