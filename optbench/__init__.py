"""optbench: compare gradient-based optimizers on many problems.

>>> import optbench
>>> runs = optbench.compare(["quadratic", "logistic:data=digits"], ["adam", "momentum"])
>>> runs.table, runs.curves  # pandas
>>> optbench.report(runs, "page.html")
"""

from __future__ import annotations

from typing import Any

from optbench import results
from optbench.core.lazy import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)


def _html_summary(runs: Any) -> str:
    from optbench.reports.tables import html, summary_table

    return html(summary_table(runs))


# how notebooks show `Runs`: set here, because the package `results` must not import `reports`
results.html_summary = _html_summary
