"""Wall-clock comparison of single runs: seconds per step, and how many of them the oracle takes.

Configurations run one at a time, in turn: A B C A B C ..., one round for each seed, on a quiet machine (see `quiet`). In a
round all of them have the same start point and batches. A slow phase of the machine affects a whole round, so ratios are
computed within rounds.

The clock is read after every `PART` steps, when the device is idle. It excludes a whole warm-up round, start points, state,
random numbers and recording.

Oracle time is measured separately, because reading the clock twice in every step would make a GPU wait. In each round a
configuration first takes its steps untimed and saves points along the way. Then it is timed in parts: 50 steps, the oracle
calls of these 50 steps alone at the saved points with the same batches, the next 50 steps, and so on. The difference of the
two sums is the time of the optimizer. This assumes that an oracle call takes equally long at nearby points. The difference
can be negative if it is too small to be measured.

`analysis.timing` summarizes the rows. GPUs use the same code with `Backend.clock`; this has not been tested on a GPU yet.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import itertools
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError, blaming
from optbench.core.specs import as_list
from optbench.core.types import Array
from optbench.core.workers import blas_threads
from optbench.optimizer import make_recipe
from optbench.problem import Problem, ProblemLike, as_problem
from optbench.results.environment import environment
from optbench.results.methods import method_name
from optbench.results.schema import RACE_COLUMNS, to_arrow, to_frame
from optbench.results.store import Store
from optbench.runner.chunks import ceil_div, check_size
from optbench.runner.loop import Loop
from optbench.runner.options import RaceOptions, with_options
from optbench.runner.plan import Plan, make_plans
from optbench.runner.rows import method_columns, time_now

if TYPE_CHECKING:
    import pandas as pd

POINT_BYTES = 1 << 18  # size of all saved points; they stay in the cache, like the point of a real step
WATCH_SECONDS = 0.2  # observation time to find the idlest core
PART = 50  # steps between two readings of the clock: enough to keep a GPU busy, few enough to cancel drift


def make_race_plans(
    problems: Sequence[str | Problem], optimizers: Sequence[Any], *, device: str | Backend | None = None, **options: Any
) -> list[Plan]:
    """The configurations of a race: each optimizer on each problem, as a plan with one setting and one seed per round.

    Parameters
    ----------
    problems, optimizers : sequence
        Specs such as ``"quadratic:dim=1000"`` and ``"adam:lr=0.01"``, or problems, rules and Optimizer classes.
    device, **options
        See `race`.

    Raises
    ------
    InputError, BackendError
        If the request is not possible.
    """
    race = RaceOptions(**options)
    backend = get_backend(device or "cpu", precision=race.precision or "float64", fused=race.fused)
    plans = []
    on_backend = [as_problem(problem).on(backend) for problem in problems]
    for problem, recipe in itertools.product(on_backend, map(make_recipe, optimizers)):
        several = [key for key, value in recipe.settings.items() if isinstance(value, tuple)]
        if several:
            raise InputError(
                f"a race times single runs, but {recipe.spec!r} has several values of {several[0]}; "
                "give one value, or name the optimizer once for each value"
            )
        plans += make_plans(
            problem,
            recipe,
            seeds=range(race.seed, race.seed + race.rounds),
            steps=race.steps,
            batch_size=race.batch_size,
            schedule=race.schedule if recipe.takes_schedule else "constant",
        )
    check_size(plans)
    return plans


@with_options(RaceOptions)
def race(
    problems: ProblemLike | Sequence[ProblemLike],
    optimizers: Any,
    *,
    device: str | Backend | None = None,
    store: Store | str | Path | None = None,
    on_start: Callable[[int], None] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Time single runs of every optimizer on every problem, in paired rounds; only the steps are timed.

    Parameters
    ----------
    problems, optimizers : specs, objects or lists of them
        As in `compare`, but each hyperparameter has a single value.
    device : str or Backend, optional
        ``"cpu"`` or ``"gpu"``; a `Backend` replaces `precision` and `fused`.
    store : Store, str or Path, optional
        Results folder for the timings.
    on_start : callable, optional
        Called with the number of configurations before the first run. A progress bar would disturb the timings.
    {options}

    Returns
    -------
    DataFrame
        One row for each round and configuration, with the columns `RACE_COLUMNS`.

    Raises
    ------
    InputError, BackendError, StoreError
        Before work starts, if the request is not possible.

    Examples
    --------
    >>> races = optbench.race("quadratic:dim=5", ["adam", "sgd"], rounds=3, steps=20, fused=False)
    >>> races.groupby("configuration")["seconds"].median().gt(0)
    configuration
    adam    True
    sgd     True
    Name: seconds, dtype: bool
    """
    plans = make_race_plans(as_list(problems), as_list(optimizers), device=device, **options)
    if isinstance(store, str | Path):
        store = Store(store)
    if store is not None:
        store.check_writable()
    if on_start is not None:
        on_start(len(plans))
    rows = compete(plans)
    if store is not None:
        store.write_race(rows)
    return to_frame(to_arrow(rows, RACE_COLUMNS))


def compete(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Run a race.

    Parameters
    ----------
    plans : sequence of Plan
        The configurations, see `make_race_plans`: one setting each, and the same seeds, one for each round.

    Returns
    -------
    list of dict
        One row for each round and configuration, in order of execution, with the columns `RACE_COLUMNS`.

    Raises
    ------
    InputError
        If there is no configuration, one has several settings, or their seeds differ.
    """
    if not plans or any(len(plan.grid) != 1 or plan.seeds != plans[0].seeds for plan in plans):
        raise InputError("a race needs configurations with one setting each and the same seeds")
    facts = environment()  # before `quiet`, because it counts the cores that this process may use
    on_gpu = any(plan.problem.backend.name == "cupy" for plan in plans)
    race = {
        "race": f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        "machine": facts.get("gpu", facts["processor"]) if on_gpu else facts["processor"],
        "cores": os.cpu_count(),
        "load_before": _load_average(),
    }
    common = [race | _identity(place, plan) for place, plan in enumerate(plans)]
    rows = []
    with quiet() as core, np.errstate(all="ignore"):
        for place, plan in enumerate(plans):
            begin = plan.problem.backend.clock()
            common[place]["fused"] = _measure(plan, plan.seeds[0])["fused"]
            common[place]["warmup_seconds"] = plan.problem.backend.clock() - begin
        for number, seed in enumerate(plans[0].seeds):
            gc.collect()
            for columns, plan in zip(common, plans, strict=True):
                rows.append(columns | {"round": number, "seed": seed, "core": core} | _measure(plan, seed))
    end = {"load_after": _load_average(), "created": time_now()}
    return [row | end for row in rows]


@contextlib.contextmanager
def quiet() -> Iterator[int | None]:
    """Restrict this thread to one core and one BLAS thread, without garbage collection, until the block ends.

    Yields the number of the core, the least busy one; None if the system cannot pin threads or forbids it.
    """
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    core = _idlest(before) if before else None
    if core is not None:
        try:
            os.sched_setaffinity(0, {core})
        except OSError:  # some containers forbid it
            core = None
    collecting = gc.isenabled()
    gc.disable()
    try:
        with blas_threads(1):
            yield core
    finally:
        if collecting:
            gc.enable()
        if core is not None:
            os.sched_setaffinity(0, before)


def _idlest(cores: set[int]) -> int:
    """The least busy core during `WATCH_SECONDS`; the last one if the system does not report it."""
    before = _busy_ticks()
    if before:
        time.sleep(WATCH_SECONDS)
    after = _busy_ticks()
    return min(cores, key=lambda core: (after.get(core, 0) - before.get(core, 0), -core))


def _busy_ticks() -> dict[int, int]:
    """Busy ticks of each core since the system started (Linux, proc_stat(5))."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    busy = {}
    for name, *ticks in (line.split() for line in lines if line[:3] == "cpu" and line[3:4].isdigit()):
        user, nice, system, _idle, _waiting, *rest = map(int, ticks)
        busy[int(name[3:])] = user + nice + system + sum(rest[:3])  # interrupts and stolen time
    return busy


def _load_average() -> float | None:
    """Load average of the last minute; None if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _identity(place: int, plan: Plan) -> dict[str, Any]:
    """The columns that all rows of a configuration share."""
    with blaming(plan.title):
        problem, (point,) = plan.problem, plan.grid
        settings, declared = plan.settings(point), plan.recipe.declared
        given = {key: value for key, value in settings.items() if value != declared[key].default}
        batch = "" if plan.batch_size is None else f", batch {plan.batch_size}"
        return method_columns(plan, point) | {
            "place": place,
            "problem": problem.spec,
            "configuration": method_name(plan.recipe.name, given, plan.schedule) + batch,
            "structure": json.dumps(
                {k: v for k, v in settings.items() if k not in plan.recipe.sweepable}, sort_keys=True
            ),
            "calls_per_step": problem.calls_per_step(plan.batch_size),
            "oracle": plan.recipe.kind.oracle,
        }


def _measure(plan: Plan, seed: int) -> dict[str, Any]:
    """Time one run of a configuration: all of its steps, and their oracle calls alone."""
    with blaming(plan.title):
        optimizer = plan.build(plan.grid, (seed,))
        loop = Loop(plan.problem, optimizer, (seed,), plan.steps, plan.batch_size, 1)
        x0 = plan.problem.starts((seed,))  # (1, d)
        seconds, oracle_seconds, x = _time_steps(loop, x0, _visited_points(loop, x0))
        return {
            "seconds": seconds,
            "oracle_seconds": oracle_seconds,
            "fused": getattr(optimizer, "kernel", None) is not None,
            "finite": bool(np.isfinite(loop.backend.to_host(x)).all()),
        }


def _visited_points(loop: Loop, x0: Array) -> list[Array]:
    """Evenly spaced points, each (1, d), of an untimed run from x0, which also warms the caches."""
    points, stride = [], _stride(loop)
    x, state = loop.begin(x0)
    for part in _parts(loop):
        for t in part:
            if t % stride == 0:
                points.append(loop.xp.asarray(x, copy=True))  # a step may overwrite its point
            x, state = loop.step(t + 1, loop.evaluate(t, x), state)
    return points


def _time_steps(loop: Loop, x0: Array, points: Sequence[Array]) -> tuple[float, float, Array]:
    """Seconds of all steps from x0, seconds of their oracle calls at the saved points, and the last iterate (1, d)."""
    evaluate, step, clock, stride = loop.evaluate, loop.step, loop.backend.clock, _stride(loop)
    x, state = loop.begin(x0)
    seconds = oracle_seconds = 0.0
    for part in _parts(loop):
        begin = clock()
        for t in part:
            x, state = step(t + 1, evaluate(t, x), state)
        middle = clock()
        for t in part:
            evaluate(t, points[t // stride])
        seconds, oracle_seconds = seconds + middle - begin, oracle_seconds + clock() - middle
    return seconds, oracle_seconds, x


def _stride(loop: Loop) -> int:
    """Steps between two saved points."""
    return ceil_div(loop.steps, max(1, POINT_BYTES // (8 * loop.problem.dim)))


def _parts(loop: Loop) -> Iterator[range]:
    """The steps in parts of at most `PART`. Random numbers are drawn here, between the timings."""
    feed = loop.samples if loop.samples is not None else loop.normals  # no method draws both
    length = loop.steps if feed is None else feed.length
    for start in range(0, loop.steps, length):
        if feed is not None:
            feed[start]
        end = min(start + length, loop.steps)
        for first in range(start, end, PART):
            yield range(first, min(first + PART, end))
