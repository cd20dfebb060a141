"""What is to be run: settings x seeds laid out as columns, the key of every run, and chunks that fit the cache.

A `Plan` is one sweep: one problem, one optimizer, a grid of settings and some seeds. Nothing here computes anything but
what a chunk of a plan asks for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from optbench.core.errors import InputError
from optbench.core.specs import canonical, format_spec
from optbench.core.trace import Trace
from optbench.optimizer import Optimizer, Recipe, make_recipe
from optbench.optimizers.schedules import Schedule, make_schedule
from optbench.problem import Problem
from optbench.results.schema import VERSION
from optbench.runner.loop import check_pair, minimize

# How many runs share an array: as many as keep this much in flight, but at least a few, unless even they take too much.
# Measured: see CONTRIBUTING, "Chunks".
CHUNK_BYTES = 4 << 20
CHUNK_RUNS = 16
MEMORY_BYTES = 1 << 30  # on a device, which no cache tells how much is best, this much is filled
# Numbers that a plan moves, from which on what it needs is compiled; below, loading and compiling take longer than they
# save. A first compilation takes seconds, once a machine.
WORTH_IT = 1e8

# A plan of much work is cut for cores besides, and always for the same number: chunks decide how sums are rounded, so they
# must not depend on where a plan is run. A chunk of R runs takes about as long as R + CHUNK_COST runs would if all shared
# one, and with mini-batches each of its seeds as much as BATCH_COST further runs.
CORES = 4
CORE_RUNS = 20  # fewest runs a chunk that plans are cut to for cores
CORE_SECONDS = 0.5  # work of a plan from which on it is cut for them; below, processes would not be worth their start
CORE_NANOSECONDS = 2000.0  # and of one run and step; below, a step costs about the same whatever its number of runs
ALONE_NANOSECONDS = 1e6  # from which on runs with d x d matrices of their own are as well computed one by one
CHUNK_COST = 10
BATCH_COST = 4


@dataclass(frozen=True, eq=False)
class Plan:
    """One sweep, checked.

    Attributes
    ----------
    problem : Problem
        On the backend to compute with.
    recipe : Recipe
        The optimizer and its fixed settings.
    grid : tuple of dict
        The L settings to be swept, each a number by name of a hyperparameter.
    seeds : tuple of int
        The S seeds.
    schedule : str
        Learning-rate schedule, as a spec.
    steps : int
    batch_size : int or None
    stop_at_target : bool
        Whether a run ends once it reaches the last target.
    stop_at_gradient : float or None
        Norm of the gradient at which a run ends.
    checkpoint_count : int
    fused : bool
        Whether what can be compiled is, unless the backend says otherwise.
    cut : bool
        Whether chunks are made small enough for several cores to share the plan, if it is large; see `for_cores`.
    shared : bool
        Whether several cores share the matrix products of the one chunk instead; see `for_threads`.
    """

    problem: Problem
    recipe: Recipe
    grid: tuple[dict[str, float], ...]
    seeds: tuple[int, ...]
    schedule: str
    steps: int
    batch_size: int | None = None
    stop_at_target: bool = False
    stop_at_gradient: float | None = None
    checkpoint_count: int = 100
    fused: bool = False
    cut: bool = False
    shared: bool = False

    @property
    def size(self) -> int:
        """Number of runs, R = S L."""
        return len(self.seeds) * len(self.grid)

    @cached_property
    def placed(self) -> Problem:
        """The problem on a backend that says whether what can be compiled is."""
        backend = self.problem.backend
        if backend.fused is not None or not self.fused:
            return self.problem
        return self.problem.on(dataclasses.replace(backend, fused=True))

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Fixed settings that differ from their defaults, without the step size."""
        declared, swept = self.recipe.declared, {*self.grid[0], self.recipe.kind.step_size}
        settings = self.recipe.settings.items()
        return {name: value for name, value in settings if name not in swept and value != declared[name].default}

    @property
    def optimizer_spec(self) -> str:
        """Name and fixed settings of the optimizer."""
        return format_spec(self.recipe.name, self.fixed)

    @property
    def method(self) -> str:
        """What is compared in tables and figures: optimizer, schedule and batch size, tuned over the grid."""
        parts = [self.optimizer_spec]
        if self.schedule != "constant":
            parts.append(self.schedule)
        if self.batch_size is not None:
            parts.append(f"batch {self.batch_size}")
        return ", ".join(parts)

    def settings(self, point: Mapping[str, float]) -> dict[str, Any]:
        """All hyperparameters of one point of the grid, defaults included."""
        defaults = {key: p.default for key, p in self.recipe.declared.items()}
        return {key: _plain(v) for key, v in (defaults | self.recipe.settings | dict(point)).items()}

    @cached_property
    def _common(self) -> str:
        """What the identities of all runs of this plan share, as canonical JSON."""
        problem = self.problem
        stop = {} if self.stop_at_gradient is None else {"stop_at_gradient": self.stop_at_gradient}
        return canonical(
            {
                "schema": VERSION,
                "problem": [problem.name, {k: _plain(v) for k, v in problem.params.items()}, problem.fingerprint],
                "optimizer": self.recipe.name,
                "schedule": self.schedule,
                "steps": self.steps,
                "batch_size": self.batch_size,
                "stop_at_target": self.stop_at_target,
                "checkpoints": self.checkpoint_count,
                "backend": problem.backend.name,
                "precision": problem.backend.precision,
                **stop,
            }
        )

    @cached_property
    def code(self) -> str:
        """Hash of the source text that decides the result."""
        return _hash(self.problem.code_version + self.recipe.code_version)[:16]

    def identity(self, point: Mapping[str, float], seed: int) -> str:
        """Hash of everything that was asked of a run; the same for every version of the code."""
        return _hash(f"{self._common}{canonical(self.settings(point))}{seed}")

    @cached_property
    def _keys(self) -> dict[tuple[Any, ...], str]:
        return {}

    def key(self, point: Mapping[str, float], seed: int) -> str:
        """Hash of everything that determines the result of a run."""
        place = (*point.values(), seed)  # the names are those of the grid
        if place not in self._keys:
            self._keys[place] = _hash(self.identity(point, seed) + self.code)
        return self._keys[place]

    def build(self, grid: Sequence[Mapping[str, float]], seeds: Sequence[int]) -> Optimizer:
        """The optimizer for the stack of `grid` x `seeds`: swept settings as sequences of length R, seed by seed."""
        _, schedule = make_schedule(self.schedule)
        swept = {key: np.tile([point[key] for point in grid], len(seeds)) for key in grid[0]}  # each (R,)
        fixed = {key: value for key, value in self.recipe.settings.items() if key not in swept}
        return self.recipe.build(fixed | swept, self._factor(schedule), fused=self.fused)

    def _factor(self, schedule: Schedule) -> Callable[[int], float] | None:
        if self.schedule == "constant":
            return None
        return lambda t: schedule(t, self.steps)

    @cached_property
    def nanoseconds(self) -> float:
        """Roughly how long a step of one run of a large stack takes, on one core."""
        kind, d = self.recipe.kind, self.problem.dim
        own: float = 3.0 * d + 3.0 * kind.matrices * d**2 + (0.4 * d**3 if kind.oracle == "hessian" else 0.0)
        return self.problem.nanoseconds_per_run(self.batch_size) + own

    @property
    def seconds(self) -> float:
        """Roughly how long the whole plan takes, on one core."""
        return self.nanoseconds * self.size * self.steps * 1e-9

    @property
    def turns_a_matrix(self) -> bool:
        """Whether its steps are compiled into one loop around products with a matrix that all runs share."""
        if self.placed.backend.name != "numpy" or not self.placed.backend.fused or self.stop_at_gradient is not None:
            return False
        rule = not isinstance(self.recipe.target, type) and set(self.grid[0]) <= {"lr"}
        formula = self.problem.oracle_formula
        if not rule or formula is None or self.problem.sampler(self.seeds, self.batch_size) is not None:
            return False
        return self.nanoseconds >= CORE_NANOSECONDS and any(np.ndim(part) == 2 for part in formula.data)

    def _parts(self) -> tuple[int, int]:
        """Into how many parts the seeds and the settings are cut."""
        S, L = len(self.seeds), len(self.grid)
        each = self.problem.bytes_per_run(self.batch_size)
        each += 8 * self.recipe.kind.matrices * self.problem.dim**2
        room = CHUNK_BYTES if self.problem.backend.name == "numpy" else MEMORY_BYTES
        most = max(1, room // each, min(CHUNK_RUNS, MEMORY_BYTES // each))
        cores, least = 1, most
        if (
            self.cut
            and self.problem.backend.name == "numpy"
            and self.nanoseconds >= CORE_NANOSECONDS
            and self.seconds >= CORE_SECONDS
        ):
            # large matrices of their own are nothing that runs share; else so few of them would be dear
            alone = self.recipe.kind.matrices and self.nanoseconds >= ALONE_NANOSECONDS
            cores, least = CORES, 1 if alone else min(CORE_RUNS, most // 2)
        batches = 0 if self.batch_size is None else BATCH_COST

        def cost(parts: tuple[int, int]) -> tuple[int, int, int]:
            """How long so many cores would take, in runs; of equals, the one that cuts the fewest settings."""
            seeds, points = -(-S // parts[0]), -(-L // parts[1])
            rounds = -(-parts[0] * parts[1] // cores)
            return rounds * (seeds * (points + batches) + CHUNK_COST), parts[1], parts[0]

        shapes = []
        for a in range(1, S + 1):
            fewest = -(-L // max(1, most // -(-S // a)))  # parts of the settings, so that the runs fit
            if -(-S // a) * -(-L // fewest) <= most:
                shapes += [(a, b) for b in range(fewest, min(L, fewest + CORES - 1) + 1)]
        enough = max(min(a * b for a, b in shapes), S * L // max(1, least))
        return min((parts for parts in shapes if parts[0] * parts[1] <= enough), key=cost)

    def chunks(self, missing: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
        """Chunks of the runs whose key is missing, or of all. Each is a full product of some settings and some seeds.

        The chunks of a plan do not depend on what is missing, only which of their runs are left; so a plan that was
        interrupted between two chunks goes on with the very same arrays.
        """
        parts_of_seeds, parts_of_grid = self._parts()
        for seeds in _pieces(self.seeds, parts_of_seeds):
            for points in _pieces(range(len(self.grid)), parts_of_grid):
                left: dict[tuple[int, ...], list[int]] = {}
                for seed in seeds:
                    wanted = tuple(i for i in points if missing is None or missing(self.key(self.grid[i], seed)))
                    left.setdefault(wanted, []).append(seed)
                for wanted, those in left.items():
                    if wanted:
                        yield Chunk(self, tuple(self.grid[i] for i in wanted), tuple(those))


@dataclass(frozen=True, eq=False)
class Chunk:
    """Part of a plan that is one array of runs."""

    plan: Plan
    grid: tuple[dict[str, float], ...]
    seeds: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.grid) * len(self.seeds)

    @property
    def runs(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Seed and settings of each run, in the order of the rows."""
        return itertools.product(self.seeds, self.grid)

    def compute(self, progress: Callable[[int], None] | None = None) -> Trace:
        """Run the chunk."""
        plan = self.plan
        problem, xp = plan.placed, plan.placed.backend.xp
        starts = problem.starts(self.seeds)  # (S, d)
        shape = (len(self.seeds), len(self.grid), problem.dim)
        x0 = xp.reshape(xp.broadcast_to(starts[:, None, :], shape), (self.size, problem.dim))
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


def for_cores(plans: Sequence[Plan]) -> list[Plan]:
    """Plans of which those are cut for several cores that are a large part of the whole.

    Smaller chunks take a fifth to a third longer together, so it is not done where there are plans enough to share. What is
    cut does not depend on the number of cores or processes, so neither do the numbers.
    """
    share = sum(plan.seconds for plan in plans) / (2 * CORES)
    return [dataclasses.replace(plan, cut=plan.seconds >= share) for plan in plans]


def for_threads(plans: Sequence[Plan]) -> list[Plan]:
    """`for_cores`, but a plan that stands alone and is one compiled loop around a large matrix shares its products.

    That is faster: of several processes each would read and pack the matrix on its own. How BLAS rounds depends on its
    number of threads, so it is only for calls that say how many.
    """
    if len(plans) == 1 and plans[0].turns_a_matrix and plans[0].seconds >= CORE_SECONDS:
        return [dataclasses.replace(plans[0], shared=True)]
    return for_cores(plans)


def make_plans(
    problem: Problem,
    optimizer: Any,
    settings: Mapping[str, Any] | None = None,
    *,
    seeds: int | Iterable[int] = 10,
    steps: int | None = None,
    calls: float | None = None,
    batch_size: int | Sequence[int] | None = None,
    linear_scaling: bool = False,
    schedule: str | Sequence[str] = "constant",
    stop_at_target: bool = False,
    stop_at_gradient: float | None = None,
    checkpoint_count: int = 100,
    fused_from: float = WORTH_IT,
) -> list[Plan]:
    """The plans of a sweep: one for each batch size, schedule and combination of settings that cannot share an array.

    Parameters
    ----------
    problem : Problem
        On the backend to compute with.
    optimizer : str, rule, Optimizer class or Recipe
    settings : mapping
        Hyperparameters by name; a sequence of values is swept, several sequences are swept as their product.
    seeds : int or iterable of int
        How many seeds (0, 1, ...), or which.
    steps, calls : int, float
        Budget of every run: steps, or oracle calls (a mini-batch counts its fraction). Exactly one; 1000 steps if neither.
    batch_size : int, sequence of int or None
        Samples a mini-batch; None for the full objective.
    linear_scaling : bool
        Whether the learning rate is given for the first batch size and multiplied by N for a batch N times as large (Goyal
        et al. 2017).
    schedule : str or sequence of str
        Specs such as ``"cosine:warmup=0.05"``.
    fused_from : float
        Numbers that a plan moves, from which on what can be compiled is. The whole plan decides, so that a chunk computes
        the same whatever else is left to do.

    Raises
    ------
    InputError
        If anything is impossible; nothing has been computed then.
    """
    recipe = optimizer if isinstance(optimizer, Recipe) else make_recipe(optimizer, settings)
    if isinstance(optimizer, Recipe) and settings:
        recipe = make_recipe(optimizer.target, optimizer.settings | dict(settings))._replace(name=optimizer.name)
    seed_list = _seeds(seeds)
    batches = list(batch_size) if isinstance(batch_size, Sequence) else [batch_size]
    specs = [schedule] if isinstance(schedule, str) else list(schedule)
    if steps is not None and calls is not None:
        raise InputError("a budget is either steps or calls; give one of them")
    if linear_scaling and (None in batches or recipe.kind.step_size != "lr"):
        raise InputError("linear_scaling needs batch sizes, and an optimizer with a learning rate")
    swept = {key: value for key, value in recipe.settings.items() if isinstance(value, tuple)}
    if recipe.kind.step_size and recipe.kind.step_size not in swept:
        name = recipe.kind.step_size
        swept[name] = (recipe.settings.get(name, recipe.declared[name].default),)
    fixed = {key: value for key, value in recipe.settings.items() if key not in swept}
    apart = [key for key in swept if key not in recipe.columns]
    together = [key for key in swept if key in recipe.columns]
    plans = []
    for size, spec in itertools.product(batches, specs):
        if size is not None and (isinstance(size, bool) or int(size) != size):
            raise InputError(f"batch_size must be a whole number, not {size!r}")
        check_pair(problem, recipe.kind, recipe.name, size, stop_at_gradient)
        spelled, _ = make_schedule(spec)
        if spelled != "constant" and recipe.kind.step_size != "lr":
            raise InputError(
                f"{recipe.name} has no learning rate, so the schedule {spec!r} would do nothing; leave it out"
            )
        scale = size / batches[0] if linear_scaling and size is not None and batches[0] else 1.0
        for values in itertools.product(*(swept[key] for key in apart)):
            grid = tuple(
                {key: v * scale if key == "lr" else v for key, v in zip(together, point, strict=True)}
                for point in itertools.product(*(swept[key] for key in together))
            )
            budget = steps if steps is not None else 1000
            if calls is not None:
                budget = max(1, round(calls / problem.calls_per_step(size)) - 1)
            if budget < 1:
                raise InputError(f"the budget must be at least one step, not {budget}")
            width = problem.bytes_per_run(size) / 32  # d, or more where samples make more intermediate results
            plans.append(
                Plan(
                    problem=problem,
                    recipe=recipe._replace(settings=fixed | dict(zip(apart, values, strict=True))),
                    grid=grid or ({},),
                    seeds=seed_list,
                    schedule=spelled,
                    steps=int(budget),
                    batch_size=None if size is None else int(size),
                    stop_at_target=stop_at_target,
                    stop_at_gradient=None if stop_at_gradient is None else float(stop_at_gradient),
                    checkpoint_count=int(checkpoint_count),
                    fused=len(grid) * len(seed_list) * int(budget) * width >= fused_from,
                )
            )
    return plans


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    if isinstance(seeds, bool) or (isinstance(seeds, int | np.integer) and seeds < 1):
        raise InputError(f"seeds must be at least 1, not {seeds!r}")
    given = list(range(int(seeds))) if isinstance(seeds, int | np.integer) else list(seeds)
    if not given or any(isinstance(s, bool) or int(s) != s or s < 0 for s in given) or len(set(given)) < len(given):
        raise InputError(f"seeds must be different whole numbers of at least 0, not {given!r}")
    return tuple(int(s) for s in given)


def _pieces(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """So many consecutive pieces, as even as possible."""
    edges = [round(i * len(items) / count) for i in range(count + 1)]
    return [items[a:b] for a, b in itertools.pairwise(edges)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
