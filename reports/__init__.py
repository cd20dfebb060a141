"""Figures, tables and the page made from stored results.

>>> import reports
>>> ax = reports.convergence(runs, problem="logistic")
>>> reports.build_page(runs, "site/index.html")

The public names are listed in ``__init__.pyi`` alone, where type checkers find them (SPEC 1 of Scientific Python).
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

from optbench.core.names import use_long_name

use_long_name(__name__)

# name -> module; drawing libraries are imported when a name is first used, so that this import stays short
_MODULES = {
    alias.name: f"optbench.reports.{node.module}"
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
