"""What to know before quoting a number, and what went wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .. import wording
from .context import Book


def notes(rows: pd.DataFrame, lines: pd.DataFrame, races: pd.DataFrame) -> list[str]:
    """What a reader must know before quoting a number; only what applies to these results."""
    notes = [
        "The settings of every method were chosen on the same seeds as are shown, and among those that were tried, no "
        "more: a method with a finer grid has an advantage, which the column “tried” tells.",
        "An oracle call is counted alike whether it asks for a value, a gradient or a Hessian, though these cost "
        "different time; the column “a call asks for” tells which. "
        + (
            "Methods are not compared in seconds, as no race is stored with these results."
            if races.empty
            else "Seconds come from races alone, see Speed."
        ),
    ]
    below = _below_the_optimum(rows)
    if below:
        notes.append(
            f"On {'; '.join(below)} some runs fell below the stated optimal value by more than rounding: it is wrong, and "
            "with it every gap and every call to a target there."
        )
    if not all(rows["exact_targets"].dropna()):
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
    budget = rows["budget_calls"].groupby(rows["problem"]).agg(["min", "max"])
    # the look at the start is a whole call, or one of a mini-batch
    if (budget["max"] - budget["min"] > 1).any():
        notes.append(
            "Not all methods had the same budget; their objectives at the end compare different amounts of work."
        )
    return notes


def _below_the_optimum(rows: pd.DataFrame) -> list[str]:
    """Problems on which a run got below the certified lower bound of the optimal value (where there is one, else f*)."""
    floor = rows["f_star_lower"].fillna(rows["f_star"]).astype(float)
    # values are sums of numbers as large as those at the start
    scale = np.maximum(1.0, np.fmax(floor.abs(), rows["f_start"].astype(float).abs()))
    eps = rows["precision"].map({name: np.finfo(name).eps for name in ("float64", "float32")}).fillna(0.0).astype(float)
    return sorted(set(rows.loc[rows["f_best"].astype(float) < floor - 64 * eps * scale, "problem"]))


def lost(book: Book) -> dict[str, Any]:
    """Every method on every problem with runs that diverged or failed, or that the store does not hold."""
    names = ["problem", "method", "settings", "seed", "status", "end", "error"]
    rows = book.runs.rows[[*names, "step_size"]]
    methods = rows.groupby(["problem", "method"], sort=True)
    missing = methods["settings"].nunique() * methods["seed"].nunique() - methods.size()
    unwell = rows[rows["status"].isin(["diverged", "failed"])]
    parts = dict(iter(unwell.groupby(["problem", "method"])))
    found = [
        _lost(key, parts.get(key, unwell.iloc[:0]), count) | {"index": book.index(*key)}
        for key, count in missing.items()
        if key in parts or count
    ]
    return {"entries": found, "table": book.table("lost", unwell[names]) if len(unwell) else None}


def _lost(key: tuple[Any, ...], rows: pd.DataFrame, missing: int) -> dict[str, Any]:
    """Why runs of a method have no result."""
    reasons = []
    diverged = rows[rows["status"] == "diverged"]
    if len(diverged):
        sizes = diverged["step_size"].dropna().astype(float)
        where = ""
        if len(sizes):
            low, high = wording.number(sizes.min()), wording.number(sizes.max())
            where = f", at step size {low}" if low == high else f", at step sizes from {low} to {high}"
        steps = sorted(int(end) for end in diverged["end"].dropna())
        when = f", after {steps[0]} to {steps[-1]} steps" if steps and steps[0] != steps[-1] else ""
        when = f", after {steps[0]} steps" if steps and steps[0] == steps[-1] else when
        reasons.append(f"{len(diverged)} left the finite numbers{where}{when}")
    failed = rows[rows["status"] == "failed"]
    for error, part in failed.groupby(failed["error"].fillna("no reason was recorded"), sort=True):
        reasons.append(f"{len(part)} failed: {wording.shorten(str(error), 600)}")
    if missing:
        reasons.append(
            f"{missing} {'is' if missing == 1 else 'are'} not stored, though {'its' if missing == 1 else 'their'} settings "
            "ran with other seeds: the study was interrupted, or grew; its command computes them"
        )
    return {"problem": key[0], "method": key[1], "runs": len(rows) + missing, "reasons": reasons}
