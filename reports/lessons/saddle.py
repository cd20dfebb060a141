"""Leaving a saddle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..figures import style
from ..wording import count, number
from .base import GAP_LABEL, MARK, THEORY, Content, Drawing, figure, label
from .command import command_of
from .selection import Selection, full, gaps, medians, whole

LEFT = 0.5  # distance from the saddle at which it counts as left: half way to the minima


def saddle(selection: Selection) -> Content | None:
    """How soon methods leave a strict saddle, each at its best settings."""
    candidates = []
    for problem, rows in selection.of("strict_saddle").items():
        rows = rows[full(rows) & whole(rows)]
        kinds = {name: rows[rows["optimizer"] == name] for name in ("gradient_descent", "momentum", "adam", "newton")}
        kinds = {name: selection.best(group) for name, group in kinds.items() if len(group)}
        if "gradient_descent" in kinds and len(kinds) > 1:
            candidates.append((len(kinds), problem, kinds))
    if not candidates:
        return None
    _, problem, kinds = max(candidates, key=lambda entry: entry[:2])
    offset = json.loads(kinds["gradient_descent"]["problem_params"].iloc[0])["offset"]
    lines = []
    for name, rows in kinds.items():
        factor = growth(name, json.loads(rows["settings"].iloc[0]))
        for row in rows.to_dict("records"):
            y = np.abs(np.asarray(dict(row["metrics"])["x_2"]))
            out = np.flatnonzero(y >= LEFT)
            # while the distance is small the way out is a geometric sequence
            small = y[: int(np.argmax(y > 0.1))] if (y > 0.1).any() else y
            grown = (small[-1] / small[0]) ** (1 / (len(small) - 1)) if len(small) > 3 and small[0] > 0 else np.nan
            lines.append(
                {key: row[key] for key in ("problem", "method", "optimizer", "settings", "step_size", "seed", "status")}
                | {"steps": int(out[0]) if len(out) else np.inf, "growth": grown, "growth_in_theory": factor}
                | {"steps_in_theory": np.log(LEFT / offset) / np.log(factor) if factor > 1 else np.nan}
            )
    table = pd.DataFrame(lines)
    seen = medians(table, "optimizer", ("steps", "growth", "growth_in_theory", "steps_in_theory"))
    plain = seen["gradient_descent"]
    lr = float(kinds["gradient_descent"]["step_size"].iloc[0])
    text = (
        f"All start almost on the line that leads into the saddle, {number(offset)} beside it. Gradient descent at "
        f"its best step size {number(lr)} stays for {count(plain['steps'])} steps before it is half way "
        "to a minimum. Near the saddle the distance grows by the factor 1 + lr |λ| per step, with λ = −1 the negative "
        f"curvature: {number(plain['growth_in_theory'])} in theory"
    )
    text += f", {number(plain['growth'])} measured" if np.isfinite(plain["growth"]) else ""
    text += (
        f", so that it takes about log(distance / offset) / log(1 + lr |λ|) = {number(plain['steps_in_theory'])} steps"
    )
    text += "; from almost every start it does leave (Lee et al. 2016). "
    words = {
        "momentum": "Momentum, whose factor is the larger root of z² − (1 + β + lr |λ|) z + β = 0",
        "adam": "Adam, which divides the gradient by its own size, so that the first steps have the length lr however flat "
        "it is",
        "newton": "Newton’s method with |H| for H (so that it is not drawn to the saddle), whose full step doubles "
        "the distance and whose line search may lengthen it",
    }
    for name, word in words.items():
        if name not in seen:
            continue
        group, size = seen[name], kinds[name]["step_size"].iloc[0]
        at = f" at step size {number(size)}" if pd.notna(size) else ""
        theory = f" ({number(group['growth_in_theory'])} in theory" if np.isfinite(group["growth_in_theory"]) else ""
        if theory:
            theory += f", {number(group['growth'])} measured)" if np.isfinite(group["growth"]) else ")"
        text += f"{word}{theory}{',' if name == 'adam' else ''} takes {count(group['steps'])} steps{at}. "
    pictures = (
        Drawing(
            figure(_curves, selection, kinds),
            f"Gap against steps on {problem}: the gap stays level until a method leaves the saddle, gradient descent "
            f"after {count(plain['steps'])} steps.",
            "The gap of the iterate (medians over seeds). The level stretch is the saddle.",
        ),
        Drawing(
            figure(_distance, selection, kinds, offset),
            f"Distance from the saddle along the way out against steps on {problem}, with the growth that theory "
            "gives.",
            "Distance from the saddle along the way out; dashes are the growth in theory, the dotted line is "
            f"{LEFT:g}.",
        ),
    )
    of_problem = selection.parts[problem]
    of_problem = of_problem[of_problem["method"].isin([group["method"].iloc[0] for group in kinds.values()])]
    return Content(
        drawings=pictures, paragraph=text.strip(), command=command_of(of_problem), problems=(problem,), table=table
    )


def growth(optimizer: str, settings: dict[str, Any]) -> float:
    """Factor per step by which the distance from a saddle with curvature -1 grows along the way out; NaN if unknown."""
    if optimizer == "gradient_descent":
        return 1 + float(settings["lr"])
    if optimizer == "momentum":
        b = 1 + float(settings["beta"]) + float(settings["lr"])
        return float((b + np.sqrt(b * b - 4 * settings["beta"])) / 2)
    return 2.0 if optimizer == "newton" else np.nan


def _curves(selection: Selection, kinds: dict[str, pd.DataFrame], ax: Axes) -> None:
    style.axes(ax)
    ends = []
    for rows in kinds.values():
        method_style, method_name = selection.method(rows)
        t, gap = gaps(rows)
        gap = np.maximum(gap, 1e-12)
        style.line(ax, method_style, t, gap)
        ends.append((float(gap[-1]), method_name, method_style))
    label(ax, "Leaving a saddle", "steps", GAP_LABEL, "y")
    style.end_names(ax, ends)


def _distance(selection: Selection, kinds: dict[str, pd.DataFrame], offset: float, ax: Axes) -> None:
    style.axes(ax)
    ends = []
    for name, rows in kinds.items():
        method_style, method_name = selection.method(rows)
        y = np.abs(np.asarray(dict(rows["metrics"].iloc[0])["x_2"]))
        style.line(ax, method_style, np.arange(len(y)), np.maximum(y, offset / 10))
        ends.append((float(y[-1]), method_name, method_style))
        factor = growth(name, json.loads(rows["settings"].iloc[0]))
        if factor > 1:
            t = np.arange(1 + int(np.log(1 / offset) / np.log(factor)))
            ax.plot(t, offset * factor**t, **THEORY, alpha=0.75, zorder=4)
    ax.axhline(LEFT, **MARK)
    title = "The way out (seed 0)" if 0 in set(rows["seed"]) else "The way out"
    label(ax, title, "steps", "distance from the saddle along the way out", "y")
    style.end_names(ax, ends)
