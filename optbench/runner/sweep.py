"""`sweep`, `compare` and `run`: compute runs from Python."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optbench.core.backend import Backend
from optbench.core.progress import ProgressBar
from optbench.core.specs import check_names
from optbench.optimizer import make_recipe
from optbench.problem import ProblemLike, as_problem, on_device
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.chunks import check_size, for_cores, for_threads
from optbench.runner.execute import execute
from optbench.runner.options import StudyOptions, SweepOptions, names_of, with_options
from optbench.runner.plan import Plan, make_plans
from optbench.runner.study import Study, load_study


@with_options(SweepOptions)
def sweep(
    problem: ProblemLike,
    optimizer: Any,
    *,
    device: str | Backend | None = None,
    precision: str | None = None,
    fused: bool | None = None,
    store: Store | str | Path | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    progress: bool | ProgressBar | None = None,
    **settings: Any,
) -> Runs:
    """Run one optimizer on one problem with several settings and seeds at once.

    Parameters
    ----------
    problem : Problem or str
        A problem, its class, or a spec such as ``"quadratic:dim=100"``.
    optimizer : str, rule or Optimizer class
        A registered name, a spec such as ``"adam:beta1=0.8"``, or your own update rule.
    device, precision : str, optional
        ``"cpu"`` or ``"gpu"``, ``"float64"`` or ``"float32"``. The defaults are those of the problem; for a spec they are
        ``"cpu"`` and ``"float64"``.
    fused : bool, optional
        Whether to compile rules and oracles; by default if the sweep is large enough for that to save time.
    store : Store, str or Path, optional
        Results folder; runs that it contains are not computed again.
    jobs, executor : int or None, and concurrent.futures.Executor, optional
        Number of processes, or an executor; see `execute`. The default 1 computes in this process, None chooses the
        fastest number. Several processes need a script with ``if __name__ == "__main__":``.
    time_limit, memory_limit : float, optional
        Seconds and gigabytes that a chunk of runs may take in a worker process; its runs fail otherwise. See `execute`.
    progress : bool, optional
        Whether to show a progress bar; by default in terminals and notebooks, if the call takes longer than a second.
    {options}
    **settings
        Hyperparameters; sequences of values are swept, several as their product.

    Returns
    -------
    Runs
        The results; `table` and `curves` are tables, `x` has the last iterates, (R, d), in the order of the table.

    Raises
    ------
    InputError, BackendError, StoreError
        Before work starts, if the request is not possible.

    Examples
    --------
    >>> runs = optbench.sweep("quadratic:dim=10", "adam", lr=[1e-3, 1e-2, 1e-1], seeds=5, steps=200)
    >>> len(runs.table), runs.x.shape
    (15, (15, 10))
    """
    options = {name: settings.pop(name) for name in names_of(SweepOptions) if name in settings}
    recipe = make_recipe(optimizer)
    check_names(f"a sweep of {recipe.name}", [*recipe.declared, *names_of(SweepOptions)], settings)
    plans = make_plans(
        on_device(as_problem(problem), device, precision),
        make_recipe(optimizer, settings),
        fused=fused,
        **options,
    )
    check_size(plans)
    if jobs != 1 or executor is not None:
        plans = for_threads(plans) if executor is None and store is None else for_cores(plans)
    limits = {"time_limit": time_limit, "memory_limit": memory_limit}
    return _execute(plans, store=store, jobs=jobs, executor=executor, progress=progress, **limits)


@with_options(StudyOptions)
def compare(
    problems: ProblemLike | Mapping[str, Any] | Sequence[ProblemLike | Mapping[str, Any]],
    optimizers: Any,
    *,
    device: str | Backend | None = None,
    fused: bool | None = None,
    store: Store | str | Path | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    retry_failed: bool = False,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    progress: bool | ProgressBar | None = None,
    **options: Any,
) -> Runs:
    """Run every optimizer on every problem, each over a grid of learning rates and several seeds.

    Parameters
    ----------
    problems : Problem, str, or a list of them
        Problems, their classes, or specs such as ``"quadratic:dim=100"``.
    optimizers : str, rule, Optimizer class, or a list of them
        Registered names, specs such as ``"adam:beta1=0.8"``, or your own update rules.
    device, fused, store, jobs, executor : optional
        As in `sweep`.
    retry_failed : bool
        Whether to compute runs again that are stored as failed.
    time_limit, memory_limit, progress : optional
        As in `sweep`.
    {options}

    Returns
    -------
    Runs
        One run for each problem, optimizer, setting and seed.

    Raises
    ------
    InputError, BackendError, StoreError
        Before work starts, if the request is not possible.

    Examples
    --------
    >>> optbench.compare("quadratic:dim=10", ["adam", "momentum:beta=0.5/0.9"], lr=[0.01, 0.1], seeds=3, steps=50)
    <Runs: 18 runs of 2 methods on 1 problem: 18 used their budget>
    """
    check_names("compare", names_of(StudyOptions), options)
    study = load_study(
        {"title": "A comparison", "compare": [{"problems": problems, "optimizers": optimizers, **options}]},
        device=device,
        fused=fused,
    )
    return run(
        study,
        store=store,
        jobs=jobs,
        executor=executor,
        retry_failed=retry_failed,
        time_limit=time_limit,
        memory_limit=memory_limit,
        progress=progress,
    )


@with_options(StudyOptions)
def run(
    study: str | Path | Mapping[str, Any] | Study = "default",
    *,
    device: str | Backend | None = None,
    store: Store | str | Path | None = None,
    jobs: int | None = 1,
    executor: cf.Executor | None = None,
    retry_failed: bool = False,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    isolate: bool = False,
    progress: bool | ProgressBar | None = None,
    **options: Any,
) -> Runs:
    """Run a study: a suite of optbench, or your own.

    Given options replace those of the study.

    Parameters
    ----------
    study : str, Path, dict or Study
        Name of a suite, path of a TOML file, a dictionary of the same form (see `optbench.runner.study`), or a result of
        `load_study`.
    device, store, jobs, executor, retry_failed, time_limit, memory_limit : optional
        As in `compare`.
    isolate : bool
        Whether to compute plug-in code in a worker process even with one job, and with limits, as the command does; see
        `execute`.
    progress : bool, optional
        As in `sweep`.
    {options}

    Returns
    -------
    Runs
        All runs of the study.

    Raises
    ------
    InputError, BackendError, StoreError
        Before work starts, if the request is not possible.

    Examples
    --------
    >>> study = {"compare": [{"problems": ["quadratic:dim=10"], "optimizers": ["adam", "sgd"]}]}
    >>> len(optbench.run(study, lr=[0.01, 0.1], seeds=3, steps=50))
    12
    """
    plans = load_study(study, device=device, **options).plans
    return _execute(
        plans,
        store=store,
        jobs=jobs,
        executor=executor,
        retry_failed=retry_failed,
        time_limit=time_limit,
        memory_limit=memory_limit,
        isolate=isolate,
        progress=progress,
    )


def _execute(
    plans: Sequence[Plan], *, store: Store | str | Path | None, progress: bool | ProgressBar | None, **options: Any
) -> Runs:
    with ProgressBar.of("running", progress) as bar:
        return execute(
            plans,
            store=Store(store) if isinstance(store, str | Path) else store,
            on_start=bar.start,
            progress=bar.advance,
            on_chunk=lambda chunk: bar.note(f"{chunk.plan.recipe.name} on {chunk.plan.problem.spec}"),
            **options,
        )
