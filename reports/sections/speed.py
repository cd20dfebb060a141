"""The section on speed: times from races and the history of the asv benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from optbench.analysis.timing import current_races
from optbench.results.runs import Runs

from .. import tables
from ..figures import step_times
from ..page.anchors import slug, unique_anchors
from ..page.context import PageContext, Picture
from ..page.table import FLAG, INTERVAL, Cell, Column, Link, MethodKey, Table, text_of
from ..wording import NEVER, duration, several
from .history import History, history_of

ROWS = 72  # in all figures of times per step together; each problem has an equal share
FIGURE_ROWS = 24  # in a figure with several problems, so that it fits on a printed page
LINES = 60  # in their table
_DISTURBED = Markup(' <span class="flag" title="{}">disturbed</span>')


@dataclass(frozen=True)
class Race:
    """What the template shows of a race."""

    anchor: str
    title: str
    facts: list[tuple[str, str]]
    disturbed: bool
    figures: list[Picture]
    lines: Table


@dataclass(frozen=True)
class StepTimes:
    """Times per step in all races."""

    figures: list[Picture]
    lines: Table
    ways: list[str]  # machines and ways of computing
    more: int  # number of rows that are only in the table for download


@dataclass(frozen=True)
class SecondsTable:
    """Seconds to targets."""

    lines: Table
    shared: list[str]  # what all rows have in common
    missing: list[str]  # reasons for what is missing


@dataclass(frozen=True)
class SpeedSection:
    """What the template shows; without races, only the history."""

    races: list[Race]
    left_out: int  # number of races that are not shown
    steps: StepTimes | None
    seconds: SecondsTable | None
    history: History | None


def section(context: PageContext) -> SpeedSection | None:
    """The section; None without runs and races."""
    runs, races = context.runs, context.races
    if not context.parts and races.empty:
        return None
    history = history_of(context)
    if races.empty:
        return SpeedSection([], 0, None, None, history)
    current = current_races(races)
    shown = sorted((part for _, part in current.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True)
    return SpeedSection(
        races=[_race(context, part) for part in shown],
        left_out=races["race"].nunique() - len(shown),
        steps=step_times_of(context),
        seconds=_seconds(context, runs, races),
        history=history,
    )


def _race(context: PageContext, rows: pd.DataFrame) -> Race:
    rows = rows.sort_values(["round", "place"])
    first = rows.iloc[0]
    title = f"{first['created'][:19].replace('T', ' ')} UTC"
    anchor = f"race-{slug(first['race'])}"
    table = tables.speed_table(rows)
    disturbed = bool((table["reason"] != "").any())
    groups = list(table.groupby("problem", sort=False))
    anchors = unique_anchors((f"{anchor}-{problem}" for problem, _ in groups), (), ())
    figures = []
    for problem, lines in groups:
        label = (
            f"Time per step on {problem}, median of {rows['round'].nunique()} rounds, and the share of its oracle calls: "
            + "; ".join(
                f"{line['configuration']} {line['a step']}, {line['oracle']}" for line in lines.to_dict("records")
            )
        )
        figure = step_times.speed_figure(rows, problem)
        figures.append(context.picture(anchors[f"{anchor}-{problem}"], figure, label, table=lines))
    before, after = (NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after"))
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return Race(
        anchor=anchor,
        title=title,
        facts=[
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself adds 1)"),
            ("arrays", f"{several(rows['backend'])}, {several(rows['precision'])}"),
            ("measured", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        disturbed=disturbed,
        figures=figures,
        lines=_race_table(context, table, disturbed),
    )


def _race_table(context: PageContext, table: pd.DataFrame, disturbed: bool) -> Table:
    """A row for each of `tables.speed_table`."""
    columns = [
        Column("configuration", lambda line: Cell(Link(line["configuration"]), note=_flags(line)), "row"),
        Column("time per step", _with_interval("a step")),
        Column("times the first", _with_interval("times the first")),
        Column("oracle", text_of("oracle")),
        Column("optimizer", _with_interval("optimizer")),
        *([Column("disturbed by", text_of("reason"), "remark")] if disturbed else []),
    ]
    return Table.of(columns, table.to_dict("records"), lambda line: context.link(line["problem"]))


def _with_interval(name: str) -> Callable[[dict[Any, Any]], Cell]:
    return lambda line: Cell(line[name], note=_interval(line[f"{name}, 95 %"]))


def _interval(text: str) -> Markup:
    return INTERVAL.format(text) if text else Markup()


def _flags(line: dict[Any, Any]) -> Markup:
    disturbed = _DISTURBED.format(line["reason"]) if line["reason"] else Markup()
    return disturbed + ("" if line["finite"] else FLAG.format("diverged"))


def _seconds(context: PageContext, runs: Runs, races: pd.DataFrame) -> SecondsTable:
    table = tables.seconds_table(runs, races)
    targets = [name for name in table.columns if name.startswith("to ") and f"{name}, 95 %" in table.columns]
    facts = ["machine", "update", "backend", "precision"]
    differing = [name for name in facts if len(set(table[name])) > 1]

    def method(line: dict[Any, Any]) -> Cell:
        return Cell(context.method(line["method"]), note=FLAG.format("disturbed") if line["disturbed"] else Markup())

    columns = [
        Column("problem", lambda line: Cell(context.link(line["problem"])), "row"),
        Column("method", method, ""),
        *(Column(name, text_of(name), "") for name in differing),
        *(Column(name, _with_interval(name)) for name in targets),
    ]
    return SecondsTable(
        lines=Table.of(columns, table.to_dict("records")),
        shared=[several(table[name]) for name in facts if name not in differing and len(table)],
        missing=_missing(runs, races, table),
    )


def _missing(runs: Runs, races: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Reasons for what is missing in the table of seconds to targets."""
    reasons = []
    listed = set(zip(table["problem"], table["method"], strict=True))
    for problem, rows in runs.rows.groupby("problem", sort=True):
        methods = sorted(set(rows["method"]))
        absent = [method for method in methods if (problem, method) not in listed]
        if rows["f_star"].isna().all():
            reasons.append(f"{problem}: no targets, because its optimal value is not known.")
        elif len(absent) == len(methods):
            reasons.append(f"{problem}: no races.")
        elif absent:
            reasons.append(f"{problem}: no races of {'; '.join(absent)}.")
    ran = set(zip(runs.rows["problem_name"], runs.rows["problem_params"], strict=True))
    raced = set(zip(races["problem"], races["problem_name"], races["problem_params"], strict=True))
    only = sorted(problem for problem, *identity in raced if tuple(identity) not in ran)
    if only:
        reasons.append(f"{'; '.join(only)}: no runs, only races.")
    return reasons


def step_times_of(context: PageContext) -> StepTimes | None:
    """Times per step in all races; None for a single race on a single problem."""
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
        caption += " Markers show the machine or way of computing."
    if any(size > share for size in sizes.values()):
        caption += f" At most {share} configurations per problem are drawn, the fastest."
    anchors = unique_anchors((f"time-per-step-{group[0]}" for group in groups), (), ())
    figures = []
    for group, anchor in zip(groups, anchors.values(), strict=True):
        if group is groups[-1] and len(drawn) < len(problems):
            caption += Markup(" Not drawn: <bdi>{}</bdi>.").format("; ".join(problems[len(drawn) :]))
        figure = step_times.step_times_figure(table, group, share, context.styles)
        figures.append(context.picture(anchor, figure, _label(table, group), caption))
    context.table("time-per-step", table)
    lines = _step_lines(table)
    columns = [
        Column("configuration", lambda line: Cell(_configuration(context, line)), "row"),
        *([Column("on", lambda line: Cell(Link(line.way)), "")] if len(ways) > 1 else []),
        *(Column(context.link(name), _step_cell_of(name)) for name in problems),
    ]
    return StepTimes(figures, Table.of(columns, lines[:LINES]), ways, more=len(lines[LINES:]))


def _label(table: pd.DataFrame, problems: Sequence[str]) -> str:
    """Alternative text of the figure."""
    parts = []
    for problem in problems:
        lines = table[table["problem"] == problem].sort_values("seconds", kind="stable").to_dict("records")
        first, last = (f"{line['configuration']} {_step_cell(line).text}" for line in (lines[0], lines[-1]))
        parts.append(f"on {problem} from {first} to {last}" if len(lines) > 1 else f"on {problem} {first}")
    return f"Median time per step: {'; '.join(parts)}."


class StepLine(NamedTuple):
    """A row of the table of times per step; its cells are records by problem."""

    configuration: str
    way: str
    records: dict[str, dict[Any, Any]]


def _step_lines(table: pd.DataFrame) -> list[StepLine]:
    """A row for each configuration and way, by the median ratio to the fastest configuration."""
    ratio = table["seconds"] / table.groupby("problem")["seconds"].transform("min")
    behind = ratio.groupby([table["configuration"], table["way"]]).median()
    order = sorted(behind.index, key=lambda key: (behind[key], key))
    lines = {(configuration, way): StepLine(configuration, way, {}) for configuration, way in order}
    for record in table.to_dict("records"):
        lines[record["configuration"], record["way"]].records[record["problem"]] = record
    return list(lines.values())


def _configuration(context: PageContext, line: StepLine) -> MethodKey:
    """The name of a configuration, with the colour of its method if it has one."""
    methods = {record["method"] for record in line.records.values()} & context.styles.keys()
    return replace(context.method(min(methods, default="")), name=line.configuration)


def _step_cell_of(problem: str) -> Callable[[StepLine], Cell]:
    return lambda line: _step_cell(line.records.get(problem))


def _step_cell(record: dict[Any, Any] | None) -> Cell:
    if record is None:
        return Cell(NEVER)
    text, interval = duration(record["seconds"], record["seconds_low"], record["seconds_high"])
    return Cell(text, note=_interval(interval) + _flags(record))
