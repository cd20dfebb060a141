"""benchopt's harness: what a recorded point of a curve costs, the solver being a few microseconds of NumPy."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np

CASE = Path(__file__).parent / "benchopt_case"


def curve(points: int, rate: float, seed: int) -> tuple[float, int, np.ndarray]:
    """Seconds of `run_benchmark` for one run recorded at every step, the points it kept and their values."""
    import pandas as pd
    from benchopt import run_benchmark

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        target = Path(folder) / "curve.parquet"
        with contextlib.redirect_stdout(nowhere):
            start = time.perf_counter()
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
            taken = time.perf_counter() - start
        table = pd.read_parquet(target)
    return taken, len(table), table.sort_values("stop_val")["objective_value"].to_numpy()
