"""The section that compares stores: what is the same in all of them, and what differs by how much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from optbench.analysis import comparison

from ..page.context import PageContext
from ..page.table import Cell, Column, Link, MethodKey, Table
from ..wording import NEVER, calls, number, target_name


@dataclass(frozen=True)
class ComparisonSection:
    """What the template shows."""

    names: list[str]  # of the stores
    same: int  # methods on their problem with equal calls to every target
    alone: int  # methods on their problem that ran in one store only
    differences: Table
    table: str | None


def section(context: PageContext) -> ComparisonSection | None:
    """What differs between stores; None where there is but one."""
    rows = context.runs.rows
    if "store" not in rows:
        return None
    pairs = rows.drop_duplicates(["problem", "method"])
    table = comparison.store_differences(context.runs)
    lines = [
        line | {"first": part["calls"].iloc[0], "span": 0 if place else len(part)}
        for _, part in table.groupby(["problem", "method"], sort=False)
        for place, line in enumerate(part.to_dict("records"))
    ]
    columns = [
        Column("problem", lambda line: Cell(context.link(line["problem"]), rows=line["span"]), "row"),
        Column("method", lambda line: Cell(Link(line["method"]), rows=line["span"]), "row"),
        Column("store", lambda line: Cell(_of_store(context, line["method"], line["store"])), ""),
        Column("step size", lambda line: Cell(number(line["step_size"]))),
        Column("target", lambda line: Cell(NEVER if pd.isna(line["target"]) else target_name(line["target"]))),
        Column("calls", lambda line: Cell(calls(line["calls"]))),
        Column(
            "relative to the first", lambda line: Cell("" if line["span"] else _times(line["calls"] / line["first"]))
        ),
        Column("at the end", lambda line: Cell(number(line["final"]))),
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
    """A method under the name of its store."""
    return replace(context.method(f"{method} [{store}]"), name=store)


def _times(ratio: float) -> str:
    return NEVER if pd.isna(ratio) else f"{ratio:.2f} times"
