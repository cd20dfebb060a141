"""The shape of the house: which module may import which, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# from the ground up; a module may import from the floors below its own, and from its own
FLOORS = [
    {"errors", "workers"},
    {"arrays", "registry", "record", "columns"},
    {"sampling", "compiled", "fastmath", "products"},
    {"problem", "rules", "schedules", "fuse", "kernels"},
    {"optimizer", "differences"},
    {"curvature", "search", "checks", "about"},
    {"loop"},
    {"plan"},
    {"results"},
    {"store"},
    {"execute", "race"},
    {"metrics"},
    {"seconds", "beside", "profiles"},
    {"study"},
    {"cli"},
    {"__main__"},
]
FLOOR = {module: level for level, modules in enumerate(FLOORS) for module in modules}


def imports(path: Path) -> set[str]:
    """Dotted names of all modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("optbench", "problems", "reports")}


def modules_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("optbench.") and name.split(".")[1] in FLOOR}


def test_every_module_has_its_floor() -> None:
    assert {p.stem for p in (ROOT / "optbench").glob("*.py")} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(FLOOR))
def test_imports_go_down(module: str) -> None:
    above = {name for name in modules_of(imports(ROOT / "optbench" / f"{module}.py")) if FLOOR[name] > FLOOR[module]}
    assert not above


@pytest.mark.parametrize("module", sorted(set(FLOOR) - {"cli", "__main__"}))
def test_only_the_command_line_knows_problems_and_reports(module: str) -> None:
    assert not {n for n in imports(ROOT / "optbench" / f"{module}.py") if n.split(".")[0] in ("problems", "reports")}


@pytest.mark.parametrize("path", sorted((ROOT / "problems").glob("*.py")), ids=lambda p: p.stem)
def test_problems_know_only_the_ground_floors(path: Path) -> None:
    assert modules_of(imports(path)) <= {"arrays", "registry", "problem", "errors", "sampling", "kernels"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "reports").rglob("*.py")), ids=lambda p: p.relative_to(ROOT / "reports").as_posix()
)
def test_reports_know_only_results(path: Path) -> None:
    assert modules_of(imports(path)) <= {"results", "metrics", "seconds", "beside", "profiles", "errors"}


def test_the_import_is_light() -> None:
    heavy = ("pandas", "scipy", "sklearn", "matplotlib", "rich")
    code = f"import sys, optbench, problems; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
