"""Display labels of problems and methods: the columns ``problem`` and ``method``.

A method is an optimizer with fixed settings, schedule, budget, precision and array module; the batch size is a setting of
a run. Labels are unique within the given rows. They are for display and grouping only; the typed columns have the facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optbench.core.specs import format_spec

if TYPE_CHECKING:
    import pandas as pd


def add_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with new columns ``problem`` and ``method`` in front, which replace old ones."""
    import pandas as pd

    problem, data = _with_origin(rows["problem_spec"], rows["problem_origin"]), rows["data_hash"]
    # distinguishes several versions of a problem's data
    if (several := _several(data, [problem])).any():
        problem = problem.mask(several, problem + " [data " + data.str[:8] + "]")
    labels = pd.DataFrame({"problem": problem, "method": _label_methods(rows)})
    return pd.concat([labels, rows.drop(columns=["problem", "method"], errors="ignore")], axis=1)


def _label_methods(rows: pd.DataFrame) -> pd.Series:
    """The label of each row's method: the optimizer with its fixed settings, and a schedule that is not constant.

    Steps, precision and array module follow if runs on a problem differ only in these, within one store if there is a
    column ``store``. Several batch sizes on one problem are compared like methods: all mini-batch runs of the method show
    their batch size, and its full-batch runs on that problem are marked as such.
    """
    import pandas as pd

    optimizer = _with_origin(rows["optimizer"], rows["optimizer_origin"])
    keys = list(zip(optimizer, rows["fixed"], rows["schedule"], strict=True))
    names = {key: method_name(key[0], json.loads(key[1]), key[2]) for key in set(keys)}
    method = pd.Series([names[key] for key in keys], index=rows.index, dtype=object)
    place = [rows["problem_spec"], rows["problem_origin"].fillna(""), rows["data_hash"]]

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


def _with_origin(name: pd.Series, origin: pd.Series) -> pd.Series:
    """Names, followed by where they are defined if one name belongs to several problems or optimizers."""
    several = _several(origin, [name])
    if not several.any():
        return name
    module = origin.str.rpartition(".")[0]  # the rest is the name, and a hash of code that has no name of its own
    shown = origin.mask(module.groupby(name).transform("nunique") == origin.groupby(name).transform("nunique"), module)
    return name.mask(several, name + " [" + shown + "]")


def _several(column: pd.Series, groups: list[pd.Series]) -> pd.Series:
    """Whether a column has several values in the group of each row."""
    import pandas as pd

    if column.nunique() < 2:  # saves the slow grouping
        return pd.Series(False, index=column.index)
    return column.groupby(groups).transform("nunique") > 1


def match_methods(lines: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """The label of each line's method among the rows of runs; null if no run has the same method.

    Lines, such as those of races, have the columns of a method, ``batch_size`` and ``steps``. Optimizer, fixed settings and
    schedule must agree. Among several matches, the most agreement in the other columns decides, then the largest budget.
    """
    same, further = (
        ["optimizer", "optimizer_origin", "fixed", "schedule"],
        ["batch_size", "precision", "backend", "steps"],
    )
    methods = rows[["method", *same, *further]].drop_duplicates()
    pairs = lines.reset_index()[["index", *same, *further]].merge(methods, on=same, suffixes=("", "_of_runs"))
    agreement = sum((pairs[name].fillna(0) == pairs[f"{name}_of_runs"].fillna(0)).astype(int) for name in further)
    best = pairs.assign(agreement=agreement).sort_values(["agreement", "steps_of_runs", "method"])
    return best.drop_duplicates("index", keep="last").set_index("index")["method"].reindex(lines.index)


def method_name(optimizer: str, settings: Mapping[str, Any], schedule: str = "constant") -> str:
    """The optimizer with the given settings, and its schedule unless it is constant."""
    spec = format_spec(optimizer, {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()})
    return spec if schedule == "constant" else f"{spec}, {schedule}"
