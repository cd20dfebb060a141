"""The section that compares stores: what is the same in all of them, and what differs by how much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from optbench.analysis import comparison

from ..page.context import Link, MethodKey, PageContext
from ..wording import NEVER, calls, number, target_name


@dataclass(frozen=True)
class StoreLine:
    """A method on a problem, as one store has it."""

    store: MethodKey  # named after the store
    step_size: str
    calls: str
    ratio: str  # to the first store
    final: str
    runs: int


@dataclass(frozen=True)
class Difference:
    """A method on a problem whose results differ between stores."""

    problem: Link
    method: str
    target: str
    stores: list[StoreLine]


@dataclass(frozen=True)
class ComparisonSection:
    """What the template shows."""

    names: list[str]  # of the stores
    same: int  # methods on their problem with equal calls to every target
    alone: int  # methods on their problem that ran in one store only
    differences: list[Difference]
    table: str | None


def section(context: PageContext) -> ComparisonSection | None:
    """What differs between stores; None where there is but one."""
    rows = context.runs.rows
    if "store" not in rows:
        return None
    pairs = rows.drop_duplicates(["problem", "method"])
    table = comparison.store_differences(context.runs)
    groups = table.groupby(["problem", "method"], sort=False)
    return ComparisonSection(
        names=list(dict.fromkeys(environment["store"] for environment in context.runs.environments)),
        same=int(pairs["store"].isna().sum()),
        alone=int((pairs["store"].notna() & (pairs["method"] == pairs["base_method"])).sum()),
        differences=[_difference(context, problem, method, lines) for (problem, method), lines in groups],
        table=context.table("comparison", table) if len(table) else None,
    )


def _difference(context: PageContext, problem: str, method: str, lines: pd.DataFrame) -> Difference:
    first = lines.iloc[0]
    stores = []
    for place, line in enumerate(lines.to_dict("records")):
        ratio = line["calls"] / first["calls"]
        stores.append(
            StoreLine(
                store=replace(context.method(f"{method} [{line['store']}]"), name=line["store"]),
                step_size=number(line["step_size"]),
                calls=calls(line["calls"]),
                ratio="" if not place else NEVER if pd.isna(ratio) else f"{ratio:.2f} times",
                final=number(line["final"]),
                runs=line["runs"],
            )
        )
    goal = NEVER if pd.isna(first["target"]) else target_name(first["target"])
    return Difference(context.link(problem), method, goal, stores)
