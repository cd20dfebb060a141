"""Summaries of runs: functions from tables to tables.

A *method* is an optimizer with its fixed settings, schedule, budget and precision; its *settings* are what was swept, and
its batch size. It is shown at its best settings on each problem (`tuned`). Runs that missed a target, diverged or failed
count as never having reached it: medians put them last, nothing drops or replaces them (but see `sensitivity`).

Seconds are the subject of `timing`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from optbench.analysis.cache import cached
from optbench.analysis.statistics import median
from optbench.analysis.tuning import (
    calls_to_target,
    final_objective,
    is_lost,
    ranked,
    setting_scores,
    target_index,
    tuned,
    tuned_rows,
)
from optbench.core.errors import InputError
from optbench.core.types import Status
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


SHOWN_TARGETS = (1e-2, 1e-4, 1e-8)  # fractions of the initial gap that tables show
DECADES = tuple(10.0**-k for k in range(1, 11))
COORDINATES = frozenset({"x_1", "x_2"})  # metrics of problems in two dimensions: the iterate itself


def summary(runs: Runs) -> pd.DataFrame:
    """One row a problem and method, at its best settings, best method first.

    Columns
    -------
    problem, method, step_size, batch_size : what was run, and the best step size; null where there is none
    calls_1e-02, calls_1e-04, calls_1e-08 : median over seeds of the oracle calls until f - f* is that fraction of its
        start; inf where half of the seeds or more did not get there, NaN where no optimum is known
    reached_1e-02, ... : how many seeds got there
    final : median of f - f* at the end where the optimum is known, else of the objective
    gap : whether `final` is a gap
    seeds : number of seeds
    diverged, failed : runs of this method, over all settings, that diverged or failed
    runs : runs of this method over all settings
    oracle : what an oracle call returns
    edge : whether the best step size is the smallest or the largest that was tried, so that a better one may lie outside
    """
    import pandas as pd

    if runs.rows.empty:
        names = [f"{kind}_{t:.0e}" for t in SHOWN_TARGETS for kind in ("calls", "reached")]
        return pd.DataFrame(
            columns=["problem", "method", "step_size", "batch_size", *names, "final", "gap", "seeds"]
            + ["diverged", "failed", "runs", "oracle", "edge"]
        )
    pair = ["problem", "method"]
    all_rows = runs.rows[[*pair, "status", "step_size"]]
    counts = all_rows.assign(**{s: all_rows["status"] == s for s in (Status.DIVERGED, Status.FAILED)}).groupby(pair)
    ends = counts["step_size"].agg(["min", "max", "nunique"])
    sums = counts[["diverged", "failed"]].sum().assign(runs=counts.size()).join(ends)
    best_settings = tuned(runs).set_index(pair)[["step_size", "batch_size"]]
    # a group is a copy of all columns that there are
    needed = tuned_rows(runs)[[*pair, "status", "f_end", "f_star", "calls_to_target", "seed", "oracle"]]
    best = dict(iter(needed.groupby(pair, sort=True)))
    lines = []
    for problem, methods in ranked(runs).items():
        for method in methods:
            rows, total = best[problem, method], sums.loc[(problem, method)]
            calls, final = calls_to_target(rows), final_objective(rows)
            size, batch_size = (best_settings[name][problem, method] for name in ("step_size", "batch_size"))
            line = {"problem": problem, "method": method, "step_size": size}
            line["batch_size"] = np.nan if pd.isna(batch_size) else int(batch_size)
            for target in SHOWN_TARGETS:
                at = calls[:, target_index(target)]
                line[f"calls_{target:.0e}"] = np.nan if np.isnan(at).any() else median(at)
                line[f"reached_{target:.0e}"] = int(np.isfinite(at).sum())
            has_gap = bool(rows["f_star"].notna().all())
            line["final"] = median(final - rows["f_star"].to_numpy(dtype=float) if has_gap else final)
            line["gap"] = has_gap
            line["seeds"] = rows["seed"].nunique()
            line |= {name: int(total[name]) for name in ("diverged", "failed", "runs")}
            line["oracle"] = next(iter(rows["oracle"].dropna()), "")
            line["edge"] = bool(total["nunique"] > 1 and size in (total["min"], total["max"]))
            lines.append(line)
    return pd.DataFrame(lines)


@cached
def sensitivity(runs: Runs) -> pd.DataFrame:
    """How sensitive a method is to its step size.

    Returns
    -------
    DataFrame
        One row a problem, method and step size (the best of the other settings that were swept with it): problem, method,
        step_size, `median`, `low`, `high` (median and quartiles over seeds, interpolated, of the smallest gap, or of the
        smallest objective where no optimum is known; a run that diverged counts with its start, one that failed has no
        value), gap, n_diverged (runs that diverged or failed), n_seeds.
    """
    import pandas as pd

    pair = ["problem", "method", "step_size"]
    scores = (
        setting_scores(runs).dropna(subset="step_size").sort_values([*pair, "hardest", "calls", "final", "settings"])
    )
    best = scores.drop_duplicates(pair)[["problem", "method", "settings"]]
    rows = runs.rows.merge(best, on=["problem", "method", "settings"])
    lost = is_lost(rows)
    value = rows["f_best"].where(~lost, rows["f_start"]).to_numpy(dtype=float)
    known = rows["f_star"].notna().groupby([rows[name] for name in pair]).transform("all").to_numpy(dtype=bool)
    value = value - np.where(known, rows["f_star"].to_numpy(dtype=float), 0.0)
    value = np.where(np.isfinite(value), value, np.nan)
    table = rows[pair].assign(value=value, gap=known, lost=lost)
    groups = table.groupby(pair, sort=True)
    names = [*pair, "median", "low", "high", "gap", "n_diverged", "n_seeds"]
    if rows.empty:
        return table.reindex(columns=names)
    quartiles = {name: groups["value"].quantile(q) for name, q in (("low", 0.25), ("median", 0.5), ("high", 0.75))}
    result = pd.DataFrame(quartiles).assign(
        gap=groups["gap"].first(), n_diverged=groups["lost"].sum(), n_seeds=groups.size()
    )
    return result.reset_index()[names]


@cached
def bands(runs: Runs, value: str = "best") -> pd.DataFrame:
    """Median and quartiles over seeds of the curves, at the best settings of every method.

    Curves of the objective are gaps f - f* where the optimum is known. A run that reached the last target keeps its last
    value. One that diverged keeps its best value, but its last iterate counts as the worst possible from then on: infinite,
    or minus infinity for metrics of which higher values are better; NaN for metrics without a direction.

    Parameters
    ----------
    value : str
        "best", the smallest objective so far; of the last iterate "f", the objective, "gradient_norm" (the last that was
        computed), or a name that `quantities` returns. Problems without the quantity have no rows.

    Returns
    -------
    DataFrame
        problem, method, t, calls, median, low, high, gap (whether the curve is a gap), n_seeds. Of an even number of seeds
        the median is the worse of the middle two, as in the tables; NaN is what was not computed.

    Raises
    ------
    InputError
        If no problem has the quantity.
    """
    import pandas as pd

    columns = ["problem", "method", "t", "calls", "median", "low", "high", "gap", "n_seeds"]
    further = quantities(runs)
    if value not in (known := [*_OBJECTIVES, "gradient_norm", *further]):
        raise InputError(f"no curve {value!r} in these results; there are {', '.join(known)}")
    rows = tuned_rows(runs)
    rows = rows[rows["status"] != Status.FAILED]
    if value in rows:
        curves = list(rows[value])
    else:
        curves = [dict(pairs).get(value) for pairs in rows["metrics"]]
        rows = rows[[curve is not None for curve in curves]]
        curves = [curve for curve in curves if curve is not None]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    checkpoints = list(rows["t"])
    diverged = (rows["status"] == Status.DIVERGED).to_numpy() & (value != "best")
    end, star = rows["end"].to_numpy(dtype=float), rows["f_star"].to_numpy(dtype=float)
    checkpoint_calls = list(rows["checkpoint_calls"])
    parts: list[tuple[np.ndarray, ...]] = []
    names: list[tuple[str, str]] = []
    for name, members in rows.reset_index(drop=True).groupby(["problem", "method"], sort=True).indices.items():
        # (C,), (C,), (C, S)
        t, calls, wide = _align(*([column[i] for i in members] for column in (checkpoints, checkpoint_calls, curves)))
        if value == "gradient_norm":
            # the gradient of the last iterate of a run is not computed
            known_at = np.where(np.isnan(wide), 0, np.arange(len(t))[:, None])
            wide = np.take_along_axis(wide, np.maximum.accumulate(known_at, axis=0), axis=0)
        better = metric_directions(runs).get(name[0], {}).get(value) if value in further else "lower"
        sign = -1.0 if better == "higher" else 1.0  # the better, the smaller
        wide *= sign
        wide[(t[:, None] >= end[members]) & diverged[members]] = np.inf if better else np.nan
        has_gap = value in _OBJECTIVES and bool(np.isfinite(star[members]).all())
        wide -= star[members] if has_gap else 0.0
        wide.sort(axis=1)  # infinite values last, and those that were not computed behind them
        count = len(members)
        at = [count // 2, *(round(q * (count - 1)) for q in ((0.25, 0.75) if sign > 0 else (0.75, 0.25)))]
        median, low, high = sign * wide[:, at].T
        size = np.full(len(t), count)
        parts.append((t, calls, median, low, high, np.full(len(t), has_gap), size))
        names.append(name)
    lengths = [len(part[0]) for part in parts]
    problem, method = (np.repeat(np.array(column, dtype=object), lengths) for column in zip(*names, strict=True))
    numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pd.DataFrame(dict(zip(columns, (problem, method, *numbers), strict=True)))


_OBJECTIVES = ("best", "f")


@cached
def quantities(runs: Runs) -> list[str]:
    """The metrics of all problems, such as test accuracies, but not coordinates; sorted."""
    rows = runs.rows[runs.rows["status"] != Status.FAILED].drop_duplicates("problem")
    named = {name for pairs in rows["metrics"] for name, _ in pairs}
    return sorted(named - COORDINATES)


@cached
def metric_directions(runs: Runs) -> dict[str, dict[str, str | None]]:
    """Which values of a metric are better, "lower" or "higher", by problem and metric, as the problems declare it.

    None, or a missing entry, means that a metric is not judged.
    """
    rows = runs.rows.reindex(columns=["problem", "description"]).dropna().drop_duplicates("problem")
    metrics = {problem: json.loads(text).get("metrics", ()) for problem, text in rows.itertuples(index=False)}
    return {problem: {m["name"]: m["better"] for m in declared} for problem, declared in metrics.items()}


def _align(
    checkpoints: list[np.ndarray], calls: list[np.ndarray], curves: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, oracle calls and values of S runs at the C checkpoints of all of them, shapes (C,), (C,) and (C, S).

    Between its own checkpoints, where another run ended, a run has the value it had last.
    """
    first = np.asarray(checkpoints[0])
    if all(len(t) == len(first) and np.array_equal(t, first) for t in checkpoints[1:]):
        return first, np.asarray(calls[0]), np.array(curves, dtype=float).T.copy()
    t, position = np.unique(np.concatenate(checkpoints), return_index=True)
    wide = np.empty((len(t), len(curves)))
    for i, (own, curve) in enumerate(zip(checkpoints, curves, strict=True)):
        wide[:, i] = np.asarray(curve, dtype=float)[np.searchsorted(own, t, side="right") - 1]
    return t, np.concatenate(calls)[position], wide


@cached
def decades(runs: Runs) -> pd.DataFrame:
    """Oracle calls to every power of ten of the initial gap, at the best settings of every method.

    Returns
    -------
    DataFrame
        One row a problem with a known optimum, method and target 1e-1 ... 1e-10, best method first: problem, method,
        target, calls (median over seeds; inf where half of them or more missed), reached, seeds, censored (median of the
        oracle calls that the runs which missed had made when they ended; NaN where none missed).
    """
    import pandas as pd

    columns = ["problem", "method", "target", "calls", "reached", "seeds", "censored"]
    needed = tuned_rows(runs)[["problem", "method", "f_star", "calls_to_target", "calls"]]
    best = dict(iter(needed.groupby(["problem", "method"], sort=True)))
    lines = []
    for problem, methods in ranked(runs).items():
        for method in methods:
            rows = best[problem, method]
            if not rows["f_star"].notna().all():
                continue
            calls, spent = calls_to_target(rows), rows["calls"].to_numpy(dtype=float)
            for target in DECADES:
                at = calls[:, target_index(target)]
                missed = np.isinf(at)
                censored = median(spent[missed & np.isfinite(spent)])
                lines.append((problem, method, target, median(at), int((~missed).sum()), len(rows), censored))
    return pd.DataFrame(lines, columns=columns)


@cached
def learned(runs: Runs) -> pd.DataFrame:
    """The metrics of problems (`Problem.metrics`: accuracies, validation and test losses) where the runs ended.

    At the best settings of every method, which were chosen by the objective alone. A run that diverged or failed counts as
    having the worst value: infinity, or minus infinity where higher values are better. Metrics without a direction are
    left out.

    Returns
    -------
    DataFrame
        One row a problem, method and metric: problem, method, metric, median, low, high (quartiles over seeds), n_seeds.
    """
    import pandas as pd

    columns = ["problem", "method", "metric", "median", "low", "high", "n_seeds"]
    ran = runs.rows[runs.rows["status"] != Status.FAILED].drop_duplicates("problem").set_index("problem")["metrics"]
    lines = []
    judged = {
        problem: {name: better for name, better in sorted(directions.items()) if better and name in dict(ran[problem])}
        for problem, directions in metric_directions(runs).items()
        if problem in ran
    }
    needed = tuned_rows(runs)[["problem", "method", "status", "metrics"]]
    for (problem, method), group in needed.groupby(["problem", "method"], sort=True):
        ends = [{} if lost else dict(pairs) for pairs, lost in zip(group["metrics"], is_lost(group), strict=True)]
        for name, better in judged.get(problem, {}).items():
            worst = -np.inf if better == "higher" else np.inf
            finite = [[value for value in metrics.get(name, ()) if np.isfinite(value)] for metrics in ends]
            values = np.sort([values[-1] if values else worst for values in finite])
            low, high = (values[round(q * (len(values) - 1))] for q in (0.25, 0.75))
            # the worse of the middle two
            middle = values[len(values) // 2 if worst > 0 else (len(values) - 1) // 2]
            lines.append((problem, method, name, middle, low, high, len(values)))
    return pd.DataFrame(lines, columns=columns)
