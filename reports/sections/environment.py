"""The section on the environment: machine, packages, and commands."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from optbench.results.runs import Runs

from ..page.context import PageContext
from ..wording import NEVER, several


@dataclass(frozen=True)
class EnvironmentSection:
    """What the template shows."""

    facts: list[tuple[str, list[str]]]  # name, and one value for each environment, or one for all
    commands: list[str]  # that computed the results, if known


def section(context: PageContext) -> EnvironmentSection | None:
    """The section; None without runs."""
    return EnvironmentSection(facts(context.runs), commands(context.runs)) if context.parts else None


def facts(runs: Runs) -> list[tuple[str, list[str]]]:
    """Precision, seeds, machine and versions of packages, as names and values."""
    rows = runs.rows
    facts = [
        ("array module", [several(rows["backend"])]),
        ("precision", [several(rows["precision"])]),
        ("seeds", [_ranges(rows["seed"])]),
    ]
    # several commands may have run in the same environment
    places: dict[str, dict[str, str]] = {}
    for environment in runs.environments:
        place = {key: value for key, value in environment.items() if key != "command"}
        places[json.dumps(place, sort_keys=True)] = place
    ordered = [places[text] for text in sorted(places)]
    for key in dict.fromkeys(key for place in ordered for key in place):
        values = [str(place.get(key, "")) or NEVER for place in ordered]
        facts.append((key, values[:1] if len(set(values)) == 1 else values))
    return facts


def commands(runs: Runs) -> list[str]:
    """The commands that computed the results."""
    return sorted({str(environment["command"]) for environment in runs.environments if environment.get("command")})


def _ranges(values: pd.Series) -> str:
    """Whole numbers as ranges: 0 to 4, 7."""
    numbers = sorted({int(value) for value in values})
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)) or NEVER
