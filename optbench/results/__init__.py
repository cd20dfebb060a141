"""Runs and their tables, the results folder, and the columns of stored rows."""
