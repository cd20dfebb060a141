"""The explorer: the curves of every problem as tables that a script of the page draws."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optbench.analysis import metrics

from ..figures.selection import gap_floor
from ..page.context import PageContext

POINTS, FEWEST_POINTS = 120, 24  # of a curve, on pages with few and with many curves
NUMBERS = 1_200_000  # on the whole page, about two bytes each when compressed
DIGITS = 4  # significant; more than a screen can show
KEYS = ["method", "index", "t", "calls"]  # columns before those of the quantities


def section(context: PageContext) -> list[tuple[str, str]] | None:
    """The problems of the explorer, each with the name of its table; None if nothing can be drawn.

    The table of a problem has one row for each method and checkpoint, the best method first. Columns: method, index (of its
    style), t (steps), calls, and for every recorded quantity "QUANTITY median", "QUANTITY low" and "QUANTITY high", as
    `metrics.bands` computes them. Gaps below the smallest that rounding can resolve are raised to it, as in the figures.
    """
    tables = {name: curves(context, name, methods) for name, methods in context.ranked()}
    tables = {name: table for name, table in tables.items() if len(table)}
    size = sum(table.drop(columns=KEYS).size for table in tables.values())
    lines = sum(table["method"].nunique() for table in tables.values())
    mean = sum(map(len, tables.values())) / max(1, lines)  # points of a curve
    points = POINTS if size <= NUMBERS else max(FEWEST_POINTS, int(mean * NUMBERS / size))
    anchors = {name: f"{context.anchors[name]}-curves" for name in tables}
    return [(name, context.table(anchors[name], _thin(table, points))) for name, table in tables.items()] or None


def curves(context: PageContext, problem: str, methods: list[str]) -> pd.DataFrame:
    """The curves of a problem at all checkpoints, as described in `section`."""
    part = context.parts[problem]
    has_gap, floor = gap_floor(part)
    what = "gap" if has_gap else "objective"
    names = {"best": f"smallest {what} so far", "f": f"{what} at the iterate", "gradient_norm": "gradient norm"}
    names |= {name: name.replace("_", " ") for name in metrics.metric_names(part)}
    table: pd.DataFrame | None = None
    for value, name in names.items():
        bands = metrics.bands(part, value)
        numbers = bands[["median", "low", "high"]].to_numpy(dtype=float)  # (points, 3)
        if not np.isfinite(numbers[:, 0]).any():
            continue
        numbers = np.maximum(numbers, floor) if value in ("best", "f") else numbers
        columns = {f"{name} {q}": _rounded(numbers[:, i]) for i, q in enumerate(("median", "low", "high"))}
        added = bands[["method", "t", "calls"]].assign(**columns)
        table = added if table is None else table.merge(added.drop(columns="calls"), on=["method", "t"], how="left")
    if table is None:
        return pd.DataFrame(columns=KEYS)
    place = {method: number for number, method in enumerate(methods)}
    table = table.sort_values("method", key=lambda column: column.map(place), kind="stable", ignore_index=True)
    table.insert(1, "index", [context.styles[method].index for method in table["method"]])
    return table


def _thin(table: pd.DataFrame, points: int) -> pd.DataFrame:
    """At most `points` of every curve, evenly spaced on a logarithmic axis, with the first and the last."""
    t = table["t"].to_numpy()
    starts = np.flatnonzero(np.r_[True, table["method"].to_numpy()[1:] != table["method"].to_numpy()[:-1]])
    selected = []
    for start, end in zip(starts, [*starts[1:], len(t)], strict=True):
        steps = t[start:end]
        if len(steps) > points:
            wanted = np.geomspace(1, 1 + steps[-1], points)
            nearest = np.unique(np.searchsorted(1 + steps, wanted * (1 - 1e-12)))
            selected.append(start + np.unique(np.r_[0, nearest[nearest < len(steps)], len(steps) - 1]))
        else:
            selected.append(np.arange(start, end))
    return table.iloc[np.concatenate(selected)].reset_index(drop=True)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values rounded to `DIGITS` significant digits."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = 10.0 ** (np.floor(np.log10(np.abs(values))) - DIGITS + 1)
        rounded = np.round(values / unit) * unit
    return np.where(np.isfinite(values) & np.isfinite(rounded), rounded, values)
