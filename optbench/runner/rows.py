"""From the results of chunks to the rows that are stored, and to `Runs`."""

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
    """The time in UTC, as stored rows have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class ChunkResult:
    """The trace of a chunk, or why there is none, the device memory it took, and when it ended."""

    trace: Trace | None
    error: str | None = None
    device_bytes: int | None = None
    created: str = dataclasses.field(default_factory=time_now)

    @classmethod
    def failed(cls, error: BaseException) -> ChunkResult:
        return cls(None, f"{type(error).__name__}: {error}")


def chunk_rows(chunk: Chunk, result: ChunkResult) -> list[dict[str, Any]]:
    """The rows of a chunk, with the columns `COLUMNS`; those that ran also hold their last iterate ``x``, not stored.

    Lists are arrays here: their numbers become Arrow's without a Python object for each.
    """
    trace = result.trace
    rows = list(_identity_columns(chunk, result))
    if trace is None:
        lists: dict[str, Any] = {name: [] for name, (kind, _) in COLUMNS.items() if kind.startswith(("list", "map"))}
        lists.pop("calls_to_target")
        return [row | lists | {"status": Status.FAILED, "error": result.error} for row in rows]
    exact = chunk.plan.problem.sampler((0,), chunk.plan.batch_size) is None
    return [row | _run_columns(trace, r) | {"exact_targets": exact} for r, row in enumerate(rows)]


def _run_columns(trace: Trace, r: int) -> dict[str, Any]:
    """The columns that tell what run r did."""
    end = int(trace.end[r])
    count = int((trace.t <= end).sum())  # checkpoints up to the end
    # the end itself, where it lies between two checkpoints
    adds_end = trace.t[count - 1] < end and trace.status[r] in (Status.TARGET, Status.GRADIENT)

    def curve(values: np.ndarray, at_end: float = np.nan) -> np.ndarray:
        return np.append(values[:count], at_end) if adds_end else values[:count]

    def calls_at(t: Any) -> Any:
        """Oracle calls made up to the iterate after t steps: one for the start, and one in each step."""
        return (t + 1) * trace.calls_per_step

    t, calls = curve(trace.t, end).astype(int), calls_at(end)
    return {
        "status": trace.status[r],
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
        "calls_to_target": None if np.isnan(trace.steps_to_target[r, 0]) else calls_at(trace.steps_to_target[r]),
        "t": t,
        "checkpoint_calls": calls_at(t),
        "f": curve(trace.f[r], trace.f_end[r]),
        "best": curve(trace.best[r], trace.best_end[r]),
        "gradient_norm": curve(trace.gradient_norm[r]),
        "metrics": [(name, curve(values[r])) for name, values in trace.metrics.items()],
        "x": trace.x[r],
    }


def _identity_columns(chunk: Chunk, result: ChunkResult) -> Iterator[dict[str, Any]]:
    """The columns that identify each run of a chunk, in the order of its runs; the other columns are None."""
    plan, problem = chunk.plan, chunk.plan.problem
    common = dict.fromkeys(COLUMNS) | {
        "created": result.created,
        "problem_spec": problem.spec,
        "chunk_runs": chunk.size,
        "fused": plan.problem_as_run.backend.fused is True,
        "device_bytes": result.device_bytes,
        # where its runs failed, the problem is not touched again: it may have taken a process down
        "description": describe(problem, evaluate=result.trace is not None),
    }
    if problem.optimum is not None:
        optimum = problem.optimum
        common |= {"f_star": optimum.f, "f_star_lower": optimum.lower, "f_star_method": optimum.method}
    by_point = [(point, method_columns(plan, point)) for point in chunk.grid]
    for seed, (point, columns) in itertools.product(chunk.seeds, by_point):
        yield common | columns | {"key": plan.key(point, seed), "identity": plan.identity(point, seed), "seed": seed}


def method_columns(plan: Plan, point: Mapping[str, float]) -> dict[str, Any]:
    """The columns of a problem, a method and one point of its grid, which runs and races share."""
    problem, settings, step_size = plan.problem, plan.settings(point), plan.recipe.kind.step_size
    return {
        "code": plan.code,
        "problem_name": problem.name,
        "problem_params": json.dumps(problem.params, sort_keys=True),
        "data_hash": problem.fingerprint,
        "dim": problem.dim,
        "optimizer": plan.recipe.name,
        "fixed": canonical(plan.fixed),
        "settings": json.dumps(settings, sort_keys=True),
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
    """`Runs` of chunks just computed, in the order of the plans, their seeds and their settings.

    The tables are made when they are first needed: this may take longer than the runs.
    """

    @functools.cache
    def runs() -> Runs:
        rows = [row for chunk, result in results for row in chunk_rows(chunk, result)]
        order = {key: position for position, key in enumerate(itertools.chain.from_iterable(p.keys for p in plans))}
        return Runs.from_rows(sorted(rows, key=lambda row: order[row["key"]]))

    def x() -> np.ndarray | None:
        trace = results[0][1].trace if len(results) == 1 else None  # the runs of a single chunk are in order
        return runs().x if trace is None else trace.x

    return Runs(lambda: runs().rows, environments, x)
