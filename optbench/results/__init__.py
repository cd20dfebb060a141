"""Stored runs: the schema of rows, the store of Parquet files, and tables of runs."""
