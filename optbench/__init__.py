"""optbench: compare gradient-based optimizers on many problems.

>>> import optbench
>>> runs = optbench.compare(["quadratic", "logistic:data=digits"], ["adam", "momentum"])
>>> runs.table, runs.curves  # pandas
>>> optbench.report(runs, "page.html")
"""

from __future__ import annotations

__version__ = "0.1.0"


# Importing this package imports no other module of it: threads may then import any of them at the same time.
def __getattr__(name: str) -> object:
    from optbench.core.lazy import attach_stub

    namespace = globals()
    namespace["__getattr__"], namespace["__dir__"], namespace["__all__"] = attach_stub(__name__, __file__)
    return namespace["__all__"] if name == "__all__" else namespace["__getattr__"](name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})  # type: ignore[misc]


def html_summary(runs: object) -> str:
    """How notebooks show `Runs`: here, because the package `results` must not import `reports`."""
    from optbench.reports.tables import html, summary_table

    return html(summary_table(runs))  # type: ignore[arg-type]
