"""Figures, tables and the page made from stored results."""

__optbench__ = True
