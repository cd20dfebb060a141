"""`sweep`: one optimizer on one problem, for all settings and seeds at once."""

from __future__ import annotations

import concurrent.futures as cf
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.specs import parse_spec
from optbench.optimizer import make_recipe
from optbench.problem import Problem, make_problem
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import for_cores, for_threads, make_plans
from optbench.runner.study import check_options

# Numbers that a sweep moves, from which on it is compiled. Lower than `plan.WORTH_IT`: a session goes on, and calls again.
WORTH_IT_HERE = 5e5


def sweep(
    problem: Problem | str,
    optimizer: Any,
    *,
    seeds: int | Iterable[int] = 10,
    steps: int | None = None,
    calls: float | None = None,
    batch_size: int | Sequence[int] | None = None,
    linear_scaling: bool = False,
    schedule: str | Sequence[str] = "constant",
    device: str | Backend | None = None,
    precision: str | None = None,
    stop_at_target: bool = False,
    stop_at_gradient: float | None = None,
    checkpoint_count: int = 100,
    fused: bool | None = None,
    store: Store | str | Path | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    **settings: Any,
) -> Runs:
    """Run one optimizer on one problem, for all given settings and seeds at once.

    >>> runs = optbench.sweep("logistic", "adam", lr=[1e-3, 1e-2, 1e-1], seeds=5, steps=500)
    >>> runs.table, runs.curves

    Parameters
    ----------
    problem : Problem or str
        A problem, or a spec such as ``"quadratic:dim=100"``.
    optimizer : str, rule or Optimizer class
        A registered name, a spec such as ``"adam:beta1=0.8"``, or your own update rule.
    seeds : int or iterable of int
        How many seeds (0, 1, ...), or which.
    steps, calls : int, float
        Budget of every run: steps, or oracle calls (a mini-batch of b out of n counts b/n). Exactly one; 1000 steps if
        neither.
    batch_size : int, sequence of int or None
        Samples a mini-batch; None for the full objective.
    linear_scaling : bool
        Whether `lr` is given for the first batch size, and multiplied by N for a batch N times as large.
    schedule : str or sequence of str
        Learning-rate schedules, such as ``"cosine:warmup=0.05"``.
    device, precision : str
        ``"cpu"`` or ``"gpu"``, ``"float64"`` or ``"float32"``; by default those of the problem, which for a spec are
        ``"cpu"`` and ``"float64"``.
    stop_at_target : bool
        Whether a run ends once it reaches the last target, 1e-10 of its initial gap.
    stop_at_gradient : float, optional
        Norm of the gradient at which a run ends.
    fused : bool, optional
        Whether rules and oracles run compiled, or as they are written. By default they are compiled unless the sweep is
        over in a moment anyway. The first compilation of a rule takes seconds; it is kept on disk.
    store : Store, str or Path, optional
        Folder to keep results in; what it has already is not computed again.
    jobs, executor
        Processes, or an executor, to spread the work over; see `execute`. The default computes in this process, because
        more of them need a script with ``if __name__ == "__main__":``; None takes as many as should be fastest.
    **settings
        Hyperparameters; a sequence of values is swept, several are swept as their product.

    Returns
    -------
    Runs
        With tables `table` and `curves`; `x` holds the last iterates, (R, d), row by row of the table.

    Raises
    ------
    InputError, BackendError, StoreError
        Before work starts, if something cannot be done as asked.
    """
    if isinstance(problem, str):
        problem = make_problem(*parse_spec(problem))
    if not isinstance(problem, Problem):
        raise InputError(f"a problem is a spec such as 'quadratic:dim=100' or a Problem, not {problem!r}")
    here = problem.backend
    if device is not None or precision not in (None, here.precision):
        problem = problem.on(
            get_backend(here.name if device is None else device, precision=precision or here.precision)
        )
    if isinstance(optimizer, str):
        optimizer, more = parse_spec(optimizer)
        settings = more | settings
    options: dict[str, Any] = {
        "seeds": _as_list(seeds),
        "steps": steps,
        "calls": calls,
        "batch_size": _as_list(batch_size),
        "linear_scaling": linear_scaling,
        "schedule": _as_list(schedule),
        "stop_at_target": stop_at_target,
        "stop_at_gradient": stop_at_gradient,
        "checkpoint_count": checkpoint_count,
    }
    options = {key: value for key, value in options.items() if value is not None}
    check_options(options)
    fused_from = {None: WORTH_IT_HERE, True: 0.0, False: math.inf}[fused]
    plans = make_plans(problem, make_recipe(optimizer, settings), fused_from=fused_from, **options)
    kept = Store(store) if isinstance(store, str | Path) else store
    if jobs != 1 or executor is not None:
        # what is stored is computed on one BLAS thread, as its record of the environment says
        plans = for_threads(plans) if executor is None and kept is None else for_cores(plans)
    return execute(plans, store=kept, jobs=jobs, executor=executor)


def _as_list(given: Any) -> Any:
    """What can be iterated over (but text) as a list; anything else as it is."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else given
