"""The context that the sections of a page share: results, styles of methods, figures and tables."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from optbench.analysis import tuning
from optbench.analysis.validity import judged
from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from ..lessons import Lesson, find_lessons
from ..wording import clean
from .anchors import unique_anchors
from .svg import to_svg
from .table import Link, MethodKey

# suffixes of anchors and tables in the section of a problem
PARTS = ("best", "sizes", "last", "seconds", "accuracy", "loss", "paths", "curves", "summary", "targets")
# anchors of other parts of the page
RESERVED = (
    "overview", "reading", "comparison", "problems", "landscapes", "lessons", "explorer", "speed", "history", "lost", "gpu",
    "environment", "ecdf", "ranking", "all-problems", "tables", "unnamed",
)  # fmt: skip


class Picture(NamedTuple):
    """A figure on the page."""

    anchor: str
    svg: Markup
    caption: str  # escaped unless it is `Markup`
    table: str | None  # name of its table in `PageContext.tables`


class PageContext:
    """The results, and what the sections share.

    Attributes
    ----------
    runs : Runs
        Sorted, so that the page does not depend on the order of the rows, and without optima that cannot be used (see
        `optbench.analysis.validity.judged`).
    parts : dict of str to Runs
        The runs of each problem, the problems with the most methods first.
    races : DataFrame
        As `optbench.results.store.Store.load_races` returns them.
    gpu : DataFrame or None
        As for `build_page`.
    history : DataFrame or None
        As `reports.load_history` returns it.
    styles : dict of str to style.Style
        The style of each method.
    names : dict of int to str
        The methods, by the index of their style.
    anchors : dict of str to str
        Problem -> id of its section.
    tables : dict of str to DataFrame
        Tables for download, by the name of their file without its ending.
    """

    def __init__(
        self,
        runs: Runs,
        races: pd.DataFrame | None = None,
        gpu: pd.DataFrame | None = None,
        history: pd.DataFrame | None = None,
    ) -> None:
        rows = runs.rows.sort_values(["problem", "method", "settings", "seed", "key"], ignore_index=True)
        self.runs: Runs = judged(Runs(rows, runs.environments, missing=runs.missing))
        rows = self.runs.rows
        self.races = pd.DataFrame() if races is None else races
        self.gpu, self.history = gpu, history
        self.styles = style.method_styles(self.runs)
        self.names = {of_method.index: clean(name) for name, of_method in self.styles.items()}
        parts = {str(name): Runs(part, runs.environments) for name, part in rows.groupby("problem", sort=True)}
        methods = {name: part.rows["method"].nunique() for name, part in parts.items()}
        self.parts = {name: parts[name] for name in sorted(parts, key=lambda name: (-methods[name], name))}
        self.anchors = unique_anchors(sorted(parts), PARTS, RESERVED)
        self.tables: dict[str, pd.DataFrame] = {}

    @functools.cached_property
    def lessons(self) -> list[Lesson]:
        """The lessons that the results allow."""
        return find_lessons(self.runs, styles=self.styles)

    def only(self, problem: str) -> PageContext:
        """The context of one problem for another process, with only the curves that are drawn."""
        rows = self.parts[problem].rows
        best = set(tuning.tuned(self.parts[problem])[["method", "settings"]].itertuples(index=False, name=None))
        # and those of the first run that did not fail, which show the metrics of the problem
        first = int(np.argmax((rows["status"] != Status.FAILED).to_numpy()))
        pairs = zip(rows["method"], rows["settings"], strict=True)
        drawn = [i == first or pair in best for i, pair in enumerate(pairs)]
        reduced = rows.copy()
        for name in ("t", "checkpoint_calls", "f", "best", "gradient_norm", "metrics"):
            reduced[name] = [value if keep else [] for value, keep in zip(rows[name], drawn, strict=True)]
        context = copy.copy(self)
        context.runs = Runs(reduced, self.runs.environments)
        context.parts = {problem: context.runs}
        curves = f"{self.anchors[problem]}-curves"
        context.tables = {name: table for name, table in self.tables.items() if name == curves}
        return context

    def method(self, name: str) -> MethodKey:
        """The name of a method, with its colour and marker."""
        return MethodKey(name, self.styles[name].index if name in self.styles else None)

    def link(self, problem: str) -> Link:
        """The name of a problem, with a link to its section."""
        return Link(problem, self.anchors.get(problem))

    def picture(
        self, anchor: str, figure: Figure, label: str, caption: str = "", table: pd.DataFrame | str | None = None
    ) -> Picture:
        """A figure for the page.

        Parameters
        ----------
        anchor : str
            Unique name of the figure.
        label : str
            Alternative text, for readers who cannot see the figure.
        caption : str
            How to read the figure.
        table : DataFrame or str, optional
            The numbers that are drawn, for download under the same name, or the name of a table that has them.
        """
        # anchors never have two hyphens in a row, so ids within figures differ from all anchors
        svg = Markup(to_svg(figure, f"{anchor}--", clean(label), self.names))
        if isinstance(table, pd.DataFrame):
            table = self.table(anchor, table)
        return Picture(anchor, svg, caption, table if table in self.tables else None)

    def table(self, name: str, table: pd.DataFrame) -> str:
        """Offer a table for download; returns its name."""
        self.tables[name] = table
        return name

    def ranked(self) -> Iterator[tuple[str, list[str]]]:
        """Problems in the order of the page, each with its methods, best first."""
        ranked = tuning.ranked(self.runs)
        return ((problem, ranked[problem]) for problem in self.parts)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let Python collect garbage a hundred times less often.

    A page makes a million small objects that live until its end; checking them again and again takes a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
