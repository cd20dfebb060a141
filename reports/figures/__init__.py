"""Figures: functions from a table to matplotlib axes."""
