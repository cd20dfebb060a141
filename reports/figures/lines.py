"""Lines of methods on one problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import tuning
from optbench.results.runs import Runs

from . import style
from .style import MUTED

CALLS_LABEL = "oracle calls (1 = full value and gradient)"


def draw_lines(
    ax: Axes,
    part: Runs,
    curves: pd.DataFrame,
    x: str,
    *,
    ceiling: float = np.inf,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles,
    guides: Callable[[], None] = lambda: None,
) -> Axes:
    """Draw the rows of `metrics.bands` on one problem, with logarithmic axes where that can be; title and labels are left.

    Each curve is drawn as long as it is finite. A dotted line shows where rounding ends a gap.

    Parameters
    ----------
    x : str
        The column of the horizontal axis.
    ceiling : float
        Values above are drawn there.
    guides : callable
        Draws what lies below the curves.
    """
    has_gap, floor = gap_floor(part)
    lines: dict[str, tuple[np.ndarray, ...]] = {}  # method -> x, median, low, high; each of shape (points,)
    numbers = curves[[x, "median", "low", "high"]].to_numpy(dtype=float)  # (rows, 4)
    for method, rows in curves.groupby("method", sort=True).indices.items():
        columns = numbers[rows[style.thin(len(rows))]]  # (points, 4)
        finite = np.isfinite(columns[:, 1])
        columns = columns[: len(finite) if finite.all() else int(np.argmin(finite))]  # past infinity there is no line
        if len(columns):
            lines[str(method)] = (columns[:, 0], *np.clip(columns[:, 1:].T, floor, ceiling))
    if not lines:
        style.note(ax, "No run has a finite value to draw")
        return ax
    leading = [method for method in next(iter(tuning.ranked(part).values())) if method in lines][:emphasis]
    for method, line in lines.items():
        style.line(ax, styles[method], *line, rest=method not in leading)
    guides()
    style.log_axis(ax.xaxis, "x")
    medians = [median for _, median, *_ in lines.values()]
    if all((median > 0).all() for median in medians):
        style.log_axis(ax.yaxis, "y")
    if has_gap and any((median <= floor).any() for median in medians):
        ax.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    ends = [(float(lines[method][1][-1]), method, styles[method]) for method in leading]
    style.end_names(ax, ends, others=len(lines) - len(ends))
    return ax


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))
