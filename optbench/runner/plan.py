"""Plans: what to run, and the key of every run.

A `Plan` is one sweep: one problem, one optimizer, a grid of settings and some seeds. `chunks` cuts plans into arrays.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from optbench.compile import llvm
from optbench.core.code_hash import Hasher, is_importable, module_hash, qualified_name
from optbench.core.errors import InputError, blaming
from optbench.core.registry import SCHEDULES
from optbench.core.specs import as_list, canonical, parse_spec
from optbench.optimizer import Optimizer, Recipe, make_recipe
from optbench.optimizers.schedules import make_schedule
from optbench.problem import Problem
from optbench.results.schema import VERSION
from optbench.runner.loop import check_pair
from optbench.runner.options import SweepOptions

DEFAULT_STEPS = 1000
MAX_STEPS = 10**10  # they take days even where steps are fastest
MAX_RUNS = 10**7  # of a sweep or a study; their rows take more memory than a machine has

# modules that compute, whose code is part of every key; those of problems, optimizers and schedules are hashed where used
_COMPILE = "batches cuda elementary elementwise fused_loop graph llvm loops rules steps"
ENGINE = (
    *(
        "optbench.optimizer",
        "optbench.problem",
        "optbench.core.backend",
        "optbench.core.column",
        "optbench.core.random",
    ),
    *("optbench.core.trace", "optbench.runner.answers", "optbench.runner.chunks", "optbench.runner.loop"),
    *("optbench.runner.plan", "optbench.runner.rows", *(f"optbench.compile.{name}" for name in _COMPILE.split())),
)

STEP_SECONDS = 4e-5  # overhead of a step as it is written

# A plan is compiled if it takes at least so many seconds as it is written: a loop over steps; or what gains less, namely
# problems with several formulas, and products with a large matrix. Compiling and loading the compiler took 0.05 to 0.15 s
# and 0.1 to 0.4 s, so a first sweep in a new process should never take more than 1.2 times as long as uncompiled.
MIN_LOOP_SECONDS, MIN_OTHER_SECONDS = 0.2, 0.9
LARGE_MATRIX = 300  # parameters


class Parallelism(enum.Enum):
    """How several cores share a plan."""

    NONE = "none"  # chunks fill the cache
    CHUNKS = "chunks"  # a large plan is cut into chunks for several cores
    THREADS = "threads"  # one chunk, whose matrix products use several threads


class Hashers:
    """Hashers of code and of data that several plans share. A copy in another process has seen nothing yet."""

    def __init__(self) -> None:
        self.code = Hasher()
        self.data = self.code.by_name()

    def __reduce__(self) -> tuple[Any, ...]:
        return Hashers, ()


_first_seen = Hashers()  # of a worker process


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """A checked sweep.

    Attributes
    ----------
    problem : Problem
        The problem, on the backend that computes.
    recipe : Recipe
        The optimizer and its fixed settings.
    grid : tuple of dict
        The L swept settings; each maps names of hyperparameters to numbers.
    seeds : tuple of int
        The S seeds.
    schedule : str
        Spec of the learning-rate schedule.
    steps, batch_size, stop_at_target, stop_at_gradient, checkpoint_count
        See `SweepOptions`.
    fused : bool
        Whether to compile rules and oracles; `Backend.fused` takes precedence.
    parallelism : Parallelism
    hashers : Hashers
        They know the code and the data at the time of their first use; see `refreshed`.
    """

    problem: Problem
    recipe: Recipe
    grid: tuple[dict[str, float], ...]
    seeds: tuple[int, ...]
    schedule: str
    steps: int
    batch_size: int | None
    stop_at_target: bool
    stop_at_gradient: float | None
    checkpoint_count: int
    fused: bool
    parallelism: Parallelism = Parallelism.NONE
    hashers: Hashers = dataclasses.field(default_factory=Hashers, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # keys are computed where plans are made, never again in a worker
        names = "code", "data_hash", "params", "problem_origin", "optimizer_origin", "_common"
        state = vars(self) | {name: getattr(self, name) for name in names}
        state.pop("_keys", None)
        definitions = None if self._definitions in self.hashers.code.random else self._definitions
        return state | {"_sender": (sys.version_info[:2], definitions)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        version, definitions = state.pop("_sender")
        state.pop("_definitions", None)
        vars(self).update(state, hashers=_first_seen)
        if definitions not in (None, self._definitions) and version == sys.version_info[:2]:
            raise InputError(
                f"{self.recipe.name} on {self.problem.spec}: the code in a worker process is not the code here; it was "
                "changed after it was imported, so start again, or compute with jobs=1"
            )

    @property
    def title(self) -> str:
        """Names of the optimizer and the problem, for messages; a spec is code of the problem, which may raise."""
        return f"{self.recipe.name} on {title_of(self.problem)}"

    @property
    def size(self) -> int:
        """Number of runs, R = S L."""
        return len(self.seeds) * len(self.grid)

    @cached_property
    def problem_as_run(self) -> Problem:
        """The problem, on a backend with `fused` set if the plan is compiled."""
        backend = self.problem.backend
        if backend.fused is not None or not self.fused:
            return self.problem
        return self.problem.on(dataclasses.replace(backend, fused=True))

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Fixed settings that differ from their defaults, except the step size."""
        declared, swept = self.recipe.declared, {*self.grid[0], self.recipe.kind.step_size}
        settings = self.recipe.settings.items()
        return {name: value for name, value in settings if name not in swept and value != declared[name].default}

    def settings(self, point: Mapping[str, float]) -> dict[str, Any]:
        """All hyperparameters of one point of the grid, defaults included."""
        defaults = {key: p.default for key, p in self.recipe.declared.items()}
        return defaults | self.recipe.settings | dict(point)

    @cached_property
    def is_compiled(self) -> bool:
        """Whether compiled code may run, so that results may differ in digits from those of an uncompiled run.

        It cannot where no part of a built-in problem and optimizer is ever compiled.
        """
        backend, target = self.problem_as_run.backend, self.recipe.target
        if not backend.fused or (backend.name == "numpy" and not llvm.is_available()):
            return False
        is_plain = type(self.problem).choose_kernels is Problem.choose_kernels and self.problem.is_builtin
        return not (is_plain and isinstance(target, type) and target.__module__.startswith("optbench.optimizers."))

    @cached_property
    def params(self) -> dict[str, Any]:
        """The parameters of the problem as plain values."""
        return {name: self.plain(value) for name, value in self.problem.params.items()}

    def plain(self, value: Any) -> Any:
        """A value as JSON has it; for arrays, functions and other objects, their type and a hash."""
        if _is_plain(value):
            return value
        if isinstance(value, np.generic) and _is_plain(value.item()):
            return value.item()
        return f"{type(value).__name__} {self._data_hash(value)}"

    @cached_property
    def data_hash(self) -> str:
        """Hash of the problem's data and of parameters that its spec cannot show; empty if the spec determines all."""
        problem = self.problem
        if problem.is_builtin:
            return problem.fingerprint
        return self._data_hash(problem.host)

    @property
    def _owner(self) -> str:
        return f"{self.recipe.name} on {self.problem.spec}"

    def _data_hash(self, value: Any) -> str:
        return self.hashers.data.hash(value, owner=self._owner)

    @cached_property
    def problem_origin(self) -> str:
        """Where the problem's class is defined."""
        return self._origin(type(self.problem))

    @cached_property
    def optimizer_origin(self) -> str:
        """Where the rule, or the class of the optimizer, is defined."""
        return self._origin(self.recipe.target)

    def _origin(self, target: Any) -> str:
        """Module and name; and a hash of the code, where the name does not lead to it, as for a function in a function."""
        name = qualified_name(target)
        return name if is_importable(target) else f"{name} {self.hashers.code.hash(target, owner=self._owner)[:16]}"

    @cached_property
    def _common(self) -> str:
        """The part of the identity that all runs of this plan share, as canonical JSON."""
        problem = self.problem
        stop = {} if self.stop_at_gradient is None else {"stop_at_gradient": self.stop_at_gradient}
        return canonical(
            {
                "schema": VERSION,
                "problem": [problem.name, self.problem_origin, self.params, self.data_hash],
                "optimizer": [self.recipe.name, self.optimizer_origin],
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
    def _definitions(self) -> str:
        """Hash of the code of problem, optimizer, schedule and engine, and of all that it uses."""
        traits = self.recipe.traits.per_run, self.recipe.traits.elementwise
        schedule = SCHEDULES[parse_spec(self.schedule)[0]], make_schedule
        targets = type(self.problem), self.recipe.target, *schedule, traits, module_hash(ENGINE)
        return self.hashers.code.hash(*targets, owner=self._owner)

    @cached_property
    def code(self) -> str:
        """Hash of all code that affects the result."""
        # of built-in problems, `held_data` is empty; otherwise functions may be among them
        held = self.hashers.code.hash((self.problem.params, self.problem.held_data), owner=self._owner)
        return _hash(self._definitions + held)[:16]

    def identity(self, point: Mapping[str, float], seed: int) -> str:
        """Hash of all inputs of a run; it does not depend on the version of the code."""
        numbers = tuple(point.values())
        if numbers not in self._settings:
            self._settings[numbers] = canonical({k: self.plain(value) for k, value in self.settings(point).items()})
        return _hash(f"{self._common}{self._settings[numbers]}{seed}")

    @cached_property
    def _settings(self) -> dict[tuple[float, ...], str]:
        return {}

    @cached_property
    def _keys(self) -> dict[tuple[Any, ...], str]:
        return {}

    def key(self, point: Mapping[str, float], seed: int) -> str:
        """Hash of all inputs of a run, of the code, and of whether it is compiled."""
        run = (*point.values(), seed)
        if run not in self._keys:
            self._keys[run] = _hash(f"{self.identity(point, seed)}{self.code}{self.is_compiled}")
        return self._keys[run]

    @property
    def keys(self) -> list[str]:
        """Keys of all R runs, seed by seed."""
        with blaming(self.title):
            return [self.key(point, seed) for seed in self.seeds for point in self.grid]

    def build(self, grid: Sequence[Mapping[str, float]], seeds: Sequence[int]) -> Optimizer:
        """The optimizer of the runs `seeds` x `grid`; its swept settings are arrays of shape (R,), seed by seed."""
        swept = {key: np.tile([point[key] for point in grid], len(seeds)) for key in grid[0]}  # each (R,)
        fixed = {key: value for key, value in self.recipe.settings.items() if key not in swept}
        _, schedule = make_schedule(self.schedule)
        steps = self.steps  # not `self` below, because an optimizer must not reach the problem
        factor = None if self.schedule == "constant" else lambda t: schedule(t, steps)
        return self.recipe.build(fixed | swept, factor, fused=self.fused)


def _is_plain(value: Any) -> bool:
    """Whether JSON has the value."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, str | int) or (type(value) is float and math.isfinite(value))


def title_of(problem: Problem) -> str:
    """The name of a problem, for messages."""
    return problem.name or type(problem).__name__


def refreshed(plans: Sequence[Plan]) -> list[Plan]:
    """Copies of plans whose keys are of the code and the data as they are now."""
    hashers = Hashers()
    return [dataclasses.replace(plan, hashers=hashers) for plan in plans]


def run_nanoseconds(plan: Plan) -> float:
    """Estimated time of one step of one run in a large array, on one core."""
    with blaming(plan.title):
        kind, d = plan.recipe.kind, plan.problem.dim
        optimizer: float = 3.0 * d + 3.0 * kind.matrices * d**2 + (0.4 * d**3 if kind.oracle == "hessian" else 0.0)
        oracle = float(plan.problem.nanoseconds_per_run(plan.batch_size))
        if not 0 <= oracle < math.inf:
            raise ValueError(f"nanoseconds_per_run() returned {oracle}, not a number from 0 on")
        return oracle + optimizer


def plan_seconds(plan: Plan) -> float:
    """Estimated seconds of a plan, on one core."""
    return run_nanoseconds(plan) * plan.size * plan.steps * 1e-9


def pays_to_compile(plan: Plan) -> bool:
    """Whether compiling saves time in a new process, by estimates that are the same on all machines."""
    problem = plan.problem
    has_formulas = type(problem).choose_kernels is not Problem.choose_kernels
    has_large_matrix = problem.shares_matrix and problem.dim >= LARGE_MATRIX
    seconds = MIN_OTHER_SECONDS if has_formulas or has_large_matrix else MIN_LOOP_SECONDS
    return plan.steps * STEP_SECONDS + plan_seconds(plan) >= seconds


def make_plans(
    problem: Problem,
    optimizer: Any,
    settings: Mapping[str, Any] | None = None,
    *,
    fused: bool | None = None,
    **options: Any,
) -> list[Plan]:
    """The plans of a sweep: one for each batch size, schedule and combination of settings that cannot share an array.

    Parameters
    ----------
    problem : Problem
        The problem, on the backend that computes.
    optimizer : str, rule, Optimizer class or Recipe
    settings : mapping
        Hyperparameters by name; sequences are swept, several as their product. A Recipe has its own settings.
    fused : bool, optional
        Whether to compile; by default if it saves time, see `pays_to_compile`. The whole plan counts, so the result of a
        run does not depend on how many runs are already stored.
    **options
        See `SweepOptions`.

    Raises
    ------
    InputError
        If the options, or the problem and the optimizer, do not fit together.
    """
    recipe = optimizer if isinstance(optimizer, Recipe) else make_recipe(optimizer, settings)
    sweep = SweepOptions(**options)
    with blaming(f"{recipe.name} on {title_of(problem)}"):
        return _checked_plans(problem, recipe, sweep, fused)


def _checked_plans(problem: Problem, recipe: Recipe, sweep: SweepOptions, fused: bool | None) -> list[Plan]:
    step_size = recipe.kind.step_size
    if sweep.linear_scaling and (None in sweep.batch_sizes or step_size != "lr"):
        raise InputError("linear_scaling needs batch sizes, and an optimizer with a learning rate")
    swept = {key: value for key, value in recipe.settings.items() if isinstance(value, tuple)}
    if step_size and step_size not in swept:
        swept[step_size] = (recipe.settings.get(step_size, recipe.declared[step_size].default),)
    fixed = {key: value for key, value in recipe.settings.items() if key not in swept}
    separate = [key for key in swept if key not in recipe.sweepable]
    stacked = [key for key in swept if key in recipe.sweepable]
    check_count(len(sweep.seed_numbers) * math.prod(map(len, swept.values())))
    plans, hashers = [], Hashers()
    for batch_size, spec in itertools.product(sweep.batch_sizes, as_list(sweep.schedule)):
        check_pair(problem, recipe.kind, recipe.name, batch_size, sweep.stop_at_gradient)
        schedule, _ = make_schedule(spec)
        if schedule != "constant" and not recipe.takes_schedule:
            raise InputError(
                f"{recipe.name} is not a rule with a learning rate, so the schedule {spec!r} has no effect; leave it out"
            )
        steps = DEFAULT_STEPS if sweep.steps is None else int(sweep.steps)
        if sweep.calls is not None:
            steps = max(1, round(sweep.calls / problem.calls_per_step(batch_size)) - 1)
        if not 1 <= steps <= MAX_STEPS:
            raise InputError(f"the budget must be at least one step and at most {MAX_STEPS:.0e}, not {steps:.6g}")
        scale = (batch_size or 1) / (sweep.batch_sizes[0] or 1) if sweep.linear_scaling else 1.0
        for values in itertools.product(*(swept[key] for key in separate)):
            grid = tuple(
                {key: v * scale if key == "lr" else v for key, v in zip(stacked, point, strict=True)}
                for point in itertools.product(*(swept[key] for key in stacked))
            )
            plan = Plan(
                problem=problem,
                recipe=recipe._replace(settings=fixed | dict(zip(separate, values, strict=True))),
                grid=grid or ({},),
                seeds=sweep.seed_numbers,
                schedule=schedule,
                steps=steps,
                batch_size=batch_size,
                stop_at_target=sweep.stop_at_target,
                stop_at_gradient=None if sweep.stop_at_gradient is None else float(sweep.stop_at_gradient),
                checkpoint_count=min(int(sweep.checkpoint_count), steps + 1),
                fused=bool(fused),
                hashers=hashers,
            )
            if fused is None:
                plan = dataclasses.replace(plan, fused=pays_to_compile(plan))
            plans.append(plan)
    return plans


def check_count(runs: int) -> None:
    """Raise `InputError` for more than `MAX_RUNS` runs."""
    if runs > MAX_RUNS:
        raise InputError(f"{runs:.3g} runs are requested, above {MAX_RUNS:.0e}; request fewer seeds or settings")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
