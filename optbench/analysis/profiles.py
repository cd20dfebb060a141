"""All problems together: who needs how many oracle calls, as profiles and as a ranking.

Each method is taken at its tuned settings on every problem. A run that missed a target has needed infinitely many calls;
medians, profiles and ranks keep it as that. No restarts are simulated.

Profiles and ranks need every method on every problem. `block` chooses on which, and says what that leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optbench.analysis import tuning
from optbench.analysis.cache import kept
from optbench.analysis.tuning import TARGETS, target_index
from optbench.core.errors import InputError
from optbench.results.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


RESAMPLES = 1000  # of the bootstrap of `ranking`
DIGITS = 12  # of areas that are compared: sums of the same numbers in another order are the same


def tuned_runs(runs: Runs) -> pd.DataFrame:
    """The runs that everything here is computed from: those of every method at its tuned settings.

    Returns
    -------
    DataFrame
        One row a method, problem and seed: method, problem, settings (JSON), batch_size, step_size, oracle (what a call
        asks for), seed, budget (oracle calls that were asked for; null where no run of the method says), first (oracle
        calls of the look at the start point), exact (whether hits are exact, or at the resolution of the checkpoints),
        known (whether the problem's optimum is), hits (array (50,): oracle calls to each target; inf where it was never
        reached, NaN where no optimum is known).
    """
    return _field(runs).rows.copy()


def _tuned_runs(runs: Runs) -> pd.DataFrame:
    """What `tuned_runs` returns."""
    import pandas as pd

    columns = ["method", "problem", "settings", "batch_size", "step_size", "oracle", "seed", "budget", "first"]
    columns += ["exact", "known", "calls_to_target"]
    if runs.rows.empty:
        return pd.DataFrame(columns=columns)
    rows = tuning.tuned_rows(runs).sort_values(["method", "problem", "seed"], kind="stable")
    rows = rows.drop_duplicates(["method", "problem", "seed"]).reset_index(drop=True)
    pair = rows.groupby(["method", "problem"], sort=False)
    # a run that failed does not know what its steps cost; the others of its method do
    for column, source in (("first", "calls_per_step"), ("budget", "budget_calls")):
        rows[column] = rows[source].astype(float).fillna(pair[source].transform("max"))
    rows["oracle"] = pair["oracle"].transform("first").fillna("")
    rows["exact"] = rows["exact_targets"].map(lambda value: value is not False)
    rows["known"] = rows.groupby("problem")["f_star"].transform("count") > 0
    calls = tuning.calls_to_target(rows)
    # of a run that failed before its optimum was known we know that it reached nothing
    calls[rows["known"].to_numpy()[:, None] & np.isnan(calls)] = np.inf
    rows["calls_to_target"] = list(calls)
    return rows[columns]


@dataclass(frozen=True, eq=False)
class _Field:
    """`tuned_runs` as arrays: E methods, P problems, S seeds at most."""

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    hits: np.ndarray  # (E, P, S, 50), the seeds that ran first; NaN where nothing ran
    seeds: np.ndarray  # (E, P), how many ran
    known: np.ndarray  # (P,), whether the optimum is
    counted: np.ndarray  # (P, 50), whether the target tells anything: not if every run begins below it
    budget: np.ndarray  # (E, P), the most that was asked for; NaN where nothing ran
    told: pd.DataFrame  # one row a method and problem: oracle, exact
    rows: pd.DataFrame  # what it was made of

    def places(self, methods: Iterable[str], problems: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Indices of methods (E, 1) and problems (1, P), for arrays that begin with both."""
        first = [self.methods.index(name) for name in methods]
        second = [self.problems.index(name) for name in problems]
        return np.array(first, dtype=int)[:, None], np.array(second, dtype=int)[None, :]

    def medians(self, target: float) -> np.ndarray:
        """Median over seeds of the calls to a target, (E, P), as `metrics.median`; NaN where nothing ran."""
        if not self.hits.size:
            return np.full(self.seeds.shape, np.nan)
        at = np.sort(self.hits[..., target_index(target)], axis=-1)  # infinity, then NaN last; (E, P, S)
        middle = np.take_along_axis(at, (self.seeds // 2).clip(max=at.shape[-1] - 1)[..., None], axis=-1)[..., 0]
        return np.where(self.seeds > 0, middle, np.nan)


@kept
def _field(runs: Runs) -> _Field:
    """The arrays of some runs."""
    table = _tuned_runs(runs)
    methods, problems = (sorted(set(table[name])) for name in ("method", "problem"))
    e, p = table["method"].map(methods.index).to_numpy(int), table["problem"].map(problems.index).to_numpy(int)
    s = table.groupby(["method", "problem"]).cumcount().to_numpy(int)
    shape = len(methods), len(problems)
    hits = np.full((*shape, s.max(initial=-1) + 1, len(TARGETS)), np.nan)
    at_once = np.zeros_like(hits, dtype=bool)
    known = np.zeros(len(problems), dtype=bool)
    seeds = np.zeros(shape, dtype=int)
    budget = np.full(shape, np.nan)
    if len(table):
        calls, first = np.stack(list(table["calls_to_target"])), table["first"].to_numpy(float)
        hits[e, p, s] = calls
        at_once[e, p, s] = calls <= first[:, None]
        known[p] = table["known"].to_numpy(bool)
        np.add.at(seeds, (e, p), 1)
        np.fmax.at(budget, (e, p), table["budget"].to_numpy(float))
    ran = ~np.isnan(hits)
    counted = known[:, None] & ~((at_once | ~ran).all(axis=(0, 2)) & ran.any(axis=(0, 2)))
    told = table.drop_duplicates(["method", "problem"], ignore_index=True)
    told = told[["method", "problem", "oracle", "exact"]]
    return _Field(tuple(methods), tuple(problems), hits, seeds, known, counted, budget, told, table)


def relative_calls(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """How many oracle calls each method needs on each problem, and how many times those of the best.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.

    Returns
    -------
    DataFrame
        One row a method and problem, all pairs, sorted: method, problem, oracle (null where it did not
        run), calls (median over seeds; inf where half of them or more missed, NaN where there is none), reached and
        seeds (how many got there, of how many), ratio (calls over the fewest of any method on the problem; inf where
        it missed), status: "reached" or "missed" (in the median), "not run", or "no target" (no optimum is known).
    """
    import pandas as pd

    field = _field(runs)
    E, P = field.seeds.shape
    calls = np.where(field.known, field.medians(target), np.nan)
    best = np.fmin.reduce(calls, axis=0, initial=np.inf)  # (P,)
    missed = np.isinf(calls)
    with np.errstate(invalid="ignore"):
        ratio = np.where(missed, np.inf, calls / best)
    ran = field.seeds > 0
    status = np.select(
        [~ran, np.broadcast_to(~field.known, (E, P)), missed], ["not run", "no target", "missed"], "reached"
    )
    reached = np.isfinite(field.hits[..., target_index(target)]).sum(axis=2)
    table = pd.DataFrame(
        {
            "method": np.repeat(np.array(field.methods, dtype=object), P),
            "problem": np.tile(np.array(field.problems, dtype=object), E),
            "calls": calls.ravel(), "reached": reached.ravel(), "seeds": field.seeds.ravel(), "ratio": ratio.ravel(),
            "status": status.ravel(),
        }
    )  # fmt: skip
    table = table.merge(field.told, on=["method", "problem"], how="left")
    return table[["method", "problem", "oracle", "calls", "reached", "seeds", "ratio", "status"]]


@dataclass(frozen=True)
class Block:
    """Methods of which each ran on each of some problems with a known optimum.

    Attributes
    ----------
    methods, problems : tuple of str
        Sorted by name.
    left_out : tuple of (str, str)
        What else there is in the results, and why it is not here: a name, and the end of a sentence that begins with
        it.
    """

    methods: tuple[str, ...]
    problems: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@kept
def block(runs: Runs) -> Block:
    """What profiles and ranks rest on: many methods that all ran on many problems.

    Looked at are the sets of problems with a known optimum that any two methods have in common, each with all methods
    that ran on the whole of it. The one with the most pairs of method and problem is taken, of several that with the most
    problems, of these the first in the order of names; one with a single method only if there is no other.
    """
    field = _field(runs)
    ran = field.seeds > 0  # (E, P)
    shared = ran[:, None] & ran & field.known  # (E, E, P)
    # (U, P), rising: of equals the last is the first in the order of names
    sets = np.unique(shared.reshape(-1, len(field.problems)), axis=0) if ran.size else np.zeros((0, 0), dtype=bool)
    counts = (sets.astype(int) @ (~ran).T.astype(int) == 0).sum(axis=1)  # methods that miss none of a set, (U,)
    choices = [
        (bool(count > 1), int(count * own.sum()), int(own.sum()), u)
        for u, (own, count) in enumerate(zip(sets, counts, strict=True))
        if own.any()
    ]
    problems = np.flatnonzero(sets[max(choices)[-1]]).tolist() if choices else []
    whole = ran[:, problems].all(axis=1) if problems else np.zeros(len(field.methods), dtype=bool)
    left_out = []
    for p, name in enumerate(field.problems):
        if p not in problems:
            few = f"was run by {ran[:, p].sum()} of {len(field.methods)} optimizers only"
            left_out.append((name, few if field.known[p] else "has no known optimal value, and so no targets"))
    for e in np.flatnonzero(~whole):
        absent = [field.problems[p] for p in problems if not ran[e, p]]
        more = f" and {len(absent) - 2} more" if len(absent) > 2 else ""
        where = " and ".join(absent[:2]) if not more else ", ".join(absent[:2]) + more
        left_out.append((field.methods[e], f"did not run on {where}" if absent else "ran on no problem with targets"))
    return Block(
        tuple(field.methods[e] for e in np.flatnonzero(whole)),
        tuple(field.problems[p] for p in problems),
        tuple(left_out),
    )


def _taking_part(chosen: Block, among: Sequence[str] | None) -> tuple[str, ...]:
    """The methods of the block that are asked for."""
    for name in among or ():
        if name not in chosen.methods:
            raise InputError(f"{name!r} is not among the methods that are compared: {', '.join(chosen.methods)}")
    return chosen.methods if among is None else tuple(among)


def performance_profile(runs: Runs, target: float = 1e-4, among: Sequence[str] | None = None) -> pd.DataFrame:
    """Performance profiles (Dolan & Moré 2002, https://doi.org/10.1007/s101070100263).

    rho_s(tau) is the share of problems on which method s needs at most tau times the calls of the best, t_ps / min_s
    t_ps, where t_ps is the median over seeds of the oracle calls to the target, infinite where half of them or more
    missed. Every method that ties for the best has ratio 1. A problem that all missed stays in the denominator.

    Only rho(1), the share of problems where a method is best, and the height at the right end, the share that it
    solves, may be read off for more than two methods at once: who leads in between can depend on who else takes part
    (Gould & Scott 2016, https://doi.org/10.1145/2950048). `among` gives the profile of some of them alone.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.
    among : sequence of str, optional
        Methods of the `block` that take part; all by default. Others raise InputError.

    Returns
    -------
    DataFrame
        The steps of right-continuous functions, one row a step: method, ratio (tau), share. Every method has a row at
        ratio 1.
    """
    methods, times = _times(runs, target, among)  # (E, P)
    best = times.min(axis=0, initial=np.inf)
    ratio = np.divide(times, best, out=np.full_like(times, np.inf), where=np.isfinite(times))
    return _steps(methods, ratio, start=1.0, named="ratio")


def data_profile(runs: Runs, target: float = 1e-4) -> pd.DataFrame:
    """Data profiles (Moré & Wild 2009, https://doi.org/10.1137/080724083).

    d_s(alpha) is the share of problems that method s solves within alpha oracle calls, where solved means f <= f* +
    target (f0 - f*), and the calls on a problem are the median over seeds as in `performance_profile`. They are not
    divided by d + 1 as there: a call here answers with a gradient already. The curve of a method does not depend on
    who else takes part, except through the choice of problems.

    Parameters
    ----------
    target : float
        Fraction of the initial gap; the nearest of the 50 that are recorded is taken.

    Returns
    -------
    DataFrame
        The steps of right-continuous functions, one row a step: method, calls (alpha), share. Every method has a row
        at its first step, or one with share 0 at the fewest calls of any.
    """
    methods, times = _times(runs, target, None)
    return _steps(methods, times, start=times.min(initial=np.inf), named="calls")


def _times(runs: Runs, target: float, among: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Methods and their median calls to the target on the problems of the block, (E, P)."""
    field, chosen = _field(runs), block(runs)
    methods = _taking_part(chosen, among)
    return methods, field.medians(target)[field.places(methods, chosen.problems)]


def _steps(methods: Sequence[str], values: np.ndarray, start: float, named: str) -> pd.DataFrame:
    """Where the distribution functions of the rows of (E, P) values step, and how high; all have the point `start`."""
    import pandas as pd

    start = start if np.isfinite(start) else 1.0
    parts = []
    for method, row in zip(methods, values, strict=True):
        points = np.unique([start, *row[np.isfinite(row)]])
        share = np.searchsorted(np.sort(row), points, side="right") / max(len(row), 1)
        parts.append(pd.DataFrame({"method": method, named: points, "share": share}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method", named, "share"])


def ecdf(runs: Runs, at: np.ndarray | None = None) -> pd.DataFrame:
    """Share of targets reached within so many oracle calls, over all problems, seeds and the 50 targets.

    The empirical distribution function of the runtimes of all (problem, target, seed) triples of the block (Hansen et
    al. 2016, https://doi.org/10.48550/arXiv.1605.03560), those that were never reached at infinity. All problems weigh
    alike, also where one has fewer seeds. Runs are as long as they were: no restarts are simulated, so that a curve is
    flat beyond its budget. A target below which every run on its problem begins says nothing, and is left out.

    Parameters
    ----------
    at : array (n,), optional
        Oracle calls at which to evaluate; by default wherever a curve steps.

    Returns
    -------
    DataFrame
        method, calls, share; one row a method and step (or point of `at`).
    """
    import pandas as pd

    field, chosen = _field(runs), block(runs)
    parts = []
    for method in chosen.methods:
        e, p = field.places([method], chosen.problems)
        hits, seeds = field.hits[e, p][0], field.seeds[e, p][0]  # (P, S, 50), (P,)
        counted = field.counted[p[0]]  # (P, 50)
        weight = counted / np.maximum(counted.sum(axis=1), 1)[:, None] / seeds[:, None]  # (P, 50)
        weight /= max(int(counted.any(axis=1).sum()), 1)
        found = np.isfinite(hits) & (weight[:, None] > 0)
        times, weights = hits[found], np.broadcast_to(weight[:, None], hits.shape)[found]
        order = np.argsort(times, kind="stable")
        times, share = times[order], np.concatenate([[0.0], np.cumsum(weights[order])])
        points = np.unique(times) if at is None else np.asarray(at, dtype=float)
        shares = np.minimum(share[np.searchsorted(times, points, side="right")], 1.0)
        parts.append(pd.DataFrame({"method": method, "calls": points, "share": shares}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method", "calls", "share"])


@kept
def areas(runs: Runs) -> pd.DataFrame:
    """How much of its ECDF lies below a method's curve on each problem: what methods are ranked by.

    The area of the ECDF over targets and seeds of one problem, on the axis of log10 oracle calls, up to a budget that
    all methods of the block had there: the mean over targets and seeds of log10(budget / calls), and 0 for a target
    that was not reached within it. So it is in decades; every target counts alike, the hard ones too, and to reach any
    target earlier, or at all, makes it larger. A miss is worth what reaching the target with the very last call is:
    nothing.

    Returns
    -------
    DataFrame
        One row a method and problem of the block: method, problem, budget, area, rank (1 is the largest area; those
        that tie share the mean of their places).
    """
    import pandas as pd

    field, chosen = _field(runs), block(runs)
    area, budget = _areas(field, chosen)  # (E, P, S), (P,)
    E, P = len(chosen.methods), len(chosen.problems)
    mean = np.nanmean(area, axis=2) if area.size else np.zeros((E, P))
    return pd.DataFrame(
        {
            "method": np.repeat(np.array(chosen.methods, dtype=object), P),
            "problem": np.tile(np.array(chosen.problems, dtype=object), E),
            "budget": np.tile(budget, E),
            "area": mean.ravel(),
            "rank": _ranks(mean).ravel(),
        }
    )


def placed(runs: Runs) -> list[str]:
    """The methods of the block in the order of `ranking`, the best first."""
    table = areas(runs)
    mean = table.groupby("method")[["rank", "area"]].mean().round(DIGITS).reset_index()
    return list(mean.sort_values(["rank", "area", "method"], ascending=[True, False, True])["method"])


def _areas(field: _Field, chosen: Block) -> tuple[np.ndarray, np.ndarray]:
    """Area of every run (E, P, S), NaN beyond the seeds that ran, and the common budgets (P,); see `areas`."""
    places = field.places(chosen.methods, chosen.problems)
    hits, counted = field.hits[places], field.counted[places[1][0]]  # (E, P, S, 50), (P, 50)
    budget = np.fmin.reduce(field.budget[places], axis=0, initial=np.inf)  # (P,)
    with np.errstate(invalid="ignore"):  # nobody's budget is known where all failed
        saved = np.log10(budget[:, None, None] / np.minimum(hits, budget[:, None, None]))
    saved[np.isinf(hits)] = 0.0
    saved *= counted[:, None]
    area: np.ndarray = saved.sum(axis=3) / np.maximum(counted.sum(axis=1), 1)[:, None]
    return area, budget


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places along the first axis, the largest value first; those that tie share the mean of their places."""
    places = np.empty(values.shape)
    values = values.round(DIGITS)
    for e, own in enumerate(values):
        places[e] = 0.5 + (values > own).sum(axis=0) + 0.5 * (values == own).sum(axis=0)
    return places


def ranking(runs: Runs, resamples: int = RESAMPLES, seed: int = 0, among: Sequence[str] | None = None) -> pd.DataFrame:
    """Methods by their mean rank over the problems of the block, with its uncertainty.

    On each problem methods are ranked by `areas`. The intervals come from a bootstrap of two levels: problems are
    drawn with replacement, and for each problem drawn, seeds of it; all methods share the draws, so that they stay
    paired. It takes the problems for a sample of those one might meet, and holds the tuned settings fixed, which were
    chosen on the same seeds.

    Parameters
    ----------
    resamples : int
    seed : int
        Of the bootstrap's random numbers.
    among : sequence of str, optional
        Methods of the block that take part; all by default. Others raise InputError.

    Returns
    -------
    DataFrame
        One row a method, the best first: method, oracle, rank (mean over problems), low, high (95 % interval of it),
        first (share of resamples in which it has the smallest mean rank; shared where several have), area (mean over
        problems), problems, ahead and behind (number of problems on which its area is larger, or smaller, than that of
        the next row), beats_next (share of resamples in which its mean rank is smaller than that of the next; ties
        count half), p_next (`sign_test` of ahead and behind). The last four are null in the last row.
    """
    return _ranking(runs, resamples, seed, None if among is None else tuple(among))


@kept
def _ranking(runs: Runs, resamples: int, seed: int, among: tuple[str, ...] | None) -> pd.DataFrame:
    """What `ranking` returns."""
    import pandas as pd

    field, chosen = _field(runs), block(runs)
    methods = _taking_part(chosen, among)
    columns = ["method", "oracle", "rank", "low", "high", "first", "area", "problems"]
    columns += ["ahead", "behind", "beats_next", "p_next"]
    if not methods or not chosen.problems:
        return pd.DataFrame(columns=columns)
    mine = [chosen.methods.index(name) for name in methods]
    by_seed = _areas(field, chosen)[0][mine]  # (E, P, S)
    seeds = field.seeds[field.places(methods, chosen.problems)]  # (E, P)
    mean = np.nanmean(by_seed, axis=2).round(DIGITS)
    rank = _ranks(mean).mean(axis=1)
    drawn = _resampled_ranks(by_seed, seeds, resamples, np.random.default_rng(seed))  # (E, B)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1, method="inverted_cdf")
    leads = np.isclose(drawn, drawn.min(axis=0), rtol=0, atol=1e-9)
    first = (leads / leads.sum(axis=0)).mean(axis=1)
    total = mean.mean(axis=1).round(DIGITS)
    order = sorted(range(len(methods)), key=lambda e: (round(rank[e], DIGITS), -total[e], methods[e]))
    oracles = field.told.groupby("method")["oracle"].agg(lambda asked: " or ".join(sorted(set(asked) - {""})))
    lines = []
    for e, after in zip(order, [*order[1:], None], strict=True):
        line = [methods[e], oracles[methods[e]], rank[e], low[e], high[e], first[e], total[e]]
        line.append(len(chosen.problems))
        if after is None:
            lines.append([*line, *[np.nan] * 4])
            continue
        ahead, behind = int((mean[e] > mean[after]).sum()), int((mean[e] < mean[after]).sum())
        less = drawn[after] - drawn[e]
        beats = float(np.mean(np.where(np.abs(less) < 1e-9, 0.5, less > 0)))
        lines.append([*line, ahead, behind, beats, sign_test(ahead, behind)])
    return pd.DataFrame(lines, columns=columns)


def _resampled_ranks(area: np.ndarray, seeds: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Mean ranks in every resample, (E, B), from the areas (E, P, S) of which the first `seeds`, (E, P), are there."""
    E, P, S = area.shape
    total = np.zeros((E, resamples))
    for _ in range(P):
        problem = rng.integers(P, size=resamples)  # (B,)
        count = seeds[:, problem]  # (E, B)
        # one number a draw for all methods: the same seed wherever they have the same seeds
        u = rng.random((S, resamples))
        at_all = np.zeros((E, resamples))
        for s in range(S):
            place = (u[s] * count).astype(int)  # (E, B)
            at_all += np.where(s < count, area[np.arange(E)[:, None], problem, place], 0.0)
        total += _ranks(at_all / count)
    mean: np.ndarray = total / P
    return mean


def sign_test(ahead: int, behind: int) -> float:
    """Two-sided p-value of the exact sign test: as uneven a split of `ahead` + `behind` problems, or more, by fair
    coins.

    Ties do not take part. With n problems it cannot be below 2^(1-n): five cannot tell at 5 %, however clear they are.
    """
    n, fewer = ahead + behind, min(ahead, behind)
    return min(1.0, sum(math.comb(n, k) for k in range(fewer + 1)) / 2.0 ** (n - 1))
