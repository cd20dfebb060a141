"""The section on runs that diverged, failed or are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from optbench.core.types import Status

from ..page.context import Link, MethodKey, PageContext
from ..wording import shorten, span

COLUMNS = ["problem", "method", "settings", "seed", "status", "end", "error"]


@dataclass(frozen=True)
class LostRuns:
    """A method on a problem with runs that have no valid end."""

    problem: Link
    method: MethodKey
    runs: int
    reasons: list[str]


@dataclass(frozen=True)
class LostSection:
    """What the template shows."""

    entries: list[LostRuns]
    table: str | None  # the runs one by one, for download


def section(context: PageContext) -> LostSection | None:
    """Every method on every problem with runs that diverged or failed, or that the store does not hold."""
    if not context.parts:
        return None
    rows = context.runs.rows[[*COLUMNS, "step_size"]]
    methods = rows.groupby(["problem", "method"], sort=True)
    missing = methods["settings"].nunique() * methods["seed"].nunique() - methods.size()
    lost = rows[rows["status"].isin([Status.DIVERGED, Status.FAILED])]
    parts = dict(iter(lost.groupby(["problem", "method"])))
    entries = [
        _entry(context, key, parts.get(key, lost.iloc[:0]), count)
        for key, count in missing.items()
        if key in parts or count
    ]
    return LostSection(entries, context.table("lost", lost[COLUMNS]) if len(lost) else None)


def _entry(context: PageContext, key: tuple[Any, ...], rows: pd.DataFrame, missing: int) -> LostRuns:
    """Why runs of a method have no result."""
    problem, method = key
    reasons = []
    diverged = rows[rows["status"] == Status.DIVERGED]
    if len(diverged):
        sizes = diverged["step_size"].dropna().astype(float)
        where = ""
        if len(sizes):
            low, high = sizes.min(), sizes.max()
            where = f", at step size{'' if low == high else 's from'} {span(low, high)}"
        steps = sorted({int(end) for end in diverged["end"].dropna()})
        when = f", after {' to '.join(map(str, dict.fromkeys((steps[0], steps[-1]))))} steps" if steps else ""
        reasons.append(f"{len(diverged)} diverged{where}{when}")
    failed = rows[rows["status"] == Status.FAILED]
    for error, part in failed.groupby(failed["error"].fillna("no reason was recorded"), sort=True):
        reasons.append(f"{len(part)} failed: {shorten(str(error), 600)}")
    if missing:
        verb, owner = ("is", "its") if missing == 1 else ("are", "their")
        reasons.append(
            f"{missing} {verb} missing, though {owner} settings ran with other seeds: the study was interrupted or has "
            "grown; its command computes them"
        )
    return LostRuns(context.link(problem), context.method(method), len(rows) + missing, reasons)
