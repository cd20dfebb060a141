"""Plug-ins: a package that is really built and installed adds a problem and an optimizer by entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_imports import MINE
from tests.conftest import run_python

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


def optbench(site: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    return run_python("-m", "optbench", *arguments, env=environment, cwd=cwd)


def test_list_shows_plug_ins_and_warns_of_broken_ones(site: Path) -> None:
    done = optbench(site, "list")
    assert done.returncode == 0, done.stderr
    assert "bowl" in done.stdout
    assert "(from optbench-example)" in done.stdout
    assert "'broken' of the package 'optbench-example' cannot be used" in done.stderr
    assert "optbench_example is a module; name the object: optbench_example:NAME" in done.stderr
    assert "a second problem 'quadratic'" in done.stderr
    assert "a second optimizer" not in done.stderr  # the module of the problem has registered its rule too
    assert "sign_descent" in done.stdout
    assert "signs" not in done.stdout  # another name of the same rule


def test_check_and_run_take_plug_ins(site: Path, tmp_path: Path) -> None:
    done = optbench(site, "check", "bowl:dim=4")
    assert done.returncode == 0, done.stdout + done.stderr
    arguments = ["--problem", "bowl", "--optimizer", "sign_descent", "--optimizer", "lbfgs", "--lr", "0.01,0.1"]
    done = optbench(site, "run", *arguments, "--steps", "30", "--seeds", "2", "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sign_descent" in done.stdout
    assert (tmp_path / "results/report.html").exists()


def test_without_the_package_the_names_are_unknown(site: Path) -> None:
    done = optbench(Path("nowhere"), "list", "bowl")
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["problems", "reports"])
def test_a_module_of_the_users_may_have_the_short_name_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("x = 1\n")
    done = optbench(tmp_path, "run", "--problem", "beale", "--optimizer", "adam", "--steps", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "report.html").exists()
