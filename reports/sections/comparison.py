"""The section that lays several stores side by side: what is the same in all of them, and what differs by how much."""

from __future__ import annotations

from typing import Any

from optbench.analysis import comparison as beside

from .. import tables, wording
from ..page.context import Book


def section(book: Book) -> dict[str, Any] | None:
    """What differs between stores; None where there is but one."""
    rows = book.runs.rows
    if "store" not in rows:
        return None
    pairs = rows.drop_duplicates(["problem", "method"])
    table = beside.comparison(book.runs)
    lines = []
    for (problem, method), its in table.groupby(["problem", "method"], sort=False):
        first = its.iloc[0]
        cells = []
        for line in its.to_dict("records"):
            cell = tables.Cell(wording.calls(line["calls"]), line["calls"])
            ratio = "" if line["store"] == first["store"] else f"{line['calls'] / first['calls']:.2f} times"
            name = f"{method} [{line['store']}]"
            cells.append(
                {
                    "store": line["store"],
                    "index": book.index(problem, name),
                    "step_size": wording.number(line["step_size"]),
                    "calls": cell.text,
                    "ratio": ratio if ratio[:3] != "nan" else wording.NEVER,
                    "final": wording.number(line["final"]),
                    "runs": line["runs"],
                }
            )
        goal = wording.target_name(first["target"]) if first["target"] == first["target"] else wording.NEVER
        lines.append({"problem": problem, "method": method, "goal": goal, "stores": cells})
    return {
        "names": [environment["store"] for environment in book.runs.environments],
        "same": int(pairs["store"].isna().sum()),
        "alone": int((pairs["store"].notna() & (pairs["method"] == pairs["alone"])).sum()),
        "lines": lines,
        "table": book.table("stores", table) if len(table) else None,
    }
