"""What a chunk of runs leaves, as the rows that are stored."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.specs import canonical
from optbench.core.trace import Trace
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs, finite_or_none
from optbench.results.schema import COLUMNS
from optbench.runner.chunks import Chunk
from optbench.runner.describe import describe
from optbench.runner.plan import Plan

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class Done:
    """What a chunk left, or why it left nothing, the device memory it took, and when it ended."""

    trace: Trace | None
    error: str | None = None
    device_bytes: int | None = None
    created: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    )

    @classmethod
    def failed(cls, error: BaseException) -> Done:
        return cls(None, f"{type(error).__name__}: {error}")


def rows_of(chunk: Chunk, done: Done) -> list[dict[str, Any]]:
    """The rows of a chunk; where it ran, each holds beside the columns its last iterate `x`, which is not stored."""
    trace = done.trace
    lists: dict[str, Any] = {name: [] for name in ("t", "checkpoint_calls", "f", "best", "gradient_norm", "metrics")}
    if trace is None:
        return [row | lists | {"status": Status.FAILED, "error": done.error} for row in _asked(chunk, done)]

    def calls_at(t: Any) -> Any:
        """Oracle calls made up to the iterate after t steps: one for the start, and one in each step."""
        return (t + 1) * trace.calls_per_step

    rows = []
    exact = chunk.plan.problem.sampler((0,), chunk.plan.batch_size) is None
    for r, row in enumerate(_asked(chunk, done)):
        end = int(trace.end[r])
        t = trace.t[trace.t <= end]
        keep = slice(0, len(t))
        f, best = trace.f[r, keep], trace.best[r, keep]
        norms = trace.gradient_norm[r, keep]
        metrics = {name: values[r, keep] for name, values in trace.metrics.items()}
        # the end itself, where it lies between two checkpoints
        if t[-1] < end and trace.status[r] in (Status.TARGET, Status.GRADIENT):
            t = np.append(t, end)
            f, best = np.append(f, trace.f_end[r]), np.append(best, trace.best_end[r])
            norms = np.append(norms, np.nan)
            metrics = {name: np.append(values, np.nan) for name, values in metrics.items()}
        calls = calls_at(end)
        known = not np.isnan(trace.steps_to_target[r, 0])
        row.update(
            status=trace.status[r],
            error=None,
            end=end,
            oracle=trace.oracle,
            calls=calls,
            values=calls,
            gradients=0.0 if trace.oracle == Oracle.VALUE else calls,
            hessians=calls if trace.oracle == Oracle.HESSIAN else 0.0,
            calls_per_step=trace.calls_per_step,
            budget_calls=calls_at(trace.steps),
            f_start=finite_or_none(trace.f[r, 0]),
            f_end=finite_or_none(trace.f_end[r]),
            f_best=finite_or_none(trace.best_end[r]),
            calls_to_target=calls_at(trace.steps_to_target[r]).tolist() if known else None,
            exact_targets=exact,
            t=t.tolist(),
            checkpoint_calls=calls_at(t).tolist(),
            f=f.tolist(),
            best=best.tolist(),
            gradient_norm=norms.tolist(),
            metrics=[(name, values.tolist()) for name, values in metrics.items()],
            x=trace.x[r],
        )
        rows.append(row)
    return rows


def _asked(chunk: Chunk, done: Done) -> Iterator[dict[str, Any]]:
    """What was asked of each run of a chunk, in the order of its rows; the other columns are None."""
    plan, problem = chunk.plan, chunk.plan.problem
    common = dict.fromkeys(COLUMNS) | {
        "code": plan.code,
        "created": done.created,
        "problem_spec": problem.spec,
        "problem_name": problem.name,
        "problem_params": json.dumps(problem.params, sort_keys=True),
        "data_hash": problem.fingerprint,
        "dim": problem.dim,
        "optimizer": plan.recipe.name,
        "fixed": canonical(plan.fixed),
        "schedule": plan.schedule,
        "batch_size": plan.batch_size,
        "steps": plan.steps,
        "backend": problem.backend.name,
        "precision": problem.backend.precision,
        "chunk_runs": chunk.size,
        "fused": plan.problem_as_run.backend.fused is True,
        "device_bytes": done.device_bytes,
        # where its runs failed, the problem is not touched again: it may have taken a process down
        "description": describe(problem, evaluate=done.trace is not None),
    }
    if problem.optimum is not None:
        optimum = problem.optimum
        common |= {"f_star": optimum.f, "f_star_lower": optimum.lower, "f_star_method": optimum.method}
    step_size = plan.recipe.kind.step_size
    for seed, point in chunk.runs:
        settings = plan.settings(point)
        yield common | {
            "key": plan.key(point, seed),
            "identity": plan.identity(point, seed),
            "settings": json.dumps(settings, sort_keys=True),
            "step_size": float(settings[step_size]) if step_size else None,
            "seed": seed,
        }


def gathered(
    parts: Sequence[tuple[Chunk, Done]], plans: Sequence[Plan], environments: Iterable[Mapping[str, str]] = ()
) -> Runs:
    """`Runs` of chunks just computed, in the order of the plans, their seeds and their settings.

    The tables are made when they are first asked for: they may take longer than the runs.
    """

    @functools.cache
    def runs() -> Runs:
        found = [row for chunk, done in parts for row in rows_of(chunk, done)]
        order = {
            key: i for i, key in enumerate(plan.key(p, s) for plan in plans for s in plan.seeds for p in plan.grid)
        }
        return Runs.from_rows(sorted(found, key=lambda row: order[row["key"]]))

    def x() -> np.ndarray | None:
        alone = parts[0][1].trace if len(parts) == 1 else None  # one chunk is in order
        return runs().x if alone is None else alone.x

    return Runs(lambda: runs().rows, environments, x)
