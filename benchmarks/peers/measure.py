"""Check that all contenders compute the same, time them in turn, and print the figures as JSON.

Started by compare.py once for each number of threads, because the libraries fix theirs when they are imported.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import calls_within

TOLERANCE = 1e-9  # largest relative difference between contenders, float64


def deviation(result: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference, relative to the size of the row it is in."""
    size = np.max(np.abs(reference), axis=-1, keepdims=True) + 1e-300
    return float(np.max(np.abs(result - reference) / size))


def check(title: str, name: str, result: np.ndarray, reference: np.ndarray) -> float:
    difference = deviation(result, reference)
    if not difference <= TOLERANCE:
        raise SystemExit(f"{title}: {name} computes something else; relative difference {difference:.1e}")
    return difference


def in_turn(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; one call each a round, so that all meet the same weather."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def row(section: str, title: str, unit: str, ours: str, times: dict[str, list[float]], **more: Any) -> dict[str, Any]:
    """Medians, which are printed, and medians of the ratios to ours within a round."""
    base = np.array(times[ours])
    median = {name: float(np.median(values)) for name, values in times.items()}
    cells = ", ".join(f"{name} {value:.3g}" for name, value in median.items())
    print(f"{title} [{unit}]: {cells}", file=sys.stderr, flush=True)
    return {
        "section": section,
        "title": title,
        "unit": unit,
        "median": median,
        "ratio": {name: float(np.median(np.array(values) / base)) for name, values in times.items()},
        "spread": {
            name: float(np.subtract(*np.percentile(values, [75, 25])) / median[name]) for name, values in times.items()
        },
        **more,
    }


# ---- fused rules -----------------------------------------------------------------------------------------------------


def memory_limits() -> dict[str, Callable[[np.ndarray, np.ndarray], None]]:
    """Compiled loops that only move memory: a copy, and the reads and writes of a step of each rule."""
    import numba

    @numba.njit(fastmath=True)
    def copy(a: Any, b: Any) -> None:
        for i in range(a.size):
            b[0, i] = a[0, i]

    @numba.njit(fastmath=True)
    def adam(a: Any, b: Any) -> None:  # reads x, g, m, v; writes x, m, v
        for i in range(a.shape[1]):
            g = a[0, i]
            b[0, i] = 0.5 * b[0, i] + g
            b[1, i] = 0.5 * b[1, i] + g
            b[2, i] = 0.5 * b[2, i] + g

    @numba.njit(fastmath=True)
    def momentum(a: Any, b: Any) -> None:  # reads x, g, v; writes x, v
        for i in range(a.shape[1]):
            g = a[0, i]
            b[0, i] = 0.5 * b[0, i] + g
            b[1, i] = 0.5 * b[1, i] + g

    return {"copy": copy, "adam": adam, "momentum": momentum}


def fused_rules(quick: bool, repeats: int) -> list[dict[str, Any]]:
    from benchmarks.peers import jax_peer, optbench_peer, torch_peer

    limits, rows = memory_limits(), []
    for rule in ("adam", "momentum"):
        for size in (100, 10_000) if quick else (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000):
            rng = np.random.default_rng(0)
            x, g, lr = rng.standard_normal(size), rng.standard_normal(size), 1e-3
            steppers: dict[str, Callable[[int], Any]] = {
                "optbench fused": optbench_peer.step_of(rule, x, g, lr, fused=True),
                "optbench plain": optbench_peer.step_of(rule, x, g, lr, fused=False),
                "torch fused": torch_peer.step_of(rule, x, g, lr, fused=True),
                "torch foreach": torch_peer.step_of(rule, x, g, lr, foreach=True),
                "optax jit, donated": jax_peer.step_of(rule, x, g, lr),
            }
            first = {name: np.array(step(3)) for name, step in steppers.items()}
            worst = max(
                check(f"{rule} {size}", name, result, first["optbench plain"]) for name, result in first.items()
            )
            buffers = np.ones((1, size)), np.ones((3, size))

            def limit(count: int, loop: str, buffers: Any = buffers) -> None:
                for _ in range(count):
                    limits[loop](*buffers)

            for name, loop in (("memory pattern", rule), ("copy", "copy")):
                steppers[name] = functools.partial(limit, loop=loop)
                steppers[name](1)
            counts = {name: calls_within(step, 0.002 if quick else 0.05) for name, step in steppers.items()}
            times = in_turn({name: functools.partial(step, counts[name]) for name, step in steppers.items()}, repeats)
            each = {name: [s / counts[name] / size * 1e9 for s in values] for name, values in times.items()}
            rows.append(row("rules", f"{rule}, {size:.0e}", "ns/element", "optbench fused", each, deviation=worst))
    return rows


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def sweeps(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    from benchmarks.peers import jax_peer, numpy_peer, optbench_peer, torch_peer
    from benchmarks.peers.work import Work, works

    rows = []
    for work in works(quick):
        _ = work.problem.optimum
        # those that take one run at a time are given few runs, and those that walk step by step fewer steps
        few = range(2)
        short, one = (work.cut(max(5, min(work.steps // 10, most))) for most in (500, 200))

        def contenders(
            work: Work, short: Work, one: Work, few: range = few
        ) -> dict[str, tuple[Callable[[], Any], float]]:
            """By name: what to run, and the runs times steps that it does."""
            whole, part, single = (w.runs * w.steps for w in (work, short, one))
            single = single * len(few) // one.runs
            runners: dict[str, tuple[Callable[[], Any], float]] = {
                "optbench": (optbench_peer.sweep(work, cores), whole),
                "jax hand": (jax_peer.sweep(work, "hand"), whole),
                "jax autodiff + optax": (jax_peer.sweep(work, "autodiff"), whole),
                "torch vmap": (torch_peer.mapped(short), part),
                "torch.optim fused, 1 by 1": (torch_peer.one_by_one(one, few, fused=True), single),
                "torch.optim, 1 by 1": (torch_peer.one_by_one(one, few), single),
                "NumPy, 1 by 1": (numpy_peer.one_by_one(one, few), single),
            }
            if cores > 1:
                runners["optbench, 1 process"] = (optbench_peer.sweep(work), whole)
            return runners

        worst = agreement(work.title, work.cut(20), contenders)
        runners = contenders(work, short, one)
        first = in_turn({name: run for name, (run, _) in runners.items()}, 1)
        times = in_turn({name: run for name, (run, _) in runners.items()}, repeats)
        each = {name: [s / runners[name][1] * 1e6 for s in values] for name, values in times.items()}
        compiling = {
            name: first[name][0] - float(np.median(times[name])) for name in ("jax hand", "jax autodiff + optax")
        }
        more = {"deviation": worst, "compiling": compiling, "steps": work.steps}
        rows.append(row("sweeps", work.title, "µs/run/step", "optbench", each, **more))
    return rows


def agreement(title: str, work: Any, contenders: Callable[..., Any]) -> float:
    """Largest deviation of any contender from plain NumPy on a short form of the work, iterates and values."""
    from benchmarks.peers import numpy_peer

    few = range(0, work.runs, max(1, work.runs // 10))
    reference = numpy_peer.one_by_one(work, few)()
    worst = 0.0
    for name, (run, _) in contenders(work, work, work, few).items():
        result = run()
        rows = slice(None) if len(result.x) == len(few) else list(few)
        worst = max(worst, check(title, name, result.x[rows], reference.x))
        if result.values is not None and reference.values is not None:
            worst = max(worst, check(title, name, result.values[:, rows], reference.values))
    return worst


def fixed_costs(repeats: int) -> list[dict[str, Any]]:
    """A complete sweep of 1000 steps on the smallest problem, where what a call costs once is seen."""
    import dataclasses

    from benchmarks.peers import jax_peer, optbench_peer
    from benchmarks.peers.work import works

    rows = []
    for work in works(False)[:2]:
        short = dataclasses.replace(work, steps=1000)
        runners = {
            "optbench": optbench_peer.sweep(short),
            "jax hand": jax_peer.sweep(short, "hand"),
            "optbench with its tables": optbench_peer.sweep(short, tables=True),
            "optbench, 1 step": optbench_peer.sweep(work.cut(1)),
        }
        in_turn(runners, 2)
        times = in_turn(runners, 2 * repeats)
        each = {name: [1e3 * s for s in values] for name, values in times.items()}
        rows.append(row("fixed", f"{work.title}, 1000 steps, the whole call", "ms", "optbench", each))
    return rows


# ---- L-BFGS ----------------------------------------------------------------------------------------------------------


def lbfgs(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    from benchmarks.peers import optbench_peer, scipy_peer
    from problems import Logistic

    rows_, columns, runs = (300, 9, 5) if quick else (10_000, 99, 100)
    problem = Logistic(data="synthetic", rows=rows_, columns=columns, l2=1e-3)
    Z, starts, tolerance = np.asarray(problem.Z), np.asarray(problem.starts(range(runs))), 1e-6
    _ = problem.optimum  # solved once for a problem, however many sweeps follow
    ours = optbench_peer.lbfgs(problem, runs, tolerance, cores)
    if set(ours.table["status"]) != {"gradient"}:
        raise SystemExit("L-BFGS: not every run of optbench reached the gradient norm")
    x, evaluations = scipy_peer.lbfgs(Z, problem.l2, starts, tolerance)
    norm = np.linalg.norm(problem.value_and_grad(x)[1], axis=-1)
    if not np.all(norm <= tolerance * (1 + 1e-6)):
        raise SystemExit(f"L-BFGS: scipy stopped at a gradient norm of {norm.max():.1e}")
    times = in_turn(
        {
            "optbench": lambda: optbench_peer.lbfgs(problem, runs, tolerance, cores),
            "scipy L-BFGS-B": lambda: scipy_peer.lbfgs(Z, problem.l2, starts, tolerance),
        },
        repeats,
    )
    title = f"L-BFGS, {runs} runs, logistic n={rows_} d={problem.dim}, to a gradient norm of 1e-6"
    counts = {"optbench": float(ours.table["gradients"].mean()), "scipy L-BFGS-B": evaluations / runs}
    return [row("lbfgs", title, "s", "optbench", times, evaluations=counts)]


# ---- benchopt --------------------------------------------------------------------------------------------------------


def recorded_points(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """What a recorded point costs: a sweep of momentum, and benchopt's harness around one such run."""
    from benchmarks.peers import benchopt_peer, numpy_peer, optbench_peer
    from benchmarks.peers.work import works

    work = works(quick)[0]  # the smallest quadratic with momentum
    work = work.cut(20 if quick else 1000)
    rate = work.rates[-1]
    _, count, values = benchopt_peer.curve(work.steps, rate, work.seeds[0])
    reference = numpy_peer.one_by_one(work, range(len(work.rates) - 1, len(work.rates)))().values  # (T, 1)
    assert reference is not None
    worst = check("a recorded point", "benchopt", values[: work.steps][None, :], reference.T)
    sweep = optbench_peer.recorded(work)
    points = {"optbench": sweep(), "benchopt": count}
    if points["optbench"] != work.runs * (work.steps + 1):
        raise SystemExit("a recorded point: optbench left some out")
    times = in_turn(
        {"optbench": sweep, "benchopt": lambda: benchopt_peer.curve(work.steps, rate, work.seeds[0])}, repeats
    )
    each = {name: [s / points[name] * 1e6 for s in values] for name, values in times.items()}
    title = f"a recorded point of {work.title}, {work.steps} steps"
    return [row("benchopt", title, "µs", "optbench", each, deviation=worst)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="rules,sweeps,fixed,lbfgs,benchopt")
    options = parser.parse_args()
    quick, repeats, cores = options.quick, options.repeats, options.cores
    sections: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "rules": lambda: fused_rules(quick, repeats),
        "sweeps": lambda: sweeps(quick, repeats, cores),
        "fixed": lambda: [] if quick else fixed_costs(repeats),
        "lbfgs": lambda: lbfgs(quick, repeats, cores),
        "benchopt": lambda: recorded_points(quick, repeats) if cores == 1 else [],
    }
    load = os.getloadavg()
    rows = [row for name, measure in sections.items() if name in options.only.split(",") for row in measure()]
    json.dump({"rows": rows, "load": [load, os.getloadavg()]}, sys.stdout)


if __name__ == "__main__":
    main()
