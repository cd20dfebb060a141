"""Figures of merit, tuning, statistics and comparisons, computed from stored runs alone."""
