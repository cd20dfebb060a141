"""Run every benchmark of the asv suite once, in this environment, and fail if one of them did.

asv's exit status tells of most failures, but it is 0 where a track_ benchmark returns None (shown as failed) or NaN (shown
as n/a). So the results are read too: each benchmark has a number for each combination of its parameters, unless that names
a backend that is absent. Nothing is left behind: results and asv's notes on the machine go to a temporary folder.

usage: python .ci/run_benchmarks.py [FOLDER]      the folder with asv.conf.json, in a git checkout; by default this one
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from optbench.core.backend import gpu_problem


def main(root: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        config = json.loads((root / "asv.conf.json").read_text())
        config |= {"repo": str(root), "benchmark_dir": str(root / config["benchmark_dir"])}
        config |= {name: str(Path(folder) / name) for name in ("env_dir", "results_dir", "html_dir")}
        (Path(folder) / "asv.conf.json").write_text(json.dumps(config))
        asv = [sys.executable, "-m", "asv", "--config", str(Path(folder) / "asv.conf.json")]
        # forked from one process that has imported the suite: three times as fast, and nothing here is a measurement
        run = [
            *asv,
            "run",
            "--quick",
            "--show-stderr",
            "--launch-method=forkserver",
            "--python=same",
            "--set-commit-hash=HEAD",
        ]
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # the matrix of the configuration
        environment = os.environ | one | {"HOME": folder}  # where asv keeps its notes
        for command in ([*asv, "machine", "--yes"], run):
            status = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
            if status:
                print(f"asv {command[5]} ended with {status}", file=sys.stderr)
                return 1
        without = missing(Path(folder) / "results_dir")
    print(*without or ["every benchmark has its figure"], sep="\n")
    return 1 if without else 0


def missing(folder: Path) -> list[str]:
    """The benchmarks without a figure, with their parameters; those of absent backends aside."""
    known = json.loads((folder / "benchmarks.json").read_text())
    (path,) = (p for p in folder.glob("*/*.json") if p.name != "machine.json")
    stored = json.loads(path.read_text())
    results = {name: dict(zip(stored["result_columns"], row, strict=False)) for name, row in stored["results"].items()}
    found = []
    for name, benchmark in known.items():
        if name == "version":
            continue
        combinations = list(itertools.product(*benchmark["params"]))
        figures = results.get(name, {}).get("result") or [None] * len(combinations)
        for parameters, figure in zip(combinations, figures, strict=True):
            if not is_number(figure) and not ("cupy" in " ".join(parameters) and gpu_problem()):
                found.append(f"{name}({', '.join(parameters)}) has no figure: {figure}")
    return found


def is_number(figure: Any) -> bool:
    return isinstance(figure, (int, float)) and not math.isnan(figure)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()))
