"""Lessons on two-dimensional landscapes: a narrow valley, and a saddle."""

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
from ..wording import number, target_name
from .base import GAP_LABEL, Drawing, Lesson, Selection, gaps, line_figure
from .command import command_of

GOAL = 1e-4  # target of the comparison in the valley, a fraction of the initial gap
ROUNDING = 1e-9  # of the initial distance from the floor; smaller distances count as zero
LEFT = 0.5  # distance from the saddle at which a run has left it, half way to the minima


def valley(selection: Selection) -> Lesson | None:
    """Gradient descent and momentum across an ill-conditioned valley, each at its best settings."""
    candidates = []
    for problem, rows in selection.in_plane("valley").items():
        plain = rows[rows["optimizer"].isin(["gradient_descent", "sgd"])]
        heavy = rows[rows["optimizer"] == "momentum"]
        description = selection.description(rows)
        if len(plain) and len(heavy) and (L := description.get("smoothness")):
            # prefer the problem with the most step sizes where the best lies, between 1/L and 2/L
            tried = plain["step_size"][plain["step_size"].between(1 / L, 2 / L)].nunique()
            candidates.append((tried, problem, plain, heavy, description))
    if not candidates:
        return None
    _, problem, plain, heavy, description = max(candidates, key=lambda entry: entry[:2])
    L, mu = description["smoothness"], description["strong_convexity"]
    kappa = L / mu
    angle = np.radians(json.loads(plain["problem_params"].iloc[0])["angle"])
    selected = {"plain": selection.best(plain), "heavy": selection.best(heavy)}
    safe = plain[np.isclose(plain["step_size"], 1 / L)].sort_values("seed")
    if len(safe) and selected["plain"]["step_size"].iloc[0] != safe["step_size"].iloc[0]:
        selected["safe"] = safe[safe["method"] == safe["method"].iloc[0]]
    lines = []
    for name, rows in selected.items():
        for row in rows.to_dict("records"):
            x_1, x_2 = (np.asarray(dict(row["metrics"])[name]) for name in ("x_1", "x_2"))
            across = np.cos(angle) * x_2 - np.sin(angle) * x_1  # (T,)
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
    medians = table.groupby("who")[["steps", "crossings", "of"]].agg(statistics.median)
    slow, fast = medians.loc["plain"], medians.loc["heavy"]
    settings = json.loads(selected["heavy"]["settings"].iloc[0])
    lr, heavy_lr = (float(selected[name]["step_size"].iloc[0]) for name in ("plain", "heavy"))
    goal = f"{target_name(GOAL)} of the initial gap"
    points = [
        f"Condition number κ = L/μ = {number(kappa)}: curvature L across the valley, μ along it.",
        f"Gradient descent (best step size lr = {number(lr)}) {_steps(slow['steps'], goal)} and crosses the floor in "
        f"{slow['crossings']:.0f} of {slow['of']:.0f}. A step multiplies the distance across by 1 − lr L, along by "
        "1 − lr μ: a large lr, needed along, makes the first factor almost −1.",
        f"Momentum (best lr = {number(heavy_lr)}, β = {number(settings['beta'])}) {_steps(fast['steps'])} and crosses in "
        f"{fast['crossings']:.0f} of {fast['of']:.0f}. Its velocity adds up gradients along the floor; across, they "
        "change sign and partly cancel.",
    ]
    if "safe" in selected:
        crossings = medians.loc["safe", "crossings"]
        crosses = f"crosses {'once' if crossings == 1 else f'{crossings:.0f} times'}" if crossings else "never crosses"
        points.insert(2, f"At lr = 1/L = {number(1 / L)} it {crosses}, but {_steps(medians.loc['safe', 'steps'])}.")
    if fast["steps"] < slow["steps"]:
        rates = ((kappa - 1) / (kappa + 1)) ** 2, ((np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)) ** 2
        points.append(
            "Best possible factor of the gap per step: gradient descent ((κ − 1)/(κ + 1))² = "
            f"{number(rates[0])}, momentum in the long run ((√κ − 1)/(√κ + 1))² = {number(rates[1])} (Polyak 1964)."
        )
    names = {name: str(rows["method"].iloc[0]) for name, rows in selected.items()}
    names |= {"safe": f"step size 1/L = {number(1 / L)}"}
    curves = {}
    for name, rows in selected.items():
        t, gap = gaps(rows)
        keep = style.thin(len(t))
        curves[names[name]] = t[keep] + 1.0, gap[keep]
    styles = {**selection.styles, names["safe"]: style.Style.numbered(2, -3)}
    drawings = (
        Drawing(
            _two_maps(selection.runs(pd.concat([selected["plain"], selected["heavy"]])), problem, selection.styles),
            f"Paths over {problem}: gradient descent crosses the floor {slow['crossings']:.0f} times in "
            f"{slow['of']:.0f} steps, momentum {fast['crossings']:.0f} times in {fast['of']:.0f}.",
            "A straighter path is better: paths of one seed over level lines, the better method first. The cross is the "
            "minimizer.",
        ),
        Drawing(
            line_figure("Gap at each step", CALLS_LABEL, GAP_LABEL, curves, styles, log="y", level=GOAL * gap[0]),
            f"Gap against oracle calls on {problem} for gradient descent and momentum at their best step sizes.",
            f"Lower and further left is better (medians over seeds). The dotted line is {goal}.",
        ),
    )
    takeaway, command = _compared(slow["steps"], fast["steps"]), command_of(pd.concat([plain, heavy]))
    return Lesson(takeaway, points, drawings, command, [problem], table, maps=[problem])


def _two_maps(runs: Runs, problem: str, styles: style.Styles) -> Figure:
    with style.theme():
        drawing = Figure(figsize=(6.8, 4.4))
        paths.paths(runs, problem, drawing.add_axes((0.01, 0.0, 0.98, 0.99)), columns=2, styles=styles)
    return drawing


def _steps(steps: float, goal: str = "") -> str:
    taken = f"takes {steps:.0f} steps{' to' if goal else ''} {goal}".rstrip()
    return taken if np.isfinite(steps) else f"does not reach {goal or 'it'}"


def _compared(slow: float, fast: float) -> str:
    """What momentum saves, in one sentence."""
    if fast >= slow:
        return "On this problem momentum takes no fewer steps than gradient descent."
    if not np.isfinite(slow):
        return "Momentum damps the zigzag and reaches the target; gradient descent does not."
    return f"Momentum damps the zigzag: gradient descent takes {number(slow / fast)} times as many steps."


def saddle(selection: Selection) -> Lesson | None:
    """Steps that methods at their best settings take to leave a strict saddle."""
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
    lines, gap_curves, distances, theory = [], {}, {}, []
    for name, rows in kinds.items():
        factor = growth(name, json.loads(rows["settings"].iloc[0]))
        method, first = str(rows["method"].iloc[0]), np.abs(np.asarray(dict(rows["metrics"].iloc[0])["x_2"]))
        t, gap = gaps(rows)
        gap_curves[method] = t, np.maximum(gap, 1e-12)
        distances[method] = np.arange(len(first)), np.maximum(first, offset / 10)
        if factor > 1:
            t = np.arange(1 + int(np.log(1 / offset) / np.log(factor)))
            theory.append((t, offset * factor**t))
        for row in rows.to_dict("records"):
            y = np.abs(np.asarray(dict(row["metrics"])["x_2"]))
            out = np.flatnonzero(y >= LEFT)
            # small distances grow geometrically
            small = y[: int(np.argmax(y > 0.1))] if (y > 0.1).any() else y
            grown = (small[-1] / small[0]) ** (1 / (len(small) - 1)) if len(small) > 3 and small[0] > 0 else np.nan
            lines.append(
                {key: row[key] for key in ("problem", "method", "optimizer", "settings", "step_size", "seed", "status")}
                | {"steps": int(out[0]) if len(out) else np.inf, "growth": grown, "growth_in_theory": factor}
                | {"steps_in_theory": np.log(LEFT / offset) / np.log(factor) if factor > 1 else np.nan}
            )
    table = pd.DataFrame(lines)
    numbers = ["steps", "growth", "growth_in_theory", "steps_in_theory"]
    medians = table.groupby("optimizer")[numbers].agg(statistics.median)
    plain = medians.loc["gradient_descent"]
    lr = float(kinds["gradient_descent"]["step_size"].iloc[0])
    words = {
        "momentum": "Its factor is the larger root of z² − (1 + β + lr |λ|) z + β = 0",
        "adam": "It divides the gradient by its size, so its first steps have length lr on any slope",
        "newton": "It uses |H| for the Hessian H. A full step doubles the distance, the line search may lengthen it",
    }
    points = [
        f"All runs start {number(offset)} beside the line that leads into the saddle. Half way to a minimum, at a distance "
        f"of {LEFT:g}, they have left.",
        f"Gradient descent (step size lr = {number(lr)}) {_leaving(plain['steps'])}. The distance grows by the factor "
        f"1 + lr |λ| per step, with λ = −1 the negative curvature{_factors(plain)}. That takes "
        f"log({LEFT:g}/{number(offset)})/log(1 + lr |λ|) = {number(plain['steps_in_theory'])} steps. "
        "It leaves from almost every start (Lee et al. 2016).",
    ]
    for name in [name for name in words if name in kinds]:
        size = kinds[name]["step_size"].iloc[0]
        at = f" (lr = {number(size)})" if pd.notna(size) else ""
        group = medians.loc[name]
        points.append(f"{name.capitalize()}{at} {_leaving(group['steps'])}. {words[name]}{_factors(group)}.")
    first = str(medians["steps"].idxmin())
    title = "Distance from the saddle" + (" (seed 0)" if 0 in set(rows["seed"]) else "")
    y, styles = "distance along the descending direction", selection.styles
    drawings = (
        Drawing(
            line_figure("Leaving a saddle", "steps", GAP_LABEL, gap_curves, styles, log="y"),
            f"Gap against steps on {problem}: level until a method leaves the saddle. Gradient descent "
            f"{_leaving(plain['steps'])}.",
            "An earlier drop is better (medians over seeds). A level stretch is the time near the saddle.",
        ),
        Drawing(
            line_figure(title, "steps", y, distances, styles, log="y", theory=theory, level=LEFT),
            f"Distance from the saddle against steps on {problem}, with the growth that theory gives.",
            f"A steeper rise is better. Dashes are the growth in theory; at the dotted line, {LEFT:g}, a run has left.",
        ),
    )
    of_problem = selection.parts[problem]
    command = command_of(of_problem[of_problem["method"].isin(list(distances))])
    others = "" if first == "gradient_descent" else f", {first.capitalize()} {_leaving(medians.loc[first, 'steps'])}"
    takeaway = f"Gradient descent {_leaving(plain['steps'])}{others}."
    return Lesson(takeaway, points, drawings, command, [problem], table)


def _leaving(steps: float) -> str:
    return f"leaves after {steps:.0f} steps" if np.isfinite(steps) else "does not leave"


def _factors(medians: pd.Series) -> str:
    """The growth of the distance per step, in theory and as it was measured; empty where theory says nothing."""
    if not np.isfinite(medians["growth_in_theory"]):
        return ""
    measured = f", {number(medians['growth'])} measured" if np.isfinite(medians["growth"]) else ""
    return f": {number(medians['growth_in_theory'])} in theory{measured}"


def growth(optimizer: str, settings: dict[str, Any]) -> float:
    """Factor per step by which the distance from a saddle with curvature -1 grows; NaN if unknown."""
    if optimizer == "gradient_descent":
        return 1 + float(settings["lr"])
    if optimizer == "momentum":
        b = 1 + float(settings["beta"]) + float(settings["lr"])
        return float((b + np.sqrt(b * b - 4 * settings["beta"])) / 2)
    return 2.0 if optimizer == "newton" else np.nan
