"""Rows of runs and races written by hand, for tests of tables and reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from optbench.core.trace import TARGETS
from optbench.results.schema import COLUMNS, RACE_COLUMNS, to_arrow, to_frame


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


def stored_row(
    key: str, status: str = "budget", identity: str | None = None, created: str = "1", **more: Any
) -> dict[str, Any]:
    """A stored run with a short curve; a failed one without."""
    curve: dict[str, Any] = {"t": [0, 1], "f": [2.0, 1.0], "best": [2.0, 1.0], "gradient_norm": [1.0, np.nan]}
    curve["metrics"] = [("accuracy", [0.5, 0.75])]
    named: dict[str, Any] = {"problem_spec": "p", "optimizer": "adam", "identity": identity or key, "code": key}
    named |= {"key": key, "status": status, "created": created}
    return run_row(**named | ({} if status == "failed" else curve) | more)


def target_row(method: str, problem: str, seed: int, calls: Any, **more: Any) -> dict[str, Any]:
    """A run: `calls` is one number for all targets, a list for the first of them, or None without a known optimum."""
    has_optimum = calls is not None
    to_target = list(calls) + [np.inf] * (len(TARGETS) - len(calls)) if np.ndim(calls) else [calls] * len(TARGETS)
    known = {
        "key": f"{method}-{problem}-{seed}-{more.get('settings')}", "problem_spec": problem, "optimizer": method,
        "seed": seed, "f_start": 1.0, "f_end": 0.5, "f_best": 0.5, "f_star": 0.0 if has_optimum else None,
        "calls_to_target": to_target if has_optimum else None, "t": [0, 1], "f": [1.0, 0.5], "best": [1.0, 0.5],
        "end": 99, "gradient_norm": [1.0, 0.5],
    }  # fmt: skip
    return run_row(**known | more)


def race_rows(
    configuration: str, seconds: Any = (1e-3, 1.05e-3, 0.95e-3), place: int = 0, **more: Any
) -> list[dict[str, Any]]:
    """Rows of one configuration with the given seconds per step: ten steps per round, half of the time in the oracle."""
    common = dict.fromkeys(RACE_COLUMNS) | {
        "race": "r", "created": "2026-01-01T00:00:00", "machine": "M", "cores": 4, "load_before": 0.1, "load_after": 1.0,
        "place": place, "problem": "p", "problem_name": "p", "problem_params": "{}", "data_hash": "",
        "configuration": configuration, "optimizer": configuration, "fixed": "{}", "settings": "{}", "structure": "{}",
        "schedule": "constant", "calls_per_step": 1.0, "steps": 10, "backend": "numpy", "precision": "float64",
        "fused": True, "warmup_seconds": 1.0, "finite": True,
    }  # fmt: skip
    return [
        common | {"round": number, "seconds": 10 * s, "oracle_seconds": 5 * s} | more
        for number, s in enumerate(np.asarray(seconds, dtype=float))
    ]


def race_table(*rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows of races as `Store.load_races` returns them."""
    return to_frame(to_arrow([row for part in rows for row in part], RACE_COLUMNS))
