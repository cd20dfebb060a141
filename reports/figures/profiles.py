"""Performance profile, data profile and ECDF of all problems together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import profiles
from optbench.results.runs import Runs

from ..wording import target_name
from . import style

DEFAULT = 1e-4  # fraction of the initial gap that a reader sees first
POINTS = 160  # of an ECDF as it is drawn
NO_BLOCK = "No two optimizers ran on a problem whose optimal value is known"


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
    style.title(ax, f"Performance profile to {target_name(target)} of the initial gap")
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
    style.title(ax, f"Data profile to {target_name(target)} of the initial gap")
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
