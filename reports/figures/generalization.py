"""Accuracy and loss by part of the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from optbench.analysis import metrics
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .selection import one_problem
from .style import MUTED, PALETTE, PAPER

SPLITS = {"train": ("o", 7), "validation": ("s", 0), "test": ("D", 1)}  # part of the data -> its marker and colour


def generalization(runs: Runs, problem: str | None = None, ax: Axes | None = None, *, kind: str = "accuracy") -> Axes:
    """Accuracy (or loss) on training, validation and test data at the end of the runs, each method at its best settings.

    Marks are medians over seeds, lines reach from the lower to the upper quartile; the method that is best on the test
    data comes first. Settings were chosen by the objective, never by these figures.

    Parameters
    ----------
    kind : {"accuracy", "loss"}
        Which metrics of `optbench.analysis.metrics.learned` to draw: those of which, as the problem declares, higher values
        are better (accuracy), or lower ones (loss).

    The other parameters, and the errors, are those of `convergence`.
    """
    problem, part = one_problem(runs, problem)
    ax = style.axes(ax)
    table = learned_table(part, kind)
    methods = list(dict.fromkeys(table["method"]))
    rows = {method: row for row, method in enumerate(methods)}
    marks = {
        name: SPLITS.get(name, ("^", 2)) for name in sorted(set(table["split"]), key=[*SPLITS, *table["split"]].index)
    }
    finite = table[np.isfinite(table["median"])]
    # the axis holds the better half of the methods and half as much again; what lies beyond stands at its edge, in words
    better = finite[finite["method"].isin(methods[: (len(methods) + 1) // 2])]
    near, far = (better["median"].max(), better["median"].min()) if kind == "accuracy" else (
        better["median"].min(), better["median"].max())  # fmt: skip
    edge = far + 0.7 * (far - near)
    for at, name in enumerate(marks):
        points = finite[finite["split"] == name]
        y = points["method"].map(rows).to_numpy(dtype=float) + 0.22 * (at - (len(marks) - 1) / 2)
        low, middle, high = (points[q].to_numpy(dtype=float) for q in ("low", "median", "high"))
        inside = (middle >= edge) if kind == "accuracy" else (middle <= edge)
        ends = np.clip(np.where(np.isfinite([low, high]), [low, high], middle), *sorted((edge, 2 * near - edge)))
        color = PALETTE[marks[name][1]]
        ax.hlines(y[inside], *ends[:, inside], color=color, linewidth=1.2, zorder=2)
        ax.plot(
            middle[inside], y[inside], linestyle="none", marker=marks[name][0], markersize=5.5, color=color, zorder=3,
            markeredgecolor=PAPER, markeredgewidth=0.6, label=name,
        )  # fmt: skip
    for method in methods:
        points = finite[finite["method"] == method]
        beyond = points[(points["median"] < edge) if kind == "accuracy" else (points["median"] > edge)]
        values = ", ".join(f"{line['split']} {line['median']:.3g}" for line in beyond.to_dict("records"))
        if values:
            left = kind == "accuracy"
            ax.annotate(
                f"◂ {values}" if left else f"{values} ▸", (edge, rows[method]), (2 if left else -2, 0),
                textcoords="offset points", ha="left" if left else "right", va="center", fontsize=8.5, color=MUTED,
            )  # fmt: skip
    ax.set_yticks(range(len(methods)), [shorten(method, 24) for method in methods])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(len(methods) - 0.4, -0.6)
    if len(finite):
        low, high = ax.get_xlim()
        ax.set_xlim(*((edge, high) if kind == "accuracy" else (low, edge)) if far != near else (low, high))
    ax.tick_params("y", length=0)
    style.title(ax, f"{kind.capitalize()} at the end: {shorten(problem, 36)}")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    if marks.keys() <= SPLITS.keys():
        ax.set_xlabel("share of samples classified correctly" if kind == "accuracy" else "mean loss, without penalty")
    else:
        ax.set_xlabel(", ".join(dict.fromkeys(table["metric"])))
    ax.set_ylabel("method")
    if table.empty:
        style.note(ax, f"No {kind} was recorded")
        return ax
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9.5, borderaxespad=0.0)
    return ax


def learned_table(part: Runs, kind: str) -> pd.DataFrame:
    """Rows of `metrics.learned` of one kind, best on test data first.

    The column `split` tells the part of the data, or is the metric's name where that does not tell it.
    """
    table = metrics.learned(part)
    better, directions = "higher" if kind == "accuracy" else "lower", metrics.metric_directions(part)
    of_kind = [directions[line.problem][line.metric] == better for line in table.itertuples()]
    table = table.loc[of_kind].assign(split=lambda t: t["metric"].str.removesuffix(f"_{kind}"))
    judge = next((name for name in ("test", "validation", "train", *table["split"]) if name in set(table["split"])), "")
    order = table[table["split"] == judge].set_index("method")["median"]
    return table.assign(judge=table["method"].map(order)).sort_values(
        ["judge", "method", "split"], ascending=[kind == "loss", True, True], ignore_index=True
    )
