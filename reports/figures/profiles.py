"""Performance profile, data profile and ECDF over all problems.

Every number drawn here was computed by `optbench.analysis.profiles`. The best methods of the ranking are drawn in colour
and named at the end of their lines, the others in grey. The functions share these parameters:

ax : matplotlib Axes, optional
    Where to draw; by default a new figure of pyplot.
emphasis : int
    How many methods are drawn in colour.
styles : mapping of str to style.Style, optional
    How methods look, by default as `style.method_styles` of these results has it.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import profiles, ranking
from optbench.results.runs import Runs

from ..wording import target_name
from . import style
from .lines import CALLS_LABEL

DEFAULT = 1e-4  # fraction of the initial gap that a reader sees first
POINTS = 160  # of an ECDF as it is drawn
NO_RANKING = "No two optimizers ran on a problem whose optimal value is known"


def performance_profile(
    runs: Runs, target: float = DEFAULT, ax: Axes | None = None, **options: Unpack[style.DrawOptions]
) -> Axes:
    """Share of problems on which a method needs at most so many times the oracle calls of the best.

    See `optbench.analysis.profiles.performance_profile`. `target` is a fraction of the initial gap; the nearest of the 50
    that are recorded is taken.
    """
    title = f"Performance profile to {target_name(target)} of the initial gap"
    multiple = "oracle calls, as a multiple of the fewest on the problem"
    table = profiles.performance_profile(runs, target)
    return _draw(ax, runs, table, title, multiple, "share of problems", **options)


def data_profile(
    runs: Runs, target: float = DEFAULT, ax: Axes | None = None, **options: Unpack[style.DrawOptions]
) -> Axes:
    """Share of problems that a method solves within so many oracle calls, see `optbench.analysis.profiles.data_profile`.

    `target` is as for `performance_profile`.
    """
    title = f"Data profile to {target_name(target)} of the initial gap"
    return _draw(ax, runs, profiles.data_profile(runs, target), title, CALLS_LABEL, "share of problems", **options)


def ecdf(runs: Runs, ax: Axes | None = None, **options: Unpack[style.DrawOptions]) -> Axes:
    """Share of all targets that a method reaches within so many oracle calls, see `optbench.analysis.profiles.ecdf`."""
    table = profiles.ecdf(runs)
    if len(table):
        first, last = table["calls"].min(), table["calls"].max()
        at = np.geomspace(first, last, POINTS)
        at[-1] = last  # rounding must not lose the last step
        table = profiles.ecdf(runs, at)
    title, share = "Targets reached at any time (ECDF)", "share of problems, targets and seeds"
    empty = "No run reached a target that others did not begin with"
    return _draw(ax, runs, table, title, CALLS_LABEL, share, empty, **options)


def _draw(
    ax: Axes | None,
    runs: Runs,
    table: pd.DataFrame,
    title: str,
    x_label: str,
    y_label: str,
    empty: str = NO_RANKING,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Step functions of methods, all as long as the longest; the table has the columns method, (abscissa) and share."""
    ax = style.axes(ax)
    style.title(ax, title)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    if table.empty:
        style.note(ax, empty)
        return ax
    styles = styles or style.method_styles(runs)
    leading = ranking.ranked_methods(runs)[:emphasis]
    column = table.columns[1]
    left, right = float(table[column].min()), float(table[column].max())
    right = right * (right / left) ** 0.03 if right > left else 10 * left
    ends = {}
    for method, curve in table.groupby("method", sort=True):
        x, y = (curve[name].to_numpy(dtype=float) for name in (column, "share"))
        if x[0] > left:
            x, y = np.append(left, x), np.append(0.0, y)
        x, y = np.append(x, right), np.append(y, y[-1])
        style.line(ax, styles[str(method)], x, y, rest=method not in leading, drawstyle="steps-post")
        ends[str(method)] = float(y[-1])
    ax.set_xlim(left, right)
    ax.set_ylim(-0.02, 1.02)
    style.log_axis(ax.xaxis, "x")
    style.end_names(ax, [(ends[name], name, styles[name]) for name in leading])
    return ax
