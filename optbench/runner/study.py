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
stop_at_gradient, checkpoint_count, precision. All but the first two may stand at the top, for all tables.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from optbench.core.backend import get_backend
from optbench.core.errors import InputError
from optbench.core.specs import check_names, parse_spec
from optbench.optimizer import Recipe, make_recipe
from optbench.problem import Problem, make_problem
from optbench.runner.plan import Plan, for_cores, make_plans

_COMMON = {
    "lr", "seeds", "steps", "calls", "batch_size", "linear_scaling", "schedule", "stop_at_target", "stop_at_gradient",
    "checkpoint_count", "precision",
}  # fmt: skip
MAX_RATES = 10_000  # of a range; more than that is a slip
DEFAULT_LR = {"low": 1e-4, "high": 10.0, "per_decade": 3}


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked study: its title and its plans."""

    title: str
    plans: tuple[Plan, ...]


def suites() -> dict[str, str]:
    """The studies that ship with optbench: title by name."""
    folder = resources.files("optbench.runner") / "suites"
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
        text = (resources.files("optbench.runner") / "suites" / f"{name}.toml").read_text(encoding="utf-8")
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
    made: dict[str, Problem] = {}
    for number, table in enumerate(tables, start=1):
        place = f"{where}, table {number}" if len(tables) > 1 else where
        check_names(place, ["problems", "optimizers", *sorted(_COMMON)], table)
        merged = _over(_over(common, table), overrides or {})
        try:
            plans += _plans_of(merged, device, made)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return Study(str(content.get("title", where)), tuple(for_cores(plans)))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What is said above replaces what is said below; a budget replaces the other kind of budget too."""
    budget = {"steps", "calls"}
    return {key: value for key, value in below.items() if not (key in budget and budget & set(above))} | dict(above)


def _plans_of(table: Mapping[str, Any], device: str, made: dict[str, Problem]) -> list[Plan]:
    """The plans of a table; problems are kept in `made`, so that one which several tables name is solved once."""
    for key in ("problems", "optimizers"):
        if not table.get(key):
            raise InputError(f"{key} is missing; name at least one, such as {key} = [{_EXAMPLES[key]!r}]")
    backend = get_backend(device, precision=str(table.get("precision", "float64")))
    rates = learning_rates(table.get("lr", DEFAULT_LR))
    options = {key: table[key] for key in _COMMON - {"lr", "precision"} if key in table}
    check_options(options)
    problems = []
    for name, settings in _entries(table["problems"]):
        problem = make_problem(name, settings)
        which = repr((name, problem.params, problem.fingerprint, backend.label, backend.device))
        problems.append(made.setdefault(which, problem.on(backend)))
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
MAX_WHOLE = 2**63 - 1  # what a column of a table holds


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) <= MAX_WHOLE


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _one_or_more(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def either(value: Any) -> bool:
        return holds(value) or (isinstance(value, list | tuple) and len(value) > 0 and all(map(holds, value)))

    return either


_OPTIONS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("seeds", _one_or_more(_whole), "a number of seeds or a list of them"),
    ("steps", _whole, "a whole number"),
    ("calls", lambda v: _number(v) and float(v) > 0, "above 0"),
    ("batch_size", _one_or_more(lambda v: v is None or _whole(v)), "a whole number or a list of them"),
    ("linear_scaling", lambda v: isinstance(v, bool), "true or false"),
    (
        "schedule",
        _one_or_more(lambda v: isinstance(v, str)),
        "a schedule such as 'cosine:warmup=0.05' or a list of them",
    ),
    ("stop_at_target", lambda v: isinstance(v, bool), "true or false"),
    ("stop_at_gradient", lambda v: _number(v) and float(v) >= 0, "a number of at least 0"),
    ("checkpoint_count", lambda v: _whole(v) and v >= 2, "a whole number of at least 2"),
)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the options of a sweep are of their kinds; what they mean together `make_plans` checks."""
    for key, holds, wanted in _OPTIONS:
        if key in options and not holds(options[key]):
            raise InputError(f"{key} must be {wanted}, not {options[key]!r}")


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
            if not 0 < low <= high < math.inf:
                raise InputError(f"learning rates go from a low positive number to a higher one, not {given!r}")
            if not given.get("per_decade", 1) > 0:
                raise InputError(f"per_decade must be above 0, not {given['per_decade']!r}")
            if "count" not in given:
                count = round(math.log10(high / low) * given.get("per_decade", 3)) + 1
            else:
                count = int(given["count"])
            if not 1 <= count <= MAX_RATES or count != given.get("count", count):
                raise InputError(f"a range has a whole number of learning rates, 1 to {MAX_RATES}, not {given!r}")
            # rounded to 12 digits, so that a grid is the same numbers on every machine
            rates = [float(f"{rate:.12g}") for rate in np.geomspace(low, high, count)]
        else:
            listed = list(given) if isinstance(given, Iterable) else [given]
            if any(isinstance(rate, bool) for rate in listed):
                raise TypeError
            rates = [float(rate) for rate in listed]
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError):
        raise InputError(
            f"lr must be a number, a list, low:high:count or {{low, high, per_decade}}, not {given!r}"
        ) from None
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise InputError(f"learning rates must be positive numbers, not {given!r}")
    return tuple(rates)


def _entries(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings from specs and tables."""
    entries = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        if isinstance(entry, str):
            entries.append(parse_spec(entry))
        elif isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
            entries.append((entry["name"], {key: value for key, value in entry.items() if key != "name"}))
        else:
            raise InputError(f"{entry!r} is neither a spec such as 'adam:lr=0.1' nor a table with a name")
    return entries


def _recipe_of(entry: tuple[str, dict[str, Any]], rates: tuple[float, ...]) -> Recipe:
    """The recipe of an entry; its step size is swept over `rates` unless the entry sets it."""
    name, settings = entry
    recipe = make_recipe(name, settings)
    size = recipe.kind.step_size
    return make_recipe(name, {**settings, size: rates}) if size and size not in settings else recipe
