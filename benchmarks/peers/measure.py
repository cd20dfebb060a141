"""Check that all contenders compute the same, time them in turn, and print the results as JSON.

compare.py starts it once per number of threads, because libraries read this number when they are imported.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import calls_within
from benchmarks.peers import benchopt_peer, jax_peer, numpy_peer, optbench_peer, scipy_peer, torch_peer
from benchmarks.peers.work import Work, deviation, works
from optbench.compile.llvm import Writer, assemble, machine_code
from optbench.compile.rules import address
from problems import Logistic

TOLERANCE = 1e-9  # largest relative difference between contenders, float64
Runners = dict[str, Callable[[], Any]]


def check(title: str, name: str, result: np.ndarray, reference: np.ndarray) -> float:
    difference = deviation(result, reference)
    if not difference <= TOLERANCE:
        raise SystemExit(f"{title}: {name} gives other results; relative difference {difference:.1e}")
    return difference


def in_turn(contenders: Runners, repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each contender in each round, with one call per round, so that all have the same conditions."""
    seconds: dict[str, np.ndarray] = {name: np.empty(repeats) for name in contenders}
    for repeat in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name][repeat] = time.perf_counter() - start
    return seconds


def compared(
    section: str, title: str, unit: str, contenders: Runners, repeats: int, per: dict[str, float], **more: Any
) -> dict[str, Any]:
    """Medians of the seconds times `per`, and medians over rounds of the ratios to the first contender, ours."""
    times = {name: seconds * per[name] for name, seconds in in_turn(contenders, repeats).items()}
    ours = next(iter(times.values()))
    median = {name: float(np.median(values)) for name, values in times.items()}
    cells = ", ".join(f"{name} {value:.3g}" for name, value in median.items())
    print(f"{title} [{unit}]: {cells}", file=sys.stderr, flush=True)
    return {
        "section": section,
        "title": title,
        "unit": unit,
        "median": median,
        "ratio": {name: float(np.median(values / ours)) for name, values in times.items()},
        "spread": float(np.subtract(*np.percentile(ours, [75, 25])) / np.median(ours)),
        **more,
    }


# ---- fused rules -----------------------------------------------------------------------------------------------------


def memory_pattern(size: int, arrays: int) -> Callable[[int], None]:
    """The memory accesses of steps of a rule: g is read; x and the state, the given number of arrays, are read and written.

    Without arrays, g is copied. The arithmetic is one product and one sum per number, in vectors. The function takes a
    number of steps.
    """
    w = Writer("pattern", "float64")
    n, a, b = w.argument(0), w.argument(1, "ptr"), w.argument(2, "ptr")
    whole = w.integer("and", n, -8)
    for start, stop, step, lanes in ((w.constant(0, "i64"), whole, 8, 8), (whole, n, 1, 0)):
        with w.loop(start, stop, step) as i:
            g = w.load(w.address(a, i, "double"), "double", lanes)
            if not arrays:
                w.store(g, w.address(b, i, "double"))
            for k in range(arrays):
                place = w.address(b, w.integer("add", w.integer("mul", n, k), i), "double")
                half = w.write(
                    f"fmul {w.load(place, 'double', lanes)}, {w.constant(0.5, 'double', lanes).name}", "double", lanes
                )
                w.store(w.write(f"fadd {half}, {g.name}", "double", lanes), place)
    (code,) = machine_code(assemble([w]), (w.name,))

    g_numbers, numbers = np.arange(1.0, size + 1), np.ones((max(arrays, 1), size))
    arguments = struct.pack("3q", size, address(g_numbers), address(numbers))
    code(arguments)
    if not np.array_equal(numbers, np.broadcast_to(0.5 + g_numbers if arrays else g_numbers, numbers.shape)):
        raise SystemExit("the loop that shows what memory allows does not compute what it should")

    def steps(count: int, kept: Any = (g_numbers, numbers)) -> None:
        for _ in range(count):
            code(arguments)

    return steps


def fused_rules(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    rows = []
    for rule, (_, arrays) in numpy_peer.RULES.items():
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
            steppers |= {"memory pattern": memory_pattern(size, 1 + arrays), "copy": memory_pattern(size, 0)}
            counts = {name: calls_within(step, 0.002 if quick else 0.05) for name, step in steppers.items()}
            calls: Runners = {name: functools.partial(step, counts[name]) for name, step in steppers.items()}
            per = {name: 1e9 / (count * size) for name, count in counts.items()}
            title = f"{rule}, {size:.0e}"
            rows.append(compared("rules", title, "ns/element", calls, repeats, per, deviation=worst))
    return rows


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def sweeps(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    rows = []
    for work in works(quick):
        _ = work.problem.optimum
        # slow contenders have fewer runs and steps
        few = range(2)
        short, one = (work.cut(max(5, min(work.steps // 10, most))) for most in (500, 200))

        def contenders(work: Work, short: Work, one: Work, few: range) -> dict[str, tuple[Callable[[], Any], int]]:
            """The functions to run by name, with their runs times steps."""
            whole, part, single = work.runs * work.steps, short.runs * short.steps, len(few) * one.steps
            runners: dict[str, tuple[Callable[[], Any], int]] = {
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
        timed = contenders(work, short, one, few)
        runners = {name: run for name, (run, _) in timed.items()}
        per = {name: 1e6 / count for name, (_, count) in timed.items()}
        first = in_turn(runners, 1)
        row = compared("sweeps", work.title, "µs/run/step", runners, repeats, per, deviation=worst, steps=work.steps)
        row["compiling"] = {
            name: first[name][0] - row["median"][name] / per[name] for name in ("jax hand", "jax autodiff + optax")
        }
        rows.append(row)
    return rows


def agreement(title: str, work: Work, contenders: Callable[..., Any]) -> float:
    """Largest deviation of any contender from plain NumPy in iterates and values, for little work."""
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


def fixed_costs(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    """A complete sweep of 1000 steps on the smallest problem, which shows the fixed cost of a call."""
    rows = []
    for work in [] if quick else works(False)[:2]:
        short = dataclasses.replace(work, steps=1000)
        runners: Runners = {
            "optbench": optbench_peer.sweep(short),
            "jax hand": jax_peer.sweep(short, "hand"),
            "optbench with its tables": optbench_peer.sweep(short, tables=True),
            "optbench, 1 step": optbench_peer.sweep(work.cut(1)),
        }
        in_turn(runners, 2)
        title = f"{work.title}, 1000 steps, the whole call"
        rows.append(compared("fixed", title, "ms", runners, 2 * repeats, dict.fromkeys(runners, 1e3)))
    return rows


# ---- L-BFGS ----------------------------------------------------------------------------------------------------------


def lbfgs(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    rows, columns, runs = (300, 9, 5) if quick else (10_000, 99, 100)
    problem = Logistic(data="synthetic", rows=rows, columns=columns, l2=1e-3)
    Z, starts, tolerance = np.asarray(problem.Z), np.asarray(problem.starts(range(runs))), 1e-6
    _ = problem.optimum  # computed once per problem
    runners: Runners = {
        "optbench": functools.partial(optbench_peer.lbfgs, problem, runs, tolerance, cores),
        "scipy L-BFGS-B": functools.partial(scipy_peer.lbfgs, Z, problem.l2, starts, tolerance),
    }
    table = runners["optbench"]().table
    if set(table["status"]) != {"gradient"}:
        raise SystemExit("L-BFGS: not every run of optbench reached the gradient norm")
    x, evaluations = runners["scipy L-BFGS-B"]()
    norm = np.linalg.norm(problem.value_and_grad(x)[1], axis=-1)
    if not np.all(norm <= tolerance * (1 + 1e-6)):
        raise SystemExit(f"L-BFGS: scipy stopped at a gradient norm of {norm.max():.1e}")
    title = f"L-BFGS, {runs} runs, logistic n={rows} d={problem.dim}, to a gradient norm of 1e-6"
    counts = {"optbench": float(table["gradients"].mean()), "scipy L-BFGS-B": evaluations / runs}
    return [compared("lbfgs", title, "s", runners, repeats, dict.fromkeys(runners, 1.0), evaluations=counts)]


# ---- benchopt --------------------------------------------------------------------------------------------------------


def recorded_points(quick: bool, repeats: int, cores: int) -> list[dict[str, Any]]:
    """The cost of a recorded point on one core: in a sweep of momentum, and in benchopt with one such run."""
    if cores > 1:
        return []
    work = works(quick)[0]  # the smallest quadratic with momentum
    work = work.cut(20 if quick else 1000)
    runners: Runners = {
        "optbench": optbench_peer.recorded(work),
        "benchopt": functools.partial(benchopt_peer.curve, work.steps, work.rates[-1], work.seeds[0]),
    }
    points = runners["optbench"]()
    if points != work.runs * (work.steps + 1):
        raise SystemExit("a recorded point: optbench has not recorded all points")
    values = runners["benchopt"]()
    reference = numpy_peer.one_by_one(work, range(len(work.rates) - 1, len(work.rates)))().values  # (T, 1)
    assert reference is not None
    worst = check("a recorded point", "benchopt", values[: work.steps][None, :], reference.T)
    per = {"optbench": 1e6 / points, "benchopt": 1e6 / len(values)}
    title = f"a recorded point of {work.title}, {work.steps} steps"
    return [compared("benchopt", title, "µs", runners, repeats, per, deviation=worst)]


SECTIONS = {
    "rules": fused_rules,
    "sweeps": sweeps,
    "fixed": fixed_costs,
    "lbfgs": lbfgs,
    "benchopt": recorded_points,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(SECTIONS))
    options = parser.parse_args()
    load = os.getloadavg()
    rows = [
        row
        for name, measure in SECTIONS.items()
        if name in options.only.split(",")
        for row in measure(options.quick, options.repeats, options.cores)
    ]
    json.dump({"rows": rows, "load": [load, os.getloadavg()]}, sys.stdout)


if __name__ == "__main__":
    main()
