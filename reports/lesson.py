"""What the default suite's own runs teach: figures with a paragraph whose numbers all come from the results.

Each lesson is a function from results to a `Lesson`, or to None where the results lack the runs it rests on. Runs are found
by the names of problem and optimizer and by their parameters, so that any results that have such runs have the lesson.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from optbench import metrics
from optbench.results import Runs
from reports import landscapes, style
from reports.book import Book, Picture
from reports.figures import CALLS_LABEL, about_of
from reports.style import INK, MUTED, PALETTE
from reports.tables import number, target

GOAL = 1e-4  # of the initial gap, where two methods are compared in the valley
ROUNDING = 1e-9  # of the distance from the floor of the valley at the start: what is nearer lies on it
LEFT = 0.5  # distance from a saddle at which it counts as left: half way to the minima
LOST = 1e100  # gap from which on a run is as good as infinite: axes of three hundred decades would overflow
NEAR = 0.01  # accuracy below the best that counts as near it
NEEDED = (
    "problem", "problem_name", "problem_params", "method", "optimizer", "settings", "step_size", "schedule", "batch_size",
    "seed", "steps", "status", "end", "calls", "fraction", "f_end", "f_star", "hits", "t", "f", "metrics", "about",
)  # fmt: skip  # frames with all columns of a row would take longer to cut than to look at


@dataclass(frozen=True)
class Drawing:
    """A figure of a lesson, what a reader who cannot see it is told, and how it is read."""

    figure: Figure
    label: str
    caption: str


@dataclass(frozen=True)
class Lesson:
    """A lesson.

    Attributes
    ----------
    name : str
        What it is known by in links and names of files.
    title : str
    drawings : tuple of Drawing
    paragraph : str
        What is seen, why, and how sure that is. Its numbers come from the results.
    command : str
        What computes the runs anew and shows the lesson; lines of a shell.
    problems : tuple of str
        Specs of the problems it rests on.
    table : DataFrame
        The numbers behind it.
    """

    name: str
    title: str
    drawings: tuple[Drawing, ...]
    paragraph: str
    command: str
    problems: tuple[str, ...]
    table: pd.DataFrame


def lessons(runs: Runs, *, styles: style.Styles | None = None) -> list[Lesson]:
    """The lessons that the results hold, in order of difficulty.

    Of several stores side by side the first is used. Runs that failed are left out.
    """
    rows = runs.rows
    if "store" in rows and runs.environments:
        rows = rows[rows["store"].isna() | (rows["store"] == runs.environments[0]["store"])]
    rows = rows[rows["status"] != "failed"]
    kept = runs if len(rows) == len(runs.rows) else Runs(rows, runs.environments)  # whose scores may be known
    held = _Held(kept, styles or style.entrant_styles(runs))
    return [lesson for make in LESSONS.values() if (lesson := make(held)) is not None]


def section(book: Book) -> dict[str, Any] | None:
    """What the page shows of the lessons; None where there is none."""
    found = lessons(book.runs, styles=book.styles)
    if not found:
        return None
    shown = []
    for lesson in found:
        anchor = f"lesson-{lesson.name}"
        table = book.table(anchor, lesson.table)
        pictures = []
        for k, drawing in enumerate(lesson.drawings):
            picture = book.picture(f"{anchor}-{k}" if k else anchor, drawing.figure, drawing.label)
            pictures.append((Picture(picture.svg, None if k else table), drawing.caption))
        links = [(name, book.anchors[name]) for name in lesson.problems]
        shown.append({"anchor": anchor, "lesson": lesson, "pictures": pictures, "problems": links})
    names = {lesson.name for lesson in found}
    return {"shown": shown, "missing": [_TITLES[name] for name in LESSONS if name not in names]}


class _Held:
    """Results by problem, and how entrants look.

    Attributes
    ----------
    all : Runs
    parts : dict of str to DataFrame
        Rows by problem.
    names : dict of str to str
        Problem -> its registered name.
    """

    def __init__(self, runs: Runs, styles: style.Styles) -> None:
        self.all, self.styles, self.environments = runs, styles, runs.environments
        rows = runs.rows[[name for name in NEEDED if name in runs.rows]]
        self.parts = {str(name): part for name, part in rows.groupby("problem", sort=True)}
        self.names = {name: str(part["problem_name"].iloc[0]) for name, part in self.parts.items()}

    def of(self, *names: str) -> dict[str, pd.DataFrame]:
        """The rows of the problems that are registered under one of some names."""
        return {problem: rows for problem, rows in self.parts.items() if self.names[problem] in names}

    def runs(self, rows: pd.DataFrame) -> Runs:
        return Runs(rows, self.environments)

    def best(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows at the best settings of the best of their methods, by seed."""
        mine = self.runs(rows)
        method = next(iter(metrics.ranked(mine).values()))[0]
        tuned = metrics.tuned_rows(mine)
        return tuned[tuned["method"] == method].sort_values("seed", ignore_index=True)


# ---- lessons ---------------------------------------------------------------------------------------------------------


def valley(held: _Held) -> Lesson | None:
    """Gradient descent and momentum across an ill-conditioned valley, each at its best settings."""
    found = []
    for problem, rows in held.of("valley").items():
        rows = rows[_full(rows) & _whole(rows)]
        plain = rows[rows["optimizer"].isin(["gradient_descent", "sgd"])]
        heavy = rows[rows["optimizer"] == "momentum"]
        L = about_of(held.runs(rows)).get("smoothness")
        if len(plain) and len(heavy) and L:
            # the best step size of gradient descent lies between 1/L and 2/L, so there it should have been looked for
            tried = plain["step_size"][plain["step_size"].between(1 / L, 2 / L)].nunique()
            found.append((tried, problem, plain, heavy))
    if not found:
        return None
    _, problem, plain, heavy = max(found, key=lambda entry: entry[:2])
    about = about_of(held.runs(plain))
    L, mu = about["smoothness"], about["strong_convexity"]
    kappa = L / mu
    angle = np.radians(json.loads(plain["problem_params"].iloc[0])["angle"])
    chosen = {"plain": held.best(plain), "heavy": held.best(heavy)}
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
                {
                    "who": name,
                    **{key: row[key] for key in ("problem", "method", "settings", "step_size", "seed", "status")},
                }
                | {"steps": steps, "crossings": int((moved[1:] * moved[:-1] < 0).sum()), "of": len(moved) - 1}
            )
    table = pd.DataFrame(lines)
    seen = {
        name: {key: metrics.median(its[key].to_numpy(dtype=float)) for key in ("steps", "crossings", "of")}
        for name, its in table.groupby("who", sort=False)
    }
    slow, fast = seen["plain"], seen["heavy"]
    settings = json.loads(chosen["heavy"]["settings"].iloc[0])
    lr, heavy_lr = (float(chosen[name]["step_size"].iloc[0]) for name in ("plain", "heavy"))
    text = (
        f"The valley is curved {number(kappa)} times as much across as along (κ = L/μ). At its best step size, "
        f"{number(lr)}, gradient descent crosses the floor in {_count(slow['crossings'])} of its "
        f"{_count(slow['of'])} steps, and {_reaching(slow['steps'])}; momentum at its best (step size "
        f"{number(heavy_lr)}, β = {number(settings['beta'])}) crosses in {_count(fast['crossings'])} of "
        f"{_count(fast['of'])} and {_reaching(fast['steps'])}{_times(slow['steps'], fast['steps'])}. A gradient step "
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
            f"{number(rates[0])} of the gap a step; the best heavy ball has ((√κ − 1)/(√κ + 1))² = "
            f"{number(rates[1])} asymptotically (Polyak 1964)."
        )

    both = pd.concat([chosen["plain"], chosen["heavy"]])
    maps = _two_maps(held.runs(both), problem, held.styles)
    curves = _figure(_valley_curves, held, chosen, 1 / L)
    return Lesson(
        "valley",
        _TITLES["valley"],
        (
            Drawing(
                maps,
                f"Paths over {problem}: gradient descent crosses the floor {_count(slow['crossings'])} times in "
                f"{_count(slow['of'])} steps, momentum {_count(fast['crossings'])} times in {_count(fast['of'])}.",
                "The paths of one seed over level lines, the better method first; a cross is the minimizer.",
            ),
            Drawing(
                curves,
                f"Gap against oracle calls on {problem} for gradient descent and momentum at their best step sizes.",
                f"The gap of the iterate (medians over seeds); the dotted line is {target(GOAL)} of its start.",
            ),
        ),
        text,
        _command(pd.concat([plain, heavy])),
        (problem,),
        table,
    )


def _two_maps(runs: Runs, problem: str, styles: style.Styles) -> Figure:
    with style.theme():
        made = Figure(figsize=(6.8, 4.4))
        landscapes.paths(runs, problem, made.add_axes((0.01, 0.0, 0.98, 0.99)), columns=2, styles=styles)
    return made


def _valley_curves(held: _Held, chosen: dict[str, pd.DataFrame], safe: float, ax: Axes) -> None:
    style.axes(ax)
    ends, start = [], np.nan
    for name, rows in chosen.items():
        problem, method = rows["problem"].iloc[0], rows["method"].iloc[0]
        t, gap = _gaps(rows)
        look = _look(2) if name == "safe" else held.styles(problem, method)
        label = f"step size 1/L = {number(safe)}" if name == "safe" else held.styles.of[problem, method]
        keep = style.thin(len(t))
        style.line(ax, look, t[keep] + 1.0, gap[keep])
        ends.append((float(gap[-1]), label, look))
        start = gap[0]
    ax.axhline(GOAL * start, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    ax.set_xlabel(CALLS_LABEL)
    ax.set_ylabel("gap f − f* of the iterate")
    style.title(ax, "The value along the way")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends)


def saddle(held: _Held) -> Lesson | None:
    """How soon methods leave a strict saddle, each at its best settings."""
    found = []
    for problem, rows in held.of("strict_saddle").items():
        rows = rows[_full(rows) & _whole(rows)]
        kinds = {name: rows[rows["optimizer"] == name] for name in ("gradient_descent", "momentum", "adam", "newton")}
        kinds = {name: held.best(its) for name, its in kinds.items() if len(its)}
        if "gradient_descent" in kinds and len(kinds) > 1:
            found.append((len(kinds), problem, kinds))
    if not found:
        return None
    _, problem, kinds = max(found, key=lambda entry: entry[:2])
    params = json.loads(kinds["gradient_descent"]["problem_params"].iloc[0])
    offset = params["offset"]
    lines = []
    for name, rows in kinds.items():
        growth = _growth(name, json.loads(rows["settings"].iloc[0]))
        for row in rows.to_dict("records"):
            y = np.abs(np.asarray(dict(row["metrics"])["x_2"]))
            out = np.flatnonzero(y >= LEFT)
            # while the distance is small the way out is a geometric sequence
            small = y[: int(np.argmax(y > 0.1))] if (y > 0.1).any() else y
            grown = (small[-1] / small[0]) ** (1 / (len(small) - 1)) if len(small) > 3 and small[0] > 0 else np.nan
            lines.append(
                {key: row[key] for key in ("problem", "method", "optimizer", "settings", "step_size", "seed", "status")}
                | {"steps": int(out[0]) if len(out) else np.inf, "growth": grown, "growth_in_theory": growth}
                | {"steps_in_theory": np.log(LEFT / offset) / np.log(growth) if growth > 1 else np.nan}
            )
    table = pd.DataFrame(lines)
    seen = {
        name: {
            key: metrics.median(its[key].to_numpy(dtype=float))
            for key in ("steps", "growth", "growth_in_theory", "steps_in_theory")
        }
        for name, its in table.groupby("optimizer", sort=False)
    }
    plain = seen["gradient_descent"]
    lr = float(kinds["gradient_descent"]["step_size"].iloc[0])
    text = (
        f"All start almost on the line that leads into the saddle, {number(offset)} beside it. Gradient descent at "
        f"its best step size {number(lr)} stays for {_count(plain['steps'])} steps before it has come half the way "
        "to a minimum. Near the saddle the way out grows by the factor 1 + lr |λ| a step, with λ = −1 the negative "
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
        its, size = seen[name], kinds[name]["step_size"].iloc[0]
        at = f" at step size {number(size)}" if pd.notna(size) else ""
        theory = f" ({number(its['growth_in_theory'])} in theory" if np.isfinite(its["growth_in_theory"]) else ""
        if theory:
            theory += f", {number(its['growth'])} measured)" if np.isfinite(its["growth"]) else ")"
        text += f"{word}{theory}{',' if name == 'adam' else ''} takes {_count(its['steps'])} steps{at}. "
    pictures = (
        Drawing(
            _figure(_saddle_curves, held, kinds),
            f"Gap against steps on {problem}: the gap stays level until a method leaves the saddle, gradient descent "
            f"after {_count(plain['steps'])} steps.",
            "The gap of the iterate (medians over seeds). The level stretch is the saddle.",
        ),
        Drawing(
            _figure(_saddle_distance, held, kinds, offset),
            f"Distance from the saddle along the way out against steps on {problem}, with the growth that theory "
            "gives.",
            "Distance from the saddle along the way out; dashes are the growth in theory, the dotted line is "
            f"{LEFT:g}.",
        ),
    )
    whole = held.parts[problem]
    whole = whole[whole["method"].isin([its["method"].iloc[0] for its in kinds.values()])]
    return Lesson("saddle", _TITLES["saddle"], pictures, text.strip(), _command(whole), (problem,), table)


def _growth(optimizer: str, settings: dict[str, Any]) -> float:
    """Factor by which the distance from a saddle with curvature -1 along the way out grows a step; NaN if there is none."""
    if optimizer == "gradient_descent":
        return 1 + float(settings["lr"])
    if optimizer == "momentum":
        b = 1 + float(settings["beta"]) + float(settings["lr"])
        return float((b + np.sqrt(b * b - 4 * settings["beta"])) / 2)
    return 2.0 if optimizer == "newton" else np.nan


def _saddle_curves(held: _Held, kinds: dict[str, pd.DataFrame], ax: Axes) -> None:
    style.axes(ax)
    ends = []
    for rows in kinds.values():
        problem, method = rows["problem"].iloc[0], rows["method"].iloc[0]
        t, gap = _gaps(rows)
        gap = np.maximum(gap, 1e-12)
        style.line(ax, held.styles(problem, method), t, gap)
        ends.append((float(gap[-1]), held.styles.of[problem, method], held.styles(problem, method)))
    ax.set_xlabel("steps")
    ax.set_ylabel("gap f − f* of the iterate")
    style.title(ax, "Leaving a saddle")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends)


def _saddle_distance(held: _Held, kinds: dict[str, pd.DataFrame], offset: float, ax: Axes) -> None:
    style.axes(ax)
    ends = []
    for name, rows in kinds.items():
        problem, method = rows["problem"].iloc[0], rows["method"].iloc[0]
        look = held.styles(problem, method)
        y = np.abs(np.asarray(dict(rows["metrics"].iloc[0])["x_2"]))
        style.line(ax, look, np.arange(len(y)), np.maximum(y, offset / 10))
        ends.append((float(y[-1]), held.styles.of[problem, method], look))
        growth = _growth(name, json.loads(rows["settings"].iloc[0]))
        if growth > 1:
            t = np.arange(1 + int(np.log(1 / offset) / np.log(growth)))
            ax.plot(t, offset * growth**t, color=INK, linewidth=1.0, dashes=(5, 3), alpha=0.75, zorder=4)
    ax.axhline(LEFT, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    ax.set_xlabel("steps")
    ax.set_ylabel("distance from the saddle along the way out")
    style.title(ax, "The way out (seed 0)" if 0 in set(rows["seed"]) else "The way out")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends)


def first_steps(held: _Held) -> Lesson | None:
    """Lengths of the first steps of Adam with and without bias correction, at the same step size."""
    lines, drawn = [], None
    for problem, rows in held.parts.items():
        rows = rows[_full(rows) & _whole(rows) & rows["optimizer"].isin(["adam", "adam_uncorrected"])]
        rows = rows[np.array([len(t) > 2 for t in rows["t"]], dtype=bool)]
        sizes = [set(its["step_size"]) for _, its in rows.groupby("optimizer")]
        if len(sizes) < 2 or not sizes[0] & sizes[1]:
            continue
        common = rows[rows["step_size"].isin(sizes[0] & sizes[1])]
        for row in common[["problem", "optimizer", "step_size", "seed", "metrics"]].to_dict("records"):
            steps = _largest_moves(row)
            if len(steps) and np.isfinite(steps[0]):
                lines.append(
                    {key: row[key] for key in ("problem", "optimizer", "step_size", "seed")} | {"first": steps[0]}
                )
        if len(common) and (drawn is None or (held.names[problem] == "valley" and drawn[0] != "valley")):
            smallest = common[common["step_size"] == common["step_size"].min()]
            drawn = held.names[problem], problem, smallest
    table = pd.DataFrame(lines)
    if drawn is None or table.empty or table["optimizer"].nunique() < 2:
        return None
    _, problem, its = drawn
    defaults = its.drop_duplicates("optimizer").set_index("optimizer")
    params = json.loads(defaults.loc["adam_uncorrected", "settings"])
    beta1, beta2 = float(params["beta1"]), float(params["beta2"])
    expected = (1 - beta1) / np.sqrt(1 - beta2)
    ends = {name: part["first"].agg(["min", "median", "max"]) for name, part in table.groupby("optimizer")}
    t = np.arange(1, 3001)
    ratio = (1 - beta1**t) / np.sqrt(1 - beta2**t)
    with_, without = ends["adam"], ends["adam_uncorrected"]
    places = table["problem"].nunique()
    text = (
        "Adam’s averages of gradients and of their squares begin at zero, and so are too small at first: after t "
        "steps of equal gradients by the factors 1 − β₁ᵗ and 1 − β₂ᵗ. Divided by these (Kingma & Ba 2015, section "
        f"3), the first step moves every coordinate by lr; without, by lr (1 − β₁)/√(1 − β₂) = {number(expected)} "
        f"lr. Over {places} {'problem' if places == 1 else 'problems'} and all step sizes and seeds that both were "
        f"run with, the first step measured {_span(with_)} lr with the correction and {_span(without)} lr without. "
        f"For equal gradients the ratio (1 − β₁ᵗ)/√(1 − β₂ᵗ) grows to {number(ratio.max())} at step "
        f"{t[np.argmax(ratio)]} and comes within a tenth of 1 only at step {t[np.flatnonzero(ratio > 1.1)[-1]] + 1}: "
        "without the correction a step size is in effect a larger one, and for long."
    )
    tuned = _tuned_sizes(held, "adam", "adam_uncorrected")
    if len(tuned) > 1:
        smaller, larger = sum(b < a for a, b in tuned), sum(b > a for a, b in tuned)
        text += (
            f" Tuned, the form without takes a smaller step size than Adam on {smaller} of {len(tuned)} problems, a "
            f"larger one on {larger}."
        )
    return Lesson(
        "bias",
        _TITLES["bias"],
        (
            Drawing(
                _figure(_step_lengths, held, its, beta1, beta2),
                f"Length of the steps of Adam over lr on {problem}: {number(with_['median'])} at the first step with "
                f"bias correction, {number(without['median'])} without.",
                f"Largest move of a coordinate in a step over lr, at lr = {number(float(its['step_size'].iloc[0]))}; "
                "dashes are (1 − β₁ᵗ)/√(1 − β₂ᵗ) and 1, what equal gradients give.",
            ),
        ),
        text,
        _command(held.parts[problem].pipe(lambda r: r[r["method"].isin(set(its["method"]))])),
        (problem,),
        table.groupby(["problem", "optimizer", "step_size"])["first"].agg(["min", "median", "max"]).reset_index(),
    )


def _largest_moves(row: dict[str, Any]) -> np.ndarray:
    """Of every step of a run in the plane the largest move of a coordinate, over the step size; (T - 1,)."""
    points = dict(row["metrics"])
    x = np.array([points["x_1"], points["x_2"]], dtype=float)
    with np.errstate(all="ignore"):
        moves: np.ndarray = np.abs(np.diff(x, axis=1)).max(axis=0) / row["step_size"]
    return moves


def _step_lengths(held: _Held, rows: pd.DataFrame, beta1: float, beta2: float, ax: Axes) -> None:
    style.axes(ax)
    ends, longest = [], 1
    for optimizer in ("adam", "adam_uncorrected"):
        row = rows[rows["optimizer"] == optimizer].sort_values("seed").iloc[0].to_dict()
        look, steps = held.styles(row["problem"], row["method"]), _largest_moves(row)
        t = np.arange(1, len(steps) + 1)
        marks = np.isin(t, np.unique(np.geomspace(1, len(t), 7).astype(int)))
        style.line(ax, look, t, steps, marks=marks)
        ends.append((float(steps[-1]), held.styles.of[row["problem"], row["method"]], look))
        longest = max(longest, len(t))
    t = np.arange(1, longest + 1)
    for expected in (np.ones(longest), (1 - beta1**t) / np.sqrt(1 - beta2**t)):
        ax.plot(t, expected, color=INK, linewidth=1.0, dashes=(5, 3), alpha=0.75, zorder=4)
    ax.set_xlabel("number of the step")
    ax.set_ylabel("largest move of a coordinate / lr")
    style.title(ax, f"First steps on {style.shorten(str(rows['problem'].iloc[0]), 40)}")
    style.log_axis(ax.xaxis, "x")
    ax.set_ylim(bottom=0)
    style.end_names(ax, ends)


def _tuned_sizes(held: _Held, *optimizers: str) -> list[tuple[float, float]]:
    """The best step sizes of two optimizers on every problem on which both ran once, over one and the same grid."""
    best = metrics.tuned(held.all).set_index(["problem", "method"])["step_size"]
    found = []
    for problem, rows in held.parts.items():
        kinds = [rows.loc[rows["optimizer"] == name, ["method", "settings"]] for name in optimizers]
        methods = [sorted(set(its["method"])) for its in kinds]
        if all(len(names) == 1 for names in methods):
            grids = [set(map(_size, set(its["settings"]))) for its in kinds]
            if grids[0] == grids[1]:
                found.append((float(best[problem, methods[0][0]]), float(best[problem, methods[1][0]])))
    return found


def _size(settings: str) -> float:
    return float(json.loads(settings)["lr"])


def decay(held: _Held) -> Lesson | None:
    """Test accuracy of Adam with l2 and of AdamW over step sizes and strengths."""
    found = []
    for problem, rows in held.parts.items():
        grids = {}
        for optimizer, key in (("adam_l2", "l2"), ("adamw", "weight_decay")):
            for method, its in rows[rows["optimizer"] == optimizer].groupby("method", sort=True):
                settings = [json.loads(text) for text in its["settings"]]
                its = its.assign(
                    strength=[s[key] for s in settings], judged=list(map(_accuracy, its["metrics"], its["status"]))
                )
                if its["strength"].nunique() > 2 and its["step_size"].nunique() > 2 and its["judged"].notna().any():
                    grids[optimizer] = str(method), its
        if len(grids) == 2:
            found.append((sum(len(its) for _, its in grids.values()), problem, grids))
    if not found:
        return None
    _, problem, grids = max(found, key=lambda entry: entry[:2])
    tables = {
        name: its.pivot_table(index="step_size", columns="strength", values="judged", aggfunc="median")
        for name, (_, its) in grids.items()
    }
    same = tables["adam_l2"].index.intersection(tables["adamw"].index)
    strengths = tables["adam_l2"].columns.intersection(tables["adamw"].columns)
    tables = {name: its.loc[same, strengths] for name, its in tables.items()}
    if len(same) < 3 or len(strengths) < 3:
        return None
    best = max(float(its.max().max()) for its in tables.values())
    good = {name: int((its >= best - NEAR).sum().sum()) for name, its in tables.items()}
    tilt = {name: _tilt(its >= best - NEAR) for name, its in tables.items()}
    largest = {name: _largest_good(its, best) for name, its in tables.items()}
    cells = len(same) * len(strengths)
    table = pd.concat(
        [
            its.reset_index().melt("step_size", value_name="test_accuracy").assign(optimizer=name)
            for name, its in tables.items()
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
    more = good["adamw"] > good["adam_l2"]
    text += (
        "The region of good settings is larger with AdamW"
        if more
        else "On this problem the region of good settings is not larger with AdamW"
    )
    text += f"; it reaches strengths up to {number(largest['adamw'])}, and up to {number(largest['adam_l2'])} with l2. "
    if all(map(np.isfinite, tilt.values())):
        text += (
            "Figure 2 of that paper claims that with AdamW step size and strength can be chosen separately. Over "
            f"the good pairs their logarithms have the correlation {_signed(tilt['adam_l2'])} with l2 and "
            f"{_signed(tilt['adamw'])} with AdamW, where 0 would be separate: "
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
            "Percent of the test data classified rightly at the end (median over seeds; – where most runs "
            "diverged). Bold with a frame: within one point of the best of both.",
        )
        for name, title, label in (("adam_l2", "Adam with l2", "l2"), ("adamw", "AdamW", "weight decay"))
    )
    whole = held.parts[problem]
    command = _command(whole[whole["method"].isin([method for method, _ in grids.values()])])
    return Lesson("decay", _TITLES["decay"], drawings, text.strip(), command, (problem,), table)


def _accuracy(figures: Any, status: str) -> float:
    """Accuracy on the test data at the end; 0 for a run that diverged, NaN where it was not recorded."""
    values = dict(figures).get("test_accuracy")
    if values is None:
        return np.nan
    finite = np.asarray(values, dtype=float)
    return 0.0 if status == "diverged" or not np.isfinite(finite).any() else float(finite[np.isfinite(finite)][-1])


def _judged(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} % are classified rightly" if accuracy > 0 else "most runs diverge"


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


def noise(held: _Held) -> Lesson | None:
    """The gap at which stochastic gradient descent with a fixed step size stalls, against the batch size."""
    found = []
    for problem, rows in held.parts.items():
        rows = rows[_stochastic(rows) & (rows["schedule"] == "constant") & rows["f_star"].notna()]
        for (size, steps), its in rows.groupby(["step_size", "steps"], sort=True):
            if its["batch_size"].nunique() >= 4:
                found.append((its["batch_size"].nunique(), int(steps), problem, float(size), its))
    if not found:
        return None
    _, steps, problem, lr, rows = max(found, key=lambda entry: entry[:4])
    n = about_of(held.runs(rows)).get("n_samples")
    lines = []
    for row in rows.sort_values(["batch_size", "seed"]).to_dict("records"):
        t, gap = np.asarray(row["t"]), np.asarray(row["f"], dtype=float) - row["f_star"]
        late = gap[t > steps / 2]
        half = gap[(t > steps / 4) & (t <= steps / 2)]
        lines.append(
            {key: row[key] for key in ("problem", "method", "settings", "step_size", "batch_size", "seed", "status")}
            | {
                "floor": float(late.mean()) if len(late) else np.inf,
                "before": float(half.mean()) if len(half) else np.nan,
            }
        )
    table = pd.DataFrame(lines)
    table.loc[table["status"] == "diverged", "floor"] = np.inf
    seen = table.groupby("batch_size")["floor"].agg(metrics_median).astype(float)
    settled = table.groupby("batch_size")["before"].agg(metrics_median).astype(float) / seen
    seen = seen[np.isfinite(seen) & (seen > 0) & (settled < 3)]  # others are still on their way, or lost
    if len(seen) < 3:
        return None
    b, floor = seen.index.to_numpy(dtype=float), seen.to_numpy()
    slope = float(np.polyfit(np.log(b), np.log(floor), 1)[0])
    few = slice(0, max(3, len(b) // 2))
    early = float(np.polyfit(np.log(b[few]), np.log(floor[few]), 1)[0])
    text = (
        f"With the step size fixed at {number(lr)}, SGD gets so far and no further: the noise of its gradients "
        f"throws it about. The gap at which it stalls falls from {number(floor[0])} with batches of {int(b[0])} to "
        f"{number(floor[-1])} with {int(b[-1])}. Drawn independently, b samples have a gradient of variance σ²/b, "
        "and the floor is proportional to lr σ²/b (Bottou, Curtis & Nocedal 2018, theorem 4.6): slope −1 on these "
        f"axes. Measured over all batch sizes the slope is {_signed(slope)}, over the smallest {len(b[few])} it is "
        f"{_signed(early)}. "
    )
    if slope < -1.15:
        left = f", by (n − b)/(n − 1) = {number((n - b[-1]) / (n - 1))} for b = {int(b[-1])}" if n and n > 1 else ""
        text += (
            "That is steeper than the law, which these batches do not obey: they are drawn without replacement, so "
            f"that a batch has less variance{left}, and errors cancel in part over an epoch (random reshuffling; "
            "Mishchenko, Khaled & Richtárik 2020)."
        )
    elif slope > -0.85:
        text += "That is flatter than the law; these runs do not confirm it."
    else:
        text += "That is the law."
    drawing = Drawing(
        _figure(_floors, table[table["batch_size"].isin(seen.index)], b, floor),
        f"Gap at which SGD stalls on {problem} against the batch size: from {number(floor[0])} at {int(b[0])} to "
        f"{number(floor[-1])} at {int(b[-1])}.",
        "Mean gap over the second half of the steps: a small dot a seed, a large one their median. Dashes are the "
        "slope −1 through the first.",
    )
    return Lesson("noise", _TITLES["noise"], (drawing,), text.strip(), _command(rows), (problem,), table)


def metrics_median(values: pd.Series) -> float:
    return metrics.median(values.to_numpy(dtype=float))


def _floors(table: pd.DataFrame, b: np.ndarray, floor: np.ndarray, ax: Axes) -> None:
    style.axes(ax)
    finite = table[np.isfinite(table["floor"])]
    ax.plot(
        finite["batch_size"], finite["floor"], linestyle="none", marker="o", markersize=2.5, color=PALETTE[0], alpha=0.6
    )
    ax.plot(b, floor, **_look(0).line)
    ax.plot(b, floor[0] * b[0] / b, color=INK, linewidth=1.0, dashes=(5, 3), alpha=0.75)
    ax.set_xlabel("batch size b")
    ax.set_ylabel("gap f − f*, mean of the second half")
    style.title(ax, "Where a fixed step size stalls")
    style.log_axis(ax.xaxis, "x")
    style.log_axis(ax.yaxis, "y")
    ax.set_xticks(b, [f"{int(size)}" for size in b])
    style.end_names(ax, [(float(floor[-1]), "measured", _look(0))])
    ax.annotate(
        "slope −1", (b[-1], floor[0] * b[0] / b[-1]), (5, 5), textcoords="offset points", fontsize=9.5, color=INK,
        annotation_clip=False,
    )  # fmt: skip


def scaling(held: _Held) -> Lesson | None:
    """Batches of several sizes over as many epochs, with one step size for all and with one proportional to the batch."""
    found = []
    for problem, rows in held.parts.items():
        rows = rows[_stochastic(rows) & (rows["schedule"] == "constant") & rows["f_star"].notna()]
        if rows.empty:
            continue
        # of one budget in epochs, to a step of the largest batch
        epochs = (rows["steps"].astype(float) + 1) * rows["fraction"].astype(float)
        for (whole, least), _ in rows.groupby([epochs.round(0), "step_size"], sort=True):
            if (rows["step_size"] == least).sum() < 3:
                continue
            center = epochs[(epochs.round(0) == whole) & (rows["step_size"] == least)].median()
            its = rows[(epochs - center).abs() <= rows["fraction"].astype(float)]
            fixed = its[its["step_size"] == least]
            if len(set(fixed["batch_size"])) < 3:
                continue
            base = fixed["batch_size"].min()
            scaled = its[np.isclose(its["step_size"].astype(float), least * its["batch_size"].astype(float) / base)]
            common = set(fixed["batch_size"]) & set(scaled["batch_size"])
            if len(common) >= 3:
                keep = [part[part["batch_size"].isin(common)] for part in (fixed, scaled)]
                found.append((len(common), problem, float(least), keep))
    if not found:
        return None
    _, problem, lr, (fixed, scaled) = max(found, key=lambda entry: entry[:3])
    L = about_of(held.runs(fixed)).get("smoothness")
    parts = {"one": fixed, "scaled": scaled}
    last = float((scaled["steps"] * scaled["fraction"]).min())
    if last < 2:
        return None
    grid = np.geomspace(1.0, last, 60)
    lines = []
    for name, rows in parts.items():
        for (size, step), its in rows.groupby(["batch_size", "step_size"], sort=True):
            curve = np.array([_at_epochs(row, grid) for row in its.to_dict("records")])
            for epoch, value in zip(grid, [metrics.median(column) for column in curve.T], strict=True):
                lines.append(
                    {
                        "lr_is": name,
                        "problem": problem,
                        "batch_size": int(size),
                        "step_size": step,
                        "epochs": epoch,
                        "gap": value,
                    }
                )
    table = pd.DataFrame(lines)
    apart = {
        name: its.pivot_table(index="epochs", columns="batch_size", values="gap", aggfunc="first")
        for name, its in table.groupby("lr_is")
    }
    sizes = sorted(apart["scaled"].columns)
    first = {name: its.iloc[0] for name, its in apart.items()}
    end = {name: its.iloc[-1] for name, its in apart.items()}
    if not all(np.isfinite(row[sizes[0]]) for row in (*first.values(), *end.values())):
        return None  # even the smallest batch was lost
    spread = {name: float(row[sizes].max() / row[sizes].min()) for name, row in first.items()}
    span_end = {name: float(row[sizes].max() / row[sizes].min()) for name, row in end.items()}
    top = lr * sizes[-1] / sizes[0]
    text = (
        f"A batch {int(sizes[-1] / sizes[0])} times as large takes that many times fewer steps in an epoch. With one "
        f"step size ({number(lr)}) for all, the gaps after one epoch differ by {_factor(spread['one'])} between the "
        f"batch sizes, and after {number(grid[-1])} epochs by {_factor(span_end['one'])}. With the step size "
        "multiplied like the batch (the linear scaling rule, Goyal et al. 2017; option --linear-scaling) they "
        f"differ by {_factor(spread['scaled'])} and {_factor(span_end['scaled'])}. As long as the point hardly "
        "moves, b/b₀ small steps add up to one large one: "
    )
    text += "that is why the rule holds" if spread["scaled"] < spread["one"] else "but here the rule does not hold"
    near = [size for size in sizes if first["scaled"][size] <= 2 * first["scaled"][sizes[0]]]
    if L:
        beyond = [size for size in sizes if lr * size / sizes[0] * L > 2]
        if beyond:
            values = ", ".join(
                f"b = {int(size)} (lr = {number(lr * size / sizes[0])}) {_ending_at(end['scaled'][size])}"
                for size in beyond
            )
            text += (
                f"; it has no ground beyond lr = 2/L = {number(2 / L)}, where gradient descent itself need not be "
                f"stable: {values}, b = {int(sizes[0])} at {number(end['scaled'][sizes[0]])}."
            )
        else:
            text += f", and all step sizes here, up to {number(top)}, are below 2/L = {number(2 / L)}."
    else:
        text += "."
    if len(near) < len(sizes):
        those = ", ".join(str(int(size)) for size in near)
        text += f" Within a factor of two of the smallest batch after one epoch: b = {those}."
    titles = {"one": f"One step size, {number(lr)}, for all", "scaled": "Step size proportional to the batch"}
    limits = table["gap"].replace([np.inf], np.nan).agg(["min", "max"]).tolist()
    drawings = tuple(
        Drawing(
            _figure(_epochs, apart[name][sizes], titles[name], limits),
            f"{titles[name]}: gap against epochs on {problem} for batches of "
            f"{', '.join(str(int(s)) for s in sizes)}; after one epoch they differ by {_factor(spread[name])}.",
            "Medians over seeds of the gap of the iterate; both figures have the same axes.",
        )
        for name in ("one", "scaled")
    )
    command = _command(fixed, note=False) + "\n" + _command(scaled, scaled=True)
    return Lesson("scaling", _TITLES["scaling"], drawings, text.strip(), command, (problem,), table)


def _at_epochs(row: dict[str, Any], grid: np.ndarray) -> np.ndarray:
    """Gap of a run at numbers of epochs, between its checkpoints straight lines in log(gap); infinite once it is lost."""
    t, gap = np.asarray(row["t"], dtype=float) * row["fraction"], np.asarray(row["f"], dtype=float) - row["f_star"]
    kept = (gap < LOST) & (gap > 0)
    if kept.sum() < 2:
        return np.full(len(grid), np.inf)
    found: np.ndarray = np.exp(np.interp(grid, t[kept], np.log(gap[kept])))
    return np.where(grid > row["end"] * row["fraction"], np.inf, found) if row["status"] == "diverged" else found


def _epochs(table: pd.DataFrame, title: str, limits: list[float], ax: Axes) -> None:
    style.axes(ax)
    ends = []
    for k, size in enumerate(table.columns):
        values = table[size].to_numpy(dtype=float)
        style.line(ax, _look(k), table.index.to_numpy(dtype=float), np.where(np.isfinite(values), values, np.nan))
        finite = values[np.isfinite(values)]
        if len(finite):
            ends.append((float(finite[-1]), f"b = {int(size)}", _look(k)))
    ax.set_ylim(limits[0] / 1.5, limits[1] * 1.5)
    ax.set_xlabel("epochs (passes over the data)")
    ax.set_ylabel("gap f − f* of the iterate")
    style.title(ax, title)
    style.log_axis(ax.xaxis, "x")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends)


def schedules(held: _Held) -> Lesson | None:
    """Learning-rate schedules of one optimizer with one batch size, each at the step size with the best last iterate."""
    found = []
    for problem, rows in held.parts.items():
        rows = rows[rows["batch_size"].notna() & rows["f_star"].notna() & rows["schedule"].notna()]
        for (optimizer, size, steps), its in rows.groupby(["optimizer", "batch_size", "steps"], sort=True):
            # a constant rate that was tried at other steps sizes than the others is no part of this
            if its["schedule"].nunique() >= 3 and "constant" in set(its["schedule"]):
                found.append((its["schedule"].nunique(), problem, str(optimizer), int(size), int(steps), its))
    if not found:
        return None
    _, problem, optimizer, size, steps, rows = max(found, key=lambda entry: entry[:5])
    value = np.where(rows["status"] == "diverged", np.inf, rows["f_end"].astype(float) - rows["f_star"].astype(float))
    rows = rows.assign(last=np.where(np.isfinite(value), value, np.inf))
    table = rows.groupby(["schedule", "step_size"])["last"].agg(metrics_median).rename("gap").reset_index()
    table = table.assign(problem=problem, optimizer=optimizer, batch_size=size, steps=steps)
    best = table.sort_values(["gap", "step_size"]).drop_duplicates("schedule").set_index("schedule")
    best = best[np.isfinite(best["gap"])]
    if "constant" not in best.index or len(best) < 3:
        return None
    constant, others = best.loc["constant"], best.drop(index="constant")
    lead, last = others.index[0], others.index[-1]
    ends = rows["step_size"].agg(["min", "max"]).tolist()
    edges = [name for name, line in best.iterrows() if line["step_size"] in ends]
    text = (
        f"{_WORDS.get(optimizer, optimizer)} with batches of {size}, {steps} steps, and for each schedule the step "
        f"size (of {rows['step_size'].nunique()}) whose last iterate has the smallest gap in the median. A constant "
        f"step size ends at {number(constant['gap'])} (lr = {number(constant['step_size'])}); "
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
        text += " What ends near zero ends lowest here (cosine: Loshchilov & Hutter 2017, who restarted it)."
    if edges:
        text += (
            f" The best step size lies at the edge of those tried for {', '.join(edges)}: a better one may lie outside."
        )
    drawings = (
        Drawing(
            _figure(_schedule_curves, rows, best),
            f"Gap of the iterate against oracle calls on {problem} for {len(best)} schedules at their best step "
            f"sizes; {best.index[0]} ends lowest, at {number(best['gap'].iloc[0])}.",
            "The gap of the iterate itself (medians over seeds), each schedule at the step size of its best last "
            "iterate.",
        ),
        Drawing(
            _figure(_schedule_sizes, table, best),
            f"Gap of the last iterate on {problem} against the step size, a line for each of {len(best)} schedules.",
            "Gap of the last iterate (medians over seeds) by step size: how much a schedule forgives.",
        ),
    )
    return Lesson("schedules", _TITLES["schedules"], drawings, text, _command(rows), (problem,), table)


def _schedule_looks(best: pd.DataFrame) -> dict[str, style.Style]:
    return {name: _look(k) for k, name in enumerate(sorted(best.index))}


def _schedule_curves(rows: pd.DataFrame, best: pd.DataFrame, ax: Axes) -> None:
    style.axes(ax)
    ends, looks = [], _schedule_looks(best)
    for name, line in best.iterrows():
        its = rows[(rows["schedule"] == name) & (rows["step_size"] == line["step_size"])]
        t, gap = _gaps(its)
        calls = (t + 1) * float(its["fraction"].iloc[0])
        keep = style.thin(len(t))
        style.line(ax, looks[str(name)], calls[keep], gap[keep])
        ends.append((float(gap[-1]), str(name), looks[str(name)]))
    ax.set_xlabel(CALLS_LABEL)
    ax.set_ylabel("gap f − f* of the iterate")
    style.title(ax, "Schedules at their best step sizes")
    style.log_axis(ax.xaxis, "x")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends, width=16)


def _schedule_sizes(table: pd.DataFrame, best: pd.DataFrame, ax: Axes) -> None:
    style.axes(ax)
    ends, looks = [], _schedule_looks(best)
    for name in best.index:
        its = table[(table["schedule"] == name) & np.isfinite(table["gap"])].sort_values("step_size")
        style.line(
            ax, looks[name], its["step_size"].to_numpy(), its["gap"].to_numpy(), marks=np.ones(len(its), dtype=bool)
        )
        ends.append((float(its["gap"].iloc[-1]), name, looks[name]))
    ax.set_xlabel("step size at the first step")
    ax.set_ylabel("gap f − f* of the last iterate")
    style.title(ax, "What each step size ends with")
    style.log_axis(ax.xaxis, "x")
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends, width=16)


def differences(held: _Held) -> Lesson | None:
    """How difference quotients depart from the analytic gradient as their step h shrinks."""
    lines, curves = [], {}
    for problem, rows in held.parts.items():
        errors = about_of(held.runs(rows)).get("differences")
        if not errors:
            continue
        h = np.array(errors["h"])
        held_here: dict[str, Any] = {"problem": problem}
        for kind in ("forward", "central"):
            error = np.array(errors[kind], dtype=float)
            at = int(np.argmin(error))
            held_here |= {f"{kind}_h": h[at], f"{kind}_least": error[at]}
            # where truncation rules: from an error that rounding is a hundredth of, on to larger h
            large, small = (h >= 30 * h[at]) & (h <= 0.011), h <= h[at] / 30
            for name, where in (("truncation", large), ("rounding", small)):
                ok = where & (error > 0)
                held_here[f"{kind}_{name}"] = (
                    float(np.polyfit(np.log(h[ok]), np.log(error[ok]), 1)[0]) if ok.sum() >= 3 else np.nan
                )
        curves[problem] = h, np.array(errors["forward"], dtype=float), np.array(errors["central"], dtype=float)
        lines.append(held_here)
    table = pd.DataFrame(lines)
    # of a quadratic the central quotient is exact, and there is nothing to fit
    shown = table[table["central_truncation"].between(1.5, 2.5)] if len(table) else table
    if len(shown) < 2:
        return None
    eps = float(np.finfo(np.float64).eps)

    def middle(name: str) -> str:
        return number(float(shown[name].median()))

    def slope(name: str) -> str:
        return _signed(float(shown[name].median()))

    problems = list(shown["problem"])
    text = (
        f"On {len(shown)} problems, along a random direction at the start, the error of (f(x + hv) − f(x))/h falls "
        f"with the slope {slope('forward_truncation')} in h and that of (f(x + hv) − f(x − hv))/2h with "
        f"{slope('central_truncation')} (medians; Taylor’s theorem says 1 and 2), until rounding of the values takes "
        f"over: its part is about ε|f|/h, slope −1, and {slope('forward_rounding')} and {slope('central_rounding')} "
        f"are measured. The sum is least near h = √ε = {number(eps**0.5)} for the forward and ε^(1/3) = "
        f"{number(eps ** (1 / 3))} for the central quotient, up to the scales of f and of its derivatives (Nocedal & "
        f"Wright 2006, section 8.1); found are h = {middle('forward_h')} with error {middle('forward_least')}, and "
        f"{middle('central_h')} with {middle('central_least')}. That a quotient follows both slopes is what shows "
        "that the analytic gradient is right: of a wrong one the error would stay level."
    )
    others = sorted(set(table["problem"]) - set(problems))
    if others:
        text += (
            f" Not counted, because no slope near 2 is seen there: {', '.join(others)}. Of a quadratic the central "
            "quotient has no truncation error at all."
        )
    # one of a kind, so that the names tell them apart
    kinds = {held.names[name]: name for name in reversed(problems)}
    drawn = sorted(kinds.values()) if len(kinds) > 1 else problems
    drawn = drawn[:6]
    drawings = (
        Drawing(
            _figure(_errors, {name: curves[name] for name in drawn}, 1, "Forward differences"),
            f"Relative error of forward differences against h on {', '.join(drawn)}: least near {middle('forward_h')}.",
            "Relative error of the derivative along one direction. Dashes are the slopes 1 and −1, the dotted line "
            "is √ε.",
        ),
        Drawing(
            _figure(_errors, {name: curves[name] for name in drawn}, 2, "Central differences"),
            f"Relative error of central differences against h on {', '.join(drawn)}: least near {middle('central_h')}.",
            "The same for central differences. Dashes are the slopes 2 and −1, the dotted line is ε^(1/3).",
        ),
    )
    words = ["optbench", "run"]
    for name in problems:
        words += ["--problem", _spec(name)]
    words += ["--optimizer", "gradient_descent", "--lr", "0.001", "--steps", "1", "--seeds", "1"]
    return Lesson("differences", _TITLES["differences"], drawings, text, _ending(words), tuple(problems), table)


def _errors(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], order: int, title: str, ax: Axes) -> None:
    style.axes(ax)
    eps, ends, low = float(np.finfo(float).eps), [], np.inf
    for k, (name, (h, *errors)) in enumerate(curves.items()):
        error = np.maximum(errors[order - 1], eps / 10)
        style.line(ax, _look(k), h, error)
        ends.append((float(error[np.argmax(h)]), name, _look(k)))
        low = min(low, float(error.min()))
    h = np.geomspace(1e-13, 1e-1, 25)
    with np.errstate(divide="ignore"):
        for guide in (h**order, eps / h):
            ax.plot(
                h,
                np.where(guide >= low / 3, guide, np.nan),
                color=INK,
                linewidth=1.0,
                dashes=(5, 3),
                alpha=0.6,
                zorder=1,
            )
    ax.axvline(eps ** (1 / (order + 1)), color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    ax.set_xlabel("step h of the quotient")
    ax.set_ylabel("relative error of the derivative")
    style.title(ax, title)
    style.log_axis(ax.xaxis, "x")
    style.log_axis(ax.yaxis, "y")
    ax.set_ylim(low / 3, 10)
    style.end_names(ax, ends)


LESSONS: dict[str, Callable[[_Held], Lesson | None]] = {
    "valley": valley,
    "saddle": saddle,
    "bias": first_steps,
    "decay": decay,
    "noise": noise,
    "scaling": scaling,
    "schedules": schedules,
    "differences": differences,
}
_TITLES = {
    "valley": "Momentum in an ill-conditioned valley",
    "saddle": "Leaving a saddle",
    "bias": "Adam’s first steps, with and without bias correction",
    "decay": "Adam with l2 against AdamW",
    "noise": "Mini-batch noise against batch size",
    "scaling": "The linear scaling rule",
    "schedules": "Schedules compared",
    "differences": "Numerical against analytic gradients",
}
_WORDS = {"sgd": "Stochastic gradient descent"}


# ---- what they share -------------------------------------------------------------------------------------------------


def _full(rows: pd.DataFrame) -> pd.Series:
    """Which runs looked at all samples at every step."""
    return rows["batch_size"].isna() & (rows["schedule"] == "constant")


def _whole(rows: pd.DataFrame) -> np.ndarray:
    """Which runs have their iterates in the plane, at every step."""
    held = zip(rows["metrics"], rows["t"], strict=True)
    found = [
        len(t) > 1 and int(t[-1]) == len(t) - 1 and {name for name, _ in values} >= metrics.COORDINATES
        for values, t in held
    ]
    return np.array(found, dtype=bool)


def _stochastic(rows: pd.DataFrame) -> pd.Series:
    """Which runs are of SGD with mini-batches."""
    return (rows["optimizer"] == "sgd") & rows["batch_size"].notna()


def _gaps(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Steps taken (C,) and the median over seeds of the gap of the iterate; infinite for runs that were lost by then.

    A run that ended well keeps its last value; the steps are those up to where the median is finite.
    """
    t = np.unique(np.concatenate(list(rows["t"])))
    wide = np.empty((len(rows), len(t)))
    for k, row in enumerate(rows.to_dict("records")):
        wide[k] = np.asarray(row["f"], dtype=float)[np.searchsorted(np.asarray(row["t"]), t, side="right") - 1]
        if row["status"] == "diverged":
            wide[k, t >= row["end"]] = np.inf
        wide[k] -= row["f_star"]
    middle = np.sort(np.where(wide < LOST, wide, np.inf), axis=0)[len(rows) // 2]
    kept = int(np.argmin(np.isfinite(middle))) if not np.isfinite(middle).all() else len(t)
    return t[:kept], middle[:kept]


def _figure(draw: Any, *args: Any) -> Figure:
    """A figure of what `draw(*args, ax)` draws, with room for long names beside it."""
    return style.figure(draw, *args, room=2.0)


def _look(k: int) -> style.Style:
    """How the k-th line of a lesson is drawn that is no entrant of the page, and so cannot be picked out."""
    return style.Style(
        -1 - k, PALETTE[k % len(PALETTE)], style.DASHES[k % len(style.DASHES)], style.MARKERS[k % len(style.MARKERS)]
    )


def _count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "endless"


def _reaching(steps: float) -> str:
    goal = f"{target(GOAL)} of the initial gap"
    return f"takes {steps:.0f} steps to {goal}" if np.isfinite(steps) else f"does not get to {goal}"


def _times(slow: float, fast: float) -> str:
    if not np.isfinite(slow) or not np.isfinite(fast) or fast <= 0:
        return ""
    return f", {number(slow / fast)} times fewer" if fast < slow else f", {number(fast / slow)} times as many"


def _factor(value: float) -> str:
    return (
        f"a factor of {number(value)}" if np.isfinite(value) else "more than can be said, as most runs of one diverge"
    )


def _ending_at(gap: float) -> str:
    return f"ends at {number(gap)}" if np.isfinite(gap) else "diverges"


def _crossing(count: float) -> str:
    return "never crosses" if count == 0 else f"crosses {'once' if count == 1 else f'{count:.0f} times'}"


def _signed(value: float) -> str:
    """A slope or correlation, two digits."""
    return f"{value:.2f}".replace("-", "−")


def _span(values: pd.Series) -> str:
    low, high = number(float(values["min"])), number(float(values["max"]))
    return low if low == high else f"{low} to {high}"


def _spec(problem: str) -> str:
    """The spec of a problem without what tells data or stores apart."""
    return problem.partition(" [")[0]


def _command(rows: pd.DataFrame, *, scaled: bool = False, note: bool = True) -> str:
    """The command that computes rows of one problem anew.

    Parameters
    ----------
    scaled : bool
        Whether step sizes were given for the smallest batch and multiplied.
    note : bool
        Whether what shows the results follows.
    """
    words = ["optbench", "run", "--problem", _spec(str(rows["problem"].iloc[0]))]
    grids = {}
    for name, its in rows.groupby(rows["method"].str.partition(", ")[0], sort=True):
        grids[str(name)] = _swept(its)
    sizes = {tuple(grid.pop("", ())) for grid in grids.values()}
    shared = len(sizes - {()}) == 1
    for name, grid in grids.items():
        inner = ",".join(f"{key}={'/'.join(map(_digits, values))}" for key, values in grid.items())
        words += ["--optimizer", f"{name}{',' if ':' in name else ':'}{inner}" if inner else name]
    if shared:
        given = sorted(next(iter(sizes - {()})))
        words += ["--lr", _rates(given[:1] if scaled else given)]
    words += ["--seeds", str(rows["seed"].nunique())]
    batches = sorted(int(size) for size in rows["batch_size"].dropna().unique())
    words += _budget(rows)
    if batches:
        words += ["--batch-size", ",".join(map(str, batches))]
    if scaled:
        words.append("--linear-scaling")
    schedules = sorted(set(rows["schedule"]))
    for schedule in schedules if schedules != ["constant"] else []:
        words += ["--schedule", schedule]
    steps = int(rows["steps"].max())
    if steps >= 100 and not batches and _whole(rows).all():
        words += ["--checkpoint-count", str(steps + 1)]
    return _ending(words) if note else _line(words)


def _line(words: Iterable[str]) -> str:
    """A command, broken before options where it would be too wide to read."""
    lines = [""]
    for word in shlex.join([*words, "-o", "lesson"]).split(" "):
        if word.startswith("-") and len(lines[-1]) > 72:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def _ending(words: Iterable[str]) -> str:
    return f"{_line(words)}\noptbench report lesson"


def _swept(rows: pd.DataFrame) -> dict[str, list[float]]:
    """The hyperparameters of a method that were swept, by name; the step size under the empty name."""
    settings = [json.loads(text) for text in rows["settings"].drop_duplicates()]
    found = {}
    for key in settings[0]:
        values = {s[key] for s in settings if isinstance(s.get(key), int | float)}
        if key in ("lr", "scale"):
            found[""] = sorted(values)
        elif len(values) > 1:
            found[key] = sorted(values)
    return found


def _budget(rows: pd.DataFrame) -> list[str]:
    """Steps, or the oracle calls that give these steps for every batch size."""
    steps = sorted(set(rows["steps"].astype(int)))
    if len(steps) == 1:
        return ["--steps", str(steps[0])]
    pairs = {(int(s), float(f)) for s, f in zip(rows["steps"], rows["fraction"], strict=True)}
    calls = round(float(np.median([(s + 1) * f for s, f in pairs])))
    return ["--calls", str(calls)] if all(round(calls / f) - 1 == s for s, f in pairs) else ["--steps", str(steps[-1])]


def _rates(values: list[float]) -> str:
    """Step sizes as --lr takes them: a range where they are one."""
    spaced = [float(f"{v:.12g}") for v in np.geomspace(values[0], values[-1], len(values))] if len(values) > 3 else []
    if spaced == values:
        return f"{_digits(values[0])}:{_digits(values[-1])}:{len(values)}"
    return ",".join(map(_digits, values))


def _digits(value: float) -> str:
    return f"{value:.12g}"
