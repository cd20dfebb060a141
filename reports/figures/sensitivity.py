"""Result against step size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import metrics, tuning
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .selection import as_runs, gap_floor, one_problem, value_name
from .style import MUTED, PAPER


def sensitivity(
    runs: Runs | pd.DataFrame,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Smallest gap (or objective) of a run against its step size.

    The wider the valley, the less the step size matters. Lines are medians over seeds, bands reach from the lower to the
    upper quartile, and a ring marks the step size that `optbench.metrics.tuned` selects. At a hollow marker some seeds
    diverged, at a cross all did; their runs count with the initial value. Methods without a step size do not appear.

    Parameters
    ----------
    runs : Runs or DataFrame
        Results, or `Runs.curves` or a part of it.
    problem, ax, emphasis, styles : optional
        As in `convergence`.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If the problem is not among the results, or none is named and there are several.

    Examples
    --------
    >>> ax = reports.sensitivity(runs, "rosenbrock")
    """
    runs = as_runs(runs)
    problem, part = one_problem(runs, problem)
    styles = styles or style.method_styles(runs)
    ax = style.axes(ax)
    title, x = f"Step sizes: {shorten(problem, 46)}", "step size (learning rate, or scale of random search)"
    style.label(ax, title, x, f"{value_name(part)}, smallest of a run")
    floor = gap_floor(part)[1]
    chosen = tuning.tuned(part).set_index("method")["step_size"]
    curves = metrics.sensitivity(part)
    curves = curves[np.isfinite(curves["median"].to_numpy(dtype=float))]
    if curves.empty:
        return style.note(ax, "No method has a step size and finite values")
    with_size = set(curves["method"])
    leading = [method for method in tuning.ranked(part)[problem] if method in with_size][:emphasis]
    lines = {}
    for method, curve in curves.groupby("method", sort=True):
        drawn, leads = styles[str(method)], method in leading
        size = curve["step_size"].to_numpy(dtype=float)
        low, median, high = (np.maximum(curve[q].to_numpy(dtype=float), floor) for q in ("low", "median", "high"))
        lines[str(method)] = size, median, low
        diverged, seeds = curve["n_diverged"].to_numpy(), curve["n_seeds"].to_numpy()
        style.line(ax, drawn, size, median, low, high, marks=diverged == 0, rest=not leads)
        kind, color = ("curve", drawn.color) if leads else ("rest", MUTED)
        some = {"marker": drawn.marker, "markersize": 5.5, "markerfacecolor": PAPER}
        signs: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "some": ((diverged > 0) & (diverged < seeds), some),
            "all": (diverged == seeds, {"marker": "x", "markersize": 5.5}),
            "best": (size == chosen[method], {"marker": "o", "markersize": 11, "markerfacecolor": "none"}),
        }
        for name, (where, mark) in signs.items():
            if where.any() and (leads or name == "all"):
                mark |= {"linestyle": "none", "markeredgecolor": color, "markeredgewidth": 1.2}
                mark |= {} if leads else {"alpha": 0.45, "markersize": 4}
                ax.plot(size[where], median[where], **mark, zorder=4, gid=f"{kind}-{drawn.index}-{name}")
    if (curves["step_size"] > 0).all():
        style.log_axes(ax, "x")
    if all((low > 0).all() for *_, low in lines.values()):
        style.log_axes(ax, "y")
    style.end_names(ax, lines, styles, leading)
    return ax
