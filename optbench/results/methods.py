"""Display labels of problems and methods: the columns ``problem`` and ``method``, made from typed columns.

A method is what is compared: optimizer, fixed settings, schedule, budget, precision and array module. Its batch size is a
setting of the run. Labels are unique among the rows they are made for. They are for display and grouping only: whatever
else is needed of a method stands in its own columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optbench.core.specs import format_spec

if TYPE_CHECKING:
    import pandas as pd


def add_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the columns ``problem`` and ``method``, first; labels that were there before are made anew."""
    import pandas as pd

    problem, data = rows["problem_spec"], rows["data_hash"]
    # several versions of a problem's data are told apart
    if (several := _several(data, [problem])).any():
        problem = problem.mask(several, problem + " [data " + data.str[:8] + "]")
    labels = pd.DataFrame({"problem": problem, "method": _label_methods(rows)})
    return pd.concat([labels, rows.drop(columns=["problem", "method"], errors="ignore")], axis=1)


def _label_methods(rows: pd.DataFrame) -> pd.Series:
    """The label of each row's method.

    It consists of the optimizer with its fixed settings and of a schedule that is not constant. Where a problem has runs
    that differ in nothing else, these follow: number of steps, precision, array module.

    Where a method ran with several batch sizes on one problem, these are compared like methods: all of its mini-batch
    runs carry their batch size, and its full-batch runs on problems with mini-batch runs are marked as such.

    Rows of several stores, told apart by a column ``store``, keep one label where only the stores differ in these.
    """
    import pandas as pd

    parts = ["optimizer", "fixed", "schedule"]
    keys = list(rows[parts].itertuples(index=False, name=None))
    names = {key: method_name(key[0], json.loads(key[1]), key[2]) for key in set(keys)}
    method = pd.Series([names[key] for key in keys], index=rows.index, dtype=object)
    place = [rows["problem_spec"], rows["data_hash"]]

    size = rows["batch_size"].astype("Int64").fillna(0)  # 0 for full batches
    several_sizes = _several(size, [*place, method])
    if several_sizes.any():
        compared = several_sizes.groupby(method).transform("any")
        with_size = method + ", batch " + size.astype(str)
        method = method.mask(several_sizes & (size == 0), method + ", full batch").mask(
            compared & (size > 0), with_size
        )
    if "store" in rows:
        place.append(rows["store"])
    for column, unit in (("steps", " steps"), ("precision", ""), ("backend", "")):
        several = _several(rows[column], [*place, method])
        if several.any():
            method = method.mask(several, method + ", " + rows[column].astype(str) + unit)
    return method


def _several(column: pd.Series, groups: list[pd.Series]) -> pd.Series:
    """Whether the group of each row has several values in a column."""
    import pandas as pd

    if column.nunique() < 2:  # as in most results of one call, where grouping takes longer than all else
        return pd.Series(False, index=column.index)
    return column.groupby(groups).transform("nunique") > 1


def match_methods(lines: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """The label that the method of each line has in the rows of runs; null where no run has the same method.

    Lines, such as those of races, have the columns of a method, ``batch_size`` and ``steps``. Optimizer, fixed settings and
    schedule must agree. Of several methods the one that agrees in most of the others is taken, then the largest budget.
    """
    same, further = ["optimizer", "fixed", "schedule"], ["batch_size", "precision", "backend", "steps"]
    methods = rows[["method", *same, *further]].drop_duplicates()
    pairs = lines.reset_index()[["index", *same, *further]].merge(methods, on=same, suffixes=("", "_of_runs"))
    agreement = sum((pairs[name].fillna(0) == pairs[f"{name}_of_runs"].fillna(0)).astype(int) for name in further)
    best = pairs.assign(agreement=agreement).sort_values(["agreement", "steps_of_runs", "method"])
    return best.drop_duplicates("index", keep="last").set_index("index")["method"].reindex(lines.index)


def method_name(optimizer: str, settings: Mapping[str, Any], schedule: str = "constant") -> str:
    """The optimizer with the given settings, and its schedule unless it is constant."""
    spec = format_spec(optimizer, {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
    return spec if schedule == "constant" else f"{spec}, {schedule}"
