"""Gradient descent and momentum in an ill-conditioned valley."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optbench.results.runs import Runs

from ..figures import paths, style
from ..figures.lines import CALLS_LABEL
from ..wording import count, number, target_name
from .base import GAP_LABEL, MARK, Content, Drawing, figure, label, line_style
from .command import command_of
from .selection import Selection, full, gaps, medians, whole

GOAL = 1e-4  # of the initial gap, where the two are compared
ROUNDING = 1e-9  # of the distance from the floor of the valley at the start: what is nearer lies on it


def valley(selection: Selection) -> Content | None:
    """Gradient descent and momentum across an ill-conditioned valley, each at its best settings."""
    candidates = []
    for problem, rows in selection.of("valley").items():
        rows = rows[full(rows) & whole(rows)]
        plain = rows[rows["optimizer"].isin(["gradient_descent", "sgd"])]
        heavy = rows[rows["optimizer"] == "momentum"]
        description = selection.description(rows)
        if len(plain) and len(heavy) and (L := description.get("smoothness")):
            # the best step size of gradient descent lies between 1/L and 2/L, so there it should have been looked for
            tried = plain["step_size"][plain["step_size"].between(1 / L, 2 / L)].nunique()
            candidates.append((tried, problem, plain, heavy, description))
    if not candidates:
        return None
    _, problem, plain, heavy, description = max(candidates, key=lambda entry: entry[:2])
    L, mu = description["smoothness"], description["strong_convexity"]
    kappa = L / mu
    angle = np.radians(json.loads(plain["problem_params"].iloc[0])["angle"])
    chosen = {"plain": selection.best(plain), "heavy": selection.best(heavy)}
    safe = plain[np.isclose(plain["step_size"], 1 / L)].sort_values("seed")
    if len(safe) and chosen["plain"]["step_size"].iloc[0] != safe["step_size"].iloc[0]:
        chosen["safe"] = safe[safe["method"] == safe["method"].iloc[0]]
    lines = []
    for name, rows in chosen.items():
        for row in rows.to_dict("records"):
            points = dict(row["metrics"])
            across = np.cos(angle) * np.asarray(points["x_2"]) - np.sin(angle) * np.asarray(points["x_1"])  # (T,)
            gap = np.asarray(row["f"]) - row["f_star"]
            there = np.flatnonzero(gap <= GOAL * gap[0])
            steps = int(there[0]) if len(there) else np.inf
            moved = across[: int(min(steps, len(across) - 1)) + 1]
            moved = np.where(np.abs(moved) > ROUNDING * np.abs(moved[0]), moved, 0.0)
            lines.append(
                {"who": name}
                | {key: row[key] for key in ("problem", "method", "settings", "step_size", "seed", "status")}
                | {"steps": steps, "crossings": int((moved[1:] * moved[:-1] < 0).sum()), "of": len(moved) - 1}
            )
    table = pd.DataFrame(lines)
    seen = medians(table, "who", ("steps", "crossings", "of"))
    slow, fast = seen["plain"], seen["heavy"]
    settings = json.loads(chosen["heavy"]["settings"].iloc[0])
    lr, heavy_lr = (float(chosen[name]["step_size"].iloc[0]) for name in ("plain", "heavy"))
    text = (
        f"The valley is curved {number(kappa)} times as much across as along (κ = L/μ). At its best step size, "
        f"{number(lr)}, gradient descent crosses the floor in {count(slow['crossings'])} of its "
        f"{count(slow['of'])} steps, and {_reaching(slow['steps'])}; momentum at its best (step size "
        f"{number(heavy_lr)}, β = {number(settings['beta'])}) crosses in {count(fast['crossings'])} of "
        f"{count(fast['of'])} and {_reaching(fast['steps'])}{_compared(slow['steps'], fast['steps'])}. A gradient step "
        "multiplies the distance across by 1 − lr L and along by 1 − lr μ, and a step size that is large enough to "
        "move along makes the first factor nearly −1: that is the jitter. "
    )
    if "safe" in seen:
        text += (
            f"At lr = 1/L = {number(1 / L)} it {_crossing(seen['safe']['crossings'])}, but "
            f"{_reaching(seen['safe']['steps'])}. "
        )
    if fast["steps"] < slow["steps"]:
        rates = ((kappa - 1) / (kappa + 1)) ** 2, ((np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)) ** 2
        jitters = fast["of"] > 0 and fast["crossings"] / fast["of"] > 0.1
        text += (
            f"{'Momentum does not stop the jitter, it makes it die out' if jitters else 'Momentum is fast along'}: "
            "in the velocity, gradients along the floor add up, while those across change sign and cancel in part. "
            "In the long run no step size takes gradient descent below a factor ((κ − 1)/(κ + 1))² = "
            f"{number(rates[0])} of the gap per step; the best heavy ball has ((√κ − 1)/(√κ + 1))² = "
            f"{number(rates[1])} asymptotically (Polyak 1964)."
        )

    both = pd.concat([chosen["plain"], chosen["heavy"]])
    maps = _two_maps(selection.runs(both), problem, selection.styles)
    curves = figure(_curves, selection, chosen, 1 / L)
    return Content(
        drawings=(
            Drawing(
                maps,
                f"Paths over {problem}: gradient descent crosses the floor {count(slow['crossings'])} times in "
                f"{count(slow['of'])} steps, momentum {count(fast['crossings'])} times in {count(fast['of'])}.",
                "The paths of one seed over level lines, the better method first; a cross is the minimizer.",
            ),
            Drawing(
                curves,
                f"Gap against oracle calls on {problem} for gradient descent and momentum at their best step sizes.",
                f"The gap of the iterate (medians over seeds); the dotted line is {target_name(GOAL)} of its start.",
            ),
        ),
        paragraph=text,
        command=command_of(pd.concat([plain, heavy])),
        problems=(problem,),
        table=table,
        maps=(problem,),
    )


def _two_maps(runs: Runs, problem: str, styles: style.Styles) -> Figure:
    with style.theme():
        drawing = Figure(figsize=(6.8, 4.4))
        paths.paths(runs, problem, drawing.add_axes((0.01, 0.0, 0.98, 0.99)), columns=2, styles=styles)
    return drawing


def _curves(selection: Selection, chosen: dict[str, pd.DataFrame], safe: float, ax: Axes) -> None:
    style.axes(ax)
    ends, start = [], np.nan
    for name, rows in chosen.items():
        t, gap = gaps(rows)
        method_style, method_name = (
            (line_style(2), f"step size 1/L = {number(safe)}") if name == "safe" else selection.method(rows)
        )
        keep = style.thin(len(t))
        style.line(ax, method_style, t[keep] + 1.0, gap[keep])
        ends.append((float(gap[-1]), method_name, method_style))
        start = gap[0]
    ax.axhline(GOAL * start, **MARK)
    label(ax, "The value along the way", CALLS_LABEL, GAP_LABEL, "y")
    style.end_names(ax, ends)


def _reaching(steps: float) -> str:
    goal = f"{target_name(GOAL)} of the initial gap"
    return f"takes {steps:.0f} steps to {goal}" if np.isfinite(steps) else f"does not reach {goal}"


def _crossing(count: float) -> str:
    return "never crosses" if count == 0 else f"crosses {'once' if count == 1 else f'{count:.0f} times'}"


def _compared(slow: float, fast: float) -> str:
    """How many times fewer steps a second method takes; nothing where one does not reach the target."""
    if not np.isfinite(slow) or not np.isfinite(fast) or fast <= 0:
        return ""
    return f", {number(slow / fast)} times fewer" if fast < slow else f", {number(fast / slow)} times as many"
