"""The cost of a recorded point of a curve in benchopt; the solver takes a few microseconds of NumPy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

CASE = Path(__file__).parent / "benchopt_case"


def curve(points: int, rate: float, seed: int) -> np.ndarray:
    """Values that `run_benchmark` stores of one run, recorded at every step."""
    from benchopt import run_benchmark

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        target = Path(folder) / "curve.parquet"
        with contextlib.redirect_stdout(nowhere):
            run_benchmark(
                CASE,
                solver_names=[f"momentum[lr={rate}]"],
                dataset_names=[f"quadratic[dim=10,start_seed={seed}]"],
                max_runs=points,
                timeout=None,
                plot_result=False,
                display=False,
                no_cache=True,
                show_progress=False,
                output_file=str(target),
            )
        table = pd.read_parquet(target).sort_values("stop_val")
    return np.asarray(table["objective_value"])
