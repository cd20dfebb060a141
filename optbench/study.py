"""Studies: what `optbench run` runs, from a TOML file, from the command line or from Python, checked before work starts.

A study file has a title, values for all of it, and one or more ``[[compare]]`` tables, each of which runs all of its
optimizers on all of its problems::

    title = "Momentum on a valley"
    seeds = 5

    [[compare]]
    problems = ["quadratic:dim=100,condition=1e4", {name = "rosenbrock", dim = 10}]
    optimizers = ["gradient_descent", {name = "momentum", beta = [0.9, 0.99]}]
    lr = {low = 1e-4, high = 10, per_decade = 3}
    steps = 1000

Keys: problems, optimizers, lr, seeds, steps or calls, batch_size, linear_scaling, schedule, stop_at_target,
checkpoint_count, precision. All but the first two may stand at the top, for all tables.
"""

from __future__ import annotations

import concurrent.futures as cf
import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from optbench.arrays import Backend, get_backend
from optbench.errors import InputError
from optbench.execute import execute
from optbench.optimizer import Recipe, make_recipe
from optbench.plan import Plan, make_plans
from optbench.problem import Problem, make_problem
from optbench.registry import check_names, parse_spec
from optbench.results import Runs
from optbench.store import Store

_COMMON = {
    "lr", "seeds", "steps", "calls", "batch_size", "linear_scaling", "schedule", "stop_at_target", "checkpoint_count",
    "precision",
}  # fmt: skip
DEFAULT_LR = {"low": 1e-4, "high": 10.0, "per_decade": 3}


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked study: its title and its plans."""

    title: str
    plans: tuple[Plan, ...]


def suites() -> dict[str, str]:
    """The studies that ship with optbench: title by name."""
    folder = resources.files("optbench") / "suites"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found[file.name.removesuffix(".toml")] = tomllib.loads(file.read_text(encoding="utf-8")).get("title", "")
    return found


def load_study(name: str | Path, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> Study:
    """A study by the name of a suite or the path of a TOML file.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"gpu"``.
    overrides : mapping
        Values that replace those of the file, such as ``seeds`` or ``steps``.

    Raises
    ------
    InputError
        If there is no such study, or something in it is impossible; the message names the file and the table.
    BackendError
        If the device cannot be used.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InputError(f"cannot read the study {str(path)!r}: {reason}") from None
    else:
        check_suite(str(name))
        text = (resources.files("optbench") / "suites" / f"{name}.toml").read_text(encoding="utf-8")
        where = f"suite {name}"
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is not valid TOML: {error}") from None
    return study_of(content, where=where, device=device, overrides=overrides)


def check_suite(name: str) -> None:
    """Raise `InputError` unless a suite of that name ships with optbench."""
    import difflib

    known = list(suites())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}; or give the path of a .toml file"
        )
        raise InputError(f"no suite {name!r}; {hint}")


def study_of(
    content: Mapping[str, Any], *, where: str = "study", device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> Study:
    """The study of a parsed TOML file, or of a dictionary of the same form."""
    check_names(where, ["title", "compare", *sorted(_COMMON)], content)
    tables = content.get("compare", [])
    if not isinstance(tables, Sequence) or not tables or not all(isinstance(t, Mapping) for t in tables):
        raise InputError(f"{where} has no [[compare]] table, so there is nothing to run")
    common = {key: content[key] for key in _COMMON if key in content}
    plans: list[Plan] = []
    for number, table in enumerate(tables, start=1):
        place = f"{where}, table {number}" if len(tables) > 1 else where
        check_names(place, ["problems", "optimizers", *sorted(_COMMON)], table)
        merged = _over(_over(common, table), overrides or {})
        try:
            plans += _plans_of(merged, device)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return Study(str(content.get("title", where)), tuple(plans))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What is said above replaces what is said below; a budget replaces the other kind of budget too."""
    budget = {"steps", "calls"}
    return {key: value for key, value in below.items() if not (key in budget and budget & set(above))} | dict(above)


def _plans_of(table: Mapping[str, Any], device: str) -> list[Plan]:
    for key in ("problems", "optimizers"):
        if not table.get(key):
            raise InputError(f"{key} is missing; name at least one, such as {key} = [{_EXAMPLES[key]!r}]")
    backend = get_backend(device, precision=str(table.get("precision", "float64")))
    rates = learning_rates(table.get("lr", DEFAULT_LR))
    options = {key: table[key] for key in _COMMON - {"lr", "precision"} if key in table}
    for key, kinds, wanted in _OPTION_TYPES:
        if key in options and (not isinstance(options[key], kinds) or (bool not in kinds and options[key] is True)):
            raise InputError(f"{key} must be {wanted}, not {options[key]!r}")
    problems = [_problem_of(entry).on(backend) for entry in _entries(table["problems"])]
    recipes = [_recipe_of(entry, rates) for entry in _entries(table["optimizers"])]
    plans = []
    for problem in problems:
        for recipe in recipes:
            its = dict(options)
            if recipe.kind.step_size != "lr":  # a schedule or a scaled learning rate has nothing to act on
                its.pop("schedule", None), its.pop("linear_scaling", None)
            plans += make_plans(problem, recipe, **its)
    return plans


_EXAMPLES = {"problems": "logistic:data=digits", "optimizers": "adam"}
_OPTION_TYPES: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("seeds", (int, list, tuple), "a number of seeds or a list of them"),
    ("steps", (int,), "a whole number"),
    ("calls", (int, float), "a number"),
    ("batch_size", (int, list, tuple), "a whole number or a list of them"),
    ("linear_scaling", (bool,), "true or false"),
    ("schedule", (str, list, tuple), "a schedule such as 'cosine:warmup=0.05' or a list of them"),
    ("stop_at_target", (bool,), "true or false"),
    ("checkpoint_count", (int,), "a whole number"),
)


def learning_rates(given: Any) -> tuple[float, ...]:
    """Learning rates from a number, a list, or a range ``{low, high, per_decade}`` or ``{low, high, count}``.

    As text: ``"0.01"``, ``"1e-3,1e-2"`` or ``"1e-4:1:13"`` (low, high and how many, log-spaced).

    Raises
    ------
    InputError
        If a rate is not a positive number.
    """
    try:
        if isinstance(given, str) and ":" in given:
            given = dict(zip(("low", "high", "count"), map(float, given.split(":", 2)), strict=True))
        elif isinstance(given, str):
            given = [float(part) for part in given.split(",")]
        if isinstance(given, Mapping):
            check_names("lr", ["low", "high", "per_decade", "count"], given)
            low, high = float(given["low"]), float(given["high"])
            count = given.get("count") or round(np.log10(high / low) * given.get("per_decade", 3)) + 1
            # rounded to 12 digits, so that a grid is the same numbers on every machine
            rates = [float(f"{rate:.12g}") for rate in np.geomspace(low, high, int(count))]
        else:
            rates = [float(rate) for rate in (given if isinstance(given, Iterable) else [given])]
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError):
        raise InputError(
            f"lr must be a number, a list, low:high:count or {{low, high, per_decade}}, not {given!r}"
        ) from None
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise InputError(f"learning rates must be positive numbers, not {given!r}")
    return tuple(rates)


def _entries(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings from specs and tables."""
    entries = []
    for entry in [given] if isinstance(given, str | Mapping) else given:
        if isinstance(entry, str):
            entries.append(parse_spec(entry))
        elif isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
            entries.append((entry["name"], {key: value for key, value in entry.items() if key != "name"}))
        else:
            raise InputError(f"{entry!r} is neither a spec such as 'adam:lr=0.1' nor a table with a name")
    return entries


def _problem_of(entry: tuple[str, dict[str, Any]]) -> Problem:
    return make_problem(*entry)


def _recipe_of(entry: tuple[str, dict[str, Any]], rates: tuple[float, ...]) -> Recipe:
    """The recipe of an entry; its step size is swept over `rates` unless the entry sets it."""
    name, settings = entry
    recipe = make_recipe(name, settings)
    size = recipe.kind.step_size
    return make_recipe(name, {**settings, size: rates}) if size and size not in settings else recipe


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
    precision: str = "float64",
    stop_at_target: bool = False,
    checkpoint_count: int = 100,
    store: Store | str | Path | None = None,
    jobs: int = 1,
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
        ``"cpu"`` or ``"gpu"`` (by default, where the problem is), ``"float64"`` or ``"float32"``.
    stop_at_target : bool
        Whether a run ends once it reaches the last target, 1e-10 of its initial gap.
    store : Store, str or Path, optional
        Folder to keep results in; what it has already is not computed again.
    jobs, executor
        Processes, or an executor, to spread the work over; see `execute`.
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
    if device is not None or precision != problem.backend.precision:
        problem = problem.on(get_backend(device or problem.backend.name, precision=precision))
    if isinstance(optimizer, str):
        optimizer, more = parse_spec(optimizer)
        settings = more | settings
    plans = make_plans(
        problem,
        make_recipe(optimizer, settings),
        seeds=seeds,
        steps=steps,
        calls=calls,
        batch_size=batch_size,
        linear_scaling=linear_scaling,
        schedule=schedule,
        stop_at_target=stop_at_target,
        checkpoint_count=checkpoint_count,
    )
    kept = Store(store) if isinstance(store, str | Path) else store
    return execute(plans, store=kept, jobs=jobs, executor=executor)
