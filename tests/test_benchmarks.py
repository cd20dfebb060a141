"""The asv suite can be imported, and each of its benchmarks runs."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import convergence, oracles, start, steps, sweeps  # noqa: E402


def test_asv_check(tmp_path: Path) -> None:
    pytest.importorskip("asv", reason="the extra 'test' is not installed")
    # a copy, so that asv leaves nothing in the checkout
    for name in ("asv.conf.json", "benchmarks"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path)
    command = [sys.executable, "-m", "asv", "check", "-E", "existing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


def cases(suite: type, method: str) -> list[Any]:
    return [
        pytest.param(suite, method, values, id=f"{suite.__name__}-{values}")
        for values in itertools.product(*suite.params)
    ]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("suite", "method", "values"),
    [
        *cases(steps.Step, "time_step"),
        *cases(oracles.Oracle, "time_value_and_grad"),
        *cases(oracles.MiniBatch, "time_value_and_grad"),
        *cases(convergence.Calls, "track_calls_to_target"),
    ],
)
def test_benchmarks_run(suite: type, method: str, values: tuple[Any, ...]) -> None:
    made = suite()
    if hasattr(made, "setup"):
        try:
            made.setup(*values)
        except NotImplementedError as reason:
            pytest.skip(str(reason))
    result = getattr(made, method)(*values)
    if method.startswith("track"):
        assert 1 <= result < 1000


def test_sweeps_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "RATES", sweeps.RATES[:2])
    made = sweeps.Sweep()
    made.setup("quadratic", "together")
    made.time_sweep("quadratic", "together")


def test_import_statements_are_code() -> None:
    for method in ("timeraw_import_optbench", "timeraw_import_problems"):
        compile(getattr(start.Import(), method)(), method, "exec")
