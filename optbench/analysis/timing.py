"""Timings: summaries of races, and seconds to a target from the seconds of races and the oracle calls of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.analysis.statistics import interval, median, resample, spread
from optbench.analysis.tuning import calls_to_target, target_index, tuned_rows
from optbench.core.trace import TARGETS
from optbench.results.methods import method_name
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


# A race counts as disturbed above one of these limits:
SPREAD_LIMIT = 0.1  # interquartile range over median of the rounds of a configuration
LOAD_LIMIT = 0.25  # share of the machine's cores that other programs kept busy
RESAMPLES = 2000  # of a bootstrap; its own scatter is then a few percent of the interval's width


def race_summary(races: pd.DataFrame) -> pd.DataFrame:
    """One row a race and configuration, in the order of the race.

    Intervals hold the median with 95 % confidence, as far as the rounds are independent: percentile bootstrap over rounds
    (Efron 1979), always with the same random numbers.

    Parameters
    ----------
    races : DataFrame
        One row a round and configuration, see `RACE_COLUMNS`.

    Columns
    -------
    race, place, problem, configuration, method, steps, backend, precision, fused : what ran
    rounds : number of rounds
    seconds, seconds_low, seconds_high : seconds a step, oracle call included: median over rounds, and interval
    ratio, ratio_low, ratio_high : to the first configuration on the same problem: median of the ratios within rounds
    oracle_seconds : seconds of the oracle call of a step
    optimizer_seconds, optimizer_low, optimizer_high : seconds of the rest, the difference within rounds
    oracle_share : part of a step that the oracle takes
    warmup_seconds : seconds of the warm-up, which none of these contain
    spread : interquartile range of the seconds over their median
    disturbed, reason : whether something else may have slowed it down, and what tells so
    finite : whether the last iterates of all rounds were finite
    """
    import pandas as pd

    identity = ["race", "place", "problem", "configuration", "steps", "backend", "precision", "fused"]
    figures = ["rounds", *_with_interval("seconds"), *_with_interval("ratio"), "oracle_seconds"]
    figures += ["optimizer_seconds", "optimizer_low", "optimizer_high", "oracle_share", "warmup_seconds", "spread"]
    lines = []
    first: dict[tuple[str, str], np.ndarray] = {}
    for (race, _), rows in races.groupby(["race", "place"], sort=True):
        rows = rows.sort_values("round")
        optimizer, fixed, schedule = rows.iloc[0][["optimizer", "fixed", "schedule"]]
        line = rows.iloc[0][identity].to_dict() | {"method": method_name(optimizer, json.loads(fixed), schedule)}
        seconds, oracle = _per_step(rows, "seconds"), _per_step(rows, "oracle_seconds")  # each (rounds,)
        reference = first.setdefault((str(race), line["problem"]), seconds)
        line["rounds"] = len(rows)
        line |= dict(zip(_with_interval("seconds"), _median_and_interval(seconds), strict=True))
        line |= dict(zip(_with_interval("ratio"), _median_and_interval(seconds / reference), strict=True))
        line["oracle_seconds"] = float(np.median(oracle))
        rest = _median_and_interval(seconds - oracle)
        line |= dict(zip(("optimizer_seconds", "optimizer_low", "optimizer_high"), rest, strict=True))
        line["oracle_share"] = float(np.median(oracle / seconds))
        line["warmup_seconds"] = float(rows["warmup_seconds"].iloc[0])
        line["spread"] = spread(seconds)
        line["reason"] = _disturbance(rows, line["spread"])
        line["disturbed"] = line["reason"] != ""
        line["finite"] = bool(rows["finite"].all())
        lines.append(line)
    return pd.DataFrame(lines, columns=[*identity, "method", *figures, "disturbed", "reason", "finite"])


def standing_races(races: pd.DataFrame) -> pd.DataFrame:
    """The rows of all races but those superseded by another, in which all of their configurations ran too.

    Of races on the same machine an undisturbed one supersedes a disturbed one, and then the newer the older. Races are kept
    whole, because ratios are taken within them.
    """
    identity = ["machine", "backend", "precision", "fused", "problem", "data_hash", "configuration"]
    parts = [part for _, part in races.groupby("race")]
    timed = [(set(part[identity].astype(str).itertuples(index=False, name=None)), _preference(part)) for part in parts]
    superseded = {
        order[-1]
        for configurations, order in timed
        if any(configurations <= others and order < other for others, other in timed)
    }
    return races[~races["race"].isin(superseded)]


def _disturbance(rows: pd.DataFrame, spread: float) -> str:
    """Signs that something else ran during the rounds of one configuration; empty if there are none."""
    cores = int(rows["cores"].iloc[0])
    before, after = (float(rows[name].astype(float).iloc[0]) for name in ("load_before", "load_after"))
    signs = []
    if before > LOAD_LIMIT * cores:
        signs.append(f"load average {before:.1f} before it began, on {cores} cores")
    elif after - 1 > LOAD_LIMIT * cores:  # the race itself is one
        signs.append(f"load average {after:.1f} at its end, on {cores} cores")
    if spread > SPREAD_LIMIT:
        signs.append(f"rounds scatter by {100 * spread:.0f} % (interquartile range)")
    return "; ".join(signs)


def seconds_to_target(runs: Runs, races: pd.DataFrame, target: float = 1e-4) -> pd.DataFrame:
    """Seconds to a target: oracle calls to it, from runs, times seconds a call, from races.

    A method is taken at its best settings (`tuned`), with the newest race on each machine in which the same optimizer ran
    on the same problem with the same schedule, batch size, precision, array module and structure, fused or not. Structure
    are the settings that change the cost of a step: a memory of 10 pairs is one, a step size is not. Undisturbed races are
    preferred. Seconds of different machines are in different rows and are not comparable.

    The interval covers both uncertainties: seeds and rounds are resampled independently of each other, and the products of
    the two medians ranked (percentile bootstrap, 95 %). Its end is infinite where too few seeds reach the target.

    Parameters
    ----------
    runs : Runs
    races : DataFrame
        See `RACE_COLUMNS`.
    target : float
        Fraction of the initial gap; the nearest of the 50 recorded ones is taken.

    Returns
    -------
    DataFrame
        One row a method, problem, machine and form of the rule: problem, method (as in `runs`), step_size, target, calls
        (median over seeds), reached, seeds, seconds_per_call, seconds, seconds_low, seconds_high (inf where half of the
        seeds or more miss the target, NaN where no optimum is known), machine, backend, precision, fused, disturbed, race,
        places (of the configurations in the race that were timed for it; see `RACE_COLUMNS`).
    """
    import pandas as pd

    names = ["problem", "method", "step_size", "target", "calls", "reached", "seeds", "seconds_per_call"]
    names += [*_with_interval("seconds"), "machine", "backend", "precision", "fused", "disturbed", "race", "places"]
    lines: list[dict[str, Any]] = []
    if runs.rows.empty or races.empty:
        return pd.DataFrame(lines, columns=names)
    same = ["problem_name", "problem_params", "data_hash"]
    same += ["optimizer", "schedule", "batch_size", "precision", "backend"]
    timed = races.groupby([*same, "structure", "machine", "fused"], dropna=False, sort=True)
    newest: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for _, rows in timed:
        newest.setdefault(_identity(rows, same), []).append(_newest(rows))
    index = target_index(target)
    for (problem, method), rows in tuned_rows(runs).groupby(["problem", "method"], sort=True):
        calls = calls_to_target(rows)[:, index]  # (S,)
        settings = json.loads(rows["settings"].iloc[0])
        for rounds in newest.get(_identity(rows, same), ()):
            structure = json.loads(rounds["structure"].iloc[0])
            if _of_other_store(rows, rounds) or any(settings.get(k) != v for k, v in structure.items()):
                continue
            per_call = _per_step(rounds, "seconds") / rounds["calls_per_step"].to_numpy(dtype=float)  # (rounds,)
            line: dict[str, Any] = dict(zip(_with_interval("seconds"), _product(calls, per_call), strict=True))
            line |= {"problem": problem, "method": method, "step_size": rows["step_size"].iloc[0]}
            line |= {"target": float(TARGETS[index]), "seeds": rows["seed"].nunique()}
            line |= {"reached": int(np.isfinite(calls).sum()), "seconds_per_call": float(np.median(per_call))}
            line["calls"] = np.nan if np.isnan(calls).any() else median(calls)
            line["disturbed"] = _is_disturbed(rounds)
            line["places"] = tuple(sorted(set(rounds["place"])))
            line |= rounds.iloc[0][["machine", "backend", "precision", "fused", "race"]].to_dict()
            lines.append(line)
    return pd.DataFrame(lines, columns=names)


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rounds of the newest race among those of one configuration, of an undisturbed one if there is any."""
    return max((part for _, part in rows.groupby("race")), key=_preference)


def _preference(rows: pd.DataFrame) -> tuple[bool, str, str]:
    """The larger, the more the rows of one race are worth: undisturbed, when it ended, its name."""
    return not _is_disturbed(rows), rows["created"].iloc[0], rows["race"].iloc[0]


def _is_disturbed(rows: pd.DataFrame) -> bool:
    parts = (part for _, part in rows.groupby("place"))  # the same method may have run at two step sizes
    return any(_disturbance(part, spread(_per_step(part, "seconds"))) for part in parts)


def _identity(rows: pd.DataFrame, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(rows[name].iloc[0]) for name in names)


def _of_other_store(rows: pd.DataFrame, rounds: pd.DataFrame) -> bool:
    """Whether runs and rounds of several stores (see `comparison`) are of different ones."""
    if "store" not in rows or "store" not in rounds:
        return False
    store = rows["store"].iloc[0]  # null where the runs of all stores are the same
    return isinstance(store, str) and store != rounds["store"].iloc[0]


def _per_step(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Seconds of a column of races, divided by the steps that they hold; shape (rounds,)."""
    seconds: np.ndarray = rows[name].to_numpy(dtype=float) / rows["steps"].to_numpy(dtype=float)
    return seconds


def _with_interval(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _median_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median of finite values, and its interval."""
    low, high = interval(np.median(resample(values, RESAMPLES, seed=0), axis=1))
    return float(np.median(values)), float(low), float(high)


def _product(calls: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """Median of calls (S,), which may be infinite, times median of seconds per call (rounds,), and its interval."""
    if np.isnan(calls).any():
        return np.nan, np.nan, np.nan
    ordered = np.sort(resample(calls, RESAMPLES, seed=1), axis=1)  # (B, S)
    products = ordered[:, len(calls) // 2] * np.median(resample(seconds, RESAMPLES, seed=0), axis=1)
    low, high = interval(products)
    return median(calls) * float(np.median(seconds)), float(low), float(high)
