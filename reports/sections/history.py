"""The history of the asv benchmarks: a table with a sparkline in every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from ..asv import SERIES, changes
from ..page.context import PageContext
from ..page.table import Cell, Column, Link, Table
from ..wording import NEVER, clean, duration, mebibytes, number

MOST = 40  # rows on the page
FLAT = (
    0.1  # smallest range of a sparkline as a fraction of its largest value, so that scatter does not look like change
)


@dataclass(frozen=True)
class History:
    """What the template shows."""

    lines: Table  # the rows that are shown
    changed: int  # number of rows with several commits
    single: int  # number of rows with one commit only
    unclear: bool  # whether the change in a row that is shown may be chance
    commits: int
    dates: str
    skipped: int  # files that could not be read
    table: str | None


def history_of(context: PageContext) -> History | None:
    """The history; None where there is none."""
    history = context.history
    skipped = [] if history is None else list(history.attrs.get("skipped", ()))
    if history is None or (history.empty and not skipped):
        return None
    table = changes(history)
    with_past = table[table["commits"] > 1]
    shown = with_past.head(MOST).sort_values(SERIES, kind="stable")
    # the horizontal axis of all sparklines of a machine: its commits by date
    commits = {
        machine: list(dict.fromkeys(part.sort_values(["date", "commit"])["commit"]))
        for machine, part in history.groupby("machine", sort=True)
    }
    environments = history["environment"].nunique()
    series = dict(iter(history.groupby(SERIES, sort=True, dropna=False)))

    def by_commit(line: dict[Any, Any]) -> Cell:
        return Cell(_sparkline(line, series[tuple(line[name] for name in SERIES)], commits[line["machine"]]))

    columns = [
        Column("benchmark", lambda line: Cell(Link(line["parameters"] or "no parameters")), "row"),
        *([Column("machine", lambda line: Cell(Link(line["machine"])), "")] if len(commits) > 1 else []),
        *([Column("environment", lambda line: Cell(Link(line["environment"])), "")] if environments > 1 else []),
        Column("by commit", by_commit, ""),
        Column("first", lambda line: Cell(amount(line["first"], line["unit"]))),
        Column("last", lambda line: Cell(amount(line["last"], line["unit"]))),
        Column("change", lambda line: Cell(_change(line["change"]), kind="" if line["clear"] else "number unclear")),
        Column("commits", lambda line: Cell(str(line["commits"]))),
    ]
    dates = [f"{history['date'].agg(end):%Y-%m-%d}" for end in ("min", "max")] if len(history) else []
    # without the single values, which may be many thousands; environments may be named after folders of a user
    offered = table if environments > 1 else table.drop(columns="environment")
    return History(
        lines=Table.of(columns, shown.to_dict("records"), lambda line: Link(line["benchmark"])),
        changed=len(with_past),
        single=len(table) - len(with_past),
        unclear=not shown["clear"].all(),
        commits=history["commit"].nunique(),
        dates=" to ".join(dict.fromkeys(dates)),
        skipped=len(skipped),
        table=context.table("history", offered) if len(table) else None,
    )


def _sparkline(line: dict[Any, Any], part: pd.DataFrame, commits: Sequence[str]) -> Markup:
    part = part.drop_duplicates("commit", keep="last")
    values = part["value"].tolist()
    first, last, least, most = (
        amount(v, line["unit"]) for v in (line["first"], line["last"], min(values), max(values))
    )
    label = (
        f"{line['commits']} commits: {first} at {line['first_commit'][:8]}, {last} at {line['last_commit'][:8]}; "
        f"least {least}, most {most}"
    )
    return sparkline([commits.index(commit) for commit in part["commit"]], values, len(commits), label)


def _change(change: float) -> str:
    if math.isnan(change):
        return NEVER
    return f"{100 * change:+.{0 if abs(change) >= 0.1 else 1}f} %".replace("-", "−")


def amount(value: float, unit: str) -> str:
    """A value with its unit; seconds and bytes in a unit of suitable size."""
    if unit == "seconds":
        return duration(value, value, value)[0]
    if unit == "bytes":
        return mebibytes(value)
    return f"{number(value)} {unit}".strip()


def sparkline(places: Sequence[int], values: Sequence[float], total: int, label: str) -> Markup:
    """Values as an SVG line, as high as a line of text, with a dot at the last value.

    Its height is the range of the values, but at least `FLAT` of the largest.

    Parameters
    ----------
    places : sequence of int
        Position of each value among `total`, ascending.
    label : str
        Alternative text.
    """
    width, height, edge = 120, 24, 3.5
    least, most = min(values), max(values)
    span = max(most - least, FLAT * max(abs(least), abs(most))) or 1.0
    middle = (least + most) / 2
    points = [
        (
            edge + (width - 2 * edge) * place / max(total - 1, 1),
            height / 2 - (height - 2 * edge) * (value - middle) / span,
        )
        for place, value in zip(places, values, strict=True)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    label = escape(clean(label))
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"><title>{label}</title>'
        f'<polyline points="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/></svg>'
    )
