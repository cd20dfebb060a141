"""The asv suite can be imported, and each of its benchmarks runs."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_python

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import convergence, oracles, report, start, steps, sweeps  # noqa: E402


def test_asv_check(tmp_path: Path) -> None:
    pytest.importorskip("asv", reason="the extra 'test' is not installed")
    # a copy, because asv writes files
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    shutil.copy(ROOT / "asv.conf.json", tmp_path)
    done = run_python("-m", "asv", "check", "-E", "existing", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


def cases(suite: Any, method: str) -> list[Any]:
    return [
        pytest.param(suite, method, values, id=f"{suite.__name__}-{values}")
        for values in itertools.product(*suite.params)
    ]


@pytest.mark.parametrize(
    ("suite", "method", "values"),
    [
        *cases(steps.Step, "time_step"),
        *cases(oracles.Oracle, "time_value_and_grad"),
        *cases(oracles.MiniBatch, "time_value_and_grad"),
        *cases(convergence.Calls, "track_calls_to_target"),
        *cases(sweeps.Memory, "peakmem_sweep"),
    ],
)
def test_benchmarks_run(suite: type, method: str, values: tuple[Any, ...]) -> None:
    benchmark = suite()
    if hasattr(benchmark, "setup"):
        try:
            benchmark.setup(*values)
        except NotImplementedError as reason:
            pytest.skip(str(reason))
    result = getattr(benchmark, method)(*values)
    if method.startswith("track"):
        assert 1 <= result < 1000


def test_sweeps_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "RATES", sweeps.RATES[:2])
    benchmark = sweeps.Sweep()
    benchmark.setup("quadratic", "together")
    benchmark.time_sweep("quadratic", "together")


def test_the_report_benchmark_builds_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    benchmark = report.Report()
    benchmark.setup_cache()
    benchmark.peakmem_build()  # calls time_build
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "425 runs" in page
    assert "Race of" in page


SUITE = """
class Case:
    params = (["numpy", "cupy"],)

    def setup(self, backend):
        if backend == "cupy":
            raise NotImplementedError("there is none")

    def track_case(self, backend):
        return {figure}


def time_another():
    pass
"""


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        pytest.param("1.0", "", id="well"),
        pytest.param("1 / 0", "asv run ended with 2", id="raises"),
        pytest.param("None", "suite.Case.track_case('numpy') has no figure: None", id="none"),
        pytest.param("float('nan')", "suite.Case.track_case('numpy') has no figure: nan", id="nan"),
    ],
)
def test_a_failing_benchmark_fails_the_test(tmp_path: Path, figure: str, message: str) -> None:
    pytest.importorskip("asv", reason="the extra 'test' is not installed")
    script = ROOT / ".ci" / "run_benchmarks.py"
    if not script.exists() or shutil.which("git") is None:
        pytest.skip("no checkout, or no git")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "suite.py").write_text(SUITE.replace("{figure}", figure))
    shutil.copy(ROOT / "asv.conf.json", tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    done = run_python(str(script), str(tmp_path))
    assert done.returncode == (1 if message else 0), done.stdout + done.stderr
    assert message in done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"asv.conf.json", "benchmarks", ".git"}


def test_import_statements_are_code() -> None:
    for method in ("timeraw_import_optbench", "timeraw_import_problems"):
        compile(getattr(start.Import(), method)(), method, "exec")
