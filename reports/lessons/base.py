"""The parts of a lesson: its runs, texts and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optbench.analysis import metrics, tuning
from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from ..figures.selection import description_of

GAP_LABEL = "gap f − f* of the iterate"
THEORY: dict[str, Any] = {"color": style.INK, "linewidth": 1.0, "dashes": (5, 3)}  # look of theoretical lines
INFINITE_GAP = 1e100  # gaps from here on count as infinite; axes of 300 decades would overflow
NEEDED = [
    "problem", "problem_spec", "problem_name", "problem_params", "method", "optimizer", "fixed", "settings", "step_size",
    "schedule", "batch_size", "seed", "steps", "status", "end", "calls", "calls_per_step", "budget_calls",
    "checkpoint_calls", "f_start", "f_end", "f_best", "f_star", "f_star_lower", "precision", "error", "calls_to_target",
    "t", "f", "metrics", "description",
]  # fmt: skip  # filtering all columns would be slow


class Drawing(NamedTuple):
    """A figure of a lesson, its alternative text, and how to read it."""

    figure: Figure
    label: str
    caption: str


@dataclass(frozen=True)
class Lesson:
    """A question, its answer from the results, and the figures that show it."""

    takeaway: str  # the answer in one sentence
    points: Sequence[str]  # what was measured, and why; all numbers come from the results
    drawings: Sequence[Drawing]
    command: str  # shell commands that reproduce the runs and the lesson
    problems: Sequence[str]  # names of the problems it rests on
    table: pd.DataFrame  # the numbers behind it
    maps: Sequence[str] = ()  # problems whose landscape a drawing shows with paths
    name: str = ""  # in links and names of files
    title: str = ""
    question: str = ""


class Selection:
    """Results by problem, and styles of methods.

    Attributes
    ----------
    all : Runs
    parts : dict of str to DataFrame
        Rows by problem.
    names : dict of str to str
        Problem -> registered name.
    """

    def __init__(self, runs: Runs, styles: style.Styles) -> None:
        self.all, self.styles = runs, styles
        rows = runs.rows[[name for name in NEEDED if name in runs.rows]]
        self.parts = {str(name): part for name, part in rows.groupby("problem", sort=True)}
        self.names = {name: str(part["problem_name"].iloc[0]) for name, part in self.parts.items()}

    def runs(self, rows: pd.DataFrame) -> Runs:
        return Runs(rows, self.all.environments)

    def description(self, rows: pd.DataFrame) -> dict[str, Any]:
        """The stored description of the problem of some rows."""
        return description_of(self.runs(rows))

    def in_plane(self, name: str) -> dict[str, pd.DataFrame]:
        """Full-batch runs with all iterates, by problem of a registered name."""
        of_name = {problem: rows for problem, rows in self.parts.items() if self.names[problem] == name}
        return {problem: rows[full_batch(rows) & has_path(rows)] for problem, rows in of_name.items()}

    def best(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the best method at its best settings, sorted by seed."""
        of_problem = self.runs(rows)
        method = next(iter(tuning.ranked(of_problem).values()))[0]
        tuned = tuning.tuned_rows(of_problem)
        return tuned[tuned["method"] == method].sort_values("seed", ignore_index=True)


def full_batch(rows: pd.DataFrame) -> pd.Series:
    """Whether each run has full batches and a constant step size; (R,)."""
    return rows["batch_size"].isna() & (rows["schedule"] == "constant")


def has_path(rows: pd.DataFrame) -> np.ndarray:
    """Whether each run has two-dimensional iterates at every step; (R,)."""
    with_iterates = [
        len(t) > 1 and int(t[-1]) == len(t) - 1 and {name for name, _ in values} >= metrics.COORDINATES
        for values, t in zip(rows["metrics"], rows["t"], strict=True)
    ]
    return np.array(with_iterates, dtype=bool)


def gaps(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Steps (C,) and median over seeds of the gap of the iterate (C,), as long as it is finite.

    Runs keep their last value after their end; runs that diverged count as infinite.
    """
    t = np.unique(np.concatenate(list(rows["t"])))
    wide = np.empty((len(rows), len(t)))
    for k, row in enumerate(rows.to_dict("records")):
        wide[k] = np.asarray(row["f"], dtype=float)[np.searchsorted(np.asarray(row["t"]), t, side="right") - 1]
        if row["status"] == Status.DIVERGED:
            wide[k, t >= row["end"]] = np.inf
        wide[k] -= row["f_star"]
    middle = np.sort(np.where(wide < INFINITE_GAP, wide, np.inf), axis=0)[len(rows) // 2]
    usable = int(np.argmin(np.isfinite(middle))) if not np.isfinite(middle).all() else len(t)
    return t[:usable], middle[:usable]


def line_styles(names: Iterable[str]) -> dict[str, style.Style]:
    """Styles of lines that are not methods of the page, so that it does not highlight them."""
    return {name: style.Style.numbered(k, -1 - k) for k, name in enumerate(names)}


def line_figure(
    title: str,
    x: str,
    y: str,
    lines: style.Lines,
    styles: style.Styles | None = None,
    *,
    log: str = "xy",
    theory: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    behind: bool = False,
    level: float | None = None,
    at: float | None = None,
    limits: tuple[float, float | None] | None = None,
    width: int = 18,
    marks: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """A figure of named lines.

    Parameters
    ----------
    log : str
        The logarithmic axes.
    theory : sequence of pairs of arrays (points,)
        Dashed lines, in front of the others or `behind` them.
    level, at : float
        Places of a horizontal and of a vertical dotted line.
    limits : (float, float or None)
        Of the vertical axis.
    width : int
        As in `style.end_names`.
    marks : mapping of str to array
        Markers by name, as in `style.line`.
    """
    styles = styles or line_styles(lines)
    dashes = THEORY | ({"alpha": 0.6, "zorder": 1} if behind else {"alpha": 0.75, "zorder": 4})

    def draw(ax: Axes) -> None:
        style.axes(ax)
        for name, curve in lines.items():
            style.line(ax, styles[name], *curve, marks=None if marks is None else marks[name])
        for expected in theory:
            ax.plot(*expected, **dashes)
        if level is not None:
            ax.axhline(level, **style.MARK)
        if at is not None:
            ax.axvline(at, **style.MARK)
        if limits is not None:
            ax.set_ylim(*limits)
        style.label(ax, title, x, y, log)
        style.end_names(ax, lines, styles, list(lines), width)

    return style.figure(draw, room=2.0)
