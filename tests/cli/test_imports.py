"""Rules and problems of users: in a plain file (``--import``), and in an installed package (entry points)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optbench.cli import main
from optbench.results.store import Store
from tests.conftest import run_python

MINE = '''
from dataclasses import dataclass

import numpy as np

from helper import SCALE
from optbench import Optimum, Problem, rule
from optbench.problem import problem


@rule
def sign_momentum(xp, x, g, t, m, lr=1e-3, beta=0.9):
    """Steps of one size along the average gradient."""
    m = beta * m + (1 - beta) * g
    return x - lr * xp.sign(m), m


@problem("bowl")
@dataclass(eq=False)
class Bowl(Problem):
    """f(x) = 1/4 sum_i x_i^4."""

    citation = "an example"
    formula = "f(x) = 1/4 sum_i x_i^4"
    dim: int = 3

    def __post_init__(self):
        self.check_parameters()
        self.strong_convexity = 0.0
        self.place()

    def place(self):
        self.xp = self.backend.xp

    def value_and_grad(self, x, samples=None):
        x = self.points(x)
        return SCALE * self.xp.sum(x**4, axis=-1) / 4, SCALE * x**3

    def solve(self):
        return Optimum(0.0, 0.0, np.zeros(self.dim), "by inspection", 0.0)
'''

STUDY = """
import = ["mine.py"]
seeds = 2
steps = 20

[[compare]]
problems = ["bowl", "quadratic:dim=5"]
optimizers = ["sign_momentum", "adam"]
lr = [0.01, 0.1]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which ``code`` holds the user's file, a neighbour that it imports, and a study."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(MINE)
    (tmp_path / "code" / "helper.py").write_text("SCALE = 1.0\n")
    (tmp_path / "code" / "study.toml").write_text(STUDY)
    return tmp_path


def optbench(
    folder: Path, *arguments: str, site: Path | None = None, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """A command in a folder, where modules of a further one can be imported, once it has ended with a status."""
    path = os.pathsep.join([str(site or folder), os.environ.get("PYTHONPATH", "")])
    done = run_python("-m", "optbench", *arguments, cwd=folder, env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"})
    assert done.returncode == status, done.stdout + done.stderr
    return done


METHODS = ["--problem", "bowl", "--problem", "quadratic:dim=5", "--optimizer", "sign_momentum", "--optimizer", "adam"]
SMALL = ["--seeds", "2", "--steps", "20", "--lr", "0.01,0.1", "--jobs", "2"]


def test_run_in_worker_processes_and_report(folder: Path) -> None:
    done = optbench(folder, "run", "--import", "code/mine.py", *METHODS, *SMALL)
    assert "warning" not in done.stderr
    rows = Store(folder / "results").load().rows
    assert len(rows) == 2 * 2 * 2 * 2
    assert not (rows["status"] == "failed").any()
    assert (folder / "results/report.html").exists()
    again = optbench(folder, "run", "code/study.toml", "--jobs", "2", "--no-report")
    assert "0 runs to compute, 16 found" in again.stderr, "a study imports the file beside it: the same keys"
    (folder / "code/mine.py").write_text(MINE.replace("(1 - beta) * g", "(1 - beta) * 2 * g"))
    changed = optbench(folder, "run", "code/study.toml", "--jobs", "1", "--no-report")
    assert "8 runs to compute, 8 found" in changed.stderr, "only the rule has changed"


def test_other_commands_take_it_too(folder: Path) -> None:
    done = optbench(folder, "list", "--import", "code/mine.py")
    assert f"from {folder / 'code' / 'mine.py'}" in done.stdout
    optbench(folder, "check", "--import", "code/mine.py", "bowl:dim=4")
    race = ["race", "--problem", "bowl", "--optimizer", "sign_momentum", "--rounds", "3", "--steps", "5"]
    optbench(folder, *race, "--import", "code/mine.py")


def test_a_module_can_be_named(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "rules.py").write_text(MINE.replace("from helper import SCALE", "SCALE = 1.0"))
    optbench(folder, "run", "--import", "package.rules", *METHODS, *SMALL, "--no-report")
    assert not (Store(folder / "results").load().rows["status"] == "failed").any()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "absent.py': there is no such file"),
        ("raises.py", "x = 1\ny = z\n", "raises.py': line 2: NameError: name 'z' is not defined"),
        ("syntax.py", "x = 1\n\ny = (\n", "syntax.py': line 3: SyntaxError: '(' was never closed"),
        ("exits.py", "import sys\nsys.exit(3)\n", "exits.py': line 2: SystemExit: 3"),
        ("recursive.py", "def f():\n    f()\nf()\n", "RecursionError"),
        ("absent_module", None, "cannot import 'absent_module': ModuleNotFoundError"),
        (
            "clash.py",
            "from optbench import rule\n@rule\ndef adam(xp, x, g, t, lr=1):\n    return (x,)\n",
            "two optimizers are called 'adam'",
        ),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (here / name).write_text(text)
    assert main(["list", "--import", name]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("optbench: cannot import ")
    assert err.count("\n") == 1


def test_a_file_that_registers_nothing_is_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty.py").write_text("x = 1\n")
    assert main(["list", "--import", "empty.py", "adam"]) == 0
    assert "warning: empty.py registers nothing" in capsys.readouterr().err


def test_the_key_of_a_study_is_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "study.toml").write_text("import = [3]\n[[compare]]\nproblems = ['beale']\noptimizers = ['sgd']\n")
    assert main(["run", "study.toml"]) == 2
    assert "import takes paths of Python files" in capsys.readouterr().err


# ---- packages that are really built and installed, with entry points --------------------------------------------------

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "optbench-example"
version = "1.0"
[project.entry-points."optbench.problems"]
bowl = "optbench_example:Bowl"
quadratic = "optbench_example:Bowl"
broken = "optbench_example:Absent"
whole = "optbench_example"
[project.entry-points."optbench.optimizers"]
sign_descent = "optbench_example:sign_descent"
signs = "optbench_example:sign_descent"
"""

MODULE = MINE.replace("from helper import SCALE", "SCALE = 1.0").replace("sign_momentum", "sign_descent")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example package has been installed."""
    pytest.importorskip("hatchling", reason="the package is built with hatchling, of the extra 'test'")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "optbench_example.py").write_text(MODULE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def test_list_shows_plug_ins_and_warns_of_broken_ones(site: Path) -> None:
    done = optbench(site, "list")
    assert "bowl" in done.stdout
    assert "from optbench-example" in done.stdout
    assert "'broken' of the package 'optbench-example' cannot be used" in done.stderr
    assert "optbench_example is a module; name the object: optbench_example:NAME" in done.stderr
    assert "a second problem 'quadratic'" in done.stderr
    assert "a second optimizer" not in done.stderr  # the module of the problem has registered its rule too
    assert "sign_descent" in done.stdout
    assert "signs" not in done.stdout  # another name of the same rule


def test_check_and_run_take_plug_ins(site: Path, tmp_path: Path) -> None:
    optbench(tmp_path, "check", "bowl:dim=4", site=site)
    arguments = ["--problem", "bowl", "--optimizer", "sign_descent", "--optimizer", "lbfgs", "--lr", "0.01,0.1"]
    done = optbench(tmp_path, "run", *arguments, "--steps", "30", "--seeds", "2", "--jobs", "2", site=site)
    assert "sign_descent" in done.stdout
    assert (tmp_path / "results/report.html").exists()


def test_without_the_package_the_names_are_unknown(tmp_path: Path) -> None:
    optbench(tmp_path, "list", "bowl", status=2)


@pytest.mark.parametrize("name", ["problems", "reports"])
def test_a_module_of_the_users_may_have_the_short_name_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("x = 1\n")
    optbench(tmp_path, "run", "--problem", "beale", "--optimizer", "adam", "--steps", "5")
    assert (tmp_path / "results" / "report.html").exists()
