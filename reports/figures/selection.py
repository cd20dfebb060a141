"""Select the runs of one problem, and read its description."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis.validity import judged
from optbench.core.errors import InputError
from optbench.core.specs import format_value, parse_spec
from optbench.results.runs import Runs


def as_runs(runs: Runs | pd.DataFrame) -> Runs:
    """Runs, also from a table of curves (`Runs.curves` or a part of it), without optima that cannot be used."""
    return judged(Runs.from_curves(runs) if isinstance(runs, pd.DataFrame) else runs)


def one_of(known: Iterable[str], name: str | None, missing: str, wrong: str, there: str, none: str) -> str:
    """The requested name, or the only known one if none is requested.

    The `InputError` says `missing`, or `wrong` and the name; then `there` and the known names, or `none`.
    """
    known = sorted(set(known))
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        choice = f"{there} {', '.join(known)}" if known else none
        raise InputError(f"{missing if name is None else f'{wrong} {name!r}'}; {choice}")
    return name


def one_problem(runs: Runs, problem: str | None) -> tuple[str, Runs]:
    """The label of the requested problem, which may be given by a spec, and its runs.

    Raises
    ------
    InputError
        If the problem is not among the results, or none is named and there are several.
    """
    known = set(runs.rows["problem"])
    if problem is not None and problem not in known and len(labels := _labels_of(problem, runs.rows)) == 1:
        (problem,) = labels
    words = "choose a problem", "no results for problem", "the results have", "there are no results"
    problem = one_of(known, problem, *words)
    if known == {problem}:
        return problem, runs  # the same object, so that cached results are reused
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


def _labels_of(spec: str, rows: pd.DataFrame) -> set[str]:
    """Labels of the problems that have the name and the parameters of a spec."""
    name, texts = parse_spec(spec)
    settings = {key: format_value(_value(text)) for key, text in texts.items()}
    labels = set()
    for label, other, params in (
        rows[["problem", "problem_name", "problem_params"]].dropna().drop_duplicates().to_numpy()
    ):
        values = {key: format_value(value) for key, value in json.loads(params).items()}
        if name == other and settings.items() <= values.items():
            labels.add(str(label))
    return labels


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def description_of(part: Runs) -> dict[str, Any]:
    """The stored description of the problem of these rows; empty if there is none."""
    texts = list(part.rows["description"].dropna()) if "description" in part.rows else []
    return dict(json.loads(texts[0])) if texts else {}


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn instead of objectives, and the smallest gap that rounding can resolve (or -inf)."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))


def value_name(runs: Runs) -> str:
    """Label of the value: the gap if the optimum is known, else the objective."""
    return "gap f − f*" if gap_floor(runs)[0] else "objective f"
