"""What figures draw: the runs of one problem, and what is known about it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from optbench.core.errors import InputError
from optbench.results.runs import Runs


def as_runs(runs: Runs | pd.DataFrame) -> Runs:
    """Runs, or the runs of a table of curves (`Runs.curves`, or a part of it)."""
    return Runs.from_curves(runs) if isinstance(runs, pd.DataFrame) else runs


def one_of(known: Iterable[str], name: str | None, missing: str, wrong: str, there: str, none: str) -> str:
    """The requested name among those that are known, or the only one where none is requested; else an `InputError`.

    Its message begins with `missing` where a choice is needed, or with `wrong` and the name; it ends with `there` and the
    known names, or with `none`.
    """
    known = sorted(set(known))
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        choice = f"{there} {', '.join(known)}" if known else none
        raise InputError(f"{missing if name is None else f'{wrong} {name!r}'}; {choice}")
    return name


def one_problem(runs: Runs, problem: str | None) -> tuple[str, Runs]:
    """The name of the requested problem, and its runs alone.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    known = set(runs.rows["problem"])
    words = "choose a problem", "no results for problem", "the results have", "there are no results"
    problem = one_of(known, problem, *words)
    if known == {problem}:
        return problem, runs  # the same object, so that what was computed of it is found again
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


def description_of(part: Runs) -> dict[str, Any]:
    """What is stored about the problem of these rows (the column ``description``); empty where nothing is."""
    texts = list(part.rows["description"].dropna()) if "description" in part.rows else []
    return dict(json.loads(texts[0])) if texts else {}


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))


def value_name(runs: Runs) -> str:
    """What is drawn of runs: the gap where their optimum is known."""
    return "gap f − f*" if gap_floor(runs)[0] else "objective f"
