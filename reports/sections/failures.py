"""The section on runs that diverged, are invalid, failed or are missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from optbench.analysis import tuning
from optbench.core.types import Status

from ..page.context import PageContext
from ..page.table import BREAK, NAME, Cell, Column, Table, whole
from ..wording import shorten, span

COLUMNS = ["problem", "method", "settings", "seed", "status", "end", "error"]


@dataclass(frozen=True)
class LostSection:
    """What the template shows."""

    entries: Table
    table: str | None  # one row a run, for download


def section(context: PageContext) -> LostSection | None:
    """The methods and problems with runs that diverged, are invalid, failed or are missing; None without runs."""
    if not context.parts:
        return None
    rows = context.runs.rows[[*COLUMNS, "step_size"]]
    methods = rows.groupby(["problem", "method"], sort=True)
    missing = methods["settings"].nunique() * methods["seed"].nunique() - methods.size()
    lost = rows[tuning.is_lost(rows)]
    parts = dict(iter(lost.groupby(["problem", "method"])))
    entries = []
    for (problem, method), count in missing.items():
        if (rows := parts.get((problem, method), lost.iloc[:0])).size or count:
            entries.append(
                {"problem": problem, "method": method, "runs": len(rows) + count, "why": _reasons(rows, count)}
            )
    columns = [
        Column("problem", lambda line: Cell(context.link(line["problem"]), line["problem"]), "row"),
        Column("method", lambda line: Cell(context.method(line["method"]), line["method"]), ""),
        Column("runs", lambda line: Cell(str(line["runs"]), line["runs"])),
        Column("what happened", lambda line: Cell(_in_lines(line["why"]), " ".join(line["why"])), "remark"),
    ]
    return LostSection(Table.of(columns, entries), context.table("lost", lost[COLUMNS]) if len(lost) else None)


def _in_lines(reasons: Iterable[str]) -> Markup:
    return BREAK.join(NAME.format(whole(reason)) for reason in reasons)


def _reasons(rows: pd.DataFrame, missing: int) -> list[str]:
    """Why runs of a method have no result."""
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
    errors = rows["error"].fillna("no reason was recorded").astype(str)
    if len(invalid := errors[rows["status"] == Status.INVALID]):  # each names a value of its own
        example = ", for example" if len(set(invalid)) > 1 else ""
        reasons.append(f"{len(invalid)} contradicted the problem{example}: {shorten(invalid.min(), 600)}")
    for error, count in errors[rows["status"] == Status.FAILED].value_counts().sort_index().items():
        reasons.append(f"{count} failed: {shorten(str(error), 600)}")
    if missing:
        verb, owner = ("is", "its") if missing == 1 else ("are", "their")
        reasons.append(
            f"{missing} {verb} missing, although {owner} settings ran with other seeds: the study was interrupted or "
            "extended; its command computes them"
        )
    return reasons
