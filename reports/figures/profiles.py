"""Performance profile, data profile, ECDF and mean ranks over all problems, as `optbench.analysis` computes them.

The best methods of the ranking have colours and names, the others are grey.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from optbench.analysis import profiles, ranking
from optbench.results.runs import Runs

from ..wording import DEFAULT, NO_RANKING, target_name
from . import style
from .convergence import CALLS_LABEL
from .style import MUTED, PAPER

POINTS = 160  # of a drawn ECDF


def performance_profile(
    runs: Runs, target: float = DEFAULT, ax: Axes | None = None, **options: Unpack[style.DrawOptions]
) -> Axes:
    """Share of problems on which a method needs at most a multiple of the fewest oracle calls; higher is better.

    See `optbench.analysis.profiles.performance_profile`.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    target : float
        Fraction of the initial gap, in (0, 1); rounded to the nearest of the 50 that are recorded.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    **options
        ``emphasis``: number of methods in colour. ``styles``: styles of methods, by default `style.method_styles` of the
        results.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    References
    ----------
    Dolan & Moré, Mathematical Programming 91 (2002) 201-213.

    Examples
    --------
    >>> ax = reports.performance_profile(runs, target=1e-2)
    >>> ax.get_ylabel()
    'share of problems'
    """
    title = f"Performance profile to {target_name(target)} of the initial gap"
    multiple = "oracle calls, as a multiple of the fewest on the problem"
    table = profiles.performance_profile(runs, target)
    return _draw(ax, runs, table, title, multiple, "share of problems", **options)


def data_profile(
    runs: Runs, target: float = DEFAULT, ax: Axes | None = None, **options: Unpack[style.DrawOptions]
) -> Axes:
    """Share of problems that a method solves within a number of oracle calls; higher is better.

    See `optbench.analysis.profiles.data_profile`.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    target : float
        Fraction of the initial gap, in (0, 1); rounded to the nearest of the 50 that are recorded.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    **options
        ``emphasis``: number of methods in colour. ``styles``: styles of methods, by default `style.method_styles` of the
        results.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    References
    ----------
    Moré & Wild, SIAM Journal on Optimization 20 (2009) 172-191.

    Examples
    --------
    >>> ax = reports.data_profile(runs, target=1e-2)
    """
    title = f"Data profile to {target_name(target)} of the initial gap"
    return _draw(ax, runs, profiles.data_profile(runs, target), title, CALLS_LABEL, "share of problems", **options)


def ecdf(runs: Runs, ax: Axes | None = None, **options: Unpack[style.DrawOptions]) -> Axes:
    """Share of all targets that a method reaches within a number of oracle calls; higher is better.

    See `optbench.analysis.profiles.ecdf`.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    **options
        ``emphasis``: number of methods in colour. ``styles``: styles of methods, by default `style.method_styles` of the
        results.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    References
    ----------
    Hansen et al., COCO, Optimization Methods and Software 36 (2021) 114-144.

    Examples
    --------
    >>> ax = reports.ecdf(runs, emphasis=1)
    """
    table = profiles.ecdf(runs)
    if len(table):
        first, last = table["calls"].min(), table["calls"].max()
        at = np.geomspace(first, last, POINTS)
        at[-1] = last  # include the last step in spite of rounding
        table = profiles.ecdf(runs, at)
    title, share = "Share of targets reached (ECDF)", "share of problems, targets and seeds"
    empty = "No run reached a target that others did not begin with"
    return _draw(ax, runs, table, title, CALLS_LABEL, share, empty, **options)


def _draw(
    ax: Axes | None,
    runs: Runs,
    table: pd.DataFrame,
    title: str,
    x: str,
    y: str,
    empty: str = NO_RANKING,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Draw step functions, all as long as the longest; the columns of the table are method, abscissa and share."""
    ax = style.axes(ax)
    style.label(ax, title, x, y)
    if table.empty:
        return style.note(ax, empty)
    styles = styles or style.method_styles(runs)
    leading = ranking.ranked_methods(runs)[:emphasis]
    column = table.columns[1]
    left, right = float(table[column].min()), float(table[column].max())
    right = right * (right / left) ** 0.03 if right > left else 10 * left
    lines = {}
    for method, curve in table.groupby("method", sort=True):
        at, share = (curve[name].to_numpy(dtype=float) for name in (column, "share"))
        if at[0] > left:
            at, share = np.append(left, at), np.append(0.0, share)
        lines[str(method)] = np.append(at, right), np.append(share, share[-1])
    style.draw_lines(ax, lines, styles, leading, drawstyle="steps-post")
    ax.set(xlim=(left, right), ylim=(-0.02, 1.02))
    style.log_axes(ax, "x")
    style.end_names(ax, {name: lines[name] for name in leading}, styles, leading)
    return ax


def ranks(runs: Runs, ax: Axes | None = None, **options: Unpack[style.DrawOptions]) -> Axes:
    """Mean rank of every method over problems, with its 95 % interval; further left is better.

    See `optbench.analysis.ranking.ranking`.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    **options
        ``emphasis``: number of methods in colour. ``styles``: styles of methods, by default `style.method_styles` of the
        results.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Examples
    --------
    >>> ax = reports.ranks(runs)
    """
    ax = style.axes(ax)
    styles = options.get("styles") or style.method_styles(runs)
    table = ranking.ranking(runs)
    style.label(ax, "Mean rank over problems", "mean rank (1 is best), with 95 % interval", "optimizer, best first")
    if table.empty:
        return style.note(ax, NO_RANKING)
    for place, line in enumerate(table.itertuples()):
        drawn = styles[str(line.method)]
        color, kind = (drawn.color, "curve") if place < options.get("emphasis", style.EMPHASIS) else (MUTED, "rest")
        gid = f"{kind}-{drawn.index}"
        ax.plot([line.low, line.high], [place] * 2, color=color, linewidth=1.6, zorder=2, gid=f"{gid}-interval")
        ax.plot(
            [line.rank], [place], linestyle="none", marker=drawn.marker, color=color, markersize=6.5, markeredgecolor=PAPER,
            markeredgewidth=0.8, zorder=3, gid=f"{gid}-rank",
        )  # fmt: skip
    ax.yaxis.tick_right()
    style.name_rows(ax, list(table["method"]), 22)
    ax.yaxis.set_label_position("left")
    ax.set_xlim(*((0.8, len(table) + 0.2) if len(table) > 1 else (0.5, 1.5)))
    ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
    return ax
