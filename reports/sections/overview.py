"""All problems together: headline, who leads where, heat map, profiles and ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from optbench.analysis import metrics, profiles, statistics
from optbench.analysis.grid import CompleteSet, complete_set, tuned_runs
from optbench.analysis.ranking import ranked_methods
from optbench.analysis.ranking import ranking as rank_methods
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs

from .. import tables
from ..figures import heatmap, style
from ..figures import profiles as profile_figures
from ..figures.profiles import DEFAULT, NO_RANKING
from ..page.context import PageContext, Picture
from ..page.notes import notes
from ..page.table import BREAK, FLAG, Cell, Column, Link, MethodKey, Table
from ..wording import NEVER, factor, percent, plural, rank, target_name

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on a method leads, or probably leads


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them
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
        notes=notes(runs.rows, tables.lines(runs), context.races),
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


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    A method leads if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.analysis.ranking.ranking`, and probably leads from 80 % on; below that it is too close to call.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.
    """
    chosen = complete_set(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            problems = plural(len(chosen.problems), "problem")
            only = f" is the only optimizer on {problems} with a known optimal value: there is nothing to rank."
            return [(Name(chosen.methods[0]), only)]
        return [(f"{NO_RANKING}, so there is no ranking over problems; the table shows who leads on each of them.",)]
    table = rank_methods(runs)
    oracle = dict(zip(table["method"], table["oracle"], strict=True))
    sentences = [_lead(runs, table)]
    winner = table["method"].iloc[0]
    plain = [name for name in table["method"] if Oracle.HESSIAN not in oracle[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if oracle[name] == Oracle.GRADIENT])
    if Oracle.HESSIAN in oracle[winner]:
        price = (Name(winner), " uses Hessians; such a call counts like any other, though it costs more time. ")
        if len(plain) > 1:
            rest = rank_methods(runs, among=tuple(plain))
            sentences.append((*price, *_lead(runs, rest, "Without Hessians, ")))
            winner = rest["method"].iloc[0]
        else:
            sentences.append(price)
    elif oracle[winner] == Oracle.VALUE:
        sentences.append((Name(winner), " uses values only, which cost less time than gradients."))
    if 1 < len(tuned) < len(plain):
        rest = rank_methods(runs, among=tuple(tuned))
        if rest["method"].iloc[0] != winner:
            sentences.append(_lead(runs, rest, "Of those with a learning rate to choose, "))
    sentences.append((*_losses(runs, tuned, table), *_evidence(runs, chosen, table)))
    return sentences


def _lead(runs: Runs, table: pd.DataFrame, among: str = "") -> Sentence:
    """Who leads a ranking, how surely, and by how many oracle calls; `among` begins a sentence on some of the methods."""
    first, second = table.iloc[0], table.iloc[1]
    winner, other = Name(first["method"]), Name(second["method"])
    problems, beats = int(first["problems"]), float(first["beats_next"])
    best, next_best = rank(first["rank"]), rank(second["rank"])
    interval, next_interval = (f"{rank(line['low'])} to {rank(line['high'])}" for line in (first, second))
    several = f"over the {problems} problems" if problems > 1 else "on the one problem"
    everyone = "both" if len(table) == 2 else f"all {len(table)}"
    over = f"among {len(table)}" if among else f"{several} that {everyone} ran on"
    often = f"{'every resample' if beats == 1 else f'{percent(beats)} of resamples'} of problems and seeds. "
    close = f"{among}{'the' if among else 'The'} first place is too close to call {over}: "
    lead = f"mean rank {best} (95 % interval {interval})"
    claim: Sentence
    if beats >= LIKELY:
        verb = "leads" if beats >= CLEAR else "probably leads"
        claim = (among, winner, f" {verb} {over}: {lead}, before ", other, f" ({next_best}) in {often}")
    elif first["rank"] < second["rank"]:
        claim = (close, winner, f", {lead}, is before ", other, f" ({next_best}) in only {often}")
    else:
        same = f" have the same mean rank, {best} (95 % intervals {interval} and {next_interval}). "
        claim = (close, winner, " and ", other, same)
    return (*claim, *_margin(runs, winner, other, problems))


def _margin(runs: Runs, winner: Name, other: Name, problems: int) -> Sentence:
    """How many times as many oracle calls the second needs as the first, where both reach the target."""
    chosen = complete_set(runs).problems
    table = profiles.relative_calls(runs, DEFAULT)
    table = table[table["problem"].isin(chosen)].sort_values("problem")
    calls = {name: table.loc[table["method"] == name, "calls"].to_numpy(float) for name in (winner, other)}  # (P,) each
    both = np.isfinite(calls[winner]) & np.isfinite(calls[other])
    alone = int((np.isfinite(calls[winner]) & ~both).sum())
    reached = int(np.isfinite(calls[winner]).sum())
    goal = f"{target_name(DEFAULT)} of the initial gap"
    where = "all of them" if reached == problems else f"{reached} of them" if reached else "none of them"
    where = where if problems > 1 else "it" if reached else "none"
    start = (winner, f" reaches {goal} on {where}")
    if not both.any():
        return (*start, ".") if not alone else (*start, ", ", other, " on none of those.")
    ratio = calls[other][both] / calls[winner][both]
    low, high = factor(ratio.min()), factor(ratio.max())
    many = "as many" if low == high == "1" else f"{' to '.join(dict.fromkeys((low, high)))} times as many"
    missed = f", and misses it on {alone}" if alone else ""
    return (*start, "; there ", other, f" needs {many} oracle calls{missed}.")


def _with_learning_rate(runs: Runs, names: Sequence[str]) -> list[str]:
    """Those of some methods that have a step size wherever they ran."""
    table = tuned_runs(runs)
    with_size = table.groupby("method")["step_size"].apply(lambda sizes: sizes.notna().all())
    return [name for name in names if with_size[name]]


def _losses(runs: Runs, tuned: Sequence[str], table: pd.DataFrame) -> Sentence:
    """What share of the runs of the best method with a learning rate was lost, over all step sizes that were tried."""
    best = next((name for name in table["method"] if name in tuned), None)
    rows = runs.rows[runs.rows["method"] == best]
    sizes = rows["step_size"].nunique()
    if best is None or sizes < 2:
        return ()
    lost = [status for status in rows["status"] if Status(status).is_lost]
    if not lost:
        return (f"None of the {len(rows)} runs of ", Name(best), f" diverged, over {sizes} step sizes. ")
    how = " or ".join(sorted(set(lost)))
    return (f"{percent(len(lost) / len(rows))} of the runs of ", Name(best), f" over {sizes} step sizes {how}. ")


def _evidence(runs: Runs, chosen: CompleteSet, table: pd.DataFrame) -> Sentence:
    """How many problems and seeds the ranking rests on."""
    rows = tuned_runs(runs)
    rows = rows[rows["problem"].isin(chosen.problems) & rows["method"].isin(chosen.methods)]
    seeds = sorted(set(rows.groupby(["method", "problem"])["seed"].nunique()))
    counted = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    problems = len(chosen.problems)
    rests = f"This rests on {plural(problems, 'problem')} and {counted} seed{'' if seeds == [1] else 's'} each"
    least = statistics.sign_test(problems, 0)
    if least > 0.05:
        return (f"{rests}: too few problems for any order to be significant at 5 % (sign test, p ≥ {least:.3g}).",)
    first, second = table["method"].iloc[:2]
    ahead, behind = int(table["ahead"].iloc[0]), int(table["behind"].iloc[0])
    split = f" on {ahead} problems and behind on {behind} (sign test, p = {statistics.sign_test(ahead, behind):.2g})."
    return (f"{rests}; ", Name(first), " is ahead of ", Name(second), split)
