"""Lines of methods on one problem: which points are drawn, and their vertical axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.results.runs import Runs

from . import style
from .style import MUTED

CALLS_LABEL = "oracle calls (1 = full value and gradient)"


def lines_of(curves: pd.DataFrame, x: str, floor: float, ceiling: float = np.inf) -> dict[str, tuple[np.ndarray, ...]]:
    """What is drawn of the rows of `metrics.bands` on one problem: the beginning of each curve, as long as it is finite.

    Parameters
    ----------
    x : str
        The column of the horizontal axis.
    floor, ceiling : float
        Between which values are drawn.

    Returns
    -------
    lines : dict
        Method -> x, median, low and high, each of shape (points,); methods without a finite beginning are missing.
    """
    lines = {}
    numbers = curves[[x, "median", "low", "high"]].to_numpy(dtype=float)  # (rows, 4)
    for method, rows in curves.groupby("method", sort=True).indices.items():
        columns = numbers[rows[style.thin(len(rows))]]  # (points, 4)
        finite = np.isfinite(columns[:, 1])
        columns = columns[: len(finite) if finite.all() else int(np.argmin(finite))]  # past infinity there is no line
        if len(columns):
            lines[str(method)] = (columns[:, 0], *np.clip(columns[:, 1:].T, floor, ceiling))
    return lines


def value_axis(ax: Axes, drawn: Mapping[str, tuple[np.ndarray, ...]], gap: bool, floor: float) -> None:
    """The vertical axis of `lines_of`: logarithmic where that can be, with a dotted line where rounding ends a gap."""
    medians = [line[1] for line in drawn.values()]
    if all((median > 0).all() for median in medians):
        style.log_axis(ax.yaxis, "y")
    if gap and any((median <= floor).any() for median in medians):
        ax.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))
