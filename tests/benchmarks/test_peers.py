"""The comparison with other libraries gives the same numbers in all of them; speed is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_python

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_peers_agree() -> None:
    for library in ("jax", "optax", "torch"):
        pytest.importorskip(
            library, reason=f"{library} is not installed; benchmarks/peers/run.sh makes its environment"
        )
    # a new process, because the libraries change global settings
    options = ["--cores=1", "--quick", "--repeats=1", "--only=rules,sweeps,lbfgs"]
    done = run_python("-m", "benchmarks.peers.measure", *options, cwd=ROOT)
    assert done.returncode == 0, done.stderr  # it fails if any two differ
    rows = json.loads(done.stdout)["rows"]
    assert {row["section"] for row in rows} == {"rules", "sweeps", "lbfgs"}
    assert all(row["deviation"] <= 1e-9 for row in rows if "deviation" in row)
