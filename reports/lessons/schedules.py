"""Learning-rate schedules."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import statistics
from optbench.core.types import Status

from ..figures import style
from ..figures.lines import CALLS_LABEL
from ..wording import number
from .base import GAP_LABEL, Content, Drawing, figure, label, line_style
from .command import command_of
from .selection import Selection, gaps


def schedules(selection: Selection) -> Content | None:
    """Learning-rate schedules of one optimizer with one batch size, each at the step size with the best last iterate."""
    candidates = []
    for problem, rows in selection.parts.items():
        rows = rows[rows["batch_size"].notna() & rows["f_star"].notna() & rows["schedule"].notna()]
        for (optimizer, size, steps), group in rows.groupby(["optimizer", "batch_size", "steps"], sort=True):
            # a constant rate that was tried at other step sizes than the others is no part of this
            if group["schedule"].nunique() >= 3 and "constant" in set(group["schedule"]):
                candidates.append((group["schedule"].nunique(), problem, str(optimizer), int(size), int(steps), group))
    if not candidates:
        return None
    _, problem, optimizer, size, steps, rows = max(candidates, key=lambda entry: entry[:5])
    value = np.where(
        rows["status"] == Status.DIVERGED, np.inf, rows["f_end"].astype(float) - rows["f_star"].astype(float)
    )
    rows = rows.assign(last=np.where(np.isfinite(value), value, np.inf))
    table = rows.groupby(["schedule", "step_size"])["last"].agg(statistics.median).rename("gap").reset_index()
    table = table.assign(problem=problem, optimizer=optimizer, batch_size=size, steps=steps)
    best = table.sort_values(["gap", "step_size"]).drop_duplicates("schedule").set_index("schedule")
    best = best[np.isfinite(best["gap"])]
    if "constant" not in best.index or len(best) < 3:
        return None
    constant, others = best.loc["constant"], best.drop(index="constant")
    lead, last = others.index[0], others.index[-1]
    ends = rows["step_size"].agg(["min", "max"]).tolist()
    edges = [name for name, line in best.iterrows() if line["step_size"] in ends]
    who = "Stochastic gradient descent" if optimizer == "sgd" else optimizer
    text = (
        f"{who} with batches of {size} and {steps} steps. Each schedule has the step size (of "
        f"{rows['step_size'].nunique()}) whose last iterate has the smallest median gap. A constant step size ends at "
        f"{number(constant['gap'])} (lr = {number(constant['step_size'])}); "
        + "; ".join(
            f"{name} at {number(line['gap'])} ({number(line['step_size'])})" for name, line in others.iterrows()
        )
        + ". "
    )
    if others["gap"].iloc[0] < constant["gap"]:
        text += (
            f"The best, {lead}, is {number(constant['gap'] / others['gap'].iloc[0])} times lower than the constant "
            f"one, and its best step size is {number(others['step_size'].iloc[0] / constant['step_size'])} times as "
            "large. "
        )
    else:
        text += "None is better than the constant one here. "
    if others["gap"].iloc[-1] > constant["gap"]:
        text += f"The last, {last}, is no better than a constant step size. "
    text += (
        "A large step size forgets the start fast but stalls at a gap proportional to lr (see mini-batch noise); "
        "one that falls has both (Bottou, Curtis & Nocedal 2018, section 4.2)."
    )
    if others["gap"].iloc[0] < constant["gap"] and all(
        name.startswith(("cosine", "linear")) for name in others.index[:2]
    ):
        text += (
            " The schedules that end near zero have the lowest final gap here (cosine: Loshchilov & Hutter 2017, with "
            "restarts)."
        )
    if edges:
        text += (
            f" The best step size lies at the edge of those tried for {', '.join(edges)}: a better one may lie outside."
        )
    drawings = (
        Drawing(
            figure(_curves, rows, best),
            f"Gap of the iterate against oracle calls on {problem} for {len(best)} schedules at their best step "
            f"sizes; {best.index[0]} ends lowest, at {number(best['gap'].iloc[0])}.",
            "The gap of the iterate itself (medians over seeds), each schedule at the step size of its best last "
            "iterate.",
        ),
        Drawing(
            figure(_sizes, table, best),
            f"Gap of the last iterate on {problem} against the step size, a line for each of {len(best)} schedules.",
            "Gap of the last iterate (medians over seeds) by step size: how much a schedule forgives.",
        ),
    )
    return Content(drawings=drawings, paragraph=text, command=command_of(rows), problems=(problem,), table=table)


def _styles(best: pd.DataFrame) -> dict[str, style.Style]:
    return {name: line_style(k) for k, name in enumerate(sorted(best.index))}


def _curves(rows: pd.DataFrame, best: pd.DataFrame, ax: Axes) -> None:
    style.axes(ax)
    ends, styles = [], _styles(best)
    for name, line in best.iterrows():
        group = rows[(rows["schedule"] == name) & (rows["step_size"] == line["step_size"])]
        t, gap = gaps(group)
        calls = (t + 1) * float(group["calls_per_step"].iloc[0])
        keep = style.thin(len(t))
        style.line(ax, styles[str(name)], calls[keep], gap[keep])
        ends.append((float(gap[-1]), str(name), styles[str(name)]))
    label(ax, "Schedules at their best step sizes", CALLS_LABEL, GAP_LABEL)
    style.end_names(ax, ends, width=16)


def _sizes(table: pd.DataFrame, best: pd.DataFrame, ax: Axes) -> None:
    style.axes(ax)
    ends, styles = [], _styles(best)
    for name in best.index:
        group = table[(table["schedule"] == name) & np.isfinite(table["gap"])].sort_values("step_size")
        style.line(
            ax,
            styles[name],
            group["step_size"].to_numpy(),
            group["gap"].to_numpy(),
            marks=np.ones(len(group), dtype=bool),
        )
        ends.append((float(group["gap"].iloc[-1]), name, styles[name]))
    label(ax, "What each step size ends with", "step size at the first step", "gap f − f* of the last iterate")
    style.end_names(ax, ends, width=16)
