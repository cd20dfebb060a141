"""Figures, tables and the page made from stored results.

>>> import reports
>>> ax = reports.convergence(runs, problem="logistic")
>>> reports.build_page(runs, "site/index.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.figures import convergence, generalization, sensitivity
    from reports.landscapes import paths
    from reports.lesson import lessons
    from reports.page import build_page
    from reports.races import speed
    from reports.tables import latex, markdown, seconds_table, speed_table, summary_table

__optbench__ = True

# where each public name lives; drawing libraries are imported when a name is first used, so that the import stays short
_HOMES = {
    "build_page": "page",
    **dict.fromkeys(("convergence", "generalization", "sensitivity"), "figures"),
    "lessons": "lesson",
    "paths": "landscapes",
    "speed": "races",
    **dict.fromkeys(("latex", "markdown", "seconds_table", "speed_table", "summary_table"), "tables"),
}

__all__ = [
    "build_page",
    "convergence",
    "generalization",
    "latex",
    "lessons",
    "markdown",
    "paths",
    "seconds_table",
    "sensitivity",
    "speed",
    "speed_table",
    "summary_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"reports.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
