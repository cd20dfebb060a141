"""Time per step over all races: figures and a table, in the section on speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from ..figures import step_times
from ..page.anchors import unique_anchors
from ..page.context import Link, MethodKey, PageContext, Picture
from ..wording import duration

ROWS = 72  # of all figures together; a problem has its share
FIGURE_ROWS = 24  # of a figure with several problems, so that it fits on a sheet of paper
LINES = 60  # of the table


@dataclass(frozen=True)
class StepTime:
    """A cell of the table."""

    text: str
    interval: str
    reason: str  # why the race may have been disturbed, or empty
    finite: bool


@dataclass(frozen=True)
class StepLine:
    """A row of the table."""

    configuration: MethodKey
    way: str
    cells: list[StepTime | None]


@dataclass(frozen=True)
class StepTimes:
    """What the template shows."""

    figures: list[Picture]
    table: str
    problems: list[Link]
    ways: list[str]  # machines and ways of computing
    lines: list[StepLine]
    more: int  # lines that are only in the table for download


def step_times_of(context: PageContext) -> StepTimes | None:
    """The overview; None where one figure of one race says as much."""
    table = step_times.step_seconds(context.races, context.runs)
    if len(table[["race", "problem"]].drop_duplicates()) < 2:
        return None
    sizes = table.groupby("problem")["configuration"].nunique().to_dict()
    share = max(3, ROWS // len(sizes))
    problems = [name for name in context.parts if name in sizes]  # in the order of the page
    problems += sorted(set(sizes) - set(problems))
    drawn = problems[: ROWS // 3]
    groups: list[list[str]] = []
    room = 0
    for name in drawn:
        rows = min(sizes[name], share)
        if rows > room or not groups:
            groups.append([])
            room = FIGURE_ROWS
        groups[-1].append(name)
        room -= rows
    ways = sorted(set(table["way"]))
    caption = "Further left is faster. Medians over rounds; lines are 95 % intervals."
    if len(ways) > 1:
        caption += " Each machine or way of computing has its own marker."
    if any(size > share for size in sizes.values()):
        caption += " Of a problem with many configurations only the fastest are drawn."
    anchors = unique_anchors((f"time-per-step-{group[0]}" for group in groups), (), ())
    figures = []
    for group, anchor in zip(groups, anchors.values(), strict=True):
        if group is groups[-1] and len(drawn) < len(problems):
            caption += Markup(" Not drawn: <bdi>{}</bdi>.").format("; ".join(problems[len(drawn) :]))
        figure = step_times.step_times_figure(table, group, share, context.styles)
        figures.append(context.picture(anchor, figure, _label(table, group), caption))
    lines, more = _lines(context, table, problems)
    return StepTimes(
        figures=figures,
        table=context.table("time-per-step", table),
        problems=[context.link(problem) for problem in problems],
        ways=ways,
        lines=lines,
        more=more,
    )


def _label(table: pd.DataFrame, problems: Sequence[str]) -> str:
    """The figure in words."""
    parts = []
    for problem in problems:
        lines = table[table["problem"] == problem].sort_values("seconds", kind="stable").to_dict("records")
        first, last = (f"{line['configuration']} {_cell(line).text}" for line in (lines[0], lines[-1]))
        parts.append(f"on {problem} from {first} to {last}" if len(lines) > 1 else f"on {problem} {first}")
    return f"Median time per step: {'; '.join(parts)}."


def _lines(context: PageContext, table: pd.DataFrame, problems: Sequence[str]) -> tuple[list[StepLine], int]:
    """Rows of configurations and ways with a cell for each problem, and how many are left out.

    Those that are the least slower than the fastest come first.
    """
    ratio = table["seconds"] / table.groupby("problem")["seconds"].transform("min")
    behind = ratio.groupby([table["configuration"], table["way"]]).median()
    order = sorted(behind.index, key=lambda key: (behind[key], key))
    records = {(line["configuration"], line["way"], line["problem"]): line for line in table.to_dict("records")}
    lines = []
    for configuration, way in order[:LINES]:
        row = [records.get((configuration, way, problem)) for problem in problems]
        methods = {line["method"] for line in row if line} & context.styles.keys()
        index = context.styles[methods.pop()].index if len(methods) == 1 else None
        cells = [None if line is None else _cell(line) for line in row]
        lines.append(StepLine(MethodKey(configuration, index), way, cells))
    return lines, len(order) - len(lines)


def _cell(line: dict[Any, Any]) -> StepTime:
    text, interval = duration(line["seconds"], line["seconds_low"], line["seconds_high"])
    return StepTime(text, interval, line["reason"], line["finite"])
