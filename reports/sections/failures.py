"""The section on runs that diverged, failed or are missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from optbench.core.types import Status

from ..page.context import PageContext
from ..wording import shorten, span

COLUMNS = ["problem", "method", "settings", "seed", "status", "end", "error"]


def section(context: PageContext) -> dict[str, Any] | None:
    """Every method on every problem with runs that diverged or failed, or that the store does not hold."""
    if not context.parts:
        return None
    rows = context.runs.rows[[*COLUMNS, "step_size"]]
    methods = rows.groupby(["problem", "method"], sort=True)
    missing = methods["settings"].nunique() * methods["seed"].nunique() - methods.size()
    lost = rows[rows["status"].isin([Status.DIVERGED, Status.FAILED])]
    parts = dict(iter(lost.groupby(["problem", "method"])))
    entries = []
    for (problem, method), count in missing.items():
        if (problem, method) in parts or count:
            part = parts.get((problem, method), lost.iloc[:0])
            names = {"problem": context.link(problem), "method": context.method(method)}
            entries.append(names | {"runs": len(part) + count, "reasons": _reasons(part, count)})
    return {"entries": entries, "table": context.table("lost", lost[COLUMNS]) if len(lost) else None}


def _reasons(rows: pd.DataFrame, missing: int) -> list[str]:
    """Why runs of a method on a problem have no result."""
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
    return reasons
