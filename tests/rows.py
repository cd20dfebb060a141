"""Rows of runs written by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from optbench.results.schema import COLUMNS


def run_row(**known: Any) -> dict[str, Any]:
    """A row of `COLUMNS` with the given values; budget and calls at the checkpoints follow from the cost of a step."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "problem_params": "{}", "data_hash": "", "dim": 2, "fixed": "{}", "settings": "{}", "schedule": "constant",
        "seed": 0, "steps": 99, "backend": "numpy", "precision": "float64", "status": "budget", "oracle": "gradient",
        "calls_per_step": 1.0, "t": [], "f": [], "best": [], "gradient_norm": [], "metrics": [], "code": "", "created": "",
    } | known  # fmt: skip
    row["problem_name"] = row["problem_name"] or row["problem_spec"]
    if row["calls_per_step"] is not None:
        row["budget_calls"] = (row["steps"] + 1) * row["calls_per_step"]
        row["checkpoint_calls"] = ((np.asarray(row["t"]) + 1) * row["calls_per_step"]).tolist()
    return row
