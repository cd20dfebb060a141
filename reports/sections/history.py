"""The history of the asv benchmarks on the page: a table with a sparkline in every line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from ..asv import SERIES, changes
from ..page.context import Book
from ..wording import NEVER, clean, duration, number

MOST = 40  # lines on the page
FLAT = 0.1  # part of its value that a sparkline spans at least, so that scatter does not look like change


def section(book: Book, history: pd.DataFrame | None) -> dict[str, Any] | None:
    """The history for the page; None where there is none to tell of."""
    skipped = [] if history is None else list(history.attrs.get("skipped", ()))
    if history is None or (history.empty and not skipped):
        return None
    found = changes(history)
    with_past = found[found["commits"] > 1]
    shown = with_past.head(MOST).sort_values(SERIES, kind="stable")
    # all lines of a machine share their horizontal axis: its commits by date
    commits = {
        machine: list(dict.fromkeys(part.sort_values(["date", "commit"])["commit"]))
        for machine, part in history.groupby("machine", sort=True)
    }
    environments = history["environment"].nunique()
    series = dict(iter(history.groupby(SERIES, sort=True, dropna=False)))
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in shown.to_dict("records"):
        part = series[tuple(line[name] for name in SERIES)]
        groups.setdefault(line["benchmark"], []).append(_line(line, part, commits[line["machine"]]))
    return {
        "groups": groups,
        "shown": len(shown),
        "unclear": not shown["clear"].all(),
        "lines": len(with_past),
        "single": len(found) - len(with_past),
        "commits": history["commit"].nunique(),
        "span": " to ".join(dict.fromkeys(f"{history['date'].agg(end):%Y-%m-%d}" for end in ("min", "max")))
        if len(history)
        else "",
        "machines": len(commits),
        "environments": environments,
        "skipped": len(skipped),
        # all lines, but not all values, which may be many thousands; environments may be named after folders of a user
        "table": book.table("history", found if environments > 1 else found.drop(columns="environment"))
        if len(found)
        else None,
    }


def _line(line: dict[str, Any], part: pd.DataFrame, commits: Sequence[str]) -> dict[str, Any]:
    """A line of the table of the page."""
    first, last = (amount(line[end], line["unit"]) for end in ("first", "last"))
    change = (
        NEVER if math.isnan(line["change"]) else f"{100 * line['change']:+.{0 if abs(line['change']) >= 0.1 else 1}f} %"
    )
    change = change.replace("-", "−")
    part = part.drop_duplicates("commit", keep="last")
    places = [commits.index(commit) for commit in part["commit"]]
    values = part["value"].tolist()
    told = (
        f"{line['commits']} commits: {first} at {line['first_commit'][:8]}, {last} at {line['last_commit'][:8]}; "
        f"least {amount(min(values), line['unit'])}, most {amount(max(values), line['unit'])}"
    )
    return {
        "parameters": line["parameters"],
        "machine": line["machine"],
        "environment": line["environment"],
        "first": first,
        "last": last,
        "change": change,
        "certain": line["clear"],
        "commits": line["commits"],
        "spark": sparkline(places, values, len(commits), told),
    }


def amount(value: float, unit: str) -> str:
    """A value with its unit: seconds and bytes in the one that fits, others with three digits."""
    if unit == "seconds":
        return duration(value, value, value)[0]
    if unit == "bytes":
        return f"{number(value / 2**20)} MiB"
    return f"{number(value)} {unit}".strip()


def sparkline(places: Sequence[int], values: Sequence[float], total: int, told: str) -> Markup:
    """A line of values as SVG, as high as a line of text, its last point marked.

    It spans the values, but at least `FLAT` of the largest.

    Parameters
    ----------
    places : sequence of int
        Where each value stands among `total` places, ascending.
    told : str
        What a reader who cannot see it is told.
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
    told = escape(clean(told))
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{told}"><title>{told}</title>'
        f'<polyline points="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/></svg>'
    )
