"""Compare optbench with other libraries on one thread and on all threads, and write the tables to RESULTS.md.

python benchmarks/peers/compare.py            # about half an hour
python benchmarks/peers/compare.py --quick    # a minute, with small sizes: tests that all compute the same
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from optbench.results.environment import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ("numpy", "llvmlite", "scipy", "jax", "optax", "torch", "benchopt")
SECTIONS = {
    "rules": (
        "Update rules",
        "One step of a rule on an array of float64 with a given gradient. *memory pattern* is a compiled loop that reads "
        "and writes the arrays of the rule and computes almost nothing; *copy* is a compiled loop that copies an array.",
    ),
    "sweeps": (
        "Sweeps of 100 runs",
        "10 learning rates x 10 seeds with the same starts, batches and hyperparameters for all contenders. All compute "
        "the value at every step; optbench stores two checkpoints and the steps to 50 targets, the others every value. "
        "Compile time is not included. Contenders that run one by one are timed on 2 runs and a tenth of the steps (at "
        "most 200), torch vmap on all runs and a tenth of the steps (at most 500); their numbers are costs per run and "
        "step. *optbench* is the call of `sweep` with one job per thread (one BLAS thread each, workers already started); "
        "its tables are computed on first access.",
    ),
    "fixed": (
        "The whole call of a short sweep",
        "1000 steps of 100 runs on the smallest problem, without compile time.",
    ),
    "lbfgs": (
        "L-BFGS",
        "Every run stops at the gradient norm. optbench computes all runs in one array per thread until the last one has "
        "stopped; SciPy computes one run after the other on one thread.",
    ),
    "benchopt": (
        "Cost of a recorded point",
        "Every step is recorded: by benchopt with its callback strategy in one run, by optbench in a sweep of 100 runs "
        "with the table of curves.",
    ),
}


def measure(cores: list[int], arguments: list[str]) -> dict[str, Any]:
    """The results of measure.py on these cores."""
    threads = {name: str(len(cores)) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks.peers.measure", "--cores", str(len(cores)), *arguments]
    # libraries start one thread per available core; torch and BLAS read the environment too
    pin = (lambda: os.sched_setaffinity(0, cores)) if hasattr(os, "sched_setaffinity") else None
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | threads, preexec_fn=pin, stdout=subprocess.PIPE, text=True, check=True
    )
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown table with a row per case and a column per contender: medians, and ratios to optbench in brackets."""
    names = list(rows[0]["median"])
    lines = [f"| {rows[0]['unit']} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in rows:
        cells = [f"{row['median'][name]:.3g} ({row['ratio'][name]:.2g})" for name in names]
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    if len(rows) > 2:
        means = [f"{statistics.geometric_mean(row['ratio'][name] for row in rows):.2g}" for name in names]
        lines.append(f"| geometric mean of ratios | {' | '.join(means)} |")
    return lines


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """The notes below a table."""
    lines = []
    if "deviation" in rows[0]:
        worst = max(row["deviation"] for row in rows)
        lines.append(f"Largest relative difference between any two contenders: {worst:.0e}.")
    if "compiling" in rows[0]:
        seconds = {name: [row["compiling"][name] for row in rows] for name in rows[0]["compiling"]}
        spans = [f"{name} {min(of):.1f}-{max(of):.1f} s" for name, of in seconds.items()]
        lines.append(f"Compile time, not included: {', '.join(spans)} per sweep.")
    for row in rows:
        if "evaluations" in row:
            lines.append(
                "Evaluations per run: " + ", ".join(f"{k} {v:.0f}" for k, v in row["evaluations"].items()) + "."
            )
    noisy = [row["title"] for row in rows if row["spread"] > 0.2]
    if noisy:
        lines.append(f"Quartiles of optbench more than 20 % apart: {', '.join(noisy)}.")
    return lines


def page(results: dict[int, dict[str, Any]], repeats: int) -> str:
    """The text of RESULTS.md."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# optbench compared with other libraries",
        "",
        f"{datetime.date.today():%d %B %Y}; {machine()}; Python {platform.python_version()}, {versions}. Float64. Medians "
        f"of {repeats} rounds in which all contenders take turns. In brackets: the median over rounds of the ratio to "
        "optbench; above 1, optbench is faster. Before timing, all contenders were checked to give the same numbers to "
        "1e-9 over the first 20 steps (rules: 3 steps).",
    ]
    for cores, result in results.items():
        before, after = result["load"]
        lines += ["", f"## {'One thread' if cores == 1 else f'{cores} threads'}", ""]
        lines.append(f"Load average {before[0]:.1f} before, {after[0]:.1f} after.")
        for section, (title, text) in SECTIONS.items():
            rows = [row for row in result["rows"] if row["section"] == section]
            if rows:
                lines += ["", f"### {title}", "", text, "", *table(rows), "", *notes(rows)]
    return "\n".join(lines).rstrip() + "\n"


def machine() -> str:
    """Processor, cores, and the vector instructions, on which the cost of an exponential depends."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    vectors = "AVX-512" if "avx512f" in text else "AVX2, no AVX-512" if "avx2" in text else ""
    return ", ".join(part for part in (environment()["processor"], f"{os.cpu_count()} cores", vectors) if part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; the table is printed, not written")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="sections, such as rules,sweeps; the table is printed, not written")
    parser.add_argument("--threads", type=int, help="only this number of threads")
    options = parser.parse_args()
    pinned = hasattr(os, "sched_getaffinity")
    available = sorted(os.sched_getaffinity(0)) if pinned else list(range(os.cpu_count() or 1))
    arguments = ["--repeats", str(options.repeats), *["--quick"] * options.quick]
    arguments += ["--only", options.only] if options.only else []
    counts = [options.threads] if options.threads else [1, len(available)]
    results: dict[int, dict[str, Any]] = {}
    for count in dict.fromkeys(counts):
        results[count] = measure(available[-count:], arguments)
        if not (options.quick or options.only or options.threads):
            (HERE / "RESULTS.md").write_text(page(results, options.repeats), encoding="utf-8")
    print(page(results, options.repeats))


if __name__ == "__main__":
    main()
