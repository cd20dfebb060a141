"""The section on speed, the only one with seconds: they come from races, or from the history of the asv benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from optbench.analysis.timing import standing_races
from optbench.results.runs import Runs

from .. import tables
from ..figures import speed, step_times
from ..page.anchors import slug, unique_anchors
from ..page.context import MethodKey, PageContext
from ..wording import NEVER, duration, several
from .history import history_of

ROWS = 72  # of all figures of the time per step together; a problem has its share
FIGURE_ROWS = 24  # of a figure with several problems, so that it fits on a sheet of paper
LINES = 60  # of the table of the time per step


def section(context: PageContext) -> dict[str, Any] | None:
    """What the template shows, without races the history alone; None with neither runs nor races."""
    runs, races = context.runs, context.races
    if not context.parts and races.empty:
        return None
    history = history_of(context)
    if races.empty:
        return {"history": history, "seconds": None}
    standing = standing_races(races)
    shown = sorted((part for _, part in standing.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True)
    return {
        "races": [_race(context, part) for part in shown],
        "left_out": races["race"].nunique() - len(shown),  # races that are not shown
        "steps": step_times_of(context),
        "seconds": _seconds(context, runs, races),
        "history": history,
    }


def _race(context: PageContext, rows: pd.DataFrame) -> dict[str, Any]:
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
        figure = speed.figure_of(rows, problem)
        figures.append(context.picture(anchors[f"{anchor}-{problem}"], figure, label, caption, lines))
    before, after = (NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after"))
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return {
        "anchor": anchor,
        "title": title,
        "facts": [
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself is 1)"),
            ("arrays", f"{several(rows['backend'])}, {several(rows['precision'])}"),
            ("measured", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        "disturbed": bool((table["reason"] != "").any()),
        "figures": figures,
        "groups": [(context.link(problem), lines.to_dict("records")) for problem, lines in groups],
    }


def _seconds(context: PageContext, runs: Runs, races: pd.DataFrame) -> dict[str, Any]:
    """The table of seconds to targets; a column says what differs between rows, its caption what all have in common."""
    table = tables.seconds_table(runs, races)
    targets = [name for name in table.columns if name.startswith("to ") and f"{name}, 95 %" in table.columns]
    facts = ["machine", "update", "backend", "precision"]
    differing = [name for name in facts if len(set(table[name])) > 1]
    return {
        "targets": targets,
        "facts": differing,
        "shared": [several(table[name]) for name in facts if name not in differing and len(table)],
        "lines": [
            (context.link(line["problem"]), context.method(line["method"]), line) for line in table.to_dict("records")
        ],
        "missing": _missing(runs, races, table),
    }


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


def step_times_of(context: PageContext) -> dict[str, Any] | None:
    """Figures and a table of the time per step over all races; None where one figure of one race says as much."""
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
        figure = step_times.figure_of(table, group, share, context.styles)
        figures.append(context.picture(anchor, figure, _step_label(table, group), caption))
    lines, more = _step_lines(context, table, problems)
    return {
        "figures": figures,
        "table": context.table("time-per-step", table),
        "problems": [context.link(problem) for problem in problems],
        "ways": ways,
        "lines": lines,
        "more": more,  # lines that are only in the table for download
    }


def _step_label(table: pd.DataFrame, problems: Sequence[str]) -> str:
    """The figure in words."""
    parts = []
    for problem in problems:
        lines = table[table["problem"] == problem].sort_values("seconds", kind="stable").to_dict("records")
        first, last = (f"{line['configuration']} {_duration(line)[0]}" for line in (lines[0], lines[-1]))
        parts.append(f"on {problem} from {first} to {last}" if len(lines) > 1 else f"on {problem} {first}")
    return f"Median time per step: {'; '.join(parts)}."


def _step_lines(
    context: PageContext, table: pd.DataFrame, problems: Sequence[str]
) -> tuple[list[tuple[MethodKey, str, list[Any]]], int]:
    """Rows of configurations and ways with a cell for each problem (text, interval, line), and how many are left out.

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
        cells = [None if line is None else (*_duration(line), line) for line in row]
        lines.append((MethodKey(configuration, index), way, cells))
    return lines, len(order) - len(lines)


def _duration(line: dict[Any, Any]) -> tuple[str, str]:
    return duration(line["seconds"], line["seconds_low"], line["seconds_high"])
