"""Accuracy and loss on training, validation and test data."""

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
    """Accuracy (or loss) by part of the data at the end of the runs, each method at its best settings.

    Marks are medians over seeds, lines reach from the lower to the upper quartile. The best method on the test data comes
    first. Settings were chosen by the objective, never by these metrics.

    Parameters
    ----------
    runs : Runs
        Results on problems that report accuracy or loss, such as ``mlp`` and ``logistic``.
    problem, ax : optional
        As in `convergence`.
    kind : {"accuracy", "loss"}
        Draw the metrics of `optbench.analysis.metrics.final_metrics` that are better if higher (accuracy) or lower (loss).

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
    >>> trained = optbench.compare("mlp:data=moons,rows=100", ["adam", "sgd"], lr=[0.01, 0.1], seeds=2, steps=20)
    >>> ax = reports.generalization(trained)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['train', 'validation', 'test']
    """
    problem, part = one_problem(runs, problem)
    ax = style.axes(ax)
    table = learned_table(part, kind)
    splits = [*SPLITS, *dict.fromkeys(table["split"])]
    marks = {name: SPLITS.get(name, ("^", 2)) for name in sorted(set(table["split"]), key=splits.index)}
    what = "share of samples classified correctly" if kind == "accuracy" else "mean loss, without penalty"
    x = what if marks.keys() <= SPLITS.keys() else ", ".join(dict.fromkeys(table["metric"]))
    style.label(ax, f"{kind.capitalize()} at the end: {shorten(problem, 36)}", x, "method")
    if table.empty:
        return style.note(ax, f"No {kind} was recorded")
    methods = list(dict.fromkeys(table["method"]))
    # the axis spans the better half of the methods and 0.7 times as much; values beyond are written at its edge
    sign, side = (1, "left") if kind == "accuracy" else (-1, "right")  # side of the worse methods
    finite = table[np.isfinite(table["median"])]
    better = sign * finite.loc[finite["method"].isin(methods[: (len(methods) + 1) // 2]), "median"]
    near, far = sign * better.max(), sign * better.min()
    edge = far + 0.7 * (far - near)
    finite = finite.assign(row=finite["method"].map(methods.index), inside=sign * finite["median"] >= sign * edge)
    for at, (name, (marker, number)) in enumerate(marks.items()):
        points = finite[(finite["split"] == name) & finite["inside"]]
        y = points["row"].to_numpy(dtype=float) + 0.22 * (at - (len(marks) - 1) / 2)
        low, middle, high = points[["low", "median", "high"]].to_numpy(dtype=float).T
        ends = np.clip(np.where(np.isfinite([low, high]), [low, high], middle), *sorted((edge, 2 * near - edge)))
        ax.hlines(y, *ends, color=PALETTE[number], linewidth=1.2, zorder=2)
        ax.plot(
            middle, y, linestyle="none", marker=marker, markersize=5.5, color=PALETTE[number], zorder=3,
            markeredgecolor=PAPER, markeredgewidth=0.6, label=name,
        )  # fmt: skip
    for row, beyond in finite[~finite["inside"]].groupby("row"):
        values = ", ".join(f"{line['split']} {line['median']:.3g}" for line in beyond.to_dict("records"))
        ax.annotate(
            f"◂ {values}" if side == "left" else f"{values} ▸", (edge, row), (2 * sign, 0), textcoords="offset points",
            ha=side, va="center", fontsize=8.5, color=MUTED,
        )  # fmt: skip
    style.name_rows(ax, methods, 24)
    if len(finite) and far != near:
        ax.set_xlim(**{side: edge})
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9.5, borderaxespad=0.0)
    return ax


def learned_table(part: Runs, kind: str) -> pd.DataFrame:
    """Rows of `metrics.final_metrics` of one kind, best on test data first.

    The column `split` is the part of the data if the metric is named after it, else the metric's name.
    """
    table = metrics.final_metrics(part)
    better, directions = "higher" if kind == "accuracy" else "lower", metrics.metric_directions(part)
    of_kind = [directions[line.problem][line.metric] == better for line in table.itertuples()]
    table = table.loc[of_kind].assign(split=lambda t: t["metric"].str.removesuffix(f"_{kind}"))
    judge = next((name for name in ("test", "validation", "train", *table["split"]) if name in set(table["split"])), "")
    order = table[table["split"] == judge].set_index("method")["median"]
    return table.assign(judge=table["method"].map(order)).sort_values(
        ["judge", "method", "split"], ascending=[kind == "loss", True, True], ignore_index=True
    )
