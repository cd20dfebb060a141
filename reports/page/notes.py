"""Notes on the limits of the numbers."""

from __future__ import annotations

import pandas as pd

from optbench.core.types import Status


def notes(rows: pd.DataFrame, lines: pd.DataFrame, races: pd.DataFrame) -> list[str]:
    """The notes that apply to these results.

    Parameters
    ----------
    rows : DataFrame
        As of `Runs.rows`.
    lines : DataFrame
        As `tables.lines` returns them.
    races : DataFrame
        As `optbench.results.store.Store.load_races` returns them.
    """
    notes = [
        "The settings of every method were chosen on the seeds that are shown. A method with a finer grid has an "
        "advantage; the column “tried” counts its settings.",
        "Every oracle call counts as one, although a value, a gradient and a Hessian take different times. The column "
        "“oracle” says what a call returns. "
        + (
            "Methods are not compared in seconds, because no race is stored with these results."
            if races.empty
            else "All times come from races; see Speed."
        ),
    ]
    if not all(rows["exact_targets"].dropna()):
        notes.append(
            "With mini-batches or noise the full objective is evaluated only at checkpoints, and calls to a target are "
            "rounded up to the next checkpoint. A mini-batch of b out of n samples counts as b/n of a call."
        )
    if (rows["status"] == Status.TARGET).any():
        notes.append(
            "Runs stopped once they reached 1e-10 of their initial gap. Below it, the gap at the end does not show which "
            "method is better."
        )
    if len(lines) and (lines["final"] < lines["shown"]).any():
        notes.append("A gap of 0 at the end: the value is at the optimum or below it, up to rounding.")
    if len(lines) and lines["edge"].any():
        notes.append(
            "An asterisk marks a best step size that is the smallest or the largest of those tried; a better one may lie "
            "outside the grid."
        )
    if len(set(rows["seed"])) == 1:
        notes.append("There is only one seed, so the results do not show how much they vary between seeds.")
    budget = rows["budget_calls"].astype(float).groupby(rows["problem"]).agg(["min", "max"])
    # budgets include the evaluation of the start: a whole call, or that of a mini-batch
    if (budget["max"] - budget["min"] > 1).any():
        notes.append("The methods had different budgets, so their values at the end are not after the same work.")
    return notes
