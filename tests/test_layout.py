"""The structure of the code, read from its source: the directions of imports, private names, docstrings, test folders."""

from __future__ import annotations

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

from tests.conftest import run_python

ROOT = Path(__file__).resolve().parent.parent

# what a package (or one of the two interface modules) may import besides itself
MAY_IMPORT = {
    "optbench.core": set(),
    "optbench.compile": {"core"},
    "optbench.problem": {"core"},
    "optbench.optimizer": {"core"},
    "optbench.problems": {"core", "compile", "problem"},
    "optbench.optimizers": {"core", "optimizer"},
    "optbench.verify": {"core", "problem"},
    "optbench.results": {"core"},
    "optbench.analysis": {"core", "results"},
    "optbench.reports": {"core", "results", "analysis"},
    "optbench.runner": {"core", "compile", "problem", "optimizer", "optimizers", "verify", "results"},
}
ALLOWED = {name: {f"optbench.{other}" for other in others} for name, others in MAY_IMPORT.items()}
ALLOWED["optbench.cli"] = set(MAY_IMPORT)


def module_name(path: Path) -> str:
    """Dotted long name of a file below the root: ``problems/mlp.py`` is ``optbench.problems.mlp``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "optbench" else ("optbench", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("problems", "reports", "optbench")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.parent not in (ROOT / "optbench" / "problems", ROOT / "optbench" / "reports")
}


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(module: str) -> set[tuple[str, str]]:
    """Every (module, name) that a module imports from ours, wherever in it; relative imports made absolute."""
    found = set()
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add((inner, "") if inner in FILES else (base, alias.name))
    return {(name, what) for name, what in found if name.split(".")[0] in ("optbench", "problems", "reports")}


@pytest.mark.parametrize("module", sorted(set(FILES) - {"optbench", "optbench.__main__"}))
def test_imports_point_down(module: str) -> None:
    own = package_of(module)
    assert {package_of(name) for name, _ in imports(module)} <= ALLOWED[own] | {own, "optbench"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_the_engine_uses_long_names(module: str) -> None:
    assert not {name for name, _ in imports(module) if name.split(".")[0] in ("problems", "reports")}


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_private_name_of_another_module_is_imported(module: str) -> None:
    assert not {(name, what) for name, what in imports(module) if what.startswith("_") and not what.startswith("__")}


def test_no_import_cycles() -> None:
    graph = {module: {name for name, _ in imports(module)} - {module, "optbench"} for module in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", sorted(FILES))
def test_each_module_says_what_belongs_in_it(module: str) -> None:
    assert ast.get_docstring(ast.parse(FILES[module].read_text(encoding="utf-8")))


def test_test_folders_mirror_packages() -> None:
    folders = {path.parent.relative_to(ROOT / "tests").parts for path in (ROOT / "tests").rglob("test_*.py")}
    names = {".".join(["optbench", *parts]) for parts in folders}
    assert names <= {*FILES, "optbench.benchmarks", "optbench.durability"}  # no part of the wheel; whole commands


@pytest.mark.parametrize("package", ["optbench", "optbench.problems", "optbench.reports"])
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert {name for name in module.__all__ if not hasattr(module, name)} == set()
    assert set(module.__all__) <= set(dir(module))


def test_the_import_is_light() -> None:
    heavy = ("pandas", "scipy", "sklearn", "matplotlib", "rich")
    code = f"import sys, optbench, problems; print(*[m for m in {heavy} if m in sys.modules])"
    done = run_python("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "")
