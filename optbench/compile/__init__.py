"""Compiled formulas: update rules, elementwise functions, and loops over steps."""
