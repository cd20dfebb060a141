"""Speed: the section of the page that has seconds, all of them from races."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import timing, tuning
from optbench.results.runs import Runs

from .. import tables, wording
from ..figures import (
    seconds,
    speed,
    style,
)
from ..page.context import Book, Picture
from . import steps


@dataclass(frozen=True)
class SecondsPicture(Picture):
    """A figure of `convergence_seconds` on the page.

    Attributes
    ----------
    told : str
        What it shows and leaves out, for its caption.
    """

    told: str


def seconds_picture(book: Book, problem: str) -> SecondsPicture | None:
    """The figure of `convergence_seconds` of a problem for the page; None where no method with runs on it raced.

    Where methods raced on several machines, that with the most methods is shown.
    """
    part = book.parts[problem]
    if book.races.empty or not set(part.rows["problem_name"]) & set(book.races["problem_name"]):
        return None
    every = seconds.seconds_of(part, book.races)
    if every.empty:
        return None
    count = every.groupby("machine", sort=True)["method"].nunique()
    machine = str(count.idxmax())
    table = every[every["machine"] == machine]
    rates = table.drop_duplicates("method")
    made = style.figure(_drawn, part, table, problem, book.styles)
    methods = sorted(set(table["method"]))
    absent = sorted(set(part.rows["method"]) - set(methods))
    facts = [f"Seconds a call are those of races on {machine}"]
    if len(count) > 1:
        facts.append(f"raced also on {', '.join(name for name in count.index if name != machine)}, not drawn here")
    told = f"{'; '.join(facts)}."
    if rates["disturbed"].any():
        told += f" Disturbed: {_some(rates.loc[rates['disturbed'], 'method'])}."
    if absent:
        told += f" Without a race: {_some(absent)}."
    best = next(m for m in tuning.ranked(part)[problem] if m in methods)
    label = (
        f"Convergence on {problem} in seconds on {machine}: one line for each of {len(methods)} methods that raced. Best "
        f"of them in oracle calls: {best}."
    )
    drawn = book.picture(f"{book.anchors[problem]}-seconds", made, label, _rates(every))
    return SecondsPicture(drawn.svg, drawn.table, told)


def _drawn(part: Runs, table: pd.DataFrame, problem: str, styles: style.Styles, ax: Axes) -> None:
    seconds.draw(part, table, problem, style.axes(ax), style.EMPHASIS, styles)


def _rates(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds a call by method and machine: with the curves in oracle calls, which have a table of their own, all of it."""
    held = ["problem", "method", "machine", "backend", "precision", "fused", "race", "disturbed", "seconds_per_call"]
    return table[held].drop_duplicates(ignore_index=True)


def _some(names: Iterable[str], most: int = 8) -> str:
    """Names as text, not more than a caption holds."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def section(book: Book) -> dict[str, Any] | None:
    """What the races say in seconds; None where there are none."""
    runs, races = book.runs, book.races
    if races.empty:
        return None
    standing = timing.standing_races(races)
    reached = tables.seconds_table(runs, races)
    goals = [name for name in reached.columns if name.startswith("to ") and not name.endswith("95 %")]
    shown = ["machine", "update", "backend", "precision"]
    told = [name for name in shown if len(set(reached[name])) > 1]
    by_race = sorted(
        (part for _, part in standing.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True
    )
    return {
        "steps": steps.section(book),
        "races": [_race(book, number, part) for number, part in enumerate(by_race, start=1)],
        "left_out": races["race"].nunique() - len(by_race),
        "goals": goals,
        "told": told,
        "same": [
            ", ".join(map(str, dict.fromkeys(reached[name]))) for name in shown if name not in told and len(reached)
        ],
        "reached": reached.to_dict("records"),
        "without": _without_seconds(runs, races, reached),
    }


def _race(book: Book, number: int, rows: pd.DataFrame) -> dict[str, Any]:
    """One race's part of the page."""
    rows = rows.sort_values(["round", "place"])
    table = tables.speed_table(rows)
    figure = {}
    for place, problem in enumerate(dict.fromkeys(table["problem"]), start=1):
        its = table[table["problem"] == problem]
        label = (
            f"Time a step on {problem}, median of {rows['round'].nunique()} rounds; of it the oracle's part: "
            + "; ".join(
                f"{line['configuration']} {line['a step']}, {line['oracle']}" for line in its.to_dict("records")
            )
        )
        figure[problem] = book.picture(f"race-{number}-{place}", speed.figure_of(rows, problem), label, table=its)
    first = rows.iloc[0]
    before, after = (
        wording.NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after")
    )
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return {
        "held": f"{first['created'][:19].replace('T', ' ')} UTC",
        "facts": [
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself is 1)"),
            ("arrays", f"{wording.several(rows['backend'])}, {wording.several(rows['precision'])}"),
            ("held", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        "disturbed": bool((table["reason"] != "").any()),
        "figures": figure,
        "groups": [(problem, part.to_dict("records")) for problem, part in table.groupby("problem", sort=False)],
    }


def _without_seconds(runs: Runs, races: pd.DataFrame, reached: pd.DataFrame) -> list[str]:
    """What the table of seconds to target leaves out, and why."""
    said = []
    there = set(zip(reached["problem"], reached["method"], strict=True))
    for problem, rows in runs.rows.groupby("problem", sort=True):
        methods = sorted(set(rows["method"]))
        if rows["f_star"].isna().all():
            said.append(f"On {problem} there are no targets: its optimal value is not known.")
            continue
        absent = [method for method in methods if (problem, method) not in there]
        if len(absent) == len(methods):
            said.append(f"On {problem} there was no race of any method.")
        elif absent:
            said.append(f"On {problem} there was no race of: {'; '.join(absent)}.")
    ran = set(zip(runs.rows["problem_name"], runs.rows["problem_params"], strict=True))
    raced = set(zip(races["problem"], races["problem_name"], races["problem_params"], strict=True))
    only = sorted(problem for problem, *what in raced if tuple(what) not in ran)
    if only:
        said.append(f"Of {'; '.join(only)} there are races, but no runs that tell how many steps it takes.")
    return said
