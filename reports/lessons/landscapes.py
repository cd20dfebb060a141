"""Lessons in the plane: momentum in an ill-conditioned valley, and leaving a saddle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from optbench.analysis import statistics
from optbench.results.runs import Runs

from ..figures import paths, style
from ..figures.convergence import CALLS_LABEL
from ..wording import count, number, target_name
from .base import GAP_LABEL, Drawing, Lesson, Selection, gaps, line_figure
from .command import command_of

GOAL = 1e-4  # of the initial gap, where gradient descent and momentum are compared in the valley
ROUNDING = 1e-9  # of the distance from the floor of the valley at the start: what is nearer lies on it
LEFT = 0.5  # distance from the saddle at which it counts as left: half way to the minima


def valley(selection: Selection) -> Lesson | None:
    """Gradient descent and momentum across an ill-conditioned valley, each at its best settings."""
    candidates = []
    for problem, rows in selection.in_plane("valley").items():
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
    seen = table.groupby("who")[["steps", "crossings", "of"]].agg(statistics.median)
    slow, fast = seen.loc["plain"], seen.loc["heavy"]
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
    if "safe" in chosen:
        crossings = seen.loc["safe", "crossings"]
        crosses = f"crosses {'once' if crossings == 1 else f'{crossings:.0f} times'}" if crossings else "never crosses"
        text += f"At lr = 1/L = {number(1 / L)} it {crosses}, but {_reaching(seen.loc['safe', 'steps'])}. "
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
    names = {name: str(rows["method"].iloc[0]) for name, rows in chosen.items()}
    names |= {"safe": f"step size 1/L = {number(1 / L)}"}
    curves = {}
    for name, rows in chosen.items():
        t, gap = gaps(rows)
        keep = style.thin(len(t))
        curves[names[name]] = t[keep] + 1.0, gap[keep]
    styles = {**selection.styles, names["safe"]: style.Style.numbered(2, -3)}
    title = "The value along the way"
    return Lesson(
        drawings=(
            Drawing(
                _two_maps(selection.runs(pd.concat([chosen["plain"], chosen["heavy"]])), problem, selection.styles),
                f"Paths over {problem}: gradient descent crosses the floor {count(slow['crossings'])} times in "
                f"{count(slow['of'])} steps, momentum {count(fast['crossings'])} times in {count(fast['of'])}.",
                "The paths of one seed over level lines, the better method first; a cross is the minimizer.",
            ),
            Drawing(
                line_figure(title, CALLS_LABEL, GAP_LABEL, curves, styles, log="y", level=GOAL * gap[0]),
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


def _reaching(steps: float) -> str:
    goal = f"{target_name(GOAL)} of the initial gap"
    return f"takes {steps:.0f} steps to {goal}" if np.isfinite(steps) else f"does not reach {goal}"


def _compared(slow: float, fast: float) -> str:
    """How many times fewer steps a second method takes; nothing where one does not reach the target."""
    if not np.isfinite(slow) or not np.isfinite(fast) or fast <= 0:
        return ""
    return f", {number(slow / fast)} times fewer" if fast < slow else f", {number(fast / slow)} times as many"


def saddle(selection: Selection) -> Lesson | None:
    """How soon methods leave a strict saddle, each at its best settings."""
    candidates = []
    for problem, rows in selection.in_plane("strict_saddle").items():
        kinds = {name: rows[rows["optimizer"] == name] for name in ("gradient_descent", "momentum", "adam", "newton")}
        kinds = {name: selection.best(group) for name, group in kinds.items() if len(group)}
        if "gradient_descent" in kinds and len(kinds) > 1:
            candidates.append((len(kinds), problem, kinds))
    if not candidates:
        return None
    _, problem, kinds = max(candidates, key=lambda entry: entry[:2])
    offset = json.loads(kinds["gradient_descent"]["problem_params"].iloc[0])["offset"]
    lines, levels, ways, theory = [], {}, {}, []
    for name, rows in kinds.items():
        factor = growth(name, json.loads(rows["settings"].iloc[0]))
        method, first = str(rows["method"].iloc[0]), np.abs(np.asarray(dict(rows["metrics"].iloc[0])["x_2"]))
        t, gap = gaps(rows)
        levels[method] = t, np.maximum(gap, 1e-12)
        ways[method] = np.arange(len(first)), np.maximum(first, offset / 10)
        if factor > 1:
            t = np.arange(1 + int(np.log(1 / offset) / np.log(factor)))
            theory.append((t, offset * factor**t))
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
    numbers = ["steps", "growth", "growth_in_theory", "steps_in_theory"]
    seen = table.groupby("optimizer")[numbers].agg(statistics.median)
    plain = seen.loc["gradient_descent"]
    lr = float(kinds["gradient_descent"]["step_size"].iloc[0])
    text = (
        f"All start almost on the line that leads into the saddle, {number(offset)} beside it. Gradient descent at "
        f"its best step size {number(lr)} stays for {count(plain['steps'])} steps before it is half way "
        "to a minimum. Near the saddle the distance grows by the factor 1 + lr |λ| per step, with λ = −1 the negative "
        f"curvature: {number(plain['growth_in_theory'])} in theory"
    )
    text += f", {number(plain['growth'])} measured" if np.isfinite(plain["growth"]) else ""
    text += (
        f", so that it takes about log(distance / offset) / log(1 + lr |λ|) = {number(plain['steps_in_theory'])} steps; "
        "from almost every start it does leave (Lee et al. 2016). "
    )
    words = {
        "momentum": "Momentum, whose factor is the larger root of z² − (1 + β + lr |λ|) z + β = 0",
        "adam": "Adam, which divides the gradient by its own size, so that the first steps have the length lr however flat "
        "it is",
        "newton": "Newton’s method with |H| for H (so that it is not drawn to the saddle), whose full step doubles "
        "the distance and whose line search may lengthen it",
    }
    for name in [name for name in words if name in kinds]:
        group, size = seen.loc[name], kinds[name]["step_size"].iloc[0]
        at = f" at step size {number(size)}" if pd.notna(size) else ""
        measured = f", {number(group['growth'])} measured" if np.isfinite(group["growth"]) else ""
        factors = f"{number(group['growth_in_theory'])} in theory{measured}"
        known = f" ({factors})" if np.isfinite(group["growth_in_theory"]) else ""
        text += f"{words[name]}{known}{',' if name == 'adam' else ''} takes {count(group['steps'])} steps{at}. "
    title = "The way out (seed 0)" if 0 in set(rows["seed"]) else "The way out"
    y, styles = "distance from the saddle along the way out", selection.styles
    drawings = (
        Drawing(
            line_figure("Leaving a saddle", "steps", GAP_LABEL, levels, styles, log="y"),
            f"Gap against steps on {problem}: the gap stays level until a method leaves the saddle, gradient descent "
            f"after {count(plain['steps'])} steps.",
            "The gap of the iterate (medians over seeds). The level stretch is the saddle.",
        ),
        Drawing(
            line_figure(title, "steps", y, ways, styles, log="y", theory=theory, level=LEFT),
            f"Distance from the saddle along the way out against steps on {problem}, with the growth that theory "
            "gives.",
            "Distance from the saddle along the way out; dashes are the growth in theory, the dotted line is "
            f"{LEFT:g}.",
        ),
    )
    of_problem = selection.parts[problem]
    command = command_of(of_problem[of_problem["method"].isin(list(ways))])
    return Lesson(drawings=drawings, paragraph=text.strip(), command=command, problems=(problem,), table=table)


def growth(optimizer: str, settings: dict[str, Any]) -> float:
    """Factor per step by which the distance from a saddle with curvature -1 grows along the way out; NaN if unknown."""
    if optimizer == "gradient_descent":
        return 1 + float(settings["lr"])
    if optimizer == "momentum":
        b = 1 + float(settings["beta"]) + float(settings["lr"])
        return float((b + np.sqrt(b * b - 4 * settings["beta"])) / 2)
    return 2.0 if optimizer == "newton" else np.nan
