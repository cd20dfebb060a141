"""What the sections of a page share: the results, how methods look, and the figures and tables made so far."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from optbench.analysis import tuning
from optbench.results.runs import Runs

from ..figures import style
from ..wording import clean
from .svg import to_svg


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes
    ----------
    svg : Markup
    table : str or None
        Name of the table behind it, in `Book.tables`.
    """

    svg: Markup
    table: str | None


class Book:
    """Results, and what the sections of a page make of them.

    Attributes
    ----------
    runs : Runs
        In a fixed order, whatever the order of the rows they were made of.
    parts : dict of str to Runs
        The runs of every problem, the problems with the most methods first.
    races : DataFrame
        As `optbench.store.Store.load_races` returns them.
    styles : style.Styles
    names : dict of int to str
        The methods by the index of their style.
    anchors : dict of str to str
        Problem -> id of its section.
    tables : dict of str to DataFrame
        What can be downloaded from the page, by the name of the file without its ending.
    """

    def __init__(self, runs: Runs, races: pd.DataFrame) -> None:
        rows = runs.rows.sort_values(["problem", "method", "settings", "seed", "key"], ignore_index=True)
        self.runs, self.races = Runs(rows, runs.environments), races
        self.styles = style.method_styles(self.runs)
        self.names = {look.index: clean(name) for name, look in self.styles.items()}
        parts = {str(name): Runs(part, runs.environments) for name, part in rows.groupby("problem", sort=True)}
        size = {name: part.rows["method"].nunique() for name, part in parts.items()}
        self.parts = {name: parts[name] for name in sorted(parts, key=lambda name: (-size[name], name))}
        self.anchors = {name: f"problem-{number}" for number, name in enumerate(self.parts, start=1)}
        self.tables: dict[str, pd.DataFrame] = {}

    def only(self, problem: str) -> Book:
        """A book of one problem, small enough to be sent to another process: curves are kept of what is drawn alone."""
        rows = self.parts[problem].rows
        best = tuning.tuned(self.parts[problem])[["method", "settings"]].itertuples(index=False, name=None)
        pairs = zip(rows["method"], rows["settings"], strict=True)
        # besides, of the first that ran, because it tells what the problem records
        first = int(np.argmax((rows["status"] != "failed").to_numpy()))
        chosen, held = set(best), rows.copy()
        kept = np.array([i == first or pair in chosen for i, pair in enumerate(pairs)])
        for name in ("t", "f", "best", "gradient_norm", "metrics"):
            held[name] = [value if keep else [] for value, keep in zip(rows[name], kept, strict=True)]
        alone = copy.copy(self)
        alone.runs = Runs(held, self.runs.environments)
        alone.parts = {problem: alone.runs}
        anchor = self.anchors[problem]
        alone.tables = {name: table for name, table in self.tables.items() if name == f"curves-{anchor}"}
        return alone

    def index(self, problem: str, method: str) -> int:
        """The number by which the page knows the method that a method is on a problem."""
        return self.styles[method].index

    def picture(self, anchor: str, made: Figure, label: str, table: pd.DataFrame | str | None = None) -> Picture:
        """A figure for the page.

        Parameters
        ----------
        anchor : str
            Name of the figure, which no other has.
        label : str
            What a reader who cannot see the figure is told.
        table : DataFrame or str, optional
            The numbers that are drawn, for download under the same name, or the name of a table that has them.
        """
        svg = Markup(to_svg(made, f"{anchor}-", clean(label), self.names))
        if isinstance(table, str):
            return Picture(svg, table if table in self.tables else None)
        return Picture(svg, None if table is None else self.table(anchor, table))

    def table(self, name: str, table: pd.DataFrame) -> str:
        """Offer a table for download; returns its name."""
        self.tables[name] = table
        return name

    def ranked(self) -> Iterator[tuple[str, list[str]]]:
        """Problems in the order of the page, with their methods, the best first."""
        ranked = tuning.ranked(self.runs)
        return ((problem, ranked[problem]) for problem in self.parts)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let Python look for garbage a hundred times more rarely than it does.

    A page makes a million small objects that nobody lets go before its end, beside the arrays of all runs, and looking
    through them again and again takes a tenth of its time.
    """
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
