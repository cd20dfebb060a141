"""How long a step takes in one race."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from optbench.analysis import timing
from optbench.core.errors import InputError

from ..wording import shorten
from . import style
from .style import PALETTE, PAPER

MARK = {"markersize": 6, "markeredgewidth": 1.4}
HOLLOW = {"markerfacecolor": PAPER}
# what is drawn of the time of a step: the columns of its interval, and options of `Axes.plot`
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
    """How long a step takes, configuration by configuration in the order of a race, and how much of it is the oracle's.

    A disc is the median time of a whole step, a diamond that of its oracle call, a square that of the rest, which is the
    optimizer's; lines are 95 % intervals. A rest that is not above zero is too short to measure and not drawn.

    Parameters
    ----------
    races : DataFrame
        One row a round and configuration, as `optbench.results.store.Store.load_races` returns them.
    problem : str, optional
        Which problem; may be left out where the race had only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    legend : bool
        Whether to put a legend below the axes.

    Raises
    ------
    InputError
        If there is no race on the problem, or several races or problems and none is chosen.
    """
    problem, part = _one_race(races, problem)
    ax = style.axes(ax)
    table = timing.race_summary(part)
    rows = np.arange(len(table))
    times = table[list(MARKS)].to_numpy(dtype=float)
    least = 0.7 * times.min(initial=np.inf, where=times > 0)  # where an interval that reaches zero is cut off
    for name, (low, high, options) in MARKS.items():
        shown = table[name].to_numpy(dtype=float) > 0
        if low:
            ends = np.maximum(table.loc[shown, [low, high]].to_numpy(dtype=float), least)
            ax.hlines(rows[shown], *ends.T, color=options["markeredgecolor"], linewidth=1.4, zorder=2)
        ax.plot(table.loc[shown, name], rows[shown], linestyle="none", zorder=3, **MARK | options)
    style.log_axis(ax.xaxis, "x")
    ax.xaxis.set_major_formatter(FuncFormatter(style.duration_tick))
    words = table["disturbed"].map({True: " – disturbed", False: ""}) + table["finite"].map(
        {True: "", False: " – diverged"}
    )
    names = [shorten(name, 44) + word for name, word in zip(table["configuration"], words, strict=True)]
    ax.set_yticks(rows - 0.2, names)
    ax.tick_params("y", length=0, pad=-4)
    for label in ax.get_yticklabels():  # above the marks, so that long names have room
        label.set(ha="left", va="bottom", parse_math=False)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(table) - 0.5, -0.8)
    style.title(ax, f"Time per step: {shorten(problem, 32)}")
    ax.set_xlabel("time per step (units at the ticks; logarithmic)")
    ax.set_ylabel("configuration")
    if legend:
        _symbols(ax, {"whole step": "seconds", "oracle call": "oracle_seconds", "optimizer": "optimizer_seconds"})
    return ax


def _one_race(races: pd.DataFrame, problem: str | None) -> tuple[str, pd.DataFrame]:
    """The name of the problem that is meant, and the rows of the one race on it."""
    known = sorted(set(races["problem"]))
    if problem is None and len(known) == 1:
        problem = known[0]
    if problem is None or problem not in known:
        there = f"there are races on {', '.join(known)}" if known else "there are no races"
        raise InputError(f"{'choose a problem' if problem is None else f'no race on problem {problem!r}'}; {there}")
    part = races[races["problem"] == problem]
    names = sorted(set(part["race"]))
    if len(names) > 1:
        raise InputError(
            f"there are {len(names)} races on {problem!r}; choose one: races[races['race'] == {names[-1]!r}]"
        )
    return problem, part


def figure_of(races: pd.DataFrame, problem: str) -> Figure:
    """A figure of its own of `speed`, as high as its rows need; pyplot knows nothing of it."""
    rows = races.loc[races["problem"] == problem, "place"].nunique()
    above, row, below = 0.4, 0.44, 0.85  # inches
    height = above + row * (rows + 0.3) + below
    with style.theme():
        figure = Figure(figsize=(5.4, height))
        speed(races, problem, figure.add_axes((0.06, below / height, 0.91, 1 - (above + below) / height)))
    return figure


def _symbols(ax: Axes, names: dict[str, str]) -> None:
    """A legend of `MARKS` below the axes."""
    handles = [Line2D([], [], linestyle="none", **MARK | MARKS[column][2]) for column in names.values()]
    ax.legend(
        handles, list(names), loc="upper left", bbox_to_anchor=(0.0, -0.52 / (ax.bbox.height / ax.figure.dpi)), ncols=3,
        frameon=False, fontsize=9.5, borderaxespad=0.0, handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip
