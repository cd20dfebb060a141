"""Long names `optbench.problems` and `optbench.reports` of the top-level packages `problems` and `reports`.

A user's directory may contain packages called `problems` or `reports`, which hide ours. So optbench imports ours by their
long names only, from the files next to its own. Unless it is hidden, ``import problems`` gives the same modules. So each
class exists once, and is pickled under a name that always works.

Type checkers read the stubs in `optbench/problems` and `optbench/reports` instead, which point to the short names. So if a
user's package hides a short name, a checker shows that package under the long name too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[2]  # contains optbench, problems and reports


def load_sibling(long_name: str) -> None:
    """Load the top-level package `problems` under its long name, ``"optbench.problems"``; likewise `reports`."""
    package = sys.modules[long_name]
    folder = _ROOT / long_name.rpartition(".")[2]
    loader = SourceFileLoader(long_name, str(folder / "__init__.py"))
    # all attributes with the location of a package: `inspect`, `pkgutil` and `importlib.resources` read different ones
    assert package.__spec__ is not None
    package.__loader__ = package.__spec__.loader = loader
    package.__file__ = package.__spec__.origin = loader.path
    package.__path__ = package.__spec__.submodule_search_locations = [str(folder)]
    loader.exec_module(package)


def use_long_name(name: str) -> None:
    """Make a short name (``"problems"``) an alias of ``optbench.problems``; the package itself calls this."""
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
        ours = sys.modules.get(self.package) is sys.modules.get(f"optbench.{self.package}")  # else a user's package
        if ours and name.startswith(f"{self.package}.") and importlib.util.find_spec(f"optbench.{name}"):
            return ModuleSpec(name, self)
        return None

    def exec_module(self, module: ModuleType) -> None:
        # the import statement returns the module that `sys.modules` holds afterwards
        sys.modules[module.__name__] = importlib.import_module(f"optbench.{module.__name__}")
