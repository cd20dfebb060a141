"""The registered optimizers and schedules, a module for each family. Importing this package registers them all."""

from optbench.optimizers import adaptive, gradient, line_search, random_search, schedules, sign

__all__ = ["adaptive", "gradient", "line_search", "random_search", "schedules", "sign"]
