"""`optbench.problems` and `optbench.reports`: long names of the top-level packages `problems` and `reports`.

A user's own directory may contain packages called `problems` or `reports`, which then come first on `sys.path`. So the
engine knows ours by their long names only, and finds their files beside its own. Their modules run once, under the long
name; where nothing hides them, ``import problems`` gives the very same modules, so a class has one identity and can be
pickled under a name that always works.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[2]  # holds optbench, problems and reports


def load_sibling(long_name: str) -> None:
    """Fill the package of this name (``"optbench.problems"``) with the top-level package of its last part."""
    package = sys.modules[long_name]
    folder = _ROOT / long_name.rpartition(".")[2]
    package.__path__, package.__file__ = [str(folder)], str(folder / "__init__.py")
    code = SourceFileLoader(long_name, package.__file__).get_code(long_name)
    assert code is not None
    exec(code, vars(package))


def use_long_name(name: str) -> None:
    """Make a short name (``"problems"``) another name of ``optbench.problems``; called by the package itself."""
    if "." not in name:
        sys.modules[name] = importlib.import_module(f"optbench.{name}")
        sys.meta_path.insert(0, _ShortNames(name))


class _ShortNames(MetaPathFinder, Loader):
    """Import of ``problems.quadratic``: the module ``optbench.problems.quadratic``."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f"{self.package}.") else None

    def exec_module(self, module: ModuleType) -> None:
        # what the import statement returns is what stands here afterwards
        sys.modules[module.__name__] = importlib.import_module(f"optbench.{module.__name__}")
