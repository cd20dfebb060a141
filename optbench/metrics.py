"""Figures of merit: functions from tables to tables.

A *method* is an optimizer with its fixed settings, schedule and batch size; its *settings* are what was swept. A method is
tuned by choosing, on each problem, the settings that `tuned` describes. Runs that missed a target, diverged or failed count
as never having reached it: medians put them last, nothing drops or replaces them.

What is made of seconds is in `seconds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optbench.record import TARGETS as TARGETS  # reports knows the targets from here
from optbench.results import Runs

if TYPE_CHECKING:
    import pandas as pd

SHOWN_TARGETS = (1e-2, 1e-4, 1e-8)  # fractions of the initial gap that tables show


def target_index(target: float) -> int:
    """Position of a target among the 50 that are recorded."""
    return int(np.argmin(np.abs(np.log10(TARGETS) - np.log10(target))))


def hits(rows: pd.DataFrame) -> np.ndarray:
    """Oracle calls to each target, shape (rows, 50); inf where it was never reached, NaN where no optimum is known."""
    missing = np.full(len(TARGETS), np.inf)
    unknown = np.full(len(TARGETS), np.nan)
    return np.array(
        [
            np.asarray(h, dtype=float) if h is not None else unknown if np.isnan(star) else missing
            for h, star in zip(rows["hits"], rows["f_star"], strict=True)
        ]
    ).reshape(len(rows), len(TARGETS))


def score(rows: pd.DataFrame) -> tuple[float, float, float]:
    """How good one setting of a method is, from the runs of its seeds; smaller is better.

    First how deep it gets: the hardest of the 50 targets that more than half of the seeds reach. Then how soon: the median
    of the oracle calls to that target. Then the median of the final objective, which decides where no optimum is known.
    """
    return _score(hits(rows), _final(rows))


def _score(calls: np.ndarray, final: np.ndarray) -> tuple[float, float, float]:
    """`score` from the calls to the targets, shape (S, 50), and the final objectives, shape (S,)."""
    reached = np.isfinite(calls).mean(axis=0) > 0.5
    deepest = int(np.flatnonzero(reached)[-1]) if reached.any() else -1
    soon = median(calls[:, deepest]) if deepest >= 0 else np.inf
    return -float(deepest), soon, median(final)


def _best_settings(rows: pd.DataFrame) -> tuple[str, np.ndarray]:
    """The settings with the smallest `score` among the rows of one method on one problem, and where their rows are."""
    first = rows["settings"].iloc[0]
    if (rows["settings"] == first).all():
        return first, np.arange(len(rows))
    calls, final = hits(rows), _final(rows)
    where = rows.groupby("settings", sort=True).indices
    best = min(sorted(where), key=lambda text: _score(calls[where[text]], final[where[text]]))
    return best, where[best]


def tuned(runs: Runs) -> pd.DataFrame:
    """The best settings of every method on every problem.

    Settings are compared by `score` over their seeds. They are chosen on the same seeds as are shown, and every method is
    given the settings it was swept over, no more: a method with a finer grid has an advantage, which the number of settings
    in the table tells.

    Returns
    -------
    DataFrame
        One row a problem and method: problem, method, settings (JSON), step_size, n_settings.
    """
    import pandas as pd

    chosen = []
    for (problem, method), group in runs.rows.groupby(["problem", "method"], sort=True):
        best, where = _best_settings(group)
        chosen.append((problem, method, best, group["step_size"].iloc[where[0]], group["settings"].nunique()))
    return pd.DataFrame(chosen, columns=["problem", "method", "settings", "step_size", "n_settings"])


def tuned_rows(runs: Runs) -> pd.DataFrame:
    """The stored rows of the best settings only."""
    return runs.rows.merge(tuned(runs)[["problem", "method", "settings"]], on=["problem", "method", "settings"])


def summary(runs: Runs) -> pd.DataFrame:
    """One row a problem and method, at its best settings, best method first.

    Columns
    -------
    problem, method, step_size : what was run, and the best step size (null where there is none)
    calls_1e-02, calls_1e-04, calls_1e-08 : median over seeds of the oracle calls until f - f* is that fraction of its
        start; inf where half of the seeds or more did not get there, NaN where no optimum is known
    reached_1e-02, ... : how many seeds got there
    final : median of f - f* at the end where the optimum is known, else of the objective
    gap : whether `final` is a gap
    seeds : number of seeds
    diverged, failed : runs of this method, over all settings, that diverged or failed
    runs : runs of this method over all settings
    oracle : what a call asks for
    edge : whether the best step size is the smallest or the largest that was tried, so that a better one may lie outside
    """
    import pandas as pd

    if runs.rows.empty:
        names = [f"{kind}_{t:.0e}" for t in SHOWN_TARGETS for kind in ("calls", "reached")]
        return pd.DataFrame(
            columns=["problem", "method", "step_size", *names, "final", "gap", "seeds"]
            + ["diverged", "failed", "runs", "oracle", "edge"]
        )
    best = {(p, m): (s, h) for p, m, s, h, _ in tuned(runs).itertuples(index=False)}
    lines = []
    for (problem, method), group in runs.rows.groupby(["problem", "method"], sort=True):
        text, step_size = best[problem, method]
        rows = group[group["settings"] == text]
        calls = hits(rows)
        line = {"problem": problem, "method": method, "step_size": step_size}
        for target in SHOWN_TARGETS:
            at = calls[:, target_index(target)]
            line[f"calls_{target:.0e}"] = np.nan if np.isnan(at).any() else median(at)
            line[f"reached_{target:.0e}"] = int(np.isfinite(at).sum())
        has_gap = bool(rows["f_star"].notna().all())
        final = _final(rows)
        line["final"] = median(final - rows["f_star"].to_numpy(dtype=float) if has_gap else final)
        line["gap"] = has_gap
        line["seeds"] = rows["seed"].nunique()
        line["diverged"] = int((group["status"] == "diverged").sum())
        line["failed"] = int((group["status"] == "failed").sum())
        line["runs"] = len(group)
        line["oracle"] = next(iter(rows["oracle"].dropna()), "")
        tried = np.unique(group["step_size"].dropna())
        line["edge"] = len(tried) > 1 and step_size in (tried[0], tried[-1])
        lines.append(((problem, score(rows), method), line))
    return pd.DataFrame([line for _, line in sorted(lines, key=lambda pair: pair[0])])


def sensitivity(runs: Runs) -> pd.DataFrame:
    """How touchy a method is to its step size.

    Returns
    -------
    DataFrame
        One row a problem, method and step size (the best of the other settings that were swept with it): problem, method,
        step_size, `median`, `low`, `high` (median and quartiles over seeds of the smallest gap, or of the smallest
        objective where no optimum is known; a run that diverged counts with its start), gap, n_diverged, n_seeds.
    """
    import pandas as pd

    lines = []
    rows = runs.rows[runs.rows["step_size"].notna()]
    for (problem, method, size), group in rows.groupby(["problem", "method", "step_size"], sort=True):
        part = group.iloc[_best_settings(group)[1]]
        ended_well = part["status"].isin(["budget", "target", "gradient"]).to_numpy()
        start = part["f_start"].to_numpy(dtype=float)
        value = np.where(ended_well, _reached(part), start)
        has_gap = bool(part["f_star"].notna().all())
        if has_gap:
            value = value - part["f_star"].to_numpy(dtype=float)
        finite = value[np.isfinite(value)]
        low, median, high = np.quantile(finite, [0.25, 0.5, 0.75]) if len(finite) else [np.nan] * 3
        lines.append((problem, method, size, median, low, high, has_gap, int((~ended_well).sum()), len(part)))
    columns = ["problem", "method", "step_size", "median", "low", "high", "gap", "n_diverged", "n_seeds"]
    return pd.DataFrame(lines, columns=columns)


def bands(runs: Runs, value: str = "best") -> pd.DataFrame:
    """Median and quartiles over seeds of the curves, at the best settings of every method.

    The curve is the gap f - f* where the optimum is known, else the objective. A run that reached the last target keeps its
    last value. One that diverged keeps its best value, but its last iterate counts as infinite from then on.

    Parameters
    ----------
    value : {"best", "f"}
        The smallest value so far, or that of the last iterate.

    Returns
    -------
    DataFrame
        problem, method, t, calls, median, low, high, gap (whether the curve is a gap), n_seeds.
    """
    import pandas as pd

    columns = ["problem", "method", "t", "calls", "median", "low", "high", "gap", "n_seeds"]
    rows = tuned_rows(runs)
    rows = rows[rows["status"] != "failed"]
    parts = []
    for (problem, method), group in rows.groupby(["problem", "method"], sort=True):
        has_gap = bool(group["f_star"].notna().all())
        t = np.unique(np.concatenate(list(group["t"])))  # (C,)
        wide = np.empty((len(t), len(group)))
        for i, row in enumerate(group.itertuples()):
            mine = np.asarray(getattr(row, value), dtype=float)
            # between its own checkpoints, where another run ended, a run has the value it had last
            wide[:, i] = mine[np.searchsorted(np.asarray(row.t), t, side="right") - 1]
            if row.status == "diverged" and value == "f":
                wide[t >= row.end, i] = np.inf
            wide[:, i] -= row.f_star if has_gap else 0.0
        ranked = np.sort(wide, axis=1)  # infinite values last
        low, high = (ranked[:, round(q * (len(group) - 1))] for q in (0.25, 0.75))
        median = ranked[:, len(group) // 2]  # the larger of the middle two, as in the tables
        band = {"t": t, "calls": (t + 1) * group["fraction"].iloc[0], "median": median, "low": low, "high": high}
        parts.append(
            pd.DataFrame({"problem": problem, "method": method, **band, "gap": has_gap, "n_seeds": len(group)})
        )
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _final(rows: pd.DataFrame) -> np.ndarray:
    """Objective at the end of each run; infinite for those that diverged or failed."""
    ended_well = rows["status"].isin(["budget", "target", "gradient"]).to_numpy()
    return np.where(ended_well, rows["f_end"].to_numpy(dtype=float), np.inf)


def _reached(rows: pd.DataFrame) -> np.ndarray:
    values: np.ndarray = rows["f_best"].to_numpy(dtype=float)
    return values


def median(values: np.ndarray) -> float:
    """Median with infinite values last; of an even number the larger of the middle two, so as not to halve infinity."""
    return float(np.sort(values)[len(values) // 2]) if len(values) else np.nan
