"""Paths of optimizers over two-dimensional landscapes: one small map per method."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

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

from ..wording import number, plural, shorten
from . import style
from .selection import description_of, one_problem
from .style import INK, MUTED, PAPER

LEVELS = 9  # level lines
COLUMNS = 6  # maps in a row
MOST = 40  # maps of a figure
GAP, HEAD = 0.09, 0.36  # space between maps, and above each for three lines of text, in widths of a map
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
    """Small maps of a two-dimensional problem, each with the path of one method at its best settings; best method first.

    Level lines are evenly spaced in log(f - f*). A ring is the start, a dot the end, a cross a global minimizer. Random
    search is drawn as the path of its best points. Paths are clipped to the map.

    Parameters
    ----------
    runs : Runs
        Results on a problem with a `view`.
    problem, ax : optional
        As in `convergence`.
    seed : int
        Seed of the runs; the lowest one for methods that do not have it.
    most : int
        Largest number of methods.
    columns : int
        Maps in a row.
    styles : style.Styles, optional
        As in `convergence`.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If the problem is not among the results, none is named and there are several, or level lines or paths are missing.

    Examples
    --------
    >>> ax = reports.paths(runs, "rosenbrock", columns=2)
    """
    problem, part = one_problem(runs, problem)
    styles = styles or style.method_styles(runs)
    selection = select(part, seed, most)
    if selection is None:
        raise InputError(f"no level lines or paths of {problem!r} in the results; run it again")
    ax = ax or style.new_axes(_size(selection, columns))
    _draw(ax, selection, columns, styles)
    return ax


def figure(problem: str, selection: Selection, styles: style.Styles) -> Figure:
    """A new figure, unknown to pyplot, with the axes of `paths`."""
    width, height = _size(selection, COLUMNS)
    with style.theme():
        figure = Figure(figsize=(width, height + 0.3))
        ax = figure.add_axes((0.0, 0.0, 1.0, height / (height + 0.3)), anchor="NW")
        _draw(ax, selection, COLUMNS, styles)
        figure.text(
            0.005, 1 - 0.02 / (height + 0.3), f"Paths over {shorten(problem, 60)}", va="top", fontsize=11,
            fontweight="bold", parse_math=False,
        )  # fmt: skip
    return figure


class Selection(NamedTuple):
    """Runs to draw on a two-dimensional problem, one per method, best first.

    The table has one row per run: problem, method, settings (JSON), step_size, seed, status, steps, calls, x_1 and x_2
    at the start and at the end, final (gap at the end, or objective if no optimum is known; infinite if diverged),
    outside (whether the path leaves the map).
    """

    surface: dict[str, Any]  # stored grid of values
    minimizers: list[list[float]]
    f_star: float  # NaN if unknown
    table: pd.DataFrame
    paths: list[np.ndarray]  # finite points of each run, (T, 2)
    methods: int  # with those that are left out

    @property
    def height(self) -> float:
        """Height of a map of width 1, in proportion to x and y within limits."""
        return float(np.clip(np.ptp(self.surface["y"]) / np.ptp(self.surface["x"]), 0.6, 1.4))

    def on_map(self, points: np.ndarray) -> np.ndarray:
        """Points (T, 2) relative to the lower left corner of a map of width 1."""
        low, high = np.array([self.surface["x"], self.surface["y"]]).T
        relative: np.ndarray = (points - low) / (high - low) * (1.0, self.height)
        return relative


def select(part: Runs, seed: int, most: int) -> Selection | None:
    """The runs that `paths` draws; None without level lines or paths."""
    description = description_of(part)
    surface = description.get("surface")
    if not surface:
        return None
    needed = [
        "problem",
        "method",
        "settings",
        "step_size",
        "seed",
        "status",
        "calls",
        "end",
        "f_end",
        "f_star",
        "metrics",
    ]
    best = dict(iter(tuning.tuned_rows(part)[needed].groupby("method", sort=True)))
    low, high = np.array([surface["x"], surface["y"]]).T
    lines, paths = [], []
    for method in next(iter(tuning.ranked(part).values())):
        runs = best[method].sort_values("seed")
        chosen = runs[runs["seed"] == seed]
        row = dict((chosen if len(chosen) else runs).iloc[0])
        recorded = dict(row["metrics"] if row["metrics"] is not None else ())
        if row["status"] != Status.FAILED and not set(recorded) >= metrics.COORDINATES:
            continue
        path = np.array([recorded.get("x_1", ()), recorded.get("x_2", ())], dtype=float).T.reshape(-1, 2)
        path = path[np.isfinite(path).all(axis=1)]
        start, end = (path[0], path[-1]) if len(path) else (np.full(2, np.nan),) * 2
        f_end, f_star = float(row["f_end"]), float(row["f_star"])
        final = {Status.DIVERGED: np.inf, Status.FAILED: np.nan}.get(row["status"], f_end - np.nan_to_num(f_star))
        lines.append(
            {name: row[name] for name in needed[:6]}
            | {"steps": row["end"], "calls": row["calls"], "start_x_1": start[0], "start_x_2": start[1]}
            | {"end_x_1": end[0], "end_x_2": end[1], "final": final}
            | {"outside": bool(((path < low) | (path > high)).any())}
        )
        paths.append(path)
    if not any(map(len, paths[:most])):
        return None
    minimizers = description.get("minimizers") or []
    return Selection(surface, minimizers, f_star, pd.DataFrame(lines[:most]), paths[:most], len(best))


def _draw(ax: Axes, selection: Selection, columns: int, styles: style.Styles) -> None:
    """Draw the maps of `paths`."""
    ax.set_axis_off()
    scale = np.array([1.0, selection.height])
    across, down = 1 + GAP, -(selection.height + HEAD)
    count = len(selection.paths)
    corners = np.array([(k % columns * across, k // columns * down) for k in range(count)])  # lower left, (P, 2)
    # always the width of a full row, so that few maps are not huge
    ax.set(
        xlim=(-0.01, columns * across - GAP + 0.01), ylim=(float(corners[:, 1].min()) - 0.01, selection.height + HEAD)
    )
    ax.set_aspect("equal")
    _background(ax, selection, corners)
    for corner, path, row in zip(corners, selection.paths, selection.table.to_dict("records"), strict=True):
        drawn, gid = styles[row["method"]], f"curve-{styles[row['method']].index}"
        points = corner + selection.on_map(path)
        box = corner, corner + scale
        x, top = corner[0], box[1][1]
        options: dict[str, Any] = {"fontsize": 8, "va": "center", "parse_math": False}
        ax.text(x, top + 0.25, shorten(row["method"], 27), **options, fontweight="bold", gid=f"{gid}-name")
        for text, lift in zip(_texts(row, selection.f_star), (0.15, 0.05), strict=True):
            ax.text(x, top + lift, text, **options, color=MUTED)
        lines = clipped(points, *box)
        if lines:
            drawn_path = LineCollection(lines, colors=drawn.color, linewidths=1.3, zorder=3, gid=f"{gid}-path")
            ax.add_collection(drawn_path, autolim=False)
        inside = ((points >= box[0]) & (points <= box[1])).all(axis=1)
        if inside[:1].any():
            ax.plot(
                *points[0], marker="o", markersize=5, markerfacecolor=PAPER, markeredgecolor=drawn.color,
                markeredgewidth=1.2, zorder=4, gid=f"{gid}-start",
            )  # fmt: skip
        if inside[-1:].any() and row["status"] != Status.DIVERGED:
            ax.plot(
                *points[-1], marker="o", markersize=4.5, color=drawn.color, markeredgecolor=PAPER, markeredgewidth=0.7,
                zorder=5, gid=f"{gid}-end",
            )  # fmt: skip


def _background(ax: Axes, selection: Selection, corners: np.ndarray) -> None:
    """Draw frames, level lines and minimizers: each is one path, repeated at the corners (P, 2) of all maps."""
    f = np.array(selection.surface["f"], dtype=float)  # (ny, nx), NaN for null
    height = selection.height
    x, y = np.linspace(0, 1, f.shape[1]), np.linspace(0, height, f.shape[0])
    gap = f - (np.nanmin(f) if np.isnan(selection.f_star) else selection.f_star)
    positive = gap[np.isfinite(gap) & (gap > 0)]
    lines: list[np.ndarray] = []
    if len(positive):
        low, high = np.quantile(positive, [0.004, 0.9]).tolist()
        level_lines = contour_generator(x, y, np.ma.masked_invalid(gap))
        lines = [np.asarray(line) for level in np.geomspace(low, high, LEVELS) for line in level_lines.lines(level)]
    frame = np.array([(0, 0), (1, 0), (1, height), (0, height), (0, 0)])
    arm = np.array([0.035, 0.035])
    places = [selection.on_map(np.array(minimizer)) for minimizer in selection.minimizers]
    inside = [at for at in places if ((at >= 0) & (at <= (1, height))).all()]
    marks = [np.array([at - arm * turn, at + arm * turn]) for at in inside for turn in ((1, 1), (1, -1))]
    layers: tuple[tuple[list[np.ndarray], dict[str, Any]], ...] = (
        (lines, {"edgecolor": MUTED, "alpha": 0.45, "linewidth": 0.5, "zorder": 1, "gid": "levels"}),
        ([frame], {"edgecolor": MUTED, "alpha": 0.6, "linewidth": 0.7, "zorder": 2, "gid": "frames"}),
        (marks, {"edgecolor": INK, "linewidth": 1.1, "zorder": 2.5, "gid": "minimizers"}),
    )
    for parts, options in layers:
        if parts:
            shape = Outline.make_compound_path(*map(Outline, parts))
            collection = PathCollection([shape], offsets=corners, facecolor="none", **options)
            # paths are in the units of the axes
            collection.set_transform(AffineDeltaTransform(cast(Any, ax.transData)))
            collection.set_offset_transform(ax.transData)
            ax.add_collection(collection, autolim=False)


def _size(selection: Selection, columns: int) -> tuple[float, float]:
    """Width and height in inches of a figure of all maps."""
    rows = -(-len(selection.paths) // columns)
    return WIDTH * (columns * (1 + GAP) - GAP + 0.02), WIDTH * (rows * (selection.height + HEAD) + 0.01)


def _texts(row: dict[str, Any], f_star: float) -> tuple[str, str]:
    """Step size and number of steps of a run, and its end."""
    if row["status"] == Status.FAILED:
        return "failed", ""
    size = "" if pd.isna(row["step_size"]) else f"step size {number(row['step_size'])}, "
    what = "f =" if np.isnan(f_star) else "gap"
    end = "diverged" if row["status"] == Status.DIVERGED else f"{what} {number(row['final'])}"
    return f"{size}{plural(row['steps'], 'step')}", f"{end}, leaves the map" if row["outside"] else end


def clipped(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """The parts of a polyline inside a box (Liang & Barsky, ACM Transactions on Graphics 3 (1984)).

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
    room = 1e9 * (high - low)  # sums of larger numbers might overflow
    points = np.clip(points, low - room, high + room)
    start, move = points[:-1], np.diff(points, axis=0)  # (T - 1, 2)
    with np.errstate(all="ignore"):
        ends = np.stack([(low - start) / move, (high - start) / move])  # (2, T - 1, 2)
    # along an axis without motion a segment is inside everywhere or nowhere
    still, inside = move == 0, (start >= low) & (start <= high)
    enter = np.where(still, np.where(inside, -np.inf, np.inf), ends.min(axis=0)).max(axis=1).clip(0, None)
    leave = np.where(still, np.where(inside, np.inf, -np.inf), ends.max(axis=0)).min(axis=1).clip(None, 1)
    visible = np.flatnonzero(enter < leave)
    # a part begins where a segment enters the box, or after one that left it
    begins = np.flatnonzero((enter[visible] > 0) | np.append(True, leave[visible[:-1]] < 1))
    parts = np.split(visible, begins[1:]) if len(visible) else []
    heads, tails = (start[visible] + share[visible, None] * move[visible] for share in (enter, leave))
    return [np.vstack([heads[k], tails[k : k + len(part)]]) for k, part in zip(begins, parts, strict=True)]
