"""Figures, tables and the page made from stored results.

>>> import reports
>>> ax = reports.convergence(runs, problem="logistic")
>>> reports.build_page(runs, "site/index.html")

The public names are listed in ``__init__.pyi`` alone, where type checkers find them (SPEC 1 of Scientific Python).
"""

from __future__ import annotations

from optbench.core.lazy import attach_stub
from optbench.core.long_names import use_long_name

use_long_name(__name__)

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
