"""Runs and their tables, where they are kept, and what their columns mean."""

from collections.abc import Callable
from typing import Any

# How notebooks show `Runs`: a function to HTML. The package `optbench` sets it, because a summary needs `analysis` and
# `reports`, which this package must not import.
html_summary: Callable[[Any], str]
