"""Comparison of several stores: two machines, a CPU and a GPU, two commits.

Convergence is deterministic, so the same method on the same problem should give the same results wherever it ran. Where
it did, it is shown once; where it did not, the methods of each store stand beside each other, with the name of their store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from optbench.analysis import metrics, tuning
from optbench.results.methods import add_labels
from optbench.results.runs import Runs

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
    names, calls = ["identity", "status"], tuning.calls_to_target
    ends = one["f_end"].to_numpy(dtype=float), other["f_end"].to_numpy(dtype=float)
    return (
        np.array_equal(one[names].to_numpy(), other[names].to_numpy())
        and np.array_equal(calls(one), calls(other), equal_nan=True)
        and np.allclose(*ends, rtol=SAME, atol=0.0, equal_nan=True)
    )


def combine_races(named: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The races of several stores as one table, with a column `store`; machines carry the name of their store."""
    frames = [races.assign(store=label, machine=races["machine"] + f" [{label}]") for label, races in named.items()]
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
    rows = runs.rows[runs.rows["method"] != runs.rows["base_method"]]
    selected = Runs(rows)
    names = rows.drop_duplicates(["problem", "method"])[["problem", "method", "base_method", "store"]]
    names = names.assign(stores=names.groupby(["problem", "base_method"])["store"].transform("size"))
    reached = metrics.decades(selected).merge(names)
    reached = reached[np.isfinite(reached["calls"].astype(float))]
    count = reached.groupby(["problem", "base_method", "target"])["store"].transform("size")
    shared = reached[count == reached["stores"]].sort_values("target").drop_duplicates(["problem", "method"])
    table = metrics.summary(selected).merge(names)
    table = table.merge(shared[["problem", "method", "target", "calls"]], how="left", on=["problem", "method"])
    table = table.sort_values(["problem", "base_method", "store"], kind="stable", ignore_index=True)
    columns = ["problem", "method", "store", "step_size", "target", "calls", "final", "runs"]
    return table.assign(method=table["base_method"])[columns]
