"""The section of paths over landscapes of two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import paths
from ..page.context import PageContext, Picture
from ..page.table import Link
from ..wording import number, plural

FEW = 2  # maps that a lesson shows all of


@dataclass(frozen=True)
class Landscape:
    """The maps of a problem."""

    problem: Link
    figure: Picture


def section(context: PageContext) -> list[Landscape] | None:
    """The two-dimensional problems with paths, in the order of the page; None without any.

    A problem whose maps a lesson shows is left out if it has at most `FEW` methods and other problems have more.
    """
    in_lessons = {problem for lesson in context.lessons for problem in lesson.maps}
    methods = {name: part.rows["method"].nunique() for name, part in context.parts.items()}
    shown = [
        name for name in context.parts if name not in in_lessons or not methods[name] <= FEW < max(methods.values())
    ]
    figures = [(name, _figure(context, name)) for name in shown]
    return [Landscape(context.link(name), figure) for name, figure in figures if figure is not None] or None


def _figure(context: PageContext, name: str) -> Picture | None:
    """The maps of a problem; None without level lines or paths."""
    part = context.parts[name]
    selection = paths.select(part, 0, paths.MOST)
    if selection is None:
        return None
    table = selection.table
    best = table.iloc[0]
    label = (
        f"{len(table)} maps of {name}, one for each method, with the path of seed {best['seed']} over level lines. Best: "
        f"{best['method']}, {best['steps']} steps, {'at the end' if np.isfinite(best['final']) else 'no end'} "
        f"{number(best['final'])}."
    )
    figure = paths.figure(name, selection, context.styles)
    return context.picture(f"{context.anchors[name]}-paths", figure, label, _caption(part, selection, table), table)


def _caption(part: Runs, selection: paths.Selection, table: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, sorted(set(table["seed"]))))
    whole = all(np.array_equal(t, np.arange(len(t))) for t in part.rows["t"] if len(t))
    x, y = (" to ".join(map(number, selection.surface[name])) for name in ("x", "y"))
    final = "gap f − f*" if part.rows["f_star"].notna().all() else "objective f"
    caption = (
        f"Paths of seed {seeds}, {'step by step' if whole else 'from checkpoint to checkpoint'}; x from {x}, y from {y}; "
        "the rest is cut off. If a method may reject points, its path connects the best points so far. Below each name: "
        f"step size, number of steps, and the {final} at the end."
    )
    lost = sorted(table.loc[table["status"] == Status.DIVERGED, "method"])
    if lost:
        caption += Markup(" Diverged: <bdi>{}</bdi>; the settings are the best over all seeds.").format(", ".join(lost))
    left_out = selection.methods - len(table)
    if left_out:
        caption += f" {plural(left_out, 'more method')} {'is' if left_out == 1 else 'are'} left out."
    return caption
