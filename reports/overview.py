"""All problems together: the headline in words, profiles, the heat map and the ranking, for axes and for the page.

Every number here was computed by `optbench.profiles`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from optbench.analysis import metrics, profiles
from optbench.results.runs import Runs

from . import style, tables
from .book import Book, Picture
from .style import MUTED, PAPER

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on one is said to lead, or to lead probably
DEFAULT = 1e-4  # fraction of the initial gap that a reader sees first
POINTS = 160  # of an ECDF as it is drawn
# ratios up to which a cell of the heat map has each of its colours; the classes r0, r1, ... of the style sheet
STEPS = (1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 100.0, np.inf)
# seen in grey they fall in order: the best is darkest on paper
RAMP = ("#0b4a8f", "#2f6fb3", "#5e95cd", "#8fb7e0", "#b5d0ec", "#d2e2f4", "#e5eef9", "#f3f7fc")
NO_BLOCK = "No two optimizers ran on a problem whose optimal value is known"


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them


def performance_profile(
    runs: Runs,
    target: float = DEFAULT,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Share of problems on which a method needs at most so many times the oracle calls of the best.

    See `optbench.profiles.performance_profile`. The best in the ranking are drawn in colour and named at the end of their
    lines, the others in grey.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    emphasis : int
        How many methods are drawn in colour.
    styles : style.Styles, optional
        How methods look, by default as `style.method_styles` of these results has it.
    """
    ax = style.axes(ax)
    style.title(ax, f"Performance profile to {tables.target(target)} of the initial gap")
    ax.set_xlabel("oracle calls, as a multiple of the fewest on the problem")
    ax.set_ylabel("share of problems")
    _steps(ax, runs, profiles.performance_profile(runs, target), "ratio", emphasis, styles)
    return ax


def data_profile(
    runs: Runs,
    target: float = DEFAULT,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Share of problems that a method solves within so many oracle calls, see `optbench.profiles.data_profile`.

    Parameters are those of `performance_profile`.
    """
    ax = style.axes(ax)
    style.title(ax, f"Data profile to {tables.target(target)} of the initial gap")
    ax.set_xlabel("oracle calls (1 = full value and gradient)")
    ax.set_ylabel("share of problems")
    _steps(ax, runs, profiles.data_profile(runs, target), "calls", emphasis, styles)
    return ax


def ecdf(
    runs: Runs,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Share of all targets that a method reaches within so many oracle calls, see `optbench.profiles.ecdf`.

    Parameters are those of `performance_profile`.
    """
    ax = style.axes(ax)
    style.title(ax, "Targets reached at any time (ECDF)")
    ax.set_xlabel("oracle calls (1 = full value and gradient)")
    ax.set_ylabel("share of problems, targets and seeds")
    steps = profiles.ecdf(runs)["calls"]
    if len(steps):
        at = np.geomspace(steps.min(), steps.max(), POINTS)
        at[-1] = steps.max()  # rounding must not lose the last step
        _steps(ax, runs, profiles.ecdf(runs, at), "calls", emphasis, styles)
    else:
        style.note(ax, "No run reached a target that others did not begin with")
    return ax


def _steps(ax: Axes, runs: Runs, table: pd.DataFrame, column: str, emphasis: int, styles: style.Styles | None) -> None:
    """Step functions of methods, all as long as the longest."""
    styles = styles or style.method_styles(runs)
    if table.empty:
        style.note(ax, NO_BLOCK)
        return
    leading = profiles.placed(runs)[:emphasis]
    left, right = float(table[column].min()), float(table[column].max())
    right = right * (right / left) ** 0.03 if right > left else 10 * left
    ends = {}
    for method, curve in table.groupby("method", sort=True):
        x, y = (curve[name].to_numpy(dtype=float) for name in (column, "share"))
        if x[0] > left:
            x, y = np.append(left, x), np.append(0.0, y)
        x, y = np.append(x, right), np.append(y, y[-1])
        rest = method not in leading
        style.line(ax, styles[str(method)], x, y, rest=rest, drawstyle="steps-post")
        ends[str(method)] = float(y[-1])
    ax.set_xlim(left, right)
    ax.set_ylim(-0.02, 1.02)
    style.log_axis(ax.xaxis, "x")
    style.end_names(ax, [(ends[name], name, styles[name]) for name in leading])


def heatmap(runs: Runs, target: float = DEFAULT, ax: Axes | None = None) -> Axes:
    """Oracle calls to a target relative to the best, methods by problems, see `optbench.profiles.relative_calls`.

    The darker, the closer to the best on the problem; a hatched cell is a miss, with how many seeds got there if any did, a
    dash says that the method did not run. Methods stand in the order of the ranking, those that it leaves out last.
    Problems without a known optimum have no targets, and do not appear.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot, as large as it needs to be.
    """
    table = _for_heat(runs, profiles.relative_calls(runs, target))
    methods, problems = _heat_order(runs, table), sorted(set(table["problem"]))
    if ax is None:
        import matplotlib.pyplot as plt

        size = 3 + 0.55 * len(problems), 2.6 + 0.26 * len(methods)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    style.title(ax, f"Oracle calls to {tables.target(target)} of the initial gap, relative to the best")
    if table.empty:
        style.note(ax, "No optimal value is known, and so there are no targets")
        return ax
    lines = table.set_index(["method", "problem"])
    ratio = lines["ratio"].unstack().loc[methods, problems].to_numpy(dtype=float)  # (E, P)  # noqa: PD010
    colors = LinearSegmentedColormap.from_list("ratio", RAMP)
    depth = np.log10(np.where(np.isfinite(ratio), ratio, np.nan)) / 2  # 0 is the best, 1 a hundredfold
    ax.imshow(np.ma.masked_invalid(depth), cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for e, method in enumerate(methods):
        for p, problem in enumerate(problems):
            line = lines.loc[(method, problem)]
            cell = _cell(line.to_dict())
            if line["status"] == "missed":
                corner = p - 0.5, e - 0.5
                ax.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0))
            pale = PAPER if np.isfinite(depth[e, p]) and depth[e, p] < 0.3 else style.INK
            ax.text(p, e, cell.text, ha="center", va="center", fontsize=8, color=pale)
    ax.set_xticks(range(len(problems)), headings(problems), rotation=60, ha="right")
    ax.set_yticks(range(len(methods)), [style.shorten(name, 30) for name in methods])
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        label.set(parse_math=False, rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("problem")
    ax.set_ylabel("optimizer")
    return ax


def ranks(
    runs: Runs,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Mean rank over problems of every method, with its 95 % interval, see `optbench.profiles.ranking`.

    Parameters are those of `performance_profile`.
    """
    ax = style.axes(ax)
    styles = styles or style.method_styles(runs)
    table = profiles.ranking(runs)
    style.title(ax, "Mean rank over problems")
    ax.set_xlabel("mean rank (1 is best), with 95 % interval")
    if table.empty:
        style.note(ax, NO_BLOCK)
        return ax
    for place, line in enumerate(table.itertuples()):
        look = styles[str(line.method)]
        leads = place < emphasis
        color, kind = (look.color, "curve") if leads else (MUTED, "rest")
        ax.plot(
            [line.low, line.high],
            [place] * 2,
            color=color,
            linewidth=1.6,
            zorder=2,
            gid=f"{kind}-{look.index}-interval",
        )
        ax.plot(
            [line.rank], [place], linestyle="none", marker=look.marker, color=color, markersize=6.5, markeredgecolor=PAPER,
            markeredgewidth=0.8, zorder=3, gid=f"{kind}-{look.index}-rank",
        )  # fmt: skip
    ax.yaxis.tick_right()
    ax.set_yticks(range(len(table)), [style.shorten(name, 22) for name in table["method"]])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.tick_params("y", length=0)
    ax.set_ylabel("optimizer, best first")
    ax.yaxis.set_label_position("left")
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(*((0.8, len(table) + 0.2) if len(table) > 1 else (0.5, 1.5)))
    ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
    return ax


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    One is said to lead if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.profiles.ranking`, and to lead probably from 80 % on; below that it is too close to call.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.
    """
    chosen = profiles.block(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            only = f" is the only optimizer on {_count(chosen.problems, 'problem')} with a known optimal value: "
            return [(Name(chosen.methods[0]), only, "there is nothing to rank.")]
        return [(f"{NO_BLOCK}, so that there is no ranking over problems; the table tells who leads on each of them.",)]
    table = profiles.ranking(runs)
    asks = dict(zip(table["method"], table["oracle"], strict=True))
    found = [_lead(runs, table, "")]
    winner = table["method"].iloc[0]
    plain = [name for name in table["method"] if "hessian" not in asks[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if asks[name] == "gradient"])
    if "hessian" in asks[winner]:
        price = (Name(winner), " asks for Hessians, and such a call counts like any other, though it costs more time. ")
        if len(plain) > 1:
            rest = profiles.ranking(runs, among=plain)
            found.append((*price, *_lead(runs, rest, "Without Hessians, ")))
            winner = rest["method"].iloc[0]
        else:
            found.append(price)
    elif asks[winner] == "value":
        found.append((Name(winner), " asks for values only, which cost less time than gradients do."))
    if 1 < len(tuned) < len(plain):
        rest = profiles.ranking(runs, among=tuned)
        if rest["method"].iloc[0] != winner:
            found.append(_lead(runs, rest, "Of those with a learning rate to choose, "))
    found.append((*_fragile(runs, tuned, table), *_basis(runs, chosen, table)))
    return found


def _lead(runs: Runs, table: pd.DataFrame, among: str) -> Sentence:
    """Who leads a ranking, how surely, and by how many oracle calls."""
    first, second = table.iloc[0], table.iloc[1]
    winner, other = Name(first["method"]), Name(second["method"])
    problems, beats = int(first["problems"]), float(first["beats_next"])
    best, next_best = _rank(first["rank"]), _rank(second["rank"])
    claim: Sentence
    several = f"over the {problems} problems" if problems > 1 else "on the one problem"
    over = (
        f"among {len(table)}"
        if among
        else f"{several} that {'both' if len(table) == 2 else f'all {len(table)}'} ran on"
    )
    interval = f"95 % interval {_rank(first['low'])} to {_rank(first['high'])}"
    often = "every resample" if beats == 1 else f"{_percent(beats)} of resamples"
    if beats >= LIKELY:
        verb = " leads " if beats >= CLEAR else " probably leads "
        claim = (among, winner, f"{verb}{over}: mean rank {best} ({interval}), before ", other)
        claim += (f" ({next_best}) in {often} of problems and seeds. ",)
    else:
        claim = (f"{among}{'the' if among else 'The'} first place is too close to call {over}: ", winner)
        if first["rank"] < second["rank"]:
            claim += (
                f", mean rank {best} ({interval}), is before ",
                other,
                f" ({next_best}) in only {often} of problems",
            )
            claim += (" and seeds. ",)
        else:
            claim += (" and ", other, f" have the same mean rank, {best} (95 % intervals {interval[14:]} and ")
            claim += (f"{_rank(second['low'])} to {_rank(second['high'])}). ",)
    return (*claim, *_margin(runs, winner, other, problems))


def _margin(runs: Runs, winner: Name, other: Name, problems: int) -> Sentence:
    """How many times as many oracle calls the second needs as the first, where both get there."""
    chosen = profiles.block(runs).problems
    table = profiles.relative_calls(runs, DEFAULT)
    table = table[table["problem"].isin(chosen)].sort_values("problem")
    calls = {name: table.loc[table["method"] == name, "calls"].to_numpy(float) for name in (winner, other)}
    both = np.isfinite(calls[winner]) & np.isfinite(calls[other])
    alone = int((np.isfinite(calls[winner]) & ~both).sum())
    reached = int(np.isfinite(calls[winner]).sum())
    goal = f"{tables.target(DEFAULT)} of the initial gap"
    where = "all of them" if reached == problems else f"{reached} of them" if reached else "none of them"
    where = where if problems > 1 else "it" if reached else "none"
    start = (winner, f" reaches {goal} on {where}")
    if not both.any():
        return (*start, ".") if not alone else (*start, ", ", other, " on none of those.")
    ratio = calls[other][both] / calls[winner][both]
    low, high = _factor(ratio.min()), _factor(ratio.max())
    span = f"{low} times as many" if low == high else f"{low} to {high} times as many"
    span = "as many" if low == high == "1" else span
    missed = f", and misses it on {alone}" if alone else ""
    return (*start, "; there ", other, f" needs {span} oracle calls{missed}.")


def _with_learning_rate(runs: Runs, names: Sequence[str]) -> list[str]:
    """Those of some methods that have a step size wherever they ran."""
    table = profiles.tuned_runs(runs)
    with_size = table.groupby("method")["step_size"].apply(lambda sizes: sizes.notna().all())
    return [name for name in names if with_size[name]]


def _fragile(runs: Runs, tuned: Sequence[str], table: pd.DataFrame) -> Sentence:
    """What part of its runs the best one with a learning rate lost, over all step sizes that were tried."""
    if not tuned:
        return ()
    best = next(name for name in table["method"] if name in tuned)
    rows = runs.rows[runs.rows["method"] == best]
    lost = rows.loc[rows["status"].isin(["diverged", "failed"]), "status"]
    sizes = rows["step_size"].nunique()
    if sizes < 2:
        return ()
    if lost.empty:
        return (f"None of the {len(rows)} runs of ", Name(best), f" diverged, over {sizes} step sizes. ")
    how = " or ".join(sorted(set(lost)))
    return (f"{_percent(len(lost) / len(rows))} of the runs of ", Name(best), f" over {sizes} step sizes {how}. ")


def _basis(runs: Runs, chosen: profiles.Block, table: pd.DataFrame) -> Sentence:
    """On how much it all rests."""
    rows = profiles.tuned_runs(runs)
    rows = rows[rows["problem"].isin(chosen.problems) & rows["method"].isin(chosen.methods)]
    seeds = sorted(set(rows.groupby(["method", "problem"])["seed"].nunique()))
    counted = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    problems = len(chosen.problems)
    rests = f"This rests on {_many(problems, 'problem')} and {counted} seed{'' if seeds == [1] else 's'} each"
    least = profiles.sign_test(problems, 0)
    if least > 0.05:
        return (f"{rests}: too few problems for any order to be significant at 5 % (sign test, p ≥ {least:.3g}).",)
    ahead, behind = int(table["ahead"].iloc[0]), int(table["behind"].iloc[0])
    p = profiles.sign_test(ahead, behind)
    split = f"the first is ahead of the second on {ahead} problems and behind on {behind}"
    return (f"{rests}; {split} (sign test, p = {p:.2g}).",)


def _rank(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    """A share as it can be claimed: never 0 % of something, nor 100 % of not all."""
    if share in (0, 1):
        return "all" if share else "none"
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else "less than 1 %" if share < 0.5 else "more than 99 %"


def _factor(ratio: float) -> str:
    """Two significant digits, or two decimals for what is almost one: 0.85, 1, 1.04, 1.3, 12, 120, 1.2e4."""
    if ratio != 1 and 0.95 < ratio < 1.05:
        return f"{ratio:.2f}"
    if ratio >= 9999.5:
        return tables.number(float(f"{ratio:.1e}"))
    return f"{float(f'{ratio:.2g}'):g}" if ratio < 100 else f"{ratio:.0f}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _count(things: Sequence[Any], noun: str) -> str:
    return _many(len(things), noun)


class Heat(NamedTuple):
    """A cell of the heat map."""

    look: str  # class of the style sheet
    text: str
    note: str  # below the text: how many of the seeds, if not all
    told: str  # calls and seeds in full


def _cell(line: dict[Any, Any]) -> Heat:
    """What the heat map shows of a row of `profiles.relative_calls`."""
    reached, seeds = int(line["reached"]), int(line["seeds"])
    got = f"{reached} of {_many(seeds, 'seed')}"
    if line["status"] == "not run":
        return Heat("absent", tables.NEVER, "", "did not run")
    if line["status"] == "missed":
        return Heat("missed", f"{reached}/{seeds}" if reached else "×", "", f"missed: {got} got there")
    step = next(i for i, limit in enumerate(STEPS) if line["ratio"] <= limit)
    some = f"{reached}/{seeds}" if reached < seeds else ""
    return Heat(f"r{step}", _factor(line["ratio"]), some, f"{tables.calls(line['calls'])} calls, {got}")


def _with_targets(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `profiles.relative_calls` about problems with a known optimum that something ran on."""
    known = table.loc[table["status"].isin(["reached", "missed"]), "problem"]
    return table[table["problem"].isin(set(known))]


def _for_heat(runs: Runs, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `profiles.relative_calls` that the heat map shows.

    Besides the complete block those methods that ran on a quarter of its problems, and those problems with targets that
    a quarter of these methods ran on: a few runs of a kind of their own would make a map of dashes.
    """
    table, chosen = _with_targets(table), profiles.block(runs)
    if len(chosen.methods) < 2:
        return table
    ran = table[table["status"] != "not run"]
    on = ran[ran["problem"].isin(chosen.problems)].groupby("method")["problem"].size()
    methods = {*chosen.methods, *on[4 * on >= len(chosen.problems)].index}
    by = ran[ran["method"].isin(methods)].groupby("problem")["method"].size()
    problems = {*chosen.problems, *by[4 * by >= len(methods)].index}
    return table[table["method"].isin(methods) & table["problem"].isin(problems)]


def _heat_order(runs: Runs, table: pd.DataFrame) -> list[str]:
    """Methods in the order of the ranking, then those that are not in it but ran on some problem of the table."""
    first = profiles.placed(runs)
    ran = set(table.loc[table["status"] != "not run", "method"])
    return [*first, *sorted(ran - set(first))]


def section(book: Book) -> dict[str, Any]:
    """What the page says of all problems together."""
    runs = book.runs
    chosen = profiles.block(runs)
    rank = profiles.ranking(runs)
    goals = sorted({*metrics.SHOWN_TARGETS, DEFAULT}, reverse=True)
    with_targets = set(_with_targets(profiles.relative_calls(runs))["problem"])
    return {
        "headline": [
            [(part.replace(" %", "\u00a0%"), _index(book, part)) for part in sentence] for sentence in headline(runs)
        ],
        "left_out": chosen.left_out,
        "block": chosen,
        "targets": [_at_target(book, target, rank) for target in goals] if chosen.problems else [],
        "default": tables.target(DEFAULT),
        "ecdf": _picture(book, "ecdf", ecdf, profiles.ecdf, _by_share("calls", "targets")) if chosen.problems else None,
        "ranks": _ranks_picture(book, rank) if len(rank) else None,
        "ranking": _ranking_lines(book, rank),
        "legend": [*zip(_limits(), (f"r{i}" for i in range(len(STEPS))), strict=True)],
        "without_targets": [name for name in book.parts if name not in with_targets],
    }


def _index(book: Book, part: str) -> int | None:
    return book.styles[part].index if isinstance(part, Name) else None


def _at_target(book: Book, target: float, rank: pd.DataFrame) -> dict[str, Any]:
    """The part of the section that depends on the target: the heat map and two profiles."""
    name = tables.target(target)
    table = profiles.relative_calls(book.runs, target)
    return {
        "name": name,
        "heat": _heat(book, _for_heat(book.runs, table), rank),
        "table": book.table(f"relative-calls-{name}", table),
        "performance": _picture(
            book, f"performance-profile-{name}", performance_profile, profiles.performance_profile,
            _by_share("ratio", "problems"), target,
        ),
        "data": _picture(
            book, f"data-profile-{name}", data_profile, profiles.data_profile, _by_share("calls", "problems"), target
        ),
    }  # fmt: skip


def _picture(
    book: Book,
    anchor: str,
    draw: Callable[..., Axes],
    compute: Callable[..., pd.DataFrame],
    tell: Callable[[pd.DataFrame, Sequence[str]], str],
    *args: Any,
) -> Picture:
    """A figure of step functions, with its table, for the page."""
    table = compute(book.runs, *args)
    made = style.figure(draw, book.runs, *args, styles=book.styles)
    label = f"{made.axes[0].get_title(loc='left')}: {tell(table, profiles.placed(book.runs)[: style.EMPHASIS])}"
    return book.picture(anchor, made, label, table)


def _by_share(column: str, of: str) -> Callable[[pd.DataFrame, Sequence[str]], str]:
    """What to tell of step functions to who cannot see them: how high the leading ones get."""

    def tell(table: pd.DataFrame, leading: Sequence[str]) -> str:
        last = table.groupby("method")["share"].max()
        first = table.sort_values(column).groupby("method")["share"].first()
        ends = [f"{name} from {100 * first.get(name, 0):.0f} to {100 * last.get(name, 0):.0f} %" for name in leading]
        return f"share of {of}, for the best in the ranking: {', '.join(ends)}. All numbers are in the table of the figure."

    return tell


def _heat(book: Book, table: pd.DataFrame, rank: pd.DataFrame) -> dict[str, Any]:
    """Rows and columns of the heat map."""
    problems = [name for name in book.parts if name in set(table["problem"])]
    cells = {(line["method"], line["problem"]): _cell(line) for line in table.to_dict("records")}
    ranked = dict(zip(rank["method"], rank["rank"], strict=True))
    return {
        "problems": [
            (name, short, book.anchors[name]) for name, short in zip(problems, headings(problems), strict=True)
        ],
        "rows": [
            {
                "method": name,
                "index": book.styles[name].index,
                "rank": _rank(ranked[name]) if name in ranked else tables.NEVER,
                "cells": [cells[name, problem] for problem in problems],
            }
            for name in _heat_order(book.runs, table)
        ],
    }


def headings(problems: Sequence[str], width: int = 40) -> list[str]:
    """Short names of problems: without the parameters that all of the same family share; shortened where still too long."""
    parts = [tuple(_COMMA.split(name.partition(":")[2])) for name in problems]
    families = [name.partition(":")[0] for name in problems]
    found = []
    for name, family, own in zip(problems, families, parts, strict=True):
        kin = [set(other) for other, its in zip(parts, families, strict=True) if its == family]
        shared = set.intersection(*kin) if len(kin) > 1 else set()
        left = ",".join(part for part in own if part not in shared)
        found.append(f"{family}:{left}" if left else family if shared else name)
    if len(set(found)) < len(problems):
        found = list(problems)
    return [style.shorten(name, width) for name in found]


_COMMA = re.compile(r",(?![^\[]*\])")  # between parameters, not within the list of one


def _ranks_picture(book: Book, rank: pd.DataFrame) -> Picture:
    size = style.SIZE[0], 0.95 + (0.26 if len(rank) <= 24 else 0.2) * (max(len(rank), 5) + 0.5)
    made = style.figure(ranks, book.runs, size=size, styles=book.styles)
    told = "; ".join(f"{line.method} {line.rank:.2f} ({line.low:.2f} to {line.high:.2f})" for line in rank.itertuples())
    return book.picture("ranking", made, f"Mean rank over problems, with 95 % interval: {told}", rank)


def _ranking_lines(book: Book, rank: pd.DataFrame) -> list[dict[str, Any]]:
    """The ranking as text."""
    found = []
    for place, line in enumerate(rank.to_dict("records"), start=1):
        last = pd.isna(line["beats_next"])
        found.append(
            {
                "place": place,
                "method": line["method"],
                "index": book.styles[line["method"]].index,
                "rank": _rank(line["rank"]),
                "interval": f"{_rank(line['low'])} to {_rank(line['high'])}",
                "first": f"{100 * line['first']:.0f} %",
                "next": tables.NEVER if last else f"{100 * line['beats_next']:.0f} %",
                "problems": tables.NEVER if last else f"{line['ahead']:.0f} : {line['behind']:.0f}",
                "asks": " or ".join(tables.ASKS[asked] for asked in line["oracle"].split(" or ")),
                "sort": [line["rank"], line["first"], -1 if last else line["beats_next"]],
            }
        )
    return found


def _limits() -> list[str]:
    """What the colours of the heat map mean."""
    return ["1", *(f"to {limit:g}" for limit in STEPS[1:-1]), f"above {STEPS[-2]:g}"]
