"""Paths over landscapes of two dimensions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .. import wording
from ..figures import (
    paths,
)
from ..page.context import Book

FEW = 2  # maps that a lesson shows all of


def section(book: Book, taught: Collection[str] = ()) -> list[dict[str, Any]]:
    """What the page shows of every two-dimensional problem, in its order.

    Parameters
    ----------
    taught : collection of str
        Problems whose maps a lesson shows. Those of at most `FEW` methods, where other problems have more, are there for
        the lesson alone and not shown again.
    """
    found = []
    methods = {name: part.rows["method"].nunique() for name, part in book.parts.items()}
    for name, part in book.parts.items():
        if name in taught and methods[name] <= FEW < max(methods.values()):
            continue
        held = paths.selected(part, 0, paths.MOST)
        if held is None:
            continue
        table = paths.table_of(held)
        anchor = f"paths-{book.anchors[name]}"
        best, lost = table.iloc[0], table[table["status"] == "diverged"]
        label = (
            f"{len(table)} maps of {name}, one a method, with the path of seed {best['seed']} over level lines. Best: "
            f"{best['method']}, {best['steps']} steps, {'at the end' if np.isfinite(best['final']) else 'no end'} "
            f"{wording.number(best['final'])}."
        )
        whole = all(np.array_equal(t, np.arange(len(t))) for t in part.rows["t"] if len(t))
        found.append(
            {
                "name": name,
                "anchor": anchor,
                "problem": book.anchors[name],
                "picture": book.picture(anchor, paths.figure(name, held, book.styles), label, table),
                "maps": len(table),
                "left_out": held.methods - len(table),
                "seeds": sorted(set(table["seed"])),
                "gap": bool(part.rows["f_star"].notna().all()),
                "whole": whole,
                "x": [wording.number(v) for v in held.surface["x"]],
                "y": [wording.number(v) for v in held.surface["y"]],
                "outside": sorted(table.loc[table["outside"], "method"]),
                "lost": sorted(lost["method"]),
            }
        )
    return found
