"""What the results say over all problems: in sentences for the page, in three lines and a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from optbench.analysis import profiles, statistics
from optbench.analysis.grid import CompleteSet, complete_set, run_grid, tuned_runs
from optbench.analysis.ranking import ranking
from optbench.analysis.validity import judged
from optbench.core.types import Oracle, Status
from optbench.results.runs import Runs

from . import tables
from .wording import DEFAULT, NO_RANKING, factor, percent, plural, rank, target_name

CLEAR, LIKELY = 0.95, 0.8  # shares of resamples from which on a method leads, or probably leads


class Name(str):
    """The name of a method within a sentence."""


Sentence = tuple[str, ...]  # parts, to be read without anything between them


class Ranking(NamedTuple):
    """A ranking of the methods that a question is about."""

    among: str  # "" for all methods, or which
    table: pd.DataFrame  # of `ranking.ranking`


def rankings(runs: Runs) -> list[Ranking]:
    """All methods; those without Hessians if the first of all uses them; those with a learning rate if none of them leads.

    Empty unless two methods ran on a common problem with a known optimum.
    """
    if len(complete_set(runs).methods) < 2:
        return []
    found = [Ranking("", ranking(runs))]
    table = found[0].table
    oracle = dict(zip(table["method"], table["oracle"], strict=True))
    plain = [name for name in table["method"] if Oracle.HESSIAN not in oracle[name]]
    tuned = _with_learning_rate(runs, [name for name in plain if oracle[name] == Oracle.GRADIENT])
    if table["method"].iloc[0] not in plain and len(plain) > 1:
        found.append(Ranking("without Hessians", ranking(runs, among=tuple(plain))))
    if 1 < len(tuned) < len(plain):
        rest = ranking(runs, among=tuple(tuned))
        if rest["method"].iloc[0] != found[-1].table["method"].iloc[0]:
            found.append(Ranking("with a learning rate", rest))
    return found


def answer(runs: Runs) -> list[str]:
    """The verdict in at most three lines of text, for the terminal.

    Parameters
    ----------
    runs : Runs
        Results on one or more problems.

    Returns
    -------
    list of str
        The lines.

    Examples
    --------
    >>> for line in reports.answer(runs):
    ...     print(line)
    Over 2 problems: ...
    2 problems are too few for any order to be significant.
    """
    problems = complete_set(runs).problems
    found = rankings(runs)
    if len(problems) < 2 or not found:
        return _answers_by_problem(runs)
    lines = []
    for among, table in found:
        first, second = table.iloc[0], table.iloc[1]
        if first["beats_next"] < LIKELY:
            places = (f"{line['method']} {rank(line['rank'])}" for line in (first, second))
            claim = f"too close to call (mean rank of {', '.join(places)})"
        else:
            words = verb(first["beats_next"], len(problems))
            interval = f"{rank(first['low'])} to {rank(first['high'])}"
            claim = f"{first['method']} {words}, mean rank {rank(first['rank'])} of {len(table)} ({interval})"
        lines.append(f"{among[0].upper()}{among[1:]}: {claim}" if among else f"Over {len(problems)} problems: {claim}")
    if too_few(len(problems)):
        lines = [*lines[:2], f"{len(problems)} problems are too few for any order to be significant."]
    return lines


def _answers_by_problem(runs: Runs) -> list[str]:
    """Who leads on each of the first problems."""
    leaders = tables.leaders(runs)
    alone = dict(runs.rows.groupby("problem")["method"].agg(lambda methods: len(set(methods)) == 1))
    lines = []
    for leader in leaders[:3]:
        words = "leads" if len(leader.methods) == 1 else "lead"
        words = words if leader.certain else "is first, but it is too close to call"
        measured = f"{leader.result} to {leader.goal}"
        if "objective" in leader.goal:
            measured = f"{leader.goal.partition(',')[0]}: {leader.result}"
        if leader.methods and alone[leader.problem]:
            lines.append(f"{leader.methods[0]}: {measured}" + (f" on {leader.problem}" if len(leaders) > 1 else ""))
            continue
        claim = f"{' and '.join(leader.methods)} {words}, {measured}" if leader.methods else leader.remark
        lines.append(f"{leader.problem}: {claim}")
    if len(leaders) == 1 and leaders[0].methods and not alone[leaders[0].problem]:
        lines.append(leaders[0].remark)
    return lines


def too_few(problems: int) -> bool:
    """Whether so few problems leave a sign test above 5 % even where a method is ahead on all of them."""
    return statistics.sign_test(problems, 0) > 0.05


def verb(beats_next: float, problems: int) -> str:
    """How surely the first of a ranking leads, by the share of resamples in which it is before the second."""
    if too_few(problems):
        return "is first"
    return "leads" if beats_next >= CLEAR else "probably leads"


def overview_table(runs: Runs) -> pd.DataFrame:
    """All problems together, as text: one row a method of the ranking, the best first.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.

    Returns
    -------
    DataFrame
        All columns are text: method, mean rank, 95 % interval (of it), solved (on how many problems the gap falls to
        1e-4 of the initial gap, in the median over seeds), × best where solved (how many times the oracle calls of
        the best method it takes to get there, the median over the problems that it solves), diverged (share of all
        runs, over the whole grid), oracle.

    Examples
    --------
    >>> sorted(reports.overview_table(runs)["method"])
    ['adam', 'momentum']
    """
    complete = complete_set(runs)
    resolved = _resolved(runs, DEFAULT)
    calls = profiles.relative_calls(runs, DEFAULT)
    calls = calls[calls["problem"].isin(resolved) & np.isfinite(calls["ratio"])]
    rows = runs.rows[runs.rows["problem"].isin(complete.problems)]
    diverged = (rows["status"] == Status.DIVERGED).groupby(rows["method"]).mean()
    ratios = calls.groupby("method")["ratio"].agg(["size", "median"])
    lines = []
    for line in ranking(runs).to_dict("records"):
        name = line["method"]
        solved, ratio = ratios.loc[name] if name in ratios.index else (0, np.inf)
        place = rank(line["rank"]), f"{rank(line['low'])} to {rank(line['high'])}"
        oracle = " or ".join(tables.ORACLES[kind] for kind in line["oracle"].split(" or "))
        lines.append([name, *place, f"{solved:.0f}/{len(resolved)}", factor(ratio), _share(diverged[name]), oracle])
    goal = target_name(DEFAULT)
    names = ["method", "mean rank", "95 % interval", f"solved to {goal}", "× best where solved", "diverged", "oracle"]
    return pd.DataFrame(lines, columns=names, dtype=object)


def _share(part: float) -> str:
    return "<1 %" if 0 < part < 0.01 else f"{100 * part:.0f} %"


def headline(runs: Runs) -> list[Sentence]:
    """What the results say over all problems, in a few sentences, each only as strong as its numbers.

    A method leads if its mean rank is smaller than that of the next in 95 % of the resamples of
    `optbench.analysis.ranking.ranking`, and probably leads from 80 % on; below that it is too close to call. With
    fewer than six problems, a sign test cannot reach 5 %, and the method with the smallest mean rank only "is first".

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.

    Returns
    -------
    list of tuple of str
        Sentences in parts, to be joined without anything between; names of methods are of the class `Name`.

    Examples
    --------
    >>> for sentence in reports.headline(runs):
    ...     print("".join(sentence))
    The first place is ...
    """
    chosen = complete_set(runs)
    if len(chosen.methods) < 2:
        if chosen.methods:
            problems = plural(len(chosen.problems), "problem")
            only = f" is the only optimizer on {problems} with a known optimal value: there is nothing to rank."
            return [(Name(chosen.methods[0]), only)]
        return [(f"{NO_RANKING}, so there is no ranking over problems; the table shows who leads on each of them.",)]
    (_, table), *others = rankings(runs)
    winner, oracle = table.loc[0, ["method", "oracle"]]
    sentences = [_lead(runs, table)]
    price: Sentence = ()
    if Oracle.HESSIAN in oracle:
        price = (Name(winner), " uses Hessians. Such a call counts like any other, though it costs more time. ")
    elif oracle == Oracle.VALUE:
        price = (Name(winner), " uses values only, which cost less time than gradients. ")
    for among, rest in others:
        sentences.append((*price, *_lead(runs, rest, f"{among[0].upper()}{among[1:]}, ")))
        price = ()
    tuned = _with_learning_rate(runs, list(table.loc[table["oracle"] == Oracle.GRADIENT, "method"]))
    return [*sentences, *([price] if price else []), (*_losses(runs, tuned, table), *_evidence(runs, chosen, table))]


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
    ties = table.loc[1:, "method"][np.isclose(table.loc[1:, "rank"], second["rank"], rtol=0, atol=1e-9)].tolist()
    behind: Sentence = (*_listed(ties), f" ({next_best})")
    if len(ties) > 1:
        behind = (*_listed(ties), f" ({next_best} each), before ", other)
    claim: Sentence
    if beats >= LIKELY:
        claim = (among, winner, f" {verb(beats, problems)} {over}: {lead}, before ", *behind, f" in {often}")
    elif first["rank"] < second["rank"]:
        claim = (close, winner, f", {lead}, is before ", *behind, f" in only {often}")
    else:
        same = f" have the same mean rank, {best} (95 % intervals {interval} and {next_interval}). "
        claim = (close, winner, " and ", other, same)
    return (*claim, *_margin(runs, winner, other))


def _listed(methods: Sequence[str]) -> Sentence:
    """Names with commas and a last "and" between them."""
    parts = [part for method in methods for part in (", ", Name(method))][1:]
    if len(methods) > 1:
        parts[-2] = " and "
    return tuple(parts)


def _resolved(runs: Runs, target: float) -> list[str]:
    """The problems of the complete set on which a target can be resolved."""
    grid, complete = run_grid(runs), complete_set(runs)
    resolved = dict(zip(grid.problems, grid.resolved(target), strict=True))
    return [name for name in complete.problems if resolved[name]]


def _margin(runs: Runs, winner: Name, other: Name) -> Sentence:
    """How many times as many oracle calls the second needs as the first, where both reach the target."""
    chosen = _resolved(runs, DEFAULT)
    problems = len(chosen)
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
    table = tuned_runs(runs)
    with_size = table.groupby("method")["step_size"].apply(lambda sizes: sizes.notna().all())
    return [name for name in names if with_size[name]]


def _losses(runs: Runs, tuned: Sequence[str], table: pd.DataFrame) -> Sentence:
    """What share of the runs of the best method with a learning rate was lost, over all step sizes that were tried."""
    best = next((name for name in table["method"] if name in tuned), None)
    wrong = {name for name, entry in judged(runs).unjudged.items() if entry.is_wrong}
    rows = runs.rows[(runs.rows["method"] == best) & ~runs.rows["problem"].isin(wrong)]
    sizes = rows["step_size"].nunique()
    if best is None or sizes < 2:
        return ()
    lost = [status for status in rows["status"] if Status(status).is_lost]
    if not lost:
        return (f"None of the {len(rows)} runs of ", Name(best), f" diverged, over {sizes} step sizes. ")
    how = " or ".join(sorted(set(lost)))
    return (f"{percent(len(lost) / len(rows))} of the runs of ", Name(best), f" over {sizes} step sizes {how}. ")


def _evidence(runs: Runs, chosen: CompleteSet, table: pd.DataFrame) -> Sentence:
    """How many problems and seeds the ranking rests on."""
    rows = tuned_runs(runs)
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
