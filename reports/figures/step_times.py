"""Time per step: in one race, and over all races."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optbench.analysis import timing
from optbench.core.errors import InputError
from optbench.results.methods import match_methods
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .selection import one_of
from .style import GRID, MUTED, PALETTE, PAPER

ROW, HEAD = 0.2, 0.4  # inches
NAMES = 142  # points left of the axes, for names of configurations
TIME_LABEL = "time per step (units at the ticks; logarithmic)"
MARK: dict[str, Any] = {"markersize": 6, "markeredgewidth": 1.4}
HOLLOW = {"markerfacecolor": PAPER}
# part of the time of a step -> columns of its interval, and options of `Axes.plot`
MARKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "oracle_seconds": ("", "", HOLLOW | {"marker": "D", "markersize": 6.5, "markeredgecolor": PALETTE[1]}),
    "optimizer_seconds": (
        "optimizer_low", "optimizer_high", HOLLOW | {"marker": "s", "markersize": 8, "markeredgecolor": PALETTE[2]},
    ),
    "seconds": (
        "seconds_low", "seconds_high", {"marker": "o", "markerfacecolor": PALETTE[0], "markeredgecolor": PALETTE[0]},
    ),
}  # fmt: skip


def speed(races: pd.DataFrame, problem: str | None = None, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """Time per step of every configuration of a race, split into oracle and optimizer; further left is faster.

    A disc is the median time of a whole step, a diamond that of its oracle call, a square the difference, which the
    optimizer needs. Lines are 95 % intervals. A difference that is not above zero is too short to measure and not drawn.

    Parameters
    ----------
    races : DataFrame
        One row per round and configuration, as `optbench.results.store.Store.load_races` returns them.
    problem : str, optional
        Which problem; needed if the race has several.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    legend : bool
        Whether to put a legend below the axes.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If there is no race on the problem, or there are several races or problems and none is chosen.

    Examples
    --------
    >>> ax = reports.speed(races)
    """
    problem = _raced(races, problem)
    part = races[races["problem"] == problem]
    names = sorted(set(part["race"]))
    if len(names) > 1:
        raise InputError(
            f"there are {len(names)} races on {problem!r}; choose one: races[races['race'] == {names[-1]!r}]"
        )
    ax = style.axes(ax)
    table = timing.race_summary(part)
    rows = np.arange(len(table))
    times = table[list(MARKS)].to_numpy(dtype=float)
    least = 0.7 * times.min(initial=np.inf, where=times > 0)  # lower end of intervals that reach zero
    for name, (low, high, options) in MARKS.items():
        shown = table[name].to_numpy(dtype=float) > 0
        if low:
            ends = np.maximum(table.loc[shown, [low, high]].to_numpy(dtype=float), least)
            ax.hlines(rows[shown], *ends.T, color=options["markeredgecolor"], linewidth=1.4, zorder=2)
        ax.plot(table.loc[shown, name], rows[shown], linestyle="none", zorder=3, **MARK | options)
    names = [
        shorten(line["configuration"], 44)
        + (" – disturbed" if line["disturbed"] else "")
        + ("" if line["finite"] else " – diverged")
        for line in table.to_dict("records")
    ]
    ax.tick_params("y", length=0, pad=-4)
    # names above the marks, where long ones have room
    ax.set_yticks(rows - 0.2, names, ha="left", va="bottom", parse_math=False)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(table) - 0.5, -0.8)
    _label(ax, f"Time per step: {shorten(problem, 32)}")
    if legend:
        symbols = {"whole step": "seconds", "oracle call": "oracle_seconds", "optimizer": "optimizer_seconds"}
        shown_marks = {name: MARK | MARKS[column][2] for name, column in symbols.items()}
        _legend(ax, shown_marks, ncols=3, fontsize=9.5, columnspacing=1.6)
    return ax


def speed_figure(races: pd.DataFrame, problem: str) -> Figure:
    """A new figure, unknown to pyplot, with the axes of `speed`, as high as its rows need."""
    rows = races.loc[races["problem"] == problem, "place"].nunique()
    above, row, below = 0.4, 0.44, 0.85  # inches
    height = above + row * (rows + 0.3) + below
    with style.theme():
        figure = Figure(figsize=(5.4, height))
        speed(races, problem, figure.add_axes((0.06, below / height, 0.91, 1 - (above + below) / height)))
    return figure


def step_seconds(races: pd.DataFrame, runs: Runs | None = None) -> pd.DataFrame:
    """Time per step by problem, configuration and way of computing.

    Of several races of a configuration on a machine, the newest undisturbed one is taken.

    Parameters
    ----------
    races : DataFrame
        One row per round and configuration, as `optbench.results.store.Store.load_races` returns them.
    runs : Runs, optional
        Source of the names of methods.

    Returns
    -------
    DataFrame
        One row per problem, configuration and way, the fastest of a problem first: problem (with the hash of its data if
        they changed), configuration, method, way (of machine, backend and precision those that differ; "as written" if the
        optimizer ran fused too), machine, backend, precision, fused, seconds, seconds_low, seconds_high (median over
        rounds and its 95 % interval), disturbed, reason, finite, race.
    """
    columns = ["problem", "configuration", "method", "way", "machine", "backend", "precision", "fused"]
    columns += ["seconds", "seconds_low", "seconds_high", "disturbed", "reason", "finite", "race"]
    if races.empty:
        return pd.DataFrame(columns=columns)
    current = timing.current_races(races)
    further = [
        "race",
        "place",
        "machine",
        "created",
        "data_hash",
        "optimizer",
        "fixed",
        "optimizer_origin",
        "schedule",
        "batch_size",
    ]
    table = timing.race_summary(current).merge(current[further].drop_duplicates(), on=["race", "place"])
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
    """Time per step of all races: a group of rows per problem, a row per configuration, a marker per way of computing.

    Further left is faster. Marks are medians over rounds, lines 95 % intervals; a hollow mark is a disturbed race. The
    fastest configuration of a problem comes first.

    Parameters
    ----------
    races : DataFrame
        As for `step_seconds`.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    problems : sequence of str, optional
        Which problems, in this order; by default all.
    most : int, optional
        Number of configurations per problem, the fastest; by default all.
    styles : style.Styles, optional
        Styles of methods with runs, whose marks a page then highlights together with their curves.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If there is no race at all, or none on one of the problems.

    Examples
    --------
    >>> ax = reports.step_times(races)
    """
    table = step_seconds(races)
    if table.empty:
        raise InputError("there are no races")
    problems = [_raced(table, name) for name in problems or dict.fromkeys(table["problem"])]
    return _draw(table, style.axes(ax), problems, most, styles)


def step_times_figure(
    table: pd.DataFrame, problems: Sequence[str], most: int, styles: style.Styles | None = None
) -> Figure:
    """A new figure, unknown to pyplot, of some problems of a table of `step_seconds`."""
    rows = sum(min(most, table.loc[table["problem"] == name, "configuration"].nunique()) for name in problems)
    entries = table["way"].nunique() + bool(table["disturbed"].any())
    above, below = 0.42, 0.62 + 0.19 * entries  # inches
    height = above + ROW * rows + HEAD * len(problems) + below
    with style.theme():
        figure = Figure(figsize=(5.8, height))
        ax = figure.add_axes((2.05 / 5.8, below / height, 3.6 / 5.8, 1 - (above + below) / height))
        times = table[["seconds", "seconds_low", "seconds_high"]]  # all figures have the same horizontal axis
        ax.set(xscale="log", xlim=(0.8 * float(times.min().min()), 1.25 * float(times.max().max())))
        _draw(table, style.axes(ax), problems, most, styles)
    return figure


def _draw(
    table: pd.DataFrame, ax: Axes, problems: Sequence[str], most: int | None, styles: style.Styles | None
) -> Axes:
    """Draw `step_times` from a table of `step_seconds`."""
    ways = style.numbered_styles(table["way"])
    at, ticks, names = 0.0, [], []
    for number, problem in enumerate(problems):
        groups = list(table[table["problem"] == problem].groupby("configuration", sort=False))
        rows = groups[:most]
        at += HEAD / ROW
        head = shorten(problem, 52) + (f" – {len(rows)} fastest of {len(groups)}" if len(rows) < len(groups) else "")
        ax.annotate(
            head, (0.0, at - 0.9), (-NAMES + 14, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=9.5, fontweight="bold", va="center", parse_math=False, annotation_clip=False,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        if number:
            ax.axhline(at - 1.6, color=MUTED, linewidth=0.6)
        for configuration, lines in rows:
            for k, line in enumerate(lines.to_dict("records")):
                y = at + 0.24 * (k - (len(lines) - 1) / 2)
                way = ways[line["way"]]
                interval = ax.hlines(y, line["seconds_low"], line["seconds_high"], color=way.color, linewidth=1.4)
                (median,) = ax.plot(line["seconds"], y, **_mark(way, hollow=line["disturbed"]))
                if styles and line["method"] in styles:
                    index = styles[line["method"]].index
                    interval.set_gid(f"curve-{index}-interval{number}x{k}")
                    median.set_gid(f"curve-{index}-median{number}x{k}")
            ticks.append(at)
            names.append(shorten(str(configuration), 26) + ("" if lines["finite"].all() else " (diverged)"))
            at += 1.0
    ax.set_yticks(ticks, names, parse_math=False)
    ax.tick_params("y", length=0)
    ax.grid(True, axis="y", color=GRID, linewidth=0.4)
    ax.set_ylim(at - 0.3, 0.3)
    _label(ax, "Time per step, all races")
    ax.yaxis.label.set(va="top")
    ax.yaxis.set_label_coords(-NAMES / (ax.bbox.width * 72 / ax.figure.dpi), 0.5)
    ax.spines["left"].set_visible(False)
    entries = {name: _mark(way, hollow=False) for name, way in ways.items()}
    if table["disturbed"].any():
        entries["hollow: disturbed"] = _mark(next(iter(ways.values())), hollow=True)
    _legend(ax, entries, fontsize=9, labelspacing=0.35)  # one entry per line, because names of machines are long
    return ax


def _raced(table: pd.DataFrame, problem: str | None) -> str:
    """The requested problem of a table, or its only one."""
    words = "choose a problem", "no race on problem", "there are races on", "there are no races"
    return one_of(table["problem"], problem, *words)


def _label(ax: Axes, title: str) -> None:
    style.label(ax, title, TIME_LABEL, "configuration", "x")
    ax.xaxis.set_major_formatter(style.duration_tick)


def _mark(way: style.Style, *, hollow: bool) -> dict[str, Any]:
    """Options of `Axes.plot` for the mark of a way of computing."""
    face = {"markeredgecolor": way.color, "markerfacecolor": PAPER if hollow else way.color}
    return MARK | {"linestyle": "none", "marker": way.marker, "markeredgewidth": 1.3, "zorder": 3} | face


def _legend(ax: Axes, marks: Mapping[str, dict[str, Any]], **options: Any) -> None:
    """Draw a legend below the axes."""
    handles = [Line2D([], [], **mark | {"linestyle": "none"}) for mark in marks.values()]
    place = 0.0, -0.52 / (ax.bbox.height / ax.figure.dpi)
    common: dict[str, Any] = {"loc": "upper left", "frameon": False, "borderaxespad": 0.0, "handletextpad": 0.2}
    names = [shorten(name, 62) for name in marks]
    for text in ax.legend(handles, names, bbox_to_anchor=place, **common, **options).get_texts():
        text.set_parse_math(False)
