"""Heat map of oracle calls to a target, methods by problems."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from optbench.analysis import grid, profiles, ranking
from optbench.results.runs import Runs

from ..page.table import Cell
from ..wording import DEFAULT, NEVER, calls, factor, plural, shorten, target_name
from . import style
from .style import MUTED, PAPER

# largest ratio of each colour; the classes r0, r1, ... of the style sheet
STEPS = (1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 100.0, np.inf)
# in grey their lightness is monotonic: the best is darkest on paper
RAMP = ("#0b4a8f", "#2f6fb3", "#5e95cd", "#8fb7e0", "#b5d0ec", "#d2e2f4", "#e5eef9", "#f3f7fc")


def heatmap(runs: Runs, target: float = DEFAULT, ax: Axes | None = None) -> Axes:
    """Oracle calls to a target relative to the best, methods by problems; see `optbench.analysis.profiles.relative_calls`.

    The darker a cell, the closer to the best on the problem. A hatched cell is a miss, with the number of seeds that
    reached the target if any did; a dash means that the method did not run. Methods are in the order of the ranking,
    unranked ones last. Problems without a known optimum have no targets and do not appear.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    target : float
        Fraction of the initial gap, in (0, 1); rounded to the nearest of the 50 that are recorded.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot of the necessary size.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Examples
    --------
    >>> ax = reports.heatmap(runs, target=1e-2)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['quadratic:dim=5', 'rosenbrock']
    """
    table = shown_rows(runs, profiles.relative_calls(runs, target))
    methods, problems = row_order(runs, table), sorted(set(table["problem"]))
    ax = ax or style.new_axes((3 + 0.55 * len(problems), 2.6 + 0.26 * len(methods)))
    title = f"Oracle calls to {target_name(target)} of the initial gap, relative to the best"
    if table.empty:
        style.label(ax, title, "", "")
        return style.note(ax, "No targets, because no optimal value is known")
    lines = table.set_index(["method", "problem"])
    ratio = lines["ratio"].unstack().loc[methods, problems].to_numpy(dtype=float)  # (E, P)  # noqa: PD010
    colors = LinearSegmentedColormap.from_list("ratio", RAMP)
    depth = np.log10(np.where(np.isfinite(ratio), ratio, np.nan)) / 2  # 0 is the best, 1 a hundredfold
    ax.imshow(np.ma.masked_invalid(depth), cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for e, method in enumerate(methods):
        for p, problem in enumerate(problems):
            line = lines.loc[(method, problem)]
            cell = cell_of(line.to_dict())
            if line["status"] == "missed":
                corner = p - 0.5, e - 0.5
                ax.add_patch(Rectangle(corner, 1, 1, facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0))
            color = PAPER if np.isfinite(depth[e, p]) and depth[e, p] < 0.3 else style.INK
            ax.text(p, e, str(cell.text), ha="center", va="center", fontsize=8, color=color)
    names: dict[str, Any] = {"parse_math": False, "rotation_mode": "anchor"}
    ax.set_xticks(range(len(problems)), headings(problems), rotation=60, ha="right", **names)
    ax.set_yticks(range(len(methods)), [shorten(name, 30) for name in methods], **names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    style.label(ax, title, "problem", "optimizer")
    return ax


def cell_of(line: dict[Any, Any]) -> Cell:
    """The cell for a row of `profiles.relative_calls`."""
    reached, seeds = int(line["reached"]), int(line["seeds"])
    successes = f"{reached} of {plural(seeds, 'seed')}"
    if line["status"] == "not run":
        return Cell(NEVER, title="did not run", kind="absent")
    if line["status"] == "missed":
        return Cell(f"{reached}/{seeds}" if reached else "×", title=f"missed: {successes} reached it", kind="missed")
    step = next(i for i, limit in enumerate(STEPS) if line["ratio"] <= limit)
    some = Markup("<small>{}/{}</small>").format(reached, seeds) if reached < seeds else Markup()
    return Cell(factor(line["ratio"]), note=some, title=f"{calls(line['calls'])} calls, {successes}", kind=f"r{step}")


def with_targets(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `profiles.relative_calls` for problems with a known optimum and runs."""
    known = table.loc[table["status"].isin(["reached", "missed"]), "problem"]
    return table[table["problem"].isin(set(known))]


def shown_rows(runs: Runs, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `profiles.relative_calls` that the heat map shows.

    These are the complete set, the methods that ran on a quarter of its problems, and the problems that a quarter of
    these methods ran on. Others would fill the map with dashes.
    """
    table, chosen = with_targets(table), grid.complete_set(runs)
    if len(chosen.methods) < 2:
        return table
    ran = table[table["status"] != "not run"]
    on = ran[ran["problem"].isin(chosen.problems)].groupby("method")["problem"].size()
    methods = {*chosen.methods, *on[4 * on >= len(chosen.problems)].index}
    by = ran[ran["method"].isin(methods)].groupby("problem")["method"].size()
    problems = {*chosen.problems, *by[4 * by >= len(methods)].index}
    return table[table["method"].isin(methods) & table["problem"].isin(problems)]


def row_order(runs: Runs, table: pd.DataFrame) -> list[str]:
    """Methods in the order of the ranking, then unranked methods with runs in the table."""
    first = ranking.ranked_methods(runs)
    ran = set(table.loc[table["status"] != "not run", "method"])
    return [*first, *sorted(ran - set(first))]


def headings(problems: Sequence[str], width: int = 40) -> list[str]:
    """Short names of problems, without the parameters that all problems of a family share."""
    parts = [tuple(_COMMA.split(name.partition(":")[2])) for name in problems]
    families = [name.partition(":")[0] for name in problems]
    names = []
    for name, family, parameters in zip(problems, families, parts, strict=True):
        members = [set(other) for other, of_other in zip(parts, families, strict=True) if of_other == family]
        shared = set.intersection(*members) if len(members) > 1 else set()
        rest = ",".join(part for part in parameters if part not in shared)
        names.append(f"{family}:{rest}" if rest else family if shared else name)
    if len(set(names)) < len(problems):
        names = list(problems)
    return [shorten(name, width) for name in names]


_COMMA = re.compile(r",(?![^\[]*\])")  # between parameters, not within a list


def limits() -> list[str]:
    """Labels of the colours of the heat map."""
    return ["1", *(f"to {limit:g}" for limit in STEPS[1:-1]), f"above {STEPS[-2]:g}"]
