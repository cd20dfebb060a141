"""Summaries of runs as tables.

A *method* is an optimizer with fixed settings, schedule, budget and precision. Its *settings* are its swept hyperparameters
and the batch size. Results are those of the best settings on each problem (`tuned`). Runs that miss a target, diverge or
fail need infinitely many calls, so medians put them last; they are never dropped. `sensitivity` has its own rule.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis.statistics import group_medians
from optbench.analysis.tuning import (
    BEST_FIRST,
    PAIR,
    cached,
    final_objective,
    is_lost,
    setting_scores,
    target_index,
    tuned,
    tuned_rows,
)
from optbench.analysis.validity import calls_to_target, judged
from optbench.core.errors import InputError
from optbench.core.types import Status
from optbench.results.runs import Runs

SHOWN_TARGETS = (1e-2, 1e-4, 1e-8)  # fractions of the initial gap that tables show
DECADES = tuple(10.0**-k for k in range(1, 11))
COORDINATES = frozenset({"x_1", "x_2"})  # metrics that are the iterate of a two-dimensional problem
_WORST = {"lower": np.inf, "higher": -np.inf, None: np.nan}  # worst value of a metric, by its direction


def summary(runs: Runs) -> pd.DataFrame:
    """One row for each problem and method, at its best settings, best method first.

    Columns
    -------
    problem, method, step_size, batch_size : the method and its best step size; null if it has none
    calls_1e-02, calls_1e-04, calls_1e-08 : median over seeds of the oracle calls until f - f* is this fraction of its
        initial value; inf if at least half of the seeds missed the target, NaN if it does not count
    reached_1e-02, ... : number of seeds that reached the target
    final : median of f - f* at the end; of f if no optimum is known
    gap : whether `final` is a gap
    seeds : number of seeds
    diverged, failed, invalid : number of runs that diverged, failed or contradict their problem, over all settings
    runs : number of runs, over all settings
    oracle : what an oracle call returns
    edge : whether the best step size is the smallest or the largest of the grid, so that a better one may lie outside
    """
    rows, best = tuned_rows(runs), tuned(runs)  # both sorted by problem and method
    pairs, group = rows.groupby(PAIR), rows.groupby(PAIR).ngroup().to_numpy(int)
    calls, star = calls_to_target(rows), rows["f_star"].to_numpy(dtype=float)
    gap = np.bincount(group, np.isnan(star)) == 0
    table = best[[*PAIR, "step_size", "batch_size"]].astype({"batch_size": float})
    for target in SHOWN_TARGETS:
        at = calls[:, target_index(target)]
        table[f"calls_{target:.0e}"] = np.where(gap, group_medians(at, group), np.nan)
        table[f"reached_{target:.0e}"] = np.bincount(group, np.isfinite(at)).astype(int)
    table["final"] = group_medians(final_objective(rows) - np.where(gap[group], star, 0.0), group)
    table["gap"], table["seeds"] = gap, pairs["seed"].nunique().to_numpy()
    lost = {status: runs.rows["status"] == status for status in (Status.DIVERGED, Status.FAILED, Status.INVALID)}
    all_runs = runs.rows.assign(**lost).groupby(PAIR)
    table[[*map(str, lost)]] = all_runs[[*lost]].sum().to_numpy()
    table["runs"], table["oracle"] = all_runs.size().to_numpy(), pairs["oracle"].first().fillna("").to_numpy()
    tried = all_runs["step_size"].agg(["min", "max", "nunique"]).reset_index()
    at_end = (table["step_size"] == tried["min"]) | (table["step_size"] == tried["max"])
    table["edge"] = (tried["nunique"] > 1) & at_end
    return table.loc[best.sort_values(BEST_FIRST).index].reset_index(drop=True)


@cached
def sensitivity(runs: Runs) -> pd.DataFrame:
    """Sensitivity of the methods to their step sizes.

    A run that diverged counts with its initial gap; a run that failed has no value.

    Returns
    -------
    DataFrame
        One row for each problem, method and step size, at the best other settings: problem, method, step_size, `median`,
        `low`, `high` (interpolated median and quartiles over seeds of the smallest gap, or of the smallest objective if no
        optimum is known), gap (whether they are gaps), n_diverged (runs that diverged or failed), n_seeds.
    """
    pair = [*PAIR, "step_size"]
    best = setting_scores(runs).dropna(subset="step_size").drop_duplicates(pair)  # the best setting comes first
    rows = judged(runs).rows.merge(best[[*PAIR, "settings"]])
    lost = is_lost(rows)
    known = rows["f_star"].notna().groupby([rows[name] for name in pair]).transform("all").to_numpy(dtype=bool)
    value = rows["f_best"].where(~lost, rows["f_start"]).to_numpy(dtype=float)
    value = value - np.where(known, rows["f_star"].to_numpy(dtype=float), 0.0)
    value = np.where(np.isfinite(value), value, np.nan)
    groups = rows[pair].assign(value=value, gap=known, lost=lost).groupby(pair)
    quartiles = {name: groups["value"].quantile(q) for name, q in (("median", 0.5), ("low", 0.25), ("high", 0.75))}
    further = {"gap": groups["gap"].first(), "n_diverged": groups["lost"].sum(), "n_seeds": groups.size()}
    return pd.DataFrame(quartiles | further).reset_index()


@cached
def bands(runs: Runs, value: str = "best") -> pd.DataFrame:
    """Median and quartiles over seeds of the curves, at the best settings of every method.

    Curves of the objective are gaps f - f* if the optimum is known. After its end a run keeps its last value. A run that
    diverged keeps its best objective; all other curves have the worst value from then on: inf, -inf for metrics with
    better="higher", NaN for metrics without a direction.

    Parameters
    ----------
    value : str
        "best" (the smallest objective so far), "f" (the objective), "gradient_norm", or one of `metric_names`. Problems
        without these values have no rows.

    Returns
    -------
    DataFrame
        problem, method, t, calls, median, low, high, gap (whether the curve is a gap), n_seeds. With an even number of
        seeds the median is the worse of the middle two, as in the tables. NaN stands for values that were not computed.

    Raises
    ------
    InputError
        If no problem has these values.
    """
    further, objectives = metric_names(runs), ("best", "f")
    if value not in (known := [*objectives, "gradient_norm", *further]):
        raise InputError(f"these results have no curve {value!r}; choose one of {', '.join(known)}")
    rows = tuned_rows(runs)
    rows = rows[rows["status"] != Status.FAILED]
    rows = rows.assign(curve=rows[value] if value in rows else [dict(pairs).get(value) for pairs in rows["metrics"]])
    rows = rows.dropna(subset="curve", ignore_index=True)
    diverged = (rows["status"] == Status.DIVERGED).to_numpy() & (value != "best")
    end, star = rows["end"].to_numpy(dtype=float), rows["f_star"].to_numpy(dtype=float)
    columns = [list(rows[name]) for name in ("t", "checkpoint_calls", "curve")]
    parts: list[tuple[Any, ...]] = []
    for (problem, method), members in rows.groupby(PAIR).indices.items():
        t, calls, wide = _align(*([column[i] for i in members] for column in columns))  # (C,), (C,), (C, S)
        if value == "gradient_norm":
            # the gradient at the last iterate of a run is not computed
            known_at = np.where(np.isnan(wide), 0, np.arange(len(t))[:, None])
            wide = np.take_along_axis(wide, np.maximum.accumulate(known_at, axis=0), axis=0)
        better = metric_directions(runs).get(problem, {}).get(value) if value in further else "lower"
        wide[(t[:, None] >= end[members]) & diverged[members]] = _WORST[better]
        has_gap = value in objectives and bool(np.isfinite(star[members]).all())
        wide -= star[members] if has_gap else 0.0
        parts.append((problem, method, t, calls, *_quartiles(wide, better).T, has_gap, len(members)))
    names = ["problem", "method", "t", "calls", "median", "low", "high", "gap", "n_seeds"]
    lengths = [len(part[2]) for part in parts]
    table = {
        name: np.concatenate(values) if np.ndim(values[0]) else np.repeat(values, lengths)
        for name, values in zip(names, zip(*parts, strict=True), strict=bool(parts))
    }
    return pd.DataFrame(table, columns=names)


def _quartiles(values: np.ndarray, better: str | None) -> np.ndarray:
    """Median (the worse of the middle two) and quartiles of values (..., S), as (..., 3); NaN comes last."""
    sign = -1.0 if better == "higher" else 1.0
    ordered, count = np.sort(sign * values, axis=-1), values.shape[-1]  # better values first
    low, high = (round(q * (count - 1)) for q in ((0.25, 0.75) if sign > 0 else (0.75, 0.25)))
    quartiles: np.ndarray = sign * ordered[..., [count // 2, low, high]]
    return quartiles


@cached
def metric_names(runs: Runs) -> list[str]:
    """The sorted names of the metrics of all problems, such as test accuracies, without coordinates."""
    rows = runs.rows[runs.rows["status"] != Status.FAILED].drop_duplicates("problem")
    return sorted({name for pairs in rows["metrics"] for name, _ in pairs} - COORDINATES)


@cached
def metric_directions(runs: Runs) -> dict[str, dict[str, str | None]]:
    """Which values are better, "lower" or "higher", by problem and metric; None or missing if neither is."""
    rows = runs.rows.reindex(columns=["problem", "description"]).dropna().drop_duplicates("problem")
    metrics = {problem: json.loads(text).get("metrics", ()) for problem, text in rows.itertuples(index=False)}
    return {problem: {m["name"]: m["better"] for m in declared} for problem, declared in metrics.items()}


def _align(
    checkpoints: list[np.ndarray], calls: list[np.ndarray], curves: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (C,), oracle calls (C,) and values (C, S) of S runs at all of their checkpoints.

    At a checkpoint of other runs, a run has its last recorded value.
    """
    first = np.asarray(checkpoints[0])
    if all(np.array_equal(t, first) for t in checkpoints[1:]):
        return first, np.asarray(calls[0]), np.array(curves, dtype=float).T.copy()
    t, position = np.unique(np.concatenate(checkpoints), return_index=True)
    last = [np.searchsorted(recorded, t, side="right") - 1 for recorded in checkpoints]
    wide = np.stack([np.asarray(curve, dtype=float)[at] for curve, at in zip(curves, last, strict=True)], axis=1)
    return t, np.concatenate(calls)[position], wide


@cached
def calls_by_target(runs: Runs) -> pd.DataFrame:
    """Oracle calls to the targets 1e-1, 1e-2, ..., 1e-10, at the best settings of every method.

    Returns
    -------
    DataFrame
        One row for each problem with a known optimum, method and target that counts, best method first: problem, method,
        target, calls (median over seeds; inf if at least half of them missed it), reached, seeds, censored (median of all
        oracle calls of the runs that missed the target; NaN if none did).
    """
    rows = tuned_rows(runs)
    rows = rows[rows["f_star"].notna().groupby([rows[name] for name in PAIR]).transform("all").astype(bool)]
    group, calls = rows.groupby(PAIR).ngroup().to_numpy(int), calls_to_target(rows)
    spent = rows["calls"].to_numpy(float)
    pairs = rows.groupby(PAIR).size().reset_index(name="seeds")
    parts = []
    for target in DECADES:
        at = calls[:, target_index(target)]
        missed = np.isinf(at)
        figures = {"calls": group_medians(at, group), "reached": np.bincount(group, np.isfinite(at)).astype(int)}
        censored = group_medians(np.where(missed & np.isfinite(spent), spent, np.nan), group)
        parts.append(pairs.assign(target=target, censored=censored, **figures).dropna(subset="calls"))
    table = tuned(runs).sort_values(BEST_FIRST)[PAIR].merge(pd.concat(parts))
    return table[[*PAIR, "target", "calls", "reached", "seeds", "censored"]]


@cached
def final_metrics(runs: Runs) -> pd.DataFrame:
    """The metrics of problems (`Problem.metrics`, such as accuracies and test losses) at the ends of the runs.

    They are those of the best settings of every method, which the objective alone selects. A run that diverged or failed
    counts with the worst value: inf, or -inf if higher values are better. Metrics without a direction are left out.

    Returns
    -------
    DataFrame
        One row for each problem, method and metric: problem, method, metric, median, low, high (quartiles over seeds),
        n_seeds.
    """
    ran = runs.rows[runs.rows["status"] != Status.FAILED].drop_duplicates("problem").set_index("problem")["metrics"]
    measured = {problem: dict(pairs) for problem, pairs in ran.items()}
    lines = []
    rows = tuned_rows(runs)[[*PAIR, "status", "metrics"]]
    for (problem, method), group in rows.groupby(PAIR):
        ends = [{} if lost else dict(pairs) for pairs, lost in zip(group["metrics"], is_lost(group), strict=True)]
        for name, better in sorted(metric_directions(runs).get(problem, {}).items()):
            if better and name in measured.get(problem, {}):
                finite = [[value for value in metrics.get(name, ()) if np.isfinite(value)] for metrics in ends]
                values = np.array([values[-1] if values else _WORST[better] for values in finite])
                lines.append((problem, method, name, *_quartiles(values, better), len(values)))
    return pd.DataFrame(lines, columns=[*PAIR, "metric", "median", "low", "high", "n_seeds"])
