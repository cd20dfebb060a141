"""From which size on a GPU is faster than the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import style
from .style import INK

# parameter that a problem is scaled in -> label of its size
GROWTH = {"d": "number of parameters d", "n": "number of samples n", "runs": "number of runs at once"}


def step_seconds(figures: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step on CPU and GPU by size, where both were measured; from the newest measurement of each GPU.

    Returns
    -------
    DataFrame
        One row per machine (GPU), case, precision and size: machine, processor, case, precision, grows (meaning of size: d,
        n or runs), size, cpu, gpu (medians over repeats, in seconds), ratio (cpu / gpu; above 1 the GPU is faster).
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
    """Speed-up of the GPU over one core of the CPU, against the size of the problem; above 1 the GPU is faster.

    A ring marks the size from which the GPU is faster, see `crossing`, if that lies between the measured sizes. The
    problems with the largest speed-ups are coloured, the others grey.

    Parameters
    ----------
    times : DataFrame
        See `step_seconds`, of one GPU.
    grows : {"d", "n", "runs"}
        Which size varies.
    precision : {"float64", "float32"}
    styles : mapping of str to style.Style, optional
        Styles of the cases, by default `style.numbered_styles`.
    """
    ax = style.axes(ax)
    style.label(ax, f"Speed-up on the GPU, {precision}", GROWTH.get(grows, grows), "CPU time / GPU time")
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
    low, high = ax.get_ylim()  # both sides of 1 are visible
    ax.set_ylim(min(low, 0.7), max(high, 1.4))
    style.log_axes(ax, "y")
    style.end_names(ax, lines, styles, leading, width=15)
    return ax


def crossing(sizes: Sequence[float], ratios: Sequence[float]) -> float:
    """Size from which a ratio stays at 1 or above; sizes ascending.

    Interpolated in log-log between the last size with a ratio below 1 and the next. The smallest size if no ratio is below
    1, infinity if that of the largest size is; NaN without sizes.
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
