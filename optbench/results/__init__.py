"""Runs and their tables, the results folder, and the columns of stored rows."""

from collections.abc import Callable
from typing import Any

# HTML display of `Runs` in notebooks. The package `optbench` sets this function, because it needs `analysis` and
# `reports`, which this package must not import.
html_summary: Callable[[Any], str]
