"""Lessons on Adam: bias correction, and weight decay."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from optbench.analysis import tuning

from ..figures import style
from ..figures.style import PALETTE
from ..wording import number, plural, shorten, signed, span
from .base import Drawing, Lesson, Selection, full_batch, has_path, line_figure
from .command import command_of

NEAR = 0.01  # difference to the best accuracy of a good setting
FORMS = ["adam", "adam_uncorrected"]


def first_steps(selection: Selection) -> Lesson | None:
    """Lengths of the first steps of Adam with and without bias correction, at the same step size."""
    lines, smallest = [], {}
    for problem, rows in selection.parts.items():
        rows = rows[full_batch(rows) & has_path(rows) & rows["optimizer"].isin(FORMS)]
        rows = rows[np.array([len(t) > 2 for t in rows["t"]], dtype=bool)]
        sizes = [set(group["step_size"]) for _, group in rows.groupby("optimizer")]
        if len(sizes) < 2 or not sizes[0] & sizes[1]:
            continue
        common = rows[rows["step_size"].isin(sizes[0] & sizes[1])]
        for row in common[["problem", "optimizer", "step_size", "seed", "metrics"]].to_dict("records"):
            first = _largest_moves(row)[0]
            if np.isfinite(first):
                lines.append((problem, row["optimizer"], row["step_size"], row["seed"], first))
        smallest[problem] = common[common["step_size"] == common["step_size"].min()]
    table = pd.DataFrame(lines, columns=["problem", "optimizer", "step_size", "seed", "first"])
    if table["optimizer"].nunique() < 2:
        return None
    problem = min(smallest, key=lambda name: selection.names[name] != "valley")  # preferred
    group = smallest[problem]
    params = json.loads(group.loc[group["optimizer"] == "adam_uncorrected", "settings"].iloc[0])
    beta1, beta2 = float(params["beta1"]), float(params["beta2"])
    ends = {name: part["first"].agg(["min", "median", "max"]) for name, part in table.groupby("optimizer")}
    t, places = np.arange(1, 3001), plural(table["problem"].nunique(), "problem")
    ratio = _ratio(t, beta1, beta2)
    first = {name: span(group["min"], group["max"]) for name, group in ends.items()}
    points = [
        "Adam averages gradients and their squares with decay rates β₁ and β₂, starting from zero. After t equal gradients "
        "the averages are too small by the factors 1 − β₁ᵗ and 1 − β₂ᵗ; the correction divides by these (Kingma & Ba 2015, "
        "section 3).",
        "So the first step moves every coordinate by the learning rate lr; without correction, by lr (1 − β₁)/√(1 − β₂) = "
        f"{number(ratio[0])} lr. Measured on {places}: {first['adam']} lr and {first['adam_uncorrected']} lr.",
    ]
    if (ratio > 1.1).any():
        points.append(
            f"For equal gradients the ratio (1 − β₁ᵗ)/√(1 − β₂ᵗ) rises to {number(ratio.max())} at step "
            f"{t[np.argmax(ratio)]} and falls below 1.1 only at step {t[np.flatnonzero(ratio > 1.1)[-1]] + 1}."
        )
    tuned = _tuned_sizes(selection)
    if len(tuned) > 1:
        smaller, larger = sum(b < a for a, b in tuned), sum(b > a for a, b in tuned)
        points.append(
            f"Without correction, tuning selects a smaller lr on {smaller} of {len(tuned)} problems, a larger one on "
            f"{larger}."
        )
    steps, marks, longest = {}, {}, 1
    for optimizer in FORMS:
        row = group[group["optimizer"] == optimizer].sort_values("seed").iloc[0]
        moves = _largest_moves(row.to_dict())
        longest = max(longest, len(moves))
        number_of = np.arange(1, len(moves) + 1)
        steps[row["method"]] = number_of, moves
        marks[row["method"]] = np.isin(number_of, np.geomspace(1, len(moves), 7).astype(int))
    t = np.arange(1, longest + 1)
    theory = [(t, np.ones(longest)), (t, _ratio(t, beta1, beta2))]
    title = f"First steps on {shorten(problem, 40)}"
    x, y = "number of the step", "largest move of a coordinate / lr"
    drawing = Drawing(
        line_figure(title, x, y, steps, selection.styles, log="x", theory=theory, limits=(0, None), marks=marks),
        f"Length of the steps of Adam, divided by lr, on {problem}: {number(ends['adam']['median'])} at the first step "
        f"with bias correction, {number(ends['adam_uncorrected']['median'])} without.",
        f"Closer to 1 is better: at 1 a step is as long as lr ({number(float(group['step_size'].iloc[0]))}). Dashes are "
        "theory for equal gradients: (1 − β₁ᵗ)/√(1 − β₂ᵗ) and 1.",
    )
    of_problem = selection.parts[problem]
    command = command_of(of_problem[of_problem["method"].isin(set(group["method"]))])
    takeaway = f"Without it, the first step is {number(ratio[0])} times as long."
    table = table.groupby(["problem", "optimizer", "step_size"])["first"].agg(["min", "median", "max"]).reset_index()
    return Lesson(takeaway, points, [drawing], command, [problem], table)


def _ratio(t: Any, beta1: float, beta2: float) -> Any:
    """Length of step t over the step size, without bias correction and for equal gradients."""
    return (1 - beta1**t) / np.sqrt(1 - beta2**t)


def _largest_moves(row: dict[str, Any]) -> np.ndarray:
    """Largest move of a coordinate over the step size, for every step of a two-dimensional run; (T - 1,)."""
    points = dict(row["metrics"])
    x = np.array([points["x_1"], points["x_2"]], dtype=float)
    with np.errstate(all="ignore"):
        moves: np.ndarray = np.abs(np.diff(x, axis=1)).max(axis=0) / row["step_size"]
    return moves


def _tuned_sizes(selection: Selection) -> list[tuple[float, float]]:
    """The best step sizes of both forms on every problem where both ran with the same grid."""
    best = tuning.tuned(selection.all).set_index(["problem", "method"])["step_size"]
    pairs = []
    for problem, rows in selection.parts.items():
        kinds = [rows.loc[rows["optimizer"] == name, ["method", "settings"]].drop_duplicates() for name in FORMS]
        grids = [{json.loads(text)["lr"] for text in group["settings"]} for group in kinds]
        if all(len(set(group["method"])) == 1 for group in kinds) and grids[0] == grids[1]:
            corrected, uncorrected = (float(best[problem, group["method"].iloc[0]]) for group in kinds)
            pairs.append((corrected, uncorrected))
    return pairs


def decay(selection: Selection) -> Lesson | None:
    """Test accuracy of Adam with l2 and of AdamW by step size and strength."""
    candidates = []
    for problem, rows in selection.parts.items():
        grids = {}
        for optimizer, key in (("adam_l2", "l2"), ("adamw", "weight_decay")):
            for _, group in rows[rows["optimizer"] == optimizer].groupby("method", sort=True):
                strengths = [json.loads(text)[key] for text in group["settings"]]
                accuracy = list(map(_accuracy, group["metrics"], group["status"]))
                group = group.assign(strength=strengths, accuracy=accuracy)
                if group[["strength", "step_size"]].nunique().min() > 2 and group["accuracy"].notna().any():
                    grids[optimizer] = group
        if len(grids) == 2:
            candidates.append((sum(map(len, grids.values())), problem, grids))
    if not candidates:
        return None
    _, problem, grids = max(candidates, key=lambda entry: entry[:2])
    l2, w = (
        grids[name].pivot_table(index="step_size", columns="strength", values="accuracy", aggfunc="median")
        for name in ("adam_l2", "adamw")
    )
    same, strengths = l2.index.intersection(w.index), l2.columns.intersection(w.columns)
    if len(same) < 3 or len(strengths) < 3:
        return None
    l2, w = l2.loc[same, strengths], w.loc[same, strengths]
    tables = {"adam_l2": l2, "adamw": w}
    best = max(float(group.max().max()) for group in tables.values())
    near = {name: group >= best - NEAR for name, group in tables.items()}
    good = {name: int(marked.sum().sum()) for name, marked in near.items()}
    tilt = {name: _tilt(marked) for name, marked in near.items()}
    largest = {name: number(max(marked.columns[marked.any()], default=np.nan)) for name, marked in near.items()}
    cells = l2.size
    melted = [
        group.reset_index().melt("step_size", value_name="test_accuracy").assign(optimizer=name)
        for name, group in tables.items()
    ]
    more = good["adamw"] > good["adam_l2"]
    takeaway = (
        f"{'No' if more else 'They differ, but not in this'}: AdamW comes within one point of the best accuracy at "
        f"{good['adamw']} of {cells} settings, Adam with l2 at {good['adam_l2']}."
    )
    points = [
        "Adam with l2 adds l2 · x to the gradient, where x are the weights, and divides by the average size: weights with "
        "large gradients shrink less. AdamW subtracts lr · decay · x separately, with lr the step size (Loshchilov & "
        "Hutter 2019).",
        f"The best accuracy on test data is {100 * best:.1f} %. Strengths (l2 or decay) within one point of it go up to "
        f"{largest['adamw']} with AdamW, {largest['adam_l2']} with l2.",
    ]
    if all(map(np.isfinite, tilt.values())):
        agrees = abs(tilt["adamw"]) < abs(tilt["adam_l2"])
        points.append(
            "Figure 2 of that paper claims that AdamW’s lr and decay can be chosen separately. Correlation of log lr and "
            f"log strength over the good settings: {signed(tilt['adamw'])} with AdamW, {signed(tilt['adam_l2'])} with l2, "
            "0 if separate. "
            + ("That agrees." if agrees else "These runs do not show it; the paper does not multiply decay by lr.")
        )
    lr, strength = float(same.max()), float(strengths.max())
    if lr * strength > 2:
        points.append(
            "Above lr · decay = 2 AdamW’s weights grow, by the factor 1 − lr · decay < −1. At lr = "
            f"{number(lr)} and strength {number(strength)} {_accuracy_text(w.loc[lr, strength])} with AdamW, "
            f"{_accuracy_text(l2.loc[lr, strength])} with l2."
        )
    drawings = tuple(
        Drawing(
            style.figure(_heat, tables[name], best, title, label, room=0.3),
            f"{title} on {problem}: accuracy on test data by step size and strength, within one point of the best in "
            f"{good[name]} of {cells} pairs.",
            "Darker is better: percent of the test data classified correctly (median over seeds; – where most runs "
            "diverged). Frame: within one point of the best of both.",
        )
        for name, title, label in (("adam_l2", "Adam with l2", "l2"), ("adamw", "AdamW", "weight decay"))
    )
    of_problem = selection.parts[problem]
    command = command_of(of_problem[of_problem["method"].isin([group["method"].iloc[0] for group in grids.values()])])
    table = pd.concat(melted)
    return Lesson(takeaway, points, drawings, command, [problem], table)


def _accuracy(figures: Any, status: str) -> float:
    """Final accuracy on test data; 0 for a run that diverged, NaN if not recorded."""
    values = dict(figures).get("test_accuracy")
    if values is None:
        return np.nan
    finite = np.asarray(values, dtype=float)
    return 0.0 if status == "diverged" or not np.isfinite(finite).any() else float(finite[np.isfinite(finite)][-1])


def _accuracy_text(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} % are classified correctly" if accuracy > 0 else "most runs diverge"


def _tilt(good: pd.DataFrame) -> float:
    """Correlation of log(step size) and log(strength) over the good pairs; NaN if undefined."""
    rows, columns = np.nonzero(good.to_numpy())
    if len(set(rows)) < 2 or len(set(columns)) < 2:
        return np.nan
    sizes, strengths = (np.log(np.asarray(axis, dtype=float)) for axis in (good.index, good.columns))
    return float(np.corrcoef(sizes[rows], strengths[columns])[0, 1])


def _heat(table: pd.DataFrame, best: float, title: str, label: str, ax: Axes) -> None:
    colors = LinearSegmentedColormap.from_list("accuracy", ["#f3f4f7", PALETTE[0]])
    values, low = table.to_numpy(dtype=float), best - 0.1
    # colours that the dark page does not replace, because the text must fit the colour of its cell
    ax.pcolormesh(np.clip(values, low, best), cmap=colors, vmin=low, vmax=best, edgecolors="#ffffff", linewidth=0.6)
    for (i, j), value in np.ndenumerate(values):
        near = value >= best - NEAR
        ax.text(
            j + 0.5, i + 0.5, f"{100 * value:.1f}" if value > 0 else "–", ha="center", va="center", fontsize=7.5,
            color="#fffffe" if value > low + 0.55 * (best - low) else "#26272c", fontweight="bold" if near else "normal",
        )  # fmt: skip
        if near:
            x, y = j + np.array([0.08, 0.92, 0.92, 0.08, 0.08]), i + np.array([0.1, 0.1, 0.9, 0.9, 0.1])
            ax.plot(x, y, color="#fffffe", linewidth=1.0)
    ax.set_xticks(np.arange(len(table.columns)) + 0.5, [number(v) for v in table.columns])
    ax.set_yticks(np.arange(len(table.index)) + 0.5, [number(v) for v in table.index])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    style.label(ax, f"{title}: accuracy on test data, %", label, "step size")
