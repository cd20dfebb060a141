"""The section of a problem: its facts, its figures, and the tables of its methods.

To add a figure, add its function to `FIGURES`.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from optbench.analysis import metrics, tuning
from optbench.core import workers
from optbench.core.progress import ProgressBar
from optbench.core.types import Status
from optbench.core.workers import StartError, WorkerDiedError
from optbench.results.runs import Runs

from .. import tables
from ..figures import style
from ..figures.convergence import convergence, draw_seconds, rates, seconds_of
from ..figures.generalization import generalization, learned_table
from ..figures.selection import description_of
from ..figures.sensitivity import sensitivity
from ..page.context import PageContext, Picture, collecting_rarely
from ..page.table import Cell, Column, MethodKey, Table
from ..wording import calls, names, notation, number, shorten, span, target_name

# behind the figure in seconds, together with the table of the curves in oracle calls
RATE_COLUMNS = [
    "problem",
    "method",
    "machine",
    "backend",
    "precision",
    "fused",
    "race",
    "disturbed",
    "seconds_per_call",
]


@dataclass(frozen=True)
class ProblemSection:
    """What the template shows of a problem."""

    name: str
    anchor: str
    summary: str | None  # a sentence
    facts: list[tuple[str, str]]
    methods: list[MethodKey]
    figures: list[Picture]
    lines: Table
    table: str
    targets: Table | None  # oracle calls to every power of ten of the initial gap, where the optimum is known


Tables = dict[str, pd.DataFrame]


@contextlib.contextmanager
def drawing(context: PageContext, jobs: int, bar: ProgressBar) -> Iterator[Callable[[], list[ProblemSection]]]:
    """Start to draw the sections of all problems in other processes; yield the function that waits for them.

    The waiting process draws the sections that no other process has started. The result does not depend on the process.

    Parameters
    ----------
    jobs : int
        Number of processes that draw, including this one.
    bar : ProgressBar
        Advances by 1 for each problem.
    """
    names = list(context.parts)
    lines: Tables = dict(iter(tables.lines(context.runs).groupby("problem", sort=False)))
    others = min(jobs - 1, len(names) // 2)

    def draw(name: str) -> ProblemSection:
        drawn = section(context, name, lines[name])
        bar.advance(1)
        return drawn

    if others < 1:
        yield lambda: [draw(name) for name in names]
        return
    pool = workers.acquire(others)
    started: dict[str, cf.Future[tuple[ProblemSection, Tables]]] = {}

    def wait() -> list[ProblemSection]:
        sections = {name: draw(name) for name in reversed(names) if name not in started or started[name].cancel()}
        for name in names:
            if name not in sections:
                try:
                    sections[name], offered = started[name].result()
                    context.tables |= offered
                    bar.advance(1)
                except (WorkerDiedError, StartError):  # such as too little memory, or a main module that is no file
                    sections[name] = draw(name)
        return [sections[name] for name in names]

    try:
        for name in names:
            started[name] = pool.submit(_section_and_tables, context.only(name), name, lines[name])
        yield wait
    except BaseException:
        pool.stop()
        raise
    workers.release(pool)


def _section_and_tables(context: PageContext, name: str, lines: pd.DataFrame) -> tuple[ProblemSection, Tables]:
    """A section drawn in another process, and its tables for download."""
    with style.theme(), collecting_rarely():
        return section(context, name, lines), context.tables


def section(context: PageContext, name: str, lines: pd.DataFrame) -> ProblemSection:
    """The section of a problem; `lines` are its rows of `tables.lines`."""
    part, anchor = context.parts[name], context.anchors[name]
    method, *others = tables.columns(lines)
    figures = (build(context, name) for build in FIGURES)
    return ProblemSection(
        name=name,
        anchor=anchor,
        summary=_summary(description_of(part)),
        facts=facts(part),
        methods=[context.method(method) for method in sorted(lines["method"])],
        figures=[figure for figure in figures if figure is not None],
        lines=Table.of([_methods(context, method.meaning), *others], lines.to_dict("records")),
        table=context.table(f"{anchor}-summary", lines.drop(columns=["others", "shown"])),
        targets=_targets(context, name),
    )


def _summary(description: dict[str, Any]) -> str | None:
    """The summary of a problem, without the formula that the facts repeat."""
    summary: str | None = description.get("summary")
    _, _, text = (summary or "").partition(": ")
    if not text or not description.get("formula") or not str(summary).startswith("f("):
        return summary
    return text[0].upper() + text[1:]


def _curves(context: PageContext, name: str, value: str = "best") -> Picture:
    """The smallest value so far, or the value of the current iterate, against oracle calls."""
    part, anchor = context.parts[name], context.anchors[name]
    what, best, methods = _what(part), value == "best", tuning.ranked(part)[name]
    figure = style.figure(convergence, part, name, value=value, guides=best, styles=context.styles)
    title = (
        f"Convergence on {name}: smallest {what} so far" if best else f"Last iterate on {name}: {what} of the iterate"
    )
    shown = f"one line for each of {len(methods)} methods. Best in the table below: {methods[0]}."
    caption = _best_caption(part) if best else (
        f"The {what} at the current iterate, which may rise again. Values above 100 times the start are drawn at the top. "
        "A line that ends early diverged on half of the seeds or more."
    )  # fmt: skip
    anchors = f"{anchor}-{'best' if best else 'last'}", f"{anchor}-curves"
    return context.picture(anchors[0], figure, f"{title} against oracle calls, {shown}", caption, anchors[1])


def _best_caption(part: Runs) -> str:
    what, rows = _what(part), part.rows
    caption = f"Smallest {what} so far: median and quartiles over seeds. Lower and further left is better."
    if what == "gap":
        caption += " A dotted line, if any, marks the smallest gap that rounding can resolve."
    if not rates(part).empty:
        caption += (
            " Plain dashes are upper bounds from theory, from the median start: gradient descent with step size 1/L, "
            "(1 − μ/L)ᵗ, and Nesterov’s method, 2(1 − √(μ/L))ᵗ."
        )
    failed = set(rows["method"]) - set(rows.loc[rows["status"] != Status.FAILED, "method"])
    return caption + _listed(" Not drawn, because every run failed:", failed)


def _sizes(context: PageContext, name: str) -> Picture:
    part = context.parts[name]
    figure = style.figure(sensitivity, part, name, styles=context.styles)
    label = (
        f"Step sizes on {name}: smallest {_what(part)} of a run against the step size, one line for each method with a "
        "step size."
    )
    caption = (
        "The wider the valley, the less the step size matters. A ring marks the best setting. Hollow markers: some seeds "
        "diverged or failed. Crosses: all did. Such a run counts with its value at the start."
    )
    count = part.rows.groupby("method")["step_size"].count()
    if count.any():
        caption += _listed(" Without a step size:", set(count[count == 0].index))
    return context.picture(f"{context.anchors[name]}-sizes", figure, label, caption, metrics.sensitivity(part))


def _learned(context: PageContext, name: str, kind: str) -> Picture | None:
    """Accuracy or loss by part of the data; None where the problem has none."""
    part = context.parts[name]
    table = learned_table(part, kind)
    if table.empty:
        return None
    size = 6.8, 1.2 + 0.24 * table["method"].nunique()
    figure = style.figure(generalization, part, name, kind=kind, size=size, left=1.9, room=1.1)
    best = f"best {table['split'].iloc[-1]} {kind}: {table['method'].iloc[0]}"
    side = "right" if kind == "accuracy" else "left"
    caption = (
        f"{kind.capitalize()} at the end of a run, median and quartiles over seeds. Further {side} is better. Settings "
        "were chosen by the training objective alone."
    )
    label = f"{kind.capitalize()} by part of the data on {name}; {best}."
    return context.picture(f"{context.anchors[name]}-{kind}", figure, label, caption, table)


def seconds_figure(context: PageContext, problem: str) -> Picture | None:
    """Convergence in seconds; None where no method of the problem raced.

    Of several machines, the one with the most methods is shown.
    """
    part, races = context.parts[problem], context.races
    if races.empty or not set(part.rows["problem_name"]) & set(races["problem_name"]):
        return None
    table = seconds_of(part, races)
    if table.empty:
        return None
    count = table.groupby("machine", sort=True)["method"].nunique()
    machine = str(count.idxmax())
    shown = table[table["machine"] == machine]
    methods = sorted(set(shown["method"]))
    best = next(method for method in tuning.ranked(part)[problem] if method in methods)
    label = (
        f"Convergence on {problem} in seconds on {machine}: one line for each of {len(methods)} methods that raced. Best "
        f"in oracle calls: {best}."
    )
    figure = style.figure(draw_seconds, part, shown, problem, styles=context.styles)
    caption = _seconds_caption(part, shown, [name for name in count.index if name != machine])
    rates = table[RATE_COLUMNS].drop_duplicates(ignore_index=True)
    return context.picture(f"{context.anchors[problem]}-seconds", figure, label, caption, rates)


def _seconds_caption(part: Runs, shown: pd.DataFrame, others: list[str]) -> Markup:
    """The caption: what is drawn and what is left out."""
    rates = shown.drop_duplicates("method")
    caption = Markup(
        "The same curves against time: oracle calls times the seconds per call, measured in races on <bdi>{}</bdi>"
    ).format(shown["machine"].iloc[0])
    if others:
        caption += Markup("; races on <bdi>{}</bdi> are not drawn").format(", ".join(others))
    caption += "."
    for text, methods in (
        ("Disturbed", rates.loc[rates["disturbed"], "method"]),
        ("Without a race", sorted(set(part.rows["method"]) - set(rates["method"]))),
    ):
        if len(methods):
            caption += Markup(" {}: <bdi>{}</bdi>.").format(text, names(methods))
    return caption


FIGURES: tuple[Callable[[PageContext, str], Picture | None], ...] = (
    _curves, _sizes, partial(_curves, value="f"), seconds_figure,
    partial(_learned, kind="accuracy"), partial(_learned, kind="loss"),
)  # fmt: skip


def _what(part: Runs) -> str:
    """The quantity that is drawn: the gap where the optimum is known, else the objective."""
    return "gap" if part.rows["f_star"].notna().all() else "objective"


def _listed(text: str, names: set[str]) -> str:
    """A sentence that ends with names; empty without names."""
    return Markup("{} <bdi>{}</bdi>.").format(text, "; ".join(sorted(names))) if names else ""


def _methods(context: PageContext, meaning: str = "") -> Column:
    return Column("method", lambda line: Cell(context.method(line["method"]), line["method"]), "row", meaning)


def _targets(context: PageContext, name: str) -> Table | None:
    """The table of calls to every power of ten; None where no optimum is known."""
    table = metrics.calls_by_target(context.parts[name])
    if table.empty:
        return None
    context.table(f"{context.anchors[name]}-targets", table)
    write = {target: notation(column, 2) for target, column in table.groupby("target")["calls"]}
    lines = [
        {"method": method}
        | {line["target"]: _to_target(line, write[line["target"]]) for line in part.to_dict("records")}
        for method, part in table.groupby("method", sort=False)
    ]
    targets = sorted(write, reverse=True)
    to_target = [Column(target_name(target), operator.itemgetter(target)) for target in targets]
    return Table.of([_methods(context), *to_target], lines)


def _to_target(line: dict[Any, Any], write: Callable[[float], str]) -> Cell:
    missed, seeds = line["seeds"] - line["reached"], line["seeds"]
    end = f"; these ended after {calls(line['censored'])} calls (median)" if np.isfinite(line["censored"]) else ""
    title = f"missed by {missed} of {seeds} seeds{end}" if missed else ""
    return tables.calls_cell(line["calls"], line["reached"], seeds, write)._replace(title=title)


def facts(part: Runs) -> list[tuple[str, str]]:
    """The facts about a problem: pairs of name and text."""
    rows = part.rows
    first, description = rows.iloc[0], description_of(part)
    params = json.loads(first["problem_params"] or "{}")
    samples = f", n = {description['n_samples']} samples" if description.get("n_samples") else ""
    pairs = [("formula", description["formula"])] if description.get("formula") else []
    pairs.append(("dimension", f"d = {first['dim']} parameters{samples}"))
    if params:
        pairs.append(("parameters", ", ".join(f"{key} = {_plain(value)}" for key, value in params.items())))
    L, mu = description.get("smoothness"), description.get("strong_convexity")
    if L and mu:
        constants = f"smoothness L = {number(L)}, strong convexity μ = {number(mu)}"
        pairs.append(("conditioning", f"L/μ = {number(L / mu)}; {constants}"))
    elif description:
        kind = "not known to be convex" if mu is None else "convex, but not strongly convex"
        pairs.append(("conditioning", f"{kind}{f'; smoothness L = {number(L)}' if L else ''}"))
    if rows["f_star"].notna().all():
        f_star, lower = float(first["f_star"]), first["f_star_lower"]
        width = 0.0 if pd.isna(lower) else max(0.0, f_star - float(lower))
        certain = f", stated to within {number(width)}" if width > 0 else ""
        method = first["f_star_method"] or "source not stated"
        pairs.append(("optimal value", f"f* = {f_star:.12g}{certain} ({method})"))
    else:
        pairs.append(("optimal value", "not known; the objective is shown instead of the gap"))
    starts = rows["f_start"].dropna().astype(float)
    if len(starts):
        text = span(starts.min(), starts.max())
        pairs.append(("objective at the start", f"{text}, depending on the seed" if " to " in text else text))
    budgets = list(dict.fromkeys(map(calls, np.unique(rows["budget_calls"].dropna().to_numpy(dtype=float)))))
    if budgets:
        text = " or ".join(budgets) if len(budgets) < 4 else f"{budgets[0]} to {budgets[-1]}"
        pairs.append(("budget of a run", f"{text} oracle calls"))
    if description.get("differences"):
        least = min(description["differences"]["central"])
        pairs.append(("gradient checked", f"relative error of central differences {number(least)}"))
    if description.get("citation"):
        pairs.append(("source", description["citation"]))
    return pairs


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shorten(str(value), 200) or "none"
