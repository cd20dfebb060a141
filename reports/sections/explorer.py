"""The explorer: the curves of every problem as tables that a script of the page draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis import metrics

from ..figures.lines import gap_floor
from ..page.context import Book

POINTS, FEWEST_POINTS = 120, 24  # of a curve; a page of many has fewer
NUMBERS = 1_200_000  # on the whole page, about two bytes each once compressed
DIGITS = 4  # more than a screen can show


def section(book: Book) -> dict[str, Any] | None:
    """The problems of the explorer, whose tables the page then has; None where there is nothing to draw.

    The table of a problem has one row a method and checkpoint, the best method first: method, entrant (its number on the
    page), t (steps), calls, and of every quantity that was recorded "QUANTITY median", "QUANTITY low" and "QUANTITY high",
    as `metrics.bands` finds them. Gaps that rounding cannot resolve are at their floor, as in the figures.
    """
    ranked = dict(book.ranked())
    tables = {name: curves(book, name, ranked[name]) for name in book.parts}
    tables = {name: table for name, table in tables.items() if len(table)}
    size = sum(table.iloc[:, 4:].size for table in tables.values())
    most = sum(len(table) for table in tables.values()) / max(
        1, sum(table["method"].nunique() for table in tables.values())
    )
    points = POINTS if size <= NUMBERS else max(FEWEST_POINTS, int(most * NUMBERS / size))
    problems = []
    for name, table in tables.items():
        anchor = book.anchors[name]
        problems.append({"name": name, "table": book.table(f"curves-{anchor}", _thin(table, points))})
    return {"problems": problems} if problems else None


def curves(book: Book, problem: str, methods: list[str]) -> pd.DataFrame:
    """The curves of a problem at all of their checkpoints, in the form that `section` describes."""
    part = book.parts[problem]
    gap, floor = gap_floor(part)
    what = "gap" if gap else "objective"
    names = {"best": f"smallest {what} so far", "f": f"{what} at the iterate", "gradient_norm": "gradient norm"}
    names |= {name: name.replace("_", " ") for name in metrics.quantities(part)}
    whole: pd.DataFrame | None = None
    for value, name in names.items():
        found = metrics.bands(part, value)
        numbers = found[["median", "low", "high"]].to_numpy(dtype=float)
        if not np.isfinite(numbers[:, 0]).any():
            continue
        numbers = np.maximum(numbers, floor) if value in ("best", "f") else numbers
        columns = {f"{name} {q}": _rounded(numbers[:, i]) for i, q in enumerate(("median", "low", "high"))}
        made = found[["method", "t", "calls"]].assign(**columns)
        whole = made if whole is None else whole.merge(made.drop(columns="calls"), on=["method", "t"], how="left")
    if whole is None:
        return pd.DataFrame(columns=["method", "entrant", "t", "calls"])
    place = {method: number for number, method in enumerate(methods)}
    whole = whole.sort_values("method", key=lambda column: column.map(place), kind="stable", ignore_index=True)
    whole.insert(1, "entrant", [book.index(problem, method) for method in whole["method"]])
    return whole


def _thin(table: pd.DataFrame, points: int) -> pd.DataFrame:
    """At most so many points of every curve, evenly spaced on a logarithmic axis, the first and the last among them."""
    t = table["t"].to_numpy()
    starts = np.flatnonzero(np.r_[True, table["method"].to_numpy()[1:] != table["method"].to_numpy()[:-1]])
    kept = []
    for start, end in zip(starts, [*starts[1:], len(t)], strict=True):
        mine = t[start:end]
        if len(mine) > points:
            wanted = np.geomspace(1, 1 + mine[-1], points)
            nearest = np.unique(np.searchsorted(1 + mine, wanted * (1 - 1e-12)))
            kept.append(start + np.unique(np.r_[0, nearest[nearest < len(mine)], len(mine) - 1]))
        else:
            kept.append(np.arange(start, end))
    return table.iloc[np.concatenate(kept)].reset_index(drop=True)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the digits of the explorer."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = 10.0 ** (np.floor(np.log10(np.abs(values))) - DIGITS + 1)
        rounded = np.round(values / unit) * unit
    return np.where(np.isfinite(values) & np.isfinite(rounded), rounded, values)
