"""Chunks: how a plan is cut into arrays of runs, and how long they take.

The size of an array decides how sums are rounded. So the cut depends on the plan alone, never on the number of cores or
processes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optbench.core.errors import blaming
from optbench.core.imports import Imports
from optbench.core.memory import check_memory
from optbench.core.trace import Trace
from optbench.runner.loop import minimize
from optbench.runner.plan import STEP_SECONDS, Parallelism, Plan, check_count, plan_seconds, run_nanoseconds

# An array has as many runs as fit CHUNK_BYTES of intermediate results, but at least CHUNK_RUNS if MEMORY_BYTES allow it.
# Measurements: docs/explanation/design-notes/2026-11-23-chunks.md.
CHUNK_BYTES = 4 << 20
CHUNK_RUNS = 16
MEMORY_BYTES = 1 << 30  # on a GPU arrays always have this size

# Large plans are cut for this many cores, on every machine. Costs are in units of one run, see `count_parts`.
CORES = 4
CHUNK_COST = 10  # overhead of a chunk
BATCH_COST = 4  # overhead of each seed in a chunk, with mini-batches
MIN_CORE_RUNS = 20  # runs per chunk when a plan is cut for cores
MIN_CORE_SECONDS = 0.5  # work of a plan that is cut for cores; starting processes does not pay for less
MIN_CORE_NANOSECONDS = 2000.0  # per run and step; below, overhead dominates and smaller chunks save no time
SINGLE_RUN_NANOSECONDS = 1e6  # per run and step; above, runs with their own d x d matrices gain nothing from sharing


@dataclass(frozen=True, eq=False)
class Chunk:
    """Part of a plan that is computed as one array of runs."""

    plan: Plan
    grid: tuple[dict[str, float], ...]
    seeds: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.grid) * len(self.seeds)

    @property
    def seconds(self) -> float:
        """Estimated seconds of the chunk, on one core."""
        return self.plan.steps * (self.size * run_nanoseconds(self.plan) * 1e-9 + STEP_SECONDS)

    def pieces(self) -> list[Chunk]:
        """The settings of this chunk one by one; the seeds of a single setting."""
        if len(self.grid) > 1:
            return [Chunk(self.plan, (point,), self.seeds) for point in self.grid]
        return [Chunk(self.plan, self.grid, (seed,)) for seed in self.seeds]

    def __reduce__(self) -> tuple[Any, ...]:
        # the imports are unpickled before the plan, which refers to them
        return _chunk_of, (Imports(), self.plan, self.grid, self.seeds)

    def compute(self, progress: Callable[[int], None] | None = None) -> Trace:
        """Run the chunk; `progress` is called with the number of steps since its last call."""
        plan = self.plan
        problem, xp = plan.problem_as_run, plan.problem_as_run.backend.xp
        starts = problem.starts(self.seeds)  # (S, d)
        shape = (len(self.seeds), len(self.grid), problem.dim)
        x0 = xp.reshape(xp.broadcast_to(starts[:, None, :], shape), (self.size, problem.dim))  # (R, d)
        return minimize(
            problem,
            plan.build(self.grid, self.seeds),
            x0,
            seeds=self.seeds,
            steps=plan.steps,
            batch_size=plan.batch_size,
            stop_at_target=plan.stop_at_target,
            stop_at_gradient=plan.stop_at_gradient,
            checkpoint_count=plan.checkpoint_count,
            progress=progress,
        )


def _chunk_of(imports: Imports, plan: Plan, grid: tuple[dict[str, float], ...], seeds: tuple[int, ...]) -> Chunk:
    return Chunk(plan, grid, seeds)


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def count_parts(plan: Plan) -> tuple[int, int]:
    """The number of parts into which the seeds and the settings of a plan are cut.

    Among the cuts of S seeds into p parts and L settings into q parts whose chunks fit the cache, this minimizes ::

        time = ceil(p q / cores) * (s (l + b) + CHUNK_COST)        s = ceil(S / p),  l = ceil(L / q)

    where b is `BATCH_COST` with mini-batches and 0 without. Ties go to the smallest q. `cores` is 1 unless the plan is cut
    for several cores and large enough for that to pay.
    """
    S, L = len(plan.seeds), len(plan.grid)
    on_cpu = plan.problem.backend.name == "numpy"
    max_runs = _max_runs(plan)
    cores, min_runs = 1, max_runs
    nanoseconds = run_nanoseconds(plan)
    is_large = nanoseconds >= MIN_CORE_NANOSECONDS and plan_seconds(plan) >= MIN_CORE_SECONDS
    if plan.parallelism is Parallelism.CHUNKS and on_cpu and is_large:
        # small chunks are slow, unless each run has large matrices of its own
        single_runs_pay = plan.recipe.kind.matrices and nanoseconds >= SINGLE_RUN_NANOSECONDS
        cores, min_runs = CORES, 1 if single_runs_pay else min(MIN_CORE_RUNS, max_runs // 2)
    batch_cost = 0 if plan.batch_size is None else BATCH_COST

    def cost(parts: tuple[int, int]) -> tuple[int, int, int]:
        seed_parts, grid_parts = parts
        seeds, settings = ceil_div(S, seed_parts), ceil_div(L, grid_parts)
        rounds = ceil_div(seed_parts * grid_parts, cores)
        return rounds * (seeds * (settings + batch_cost) + CHUNK_COST), grid_parts, seed_parts

    cuts = []
    for seed_parts in range(1, S + 1):
        seeds = ceil_div(S, seed_parts)
        min_grid_parts = ceil_div(L, max(1, max_runs // seeds))
        if seeds * ceil_div(L, min_grid_parts) <= max_runs:
            max_grid_parts = min(L, min_grid_parts + CORES - 1)
            cuts += [(seed_parts, grid_parts) for grid_parts in range(min_grid_parts, max_grid_parts + 1)]
    max_chunks = max(min(p * q for p, q in cuts), S * L // max(1, min_runs))
    return min((cut for cut in cuts if cut[0] * cut[1] <= max_chunks), key=cost)


def chunks_of(plan: Plan, is_missing: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
    """Chunks of all runs, or of those whose key is missing. Each is a product of some settings and some seeds.

    The cut does not depend on what is missing, so an interrupted plan continues with the same arrays.
    """
    seed_parts, grid_parts = count_parts(plan)
    for seeds in _pieces(plan.seeds, seed_parts):
        for indices in _pieces(range(len(plan.grid)), grid_parts):
            seeds_by_missing: dict[tuple[int, ...], list[int]] = {}  # seeds that lack the same settings
            for seed in seeds:
                missing = tuple(i for i in indices if is_missing is None or is_missing(plan.key(plan.grid[i], seed)))
                seeds_by_missing.setdefault(missing, []).append(seed)
            for missing, missing_seeds in seeds_by_missing.items():
                if missing:
                    yield Chunk(plan, tuple(plan.grid[i] for i in missing), tuple(missing_seeds))


def _pieces(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """The items in `count` consecutive pieces of almost equal length."""
    edges = [round(i * len(items) / count) for i in range(count + 1)]
    return [items[a:b] for a, b in itertools.pairwise(edges)]


def check_size(plans: Sequence[Plan]) -> None:
    """Raise `InputError` for plans with too many runs, or with arrays that do not fit into memory."""
    check_count(sum(plan.size for plan in plans))
    for plan in plans:
        runs = min(plan.size, _max_runs(plan))
        curves = 8 * 4 * plan.checkpoint_count  # bytes per run; two copies of values and of gradient norms
        check_memory(f"{plan.recipe.name} on {plan.problem.spec}", runs * (_bytes_per_run(plan) + curves))


def _bytes_per_run(plan: Plan) -> int:
    with blaming(plan.title):
        matrices: int = plan.recipe.kind.matrices
        size = int(plan.problem.bytes_per_run(plan.batch_size))
        if size < 1:
            raise ValueError(f"bytes_per_run() returned {size}, not a number above 0")
        return size + 8 * matrices * plan.problem.dim**2


def _max_runs(plan: Plan) -> int:
    """The number of runs of an array."""
    bytes_per_run = _bytes_per_run(plan)
    chunk_bytes = CHUNK_BYTES if plan.problem.backend.name == "numpy" else MEMORY_BYTES
    return max(1, chunk_bytes // bytes_per_run, min(CHUNK_RUNS, MEMORY_BYTES // bytes_per_run))


def for_cores(plans: Sequence[Plan]) -> list[Plan]:
    """The plans, with each plan that is a large part of the whole work cut for several cores.

    Smaller chunks take 20 % to 33 % longer in total, so a plan is not cut if there are enough plans for all cores.
    """
    share = sum(map(plan_seconds, plans)) / (2 * CORES)
    return [
        dataclasses.replace(plan, parallelism=Parallelism.CHUNKS) if plan_seconds(plan) >= share else plan
        for plan in plans
    ]


def for_threads(plans: Sequence[Plan]) -> list[Plan]:
    """Like `for_cores`, except that a single plan with products of one large shared matrix uses threads.

    Threads are faster there, because each process would read the whole matrix. Results do not depend on their number.
    """
    if len(plans) == 1 and _is_matrix_loop(plans[0]) and plan_seconds(plans[0]) >= MIN_CORE_SECONDS:
        return [dataclasses.replace(plans[0], parallelism=Parallelism.THREADS)]
    return for_cores(plans)


def _is_matrix_loop(plan: Plan) -> bool:
    """Whether a plan is one compiled loop with products of a matrix that all runs share."""
    with blaming(plan.title):
        problem, backend = plan.problem, plan.problem_as_run.backend
        is_loop = backend.name == "numpy" and backend.fused and not isinstance(plan.recipe.target, type)
        is_exact = problem.sampler(plan.seeds, plan.batch_size) is None
        return bool(problem.shares_matrix and is_loop and is_exact and run_nanoseconds(plan) >= MIN_CORE_NANOSECONDS)
