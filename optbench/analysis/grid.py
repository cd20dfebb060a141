"""Tuned runs as arrays over methods, problems and seeds, and the methods that can be compared.

Profiles and ranks need every method on every problem. `complete_set` selects such methods and problems, and says what it
leaves out. A run that misses a target needs infinitely many calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optbench.analysis import tuning
from optbench.analysis.tuning import PAIR, cached
from optbench.analysis.validity import calls_to_target, judged
from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs

EVERY = np.ones(len(TARGETS), dtype=bool)


@cached
def tuned_runs(runs: Runs) -> pd.DataFrame:
    """The runs of every method at its tuned settings, sorted by method, problem and seed.

    Returns
    -------
    DataFrame
        One row for each run: method, problem, settings (JSON), batch_size, step_size, oracle, seed, budget (in oracle
        calls; null if unknown), first (oracle calls at the start point), exact (whether calls_to_target is exact, or
        rounded up to checkpoints), known (whether the optimum is known), calls_to_target (array (50,); inf for missed
        targets, NaN for targets that do not count).
    """
    rows = tuning.tuned_rows(runs).sort_values(["method", "problem", "seed"], kind="stable")
    rows = rows.drop_duplicates(["method", "problem", "seed"], ignore_index=True)
    pair = rows.groupby(PAIR)
    # a failed run has no costs of its own, so it takes those of other runs of its method
    for column, source in (("first", "calls_per_step"), ("budget", "budget_calls")):
        rows[column] = rows[source].astype(float).fillna(pair[source].transform("max"))
    rows["oracle"] = pair["oracle"].transform("first").fillna("")
    rows["exact"] = rows["exact_targets"].map(lambda value: value is not False)
    rows["known"] = rows.groupby("problem")["f_star"].transform("count") > 0
    calls = calls_to_target(rows)  # (R, 50)
    # a run that failed before its optimum was known has missed all targets that count
    resolved = judged(runs).resolved
    counts = np.array([resolved.get(problem, EVERY) for problem in rows["problem"]], dtype=bool).reshape(
        -1, len(TARGETS)
    )
    calls[rows["known"].to_numpy(dtype=bool)[:, None] & counts & np.isnan(calls)] = np.inf
    rows["calls_to_target"] = list(calls)
    columns = ["method", "problem", "settings", "batch_size", "step_size", "oracle", "seed", "budget", "first"]
    return rows[[*columns, "exact", "known", "calls_to_target"]]


@dataclass(frozen=True, eq=False)
class RunGrid:
    """`tuned_runs` as arrays over M methods, P problems and at most S seeds.

    Attributes
    ----------
    methods, problems : tuple of str
        Sorted names.
    calls_to_target : array of shape (M, P, S, 50)
        NaN for targets that cannot be resolved, and for missing runs, which come last along S.
    seeds : array of int, shape (M, P)
        Number of seeds.
    known : array of bool, shape (P,)
        Whether the optimum is known.
    counted : array of bool, shape (P, 50)
        Whether a target counts. It does not if every run starts below it, or it cannot be resolved.
    budget : array of shape (M, P)
        The largest budget, in oracle calls; NaN without runs.
    oracles : DataFrame
        One row for each method and problem with runs: method, problem, oracle.
    """

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    calls_to_target: np.ndarray
    seeds: np.ndarray
    known: np.ndarray
    counted: np.ndarray
    budget: np.ndarray
    oracles: pd.DataFrame

    def index(self, methods: Sequence[str], problems: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Indices (M, 1) of methods and (1, P) of problems, for arrays of shape (M, P, ...)."""
        return np.ix_([self.methods.index(name) for name in methods], [self.problems.index(name) for name in problems])

    def resolved(self, target: float) -> np.ndarray:
        """Whether a target can be resolved on each problem, (P,); False if no optimum is known."""
        at = self.calls_to_target[..., tuning.target_index(target)]  # (M, P, S)
        resolved: np.ndarray = self.known & ~np.isnan(at).all(axis=(0, 2))
        return resolved

    def medians(self, target: float) -> np.ndarray:
        """Median over seeds of the calls to a target, (M, P), as `statistics.median`; NaN without runs."""
        if not self.calls_to_target.size:
            return np.full(self.seeds.shape, np.nan)
        # infinity, then NaN last; (M, P, S)
        calls = np.sort(self.calls_to_target[..., tuning.target_index(target)], axis=-1)
        position = (self.seeds // 2).clip(max=calls.shape[-1] - 1)[..., None]
        return np.where(self.seeds > 0, np.take_along_axis(calls, position, axis=-1)[..., 0], np.nan)


@cached
def run_grid(runs: Runs) -> RunGrid:
    """The `RunGrid` of the tuned runs."""
    table = tuned_runs(runs)
    # indices of the method, problem and seed of each run; each (R,)
    (m, methods), (p, problems) = (pd.factorize(table[name], sort=True) for name in ("method", "problem"))
    s = table.groupby(PAIR).cumcount().to_numpy(int)
    shape = len(methods), len(problems)
    calls = np.full((*shape, s.max(initial=-1) + 1, len(TARGETS)), np.nan)
    calls[m, p, s] = np.array(list(table["calls_to_target"])).reshape(-1, len(TARGETS))
    first = np.full(calls.shape[:3], np.nan)
    first[m, p, s] = table["first"].to_numpy(float)
    known = np.zeros(len(problems), dtype=bool)
    known[p] = table["known"].to_numpy(bool)
    budget = np.full(shape, np.nan)
    np.fmax.at(budget, (m, p), table["budget"].to_numpy(float))
    starts_below, resolved = calls <= first[..., None], ~np.isnan(calls)
    counted = known[:, None] & ~(starts_below | ~resolved).all(axis=(0, 2))
    seeds = np.zeros(shape, dtype=int)
    np.add.at(seeds, (m, p), 1)
    oracles = table.drop_duplicates(PAIR, ignore_index=True)[["method", "problem", "oracle"]]
    return RunGrid(tuple(methods), tuple(problems), calls, seeds, known, counted, budget, oracles)


def pair_table(methods: Sequence[str], problems: Sequence[str], **figures: np.ndarray) -> pd.DataFrame:
    """One row for each method and problem, with a column for each array that broadcasts to (M, P)."""
    table = pd.MultiIndex.from_product([methods, problems], names=["method", "problem"]).to_frame(index=False)
    shape = len(methods), len(problems)
    return table.assign(**{name: np.broadcast_to(values, shape).ravel() for name, values in figures.items()})


@dataclass(frozen=True)
class CompleteSet:
    """Methods and problems with known optima, such that every method ran on every problem.

    Attributes
    ----------
    methods, problems : tuple of str
        Sorted names.
    left_out : tuple of (str, str)
        The other methods and problems with the reason, a sentence that continues the name.
    """

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def select(self, among: Sequence[str] | None) -> tuple[str, ...]:
        """The given methods, or all. Raises InputError for a method that is not in the set."""
        for name in among or ():
            if name not in self.methods:
                raise InputError(f"{name!r} is not one of the compared methods: {', '.join(self.methods)}")
        return self.methods if among is None else tuple(among)


@cached
def complete_set(runs: Runs) -> CompleteSet:
    """The methods and problems that profiles and ranks use.

    A candidate is the set of problems with known optima that two methods have in common, with all methods that ran on
    all of them. The candidate with the most pairs of method and problem is selected; ties go to more problems, then to the
    first names. A candidate with a single method is used only if there is no other.
    """
    grid, unjudged = run_grid(runs), judged(runs).unjudged
    ran = grid.seeds > 0  # (M, P)
    shared = ran[:, None] & ran & grid.known  # (M, M, P)
    # (U, P), in ascending order: the last of several ties has the first names
    sets = np.unique(shared.reshape(-1, len(grid.problems)), axis=0) if ran.size else np.zeros((0, 0), dtype=bool)
    counts = (sets.astype(int) @ (~ran).T.astype(int) == 0).sum(axis=1)  # methods that ran on a whole set, (U,)
    candidates = [
        (bool(count > 1), int(count * members.sum()), int(members.sum()), u)
        for u, (members, count) in enumerate(zip(sets, counts, strict=True))
        if members.any()
    ]
    problems = np.flatnonzero(sets[max(candidates)[-1]]).tolist() if candidates else []
    complete = ran[:, problems].all(axis=1) if problems else np.zeros(len(grid.methods), dtype=bool)
    left_out = []
    for p, name in enumerate(grid.problems):
        if p not in problems:
            reason = "has no known optimum, so it has no targets"
            if grid.known[p]:
                reason = f"was run by only {ran[:, p].sum()} of {len(grid.methods)} methods"
            elif name in unjudged:
                reason = unjudged[name].why
            left_out.append((name, reason))
    for m in np.flatnonzero(~complete):
        absent = [grid.problems[p] for p in problems if not ran[m, p]]
        names = absent if len(absent) <= 2 else [", ".join(absent[:2]), f"{len(absent) - 2} more"]
        reason = f"did not run on {' and '.join(names)}" if absent else "ran on no problem with targets"
        left_out.append((grid.methods[m], reason))
    return CompleteSet(
        tuple(grid.methods[m] for m in np.flatnonzero(complete)),
        tuple(grid.problems[p] for p in problems),
        tuple(left_out),
    )
