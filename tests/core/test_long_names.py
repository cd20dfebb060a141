"""Both names of `problems` and `reports` give the same modules; the long ones work next to a user's own packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run_python

ROOT = Path(__file__).resolve().parents[2]


def printed_lines(folder: Path, *arguments: str) -> list[str]:
    """Lines that a new interpreter prints in a folder."""
    completed = run_python(*arguments, cwd=folder)
    assert completed.returncode == 0, completed.stderr
    assert not completed.stderr
    return completed.stdout.splitlines()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with packages `problems` and `reports`, whose modules have the same names as ours."""
    folder = tmp_path_factory.mktemp("foreign")
    for package, module in (("problems", "logistic"), ("reports", "tables")):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("class Logistic:\n    pass\n")
        (folder / package / f"{module}.py").write_text("owner = 'user'\n")
    return folder


IMPORTS = {
    "long first": "import optbench.problems, optbench.reports, problems, reports",
    "short first": "import problems, reports, optbench.problems, optbench.reports",
    "submodules first": "import problems.mlp, reports.tables, optbench.problems.learning, optbench.reports.tables",
    "star": "from problems import *; import problems, reports, optbench.problems, optbench.reports",
}


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_both_names_give_the_same_modules(tmp_path: Path, imports: str) -> None:
    code = f"""
{imports}
import sys
from problems import logistic, Logistic
from problems.quadratic import Quadratic
import optbench.problems.logistic as long_logistic
import reports.tables, optbench.reports.tables
assert problems is optbench.problems and reports is optbench.reports
assert logistic is long_logistic is sys.modules["problems.logistic"] is problems.logistic
assert reports.tables is optbench.reports.tables
assert Logistic is long_logistic.Logistic is optbench.problems.Logistic
assert Quadratic is optbench.problems.Quadratic
print(Logistic.__module__, problems.__name__, logistic.__name__, reports.tables.__name__)
"""
    expected = "optbench.problems.logistic optbench.problems optbench.problems.logistic optbench.reports.tables"
    assert printed_lines(tmp_path, "-c", code) == [expected]


@pytest.mark.parametrize("package", ["problems", "reports"])
def test_tools_find_the_files_of_a_package_under_its_long_name(tmp_path: Path, package: str) -> None:
    code = f"""
import importlib, importlib.resources, importlib.util, inspect, pathlib, pkgutil
import optbench.{package} as package
assert inspect.getsource(package) == pathlib.Path(package.__file__).read_text(encoding="utf-8")
assert importlib.reload(package) is package
print(importlib.resources.files(package))
print(importlib.util.find_spec("optbench.{package}").origin)
print(*sorted(module.name for module in pkgutil.iter_modules(package.__path__)))
"""
    folder = ROOT / package
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert printed_lines(tmp_path, "-c", code) == [
        str(folder),
        str(folder / "__init__.py"),
        " ".join(sorted(modules - {"__init__"})),
    ]


def test_a_missing_module_has_no_short_name(tmp_path: Path) -> None:
    code = """
import importlib.util, problems
assert importlib.util.find_spec("problems.absent") is None
try:
    import problems.absent
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert printed_lines(tmp_path, "-c", code) == ["problems.absent"]


# a script of a user: a sweep in worker processes, and a problem that is pickled and sent to a new process
SCRIPT = """
import multiprocessing
import pickle
import sys

import optbench
import optbench.problems
import optbench.reports
import problems.logistic
import reports.tables

assert problems.logistic.owner == reports.tables.owner == "user"


def describe(problem):
    return type(problem) is optbench.problems.Logistic, type(problem).__module__, problem.dim


if __name__ == "__main__":
    problem = optbench.problems.Logistic(data="iris")
    assert b"optbench.problems.logistic" in pickle.dumps(problem)
    assert type(pickle.loads(pickle.dumps(problem))) is type(problem)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.apply(describe, (problem,)))
    runs = optbench.sweep(problem, "adam", lr=[0.01, 0.1], seeds=2, steps=20, jobs=2)
    print(len(runs.table), *sorted(set(runs.table.status)))
    optbench.reports.build_page(runs, sys.argv[1])
"""


def test_a_script_runs_next_to_packages_of_the_same_names(foreign: Path, tmp_path: Path) -> None:
    (foreign / "script.py").write_text(SCRIPT)
    page = tmp_path / "page.html"
    printed = printed_lines(foreign, "script.py", str(page))
    assert printed == ["True optbench.problems.logistic 15", "4 budget"]
    assert "iris" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("order", ["user first", "optbench first"])
def test_short_names_belong_to_the_user(foreign: Path, order: str) -> None:
    imports = ["import problems, reports", "import optbench, optbench.problems, optbench.reports"]
    code = "\n".join(imports if order == "user first" else imports[::-1])
    code += """
import problems.logistic, reports.tables, optbench.problems.logistic, optbench.reports.tables
print(problems.logistic.owner, reports.tables.owner)
print(problems.Logistic.__module__, optbench.problems.Logistic.__module__)
print(optbench.problems.logistic.__name__, optbench.reports.tables.__name__)
"""
    assert printed_lines(foreign, "-c", code) == [
        "user user",
        "problems optbench.problems.logistic",
        "optbench.problems.logistic optbench.reports.tables",
    ]


RULE = '''
import optbench
import reports.tables

assert reports.tables.owner == "user"


@optbench.rule
def plain_descent(xp, x, g, t, lr=0.1):
    """Gradient descent (Cauchy 1847)."""
    return (x - lr * g,)
'''


@pytest.mark.parametrize("options", [[], ["-P"]], ids=["python -m", "console script"])
def test_the_command_runs_next_to_packages_of_the_same_names(foreign: Path, tmp_path: Path, options: list[str]) -> None:
    """With ``-P``, as in a console script, Python does not look for packages in the working directory first."""
    (foreign / "mine.py").write_text(RULE)
    command = ["-m", "optbench", "run", "--import", "mine.py", "--problem", "beale", "--optimizer", "plain_descent"]
    arguments = ["--steps", "20", "--seeds", "2", "--jobs", "2", "-o", str(tmp_path), *["--no-report"] * (not options)]
    completed = run_python(*options, *command, *arguments, cwd=foreign)
    assert completed.returncode == 0, completed.stderr
    assert "plain_descent" in completed.stdout
    if options:
        assert "plain_descent" in (tmp_path / "report.html").read_text(encoding="utf-8")


def reveal(folder: Path, *lines: str) -> str:
    """The output of mypy for a script in a folder."""
    pytest.importorskip("mypy", reason="mypy comes with the extra 'dev'")
    (folder / "typed.py").write_text("\n".join(lines))
    # a cache in the checkout, so that the types of optbench are analysed once
    options = ["--cache-dir", str(ROOT / ".mypy_cache" / "names"), "--config-file", "", "--no-error-summary"]
    return "\n".join(printed_lines(folder, "-m", "mypy", "--strict", "--follow-imports=silent", *options, "typed.py"))


def test_type_checkers_see_one_class_under_both_names(tmp_path: Path) -> None:
    revealed = reveal(
        tmp_path,
        "import optbench.problems.logistic",
        "import optbench.reports",
        "import problems",
        "from optbench.problems import Logistic",
        "def same(problem: Logistic) -> problems.Logistic:",
        "    return problem",
        "reveal_type(optbench.problems.logistic.Logistic().dim)",
        "reveal_type(same)",
        "reveal_type(optbench.reports.build_page)",
    )
    assert 'typed.py:7: note: Revealed type is "' in revealed
    assert "int" in revealed.splitlines()[0]
    assert "def (problem: problems.logistic.Logistic) -> problems.logistic.Logistic" in revealed
    assert "def (runs: " in revealed


@pytest.mark.parametrize("package", ["problems", "reports"])
def test_each_stub_names_the_module_next_to_it(package: str) -> None:
    modules = {path.relative_to(ROOT / package).with_suffix("") for path in (ROOT / package).rglob("*.py")}
    stubs = {path.relative_to(ROOT / "optbench" / package) for path in (ROOT / "optbench" / package).rglob("*.pyi")}
    assert {path.with_suffix("") for path in stubs} <= modules
    if package == "problems":
        assert {path.with_suffix("") for path in stubs} == modules
    for path in stubs:
        name = ".".join([package, *path.with_suffix("").parts]).removesuffix(".__init__")
        assert f"from {name} import *\n" in (ROOT / "optbench" / package / path).read_text(encoding="utf-8")
