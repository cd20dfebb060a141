"""The section that compares stores: how many results agree, and which differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from optbench.analysis import comparison

from ..page.context import PageContext
from ..page.table import Cell, Column, Link, MethodKey, Table
from ..tables import without_rounding
from ..wording import NEVER, notation, number, target_name


@dataclass(frozen=True)
class ComparisonSection:
    """What the template shows."""

    names: list[str]  # of the stores
    same: int  # pairs of method and problem with the same calls to every target in all stores
    alone: int  # pairs in one store only
    differences: Table
    table: str | None


def section(context: PageContext) -> ComparisonSection | None:
    """The differences between stores; None where there is only one store."""
    rows = context.runs.rows
    if "store" not in rows:
        return None
    pairs = rows.drop_duplicates(["problem", "method"])
    table = comparison.store_differences(context.runs)
    shown = table.assign(final=without_rounding(table, rows))
    count, final = notation(table["calls"], 2), notation(shown["final"])
    lines = [
        line | {"first": part["calls"].iloc[0], "span": 0 if place else len(part)}
        for _, part in shown.groupby(["problem", "method"], sort=False)
        for place, line in enumerate(part.to_dict("records"))
    ]
    columns = [
        Column("problem", lambda line: Cell(context.link(line["problem"]), rows=line["span"]), "row"),
        Column("method", lambda line: Cell(Link(line["method"]), rows=line["span"]), "row"),
        Column("store", lambda line: Cell(_of_store(context, line["method"], line["store"])), ""),
        Column("step size", lambda line: Cell(number(line["step_size"]))),
        Column("target", lambda line: Cell(NEVER if pd.isna(line["target"]) else target_name(line["target"]))),
        Column("calls", lambda line: Cell(count(line["calls"]))),
        Column("ratio to the first", lambda line: Cell("" if line["span"] else _ratio(line["calls"] / line["first"]))),
        Column(
            "gap at the end", lambda line: Cell(final(line["final"])), meaning="objective where no optimum is known"
        ),
        Column("runs", lambda line: Cell(str(line["runs"]))),
    ]
    return ComparisonSection(
        names=list(dict.fromkeys(environment["store"] for environment in context.runs.environments)),
        same=int(pairs["store"].isna().sum()),
        alone=int((pairs["store"].notna() & (pairs["method"] == pairs["base_method"])).sum()),
        differences=Table.of(columns, lines),
        table=context.table("comparison", table) if lines else None,
    )


def _of_store(context: PageContext, method: str, store: str) -> MethodKey:
    """The style and key of a method of one results folder, labelled with the folder's name."""
    return replace(context.method(f"{method} [{store}]"), name=store)


def _ratio(ratio: float) -> str:
    return NEVER if pd.isna(ratio) else f"{ratio:.2f}"
