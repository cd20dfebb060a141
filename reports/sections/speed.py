"""The section on speed, the only one with seconds: they come from races, or from the history of the asv benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from optbench.analysis.timing import standing_races
from optbench.results.runs import Runs

from .. import tables
from ..figures.step_times import speed_figure
from ..page.anchors import slug, unique_anchors
from ..page.context import Link, MethodKey, PageContext, Picture
from ..wording import NEVER, several
from .history import History, history_of
from .steps import StepTimes, step_times_of


@dataclass(frozen=True)
class Race:
    """What the template shows of a race."""

    anchor: str
    title: str
    facts: list[tuple[str, str]]
    disturbed: bool
    figures: list[Picture]
    groups: list[tuple[Link, list[dict[Any, Any]]]]  # problem, and its rows of `tables.speed_table`


@dataclass(frozen=True)
class SecondsLine:
    """A row of the table of seconds to targets."""

    problem: Link
    method: MethodKey
    disturbed: bool
    facts: list[str]  # one for each of `SecondsTable.facts`
    times: list[tuple[str, str]]  # duration and interval for each of `SecondsTable.targets`


@dataclass(frozen=True)
class SecondsTable:
    """Seconds to targets."""

    targets: list[str]
    facts: list[str]  # headings of what differs between rows
    shared: list[str]  # what all rows have in common
    lines: list[SecondsLine]
    missing: list[str]  # what the table leaves out, and why


@dataclass(frozen=True)
class SpeedSection:
    """What the template shows; all but the history is empty without races."""

    races: list[Race]
    left_out: int  # races that are not shown
    steps: StepTimes | None
    seconds: SecondsTable | None
    history: History | None


def section(context: PageContext) -> SpeedSection | None:
    """The section; None with neither runs nor races."""
    runs, races = context.runs, context.races
    if not context.parts and races.empty:
        return None
    history = history_of(context)
    if races.empty:
        return SpeedSection([], 0, None, None, history)
    standing = standing_races(races)
    shown = sorted((part for _, part in standing.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True)
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
        caption = (
            "Further left is faster. A step (disc) consists of its oracle call (diamond) and of the optimizer’s own work "
            "(square; none where it is too short to measure). Medians over rounds; lines are 95 % intervals."
        )
        figure = speed_figure(rows, problem)
        figures.append(context.picture(anchors[f"{anchor}-{problem}"], figure, label, caption, lines))
    before, after = (NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after"))
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return Race(
        anchor=anchor,
        title=title,
        facts=[
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself is 1)"),
            ("arrays", f"{several(rows['backend'])}, {several(rows['precision'])}"),
            ("measured", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        disturbed=bool((table["reason"] != "").any()),
        figures=figures,
        groups=[(context.link(problem), lines.to_dict("records")) for problem, lines in groups],
    )


def _seconds(context: PageContext, runs: Runs, races: pd.DataFrame) -> SecondsTable:
    table = tables.seconds_table(runs, races)
    targets = [name for name in table.columns if name.startswith("to ") and f"{name}, 95 %" in table.columns]
    facts = ["machine", "update", "backend", "precision"]
    differing = [name for name in facts if len(set(table[name])) > 1]
    return SecondsTable(
        targets=targets,
        facts=differing,
        shared=[several(table[name]) for name in facts if name not in differing and len(table)],
        lines=[
            SecondsLine(
                problem=context.link(line["problem"]),
                method=context.method(line["method"]),
                disturbed=line["disturbed"],
                facts=[line[name] for name in differing],
                times=[(line[name], line[f"{name}, 95 %"]) for name in targets],
            )
            for line in table.to_dict("records")
        ],
        missing=_missing(runs, races, table),
    )


def _missing(runs: Runs, races: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What the table of seconds to targets leaves out, and why."""
    reasons = []
    listed = set(zip(table["problem"], table["method"], strict=True))
    for problem, rows in runs.rows.groupby("problem", sort=True):
        methods = sorted(set(rows["method"]))
        absent = [method for method in methods if (problem, method) not in listed]
        if rows["f_star"].isna().all():
            reasons.append(f"On {problem} there are no targets: its optimal value is not known.")
        elif len(absent) == len(methods):
            reasons.append(f"On {problem} no method raced.")
        elif absent:
            reasons.append(f"On {problem} these did not race: {'; '.join(absent)}.")
    ran = set(zip(runs.rows["problem_name"], runs.rows["problem_params"], strict=True))
    raced = set(zip(races["problem"], races["problem_name"], races["problem_params"], strict=True))
    only = sorted(problem for problem, *identity in raced if tuple(identity) not in ran)
    if only:
        reasons.append(f"On {'; '.join(only)} there are races, but no runs that show how many steps a target takes.")
    return reasons
