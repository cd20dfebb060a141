"""The end of the page: what to know before quoting a number, what went wrong, and where the results come from."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from optbench.results import Runs
from reports import style, tables
from reports.book import Book


def notes(rows: pd.DataFrame, lines: pd.DataFrame, races: pd.DataFrame) -> list[str]:
    """What a reader must know before quoting a number; only what applies to these results."""
    notes = [
        "The settings of every method were chosen on the same seeds as are shown, and among those that were tried, no "
        "more: a method with a finer grid has an advantage, which the column “tried” tells.",
        "An oracle call is counted alike whether it asks for a value, a gradient or a Hessian, though these cost "
        "different time; the column “a call asks for” tells which. "
        + (
            "Nothing on this page is measured in seconds." if races.empty else "Seconds are in the section Speed alone."
        ),
    ]
    if not all(rows["exact_hits"].dropna()):
        notes.append(
            "With mini-batches or noise the full objective is looked at only at checkpoints, so that "
            "calls to a target are rounded up to the next one. A mini-batch of b out of n samples counts b/n of a call."
        )
    if (rows["status"] == "target").any():
        notes.append(
            "Runs were ended once they reached 1e-10 of their initial gap, so that smaller gaps at the end do not tell "
            "which method is better."
        )
    if len(lines) and lines["edge"].any():
        notes.append(
            "* The best step size is the smallest or the largest that was tried; a better one may lie outside the grid."
        )
    if len(set(rows["seed"])) == 1:
        notes.append("There is only one seed: nothing here says how much results vary from seed to seed.")
    ran = rows.dropna(subset=["fraction"])
    if len(set(zip(ran["problem"], ran["steps"], ran["fraction"], strict=True))) > ran["problem"].nunique():
        notes.append(
            "Not all methods had the same budget; their objectives at the end compare different amounts of work."
        )
    return notes


def lost(book: Book) -> list[dict[str, Any]]:
    """Every method on every problem with runs that diverged or failed."""
    return [_lost(key, part) for key, part in _unwell(book.runs.rows).groupby(["problem", "method"], sort=True)]


def _unwell(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["status"].isin(["diverged", "failed"])]


def _lost(key: tuple[Any, ...], rows: pd.DataFrame) -> dict[str, Any]:
    """Why runs of a method have no result."""
    reasons = []
    diverged = rows[rows["status"] == "diverged"]
    if len(diverged):
        sizes = diverged["step_size"].dropna().astype(float)
        where = ""
        if len(sizes):
            low, high = tables.number(sizes.min()), tables.number(sizes.max())
            where = f", at step size {low}" if low == high else f", at step sizes from {low} to {high}"
        steps = sorted(int(end) for end in diverged["end"].dropna())
        when = f", after {steps[0]} to {steps[-1]} steps" if steps and steps[0] != steps[-1] else ""
        when = f", after {steps[0]} steps" if steps and steps[0] == steps[-1] else when
        reasons.append(f"{len(diverged)} left the finite numbers{where}{when}")
    failed = rows[rows["status"] == "failed"]
    for error, part in failed.groupby(failed["error"].fillna("no reason was recorded"), sort=True):
        reasons.append(f"{len(part)} failed: {style.shorten(str(error), 600)}")
    return {"problem": key[0], "method": key[1], "runs": len(rows), "reasons": reasons}


def environment(runs: Runs) -> list[tuple[str, list[str]]]:
    """Names and values of what the results were computed with: one value for each environment, the first ones for all."""
    rows = runs.rows
    facts = [
        ("array module", [tables.several(rows["backend"])]),
        ("precision", [tables.several(rows["precision"])]),
    ]
    kinds = sorted({json.dumps(environment, sort_keys=True): environment for environment in runs.environments}.items())
    keys = dict.fromkeys(key for _, environment in kinds for key in environment)
    for key in keys:
        values = [str(environment.get(key, "")) or tables.NEVER for _, environment in kinds]
        facts.append((key, values[:1] if len(set(values)) == 1 else values))
    return facts
