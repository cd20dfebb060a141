"""The section of one problem: what it is, its curves, and the table of its methods."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from optbench import metrics
from optbench.results import Runs
from reports import figures, style, tables
from reports.book import Book


def section(book: Book, name: str, lines: pd.DataFrame) -> dict[str, Any]:
    """What the page says of a problem; `lines` are those of `tables.lines` about it."""
    part, anchor = book.parts[name], book.anchors[name]
    rows = part.rows
    gap = "gap" if rows["f_star"].notna().all() else "objective"
    best = lines["method"].iloc[0]
    drawn = {
        "best": book.picture(
            f"{anchor}-best",
            style.figure(figures.convergence, part, name, styles=book.styles),
            f"Convergence on {name}: smallest {gap} so far against oracle calls, one line for each of {len(lines)} "
            f"methods. Best in the table below: {best}.",
            metrics.bands(part),
        ),
        "sizes": book.picture(
            f"{anchor}-sizes",
            style.figure(figures.sensitivity, part, name, styles=book.styles),
            f"Step sizes on {name}: smallest {gap} of a run against the step size, one line for each method that has one.",
            metrics.sensitivity(part),
        ),
    }
    columns = tables.columns(lines)
    sizes = rows.groupby("method")["step_size"].count()
    return {
        "name": name,
        "anchor": anchor,
        "facts": facts(part),
        "gap": gap,
        "figures": drawn,
        "without_step_size": sorted(sizes[sizes == 0].index),
        "has_step_size": bool(rows["step_size"].notna().any()),
        "not_drawn": sorted(set(rows["method"]) - set(rows.loc[rows["status"] != "failed", "method"])),
        "columns": [{"title": column.title, "meaning": column.meaning} for column in columns],
        "lines": [
            {"index": book.index(name, line["method"]), "cells": [column.cell(line) for column in columns]}
            for line in lines.to_dict("records")
        ],
        "methods": [(method, book.index(name, method)) for method in sorted(lines["method"])],
    }


def facts(part: Runs) -> list[tuple[str, str]]:
    """What a problem is, as pairs of name and text."""
    rows = part.rows
    first = rows.iloc[0]
    params = json.loads(first["problem_params"] or "{}")
    found = [("dimension d", str(first["dim"]))]
    if params:
        found.append(("parameters", ", ".join(f"{key} = {_plain(value)}" for key, value in params.items())))
    if rows["f_star"].notna().all():
        f_star, lower = float(first["f_star"]), first["f_star_lower"]
        width = 0.0 if pd.isna(lower) else max(0.0, f_star - float(lower))
        certain = f", certain to {tables.number(width)}" if width > 0 else ""
        found.append(("optimal value f*", f"{f_star:.12g}{certain} ({first['f_star_method'] or 'method not stated'})"))
    else:
        found.append(("optimal value f*", "not known; the objective is shown instead of the gap"))
    starts = rows["f_start"].dropna().astype(float)
    if len(starts):
        low, high = tables.number(starts.min()), tables.number(starts.max())
        found.append(("objective at the start", low if low == high else f"{low} to {high}, by seed"))
    ran = rows.dropna(subset=["fraction"])
    if len(ran):
        budgets = sorted(
            {(int(steps) + 1) * float(part) for steps, part in zip(ran["steps"], ran["fraction"], strict=True)}
        )
        shown = sorted({tables.calls(budget): budget for budget in budgets}.items(), key=lambda pair: pair[1])
        found.append(("budget of a run", " or ".join(text for text, _ in shown) + " oracle calls"))
    return found


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else style.shorten(str(value), 200) or "none"
