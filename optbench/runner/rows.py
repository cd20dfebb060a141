"""Convert results of chunks to rows of a store, and to `Runs`."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optbench.core.specs import canonical
from optbench.core.trace import Trace
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs, finite_or_none
from optbench.results.schema import COLUMNS
from optbench.runner.chunks import Chunk
from optbench.runner.describe import describe
from optbench.runner.plan import Plan


def time_now() -> str:
    """Current UTC time in the format of stored rows."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class ChunkResult:
    """Trace of a chunk or the error that stopped it, peak device memory, time of completion, and a known description."""

    trace: Trace | None
    error: str | None = None
    device_bytes: int | None = None
    created: str = dataclasses.field(default_factory=time_now)
    description: str | None = None


def chunk_rows(chunk: Chunk, result: ChunkResult) -> list[dict[str, Any]]:
    """The rows of a chunk, with the columns `COLUMNS`; rows of finished runs also have the last iterate ``x``.

    Lists are NumPy arrays, which Arrow converts faster than Python lists.
    """
    trace = result.trace
    rows = list(_common_columns(chunk, result))
    if trace is None:
        lists: dict[str, Any] = {name: [] for name, (kind, _) in COLUMNS.items() if kind.startswith(("list", "map"))}
        lists.pop("calls_to_target")
        return [row | lists | {"status": Status.FAILED, "error": result.error} for row in rows]
    exact = chunk.plan.problem.sampler((0,), chunk.plan.batch_size) is None
    return [row | _run_columns(trace, r) | {"exact_targets": exact} for r, row in enumerate(rows)]


def _run_columns(trace: Trace, r: int) -> dict[str, Any]:
    """The columns with the results of run r."""
    end = int(trace.end[r])
    count = int((trace.t <= end).sum())  # checkpoints up to the end
    # a run that stopped between two checkpoints also records its end
    adds_end = trace.t[count - 1] < end and trace.status[r] in (Status.TARGET, Status.GRADIENT)

    def curve(values: np.ndarray, at_end: float = np.nan) -> np.ndarray:
        return np.append(values[:count], at_end) if adds_end else values[:count]

    def calls_at(t: Any) -> Any:
        """Oracle calls up to iterate t: one at the start and one in each step."""
        return (t + 1) * trace.calls_per_step

    t, calls = curve(trace.t, end).astype(int), calls_at(end)
    targets, unresolved = calls_at(trace.steps_to_target[r]), np.isnan(trace.steps_to_target[r])  # each (50,)
    if unresolved.any():  # null in tables, or no list at all
        targets = None if unresolved.all() else np.where(unresolved, None, targets)
    return {
        "status": trace.status[r],
        "error": trace.errors[r],
        "end": end,
        "oracle": trace.oracle,
        "calls": calls,
        "values": calls,
        "gradients": 0.0 if trace.oracle == Oracle.VALUE else calls,
        "hessians": calls if trace.oracle == Oracle.HESSIAN else 0.0,
        "calls_per_step": trace.calls_per_step,
        "budget_calls": calls_at(trace.steps),
        "f_start": finite_or_none(trace.f[r, 0]),
        "f_end": finite_or_none(trace.f_end[r]),
        "f_best": finite_or_none(trace.best_end[r]),
        "calls_to_target": targets,
        "t": t,
        "checkpoint_calls": calls_at(t),
        "f": curve(trace.f[r], trace.f_end[r]),
        "best": curve(trace.best[r], trace.best_end[r]),
        "gradient_norm": curve(trace.gradient_norm[r]),
        "metrics": [(name, curve(values[r])) for name, values in trace.metrics.items()],
        "x": trace.x[r],
    }


def _common_columns(chunk: Chunk, result: ChunkResult) -> Iterator[dict[str, Any]]:
    """For each run of a chunk: the columns that identify it; all other columns are None."""
    plan, problem = chunk.plan, chunk.plan.problem
    common = dict.fromkeys(COLUMNS) | {
        "created": result.created,
        "problem_spec": problem.spec,
        "chunk_runs": chunk.size,
        "fused": plan.is_compiled,
        "device_bytes": result.device_bytes,
        # after a failure the problem is not evaluated again, because it may have ended a process
        "description": result.description or describe(problem, evaluate=result.trace is not None),
    }
    if problem.is_solved and problem.optimum is not None:
        optimum = problem.optimum
        common |= {"f_star": optimum.f, "f_star_lower": optimum.lower, "f_star_method": optimum.method}
    by_point = [(point, method_columns(plan, point)) for point in chunk.grid]
    for seed, (point, columns) in itertools.product(chunk.seeds, by_point):
        yield common | columns | {"key": plan.key(point, seed), "identity": plan.identity(point, seed), "seed": seed}


def method_columns(plan: Plan, point: Mapping[str, float]) -> dict[str, Any]:
    """Columns of rows and races that describe the problem, the method and one point of its grid."""
    problem, settings, step_size = plan.problem, plan.settings(point), plan.recipe.kind.step_size
    return {
        "code": plan.code,
        "problem_name": problem.name or type(problem).__name__,
        "problem_origin": plan.problem_origin,
        "problem_params": json.dumps(plan.params, sort_keys=True),
        "data_hash": plan.data_hash,
        "dim": problem.dim,
        "optimizer": plan.recipe.name,
        "optimizer_origin": plan.optimizer_origin,
        "fixed": canonical({key: plan.plain(value) for key, value in plan.fixed.items()}),
        "settings": json.dumps({key: plan.plain(value) for key, value in settings.items()}, sort_keys=True),
        "step_size": float(settings[step_size]) if step_size else None,
        "schedule": plan.schedule,
        "batch_size": plan.batch_size,
        "steps": plan.steps,
        "backend": problem.backend.name,
        "precision": problem.backend.precision,
    }


def runs_from_chunks(
    results: Sequence[tuple[Chunk, ChunkResult]], plans: Sequence[Plan], environments: Iterable[Mapping[str, str]] = ()
) -> Runs:
    """`Runs` from results of chunks, in the order of the plans, their seeds and their settings.

    The rows are built on first use, because that may take longer than the runs.
    """

    @functools.cache
    def runs() -> Runs:
        rows = [row for chunk, result in results for row in chunk_rows(chunk, result)]
        order = {key: position for position, key in enumerate(itertools.chain.from_iterable(p.keys for p in plans))}
        return Runs.from_rows(sorted(rows, key=lambda row: order[row["key"]]))

    def x() -> np.ndarray | None:
        trace = results[0][1].trace if len(results) == 1 else None  # a single chunk is in order, so `x` needs no rows
        return runs().x if trace is None else trace.x

    return Runs(lambda: runs().rows, environments, x)
