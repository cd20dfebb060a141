"""Timings: summaries of races, and seconds to a target from races and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis.statistics import interval, median, resample, spread
from optbench.analysis.tuning import PAIR, target_index, tuned_rows
from optbench.analysis.validity import calls_to_target
from optbench.core.trace import TARGETS
from optbench.results.methods import method_name
from optbench.results.runs import Runs

# a race above one of these limits counts as disturbed
SPREAD_LIMIT = 0.1  # interquartile range over median of the rounds of a configuration
LOAD_LIMIT = 0.25  # share of the cores that other programs use
RESAMPLES = 2000  # bootstrap samples; enough that their random error is a few percent of the interval


def race_summary(races: pd.DataFrame) -> pd.DataFrame:
    """One row for each race and configuration, in the order of the race.

    Values are medians over rounds. Their 95 % intervals are percentile bootstraps over rounds (Efron 1979) with fixed
    random numbers; they assume independent rounds.

    Parameters
    ----------
    races : DataFrame
        One row for each round and configuration, see `RACE_COLUMNS`.

    Columns
    -------
    race, place, problem, configuration, method, steps, backend, precision, fused : the configuration
    rounds : number of rounds
    seconds, seconds_low, seconds_high : seconds per step, including the oracle call
    ratio, ratio_low, ratio_high : ratio to the first configuration on the same problem, within rounds
    oracle_seconds : seconds of the oracle call of a step
    optimizer_seconds, optimizer_low, optimizer_high : seconds of the rest of a step, as a difference within rounds
    oracle_share : share of the oracle call in a step
    warmup_seconds : seconds of the warm-up, not included in the others
    spread : interquartile range of the seconds / median
    disturbed, reason : whether other programs may have slowed the race down, and the evidence
    finite : whether the last iterates of all rounds were finite
    """
    identity = ["race", "place", "problem", "configuration", "steps", "backend", "precision", "fused"]
    figures = ["rounds", "seconds", "seconds_low", "seconds_high", "ratio", "ratio_low", "ratio_high", "oracle_seconds"]
    figures += ["optimizer_seconds", "optimizer_low", "optimizer_high", "oracle_share", "warmup_seconds", "spread"]
    lines = []
    first: dict[tuple[str, str], np.ndarray] = {}
    for _, rows in races.sort_values("round", kind="stable").groupby(["race", "place"]):
        line = rows.iloc[0].to_dict()  # the configuration and the seconds of its warm-up
        line["method"] = method_name(line["optimizer"], json.loads(line["fixed"]), line["schedule"])
        seconds, oracle = _per_step(rows, "seconds"), _per_step(rows, "oracle_seconds")  # each (rounds,)
        reference = first.setdefault((line["race"], line["problem"]), seconds)
        parts = {"seconds": seconds, "ratio": seconds / reference, "optimizer": seconds - oracle}
        for name, values in parts.items():
            line |= {name: np.median(values), **_bounds(name, _resampled_medians(values))}
        line |= {"optimizer_seconds": line["optimizer"], "oracle_seconds": np.median(oracle)}
        line |= {"rounds": len(rows), "oracle_share": np.median(oracle / seconds), "finite": rows["finite"].all()}
        line["spread"], line["reason"] = spread(seconds), _disturbance(rows)
        line["disturbed"] = line["reason"] != ""
        lines.append(line)
    return pd.DataFrame(lines, columns=[*identity, "method", *figures, "disturbed", "reason", "finite"])


def current_races(races: pd.DataFrame) -> pd.DataFrame:
    """The rows of all races that no other race supersedes.

    A race is superseded by a better one that includes all of its configurations on the same machine: an undisturbed one, or
    a newer one that is equally disturbed. Races are kept or dropped as a whole, because ratios are within races.
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


def _disturbance(rows: pd.DataFrame) -> str:
    """Evidence that other programs ran during the rounds of a configuration; empty if there is none."""
    cores, before, after = (float(rows[name].iloc[0]) for name in ("cores", "load_before", "load_after"))
    signs = []
    if before > LOAD_LIMIT * cores:
        signs.append(f"load average {before:.1f} before the race, on {cores:.0f} cores")
    elif after - 1 > LOAD_LIMIT * cores:  # the race itself adds 1
        signs.append(f"load average {after:.1f} at the end of the race, on {cores:.0f} cores")
    if (scatter := spread(_per_step(rows, "seconds"))) > SPREAD_LIMIT:
        signs.append(f"rounds vary by {100 * scatter:.0f} % (interquartile range)")
    return "; ".join(signs)


def seconds_to_target(runs: Runs, races: pd.DataFrame, target: float = 1e-4) -> pd.DataFrame:
    """Seconds to a target: oracle calls to the target, from runs, times seconds per call, from races.

    A method at its best settings (`tuned`) is paired with the newest race of the same problem, optimizer, schedule, batch
    size, precision, array module and structure on each machine, compiled or not; undisturbed races are preferred. The
    structure consists of the settings that change the cost of a step, such as the memory of L-BFGS. Seconds of different
    machines are in different rows and are not comparable.

    The 95 % interval includes both uncertainties: seeds and rounds are resampled independently, and the medians multiplied
    (percentile bootstrap). Its upper end is infinite if too few seeds reach the target.

    Parameters
    ----------
    runs : Runs
    races : DataFrame
        See `RACE_COLUMNS`.
    target : float
        Fraction of the initial gap; the nearest recorded target is used.

    Returns
    -------
    DataFrame
        One row for each method, problem, machine and value of fused: problem, method (as in `runs`), step_size, target,
        calls (median over seeds), reached, seeds, seconds_per_call, seconds, seconds_low, seconds_high (inf if at least
        half of the seeds miss the target, NaN if no optimum is known), machine, backend, precision, fused, disturbed, race,
        places (of the timed configurations in the race, see `RACE_COLUMNS`).
    """
    names = ["problem", "method", "step_size", "target", "calls", "reached", "seeds", "seconds_per_call", "seconds"]
    names += ["seconds_low", "seconds_high", "machine", "backend", "precision", "fused", "disturbed", "race", "places"]
    lines: list[dict[str, Any]] = []
    same = ["problem_name", "problem_origin", "problem_params", "data_hash"]
    same += ["optimizer", "optimizer_origin", "schedule", "batch_size", "precision", "backend"]
    newest: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for _, rows in races.groupby([*same, "structure", "machine", "fused"], dropna=False):
        # the newest race of a configuration, if possible an undisturbed one
        rounds = max((part for _, part in rows.groupby("race")), key=_preference)
        newest.setdefault(_identity(rows, same), []).append(rounds)
    index = target_index(target)
    for _, rows in tuned_rows(runs).groupby(PAIR):
        calls = calls_to_target(rows)[:, index]  # (S,)
        run = rows.iloc[0]
        settings = json.loads(run["settings"])
        for rounds in newest.get(_identity(rows, same), ()):
            race = rounds.iloc[0]
            structure = json.loads(race["structure"])
            if _of_other_store(run, race) or any(settings.get(k) != v for k, v in structure.items()):
                continue
            per_call = _per_step(rounds, "seconds") / rounds["calls_per_step"].to_numpy(dtype=float)  # (rounds,)
            line = race.to_dict() | run[["problem", "method", "step_size"]].to_dict()
            line |= {"target": float(TARGETS[index]), "reached": np.isfinite(calls).sum(), "calls": np.nan}
            line |= {"seeds": rows["seed"].nunique(), "seconds_per_call": np.median(per_call), "seconds": np.nan}
            line |= {"disturbed": _is_disturbed(rounds), "places": tuple(sorted(set(rounds["place"])))}
            if not np.isnan(calls).any():
                line["calls"] = median(calls)
                line["seconds"] = line["calls"] * line["seconds_per_call"]
                ordered = np.sort(resample(calls, RESAMPLES, seed=1), axis=1)  # (B, S); calls may be infinite
                line |= _bounds("seconds", ordered[:, len(calls) // 2] * _resampled_medians(per_call))
            lines.append(line)
    return pd.DataFrame(lines, columns=names)


def _preference(rows: pd.DataFrame) -> tuple[bool, str, str]:
    """Sort key of the rows of a race: undisturbed and new races last."""
    return not _is_disturbed(rows), rows["created"].iloc[0], rows["race"].iloc[0]


def _is_disturbed(rows: pd.DataFrame) -> bool:
    # the same method may have several configurations
    return any(_disturbance(part) for _, part in rows.groupby("place"))


def _identity(rows: pd.DataFrame, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(rows[name].iloc[0]) for name in names)


def _of_other_store(run: pd.Series, race: pd.Series) -> bool:
    """Whether a run and a race belong to different stores (see `comparison`)."""
    store = run.get("store")  # null if the results of all stores are equal
    return isinstance(store, str) and race.get("store", store) != store


def _per_step(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column of seconds, divided by the number of steps; shape (rounds,)."""
    seconds: np.ndarray = rows[name].to_numpy(dtype=float) / rows["steps"].to_numpy(dtype=float)
    return seconds


def _resampled_medians(values: np.ndarray) -> np.ndarray:
    """Medians (B,) of resamples of finite values (rounds,)."""
    medians: np.ndarray = np.median(resample(values, RESAMPLES, seed=0), axis=1)
    return medians


def _bounds(name: str, estimates: np.ndarray) -> dict[str, float]:
    """The interval of resampled estimates (B,), as two columns."""
    low, high = interval(estimates)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}
