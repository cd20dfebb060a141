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
    from .asv import load_history
    from .figures.convergence import convergence
    from .figures.generalization import generalization
    from .figures.heatmap import heatmap
    from .figures.paths import paths
    from .figures.profiles import data_profile, ecdf, performance_profile
    from .figures.ranks import ranks
    from .figures.seconds import convergence_seconds, seconds_of
    from .figures.sensitivity import sensitivity
    from .figures.speed import speed
    from .figures.step_times import step_times
    from .lessons import find_lessons
    from .page.build import build_page
    from .report import load_results, report
    from .sections.headline import headline
    from .tables import latex, markdown, seconds_table, speed_table, summary_table


# the public names of every module; drawing libraries are imported when a name is first used, so that the import stays short
_MODULES = {
    "asv": ("load_history",),
    "figures.convergence": ("convergence",),
    "figures.generalization": ("generalization",),
    "figures.heatmap": ("heatmap",),
    "figures.paths": ("paths",),
    "figures.profiles": ("data_profile", "ecdf", "performance_profile"),
    "figures.ranks": ("ranks",),
    "figures.seconds": ("convergence_seconds", "seconds_of"),
    "figures.sensitivity": ("sensitivity",),
    "figures.speed": ("speed",),
    "figures.step_times": ("step_times",),
    "lessons": ("find_lessons",),
    "page.build": ("build_page",),
    "report": ("load_results", "report"),
    "sections.headline": ("headline",),
    "tables": ("latex", "markdown", "seconds_table", "speed_table", "summary_table"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "build_page",
    "convergence",
    "convergence_seconds",
    "data_profile",
    "ecdf",
    "find_lessons",
    "generalization",
    "headline",
    "heatmap",
    "latex",
    "load_history",
    "load_results",
    "markdown",
    "paths",
    "performance_profile",
    "ranks",
    "report",
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
