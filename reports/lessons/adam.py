"""Adam: its first steps with and without bias correction, and two ways to decay weights."""

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
from .base import THEORY, Content, Drawing, figure, label
from .command import command_of
from .selection import Selection, full, whole

NEAR = 0.01  # accuracy below the best that counts as near it


def first_steps(selection: Selection) -> Content | None:
    """Lengths of the first steps of Adam with and without bias correction, at the same step size."""
    lines, drawn = [], None
    for problem, rows in selection.parts.items():
        rows = rows[full(rows) & whole(rows) & rows["optimizer"].isin(["adam", "adam_uncorrected"])]
        rows = rows[np.array([len(t) > 2 for t in rows["t"]], dtype=bool)]
        sizes = [set(group["step_size"]) for _, group in rows.groupby("optimizer")]
        if len(sizes) < 2 or not sizes[0] & sizes[1]:
            continue
        common = rows[rows["step_size"].isin(sizes[0] & sizes[1])]
        for row in common[["problem", "optimizer", "step_size", "seed", "metrics"]].to_dict("records"):
            steps = _largest_moves(row)
            if len(steps) and np.isfinite(steps[0]):
                key = row["problem"], row["optimizer"], row["step_size"], row["seed"]
                lines.append((*key, steps[0]))
        if len(common) and (drawn is None or (selection.names[problem] == "valley" and drawn[0] != "valley")):
            smallest = common[common["step_size"] == common["step_size"].min()]
            drawn = selection.names[problem], problem, smallest
    table = pd.DataFrame(lines, columns=["problem", "optimizer", "step_size", "seed", "first"])
    if drawn is None or table.empty or table["optimizer"].nunique() < 2:
        return None
    _, problem, group = drawn
    params = json.loads(group.loc[group["optimizer"] == "adam_uncorrected", "settings"].iloc[0])
    beta1, beta2 = float(params["beta1"]), float(params["beta2"])
    ends = {name: part["first"].agg(["min", "median", "max"]) for name, part in table.groupby("optimizer")}
    t = np.arange(1, 3001)
    ratio = _ratio(t, beta1, beta2)
    with_, without = ends["adam"], ends["adam_uncorrected"]
    places = table["problem"].nunique()
    first = {name: span(group["min"], group["max"]) for name, group in ends.items()}
    text = (
        "Adam’s averages of gradients and of their squares begin at zero, so they are too small at first: after t "
        "steps of equal gradients by the factors 1 − β₁ᵗ and 1 − β₂ᵗ. Adam divides by these factors (Kingma & Ba "
        "2015, section 3), so its first step moves every coordinate by lr. Without this correction the first step is "
        f"lr (1 − β₁)/√(1 − β₂) = {number(ratio[0])} lr. Over {plural(places, 'problem')} and all step sizes and seeds "
        f"that both ran with, the first step measured {first['adam']} lr with the correction and "
        f"{first['adam_uncorrected']} lr without. For equal gradients the ratio "
        f"(1 − β₁ᵗ)/√(1 − β₂ᵗ) grows to {number(ratio.max())} at step "
        f"{t[np.argmax(ratio)]} and comes within a tenth of 1 only at step {t[np.flatnonzero(ratio > 1.1)[-1]] + 1}: "
        "without the correction a step size acts like a larger one for many steps."
    )
    tuned = _tuned_sizes(selection, "adam", "adam_uncorrected")
    if len(tuned) > 1:
        smaller, larger = sum(b < a for a, b in tuned), sum(b > a for a, b in tuned)
        text += (
            f" Tuned, the form without takes a smaller step size than Adam on {smaller} of {len(tuned)} problems, a "
            f"larger one on {larger}."
        )
    of_problem = selection.parts[problem]
    return Content(
        drawings=(
            Drawing(
                figure(_step_lengths, selection, group, beta1, beta2),
                f"Length of the steps of Adam over lr on {problem}: {number(with_['median'])} at the first step with "
                f"bias correction, {number(without['median'])} without.",
                f"Largest move of a coordinate in a step over lr, at lr = {number(float(group['step_size'].iloc[0]))}; "
                "dashes are (1 − β₁ᵗ)/√(1 − β₂ᵗ) and 1, what equal gradients give.",
            ),
        ),
        paragraph=text,
        command=command_of(of_problem[of_problem["method"].isin(set(group["method"]))]),
        problems=(problem,),
        table=table.groupby(["problem", "optimizer", "step_size"])["first"].agg(["min", "median", "max"]).reset_index(),
    )


def _ratio(t: Any, beta1: float, beta2: float) -> Any:
    """What t equal gradients move a coordinate by without bias correction, over the step size."""
    return (1 - beta1**t) / np.sqrt(1 - beta2**t)


def _largest_moves(row: dict[str, Any]) -> np.ndarray:
    """Of every step of a run in the plane the largest move of a coordinate, over the step size; (T - 1,)."""
    points = dict(row["metrics"])
    x = np.array([points["x_1"], points["x_2"]], dtype=float)
    with np.errstate(all="ignore"):
        moves: np.ndarray = np.abs(np.diff(x, axis=1)).max(axis=0) / row["step_size"]
    return moves


def _step_lengths(selection: Selection, rows: pd.DataFrame, beta1: float, beta2: float, ax: Axes) -> None:
    style.axes(ax)
    ends, longest = [], 1
    for optimizer in ("adam", "adam_uncorrected"):
        group = rows[rows["optimizer"] == optimizer].sort_values("seed")
        (method_style, method_name), steps = selection.method(group), _largest_moves(group.iloc[0].to_dict())
        t = np.arange(1, len(steps) + 1)
        marks = np.isin(t, np.unique(np.geomspace(1, len(t), 7).astype(int)))
        style.line(ax, method_style, t, steps, marks=marks)
        ends.append((float(steps[-1]), method_name, method_style))
        longest = max(longest, len(t))
    t = np.arange(1, longest + 1)
    for expected in (np.ones(longest), _ratio(t, beta1, beta2)):
        ax.plot(t, expected, **THEORY, alpha=0.75, zorder=4)
    title = f"First steps on {shorten(str(rows['problem'].iloc[0]), 40)}"
    label(ax, title, "number of the step", "largest move of a coordinate / lr", "x")
    ax.set_ylim(bottom=0)
    style.end_names(ax, ends)


def _tuned_sizes(selection: Selection, *optimizers: str) -> list[tuple[float, float]]:
    """The best step sizes of two optimizers on every problem on which both ran once, over one and the same grid."""
    best = tuning.tuned(selection.all).set_index(["problem", "method"])["step_size"]
    candidates = []
    for problem, rows in selection.parts.items():
        kinds = [rows.loc[rows["optimizer"] == name, ["method", "settings"]] for name in optimizers]
        methods = [sorted(set(group["method"])) for group in kinds]
        if all(len(names) == 1 for names in methods):
            grids = [{json.loads(text)["lr"] for text in set(group["settings"])} for group in kinds]
            if grids[0] == grids[1]:
                candidates.append((float(best[problem, methods[0][0]]), float(best[problem, methods[1][0]])))
    return candidates


def decay(selection: Selection) -> Content | None:
    """Test accuracy of Adam with l2 and of AdamW over step sizes and strengths."""
    candidates = []
    for problem, rows in selection.parts.items():
        grids = {}
        for optimizer, key in (("adam_l2", "l2"), ("adamw", "weight_decay")):
            for method, group in rows[rows["optimizer"] == optimizer].groupby("method", sort=True):
                settings = [json.loads(text) for text in group["settings"]]
                group = group.assign(
                    strength=[s[key] for s in settings], judged=list(map(_accuracy, group["metrics"], group["status"]))
                )
                if (
                    group["strength"].nunique() > 2
                    and group["step_size"].nunique() > 2
                    and group["judged"].notna().any()
                ):
                    grids[optimizer] = str(method), group
        if len(grids) == 2:
            candidates.append((sum(len(group) for _, group in grids.values()), problem, grids))
    if not candidates:
        return None
    _, problem, grids = max(candidates, key=lambda entry: entry[:2])
    tables = {
        name: group.pivot_table(index="step_size", columns="strength", values="judged", aggfunc="median")
        for name, (_, group) in grids.items()
    }
    same = tables["adam_l2"].index.intersection(tables["adamw"].index)
    strengths = tables["adam_l2"].columns.intersection(tables["adamw"].columns)
    tables = {name: group.loc[same, strengths] for name, group in tables.items()}
    if len(same) < 3 or len(strengths) < 3:
        return None
    best = max(float(group.max().max()) for group in tables.values())
    good = {name: int((group >= best - NEAR).sum().sum()) for name, group in tables.items()}
    tilt = {name: _tilt(group >= best - NEAR) for name, group in tables.items()}
    largest = {name: _largest_good(group, best) for name, group in tables.items()}
    cells = len(same) * len(strengths)
    table = pd.concat(
        [
            group.reset_index().melt("step_size", value_name="test_accuracy").assign(optimizer=name)
            for name, group in tables.items()
        ]
    )
    l2, w = tables["adam_l2"], tables["adamw"]
    text = (
        "Both pull the weights to zero. Adam with l2 adds l2 · x to the gradient, which is then divided by the root "
        "of its own average square, so that weights with large gradients are pulled less; AdamW takes lr · decay · "
        f"x off the weights beside the step (Loshchilov & Hutter 2019). Of the {cells} pairs of step size and "
        f"strength, Adam with l2 comes within one point of the best accuracy on held-out data, {100 * best:.1f} %, "
        f"in {good['adam_l2']}, AdamW in {good['adamw']}. "
    )
    text += (
        "The region of good settings is larger with AdamW"
        if good["adamw"] > good["adam_l2"]
        else "On this problem the region of good settings is not larger with AdamW"
    )
    text += f"; it reaches strengths up to {number(largest['adamw'])}, and up to {number(largest['adam_l2'])} with l2. "
    if all(map(np.isfinite, tilt.values())):
        text += (
            "Figure 2 of that paper claims that with AdamW step size and strength can be chosen separately. Over "
            f"the good pairs their logarithms have the correlation {signed(tilt['adam_l2'])} with l2 and "
            f"{signed(tilt['adamw'])} with AdamW, where 0 would be separate: "
        )
        text += (
            "that agrees. "
            if abs(tilt["adamw"]) < abs(tilt["adam_l2"])
            else "these runs do not show it (there the decay is not multiplied by the step size, as it is here). "
        )
    lr, strength = float(same.max()), float(strengths.max())
    if lr * strength > 2:
        text += (
            f"Where lr · decay is above 2, as in the corner with {number(lr)} and {number(strength)}, AdamW’s factor "
            f"1 − lr · decay is below −1 and the weights grow; there {_judged(w.loc[lr, strength])}, with l2 "
            f"{_judged(l2.loc[lr, strength])}."
        )
    low = best - 0.1
    drawings = tuple(
        Drawing(
            style.figure(_heat, tables[name], low, best, title, label, room=0.3),
            f"{title} on {problem}: accuracy on test data by step size and strength, within one point of the best in "
            f"{good[name]} of {cells} pairs.",
            "Percent of the test data classified correctly at the end (median over seeds; – where most runs "
            "diverged). Bold with a frame: within one point of the best of both.",
        )
        for name, title, label in (("adam_l2", "Adam with l2", "l2"), ("adamw", "AdamW", "weight decay"))
    )
    of_problem = selection.parts[problem]
    command = command_of(of_problem[of_problem["method"].isin([method for method, _ in grids.values()])])
    return Content(drawings=drawings, paragraph=text.strip(), command=command, problems=(problem,), table=table)


def _accuracy(figures: Any, status: str) -> float:
    """Accuracy on the test data at the end; 0 for a run that diverged, NaN where it was not recorded."""
    values = dict(figures).get("test_accuracy")
    if values is None:
        return np.nan
    finite = np.asarray(values, dtype=float)
    return 0.0 if status == "diverged" or not np.isfinite(finite).any() else float(finite[np.isfinite(finite)][-1])


def _judged(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} % are classified correctly" if accuracy > 0 else "most runs diverge"


def _tilt(good: pd.DataFrame) -> float:
    """Correlation of log(step size) and log(strength) over the pairs that are marked; NaN where it is not defined."""
    rows, columns = np.nonzero(good.to_numpy())
    if len(set(rows)) < 2 or len(set(columns)) < 2:
        return np.nan
    sizes, strengths = (np.log(np.asarray(axis, dtype=float)) for axis in (good.index, good.columns))
    return float(np.corrcoef(sizes[rows], strengths[columns])[0, 1])


def _largest_good(table: pd.DataFrame, best: float) -> float:
    """The largest strength with which some step size comes near the best; NaN if none does."""
    return max((float(c) for c in table.columns if (table[c] >= best - NEAR).any()), default=np.nan)


def _heat(table: pd.DataFrame, low: float, best: float, title: str, label: str, ax: Axes) -> None:
    colors = LinearSegmentedColormap.from_list("accuracy", ["#f3f4f7", PALETTE[0]])
    values = table.to_numpy(dtype=float)
    # cells are drawn in colours of their own on either page, so that their text is dark or white whatever the page is
    ax.pcolormesh(np.clip(values, low, best), cmap=colors, vmin=low, vmax=best, edgecolors="#ffffff", linewidth=0.6)
    for (i, j), value in np.ndenumerate(values):
        near = value >= best - NEAR
        ax.text(
            j + 0.5, i + 0.5, f"{100 * value:.1f}" if value > 0 else "–", ha="center", va="center", fontsize=7.5,
            color="#fffffe" if value > low + 0.55 * (best - low) else "#26272c", fontweight="bold" if near else "normal",
        )  # fmt: skip
        if near:
            ax.plot(
                j + np.array([0.08, 0.92, 0.92, 0.08, 0.08]), i + np.array([0.1, 0.1, 0.9, 0.9, 0.1]), color="#fffffe",
                linewidth=1.0,
            )  # fmt: skip
    ax.set_xticks(np.arange(len(table.columns)) + 0.5, [number(v) for v in table.columns])
    ax.set_yticks(np.arange(len(table.index)) + 0.5, [number(v) for v in table.index])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_xlabel(label)
    ax.set_ylabel("step size")
    style.title(ax, f"{title}: accuracy on test data, %")
