"""Time a step over all races: figures and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .. import wording
from ..figures import (
    step_times,
)
from ..page.context import Book


def section(book: Book) -> dict[str, Any] | None:
    """The overview for the page; None where one figure of one race says as much."""
    table = step_times.step_seconds(book.races)
    if len(table[["race", "problem"]].drop_duplicates()) < 2:
        return None
    sizes = table.groupby("problem")["configuration"].nunique().to_dict()
    share = max(3, step_times.ROWS // len(sizes))
    problems = [name for name in book.parts if name in sizes]  # in the order of the page
    problems += sorted(set(sizes) - set(problems))
    packed: list[list[str]] = []
    room = 0
    drawn = problems[: step_times.ROWS // 3]
    for name in drawn:
        rows = min(sizes[name], share)
        if rows > room or not packed:
            packed.append([])
            room = step_times.A_FIGURE
        packed[-1].append(name)
        room -= rows
    name = book.table("time-a-step", table)
    pictures = [
        book.picture(f"steps-{number}", step_times.figure_of(table, group, share, book.styles), _told(table, group))
        for number, group in enumerate(packed, start=1)
    ]
    return {
        "pictures": pictures,
        "table": name,
        "fewer": any(size > share for size in sizes.values()),
        "not_drawn": problems[len(drawn) :],
        **_matrix(book, table, problems),
    }


def _told(table: pd.DataFrame, problems: Sequence[str]) -> str:
    """The figure in words."""
    said = []
    for problem in problems:
        part = table[table["problem"] == problem].sort_values("seconds", kind="stable")
        ends = [
            f"{line['configuration']} {wording.duration(line['seconds'], line['seconds_low'], line['seconds_high'])[0]}"
            for line in part.iloc[[0, -1]].to_dict("records")
        ]
        said.append(f"on {problem} from {ends[0]} to {ends[1]}" if len(part) > 1 else f"on {problem} {ends[0]}")
    return f"Median time a step: {'; '.join(said)}."


def _matrix(book: Book, table: pd.DataFrame, problems: Sequence[str]) -> dict[str, Any]:
    """Rows of configurations and ways with a cell a problem, those first that are the least slower than the fastest."""
    ratio = table["seconds"] / table.groupby("problem")["seconds"].transform("min")
    behind = ratio.groupby([table["configuration"], table["way"]]).median()
    order = sorted(behind.index, key=lambda key: (behind[key], key))
    cells = {(line["configuration"], line["way"], line["problem"]): line for line in table.to_dict("records")}
    lines = []
    for configuration, way in order[: step_times.LINES]:
        row = [cells.get((configuration, way, problem)) for problem in problems]
        methods = {line["method"] for line in row if line} & book.styles.keys()
        method = methods.pop() if len(methods) == 1 else None
        lines.append(
            {
                "configuration": configuration,
                "index": None if method is None else book.styles[method].index,
                "way": way,
                "cells": [line and _cell(line) for line in row],
            }
        )
    return {
        "problems": problems,
        "lines": lines,
        "ways": sorted(set(table["way"])),
        "more": len(order) - len(lines),
    }


def _cell(line: dict[str, Any]) -> dict[str, Any]:
    text, interval = wording.duration(line["seconds"], line["seconds_low"], line["seconds_high"])
    return {"text": text, "interval": interval, "reason": line["reason"], "finite": line["finite"]}
