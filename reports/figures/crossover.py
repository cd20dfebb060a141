"""From which size on a GPU is faster than the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import style
from .style import INK

# what a problem grows in -> what its size is called
GROWTH = {"d": "number of parameters d", "n": "number of samples n", "runs": "number of runs at once"}


def step_seconds(figures: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a step on both sides, by size, from the newest figures of each GPU; only where both could be measured.

    Returns
    -------
    DataFrame
        One row a machine (GPU), case, precision and size: machine, processor, case, precision, grows (what the size is: d,
        n or runs), size, cpu, gpu (medians over repeats, in seconds), ratio (cpu / gpu: above 1 the GPU takes less time).
    """
    names = ["machine", "processor", "case", "precision", "grows", "size", "cpu", "gpu", "ratio"]
    rows = figures[(figures["section"] == "sizes") & figures["value"].notna()]
    rows = rows[rows["measurement"] == rows.groupby("machine")["measurement"].transform("max")]
    if rows.empty:
        return pd.DataFrame(columns=names)
    rows = rows.assign(grows=rows["note"].str.partition(";")[0])
    medians = rows.groupby([*names[:6], "contender"], sort=True)["value"].median().reset_index("contender")
    sides = (medians.loc[medians["contender"] == side, "value"].rename(side) for side in ("cpu", "gpu"))
    measured = pd.concat(sides, axis=1, join="inner").sort_index().reset_index()
    measured["ratio"] = measured["cpu"] / measured["gpu"]
    return measured[names]


def crossover(
    times: pd.DataFrame,
    grows: str,
    precision: str = "float64",
    ax: Axes | None = None,
    *,
    styles: style.Styles | None = None,
) -> Axes:
    """How many times less time a step takes the GPU than one core of the CPU, against the size; at 1 they are level.

    A ring marks the size from which on the GPU takes less time, see `crossing`: no ring, no crossing between the sizes that
    were measured. Where there are many problems, those with the largest ratios are drawn in colour.

    Parameters
    ----------
    times : DataFrame
        See `step_seconds`, of one GPU.
    grows : {"d", "n", "runs"}
        What the problems to be drawn grow in.
    precision : {"float64", "float32"}
    styles : mapping of str to style.Style, optional
        How the cases look, by default as `style.numbered_styles` has it.
    """
    ax = style.axes(ax)
    style.label(ax, f"CPU time / GPU time, {precision}", GROWTH.get(grows, grows), "times faster on the GPU")
    rows = times[(times["grows"] == grows) & (times["precision"] == precision)].sort_values(["case", "size"])
    if rows.empty:
        return style.note(ax, "Nothing was measured on both sides")
    styles = styles or style.numbered_styles(times["case"])
    best = rows.groupby("case", sort=True)["ratio"].max().sort_values(ascending=False, kind="stable")
    leading = list(best.index[: style.EMPHASIS])
    lines = {
        str(case): part[["size", "ratio"]].to_numpy(dtype=float).T for case, part in rows.groupby("case", sort=True)
    }
    for case, (sizes, ratios) in lines.items():
        drawn, rest = styles[case], case not in leading
        style.line(ax, drawn, sizes, ratios, marks=np.ones(len(sizes), dtype=bool), rest=rest)
        start = crossing(sizes, ratios)
        if not rest and sizes[0] < start < np.inf:
            ax.plot(
                start, 1.0, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=drawn.color,
                markeredgewidth=1.4, linestyle="none", zorder=4, gid=f"curve-{drawn.index}-crossing",
            )  # fmt: skip
    style.log_axes(ax, "x")
    ax.axhline(1.0, color=INK, linewidth=0.9, zorder=1)
    ax.set_yscale("log")
    low, high = ax.get_ylim()  # with both sides of 1, so that it is plain who is ahead
    ax.set_ylim(min(low, 0.7), max(high, 1.4))
    style.log_axes(ax, "y")
    style.end_names(ax, lines, styles, leading, width=15)
    return ax


def crossing(sizes: Sequence[float], ratios: Sequence[float]) -> float:
    """Size from which on a ratio stays at 1 or above; sizes ascending.

    Between the last size at which it is below 1 and the next, the logarithm of the ratio is taken to be a straight line
    over that of the size. The smallest size if it is never below 1, infinity if it is below 1 at the largest; NaN without
    sizes.
    """
    if not len(sizes):
        return float("nan")
    below = np.flatnonzero(np.asarray(ratios, dtype=float) < 1)
    if not len(below):
        return float(sizes[0])
    k = int(below[-1])
    if k == len(sizes) - 1:
        return float("inf")
    (x0, x1), (y0, y1) = np.log(sizes[k : k + 2]), np.log(ratios[k : k + 2])
    return float(np.exp(x0 - y0 * (x1 - x0) / (y1 - y0)))
