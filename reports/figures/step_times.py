"""Seconds a step over all races: one figure and one table of every configuration, problem and machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from optbench.analysis import timing
from optbench.core.errors import InputError
from optbench.results.methods import match_methods
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .style import GRID, MUTED, PAPER

ROW, HEAD = 0.2, 0.4  # inches
NAMES = 142  # points beside the axes for the names of configurations


def step_seconds(races: pd.DataFrame, runs: Runs | None = None) -> pd.DataFrame:
    """How long a step takes, by problem, configuration and where it ran, from the races that say most.

    Where the same configuration ran in several races on the same machine, the newest undisturbed one is taken.

    Parameters
    ----------
    races : DataFrame
        One row a round and configuration, as `optbench.results.store.Store.load_races` returns them.
    runs : Runs, optional
        With them, a method that they have too has their label.

    Returns
    -------
    DataFrame
        One row a problem, configuration and way, the fastest of a problem first: problem (with the start of its data's hash
        where they changed), configuration, method, way (what differs of machine, backend, precision; "as written" where the
        same optimizer ran fused too), machine, backend, precision, fused, seconds, seconds_low, seconds_high (median over
        rounds and its 95 % interval), disturbed, reason, finite, race.
    """
    columns = ["problem", "configuration", "method", "way", "machine", "backend", "precision", "fused"]
    columns += ["seconds", "seconds_low", "seconds_high", "disturbed", "reason", "finite", "race"]
    if races.empty:
        return pd.DataFrame(columns=columns)
    standing = timing.standing_races(races)
    further = ["race", "place", "machine", "created", "data_hash", "optimizer", "fixed", "schedule", "batch_size"]
    table = timing.race_summary(standing).merge(standing[further].drop_duplicates(), on=["race", "place"])
    if runs is not None:
        table["method"] = match_methods(table, runs.rows).fillna(table["method"])
    several = table.groupby("problem")["data_hash"].transform("nunique") > 1
    table.loc[several, "problem"] += " [data " + table.loc[several, "data_hash"].str[:8] + "]"
    where = ["machine", "backend", "precision"]
    differ = [name for name in where if len(set(table[name])) > 1] or where
    both = table.groupby([*where, "optimizer"])["fused"].transform("nunique") > 1
    table["way"] = table[differ].agg(", ".join, axis=1) + np.where(both & ~table["fused"], ", as written", "")
    who = ["problem", "configuration", "way"]
    table = table.sort_values([*who, "disturbed", "created", "race"], ascending=[True] * 4 + [False] * 2)
    table = table.drop_duplicates(who)
    fastest = table.groupby(["problem", "configuration"])["seconds"].transform("min")
    table = table.assign(fastest=fastest).sort_values(["problem", "fastest", "configuration", "way"], ignore_index=True)
    return table[columns]


def step_times(
    races: pd.DataFrame,
    ax: Axes | None = None,
    *,
    problems: Sequence[str] | None = None,
    most: int | None = None,
    styles: style.Styles | None = None,
) -> Axes:
    """How long a step takes: a group of rows for each problem, a row per configuration, a marker per kind of run.

    Marks are medians over rounds, lines 95 % intervals; a hollow mark is a race that was disturbed. Rows are in the order
    of their fastest mark.

    Parameters
    ----------
    races : DataFrame
        As for `step_seconds`; several races and problems may be in it.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    problems : sequence of str, optional
        Which problems, in this order; by default all.
    most : int, optional
        How many configurations of a problem to draw, the fastest; by default all.
    styles : style.Styles, optional
        With it, the marks of methods that have runs too are picked out on a page together with their curves.

    Raises
    ------
    InputError
        If there is no race, or none on one of the problems.
    """
    table = step_seconds(races)
    known = list(dict.fromkeys(table["problem"]))
    for name in problems or known[:1] or [""]:
        if name not in known:
            raise InputError(
                f"no race on problem {name!r}; there are races on {', '.join(known)}" if known else "there are no races"
            )
    return _draw(table, style.axes(ax), list(problems or known), most, styles)


def _draw(
    table: pd.DataFrame, ax: Axes, problems: Sequence[str], most: int | None, styles: style.Styles | None
) -> Axes:
    """`step_times` of a table of `step_seconds`."""
    ways = style.numbered_styles(table["way"])
    at, ticks, names = 0.0, [], []
    for number, problem in enumerate(problems):
        part = table[table["problem"] == problem]
        everyone = list(dict.fromkeys(part["configuration"]))
        rows = everyone[:most]
        at += HEAD / ROW
        head = shorten(problem, 52) + (f" – {len(rows)} fastest of {len(everyone)}" if rows != everyone else "")
        ax.annotate(
            head, (0.0, at - 0.9), (-NAMES + 14, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=9.5, fontweight="bold", va="center", parse_math=False, annotation_clip=False,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        if number:
            ax.axhline(at - 1.6, color=MUTED, linewidth=0.6)
        for configuration in rows:
            lines = part[part["configuration"] == configuration]
            for k, line in enumerate(lines.to_dict("records")):
                y = at + 0.24 * (k - (len(lines) - 1) / 2)  # one above the other
                way = ways[line["way"]]
                interval = ax.hlines(y, line["seconds_low"], line["seconds_high"], color=way.color, linewidth=1.4)
                (median,) = ax.plot(line["seconds"], y, **_mark(way, hollow=line["disturbed"]))
                if styles and line["method"] in styles:
                    index = styles[line["method"]].index
                    interval.set_gid(f"curve-{index}-interval{number}x{k}")
                    median.set_gid(f"curve-{index}-median{number}x{k}")
            ticks.append(at)
            names.append(shorten(configuration, 26) + ("" if lines["finite"].all() else " (diverged)"))
            at += 1.0
    ax.set_yticks(ticks, names)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.tick_params("y", length=0)
    ax.grid(True, axis="y", color=GRID, linewidth=0.4)
    ax.set_ylim(at - 0.3, 0.3)
    style.log_axis(ax.xaxis, "x")
    ax.xaxis.set_major_formatter(FuncFormatter(style.duration_tick))
    style.title(ax, "Time per step, all races")
    ax.set_xlabel("time per step (units at the ticks; logarithmic)")
    ax.set_ylabel("configuration", va="top")
    ax.yaxis.set_label_coords(-NAMES / (ax.bbox.width * 72 / ax.figure.dpi), 0.5)
    ax.spines["left"].set_visible(False)
    _legend(ax, ways, bool(table["disturbed"].any()))
    return ax


def _mark(way: style.Style, *, hollow: bool) -> dict[str, Any]:
    """Options of `Axes.plot` for the mark of a way of computing."""
    face = PAPER if hollow else way.color
    return {"linestyle": "none", "marker": way.marker, "markersize": 6, "markeredgewidth": 1.3, "zorder": 3} | {
        "markeredgecolor": way.color, "markerfacecolor": face
    }  # fmt: skip


def _legend(ax: Axes, ways: style.Styles, disturbed: bool) -> None:
    """Below the axes, one entry per line: names of machines are long."""
    handles = [Line2D([], [], **_mark(way, hollow=False)) for way in ways.values()]
    names = [shorten(name, 62) for name in ways]
    if disturbed:
        handles.append(Line2D([], [], **_mark(next(iter(ways.values())), hollow=True)))
        names.append("hollow: disturbed")
    legend = ax.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0.0, -0.52 / (ax.bbox.height / ax.figure.dpi)),
        frameon=False, fontsize=9, borderaxespad=0.0, handletextpad=0.2, labelspacing=0.35,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def figure_of(table: pd.DataFrame, problems: Sequence[str], most: int, styles: style.Styles | None = None) -> Figure:
    """A figure of its own of some problems of a table of `step_seconds`; pyplot knows nothing of it."""
    rows = sum(min(most, table.loc[table["problem"] == name, "configuration"].nunique()) for name in problems)
    entries = table["way"].nunique() + bool(table["disturbed"].any())
    above, below = 0.42, 0.62 + 0.19 * entries  # inches
    height = above + ROW * rows + HEAD * len(problems) + below
    with style.theme():
        figure = Figure(figsize=(5.8, height))
        ax = figure.add_axes((2.05 / 5.8, below / height, 3.6 / 5.8, 1 - (above + below) / height))
        times = table[["seconds", "seconds_low", "seconds_high"]]  # all figures have the same horizontal axis
        ax.set_xscale("log")
        ax.set_xlim(0.8 * float(times.min().min()), 1.25 * float(times.max().max()))
        _draw(table, style.axes(ax), problems, most, styles)
    return figure
