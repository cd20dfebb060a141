"""Paths of optimizers over landscapes of two dimensions: one small map for each, all over the same level lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.transforms import AffineDeltaTransform

from optbench.analysis import metrics, tuning
from optbench.core.errors import InputError
from optbench.core.types import Status
from optbench.results.runs import Runs

from ..wording import number, shorten
from . import style
from .selection import description_of, one_problem
from .style import INK, MUTED, PAPER

LEVELS = 9  # level lines
COLUMNS = 6  # maps in a row
MOST = 40  # maps of a figure
GAP, HEAD = 0.09, 0.36  # between maps, and above each for its three lines of text; in widths of a map
WIDTH = 1.9  # inches of a map


def paths(
    runs: Runs,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    seed: int = 0,
    most: int = MOST,
    columns: int = COLUMNS,
    styles: style.Styles | None = None,
) -> Axes:
    """Small maps of a two-dimensional problem, one a method at its best settings, with the path of one run each.

    The best method comes first. Level lines are spaced evenly in log(f - f*). A ring is the start, a dot the end, a cross
    a global minimizer. The path of a search by random points is that of its best points. What lies outside the map is cut
    off.

    Parameters
    ----------
    seed : int
        Whose paths; the lowest seed of a method that does not have it.
    most : int
        How many methods to draw.
    columns : int
        Maps in a row.

    The other parameters are those of `convergence`.

    Raises
    ------
    InputError
        If the results do not have the problem, have several and none is named, or have neither level lines nor paths.
    """
    problem, part = one_problem(runs, problem)
    styles = styles or style.method_styles(runs)
    selection = select(part, seed, most)
    if selection is None:
        raise InputError(f"the results have no level lines of {problem!r} or no paths over it; run it again")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=_size(selection, columns), layout="constrained")[1]
    _draw(ax, problem, selection, columns, styles)
    return ax


def _draw(ax: Axes, problem: str, selection: Selection, columns: int, styles: style.Styles) -> None:
    """The maps of `paths`."""
    surface, rows = selection.surface, selection.rows
    ax.set_axis_off()
    height = _height(surface)
    across, down = 1 + GAP, -(height + HEAD)
    corners = np.array([(k % columns * across, k // columns * down) for k in range(len(rows))])  # lower left, (P, 2)
    ax.set_xlim(-0.01, columns * across - GAP + 0.01)  # as wide for few maps, which would be huge otherwise
    ax.set_ylim(float(corners[:, 1].min()) - 0.01, height + HEAD)
    ax.set_aspect("equal")
    _background(ax, selection, corners)
    low = np.array([surface["x"][0], surface["y"][0]])
    size = np.array([np.ptp(surface["x"]), np.ptp(surface["y"])])
    scale = np.array([1.0, height])
    for corner, row in zip(corners, rows, strict=True):
        drawn = styles[row["method"]]
        points = corner + (_points(row) - low) / size * scale  # (T, 2), a map is one unit wide
        box = corner, corner + scale
        name = shorten(row["method"], 27)
        top = corner[1] + height
        ax.text(
            corner[0], top + 0.25, name, fontsize=8, fontweight="bold", va="center", parse_math=False,
            gid=f"curve-{drawn.index}-name",
        )  # fmt: skip
        for text, lift in ((_first_line(row), 0.15), (_second_line(row), 0.05)):
            ax.text(corner[0], top + lift, text, fontsize=8, color=MUTED, va="center", parse_math=False)
        lines = clipped(points, *box)
        if lines:
            ax.add_collection(
                LineCollection(lines, colors=drawn.color, linewidths=1.3, zorder=3, gid=f"curve-{drawn.index}-path"),
                autolim=False,
            )
        if not len(points):
            continue
        inside = ((points >= box[0]) & (points <= box[1])).all(axis=1)
        if inside[0]:
            ax.plot(
                *points[0], marker="o", markersize=5, markerfacecolor=PAPER, markeredgecolor=drawn.color,
                markeredgewidth=1.2, zorder=4, gid=f"curve-{drawn.index}-start",
            )  # fmt: skip
        if inside[-1] and row["status"] != Status.DIVERGED:
            ax.plot(
                *points[-1], marker="o", markersize=4.5, color=drawn.color, markeredgecolor=PAPER, markeredgewidth=0.7,
                zorder=5, gid=f"curve-{drawn.index}-end",
            )  # fmt: skip


def table_of(selection: Selection) -> pd.DataFrame:
    """What the maps of `paths` show, one row for each method, best first.

    Returns
    -------
    DataFrame
        problem, method, settings (JSON), step_size, seed, status, steps, calls, x_1 and x_2 at the start and at the end,
        final (gap at the end, or the objective where no optimum is known), outside (whether the path leaves the map).
    """
    lines = []
    for row in selection.rows:
        points = _points(row)
        start, end = (points[0], points[-1]) if len(points) else (np.full(2, np.nan),) * 2
        lines.append(
            {name: row[name] for name in ("problem", "method", "settings", "step_size", "seed", "status")}
            | {"steps": row["end"], "calls": row["calls"], "start_x_1": start[0], "start_x_2": start[1]}
            | {"end_x_1": end[0], "end_x_2": end[1], "final": _final(row), "outside": row["outside"]}
        )
    return pd.DataFrame(lines)


def figure(problem: str, selection: Selection, styles: style.Styles) -> Figure:
    """A figure of its own of `paths`."""
    width, height = _size(selection, COLUMNS)
    with style.theme():
        figure = Figure(figsize=(width, height + 0.3))
        ax = figure.add_axes((0.0, 0.0, 1.0, height / (height + 0.3)))
        _draw(ax, problem, selection, COLUMNS, styles)
        ax.set_anchor("NW")
        figure.text(
            0.005, 1 - 0.02 / (height + 0.3), f"Paths over {shorten(problem, 60)}", va="top", fontsize=11,
            fontweight="bold", parse_math=False,
        )  # fmt: skip
    return figure


def clipped(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """The parts of a polyline within a box (Liang & Barsky, ACM Transactions on Graphics 3 (1984)).

    Parameters
    ----------
    points : array of shape (T, 2)
    low, high : arrays of shape (2,)
        Corners of the box.

    Returns
    -------
    list of arrays of shape (k, 2), k >= 2
    """
    if len(points) < 2:
        return []
    far = 1e9 * (high - low)  # nothing is seen of what is beyond, and sums of huge numbers would overflow
    points = np.clip(points, low - far, high + far)
    start, move = points[:-1], np.diff(points, axis=0)  # (T - 1, 2)
    with np.errstate(all="ignore"):
        ends = np.stack([(low - start) / move, (high - start) / move])  # (2, T - 1, 2)
    # along an axis on which a segment does not move it is inside for all of its length, or for none of it
    still, inside = move == 0, (start >= low) & (start <= high)
    enter = np.where(still, np.where(inside, -np.inf, np.inf), ends.min(axis=0)).max(axis=1).clip(0, None)
    leave = np.where(still, np.where(inside, np.inf, -np.inf), ends.max(axis=0)).min(axis=1).clip(None, 1)
    seen = np.flatnonzero(enter < leave)
    parts: list[np.ndarray] = []
    line: list[np.ndarray] = []
    for k in seen:
        if not line or enter[k] > 0:
            if line:
                parts.append(np.array(line))
            line = [start[k] + enter[k] * move[k]]
        line.append(start[k] + leave[k] * move[k])
        if leave[k] < 1:
            parts.append(np.array(line))
            line = []
    return parts + ([np.array(line)] if line else [])


@dataclass(frozen=True)
class Selection:
    """What is drawn of a two-dimensional problem: its description, and a run of each method with its `path`, best first."""

    description: dict[str, Any]
    rows: list[dict[str, Any]]
    methods: int  # before some were left out

    @property
    def surface(self) -> dict[str, Any]:
        surface: dict[str, Any] = self.description["surface"]
        return surface


_NEEDED = ["problem", "method", "settings", "step_size", "seed", "status", "end", "calls", "f_end", "f_star", "metrics"]


def select(part: Runs, seed: int, most: int) -> Selection | None:
    """What `paths` draws; None without level lines or paths."""
    description = description_of(part)
    surface = description.get("surface")
    if not surface:
        return None
    best = dict(iter(tuning.tuned_rows(part)[_NEEDED].groupby("method", sort=True)))
    low, high = np.array([surface["x"], surface["y"]]).T
    rows = []
    for method in next(iter(tuning.ranked(part).values())):
        runs = best[method].sort_values("seed")
        chosen = runs[runs["seed"] == seed]
        row = dict((chosen if len(chosen) else runs).iloc[0])
        recorded = dict(row["metrics"] if row["metrics"] is not None else ())
        if row["status"] != Status.FAILED and not set(recorded) >= metrics.COORDINATES:
            continue
        row["path"] = np.array([recorded.get("x_1", ()), recorded.get("x_2", ())], dtype=float).T.reshape(-1, 2)
        points = _points(row)
        row["outside"] = bool(((points < low) | (points > high)).any())
        rows.append(row)
    return Selection(description, rows[:most], len(best)) if any(len(row["path"]) for row in rows[:most]) else None


def _points(row: dict[str, Any]) -> np.ndarray:
    """The finite points of a path, (T, 2)."""
    path: np.ndarray = row["path"]
    finite: np.ndarray = path[np.isfinite(path).all(axis=1)]
    return finite


def _background(ax: Axes, selection: Selection, corners: np.ndarray) -> None:
    """Frames, level lines and minimizers of all maps: each one path, repeated at the corners (P, 2)."""
    surface = selection.surface
    f = np.array(surface["f"], dtype=float)  # (ny, nx), NaN for null
    height = _height(surface)
    x, y = np.linspace(0, 1, f.shape[1]), np.linspace(0, height, f.shape[0])
    f_star = selection.rows[0]["f_star"]
    gap = f - (float(f_star) if pd.notna(f_star) else np.nanmin(f))
    positive = gap[np.isfinite(gap) & (gap > 0)]
    lines: list[np.ndarray] = []
    if len(positive):
        ends = np.quantile(positive, [0.004, 0.9]).tolist()
        level_lines = contour_generator(x, y, np.ma.masked_invalid(gap))
        lines = [
            np.asarray(line) for level in np.geomspace(ends[0], ends[1], LEVELS) for line in level_lines.lines(level)
        ]
    frame = np.array([(0, 0), (1, 0), (1, height), (0, height), (0, 0)])
    marks = []
    for at_x, at_y in selection.description.get("minimizers") or ():
        at = np.array(
            [(at_x - surface["x"][0]) / np.ptp(surface["x"]), (at_y - surface["y"][0]) / np.ptp(surface["y"])]
        )
        if ((at >= 0) & (at <= 1)).all():
            at *= 1, height
            marks += [at + [[-0.035, -0.035], [0.035, 0.035]], at + [[-0.035, 0.035], [0.035, -0.035]]]
    layers: tuple[tuple[list[np.ndarray], dict[str, Any]], ...] = (
        (lines, {"edgecolor": MUTED, "alpha": 0.45, "linewidth": 0.5, "zorder": 1, "gid": "levels"}),
        ([frame], {"edgecolor": MUTED, "alpha": 0.6, "linewidth": 0.7, "zorder": 2, "gid": "frames"}),
        (marks, {"edgecolor": INK, "linewidth": 1.1, "zorder": 2.5, "gid": "minimizers"}),
    )
    for parts, options in layers:
        if parts:
            codes = np.concatenate([[Outline.MOVETO, *[Outline.LINETO] * (len(line) - 1)] for line in parts])
            shape = Outline(np.concatenate(parts), codes)
            collection = PathCollection([shape], offsets=corners, facecolor="none", **options)
            # one unit of a path is one of the axes, whatever their scale on paper
            collection.set_transform(AffineDeltaTransform(cast(Any, ax.transData)))
            collection.set_offset_transform(ax.transData)
            ax.add_collection(collection, autolim=False)


def _height(surface: dict[str, Any]) -> float:
    """Height of a map that is one wide: as x and y are, unless that is too flat or too tall."""
    return float(np.clip(np.ptp(surface["y"]) / np.ptp(surface["x"]), 0.6, 1.4))


def _size(selection: Selection, columns: int) -> tuple[float, float]:
    """Width and height in inches of a figure of all maps."""
    count, each = len(selection.rows), _height(selection.surface) + HEAD
    return WIDTH * (columns * (1 + GAP) - GAP + 0.02), WIDTH * (-(-count // columns) * each + 0.01)


def _final(row: dict[str, Any]) -> float:
    """Gap at the end, or objective where no optimum is known; infinite for a run that diverged, NaN if it failed."""
    if row["status"] in (Status.DIVERGED, Status.FAILED):
        return np.inf if row["status"] == Status.DIVERGED else np.nan
    return float(row["f_end"]) - (float(row["f_star"]) if pd.notna(row["f_star"]) else 0.0)


def _first_line(row: dict[str, Any]) -> str:
    """The settings of a run, and how many steps it took."""
    if row["status"] == Status.FAILED:
        return "failed"
    steps = f"{row['end']} step{'' if row['end'] == 1 else 's'}"
    return steps if pd.isna(row["step_size"]) else f"step size {number(row['step_size'])}, {steps}"


def _second_line(row: dict[str, Any]) -> str:
    """How a run ended."""
    if row["status"] == Status.FAILED:
        return ""
    what = "gap" if pd.notna(row["f_star"]) else "f ="
    end = "diverged" if row["status"] == Status.DIVERGED else f"{what} {number(_final(row))}"
    return f"{end}, leaves the map" if row["outside"] else end
