"""Figures, tables and the page made from stored results.

>>> import reports
>>> ax = reports.convergence(runs, problem="logistic")
>>> reports.build_page(runs, "site/index.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from optbench.core.names import use_long_name

use_long_name(__name__)

if TYPE_CHECKING:
    from .figures import convergence, generalization, sensitivity
    from .history import load_history
    from .landscapes import paths
    from .lesson import lessons
    from .overview import data_profile, ecdf, headline, heatmap, performance_profile, ranks
    from .page import build_page
    from .races import convergence_seconds, seconds_of, speed
    from .steps import step_times
    from .tables import latex, markdown, seconds_table, speed_table, summary_table


# the public names of every module; drawing libraries are imported when a name is first used, so that the import stays short
_MODULES = {
    "figures": ("convergence", "generalization", "sensitivity"),
    "history": ("load_history",),
    "landscapes": ("paths",),
    "lesson": ("lessons",),
    "overview": ("data_profile", "ecdf", "headline", "heatmap", "performance_profile", "ranks"),
    "page": ("build_page",),
    "races": ("convergence_seconds", "seconds_of", "speed"),
    "steps": ("step_times",),
    "tables": ("latex", "markdown", "seconds_table", "speed_table", "summary_table"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "build_page",
    "convergence",
    "convergence_seconds",
    "data_profile",
    "ecdf",
    "generalization",
    "headline",
    "heatmap",
    "latex",
    "lessons",
    "load_history",
    "markdown",
    "paths",
    "performance_profile",
    "ranks",
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
    value = getattr(importlib.import_module(f"optbench.reports.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
