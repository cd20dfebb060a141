"""Metrics, tuning, statistics and comparisons, computed from stored runs alone."""
