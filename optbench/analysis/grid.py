"""The runs at tuned settings as one array over methods, problems and seeds, and the methods that can be compared fairly.

Profiles and ranks need every method on every problem; `complete_set` selects methods and problems of which that is true,
and says what it leaves out. A run that missed a target has needed infinitely many calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optbench.analysis import tuning
from optbench.analysis.tuning import PAIR, cached
from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs


@cached
def tuned_runs(runs: Runs) -> pd.DataFrame:
    """The runs of every method at its tuned settings, by method, problem and seed.

    Returns
    -------
    DataFrame
        One row a run: method, problem, settings (JSON), batch_size, step_size, oracle, seed, budget (oracle calls that its
        steps allow; null where no run of the method tells), first (oracle calls at the start point), exact (whether
        calls_to_target is exact, or at the resolution of the checkpoints), known (whether the problem's optimum is),
        calls_to_target (array (50,); inf for targets that were never reached, NaN where no optimum is known).
    """
    rows = tuning.tuned_rows(runs).sort_values(["method", "problem", "seed"], kind="stable")
    rows = rows.drop_duplicates(["method", "problem", "seed"], ignore_index=True)
    pair = rows.groupby(PAIR)
    # a run that failed does not know what its steps cost; the others of its method do
    for column, source in (("first", "calls_per_step"), ("budget", "budget_calls")):
        rows[column] = rows[source].astype(float).fillna(pair[source].transform("max"))
    rows["oracle"] = pair["oracle"].transform("first").fillna("")
    rows["exact"] = rows["exact_targets"].map(lambda value: value is not False)
    rows["known"] = rows.groupby("problem")["f_star"].transform("count") > 0
    calls = tuning.calls_to_target(rows)  # (R, 50)
    # a run that failed before its optimum was known has reached nothing
    calls[rows["known"].to_numpy()[:, None] & np.isnan(calls)] = np.inf
    rows["calls_to_target"] = list(calls)
    columns = ["method", "problem", "settings", "batch_size", "step_size", "oracle", "seed", "budget", "first"]
    return rows[[*columns, "exact", "known", "calls_to_target"]]


@dataclass(frozen=True, eq=False)
class RunGrid:
    """`tuned_runs` as arrays over M methods, P problems and at most S seeds.

    Attributes
    ----------
    methods, problems : tuple of str
        Sorted.
    calls_to_target : array of shape (M, P, S, 50)
        The seeds that ran come first; NaN where nothing ran.
    seeds : array of int, shape (M, P)
        How many seeds ran.
    known : array of bool, shape (P,)
        Whether the optimum is.
    counted : array of bool, shape (P, 50)
        Whether a target counts: not if every run begins below it.
    budget : array of shape (M, P)
        The largest budget, in oracle calls; NaN where nothing ran.
    oracles : DataFrame
        One row a method and problem that ran: method, problem, oracle.
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
        """Positions of methods (M, 1) and problems (1, P), which index arrays that begin with both."""
        return np.ix_([self.methods.index(name) for name in methods], [self.problems.index(name) for name in problems])

    def medians(self, target: float) -> np.ndarray:
        """Median over seeds of the calls to a target, (M, P), as `statistics.median`; NaN where nothing ran."""
        if not self.calls_to_target.size:
            return np.full(self.seeds.shape, np.nan)
        # infinity, then NaN last; (M, P, S)
        calls = np.sort(self.calls_to_target[..., tuning.target_index(target)], axis=-1)
        position = (self.seeds // 2).clip(max=calls.shape[-1] - 1)[..., None]
        return np.where(self.seeds > 0, np.take_along_axis(calls, position, axis=-1)[..., 0], np.nan)


@cached
def run_grid(runs: Runs) -> RunGrid:
    """The arrays of some runs."""
    table = tuned_runs(runs)
    # of every run the positions of its method, problem and seed; each (R,)
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
    begun, ran = calls <= first[..., None], ~np.isnan(calls)  # begun: below the target at the start
    counted = known[:, None] & ~((begun | ~ran).all(axis=(0, 2)) & ran.any(axis=(0, 2)))
    seeds = np.zeros(shape, dtype=int)
    np.add.at(seeds, (m, p), 1)
    oracles = table.drop_duplicates(PAIR, ignore_index=True)[["method", "problem", "oracle"]]
    return RunGrid(tuple(methods), tuple(problems), calls, seeds, known, counted, budget, oracles)


def pair_table(methods: Sequence[str], problems: Sequence[str], **figures: np.ndarray) -> pd.DataFrame:
    """One row a method and problem, and a column for each array (M, P), or what is broadcast to it."""
    table = pd.MultiIndex.from_product([methods, problems], names=["method", "problem"]).to_frame(index=False)
    shape = len(methods), len(problems)
    return table.assign(**{name: np.broadcast_to(values, shape).ravel() for name, values in figures.items()})


@dataclass(frozen=True)
class CompleteSet:
    """Methods of which each ran on each of some problems with a known optimum.

    Attributes
    ----------
    methods, problems : tuple of str
        Sorted by name.
    left_out : tuple of (str, str)
        What else there is in the results, and why it is not here: a name, and the end of a sentence that begins with it.
    """

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def select(self, among: Sequence[str] | None) -> tuple[str, ...]:
        """The given methods, or all; raises InputError for one that is not here."""
        for name in among or ():
            if name not in self.methods:
                raise InputError(f"{name!r} is not among the methods that are compared: {', '.join(self.methods)}")
        return self.methods if among is None else tuple(among)


@cached
def complete_set(runs: Runs) -> CompleteSet:
    """What profiles and ranks rest on: many methods that all ran on many problems.

    Candidates are the sets of problems with a known optimum that any two methods have in common, each with all methods
    that ran on the whole of it. The one with the most pairs of method and problem is taken, of several that with the most
    problems, of these the first in the order of names; one with a single method only if there is no other.
    """
    grid = run_grid(runs)
    ran = grid.seeds > 0  # (M, P)
    shared = ran[:, None] & ran & grid.known  # (M, M, P)
    # (U, P), rising: of equals the last is the first in the order of names
    sets = np.unique(shared.reshape(-1, len(grid.problems)), axis=0) if ran.size else np.zeros((0, 0), dtype=bool)
    counts = (sets.astype(int) @ (~ran).T.astype(int) == 0).sum(axis=1)  # methods that miss none of a set, (U,)
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
            few = f"was run by {ran[:, p].sum()} of {len(grid.methods)} optimizers only"
            left_out.append((name, few if grid.known[p] else "has no known optimal value, and so no targets"))
    for m in np.flatnonzero(~complete):
        absent = [grid.problems[p] for p in problems if not ran[m, p]]
        more = f" and {len(absent) - 2} more" if len(absent) > 2 else ""
        where = " and ".join(absent[:2]) if not more else ", ".join(absent[:2]) + more
        left_out.append((grid.methods[m], f"did not run on {where}" if absent else "ran on no problem with targets"))
    return CompleteSet(
        tuple(grid.methods[m] for m in np.flatnonzero(complete)),
        tuple(grid.problems[p] for p in problems),
        tuple(left_out),
    )
