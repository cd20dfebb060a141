"""All problems together: headline, who leads where, heat map, profiles and ranking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from optbench.analysis import metrics, profiles
from optbench.analysis.grid import complete_set
from optbench.analysis.ranking import ranked_methods
from optbench.analysis.ranking import ranking as rank_methods

from .. import tables
from ..figures import heatmap, style
from ..figures import profiles as profile_figures
from ..page.context import PageContext, Picture
from ..page.notes import notes
from ..page.table import BREAK, FLAG, Cell, Column, Link, MethodKey, Table
from ..validity import unresolved_targets
from ..verdict import Name, headline
from ..wording import DEFAULT, NEVER, rank, target_name

HEADING = Markup('<a href="#{}" title="{}"><bdi>{}</bdi></a>')


@dataclass(frozen=True)
class AtTarget:
    """The parts that depend on the target."""

    name: str
    problems: int  # in the heat map
    heat: Table
    table: str  # of the heat map
    performance: Picture
    data: Picture


@dataclass(frozen=True)
class OverviewSection:
    """What the template shows."""

    headline: list[list[str | MethodKey]]  # sentences in parts
    leaders: Table
    compared: tuple[int, int]  # numbers of methods and problems in profiles and ranking
    left_out: list[tuple[str, str]]  # methods and problems that are not in them, and why
    targets: list[AtTarget]
    default: str  # name of the target that is shown first
    ecdf: Picture | None
    ranks: Picture | None
    ranking: Table
    legend: list[tuple[str, str]]  # of the heat map: text and CSS class
    without_targets: list[Link]
    notes: list[str]


def section(context: PageContext) -> OverviewSection | None:
    """The section; None without runs."""
    if not context.parts:
        return None
    runs = context.runs
    complete, ranking = complete_set(runs), rank_methods(runs)
    goals = sorted({*metrics.SHOWN_TARGETS, DEFAULT}, reverse=True) if complete.problems else []
    with_targets = set(heatmap.with_targets(profiles.relative_calls(runs))["problem"])
    return OverviewSection(
        headline=[[_part(context, part) for part in sentence] for sentence in headline(runs)],
        leaders=_leaders(context),
        compared=(len(complete.methods), len(complete.problems)),
        left_out=list(complete.left_out),
        targets=[_at_target(context, goal, ranking) for goal in goals],
        default=target_name(DEFAULT),
        ecdf=_shares(context, "ecdf", "ecdf") if complete.problems else None,
        ranks=ranks_figure(context, ranking) if len(ranking) else None,
        ranking=_ranking(context, ranking),
        legend=[(text, f"r{i}") for i, text in enumerate(heatmap.limits())],
        without_targets=[context.link(name) for name in context.parts if name not in with_targets],
        notes=[*unresolved_targets(runs), *notes(runs.rows, tables.lines(runs), context.races)],
    )


def _part(context: PageContext, part: str) -> str | MethodKey:
    """A part of a sentence, without line breaks before percent signs."""
    return context.method(part) if isinstance(part, Name) else part.replace(" %", "\u00a0%")


def _leaders(context: PageContext) -> Table:
    def names(leader: tables.Leader) -> Cell:
        close = FLAG.format("too close to call") if leader.methods and not leader.certain else Markup()
        return Cell(BREAK.join(map(context.method, leader.methods)) or "none", note=close)

    columns = [
        Column("problem", lambda leader: Cell(context.link(leader.problem)), "row"),
        Column("compared by", lambda leader: Cell(leader.goal), ""),
        Column("leader", names, ""),
        Column("result", lambda leader: Cell(leader.result)),
        Column("oracle", lambda leader: Cell(leader.oracle), ""),
        Column("other methods", lambda leader: Cell(leader.remark), "remark"),
    ]
    return Table.of(columns, tables.leaders(context.runs))


def _at_target(context: PageContext, target: float, ranking: pd.DataFrame) -> AtTarget:
    """The heat map and the profiles of a target."""
    name = target_name(target)
    table = profiles.relative_calls(context.runs, target)
    shown = heatmap.shown_rows(context.runs, table)
    problems = [problem for problem in context.parts if problem in set(shown["problem"])]
    ranked = dict(zip(ranking["method"], ranking["rank"], strict=True))
    lines = shown.set_index(["method", "problem"]).to_dict("index")

    def cell(problem: str) -> Callable[[str], Cell]:
        return lambda method: heatmap.cell_of(lines[method, problem])

    columns = [
        Column("method", lambda method: Cell(context.method(method)), "row"),
        Column("mean rank", lambda method: Cell(rank(ranked[method]) if method in ranked else NEVER)),
        *(
            Column(HEADING.format(context.anchors[problem], problem, short), cell(problem), "tall")
            for problem, short in zip(problems, heatmap.headings(problems), strict=True)
        ),
    ]
    return AtTarget(
        name=name,
        problems=len(problems),
        heat=Table.of(columns, heatmap.row_order(context.runs, shown)),
        table=context.table(f"relative-calls-{name}", table),
        performance=_shares(context, f"performance-profile-{name}", "performance_profile", target),
        data=_shares(context, f"data-profile-{name}", "data_profile", target),
    )


def _shares(context: PageContext, anchor: str, name: str, *target: float) -> Picture:
    """A profile or the ECDF, by its name in `profiles`, with its table; the label gives the ends of the best curves."""
    table = getattr(profiles, name)(context.runs, *target)
    figure = style.figure(getattr(profile_figures, name), context.runs, *target, styles=context.styles)
    leading = ranked_methods(context.runs)[: style.EMPHASIS]
    last = table.groupby("method")["share"].max()
    first = table.sort_values(table.columns[1]).groupby("method")["share"].first()
    ends = [f"{name} from {100 * first.get(name, 0):.0f} to {100 * last.get(name, 0):.0f} %" for name in leading]
    what = f"{figure.axes[0].get_title(loc='left')}: share of {'problems' if target else 'targets'}"
    label = f"{what}, for the best in the ranking: {', '.join(ends)}. The CSV has all numbers."
    return context.picture(anchor, figure, label, table=table)


def ranks_figure(context: PageContext, ranking: pd.DataFrame) -> Picture:
    size = style.SIZE[0], 0.95 + (0.26 if len(ranking) <= 24 else 0.2) * (max(len(ranking), 5) + 0.5)
    figure = style.figure(profile_figures.ranks, context.runs, size=size, styles=context.styles)
    shown = "; ".join(
        f"{line.method} {line.rank:.2f} ({line.low:.2f} to {line.high:.2f})" for line in ranking.itertuples()
    )
    label = f"Mean rank over problems, with 95 % interval: {shown}"
    return context.picture("ranking", figure, label, table=ranking)


def _ranking(context: PageContext, ranking: pd.DataFrame) -> Table:
    """The ranking as text."""

    def share(name: str) -> Callable[[dict[Any, Any]], Cell]:
        return lambda line: Cell(NEVER, -1.0) if pd.isna(line[name]) else Cell(f"{100 * line[name]:.0f} %", line[name])

    def problems(line: dict[Any, Any]) -> Cell:
        last = pd.isna(line["beats_next"])
        return Cell(NEVER if last else f"{line['ahead']:.0f} : {line['behind']:.0f}", line["place"])

    def oracle(line: dict[Any, Any]) -> Cell:
        text = " or ".join(tables.ORACLES[oracle] for oracle in line["oracle"].split(" or "))
        return Cell(text, text)

    columns = [
        Column("method", lambda line: Cell(context.method(line["method"]), line["method"]), "row"),
        Column("mean rank", lambda line: Cell(rank(line["rank"]), line["rank"])),
        Column("95 % interval", lambda line: Cell(f"{rank(line['low'])} to {rank(line['high'])}", line["rank"])),
        Column("first", share("first")),
        Column("before the next", share("beats_next")),
        Column("problems", problems),
        Column("oracle", oracle, ""),
    ]
    return Table.of(columns, ranking.assign(place=range(1, len(ranking) + 1)).to_dict("records"))
