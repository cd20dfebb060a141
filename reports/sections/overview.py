"""All problems together: headline, profiles, heat map and ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import metrics, profiles

from .. import tables
from ..figures import (
    heatmap,
    ranks,
    style,
)
from ..figures import profiles as profile_figures
from ..page.context import Book, Picture
from ..wording import NEVER, rank, target_name
from .headline import Name, headline


def section(book: Book) -> dict[str, Any]:
    """What the page says of all problems together."""
    runs = book.runs
    chosen = profiles.block(runs)
    ranking = profiles.ranking(runs)
    goals = sorted({*metrics.SHOWN_TARGETS, profile_figures.DEFAULT}, reverse=True)
    with_targets = set(heatmap.with_targets(profiles.relative_calls(runs))["problem"])
    return {
        "headline": [
            [(part.replace(" %", "\u00a0%"), _index(book, part)) for part in sentence] for sentence in headline(runs)
        ],
        "left_out": chosen.left_out,
        "block": chosen,
        "targets": [_at_target(book, goal, ranking) for goal in goals] if chosen.problems else [],
        "default": target_name(profile_figures.DEFAULT),
        "ecdf": _picture(book, "ecdf", profile_figures.ecdf, profiles.ecdf, _by_share("calls", "targets"))
        if chosen.problems
        else None,
        "ranks": _ranks_picture(book, ranking) if len(ranking) else None,
        "ranking": _ranking_lines(book, ranking),
        "legend": [*zip(heatmap.limits(), (f"r{i}" for i in range(len(heatmap.STEPS))), strict=True)],
        "without_targets": [name for name in book.parts if name not in with_targets],
    }


def _index(book: Book, part: str) -> int | None:
    return book.styles[part].index if isinstance(part, Name) else None


def _at_target(book: Book, goal: float, ranking: pd.DataFrame) -> dict[str, Any]:
    """The part of the section that depends on the target: the heat map and two profiles."""
    name = target_name(goal)
    table = profiles.relative_calls(book.runs, goal)
    return {
        "name": name,
        "heat": _heat(book, heatmap.shown_rows(book.runs, table), ranking),
        "table": book.table(f"relative-calls-{name}", table),
        "performance": _picture(
            book, f"performance-profile-{name}", profile_figures.performance_profile, profiles.performance_profile,
            _by_share("ratio", "problems"), goal,
        ),
        "data": _picture(
            book, f"data-profile-{name}", profile_figures.data_profile, profiles.data_profile,
            _by_share("calls", "problems"), goal,
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


def _heat(book: Book, table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, Any]:
    """Rows and columns of the heat map."""
    problems = [name for name in book.parts if name in set(table["problem"])]
    cells = {(line["method"], line["problem"]): heatmap.cell_of(line) for line in table.to_dict("records")}
    ranked = dict(zip(ranking["method"], ranking["rank"], strict=True))
    return {
        "problems": [
            (name, short, book.anchors[name]) for name, short in zip(problems, heatmap.headings(problems), strict=True)
        ],
        "rows": [
            {
                "method": name,
                "index": book.styles[name].index,
                "rank": rank(ranked[name]) if name in ranked else NEVER,
                "cells": [cells[name, problem] for problem in problems],
            }
            for name in heatmap.row_order(book.runs, table)
        ],
    }


def _ranks_picture(book: Book, ranking: pd.DataFrame) -> Picture:
    size = style.SIZE[0], 0.95 + (0.26 if len(ranking) <= 24 else 0.2) * (max(len(ranking), 5) + 0.5)
    made = style.figure(ranks.ranks, book.runs, size=size, styles=book.styles)
    told = "; ".join(
        f"{line.method} {line.rank:.2f} ({line.low:.2f} to {line.high:.2f})" for line in ranking.itertuples()
    )
    return book.picture("ranking", made, f"Mean rank over problems, with 95 % interval: {told}", ranking)


def _ranking_lines(book: Book, ranking: pd.DataFrame) -> list[dict[str, Any]]:
    """The ranking as text."""
    found = []
    for place, line in enumerate(ranking.to_dict("records"), start=1):
        last = pd.isna(line["beats_next"])
        found.append(
            {
                "place": place,
                "method": line["method"],
                "index": book.styles[line["method"]].index,
                "rank": rank(line["rank"]),
                "interval": f"{rank(line['low'])} to {rank(line['high'])}",
                "first": f"{100 * line['first']:.0f} %",
                "next": NEVER if last else f"{100 * line['beats_next']:.0f} %",
                "problems": NEVER if last else f"{line['ahead']:.0f} : {line['behind']:.0f}",
                "asks": " or ".join(tables.ASKS[asked] for asked in line["oracle"].split(" or ")),
                "sort": [line["rank"], line["first"], -1 if last else line["beats_next"]],
            }
        )
    return found
