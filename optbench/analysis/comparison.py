"""Comparison of several stores: two machines, a CPU and a GPU, two commits.

Convergence is deterministic, so the same method on the same problem should give the same results wherever it ran. Where
it did, it is shown once; where it did not, the methods of each store stand beside each other, with the name of their store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optbench.analysis import metrics, tuning
from optbench.results.methods import add_labels
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


SAME = 1e-6  # relative difference of final objectives up to which results are the same


def store_labels(paths: Sequence[str | Path]) -> list[str]:
    """Short names of folders: their last parts, with as many parts before them as make them unique."""
    parts = [Path(path).resolve().parts for path in paths]
    count = 1
    while len({part[-count:] for part in parts}) < len(set(parts)) and count < max(map(len, parts)):
        count += 1
    return ["/".join(part[-count:]) for part in parts]


def combine_stores(named: Mapping[str, Runs]) -> Runs:
    """The runs of several stores as one.

    A method that ran in one store alone, or in several with the same results (the same settings and seeds, and for each of
    them the same status, the same oracle calls to every target, and final objectives within a relative 1e-6), keeps its
    name and appears once. Others become one method for each store, "adam [laptop]" and "adam [server]".

    Parameters
    ----------
    named : mapping of str to Runs
        The runs by the name of their store.

    Returns
    -------
    Runs
        Its rows have two more columns: `store` (null where the results of several stores are the same) and `base_method`,
        the label of the method without its store. Its environments name their stores.
    """
    import pandas as pd

    frames = [runs.rows.assign(store=label) for label, runs in named.items() if len(runs.rows)]
    environments = [{"store": label, **env} for label, runs in named.items() for env in runs.environments]
    if not frames:
        return Runs(next(iter(named.values())).rows.assign(store=None, base_method=None), environments)
    rows = add_labels(pd.concat(frames, ignore_index=True))
    rows["base_method"] = rows["method"]
    drop: list[int] = []
    for _, group in rows.groupby(["problem", "method"], sort=True):
        first, *others = (part.sort_values("identity") for _, part in group.groupby("store", sort=False))
        if not others:
            continue
        if all(_same(first, other) for other in others):
            drop += [index for other in others for index in other.index]
            rows.loc[first.index, "store"] = None
        else:
            rows.loc[group.index, "method"] = group["method"] + " [" + group["store"] + "]"
    return Runs(rows.drop(index=drop).reset_index(drop=True), environments)


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    if len(one) != len(other):
        return False
    if any((one[name].to_numpy() != other[name].to_numpy()).any() for name in ("identity", "status")):
        return False
    ends = one["f_end"].to_numpy(dtype=float), other["f_end"].to_numpy(dtype=float)
    return np.array_equal(tuning.calls_to_target(one), tuning.calls_to_target(other), equal_nan=True) and np.allclose(
        *ends, rtol=SAME, atol=0.0, equal_nan=True
    )


def combine_races(named: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The races of several stores as one table, with a column `store`; machines carry the name of their store."""
    import pandas as pd

    frames = [
        races.assign(store=label, machine=[f"{machine} [{label}]" for machine in races["machine"]])
        for label, races in named.items()
    ]
    return pd.concat(frames, ignore_index=True)


def store_differences(runs: Runs) -> pd.DataFrame:
    """Where the stores differ, method by method.

    Parameters
    ----------
    runs : Runs
        As `combine_stores` returns them.

    Returns
    -------
    DataFrame
        One row a problem, method (without its store) and store, for methods whose results differ: problem, method, store,
        step_size, target (the hardest power of ten that all stores reach in the median; NaN if there is none), calls (to
        that target), final (gap or objective at the end), runs.
    """
    import pandas as pd

    columns = ["problem", "method", "store", "step_size", "target", "calls", "final", "runs"]
    differing = runs.rows[runs.rows["method"] != runs.rows["base_method"]]
    if differing.empty:
        return pd.DataFrame(columns=columns)
    selected = Runs(differing)
    names = differing.drop_duplicates(["problem", "method"])[["problem", "method", "base_method", "store"]]
    table = metrics.summary(selected).merge(names, on=["problem", "method"])
    reached = metrics.decades(selected).pivot_table(index=["problem", "method"], columns="target", values="calls")
    lines = []
    for (problem, method), group in table.groupby(["problem", "base_method"], sort=True):
        known = [key for key in zip(group["problem"], group["method"], strict=True) if key in reached.index]
        calls = reached.loc[known].sort_index(axis=1) if len(known) == len(group) else reached.iloc[:0]
        shared = [t for t in calls.columns if np.isfinite(calls[t].to_numpy(dtype=float)).all()] if len(calls) else []
        for line in group.sort_values("store", kind="stable").to_dict("records"):
            target = shared[0] if shared else np.nan
            count = calls.loc[(problem, line["method"]), target] if shared else np.nan
            lines.append(
                (problem, method, line["store"], line["step_size"], target, count, line["final"], line["runs"])
            )
    return pd.DataFrame(lines, columns=columns)
