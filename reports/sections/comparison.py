"""The section that compares stores: what is the same in all of them, and what differs by how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from optbench.analysis import comparison

from ..page.context import PageContext
from ..wording import NEVER, calls, number, target_name


def section(context: PageContext) -> dict[str, Any] | None:
    """What differs between stores; None where there is but one."""
    rows = context.runs.rows
    if "store" not in rows:
        return None
    pairs = rows.drop_duplicates(["problem", "method"])
    table = comparison.store_differences(context.runs)
    return {
        "names": list(dict.fromkeys(environment["store"] for environment in context.runs.environments)),
        # methods on their problem with equal calls to every target, and those that ran in one store only
        "same": int(pairs["store"].isna().sum()),
        "alone": int((pairs["store"].notna() & (pairs["method"] == pairs["base_method"])).sum()),
        "differences": [_difference(context, lines) for _, lines in table.groupby(["problem", "method"], sort=False)],
        "table": context.table("comparison", table) if len(table) else None,
    }


def _difference(context: PageContext, lines: pd.DataFrame) -> dict[str, Any]:
    """A method on a problem whose results differ, and its line in every store with the ratio to the first."""
    first = lines.iloc[0]
    stores = []
    for place, line in enumerate(lines.to_dict("records")):
        ratio = line["calls"] / first["calls"]
        texts = {name: show(line[name]) for name, show in (("step_size", number), ("calls", calls), ("final", number))}
        texts["ratio"] = "" if not place else NEVER if pd.isna(ratio) else f"{ratio:.2f} times"
        store = replace(context.method(f"{first['method']} [{line['store']}]"), name=line["store"])
        stores.append(texts | {"store": store, "runs": line["runs"]})
    goal = NEVER if pd.isna(first["target"]) else target_name(first["target"])
    return {"problem": context.link(first["problem"]), "method": first["method"], "target": goal, "stores": stores}
