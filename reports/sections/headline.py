"""The headline: what the results say over all problems, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from optbench.analysis import grid, profiles, ranking, statistics
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs

from ..figures.profiles import DEFAULT, NO_RANKING
from ..wording import factor, percent, plural, rank, target_name

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on a method leads, or probably leads


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    A method leads if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.analysis.ranking.ranking`, and probably leads from 80 % on; below that it is too close to call.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.
    """
    chosen = grid.complete_set(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            problems = plural(len(chosen.problems), "problem")
            only = f" is the only optimizer on {problems} with a known optimal value: there is nothing to rank."
            return [(Name(chosen.methods[0]), only)]
        return [(f"{NO_RANKING}, so there is no ranking over problems; the table shows who leads on each of them.",)]
    table = ranking.ranking(runs)
    oracle = dict(zip(table["method"], table["oracle"], strict=True))
    sentences = [_lead(runs, table)]
    winner = table["method"].iloc[0]
    plain = [name for name in table["method"] if Oracle.HESSIAN not in oracle[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if oracle[name] == Oracle.GRADIENT])
    if Oracle.HESSIAN in oracle[winner]:
        price = (Name(winner), " uses Hessians; such a call counts like any other, though it costs more time. ")
        if len(plain) > 1:
            rest = ranking.ranking(runs, among=tuple(plain))
            sentences.append((*price, *_lead(runs, rest, "Without Hessians, ")))
            winner = rest["method"].iloc[0]
        else:
            sentences.append(price)
    elif oracle[winner] == Oracle.VALUE:
        sentences.append((Name(winner), " uses values only, which cost less time than gradients."))
    if 1 < len(tuned) < len(plain):
        rest = ranking.ranking(runs, among=tuple(tuned))
        if rest["method"].iloc[0] != winner:
            sentences.append(_lead(runs, rest, "Of those with a learning rate to choose, "))
    sentences.append((*_losses(runs, tuned, table), *_evidence(runs, chosen, table)))
    return sentences


def _lead(runs: Runs, table: pd.DataFrame, among: str = "") -> Sentence:
    """Who leads a ranking, how surely, and by how many oracle calls; `among` begins a sentence on some of the methods."""
    first, second = table.iloc[0], table.iloc[1]
    winner, other = Name(first["method"]), Name(second["method"])
    problems, beats = int(first["problems"]), float(first["beats_next"])
    best, next_best = rank(first["rank"]), rank(second["rank"])
    interval, next_interval = (f"{rank(line['low'])} to {rank(line['high'])}" for line in (first, second))
    several = f"over the {problems} problems" if problems > 1 else "on the one problem"
    everyone = "both" if len(table) == 2 else f"all {len(table)}"
    over = f"among {len(table)}" if among else f"{several} that {everyone} ran on"
    often = f"{'every resample' if beats == 1 else f'{percent(beats)} of resamples'} of problems and seeds. "
    close = f"{among}{'the' if among else 'The'} first place is too close to call {over}: "
    lead = f"mean rank {best} (95 % interval {interval})"
    claim: Sentence
    if beats >= LIKELY:
        verb = "leads" if beats >= CLEAR else "probably leads"
        claim = (among, winner, f" {verb} {over}: {lead}, before ", other, f" ({next_best}) in {often}")
    elif first["rank"] < second["rank"]:
        claim = (close, winner, f", {lead}, is before ", other, f" ({next_best}) in only {often}")
    else:
        same = f" have the same mean rank, {best} (95 % intervals {interval} and {next_interval}). "
        claim = (close, winner, " and ", other, same)
    return (*claim, *_margin(runs, winner, other, problems))


def _margin(runs: Runs, winner: Name, other: Name, problems: int) -> Sentence:
    """How many times as many oracle calls the second needs as the first, where both reach the target."""
    chosen = grid.complete_set(runs).problems
    table = profiles.relative_calls(runs, DEFAULT)
    table = table[table["problem"].isin(chosen)].sort_values("problem")
    calls = {name: table.loc[table["method"] == name, "calls"].to_numpy(float) for name in (winner, other)}  # (P,) each
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
    many = "as many" if low == high == "1" else f"{' to '.join(dict.fromkeys((low, high)))} times as many"
    missed = f", and misses it on {alone}" if alone else ""
    return (*start, "; there ", other, f" needs {many} oracle calls{missed}.")


def _with_learning_rate(runs: Runs, names: Sequence[str]) -> list[str]:
    """Those of some methods that have a step size wherever they ran."""
    table = grid.tuned_runs(runs)
    with_size = table.groupby("method")["step_size"].apply(lambda sizes: sizes.notna().all())
    return [name for name in names if with_size[name]]


def _losses(runs: Runs, tuned: Sequence[str], table: pd.DataFrame) -> Sentence:
    """What share of the runs of the best method with a learning rate was lost, over all step sizes that were tried."""
    best = next((name for name in table["method"] if name in tuned), None)
    rows = runs.rows[runs.rows["method"] == best]
    sizes = rows["step_size"].nunique()
    if best is None or sizes < 2:
        return ()
    lost = [status for status in rows["status"] if Status(status).is_lost]
    if not lost:
        return (f"None of the {len(rows)} runs of ", Name(best), f" diverged, over {sizes} step sizes. ")
    how = " or ".join(sorted(set(lost)))
    return (f"{percent(len(lost) / len(rows))} of the runs of ", Name(best), f" over {sizes} step sizes {how}. ")


def _evidence(runs: Runs, chosen: grid.CompleteSet, table: pd.DataFrame) -> Sentence:
    """How many problems and seeds the ranking rests on."""
    rows = grid.tuned_runs(runs)
    rows = rows[rows["problem"].isin(chosen.problems) & rows["method"].isin(chosen.methods)]
    seeds = sorted(set(rows.groupby(["method", "problem"])["seed"].nunique()))
    counted = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    problems = len(chosen.problems)
    rests = f"This rests on {plural(problems, 'problem')} and {counted} seed{'' if seeds == [1] else 's'} each"
    least = statistics.sign_test(problems, 0)
    if least > 0.05:
        return (f"{rests}: too few problems for any order to be significant at 5 % (sign test, p ≥ {least:.3g}).",)
    first, second = table["method"].iloc[:2]
    ahead, behind = int(table["ahead"].iloc[0]), int(table["behind"].iloc[0])
    split = f" on {ahead} problems and behind on {behind} (sign test, p = {statistics.sign_test(ahead, behind):.2g})."
    return (f"{rests}; ", Name(first), " is ahead of ", Name(second), split)
