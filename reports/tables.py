"""Tables for readers, shared by the terminal and the page; their numbers come from `optbench.analysis`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from optbench.analysis import metrics, timing, tuning, validity
from optbench.core.trace import TARGETS
from optbench.core.types import Oracle
from optbench.results.runs import Runs

from .page.table import Cell, Column
from .wording import NEVER, calls, duration, factor, notation, number, target_name

# what an oracle call returns; unknown where all runs failed
ORACLES: dict[str, str] = {
    Oracle.VALUE: "f", Oracle.GRADIENT: "f, gradient", Oracle.HESSIAN: "f, gradient, Hessian", "": NEVER
}  # fmt: skip
UNRESOLVED = "n/a"  # instead of calls to a target that cannot be resolved
Show = Callable[[dict[Any, Any]], Cell]  # from a row of `lines`


def lines(runs: Runs) -> pd.DataFrame:
    """`metrics.summary` with three more columns.

    n_settings : number of settings that were tried
    others : best values of the hyperparameters that were swept besides the step size, by name
    shown : `final`, but 0 where a gap is negative by rounding alone
    """
    tuned = tuning.tuned(runs)
    tried = dict(iter(tuning.setting_scores(runs).groupby(["problem", "method"], sort=True)))
    others = []
    for problem, method, best in zip(tuned["problem"], tuned["method"], tuned["settings"], strict=True):
        sizes = dict(zip(tried[problem, method]["settings"], tried[problem, method]["step_size"], strict=True))
        settings = {text: json.loads(text) for text in sizes}
        swept = [name for name in settings[best] if len({json.dumps(s.get(name)) for s in settings.values()}) > 1]
        others_swept = [name for name in swept if any(s.get(name) != sizes[text] for text, s in settings.items())]
        others.append({name: settings[best][name] for name in others_swept})
    extra = tuned[["problem", "method", "n_settings"]].assign(others=pd.Series(others, dtype=object))
    table = metrics.summary(runs).merge(extra, on=["problem", "method"], how="left")
    return table.assign(shown=without_rounding(table, runs.rows))


def without_rounding(table: pd.DataFrame, rows: pd.DataFrame) -> pd.Series[float]:
    """The column `final` of a table of problems, with 0 where a gap is negative by rounding alone."""
    room = table["problem"].map(validity.rounding(rows).groupby(rows["problem"]).max()).astype(float)
    return table["final"].mask(table["final"].between(-room, 0), 0.0)


def columns(table: pd.DataFrame) -> list[Column]:
    """The columns that a table of `lines` needs: calls to targets where optima are known, failures where there are any.

    The numbers of a column have one notation for each problem.
    """
    targets = {f"{t:.0e}": target_name(t) for t in metrics.SHOWN_TARGETS}
    calls_to = "median oracle calls until the gap is {} of the initial gap"
    gaps = set(table["gap"])
    end = "gap" if gaps == {True} else "objective" if gaps == {False} else "gap or objective"
    failed = Column("failed", _share("failed"), meaning="runs that failed, of all settings and seeds")
    invalid = Column(
        "invalid", _share("invalid"), meaning="runs that contradict their problem, of all settings and seeds"
    )
    settings = "step size (* at the edge of its grid), other swept settings, batch size"
    return [
        Column("method", _text("method"), "row", "optimizer with its fixed settings and schedule"),
        Column("best settings", _settings, meaning=settings),
        *(
            Column(f"calls to {name}", _target(table, key), meaning=calls_to.format(name))
            for key, name in targets.items()
            if table.empty or table[f"calls_{key}"].notna().any()
        ),
        Column(f"{end} at the end", _number(table, "shown"), meaning="median over seeds, at the last iterate of a run"),
        Column("diverged", _share("diverged"), meaning="runs that diverged, of all settings and seeds"),
        *([failed] if (table["failed"] > 0).any() else []),
        *([invalid] if (table["invalid"] > 0).any() else []),
        Column("tried", lambda line: Cell(str(line["n_settings"])), meaning="number of settings that were compared"),
        Column("oracle", _text("oracle", ORACLES), "", "what one oracle call returns"),
    ]


def summary_table(runs: Runs) -> pd.DataFrame:
    """`metrics.summary` as text: one row a problem and method, best method first.

    Parameters
    ----------
    runs : Runs
        Any results.

    Returns
    -------
    DataFrame
        All columns are text: problem, method, best settings (with * where the step size is the smallest or largest that was
        tried), median oracle calls to 1e-2, 1e-4 and 1e-8 of the initial gap ("41 (4/5)" where one of five seeds missed the
        target, "– (1/5)" where half or more missed it, "–" where all did, "n/a" where it cannot be resolved), gap or
        objective at the end (0 where a gap is negative by rounding alone), runs that diverged, runs that failed or
        contradict their problem (if any did), number of settings that were tried, and what an oracle call returns.

    Examples
    --------
    >>> reports.summary_table(runs)[["problem", "method", "best settings"]]
               problem    method best settings
    0  quadratic:dim=5      adam          0.1*
    1  quadratic:dim=5  momentum          0.1*
    2       rosenbrock  momentum        0.001*
    3       rosenbrock      adam          0.1*
    """
    table = lines(runs)
    shown = columns(table)
    text = [[line["problem"], *(str(column.show(line).text) for column in shown)] for line in table.to_dict("records")]
    return pd.DataFrame(text, columns=["problem", *(column.title for column in shown)], dtype=object)


def markdown(table: pd.DataFrame) -> str:
    """A table of text, such as that of `summary_table`, in the Markdown of GitHub and Pandoc.

    Numbers are aligned to the right; characters that Markdown would interpret are escaped.

    Parameters
    ----------
    table : DataFrame
        Columns of text.

    Returns
    -------
    str
        The table, a line for each row.

    Examples
    --------
    >>> print(reports.markdown(reports.summary_table(runs)[["method", "diverged"]]))
    | method | diverged |
    | --- | ---: |
    | adam | 0 |
    | momentum | 0 |
    | momentum | 10 of 15 |
    | adam | 0 |
    """
    heads = [_MARKDOWN.sub(r"\\\g<0>", head) for head in table.columns]
    rule = ["---:" if _is_numeric(table[head]) else "---" for head in table.columns]
    lines = [
        [_MARKDOWN.sub(r"\\\g<0>", " ".join(str(v).split())) for v in line] for line in table.itertuples(index=False)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rule, *lines])


def latex(table: pd.DataFrame) -> str:
    """A table of text, such as that of `summary_table`, in LaTeX, with the rules of the package booktabs.

    Numbers such as 1e-4 become powers of ten. Rows with the same first cell form a group, which shows the cell once; a rule
    separates groups.

    Parameters
    ----------
    table : DataFrame
        Columns of text.

    Returns
    -------
    str
        The environment ``tabular``.

    Examples
    --------
    >>> text = reports.latex(reports.summary_table(runs)[["method", "diverged"]])
    >>> text.count("adam"), text.count("toprule")
    (2, 1)
    """
    kinds = "".join("r" if _is_numeric(table[head]) else "l" for head in table.columns)
    lines = [
        f"\\begin{{tabular}}{{{kinds}}}",
        "\\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        "\\midrule",
    ]
    before = None
    for first, *others in table.itertuples(index=False):
        if before not in (None, first):
            lines.append("\\midrule")
        lines.append(" & ".join(_latex(str(value)) for value in ["" if first == before else first, *others]) + r" \\")
        before = first
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def html(table: pd.DataFrame) -> str:
    """A table of text, such as that of `summary_table`, in HTML: a heading for each value of the first column.

    Numbers are aligned to the right.
    """
    first, *heads = table.columns
    sides = ["right" if _is_numeric(table[head]) else "left" for head in heads]

    def line(cells: Iterable[Any], tag: str) -> str:
        pairs = zip(cells, sides, strict=True)
        return "".join(f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>' for cell, side in pairs)

    parts = [f"<table><thead><tr>{line(heads, 'th')}</tr></thead>"]
    for name, group in table.groupby(first, sort=False):
        title = f'<th colspan="{len(heads)}" style="text-align: left">{escape(str(name))}</th>'
        body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in group[heads].itertuples(index=False))
        parts.append(f"<tbody><tr>{title}</tr>{body}</tbody>")
    return "".join([*parts, "</table>"])


_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|#~]")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    NEVER: "--",
}  # fmt: skip


def _latex(text: str) -> str:
    text = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"(?<![\w.])(-?)(\d+(?:\.\d+)?)(?:e(-?\d+))?\b", _math, text)


def _math(number: re.Match[str]) -> str:
    """A number with a sign or an exponent in math mode."""
    sign, mantissa, exponent = number.groups()
    if exponent is None:
        return f"${number[0]}$" if sign else number[0]
    factor = "" if mantissa in ("1", "1.00") else rf"{mantissa} \cdot "
    return f"${sign}{factor}10^{{{exponent}}}$"


def _is_numeric(column: pd.Series) -> bool:
    """Whether most cells of a column begin with a number, or are dashes."""
    cells = column.astype(str)
    return bool(len(cells)) and bool((cells.str.match(r"-?\d") | (cells == NEVER)).mean() > 0.5)


def speed_table(races: pd.DataFrame) -> pd.DataFrame:
    """`timing.race_summary` as text: one row for each race and configuration, in the order of the race.

    Parameters
    ----------
    races : DataFrame
        One row a round and configuration, as `optbench.results.store.Store.load_races` returns them.

    Returns
    -------
    DataFrame
        All columns but `finite` are text: race, problem, configuration, method, a step (its time), times the first (ratio
        to the first configuration on the problem, paired by rounds), oracle (its share of a step), optimizer (time of a
        step without its oracle call), reason (why the race may have been disturbed, or empty), finite (whether no round
        diverged). The interval of a number is in the column after it, whose name ends in "95 %".

    Examples
    --------
    >>> reports.speed_table(races)[["configuration", "finite"]]
      configuration  finite
    0          adam    True
    1      momentum    True
    """
    columns = ["race", "problem", "configuration", "method", "a step", "a step, 95 %", "times the first"]
    columns += ["times the first, 95 %", "oracle", "optimizer", "optimizer, 95 %", "reason", "finite"]
    shown = []
    for line in timing.race_summary(races).to_dict("records"):
        step = duration(line["seconds"], line["seconds_low"], line["seconds_high"])
        rest = duration(line["optimizer_seconds"], line["optimizer_low"], line["optimizer_high"])
        ratio = f"{line['ratio']:.2f}", f"{line['ratio_low']:.2f} to {line['ratio_high']:.2f}"
        oracle = f"{100 * line['oracle_share']:.0f} %"
        names = (line[name] for name in columns[:4])
        shown.append([*names, *step, *ratio, oracle, *rest, line["reason"], line["finite"]])
    return pd.DataFrame(shown, columns=columns)


def seconds_table(runs: Runs, races: pd.DataFrame) -> pd.DataFrame:
    """`timing.seconds_to_target` as text: one row a method, problem, machine and form of the rule.

    The fastest to the hardest target comes first. Problems whose optimal value is not known have no targets, and no rows.

    Parameters
    ----------
    runs : Runs
        Results on problems with a known optimum.
    races : DataFrame
        As in `speed_table`.

    Returns
    -------
    DataFrame
        problem, method, machine, update ("fused" or "as written"), backend, precision, race; "to 1e-2", "to 1e-4" and
        "to 1e-8" ("12.3 ms (4/5)" where one of five seeds missed the target, "–" where half or more did), each followed by
        its interval in a column whose name ends in "95 %"; disturbed (whether the race may have been).

    Examples
    --------
    >>> sorted(reports.seconds_table(runs, races)["method"])
    ['adam', 'momentum']
    """
    names = [f"to {target_name(t)}" for t in metrics.SHOWN_TARGETS]
    facts = ["problem", "method", "machine", "update", "backend", "precision", "race"]
    heads = [*facts, *(head for name in names for head in (name, f"{name}, 95 %")), "disturbed"]
    to_targets = [timing.seconds_to_target(runs, races, t) for t in metrics.SHOWN_TARGETS]
    lines = []
    for several in zip(*(table.to_dict("records") for table in to_targets), strict=True):
        first = several[0]
        if np.isnan(first["calls"]):
            continue
        cells = []
        for line in several:
            reached, seeds = line["reached"], line["seeds"]
            text, interval = duration(line["seconds"], line["seconds_low"], line["seconds_high"])
            text = UNRESOLVED if np.isnan(line["calls"]) else text
            cells += [text + (f" ({reached}/{seeds})" if 0 < reached < seeds else ""), interval]
        first = first | {"update": "fused" if first["fused"] else "as written"}
        order = (first["problem"], first["machine"], *(_finite_first(line["seconds"]) for line in reversed(several)))
        lines.append((order, [*(first[name] for name in facts), *cells, first["disturbed"]]))
    return pd.DataFrame([line for _, line in sorted(lines, key=lambda pair: pair[0])], columns=heads)


class Leader(NamedTuple):
    """The method that leads on a problem."""

    problem: str
    goal: str  # what the methods are compared by
    methods: tuple[str, ...]  # several if they tie, none if no method reached anything
    result: str
    oracle: str
    remark: str
    certain: bool = True  # whether the first is ahead of the second on at least three of four seeds


def leaders(runs: Runs) -> list[Leader]:
    """The leading method on each problem, and its margin.

    Where the optimum is known, it is the method with the smallest median of oracle calls to the hardest target that any
    method reaches in the median. Elsewhere, it is the one with the smallest objective within the oracle calls that every
    method made. Nothing is claimed about problems that contradict themselves.
    """
    best = tuning.tuned_rows(runs)[
        ["problem", "method", "seed", "f_star", "f_start", "status", "calls_to_target", "oracle"]
    ]
    leaders, unjudged = [], validity.judged(runs).unjudged
    for problem, rows in best.groupby("problem", sort=True):
        if problem in unjudged and unjudged[problem].is_wrong:
            leaders.append(Leader(str(problem), NEVER, (), NEVER, NEVER, f"it {unjudged[problem].why}"))
            continue
        known = bool(rows["f_star"].notna().all())
        leaders.append((_fastest if known else _lowest)(str(problem), rows, runs))
    return leaders


def _fastest(problem: str, rows: pd.DataFrame, runs: Runs) -> Leader:
    goal, ranking = _ranking(rows)
    if not ranking:
        easiest = f"{target_name(TARGETS[0])} of the initial gap"
        return Leader(problem, easiest, (), NEVER, NEVER, "no method reaches it on most seeds")
    oracles = rows.dropna(subset="oracle").groupby("method")["oracle"].first()
    least = ranking[0][0]
    methods = tuple(method for count, method in ranking if count == least)
    behind = ranking[len(methods) :]
    remarks, certain = [], len(methods) == 1
    if len(methods) == 1 and behind:
        count, second = behind[0]
        index = tuning.target_index(goal)
        certain, wins = _wins(*(_by_seed(rows, method, index) for method in (methods[0], second)))
        remarks.append(f"{second} needs {factor(count / least)} times as many, and more on {wins}")
    elif not behind:
        remarks.append("no other method reaches it on most seeds")
    if all(oracles[method] == Oracle.HESSIAN for method in methods):
        further, rest = _ranking(rows[~rows["method"].isin(oracles.index[oracles == Oracle.HESSIAN])])
        if rest:
            remarks.append(f"without Hessians: {rest[0][1]}, {calls(rest[0][0])} calls to {target_name(further)}")
    result = f"{calls(least)} call{'' if least == 1 else 's'}"
    goal_name = f"{target_name(goal)} of the initial gap"
    return Leader(problem, goal_name, methods, result, _oracles(rows, methods), "; ".join(remarks), certain)


def _oracles(rows: pd.DataFrame, methods: Iterable[str]) -> str:
    """What an oracle call returns to these methods."""
    oracles = rows.dropna(subset="oracle").groupby("method")["oracle"].first()
    return " or ".join(sorted({ORACLES[oracles[method]] for method in methods}))


def _wins(first: dict[int, float], other: dict[int, float]) -> tuple[bool, str]:
    """Whether the first has the smaller value on at least three of four common seeds, and on how many."""
    both = set(first) & set(other)
    ahead = sum(first[seed] < other[seed] for seed in both)
    certain = 4 * ahead >= 3 * len(both)
    return certain, f"{'' if certain else 'only '}{ahead} of {len(both)} seeds"


def _by_seed(rows: pd.DataFrame, method: str, index: int) -> dict[int, float]:
    """Oracle calls of a method to a target, by seed."""
    part = rows[rows["method"] == method].drop_duplicates("seed")
    return dict(zip(part["seed"], validity.calls_to_target(part)[:, index], strict=True))


def _ranking(rows: pd.DataFrame) -> tuple[float, list[tuple[float, str]]]:
    """The hardest target that any method reaches in the median, and (median calls, method) of those that do."""
    medians = {}
    for method, part in rows.groupby("method", sort=True):
        count = validity.calls_to_target(part)  # (S, 50)
        medians[str(method)] = np.sort(np.where(np.isnan(count), np.inf, count), axis=0)[len(part) // 2]
    finite = np.isfinite(np.array(list(medians.values())).reshape(-1, len(TARGETS))).any(axis=0)
    if not finite.any():
        return float(TARGETS[0]), []
    hardest = int(np.flatnonzero(finite)[-1])
    ranking = [(float(median[hardest]), method) for method, median in medians.items() if np.isfinite(median[hardest])]
    return float(TARGETS[hardest]), sorted(ranking)


def _lowest(problem: str, rows: pd.DataFrame, runs: Runs) -> Leader:
    part = Runs(runs.rows[runs.rows["problem"] == problem])
    curves = metrics.bands(part)
    curves = curves[np.isfinite(curves["median"].astype(float))]  # of dtype object if empty
    if curves.empty:
        return Leader(problem, "smallest objective", (), NEVER, NEVER, "no run has a finite value")
    budget = curves.groupby("method")["calls"].max().min()
    reached = curves[curves["calls"] <= budget].groupby("method")["median"].min().sort_values(kind="stable")
    goal = f"smallest objective within {calls(budget)} calls, which every method made"
    if reached.empty:  # not even a first checkpoint in common
        return Leader(problem, "smallest objective", (), NEVER, NEVER, "the budgets have nothing in common")
    methods = tuple(str(m) for m in reached.index[reached == reached.iloc[0]])
    behind = reached[reached > reached.iloc[0]]
    remark = "no other method to compare with" if len(methods) == 1 else "no method is behind"
    certain = len(methods) == 1
    if len(behind):
        second = str(behind.index[0])
        remark = f"{second} reaches {number(behind.iloc[0])}"
        if certain:
            best = tuning.tuned_rows(part)
            certain, wins = _wins(*(_within(best[best["method"] == m], budget) for m in (methods[0], second)))
            remark += f"; {methods[0]} is lower on {wins}"
    return Leader(problem, goal, methods, number(reached.iloc[0]), _oracles(rows, methods), remark, certain)


def _within(rows: pd.DataFrame, budget: float) -> dict[int, float]:
    """Smallest objective of a method within a number of oracle calls, by seed; infinity where there is none."""
    smallest = {}
    for row in rows[["seed", "checkpoint_calls", "best"]].itertuples(index=False):
        within = np.asarray(row.checkpoint_calls, dtype=float) <= budget  # (C,)
        values = np.asarray(row.best, dtype=float)[within]
        smallest[int(row.seed)] = float(values[-1]) if len(values) and np.isfinite(values[-1]) else np.inf
    return smallest


def _text(name: str, words: dict[str, str] | None = None) -> Show:
    def show(line: dict[Any, Any]) -> Cell:
        text = str(line[name])
        return Cell(words[text] if words else text, text)

    return show


def _notations(table: pd.DataFrame, name: str, digits: int = 3) -> dict[Any, Callable[[float], str]]:
    """The notation of a column on each problem."""
    return {problem: notation(values, digits) for problem, values in table.groupby("problem")[name]}


def _number(table: pd.DataFrame, name: str) -> Show:
    write = _notations(table, name)
    return lambda line: Cell(write[line["problem"]](line[name]), _finite_first(line[name]))


def _share(name: str) -> Show:
    return lambda line: Cell(f"{line[name]} of {line['runs']}" if line[name] else "0", line[name])


def _target(table: pd.DataFrame, name: str) -> Show:
    write = _notations(table, f"calls_{name}", 2)

    def show(line: dict[Any, Any]) -> Cell:
        count = line[f"calls_{name}"]
        if line["gap"] and np.isnan(count):
            return Cell(UNRESOLVED, np.inf, title="this target cannot be resolved, so it counts for no method")
        return calls_cell(count, line[f"reached_{name}"], line["seeds"], write[line["problem"]])

    return show


def calls_cell(count: float, reached: int, seeds: int, write: Callable[[float], str]) -> Cell:
    """Median calls to a target, and how many seeds reached it unless all or none did: 41 (4/5)."""
    return Cell(write(count) + (f" ({reached}/{seeds})" if 0 < reached < seeds else ""), _finite_first(count))


def _settings(line: dict[Any, Any]) -> Cell:
    size = "" if pd.isna(line["step_size"]) else number(line["step_size"]) + ("*" if line["edge"] else "")
    batch = "" if pd.isna(line["batch_size"]) else f"batch {line['batch_size']:.0f}"
    others = [f"{name}={v:.4g}" if isinstance(v, float) else f"{name}={v}" for name, v in line["others"].items()]
    return Cell(", ".join(filter(None, [size, *others, batch])) or NEVER, _finite_first(line["step_size"]))


def _finite_first(value: float) -> float:
    """A number to sort by: infinity for what was never reached or is missing."""
    return float(value) if np.isfinite(value) else np.inf
