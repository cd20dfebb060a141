"""The comparison with other libraries computes the same numbers everywhere; speed is never tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_peers_agree() -> None:
    for library in ("jax", "optax", "torch", "numba"):
        pytest.importorskip(
            library, reason=f"{library} is not installed; benchmarks/peers/run.sh makes its environment"
        )
    # a process of its own, because the libraries set switches that are global
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.measure",
        "--cores",
        "1",
        "--quick",
        "--repeats",
        "1",
        "--only",
        "rules,sweeps,lbfgs",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # it ends with an error if any two differ
    rows = json.loads(done.stdout)["rows"]
    assert {row["section"] for row in rows} == {"rules", "sweeps", "lbfgs"}
    assert all(row["deviation"] <= 1e-9 for row in rows if "deviation" in row)
