"""Studies: what `optbench run` runs, from a TOML file or a dictionary of the same form, checked before work starts.

A study file has a title, options for all of it, and one or more ``[[compare]]`` tables, each of which runs all of its
optimizers on all of its problems::

    title = "Momentum on a valley"
    seeds = 10

    [[compare]]
    problems = ["quadratic:dim=100,condition=1e4", {name = "rosenbrock", dim = 10}]
    optimizers = ["gradient_descent", {name = "momentum", beta = [0.9, 0.99]}]
    lr = {low = 1e-4, high = 10, per_decade = 3}
    steps = 1000

The options are those of `StudyOptions`. They may stand at the top, for all tables, or in a table. ``import`` at the top
lists files or modules that define further problems and optimizers; paths are relative to the study file.

Schedules and linear scaling act on the learning rate: in a comparison they apply to the optimizers that have one, and the
others run without. They are refused if no optimizer of the study has a learning rate.
"""

from __future__ import annotations

import contextlib
import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from optbench.core.backend import Backend
from optbench.core.errors import InputError, suggestion
from optbench.core.imports import import_all
from optbench.core.specs import as_list, check_names, parse_spec
from optbench.optimizer import Recipe, make_recipe
from optbench.problem import Problem, as_problem, on_device
from optbench.runner.chunks import for_cores
from optbench.runner.options import StudyOptions, learning_rates, names_of
from optbench.runner.plan import MIN_COMPILED, Plan, make_plans

_BUDGET = {"steps", "calls"}


@dataclass(frozen=True)
class Study:
    """A checked study: its title and its plans."""

    title: str
    plans: tuple[Plan, ...]


def suites() -> dict[str, str]:
    """The studies that ship with optbench: title by name."""
    files = sorted((resources.files("optbench.runner") / "suites").iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8")).get("title", "")
        for file in files
        if file.name.endswith(".toml")
    }


def load_study(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    device: str | Backend | None = None,
    min_compiled: float = MIN_COMPILED,
    **options: Any,
) -> Study:
    """A study by the name of a suite, the path of a TOML file, or from a dictionary of the same form.

    Parameters
    ----------
    device : str, Backend or None
        ``"cpu"`` or ``"gpu"``; by default that of each problem, which is the CPU for a spec.
    min_compiled : float
        See `make_plans`.
    **options
        See `StudyOptions`; they replace those of the file.

    Raises
    ------
    InputError
        If there is no such study, or something in it is impossible; the message names the file and the table.
    BackendError
        If the device cannot be used.
    """
    if isinstance(study, Study):
        if options:
            raise InputError(f"a Study is complete, so it takes no {next(iter(options))}; give its file instead")
        return study
    if isinstance(study, Mapping):
        return _study_of(study, "", Path(), device, min_compiled, options)
    path, folder = Path(study), Path()
    if path.suffix == ".toml" or path.exists():
        try:
            text, place, folder = path.read_text(encoding="utf-8"), str(path), path.parent
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InputError(f"cannot read the study {str(path)!r}: {reason}") from None
    else:
        names = list(suites())
        if study not in names:
            hint = suggestion(str(study), names) or f"there are: {', '.join(names)}; or give the path of a .toml file"
            raise InputError(f"no suite {str(study)!r}; {hint}")
        text = (resources.files("optbench.runner") / "suites" / f"{study}.toml").read_text(encoding="utf-8")
        place = f"suite {study}"
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place} is not valid TOML: {error}") from None
    return _study_of(content, place, folder, device, min_compiled, options)


def _study_of(
    content: Mapping[str, Any],
    place: str,
    folder: Path,
    device: str | Backend | None,
    min_compiled: float,
    options: Mapping[str, Any],
) -> Study:
    names = names_of(StudyOptions)
    check_names(place or "a study", ["title", "import", "compare", *names], content)
    check_names("a study", names, options)
    tables = content.get("compare", [])
    if not isinstance(tables, Sequence) or not tables or not all(isinstance(table, Mapping) for table in tables):
        raise InputError(f"{place or 'the study'} has no [[compare]] table, so there is nothing to run")
    import_all(content.get("import", []), folder)
    common = {name: content[name] for name in names if name in content}
    problems: dict[str, Problem] = {}
    comparisons = []
    for number, table in enumerate(tables, start=1):
        parts = [place] * bool(place) + [f"table {number}"] * (len(tables) > 1)
        table_place = ", ".join(parts)
        check_names(table_place or "a comparison", ["problems", "optimizers", *names], table)
        with _located(table_place):
            comparison = _comparison(_merge(_merge(common, table), options), device, problems)
            comparisons.append((table_place, comparison))
    recipes = [recipe for _, comparison in comparisons for recipe in comparison.recipes]
    usable = {name for name, applies in _RATE_OPTIONS.items() if any(map(applies, recipes))}
    plans: list[Plan] = []
    for table_place, comparison in comparisons:
        with _located(table_place):
            plans += _plans_of(comparison, usable, min_compiled)
    return Study(str(content.get("title", place or "A study")), tuple(for_cores(plans)))


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    """Put the place, if any, before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}" if place else str(error)) from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The options `above` replace those `below`; a budget replaces the other kind of budget too."""
    replaced = _BUDGET if _BUDGET & set(above) else set()
    return {name: value for name, value in below.items() if name not in replaced} | dict(above)


class _Comparison(NamedTuple):
    """A table of a study: all of its optimizers run on all of its problems."""

    problems: list[Problem]
    recipes: list[Recipe]
    options: StudyOptions


def _comparison(table: Mapping[str, Any], device: str | Backend | None, problems: dict[str, Problem]) -> _Comparison:
    """A checked table. `problems` is shared by all tables, so that an optimum that several need is solved once."""
    for key, example in (("problems", "logistic:data=digits"), ("optimizers", "adam")):
        if key not in table or (isinstance(table[key], Sized) and not len(table[key])):
            raise InputError(f"{key} is missing; name at least one, such as {key} = [{example!r}]")
    options = StudyOptions(**{key: value for key, value in table.items() if key not in ("problems", "optimizers")})
    selected = []
    for entry in as_list(table["problems"]):
        name, settings = _name_and_settings(entry)
        problem = on_device(as_problem(name, settings), device, options.precision)
        backend = problem.backend
        identity = repr((problem.name, problem.params, problem.fingerprint, backend.label, backend.device))
        selected.append(problems.setdefault(identity, problem))
    rates = learning_rates(options.lr)
    recipes = [make_recipe(*_name_and_settings(entry)) for entry in as_list(table["optimizers"])]
    return _Comparison(selected, [_with_rates(recipe, rates) for recipe in recipes], options)


def _with_rates(recipe: Recipe, rates: tuple[float, ...]) -> Recipe:
    """The recipe with its step size swept over `rates`, unless it sets its own."""
    step_size = recipe.kind.step_size
    if not step_size or step_size in recipe.settings:
        return recipe
    return make_recipe(recipe.target, {**recipe.settings, step_size: rates})._replace(name=recipe.name)


# options that act on the learning rate, and the optimizers that they act on
_RATE_OPTIONS: dict[str, Callable[[Recipe], bool]] = {
    "schedule": lambda recipe: recipe.takes_schedule,
    "linear_scaling": lambda recipe: recipe.kind.step_size == "lr",
}


def _plans_of(comparison: _Comparison, usable: set[str], min_compiled: float) -> list[Plan]:
    """The plans of a comparison. An option that is usable by some optimizer of the study is left out for the others."""
    plans = []
    for problem, recipe in itertools.product(comparison.problems, comparison.recipes):
        options = comparison.options.sweep_options
        left_out = {name for name in usable if not _RATE_OPTIONS[name](recipe)}
        options = {name: value for name, value in options.items() if name not in left_out}
        plans += make_plans(problem, recipe, min_compiled=min_compiled, **options)
    return plans


def _name_and_settings(entry: Any) -> tuple[Any, dict[str, Any]]:
    """A name and settings from a spec or a table; or an object and none."""
    if isinstance(entry, str):
        return parse_spec(entry)
    if isinstance(entry, Mapping) and "name" in entry:
        return entry["name"], {key: value for key, value in entry.items() if key != "name"}
    if isinstance(entry, Problem | type) or callable(entry):
        return entry, {}
    raise InputError(f"{entry!r} is neither a spec such as 'adam:lr=0.1' nor a table with a name")
