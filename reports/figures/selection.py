"""What figures draw: the runs of one problem, and what is known about it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from optbench.core.errors import InputError
from optbench.results.runs import Runs


def as_runs(runs: Runs | pd.DataFrame) -> Runs:
    """Runs, or the runs of a table of curves (`Runs.curves`, or a part of it)."""
    return Runs.from_curves(runs) if isinstance(runs, pd.DataFrame) else runs


def one_problem(runs: Runs | pd.DataFrame, problem: str | None) -> tuple[str, Runs]:
    """The name of the requested problem, and its runs alone.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    runs = as_runs(runs)
    known = sorted(set(runs.rows["problem"]))
    if problem is None and len(known) == 1:
        problem = known[0]
    if problem is None or problem not in known:
        there = f"the results have {', '.join(known)}" if known else "there are no results"
        raise InputError(f"{'choose a problem' if problem is None else f'no results for problem {problem!r}'}; {there}")
    if known == [problem]:
        return problem, runs  # the same object, so that what was computed of it is found again
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


def description_of(part: Runs) -> dict[str, Any]:
    """What is stored about the problem of these rows (the column ``description``); empty where nothing is."""
    texts = list(part.rows["description"].dropna()) if "description" in part.rows else []
    return dict(json.loads(texts[0])) if texts else {}
