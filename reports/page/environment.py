"""What the results were computed with."""

from __future__ import annotations

import json

import pandas as pd

from optbench.results.runs import Runs

from .. import wording


def environment(runs: Runs) -> list[tuple[str, list[str]]]:
    """Names and values of what the results were computed with: one value for each environment, the first ones for all."""
    rows = runs.rows
    facts = [
        ("array module", [wording.several(rows["backend"])]),
        ("precision", [wording.several(rows["precision"])]),
        ("seeds", [_numbers(rows["seed"])]),
    ]
    # one machine may have computed the results by several commands
    kinds: dict[str, dict[str, str]] = {}
    for held in runs.environments:
        where = {key: value for key, value in held.items() if key != "command"}
        kinds[json.dumps(where, sort_keys=True)] = where
    ordered = [kinds[text] for text in sorted(kinds)]
    for key in dict.fromkeys(key for where in ordered for key in where):
        values = [str(where.get(key, "")) or wording.NEVER for where in ordered]
        facts.append((key, values[:1] if len(set(values)) == 1 else values))
    return facts


def commands(runs: Runs) -> list[str]:
    """The commands that computed the results, as far as they are known."""
    return sorted({str(held["command"]) for held in runs.environments if held.get("command")})


def _numbers(values: pd.Series) -> str:
    """Whole numbers as ranges: 0 to 4, 7."""
    held = sorted({int(value) for value in values})
    starts = [n for n in held if n - 1 not in held]
    ends = [n for n in held if n + 1 not in held]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)) or wording.NEVER
