"""What a reader must know before quoting a number."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.core.types import Status


def notes(rows: pd.DataFrame, lines: pd.DataFrame, races: pd.DataFrame) -> list[str]:
    """Only what applies to these results.

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
        "The settings of every method were chosen on the seeds that are shown, from those that were tried. A method with a "
        "finer grid has an advantage; the column “tried” counts the settings.",
        "Every oracle call counts as one, whether it returns a value, a gradient or a Hessian, though these cost different "
        "time; the column “oracle” says which. "
        + (
            "Methods are not compared in seconds, because no race is stored with these results."
            if races.empty
            else "Seconds come from races only, see Speed."
        ),
    ]
    if below := _below_the_optimum(rows):
        notes.append(
            f"On {'; '.join(below)} some runs fell below the stated optimal value by more than rounding. That value is "
            "wrong, and so is every gap and every call to a target there."
        )
    if not all(rows["exact_targets"].dropna()):
        notes.append(
            "With mini-batches or noise the full objective is evaluated only at checkpoints, so calls to a target are "
            "rounded up to the next one. A mini-batch of b out of n samples counts as b/n of a call."
        )
    if (rows["status"] == Status.TARGET).any():
        notes.append(
            "Runs stopped once they reached 1e-10 of their initial gap. Smaller gaps at the end do not show which method "
            "is better."
        )
    if len(lines) and lines["edge"].any():
        notes.append(
            "* The best step size is the smallest or the largest that was tried; a better one may lie outside the grid."
        )
    if len(set(rows["seed"])) == 1:
        notes.append("There is only one seed: nothing here says how much results vary from seed to seed.")
    budget = rows["budget_calls"].astype(float).groupby(rows["problem"]).agg(["min", "max"])
    # the evaluation of the start is a whole call, or one of a mini-batch
    if (budget["max"] - budget["min"] > 1).any():
        notes.append("Not all methods had the same budget; their final objectives compare different amounts of work.")
    return notes


def _below_the_optimum(rows: pd.DataFrame) -> list[str]:
    """Problems on which a run got below the certified lower bound of the optimal value (where there is one, else f*)."""
    floor = rows["f_star_lower"].fillna(rows["f_star"]).astype(float)
    # values are sums of numbers as large as those at the start
    scale = np.maximum(1.0, np.fmax(floor.abs(), rows["f_start"].astype(float).abs()))
    eps = rows["precision"].map({name: np.finfo(name).eps for name in ("float64", "float32")}).fillna(0.0).astype(float)
    return sorted(set(rows.loc[rows["f_best"].astype(float) < floor - 64 * eps * scale, "problem"]))
