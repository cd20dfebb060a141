"""Lessons on mini-batches: noise, the linear scaling rule, and schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import statistics
from optbench.core.types import Status

from ..figures import style
from ..figures.convergence import CALLS_LABEL
from ..figures.style import INK, PALETTE
from ..wording import notation, number, signed, wholes
from .base import GAP_LABEL, INFINITE_GAP, THEORY, Drawing, Lesson, Selection, gaps, line_figure, line_styles
from .command import command_of


def _stochastic(rows: pd.DataFrame) -> pd.DataFrame:
    """Runs of SGD with mini-batches and a constant step size, on a problem with a known optimum."""
    sgd = (rows["optimizer"] == "sgd") & rows["batch_size"].notna()
    return rows[sgd & (rows["schedule"] == "constant") & rows["f_star"].notna()]


def noise(selection: Selection) -> Lesson | None:
    """The gap at which SGD with a fixed step size stalls, against the batch size."""
    candidates = []
    for problem, rows in selection.parts.items():
        for (size, steps), group in _stochastic(rows).groupby(["step_size", "steps"], sort=True):
            if group["batch_size"].nunique() >= 4:
                candidates.append((group["batch_size"].nunique(), int(steps), problem, float(size), group))
    if not candidates:
        return None
    _, steps, problem, lr, rows = max(candidates, key=lambda entry: entry[:4])
    n = selection.description(rows).get("n_samples")
    lines = []
    for row in rows.sort_values(["batch_size", "seed"]).to_dict("records"):
        t, gap = np.asarray(row["t"]), np.asarray(row["f"], dtype=float) - row["f_star"]
        late = gap[t > steps / 2]
        half = gap[(t > steps / 4) & (t <= steps / 2)]
        diverged = row["status"] == Status.DIVERGED or not len(late)
        lines.append(
            {key: row[key] for key in ("problem", "method", "settings", "step_size", "batch_size", "seed", "status")}
            | {"floor": np.inf if diverged else late.mean(), "before": half.mean() if len(half) else np.nan}
        )
    table = pd.DataFrame(lines)
    medians = table.groupby("batch_size")[["floor", "before"]].agg(statistics.median)
    medians = medians[np.isfinite(medians["floor"]) & (medians["floor"] > 0)]
    stalled = medians.loc[medians["before"] / medians["floor"] < 3, "floor"]  # others have not stalled yet
    if len(stalled) < 3:
        return None
    b, floor = stalled.index.to_numpy(dtype=float), stalled.to_numpy()
    slope = float(np.polyfit(np.log(b), np.log(floor), 1)[0])
    smallest = slice(0, max(3, len(b) // 2))
    early = float(np.polyfit(np.log(b[smallest]), np.log(floor[smallest]), 1)[0])
    takeaway = (
        f"Closer with larger batches: the gap stalls at {number(floor[0])} with batch size b = {int(b[0])}, at "
        f"{number(floor[-1])} with b = {int(b[-1])}."
    )
    points = [
        f"At a fixed step size (lr = {number(lr)}) the noise of the gradients keeps SGD away from the minimum.",
        "Theory: if the gradient of one sample has variance σ², the mean of b has σ²/b. The gap stalls at a value "
        "proportional to lr σ²/b (Bottou, Curtis & Nocedal 2018, theorem 4.6): slope −1.",
        f"Measured: slope {signed(slope)} over all batch sizes, {signed(early)} over the smallest {len(b[smallest])}.",
    ]
    if slope < -1.15:
        left = f", by (n − b)/(n − 1) = {number((n - b[-1]) / (n - 1))} for b = {int(b[-1])}" if n and n > 1 else ""
        points.append(
            f"That is steeper: batches drawn without replacement have less variance{left}, and errors cancel in part over "
            "an epoch (Mishchenko, Khaled & Richtárik 2020)."
        )
    else:
        points.append("That is flatter than theory." if slope > -0.85 else "That agrees with theory.")
    drawing = Drawing(
        style.figure(_floors, table[table["batch_size"].isin(stalled.index)], b, floor, room=2.0),
        f"Gap at which SGD stalls on {problem} against the batch size: from {number(floor[0])} at {int(b[0])} to "
        f"{number(floor[-1])} at {int(b[-1])}.",
        "Lower is better: mean gap over the second half of the steps. Small dots are seeds, large ones medians; dashes "
        "have slope −1.",
    )
    return Lesson(takeaway, points, [drawing], command_of(rows), [problem], table)


def _floors(table: pd.DataFrame, b: np.ndarray, floor: np.ndarray, ax: Axes) -> None:
    style.axes(ax)
    seeds, styles = table[np.isfinite(table["floor"])], line_styles(["measured"])
    dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.5, "color": PALETTE[0], "alpha": 0.6}
    ax.plot(seeds["batch_size"], seeds["floor"], **dots)
    ax.plot(b, floor, **styles["measured"].line)
    ax.plot(b, floor[0] * b[0] / b, **THEORY, alpha=0.75)
    style.label(ax, "Where a fixed step size stalls", "batch size b", "gap f − f*, mean of the second half", "xy")
    ax.set_xticks(b, [f"{int(size)}" for size in b])
    style.end_names(ax, {"measured": (b, floor)}, styles, ["measured"])
    ax.annotate(
        "slope −1", (b[-1], floor[0] * b[0] / b[-1]), (5, 5), textcoords="offset points", fontsize=9.5, color=INK,
        annotation_clip=False,
    )  # fmt: skip


def scaling(selection: Selection) -> Lesson | None:
    """Several batch sizes over equal epochs, with one step size and with step sizes proportional to the batch size."""
    candidates = []
    for problem, rows in selection.parts.items():
        rows = _stochastic(rows)
        # budgets in epochs are equal up to a step of the largest batch
        epochs = (rows["steps"].astype(float) + 1) * rows["calls_per_step"].astype(float)
        for (whole, least), _ in rows.groupby([epochs.round(0), "step_size"], sort=True):
            if (rows["step_size"] == least).sum() < 3:
                continue
            center = epochs[(epochs.round(0) == whole) & (rows["step_size"] == least)].median()
            group = rows[(epochs - center).abs() <= rows["calls_per_step"].astype(float)]
            fixed = group[group["step_size"] == least]
            if len(set(fixed["batch_size"])) < 3:
                continue
            proportional = least * group["batch_size"].astype(float) / fixed["batch_size"].min()
            scaled = group[np.isclose(group["step_size"].astype(float), proportional)]
            common = set(fixed["batch_size"]) & set(scaled["batch_size"])
            if len(common) >= 3:
                keep = [part[part["batch_size"].isin(common)] for part in (fixed, scaled)]
                candidates.append((len(common), problem, float(least), keep))
    if not candidates:
        return None
    _, problem, lr, (fixed, scaled) = max(candidates, key=lambda entry: entry[:3])
    L = selection.description(fixed).get("smoothness")
    last = float((scaled["steps"] * scaled["calls_per_step"]).min())
    if last < 2:
        return None
    grid = np.geomspace(1.0, last, 60)
    lines = []
    for name, rows in (("one", fixed), ("scaled", scaled)):
        for (size, step), group in rows.groupby(["batch_size", "step_size"], sort=True):
            curve = np.array([_at_epochs(row, grid) for row in group.to_dict("records")])
            key = name, problem, int(size), step
            lines += [(*key, epoch, statistics.median(column)) for epoch, column in zip(grid, curve.T, strict=True)]
    table = pd.DataFrame(lines, columns=["lr_is", "problem", "batch_size", "step_size", "epochs", "gap"])
    apart = {
        name: group.pivot_table(index="epochs", columns="batch_size", values="gap", aggfunc="first")
        for name, group in table.groupby("lr_is")
    }
    sizes = sorted(apart["scaled"].columns)
    first = {name: group.iloc[0] for name, group in apart.items()}
    end = {name: group.iloc[-1] for name, group in apart.items()}
    if not all(np.isfinite(row[sizes[0]]) for row in (*first.values(), *end.values())):
        return None  # even the smallest batch diverged
    spread, spread_end = ({name: float(row.max() / row.min()) for name, row in at.items()} for at in (first, end))
    top = lr * sizes[-1] / sizes[0]
    takeaway = (
        f"In proportion: the gaps after one epoch then differ by {_factor(spread['scaled'])}, instead of "
        f"{_factor(spread['one'])} with one step size for all."
        if spread["scaled"] < spread["one"]
        else "In proportion, says the linear scaling rule; on this problem it does not hold."
    )
    points = [
        f"With batch size b = {int(sizes[0])}, an epoch has {int(sizes[-1] / sizes[0])} times as many steps as with b = "
        f"{int(sizes[-1])}.",
        f"Step size lr = {number(lr)} for all: the gaps differ by {_factor(spread['one'])} after one epoch, by "
        f"{_factor(spread_end['one'])} after {number(grid[-1])} epochs.",
        "lr proportional to b (linear scaling rule, Goyal et al. 2017; option --linear-scaling): "
        f"{_factor(spread['scaled'])}, then {_factor(spread_end['scaled'])}. While the iterate hardly moves, many small "
        "steps add up to one large step.",
    ]
    near = [size for size in sizes if first["scaled"][size] <= 2 * first["scaled"][sizes[0]]]
    beyond = [size for size in sizes if L and lr * size / sizes[0] * L > 2]
    if L and beyond:
        ends = [f"ends at {number(gap)}" if np.isfinite(gap) else "diverges" for gap in end["scaled"][beyond]]
        values = ", ".join(
            f"b = {int(size)} (lr = {number(lr * size / sizes[0])}) {ending}"
            for size, ending in zip(beyond, ends, strict=True)
        )
        points.append(
            f"Limit: above lr = 2/L = {number(2 / L)}, L the largest curvature, even gradient descent may be "
            f"unstable. Here {values}, b = {int(sizes[0])} at {number(end['scaled'][sizes[0]])}."
        )
    elif L:
        points.append(f"All step sizes here, up to {number(top)}, are below the limit 2/L = {number(2 / L)}.")
    if len(near) < len(sizes):
        points.append(f"Within a factor of two of the smallest batch after one epoch: b = {wholes(near)}.")
    titles = {"one": f"One step size, {number(lr)}, for all", "scaled": "Step size proportional to the batch"}
    least, most = table["gap"].replace([np.inf], np.nan).agg(["min", "max"]).tolist()
    x, limits = "epochs (passes over the data)", (least / 1.5, most * 1.5)
    finite = {name: group.where(np.isfinite(group)) for name, group in apart.items()}
    curves = {
        name: {f"b = {int(size)}": (grid, group[size].to_numpy()) for size in sizes} for name, group in finite.items()
    }
    drawings = tuple(
        Drawing(
            line_figure(title, x, GAP_LABEL, curves[name], limits=limits),
            f"{title}: gap against epochs on {problem} for batches of {wholes(sizes)}; after one epoch they "
            f"differ by {_factor(spread[name])}.",
            "Lower is better, lines close together mean that the batch size does not matter (medians over seeds).",
        )
        for name, title in titles.items()
    )
    command = command_of(fixed) + "\n" + command_of(scaled, scaled=True)
    return Lesson(takeaway, points, drawings, command, [problem], table)


def _at_epochs(row: dict[str, Any], grid: np.ndarray) -> np.ndarray:
    """Gap of a run at some epochs, interpolated linearly in log(gap); infinite after divergence."""
    epochs = np.asarray(row["t"], dtype=float) * row["calls_per_step"]
    gap = np.asarray(row["f"], dtype=float) - row["f_star"]
    usable = (gap < INFINITE_GAP) & (gap > 0)
    if usable.sum() < 2:
        return np.full(len(grid), np.inf)
    diverged = (row["status"] == Status.DIVERGED) & (grid > row["end"] * row["calls_per_step"])
    return np.where(diverged, np.inf, np.exp(np.interp(grid, epochs[usable], np.log(gap[usable]))))


def _factor(ratio: float) -> str:
    return f"a factor of {number(ratio)}" if np.isfinite(ratio) else "an unknown factor (most runs of one diverge)"


def schedules(selection: Selection) -> Lesson | None:
    """Schedules of one optimizer and batch size, each at the step size with the best last iterate."""
    candidates = []
    for problem, rows in selection.parts.items():
        rows = rows[rows["batch_size"].notna() & rows["f_star"].notna() & rows["schedule"].notna()]
        for (optimizer, size, steps), group in rows.groupby(["optimizer", "batch_size", "steps"], sort=True):
            if group["schedule"].nunique() >= 3 and "constant" in set(group["schedule"]):
                candidates.append((group["schedule"].nunique(), problem, str(optimizer), int(size), int(steps), group))
    if not candidates:
        return None
    _, problem, optimizer, size, steps, rows = max(candidates, key=lambda entry: entry[:5])
    value = rows["f_end"].astype(float) - rows["f_star"].astype(float)
    rows = rows.assign(last=value.where(np.isfinite(value) & (rows["status"] != Status.DIVERGED), np.inf))
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
    better = others["gap"].iloc[0] < constant["gap"]
    gap_text = notation(best["gap"])
    gain = number(constant["gap"] / others["gap"].iloc[0])
    larger = number(others["step_size"].iloc[0] / constant["step_size"])
    who = "SGD" if optimizer == "sgd" else optimizer
    points = [
        f"{who}, batch size {size}, {steps} steps. Each schedule has the step size, of {rows['step_size'].nunique()}, with "
        "the smallest median gap of the last iterate.",
        f"Final gaps: constant {gap_text(constant['gap'])} (step size lr = {number(constant['step_size'])}), "
        + ", ".join(f"{name} {gap_text(line['gap'])} ({number(line['step_size'])})" for name, line in others.iterrows())
        + ".",
        "A large step size forgets the start fast but stalls at a gap proportional to lr (see mini-batch noise). A "
        "decreasing one has a fast start and a low end (Bottou, Curtis & Nocedal 2018, section 4.2)."
        + (f" The best lr of {lead} is {larger} times the best constant one." if better else ""),
    ]
    if others["gap"].iloc[-1] > constant["gap"]:
        points.append(f"The last, {last}, is no better than a constant step size.")
    if better and all(name.startswith(("cosine", "linear")) for name in others.index[:2]):
        points.append("Schedules that end near zero win (cosine: Loshchilov & Hutter 2017, there with restarts).")
    if edges:
        points.append(f"Best step size at the edge of the grid, so that a better one may exist: {', '.join(edges)}.")
    styles = line_styles(sorted(best.index))
    curves, final = {}, {}
    for name, line in best.iterrows():
        group = rows[(rows["schedule"] == name) & (rows["step_size"] == line["step_size"])]
        t, gap = gaps(group)
        keep = style.thin(len(t))
        curves[str(name)] = (t[keep] + 1) * float(group["calls_per_step"].iloc[0]), gap[keep]
        by_size = table[(table["schedule"] == name) & np.isfinite(table["gap"])].sort_values("step_size")
        final[str(name)] = by_size["step_size"].to_numpy(), by_size["gap"].to_numpy()
    marks = {name: np.ones(len(sizes), dtype=bool) for name, (sizes, _) in final.items()}
    title, x, y = "Final gap by step size", "step size at the first step", "gap f − f* of the last iterate"
    drawings = (
        Drawing(
            line_figure("Schedules at their best step sizes", CALLS_LABEL, GAP_LABEL, curves, styles, width=16),
            f"Gap of the iterate against oracle calls on {problem} for {len(best)} schedules at their best step "
            f"sizes; {best.index[0]} ends lowest, at {number(best['gap'].iloc[0])}.",
            "A lower end is better: gap of the iterate (medians over seeds), each schedule at its best step size.",
        ),
        Drawing(
            line_figure(title, x, y, final, styles, width=16, marks=marks),
            f"Gap of the last iterate on {problem} against the step size, a line for each of {len(best)} schedules.",
            "Lower is better, wider is more robust: gap of the last iterate (medians over seeds).",
        ),
    )
    takeaway = f"Here {lead}: a constant step size ends at {gain} times its gap." if better else "Here a constant one."
    return Lesson(takeaway, points, drawings, command_of(rows), [problem], table)
