"""Studies: comparisons described by a TOML file, or by a dictionary of the same form.

A study has a title, common options, and one or more ``[[compare]]`` tables. Each table runs all of its optimizers on all of
its problems::

    title = "Momentum on a valley"
    seeds = 10

    [[compare]]
    problems = ["quadratic:dim=100,condition=1e4", {name = "rosenbrock", dim = 10}]
    optimizers = ["gradient_descent", {name = "momentum", beta = [0.9, 0.99]}]
    lr = {low = 1e-4, high = 10, per_decade = 3}
    steps = 1000

The options are those of `StudyOptions`. Problems, optimizers and options at the top apply to all tables; those of a table
take precedence. ``import`` at the top lists files or modules that define more problems and optimizers. Paths are relative
to the study file.

Schedules and linear scaling apply only to the optimizers of a study that have a learning rate. If none has one, they are an
error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optbench.core.backend import Backend
from optbench.core.code_hash import Hasher
from optbench.core.errors import InputError, blaming, shown, suggestion
from optbench.core.files import open_file
from optbench.core.imports import import_all
from optbench.core.specs import as_list, check_names, check_text
from optbench.optimizer import Recipe, make_recipe
from optbench.problem import Problem, as_problem, on_device
from optbench.runner.chunks import check_size, for_cores
from optbench.runner.options import StudyOptions, learning_rates, names_of
from optbench.runner.plan import Plan, make_plans, title_of

MAX_BYTES = 1 << 20  # of a study file

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Study:
    """A checked study: its title and its plans.

    Parameters
    ----------
    title : str
        Heading of the results.
    plans : tuple of Plan
        What to compute: an optimizer on a problem, with its settings and seeds.

    Examples
    --------
    >>> content = {"title": "A valley", "compare": [{"problems": ["rosenbrock"], "optimizers": ["adam", "lbfgs"]}]}
    >>> study = optbench.load_study(content)
    >>> study.title, [plan.recipe.name for plan in study.plans]
    ('A valley', ['adam', 'lbfgs'])
    """

    title: str
    plans: tuple[Plan, ...]


def suites() -> dict[str, str]:
    """Titles of the studies that come with optbench, by name."""
    files = sorted(SUITES.glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8"))["title"] for file in files}


def load_study(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    device: str | Backend | None = None,
    fused: bool | None = None,
    **options: Any,
) -> Study:
    """Load and check a study.

    Parameters
    ----------
    study : str, Path, dict or Study
        Name of a suite, path of a TOML file, or a dictionary of the same form. A Study is returned as it is.
    device : str, Backend or None
        ``"cpu"`` or ``"gpu"``; by default that of each problem, which is the CPU for a spec.
    fused : bool, optional
        See `make_plans`.
    **options
        Options of `compare`, such as `seeds` or `steps`; they replace those of the study.

    Returns
    -------
    Study
        The study, ready to `run`.

    Raises
    ------
    InputError
        If the study does not exist or is not valid; the message names the file and the table.
    BackendError
        If the device cannot be used.

    Examples
    --------
    >>> content = {"compare": [{"problems": ["rosenbrock"], "optimizers": ["adam", "lbfgs"]}]}
    >>> len(optbench.load_study(content, seeds=3).plans)
    2
    """
    if isinstance(study, Study):
        if options:
            raise InputError(f"a Study is complete, so it takes no {next(iter(options))}; give its file instead")
        return study
    content, place, folder = (study, "", Path()) if isinstance(study, Mapping) else _read(study)
    names = names_of(StudyOptions)
    table_names = ["problems", "optimizers", *names]
    check_names(place or "a study", ["title", "import", "compare", *table_names], content)
    check_names("a study", names, options)
    tables = content.get("compare", [])
    if not isinstance(tables, Sequence) or not tables or not all(isinstance(table, Mapping) for table in tables):
        raise InputError(f"{place or 'the study'} has no [[compare]] table, so there is nothing to run")
    import_all(content.get("import", []), folder)
    common = {name: content[name] for name in table_names if name in content}
    problems: dict[Any, Problem] = {}  # shared by all tables, so that each optimum is solved once
    comparisons = []
    for number, table in enumerate(tables, start=1):
        table_place = ", ".join([place] * bool(place) + [f"table {number}"] * (len(tables) > 1))
        check_names(table_place or "a comparison", table_names, table)
        with _located(table_place):
            merged = _merge(_merge(common, table), options)
            comparisons.append((table_place, *_comparison(merged, device, problems)))
    every = [recipe for _, _, recipes, _ in comparisons for recipe in recipes]
    # an option that applies to some optimizer of the study is dropped for the others
    usable = {name for name, applies in _RATE_OPTIONS.items() if any(map(applies, every))}
    plans: list[Plan] = []
    for table_place, selected, recipes, sweep_options in comparisons:
        with _located(table_place):
            for problem, recipe in itertools.product(selected, recipes):
                applicable = {
                    name: value
                    for name, value in sweep_options.items()
                    if name not in usable or _RATE_OPTIONS[name](recipe)
                }
                plans += make_plans(problem, recipe, fused=fused, **applicable)
    check_size(plans)
    return Study(str(content.get("title", place or "A study")), tuple(for_cores(plans)))


# options that act on the learning rate, and whether they apply to an optimizer
_RATE_OPTIONS: dict[str, Callable[[Recipe], bool]] = {
    "schedule": lambda recipe: recipe.takes_schedule,
    "linear_scaling": lambda recipe: recipe.kind.step_size == "lr",
}


def _read(study: str | Path) -> tuple[dict[str, Any], str, Path]:
    """The content of a study file or a suite, its name for messages, and its folder."""
    check_text("study", str(study))
    path, place, folder = Path(study), str(study), Path(study).parent
    if path.suffix != ".toml" and not os.path.exists(path):  # noqa: PTH110 - False for a name that is too long
        names = list(suites())
        if study not in names:
            files = map(str, path.parent.glob("*.toml"))
            hint = (
                suggestion(place, [*names, *files]) or f"choose {' or '.join(names)}, or give the path of a .toml file"
            )
            raise InputError(f"no suite {shown(place)}; {hint}")
        path, place, folder = SUITES / f"{study}.toml", f"suite {study}", Path()
    try:
        with open_file(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{place}: the file is larger than a study can be, which is {MAX_BYTES >> 20} MiB")
        return tomllib.loads(content.decode()), place, folder
    except UnicodeDecodeError:
        raise InputError(f"cannot read the study {str(path)!r}: it is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # a long number, or deep brackets
        if isinstance(error, InputError):
            raise
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{place} is not valid TOML: {reason}") from None
    except OSError as error:
        raise InputError(f"cannot read the study {str(path)!r}: {error.strerror}") from None


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    """Prefix the message of an `InputError` with a place, unless that is empty."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}" if place else str(error)) from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The options `below`, replaced by those `above`; steps and calls replace each other."""
    budget = {"steps", "calls"}
    replaced = budget if budget & set(above) else set()
    return {name: value for name, value in below.items() if name not in replaced} | dict(above)


def _comparison(
    table: dict[str, Any], device: str | Backend | None, problems: dict[Any, Problem]
) -> tuple[list[Problem], list[Recipe], dict[str, Any]]:
    """Checked problems, optimizers with their learning rates, and sweep options of a table."""
    entries = {}
    for key, example in (("problems", "logistic:data=digits"), ("optimizers", "adam")):
        entries[key] = as_list(table.pop(key, []))
        if not entries[key]:
            raise InputError(f"{key} is missing; name at least one, such as {key} = [{example!r}]")
    options = StudyOptions(**table)
    selected, recipes, hasher = [], [], Hasher(names_suffice=True)
    for entry in entries["problems"]:
        problem = on_device(as_problem(*_name_and_settings(entry)), device, options.precision)
        backend = problem.backend
        with blaming(title_of(problem)):
            identity = type(problem), hasher.hash(problem.host), backend.label, backend.device
        selected.append(problems.setdefault(identity, problem))
    rates = learning_rates(options.lr)
    for entry in entries["optimizers"]:
        recipe = make_recipe(*_name_and_settings(entry))
        step_size = recipe.kind.step_size
        if step_size and step_size not in recipe.settings:
            recipe = make_recipe(recipe.target, {**recipe.settings, step_size: rates})._replace(name=recipe.name)
        recipes.append(recipe)
    return selected, recipes, options.sweep_options


def _name_and_settings(entry: Any) -> tuple[Any, dict[str, Any]]:
    """Name and settings of an entry that is a table; any other entry has no settings."""
    if isinstance(entry, Mapping) and "name" in entry:
        return entry["name"], {key: value for key, value in entry.items() if key != "name"}
    if isinstance(entry, str | Problem | type) or callable(entry):
        return entry, {}
    raise InputError(f"{shown(entry)} is neither a spec such as 'adam:lr=0.1' nor a table with a name")
