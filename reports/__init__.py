"""Figures, tables and the page made from stored results.

>>> import reports
>>> ax = reports.convergence(runs, problem="logistic")
>>> reports.build_page(runs, "site/index.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.figures import convergence, sensitivity
    from reports.history import load_history
    from reports.page import build_page
    from reports.races import convergence_seconds, seconds_of, speed
    from reports.steps import step_times
    from reports.tables import seconds_table, speed_table, summary_table

__optbench__ = True

# where each public name lives; drawing libraries are imported when a name is first used, so that the import stays short
_HOMES = {
    "build_page": "page",
    **dict.fromkeys(("convergence", "sensitivity"), "figures"),
    "load_history": "history",
    **dict.fromkeys(("convergence_seconds", "seconds_of", "speed"), "races"),
    "step_times": "steps",
    **dict.fromkeys(("seconds_table", "speed_table", "summary_table"), "tables"),
}

__all__ = [
    "build_page",
    "convergence",
    "convergence_seconds",
    "load_history",
    "seconds_of",
    "seconds_table",
    "sensitivity",
    "speed",
    "speed_table",
    "step_times",
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
