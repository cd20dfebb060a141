"""The headline: what the results say over all problems, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis import profiles
from optbench.results.runs import Runs

from ..figures.profiles import DEFAULT, NO_BLOCK
from ..wording import factor, percent, plural, rank, target_name

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on one is said to lead, or to lead probably


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    One is said to lead if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.profiles.ranking`, and to lead probably from 80 % on; below that it is too close to call.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.
    """
    chosen = profiles.block(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            only = f" is the only optimizer on {_count(chosen.problems, 'problem')} with a known optimal value: "
            return [(Name(chosen.methods[0]), only, "there is nothing to rank.")]
        return [(f"{NO_BLOCK}, so that there is no ranking over problems; the table tells who leads on each of them.",)]
    table = profiles.ranking(runs)
    asks = dict(zip(table["method"], table["oracle"], strict=True))
    found = [_lead(runs, table, "")]
    winner = table["method"].iloc[0]
    plain = [name for name in table["method"] if "hessian" not in asks[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if asks[name] == "gradient"])
    if "hessian" in asks[winner]:
        price = (Name(winner), " asks for Hessians, and such a call counts like any other, though it costs more time. ")
        if len(plain) > 1:
            rest = profiles.ranking(runs, among=plain)
            found.append((*price, *_lead(runs, rest, "Without Hessians, ")))
            winner = rest["method"].iloc[0]
        else:
            found.append(price)
    elif asks[winner] == "value":
        found.append((Name(winner), " asks for values only, which cost less time than gradients do."))
    if 1 < len(tuned) < len(plain):
        rest = profiles.ranking(runs, among=tuned)
        if rest["method"].iloc[0] != winner:
            found.append(_lead(runs, rest, "Of those with a learning rate to choose, "))
    found.append((*_fragile(runs, tuned, table), *_basis(runs, chosen, table)))
    return found


def _lead(runs: Runs, table: pd.DataFrame, among: str) -> Sentence:
    """Who leads a ranking, how surely, and by how many oracle calls."""
    first, second = table.iloc[0], table.iloc[1]
    winner, other = Name(first["method"]), Name(second["method"])
    problems, beats = int(first["problems"]), float(first["beats_next"])
    best, next_best = rank(first["rank"]), rank(second["rank"])
    claim: Sentence
    several = f"over the {problems} problems" if problems > 1 else "on the one problem"
    over = (
        f"among {len(table)}"
        if among
        else f"{several} that {'both' if len(table) == 2 else f'all {len(table)}'} ran on"
    )
    interval = f"95 % interval {rank(first['low'])} to {rank(first['high'])}"
    often = "every resample" if beats == 1 else f"{percent(beats)} of resamples"
    if beats >= LIKELY:
        verb = " leads " if beats >= CLEAR else " probably leads "
        claim = (among, winner, f"{verb}{over}: mean rank {best} ({interval}), before ", other)
        claim += (f" ({next_best}) in {often} of problems and seeds. ",)
    else:
        claim = (f"{among}{'the' if among else 'The'} first place is too close to call {over}: ", winner)
        if first["rank"] < second["rank"]:
            claim += (
                f", mean rank {best} ({interval}), is before ",
                other,
                f" ({next_best}) in only {often} of problems",
            )
            claim += (" and seeds. ",)
        else:
            claim += (" and ", other, f" have the same mean rank, {best} (95 % intervals {interval[14:]} and ")
            claim += (f"{rank(second['low'])} to {rank(second['high'])}). ",)
    return (*claim, *_margin(runs, winner, other, problems))


def _margin(runs: Runs, winner: Name, other: Name, problems: int) -> Sentence:
    """How many times as many oracle calls the second needs as the first, where both get there."""
    chosen = profiles.block(runs).problems
    table = profiles.relative_calls(runs, DEFAULT)
    table = table[table["problem"].isin(chosen)].sort_values("problem")
    calls = {name: table.loc[table["method"] == name, "calls"].to_numpy(float) for name in (winner, other)}
    both = np.isfinite(calls[winner]) & np.isfinite(calls[other])
    alone = int((np.isfinite(calls[winner]) & ~both).sum())
    reached = int(np.isfinite(calls[winner]).sum())
    goal = f"{target_name(DEFAULT)} of the initial gap"
    where = "all of them" if reached == problems else f"{reached} of them" if reached else "none of them"
    where = where if problems > 1 else "it" if reached else "none"
    start = (winner, f" reaches {goal} on {where}")
    if not both.any():
        return (*start, ".") if not alone else (*start, ", ", other, " on none of those.")
    ratio = calls[other][both] / calls[winner][both]
    low, high = factor(ratio.min()), factor(ratio.max())
    span = f"{low} times as many" if low == high else f"{low} to {high} times as many"
    span = "as many" if low == high == "1" else span
    missed = f", and misses it on {alone}" if alone else ""
    return (*start, "; there ", other, f" needs {span} oracle calls{missed}.")


def _with_learning_rate(runs: Runs, names: Sequence[str]) -> list[str]:
    """Those of some methods that have a step size wherever they ran."""
    table = profiles.tuned_runs(runs)
    with_size = table.groupby("method")["step_size"].apply(lambda sizes: sizes.notna().all())
    return [name for name in names if with_size[name]]


def _fragile(runs: Runs, tuned: Sequence[str], table: pd.DataFrame) -> Sentence:
    """What part of its runs the best one with a learning rate lost, over all step sizes that were tried."""
    if not tuned:
        return ()
    best = next(name for name in table["method"] if name in tuned)
    rows = runs.rows[runs.rows["method"] == best]
    lost = rows.loc[rows["status"].isin(["diverged", "failed"]), "status"]
    sizes = rows["step_size"].nunique()
    if sizes < 2:
        return ()
    if lost.empty:
        return (f"None of the {len(rows)} runs of ", Name(best), f" diverged, over {sizes} step sizes. ")
    how = " or ".join(sorted(set(lost)))
    return (f"{percent(len(lost) / len(rows))} of the runs of ", Name(best), f" over {sizes} step sizes {how}. ")


def _basis(runs: Runs, chosen: profiles.Block, table: pd.DataFrame) -> Sentence:
    """On how much it all rests."""
    rows = profiles.tuned_runs(runs)
    rows = rows[rows["problem"].isin(chosen.problems) & rows["method"].isin(chosen.methods)]
    seeds = sorted(set(rows.groupby(["method", "problem"])["seed"].nunique()))
    counted = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    problems = len(chosen.problems)
    rests = f"This rests on {plural(problems, 'problem')} and {counted} seed{'' if seeds == [1] else 's'} each"
    least = profiles.sign_test(problems, 0)
    if least > 0.05:
        return (f"{rests}: too few problems for any order to be significant at 5 % (sign test, p ≥ {least:.3g}).",)
    ahead, behind = int(table["ahead"].iloc[0]), int(table["behind"].iloc[0])
    p = profiles.sign_test(ahead, behind)
    split = f"the first is ahead of the second on {ahead} problems and behind on {behind}"
    return (f"{rests}; {split} (sign test, p = {p:.2g}).",)


def _count(things: Sequence[Any], noun: str) -> str:
    return plural(len(things), noun)
