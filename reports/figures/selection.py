"""What figures draw: the runs of one problem, and what is known about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    there = f"the results have {', '.join(known)}" if known else "there are no results"
    problem = choose(problem, known, f"choose a problem; {there}", f"no results for problem {problem!r}; {there}")
    if known == [problem]:
        return problem, runs  # the same object, so that what was computed of it is found again
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


def choose(name: str | None, known: Sequence[str], unnamed: str, unknown: str) -> str:
    """The name, or the only one that is known; InputError with one of two messages if there is no such or no choice."""
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        raise InputError(unnamed if name is None else unknown)
    return name


def description_of(part: Runs) -> dict[str, Any]:
    """What is stored about the problem of these rows (the column ``description``); empty where nothing is."""
    texts = list(part.rows["description"].dropna()) if "description" in part.rows else []
    return dict(json.loads(texts[0])) if texts else {}
