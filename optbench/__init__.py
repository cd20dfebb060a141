"""optbench: compare gradient-based optimizers on many problems.

>>> import optbench
>>> runs = optbench.compare(["quadratic", "logistic:data=digits"], ["adam", "momentum"])
>>> runs.table, runs.curves  # pandas
>>> optbench.report(runs, "page.html")
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def _public_names() -> dict[str, str]:
    """The module of each public name, as the stub beside this file imports it for type checkers."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULES = _public_names()
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import optbench`` stays short."""
    if name not in _MODULES:
        raise AttributeError(f"module 'optbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def _html_summary(runs: Any) -> str:
    tables = importlib.import_module("optbench.reports.tables")
    return str(tables.html(tables.summary_table(runs)))


importlib.import_module("optbench.results").html_summary = _html_summary  # type: ignore[attr-defined]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
