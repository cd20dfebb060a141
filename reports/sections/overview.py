"""All problems together: headline, who leads where, heat map, profiles and ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import grid, metrics, profiles, ranking, statistics
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs

from .. import tables
from ..figures import heatmap, style
from ..figures import profiles as profile_figures
from ..page.context import MethodKey, PageContext, Picture
from ..page.notes import notes
from ..wording import NEVER, factor, percent, plural, rank, target_name

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on a method leads, or probably leads


def section(context: PageContext) -> dict[str, Any] | None:
    """What the template shows; None without runs."""
    if not context.parts:
        return None
    runs = context.runs
    complete, places = grid.complete_set(runs), ranking.ranking(runs)
    goals = sorted({*metrics.SHOWN_TARGETS, profile_figures.DEFAULT}, reverse=True) if complete.problems else []
    with_targets = set(heatmap.with_targets(profiles.relative_calls(runs))["problem"])
    return {
        "headline": [[_part(context, part) for part in sentence] for sentence in headline(runs)],
        "leaders": [
            (context.link(leader.problem), [context.method(name) for name in leader.methods], leader)
            for leader in tables.leaders(runs)
        ],
        "compared": (len(complete.methods), len(complete.problems)),  # in profiles and ranking
        "left_out": list(complete.left_out),  # of them, and why
        "targets": [_at_target(context, goal, places) for goal in goals],
        "default": target_name(profile_figures.DEFAULT),  # the target that is shown first
        "ecdf": _ecdf(context) if complete.problems else None,
        "ranks": ranks_figure(context, places) if len(places) else None,
        "ranking": _ranking(context, places),
        "legend": [
            (text, f"r{i}") for i, text in enumerate(heatmap.limits())
        ],  # each with its class of the style sheet
        "without_targets": [context.link(name) for name in context.parts if name not in with_targets],
        "notes": notes(runs.rows, tables.lines(runs), context.races),
    }


def _part(context: PageContext, part: str) -> str | MethodKey:
    """A part of a sentence, in which no line ends before a percent sign."""
    return context.method(part) if isinstance(part, Name) else part.replace(" %", "\u00a0%")


def _at_target(context: PageContext, target: float, places: pd.DataFrame) -> dict[str, Any]:
    """What depends on the target: the heat map and two profiles."""
    name = target_name(target)
    table = profiles.relative_calls(context.runs, target)
    shown = heatmap.shown_rows(context.runs, table)
    problems = [problem for problem in context.parts if problem in set(shown["problem"])]
    cells = {(line["method"], line["problem"]): heatmap.cell_of(line) for line in shown.to_dict("records")}
    ranked = dict(zip(places["method"], places["rank"].map(rank), strict=True))
    return {
        "name": name,
        "problems": list(zip(map(context.link, problems), heatmap.headings(problems), strict=True)),
        "rows": [
            (context.method(method), ranked.get(method, NEVER), [cells[method, problem] for problem in problems])
            for method in heatmap.row_order(context.runs, shown)
        ],
        "table": context.table(f"relative-calls-{name}", table),
        "performance": _shares(
            context, f"performance-profile-{name}", profile_figures.performance_profile, profiles.performance_profile,
            "problems",
            "Higher is better. At 1: on what share of problems an optimizer needs the fewest calls (all that tie count); "
            "at the right end: what share it solves at all. In between, the order of two curves can depend on which other "
            "methods take part (Gould and Scott 2016, doi:10.1145/2950048), so compare one optimizer with the best.",
            target,
        ),
        "data": _shares(
            context, f"data-profile-{name}", profile_figures.data_profile, profiles.data_profile, "problems",
            "Higher and further left is better: the share of problems that an optimizer solves with that many oracle "
            "calls. A curve does not depend on which other methods take part.",
            target,
        ),
    }  # fmt: skip


def _shares(
    context: PageContext,
    anchor: str,
    draw: Callable[..., Axes],
    compute: Callable[..., pd.DataFrame],
    of: str,
    caption: str,
    *target: float,
) -> Picture:
    """A figure of step functions, with its table. Its label says how high the best in the ranking get."""
    table = compute(context.runs, *target)
    figure = style.figure(draw, context.runs, *target, styles=context.styles)
    leading = ranking.ranked_methods(context.runs)[: style.EMPHASIS]
    last = table.groupby("method")["share"].max()
    first = table.sort_values(table.columns[1]).groupby("method")["share"].first()
    ends = [f"{name} from {100 * first.get(name, 0):.0f} to {100 * last.get(name, 0):.0f} %" for name in leading]
    label = (
        f"{figure.axes[0].get_title(loc='left')}: share of {of}, for the best in the ranking: {', '.join(ends)}. All "
        "numbers are in the table of the figure."
    )
    return context.picture(anchor, figure, label, caption, table)


def _ecdf(context: PageContext) -> Picture:
    caption = (
        "Higher and further left is better: of all 50 targets (0.63 to 1e-10 of the initial gap), problems and seeds, the "
        "share that is reached within that many oracle calls. Where a curve ends low, those runs never reached the rest; "
        "no restarts are simulated."
    )
    return _shares(context, "ecdf", profile_figures.ecdf, profiles.ecdf, "targets", caption)


def ranks_figure(context: PageContext, places: pd.DataFrame) -> Picture:
    size = style.SIZE[0], 0.95 + (0.26 if len(places) <= 24 else 0.2) * (max(len(places), 5) + 0.5)
    figure = style.figure(profile_figures.ranks, context.runs, size=size, styles=context.styles)
    shown = "; ".join(
        f"{line.method} {line.rank:.2f} ({line.low:.2f} to {line.high:.2f})" for line in places.itertuples()
    )
    caption = (
        "Further left is better. On each problem optimizers are ranked by the area below their curve of targets reached, "
        "on the axis of log calls up to the budget that all had; a miss adds nothing. The mark is the mean rank, the line "
        "its 95 % interval, from 1000 resamples of problems and of seeds within them. Settings stay as tuned: the interval "
        "does not include the chance in their choice."
    )
    return context.picture("ranking", figure, f"Mean rank over problems, with 95 % interval: {shown}", caption, places)


def _ranking(context: PageContext, places: pd.DataFrame) -> list[tuple[MethodKey, list[tables.Cell]]]:
    """The ranking as text: a method and its cells, which are sorted by numbers."""

    def share(value: float) -> tables.Cell:
        return tables.Cell(NEVER, -1.0) if pd.isna(value) else tables.Cell(f"{100 * value:.0f} %", value)

    lines = []
    for place, line in enumerate(places.to_dict("records"), start=1):
        oracle = " or ".join(tables.ORACLES[oracle] for oracle in line["oracle"].split(" or "))
        problems = NEVER if pd.isna(line["beats_next"]) else f"{line['ahead']:.0f} : {line['behind']:.0f}"
        cells = [
            tables.Cell(rank(line["rank"]), line["rank"]),
            tables.Cell(f"{rank(line['low'])} to {rank(line['high'])}", line["rank"]),
            share(line["first"]),
            share(line["beats_next"]),
            tables.Cell(problems, place),
            tables.Cell(oracle, oracle),
        ]
        lines.append((context.method(line["method"]), cells))
    return lines


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    A method leads if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.analysis.ranking.ranking`, and probably leads from 80 % on; below that it is too close to call.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.
    """
    chosen = grid.complete_set(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            problems = plural(len(chosen.problems), "problem")
            only = f" is the only optimizer on {problems} with a known optimal value: there is nothing to rank."
            return [(Name(chosen.methods[0]), only)]
        none = f"{profile_figures.NO_RANKING}, so there is no ranking over problems; "
        return [(f"{none}the table shows who leads on each of them.",)]
    table = ranking.ranking(runs)
    oracle = dict(zip(table["method"], table["oracle"], strict=True))
    sentences = [_lead(runs, table)]
    winner = table["method"].iloc[0]
    plain = [name for name in table["method"] if Oracle.HESSIAN not in oracle[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if oracle[name] == Oracle.GRADIENT])
    if Oracle.HESSIAN in oracle[winner]:
        price = (Name(winner), " uses Hessians; such a call counts like any other, though it costs more time. ")
        if len(plain) > 1:
            rest = ranking.ranking(runs, among=plain)
            sentences.append((*price, *_lead(runs, rest, "Without Hessians, ")))
            winner = rest["method"].iloc[0]
        else:
            sentences.append(price)
    elif oracle[winner] == Oracle.VALUE:
        sentences.append((Name(winner), " uses values only, which cost less time than gradients."))
    if 1 < len(tuned) < len(plain):
        rest = ranking.ranking(runs, among=tuned)
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
    chosen = grid.complete_set(runs).problems
    table = profiles.relative_calls(runs, profile_figures.DEFAULT)
    table = table[table["problem"].isin(chosen)].sort_values("problem")
    calls = {name: table.loc[table["method"] == name, "calls"].to_numpy(float) for name in (winner, other)}  # (P,) each
    both = np.isfinite(calls[winner]) & np.isfinite(calls[other])
    alone = int((np.isfinite(calls[winner]) & ~both).sum())
    reached = int(np.isfinite(calls[winner]).sum())
    goal = f"{target_name(profile_figures.DEFAULT)} of the initial gap"
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
    table = grid.tuned_runs(runs)
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


def _evidence(runs: Runs, chosen: grid.CompleteSet, table: pd.DataFrame) -> Sentence:
    """How many problems and seeds the ranking rests on."""
    rows = grid.tuned_runs(runs)
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
