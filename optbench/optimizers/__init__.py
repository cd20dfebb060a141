"""Optimizers and schedules, one module per family. Importing this package registers all of them."""

from optbench.optimizers import adaptive, gradient, line_search, random_search, schedules, sign

__all__ = ["adaptive", "gradient", "line_search", "random_search", "schedules", "sign"]
