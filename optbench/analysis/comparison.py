"""Comparison of several stores: two machines, a CPU and a GPU, two commits.

Convergence is deterministic, so a method should have the same results on a problem in every store, and is then shown once.
If results differ, the method is shown once for each store, with the name of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from optbench.analysis import metrics, validity
from optbench.results.methods import add_labels
from optbench.results.runs import Runs

SAME = 1e-6  # largest relative difference of final objectives that count as equal


def store_labels(paths: Sequence[str | Path]) -> list[str]:
    """Short unique names of folders: their last parts, as many as needed."""
    parts = [Path(path).resolve().parts for path in paths]
    count = 1
    while len({part[-count:] for part in parts}) < len(set(parts)) and count < max(map(len, parts)):
        count += 1
    return ["/".join(part[-count:]) for part in parts]


def combine_stores(named: Mapping[str, Runs]) -> Runs:
    """The runs of several stores as one.

    A method with equal results in all of its stores keeps its name and appears once. Results are equal if the settings,
    seeds, statuses and calls to all targets are, and final objectives differ by at most 1e-6 relatively. Otherwise there is
    one method for each store, such as "adam [laptop]" and "adam [server]".

    Parameters
    ----------
    named : mapping of str to Runs
        The runs by name of their store.

    Returns
    -------
    Runs
        Its rows have two more columns: `store` (null if several stores have equal results) and `base_method` (the label of
        the method without its store). Its environments name their stores.
    """
    frames = [runs.rows.assign(store=label) for label, runs in named.items() if len(runs.rows)]
    environments = [{"store": label, **env} for label, runs in named.items() for env in runs.environments]
    if not frames:
        return Runs(next(iter(named.values())).rows.assign(store=None, base_method=None), environments)
    rows = add_labels(pd.concat(frames, ignore_index=True))
    rows["base_method"] = rows["method"]
    drop: list[int] = []
    for _, group in rows.groupby(["problem", "method"]):
        first, *others = (part.sort_values("identity") for _, part in group.groupby("store", sort=False))
        if others and all(_same(first, other) for other in others):
            drop += [index for other in others for index in other.index]
            rows.loc[first.index, "store"] = None
        elif others:
            rows.loc[group.index, "method"] = group["method"] + " [" + group["store"] + "]"
    return Runs(rows.drop(index=drop).reset_index(drop=True), environments)


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    names, calls = ["identity", "status"], validity.calls_to_target
    ends = one["f_end"].to_numpy(dtype=float), other["f_end"].to_numpy(dtype=float)
    return (
        np.array_equal(one[names].to_numpy(), other[names].to_numpy())
        and np.array_equal(calls(one), calls(other), equal_nan=True)
        and np.allclose(*ends, rtol=SAME, atol=0.0, equal_nan=True)
    )


def combine_races(named: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The races of several stores as one table with a column `store`; names of machines include the store."""
    frames = [races.assign(store=label, machine=races["machine"] + f" [{label}]") for label, races in named.items()]
    return pd.concat(frames, ignore_index=True)


def store_differences(runs: Runs) -> pd.DataFrame:
    """The methods whose results differ between stores.

    Parameters
    ----------
    runs : Runs
        A result of `combine_stores`.

    Returns
    -------
    DataFrame
        One row for each problem, differing method and store: problem, method (without its store), store, step_size, target
        (the hardest power of ten that the medians of all stores reach; NaN if there is none), calls (to that target), final
        (gap or objective at the end), runs.
    """
    rows = runs.rows[runs.rows["method"] != runs.rows["base_method"]]
    selected = Runs(rows)
    names = rows.drop_duplicates(["problem", "method"])[["problem", "method", "base_method", "store"]]
    names = names.assign(stores=names.groupby(["problem", "base_method"])["store"].transform("size"))
    reached = metrics.calls_by_target(selected).merge(names)
    reached = reached[np.isfinite(reached["calls"].astype(float))]
    count = reached.groupby(["problem", "base_method", "target"])["store"].transform("size")
    shared = reached[count == reached["stores"]].sort_values("target").drop_duplicates(["problem", "method"])
    table = metrics.summary(selected).merge(names)
    table = table.merge(shared[["problem", "method", "target", "calls"]], how="left", on=["problem", "method"])
    table = table.sort_values(["problem", "base_method", "store"], kind="stable", ignore_index=True)
    columns = ["problem", "method", "store", "step_size", "target", "calls", "final", "runs"]
    return table.assign(method=table["base_method"])[columns]
