"""Recompute the tables of a page from the stored Parquet files, without code of optbench and reports.

    python tests/reports/independent.py RESULTS PAGE

RESULTS is one folder of results and PAGE a page of `optbench report RESULTS`. The definitions follow the documentation.
`tables` yields what is recomputed: the tables that a reader sees (lead, leaders, heat maps, ranking, the summary and the
calls to powers of ten of every problem, divergences and failures) and the tables for download behind them and behind the
profiles. Curves, step sizes and accuracies are compared with their definitions by tests of `analysis`. A
number must be the recomputed one, rounded to the digits that are shown; in a cell for readers the names of methods and the
numbers count, not the words between them.

The script prints how many cells of every table it compared, what it did not recompute (other tables, and further columns
of these), and every disagreement; it exits with 1 if there is one. The resamples of the ranking are random, and are
compared with resamples drawn here.
"""

from __future__ import annotations

import base64
import collections
import csv
import functools
import gzip
import html
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

Row = dict[str, Any]  # a stored run, or a line of a table

SHOWN = {"1e-2": 9, "1e-4": 19, "1e-8": 39}  # places of targets that tables show
WELL = ("budget", "target", "gradient")
ORACLES = {"value": "f", "gradient": "f, gradient", "hessian": "f, gradient, Hessian", "": "–"}
PAIR = ("problem", "method")
SHARE = 0.08  # by which shares of resamples may differ: more than five standard errors of 1000 draws against 4000
DIGITS = 6  # significant digits of embedded numbers


# ---- what is stored --------------------------------------------------------------------------------------------------


def stored(folder: Path) -> list[Row]:
    """The best of the rows with the same identity, sorted, with the labels of their problems and methods.

    A failed row is used only where there is no other; then the newest one is.
    """
    best: dict[str, tuple[Any, Row]] = {}
    for path in sorted((folder / "v3").glob("??/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            rank = row["status"] != "failed", row["created"], row["key"]
            best[row["identity"]] = max((rank, row), best.get(row["identity"], (rank, row)), key=lambda pair: pair[0])
    rows = [row for _, row in best.values()]
    for group in grouped(rows, "problem_spec").values():
        several = len({row["data_hash"] for row in group}) > 1
        for row in group:
            row["problem"] = row["problem_spec"] + (f" [data {row['data_hash'][:8]}]" if several else "")
    for row in rows:
        fixed = ",".join(f"{name}={plain(value)}" for name, value in json.loads(row["fixed"] or "{}").items())
        row["method"] = row["optimizer"] + (f":{fixed}" if fixed else "")
        row["method"] += "" if row["schedule"] in (None, "constant") else f", {row['schedule']}"
    label_batches(rows)
    for column, unit in (("steps", " steps"), ("precision", ""), ("backend", "")):
        for group in grouped(rows, *PAIR).values():
            if len({row[column] for row in group}) > 1:
                for row in group:
                    row["method"] += f", {row[column]}{unit}"
    for row in rows:
        for name in ("step_size", "calls", "calls_per_step", "budget_calls", "f_start", "f_end", "f_best", "f_star"):
            row[name] = math.nan if row[name] is None else row[name]
        row["known"] = not math.isnan(row["f_star"])
        row["well"] = row["status"] in WELL
        row["final"] = row["f_end"] if row["well"] else math.inf
        row["metrics"] = dict(row["metrics"] or ())
        never = np.full(50, np.inf if row["known"] else np.nan)
        row["runtimes"] = never if row["calls_to_target"] is None else np.array(row["calls_to_target"], dtype=float)
    for group in grouped(rows, "problem").values():
        forget_what_cannot_be_judged(group)
    return sorted(rows, key=lambda row: tuple(row[name] for name in (*PAIR, "settings", "seed", "key")))


def forget_what_cannot_be_judged(rows: list[Row]) -> None:
    """Of one problem: no optimum if it contradicts itself, else no target that one of its runs cannot resolve."""
    ran = [row for row in rows if row["status"] != "failed"]
    stated = [row for row in ran if row["known"]]
    lost = [r for r in rows if r["status"] == "invalid" or r["f_best"] < r["f_star"] - rounding([r])]
    unresolved = [np.isnan(row["runtimes"]) for row in rows if row["known"]]
    none = np.logical_or.reduce([*unresolved, np.zeros(50, dtype=bool)])
    wrong: list[Any] = [len(lost)] if lost else []
    if stated and not lost:
        lower = [row["f_star"] if row["f_star_lower"] is None else row["f_star_lower"] for row in stated]
        size = max(*(abs(row["f_star"]) for row in stated), *(abs(row["f_start"]) for row in ran))
        if len(stated) < len(ran) or max(lower) - min(r["f_star"] for r in stated) > 64 * 2.0**-52 * size:
            wrong = sorted({row["f_star"] for row in stated})
    for row in rows:
        row["wrong"], row["counts"] = wrong, ~none
        if wrong or none.all():
            row["known"], row["f_star"], row["runtimes"] = False, math.nan, np.full(50, np.nan)
        row["runtimes"] = np.where(none, np.nan, row["runtimes"])


def label_batches(rows: list[Row]) -> None:
    """Batch sizes are part of a method's label where it ran with several of them on one problem."""
    here = {pair for pair, group in grouped(rows, *PAIR).items() if len({row["batch_size"] for row in group}) > 1}
    methods = {method for _, method in here}
    for row in rows:
        pair = row["problem"], row["method"]
        if row["batch_size"] and row["method"] in methods:
            row["method"] += f", batch {row['batch_size']}"
        elif not row["batch_size"] and pair in here:
            row["method"] += ", full batch"


def plain(value: Any) -> str:
    """A setting as text in a label."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else "none" if value is None else str(value)


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Rows by the values of some columns, the groups sorted by them, the rows of each in their order."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names) if len(names) > 1 else row[names[0]], []).append(row)
    return {key: groups[key] for key in sorted(groups)}


def middle(values: Iterable[float]) -> float:
    """Median: of an even number the larger of the middle two; infinity is later than every number, NaN still later."""
    ordered = np.sort(np.array(list(values), dtype=float))
    return float(ordered[len(ordered) // 2]) if len(ordered) else math.nan


def last_nan(values: Iterable[float]) -> tuple[tuple[bool, float], ...]:
    """Numbers to sort by, NaN behind all."""
    return tuple((math.isnan(v), 0.0 if math.isnan(v) else v) for v in values)


def clean(text: str) -> str:
    """Without characters that XML cannot hold or that turn a line around."""
    bad = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    return re.sub(bad, "\ufffd", text)


def seen(text: str) -> str:
    """Text as a reader sees it: clean, and with single spaces."""
    return " ".join(clean(text).split())


# ---- the page --------------------------------------------------------------------------------------------------------


class Page(NamedTuple):
    """What is recomputed of a page."""

    tables: dict[tuple[str, str], list[Row]]  # that are seen: id of the section, name of the region -> rows by headings
    anchors: dict[str, str]  # heading of a section -> its id
    lead: str
    embedded: dict[str, list[Row]]  # the tables for download, their cells as text


def words(markup: str) -> str:
    """The text of some HTML, without small print."""
    return seen(html.unescape(re.sub(r"<small>.*?</small>|<(?!br)[^>]*>", "", markup).replace("<br>", " ")))


def read(text: str) -> Page:
    """A page: every table is in a region with a name, and that in a section."""
    tables, anchors = {}, {}
    for section, content in re.findall(r'<section id="([^"]*)"[^>]*>(.*?)</section>', text, re.DOTALL):
        anchors[words(content[content.index("<h2>") : content.index("</h2>")])] = section
        for region, table in re.findall(r'aria-label="([^"]*)">\s*<table[^>]*>(.*?)</table>', content, re.DOTALL):
            rows = [
                re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.DOTALL)
                for row in re.split(r"<tr\b[^>]*>", table)[1:]
            ]
            heads = [re.sub(r'<a [^>]*title="([^"]*)".*', r"\1", head) for head in rows[0]]  # else a name may be short
            lines = [dict(zip(map(words, heads), map(words, row), strict=False)) for row in rows[1:]]
            tables[section, html.unescape(region)] = lines
    embedded = {}
    for name, packed in json.loads(text.partition('id="tables">')[2].partition("</script>")[0]).items():
        content = gzip.decompress(base64.b64decode(packed)).decode("utf-8")
        embedded[name] = [*csv.DictReader(io.StringIO(content, newline=""))]
    return Page(tables, anchors, words(text.partition('<p class="lead">')[2].partition("</p>")[0]), embedded)


class Table(NamedTuple):
    """A table of the page with what was recomputed of it, by the names of columns.

    Of the page cells are text. Recomputed are values, or lists of the names of methods and numbers that a text for readers
    has.
    """

    name: str
    shown: Sequence[Row] | None
    own: list[Row]


class Share(float):
    """A share of resamples, which are random."""


class Audit:
    """Comparisons: how many of each table, what disagreed, and what was not recomputed."""

    def __init__(self, methods: Iterable[str]) -> None:
        self.compared: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.unknown: set[str] = set()
        names = sorted({seen(name) for name in methods}, key=len, reverse=True)
        self.token = re.compile("|".join([*map(re.escape, names), r"\d+(?:\.\d+)?(?:e-?\d+)?"]))

    def table(self, table: Table) -> None:
        """All rows and columns of a table; a column that is not recomputed is noted, one that the page lacks is wrong."""
        shown, own = table.shown or [], table.own
        if len(shown) != len(own):
            self.wrong.append(f"{table.name}: the page has {len(shown)} rows, the files give {len(own)}")
        further = [name for name in (shown[0] if shown and own else ()) if name not in own[0]]
        self.unknown |= {f"column {name!r} of {table.name}" for name in further}
        for line, values in zip(shown, own, strict=False):
            for column, value in values.items():
                self.compared[table.name] += 1
                cell = line.get(column)
                if cell is None or not self.agree(cell, value):
                    where = " / ".join([*map(str, list(values.values())[:3]), column])
                    self.wrong.append(f"{table.name}: {where}: the page has {cell!r}, the files give {value!r}")

    def agree(self, shown: str, own: Any) -> bool:
        """Whether a cell shows a value, or the names and numbers of a list."""
        if isinstance(own, list):
            own = [value for value in own if isinstance(value, str) or math.isfinite(value)]
            tokens = self.token.findall(shown)
            return len(tokens) == len(own) and all(map(agrees, tokens, own))
        if own is None or (isinstance(own, float) and math.isnan(own)):
            return shown == ""
        if isinstance(own, float) and math.isfinite(own):
            room = SHARE if isinstance(own, Share) else 0.5001 * unit(own, DIGITS) + 1e-12 * abs(own)
            return re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", shown) is not None and bool(abs(float(shown) - own) <= room)
        own = str(own).lower() if isinstance(own, bool | np.bool_) else str(own)
        return seen(shown).removeprefix("'") == seen(own).removeprefix("'")  # no formula of a spreadsheet


def unit(value: float, digits: int) -> float:
    """The last of so many significant digits."""
    return float(10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)) if value else 1e-300


def agrees(token: str, own: Any) -> bool:
    """Whether a name is the same, or a number is rounded to its digits (at least two; trailing zeros do not count)."""
    if isinstance(own, str):
        return token == seen(own)
    if not re.fullmatch(r"[\d.]+(e-?\d+)?", token):
        return False
    digits = max(2, len(token.partition("e")[0].replace(".", "").lstrip("0").rstrip("0")))
    return bool(abs(float(token) - abs(own)) <= 0.5001 * unit(own, digits))


# ---- tuning ----------------------------------------------------------------------------------------------------------


class Results:
    """The runs of a store, tuned, and the tables of problems."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.pairs: dict[tuple[str, str], list[Row]] = grouped(rows, *PAIR)
        self.settings = {pair: self._ranked(of_pair) for pair, of_pair in self.pairs.items()}
        self.tuned = {
            pair: grouped(of_pair, "settings")[self.settings[pair][0]] for pair, of_pair in self.pairs.items()
        }
        methods = collections.Counter(problem for problem, _ in self.pairs)
        self.problems = sorted(methods, key=lambda name: (-methods[name], name))
        self.methods = {
            problem: sorted(
                (method for p, method in self.pairs if p == problem),
                key=lambda method: (*last_nan(self.score(self.tuned[problem, method])), method),
            )
            for problem in self.problems
        }
        self.parts = grouped(rows, "problem")

    @staticmethod
    def score(rows: list[Row]) -> tuple[float, float, float]:
        """Of the seeds of one setting: the deepest target that more than half reach, the median calls to it, the end."""
        count = np.array([row["runtimes"] for row in rows])
        reached = np.flatnonzero(np.isfinite(count).sum(axis=0) > len(rows) / 2)
        end = middle(row["final"] for row in rows)
        return (-float(reached[-1]), middle(count[:, reached[-1]]), end) if len(reached) else (1.0, math.inf, end)

    def _ranked(self, rows: list[Row]) -> list[str]:
        """The settings of a method on a problem, the best first."""
        scores = {text: (*last_nan(self.score(of_text)), text) for text, of_text in grouped(rows, "settings").items()}
        return sorted(scores, key=scores.__getitem__)

    def known(self, problem: str) -> bool:
        """Whether the optimal value is known to every run of a problem."""
        return all(row["known"] for row in self.parts[problem])

    def summary(self, problem: str) -> list[Row]:
        """The table of a problem, as numbers."""
        lines = []
        for method in self.methods[problem]:
            rows, whole = self.tuned[problem, method], self.pairs[problem, method]
            size = rows[0]["step_size"]
            line: Row = {"problem": problem, "method": method, "step_size": size}
            line["batch_size"] = rows[0]["batch_size"] or math.nan
            for text, place in SHOWN.items():
                at = [row["runtimes"][place] for row in rows]
                name = f"{float(text):.0e}"
                line[f"calls_{name}"] = math.nan if np.isnan(at).any() else middle(at)
                line[f"reached_{name}"] = int(np.isfinite(at).sum())
            gap = all(row["known"] for row in rows)
            line["final"] = middle(row["final"] - (row["f_star"] if gap else 0.0) for row in rows)
            line |= {"gap": gap, "seeds": len({row["seed"] for row in rows})}
            line |= {name: sum(row["status"] == name for row in whole) for name in ("diverged", "failed", "invalid")}
            line |= {"runs": len(whole), "oracle": next((r["oracle"] for r in rows if r["oracle"] is not None), "")}
            sizes = {row["step_size"] for row in whole if not math.isnan(row["step_size"])}
            line["edge"] = len(sizes) > 1 and size in (min(sizes), max(sizes))
            line["n_settings"] = len(self.settings[problem, method])
            line["others"] = self._others(problem, method)
            lines.append(line)
        return lines

    def _others(self, problem: str, method: str) -> Row:
        """Best values of the hyperparameters that were swept besides the step size."""
        tried = {row["settings"]: row["step_size"] for row in self.pairs[problem, method]}
        settings = {text: json.loads(text) for text in tried}
        best = settings[self.settings[problem, method][0]]
        return {
            name: value
            for name, value in best.items()
            if len({json.dumps(s.get(name)) for s in settings.values()}) > 1
            and any(s.get(name) != tried[text] for text, s in settings.items())
        }

    def decades(self, problem: str) -> list[Row]:
        """Calls to every power of ten, of methods all of whose runs know the optimum."""
        lines = []
        for method in self.methods[problem]:
            rows = self.tuned[problem, method]
            for k in range(1, 11) if all(row["known"] for row in rows) else ():
                place = 5 * k - 1
                if not rows[0]["counts"][place]:
                    continue
                at = [row["runtimes"][place] for row in rows]
                calls = [r["calls"] for r in rows if math.isinf(r["runtimes"][place]) and math.isfinite(r["calls"])]
                lines.append(
                    {"problem": problem, "method": method, "target": 10.0**-k, "calls": middle(at)}
                    | {"reached": sum(v < math.inf for v in at), "seeds": len(rows), "censored": middle(calls)}
                )
        return lines

    def smallest(self, problem: str, method: str) -> list[tuple[float, float]]:
        """Calls and the median of the smallest objective so far at every checkpoint where it is finite."""
        rows = [row for row in self.tuned[problem, method] if row["status"] != "failed"]
        calls = {t: c for row in rows for t, c in zip(row["t"], row["checkpoint_calls"], strict=True)}
        now, curve = [math.nan] * len(rows), []
        at = [dict(zip(row["t"], row["best"], strict=True)) for row in rows]
        for t in sorted(calls):
            now = [best.get(t, before) for best, before in zip(at, now, strict=True)]
            now = [math.nan if value is None else value for value in now]
            curve.append((calls[t], middle(now)))
        return [(count, value) for count, value in curve if math.isfinite(value)]


# ---- all problems together -------------------------------------------------------------------------------------------


class Overview:
    """Methods on problems: arrays of E methods, P problems, at most S seeds."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.names = sorted({method for _, method in results.pairs})
        self.problems = sorted(results.problems)
        E, P = len(self.names), len(self.problems)
        S = max((len(rows) for rows in results.tuned.values()), default=0)
        self.calls = np.full((E, P, S, 50), np.nan)
        self.first = np.full((E, P, S), np.nan)
        self.budget = np.full((E, P), np.nan)
        self.seeds = np.zeros((E, P), dtype=int)
        self.oracle: dict[tuple[int, int], str] = {}
        self.known = np.array([any(r["known"] for r in results.parts[p]) for p in self.problems], dtype=bool)
        self.resolved = np.array([results.parts[p][0]["counts"] for p in self.problems]).reshape(-1, 50)  # (P, 50)
        for (problem, method), tuned in results.tuned.items():
            e, p = self.names.index(method), self.problems.index(problem)
            rows = {row["seed"]: row for row in reversed(tuned)}
            costs = [row["calls_per_step"] for row in rows.values() if not math.isnan(row["calls_per_step"])]
            for s, (_, row) in enumerate(sorted(rows.items())):
                count, cost = row["runtimes"], row["calls_per_step"]
                cost = max(costs, default=math.nan) if math.isnan(cost) else cost
                self.calls[e, p, s] = np.where(np.isnan(count) & self.known[p] & row["counts"], np.inf, count)
                self.first[e, p, s] = cost
                self.budget[e, p] = np.fmax(self.budget[e, p], (row["steps"] + 1) * cost)
            self.seeds[e, p] = len(rows)
            self.oracle[e, p] = next((r["oracle"] for r in rows.values() if r["oracle"] is not None), "")
        self.block, self.on = self._block()

    def _block(self) -> tuple[list[int], list[int]]:
        """Methods that all ran on many problems with a known optimum, and these."""
        ran = self.seeds > 0
        problems = [
            frozenset(p for p in range(len(self.problems)) if self.known[p] and of_method[p]) for of_method in ran
        ]
        best: tuple[Any, ...] = (False, 0, 0, ())
        for shared in {one & other for one in problems for other in problems} - {frozenset()}:
            whole = sum(shared <= of_method for of_method in problems)
            first = tuple(p in shared for p in range(len(self.problems)))  # of equals the first in the order of names
            best = max(best, (whole > 1, whole * len(shared), len(shared), first))
        on = [p for p, inside in enumerate(best[3]) if inside]
        return [e for e in range(len(self.names)) if on and ran[e, on].all()], on

    def relative(self, place: int) -> list[Row]:
        """Median calls to a target, and their ratio to those of the best."""
        lines = []
        for e, name in enumerate(self.names):
            for p, problem in enumerate(self.problems):
                line: dict[str, Any] = {"method": name, "problem": problem, "oracle": self.oracle.get((e, p))}
                count = self.median(e, p, place)
                best = np.nanmin([self.median(k, p, place) for k in range(len(self.names))] + [np.inf])
                reached = int(np.isfinite(self.calls[e, p, :, place]).sum())
                status = "not run" if not self.seeds[e, p] else "no target"
                status = "reached" if self.seeds[e, p] and self.known[p] and self.resolved[p, place] else status
                if status == "reached" and math.isinf(count):
                    status = "missed"
                ratio = math.inf if status == "missed" else count / best
                line |= {"calls": count, "reached": reached, "seeds": int(self.seeds[e, p])}
                lines.append(line | {"ratio": ratio, "status": status})
        return lines

    def median(self, e: int, p: int, place: int) -> float:
        count = self.calls[e, p, : self.seeds[e, p], place]
        return middle(count) if len(count) and self.known[p] else math.nan

    @functools.cached_property
    def counted(self) -> np.ndarray:
        """(P, 50): targets of known problems below which not every run begins."""
        begun = ~(self.calls > self.first[..., None])  # what did not run takes no part
        counted: np.ndarray = self.known[:, None] & self.resolved & ~begun.all(axis=(0, 2))
        return counted

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """Area below the ECDF of every run of the block, in decades, (E, P, S); NaN beyond the seeds that ran."""
        calls = self.calls[np.ix_(self.block, self.on)]
        counted = self.counted[self.on]  # (P, 50)
        budget = np.nanmin(self.budget[np.ix_(self.block, self.on)], axis=0)[:, None, None]  # (P, 1, 1)
        saved = np.where(np.isinf(calls), 0.0, np.log10(budget / np.minimum(calls, budget)))
        area: np.ndarray = (
            np.where(counted[:, None], saved, 0.0).sum(axis=3) / np.maximum(counted.sum(axis=1), 1)[:, None]
        )
        return np.where(np.isnan(calls[..., 0]), np.nan, area)

    @staticmethod
    def places(values: np.ndarray) -> np.ndarray:
        """Ranks along the first axis, the largest first; ties share the mean of their places."""
        values = values.round(12)
        larger = (values[None] > values[:, None]).sum(axis=1)
        same = (values[None] == values[:, None]).sum(axis=1)
        ranks: np.ndarray = larger + (same + 1) / 2
        return ranks

    @functools.cached_property
    def ranking(self) -> list[Row]:
        """The ranking, best first, with shares of resamples drawn here."""
        if not self.block:
            return []
        mean = np.nanmean(self.areas, axis=2).round(12)
        rank = self.places(mean).mean(axis=1)
        area = mean.mean(axis=1).round(12)
        drawn = self._resampled()
        lead = np.abs(drawn - drawn.min(axis=0)) < 1e-9
        first = (lead / lead.sum(axis=0)).mean(axis=1)
        names = [self.names[e] for e in self.block]
        order = sorted(range(len(names)), key=lambda e: (round(rank[e], 12), -area[e], names[e]))
        lines = []
        for e, after in zip(order, [*order[1:], None], strict=True):
            oracles = {self.oracle.get((self.block[e], p), "") for p in range(len(self.problems))}
            line: Row = {"method": names[e], "oracle": " or ".join(sorted(oracles - {""})), "rank": float(rank[e])}
            line |= {"first": Share(first[e]), "area": float(area[e])}
            line |= {"problems": len(self.on)} | dict.fromkeys(("ahead", "behind", "beats_next", "p_next"), math.nan)
            if after is not None:
                ahead, behind = int((mean[e] > mean[after]).sum()), int((mean[e] < mean[after]).sum())
                n, k = ahead + behind, min(ahead, behind)
                p = min(1.0, 2 * sum(math.comb(n, j) for j in range(k + 1)) / 2**n)
                less = drawn[after] - drawn[e]
                beats = Share(np.mean(np.where(abs(less) < 1e-9, 0.5, less > 0)))
                line |= {"ahead": float(ahead), "behind": float(behind), "beats_next": beats, "p_next": p}
            lines.append(line)
        return lines

    def _resampled(self, draws: int = 4000) -> np.ndarray:
        """Mean ranks (E, draws) of problems drawn with replacement, and of seeds for every problem drawn."""
        rng = np.random.default_rng(12345)
        E, P, S = self.areas.shape
        seeds = self.seeds[np.ix_(self.block, self.on)]
        total = np.zeros((E, draws))
        for _ in range(P):
            problem, u = rng.integers(P, size=draws), rng.random((draws, S))
            drawn = np.empty((E, draws))
            for e in range(E):
                n = seeds[e, problem][:, None]
                of = self.areas[e, problem[:, None], (u * n).astype(int)]  # (draws, S)
                drawn[e] = np.where(np.arange(S) < n, of, 0.0).sum(axis=1) / n[:, 0]
            total += self.places(drawn)
        average: np.ndarray = total / P
        return average

    def profile(self, place: int, relative: bool) -> list[Row]:
        """Steps of the performance profile, or of the data profile."""
        on = [p for p in self.on if self.resolved[p, place]]
        times = np.array([[self.median(e, p, place) for p in on] for e in self.block]).reshape(-1, len(on))  # (E, P)
        if relative:
            best = times.min(axis=0, initial=math.inf)
            times = np.array(
                [[t / b if math.isfinite(t) else math.inf for t, b in zip(ts, best, strict=True)] for ts in times]
            )
        start = 1.0 if relative or not np.isfinite(times).any() else float(times.min())
        lines = []
        for e, own in zip(self.block, times, strict=True):
            for at in sorted({start, *own[np.isfinite(own)].tolist()}):
                share = float((own <= at).sum() / max(len(own), 1))
                lines.append({"method": self.names[e], "ratio" if relative else "calls": at, "share": share})
        return lines

    def ecdf(self) -> list[Row]:
        """Share of problems, targets and seeds reached, all problems alike."""
        counted = self.counted[self.on]
        lines = []
        for e in self.block:
            weight: dict[float, float] = collections.defaultdict(float)
            for p, of in zip(self.on, counted, strict=True):
                for run in self.calls[e, p, : self.seeds[e, p]][:, of]:
                    for at in run[np.isfinite(run)].tolist():
                        weight[at] += 1 / (of.sum() * self.seeds[e, p] * counted.any(axis=1).sum())
            share = 0.0
            for at in sorted(weight):
                share += weight[at]
                lines.append({"method": self.names[e], "calls": at, "share": share})
        return lines


# ---- the tables ------------------------------------------------------------------------------------------------------


def tables(page: Page, results: Results) -> Iterator[Table]:
    """All tables that are recomputed, with what was recomputed."""
    yield Table("head line", [{"numbers": page.lead}], [{"numbers": lead(results)}])
    yield Table("leaders", page.tables.get(("overview", "Who leads on each problem")), leaders(results))
    for problem in results.problems:
        anchor = page.anchors.get(seen(problem), "")
        lines = results.summary(problem)
        yield Table(
            "summary of a problem",
            page.tables.get((anchor, "Summary table")),
            [summary_text(line, lines, rounding(results.parts[problem])) for line in lines],
        )
        embedded = [{name: value for name, value in line.items() if name != "others"} for line in lines]
        yield Table("summary of a problem, embedded", page.embedded.get(f"{anchor}-summary"), embedded)
        decades = results.decades(problem)
        yield Table("calls to powers of ten", page.tables.get((anchor, "Calls to targets")), decades_text(decades))
        yield Table("calls to powers of ten, embedded", page.embedded.get(f"{anchor}-targets"), decades)
    overview = Overview(results)
    for text, place in SHOWN.items() if overview.on else ():
        relative = overview.relative(place)
        yield Table("relative calls, embedded", page.embedded.get(f"relative-calls-{text}"), relative)
        performance, data = (overview.profile(place, relative=kind) for kind in (True, False))
        yield Table("profiles, embedded", page.embedded.get(f"performance-profile-{text}"), performance)
        yield Table("profiles, embedded", page.embedded.get(f"data-profile-{text}"), data)
        shown = page.tables.get(("overview", f"Heat map to {text} of the initial gap"))
        yield Table("heat map", shown, heat_text(overview, relative))
    if overview.on:
        yield Table("targets at any time, embedded", page.embedded.get("ecdf"), overview.ecdf())
    yield from ranking_tables(page, overview)
    lost = [row for row in results.rows if not row["well"]]
    names = ("problem", "method", "settings", "seed", "status", "end", "error")
    yield Table(
        "divergences and failures, embedded", page.embedded.get("lost"), [{n: r[n] for n in names} for r in lost]
    )
    yield Table("divergences and failures", page.tables.get(("lost", "Divergences and failures")), lost_text(results))


def lead(results: Results) -> list[Any]:
    """Numbers of the line below the title."""
    columns = [len({row[name] for row in results.rows}) for name in ("method", "problem", "seed")]
    return [len(results.rows), *columns]


def calls_text(count: float, reached: int, seeds: int) -> list[Any]:
    """Median calls, with how many seeds reached the target if not all or none did."""
    return [count, *((reached, seeds) if 0 < reached < seeds else ())]


def rounding(rows: list[Row]) -> float:
    """How far below the optimal value rounding takes the runs of a problem."""
    room = []
    for row in rows:
        floor = row["f_star"] if row["f_star_lower"] is None else row["f_star_lower"]
        size = np.fmax(abs(floor), np.fmax(abs(row["f_start"]), 1.0))
        room.append(row["f_star"] - floor + 64 * np.finfo(row["precision"]).eps * size)
    return float(max(room))


def summary_text(line: Row, lines: list[Row], room: float) -> Row:
    """A line of the table of a problem as it is seen; a gap is 0 where rounding makes it negative."""
    settings = [line["step_size"]]
    for name, value in line["others"].items():
        settings += [float(digit) for digit in re.findall(r"\d+", name)]
        settings += [value] if isinstance(value, int | float) else []
    settings += [] if math.isnan(line["batch_size"]) else [line["batch_size"]]
    text: Row = {"method": [line["method"]], "best settings": settings}
    for name in SHOWN:
        column = f"{float(name):.0e}"
        if any(not math.isnan(other[f"calls_{column}"]) for other in lines):
            text[f"calls to {name}"] = calls_text(line[f"calls_{column}"], line[f"reached_{column}"], line["seeds"])
    gaps = {other["gap"] for other in lines}
    what = "gap" if gaps == {True} else "objective" if gaps == {False} else "gap or objective"
    text[f"{what} at the end"] = [0.0 if -room <= line["final"] < 0 else line["final"]]
    for name in ("diverged", *(lost for lost in ("failed", "invalid") if any(other[lost] for other in lines))):
        text[name] = [line[name], line["runs"]] if line[name] else [0]
    return text | {"tried": [line["n_settings"]], "oracle": ORACLES[line["oracle"]]}


def decades_text(decades: list[Row]) -> list[Row]:
    """The calls to powers of ten as they are seen."""
    lines: dict[str, Row] = {}
    for line in decades:
        text = lines.setdefault(line["method"], {"method": [line["method"]]})
        head = f"1e-{round(-math.log10(line['target']))}"
        text[head] = calls_text(line["calls"], line["reached"], line["seeds"])
    return list(lines.values())


def heat_text(overview: Overview, relative: list[Row]) -> list[Row]:
    """The heat map as it is seen."""
    ranks = {line["method"]: line["rank"] for line in overview.ranking}
    with_targets = {line["problem"] for line in relative if line["status"] in ("reached", "missed")}
    ran = [line for line in relative if line["problem"] in with_targets and line["status"] != "not run"]
    methods, problems = {line["method"] for line in ran}, [p for p in overview.results.problems if p in with_targets]
    if len(ranks) > 1:  # the compared methods and problems, and those that fill a quarter of their cells
        on = {overview.problems[p] for p in overview.on}
        count = collections.Counter(line["method"] for line in ran if line["problem"] in on)
        methods = {method for method in methods if method in ranks or 4 * count[method] >= len(on)}
        count = collections.Counter(line["problem"] for line in ran if line["method"] in methods)
        problems = [problem for problem in problems if problem in on or 4 * count[problem] >= len(methods)]
    cells = {(line["method"], line["problem"]): line for line in relative}
    order = [*ranks, *sorted(methods - set(ranks))]
    texts = []
    for method in order:
        text: Row = {"method": [method], "mean rank": [ranks.get(method, math.nan)]}
        for problem in problems:
            line = cells[method, problem]
            missed = [line["reached"], line["seeds"]] if line["reached"] and line["status"] != "not run" else []
            text[seen(problem)] = [line["ratio"]] if line["status"] == "reached" else missed
        texts.append(text)
    return texts


def ranking_tables(page: Page, overview: Overview) -> Iterator[Table]:
    """The ranking; its intervals are compared only with each other."""
    ranking, embedded = overview.ranking, page.embedded.get("ranking", [])
    yield Table("ranking, embedded", embedded, ranking)
    texts = []
    for own, line in zip(ranking, embedded, strict=False):
        last = math.isnan(own["ahead"])
        text: Row = {"method": [own["method"]], "mean rank": [own["rank"]]}
        text["95 % interval"] = [float(line["low"]), float(line["high"])]
        text |= {"first": [round(100 * float(line["first"]))]}
        text |= {"before the next": [] if last else [round(100 * float(line["beats_next"]))]}
        text |= {"problems": [] if last else [own["ahead"], own["behind"]]}
        texts.append(text | {"oracle": " or ".join(ORACLES[oracle] for oracle in own["oracle"].split(" or "))})
    yield Table("ranking", page.tables.get(("overview", "Ranking")), texts)


def leaders(results: Results) -> list[Row]:
    """Who leads on each problem."""
    lines = []
    for problem in sorted(results.problems):
        known = all(row["known"] for m in results.methods[problem] for row in results.tuned[problem, m])
        goal, first, flag, result, remark = (fastest if known else lowest)(results, problem)
        if wrong := results.parts[problem][0]["wrong"]:
            goal, first, flag, result, remark = [], [], False, [], wrong
        oracles = {next((r["oracle"] for r in results.tuned[problem, m] if r["oracle"] is not None), "") for m in first}
        line: Row = {"problem": problem, "compared by": goal, "result": result}
        line["leader"] = " ".join(first) + " too close to call" * flag if first else "none"
        line["oracle"] = " or ".join(sorted(ORACLES[oracle] for oracle in oracles)) or "–"
        lines.append(line | {"other methods": remark})
    return lines


Lead = tuple[list[Any], list[str], bool, list[Any], list[Any]]  # goal, leaders, whether too close, result, remark


def fastest(results: Results, problem: str) -> Lead:
    """Of a problem whose optimum is known: fewest calls to the hardest target that any method reaches."""
    tuned = {m: results.tuned[problem, m] for m in sorted(results.methods[problem])}

    def to_hardest(methods: Iterable[str]) -> tuple[int, list[tuple[float, str]]]:
        medians = {m: [middle(row["runtimes"][k] for row in tuned[m]) for k in range(50)] for m in methods}
        places = [k for k in range(50) if any(math.isfinite(of[k]) for of in medians.values())]
        place = places[-1] if places else 0
        return place, sorted((of[place], m) for m, of in medians.items() if places and math.isfinite(of[place]))

    place, order = to_hardest(tuned)
    goal = [10.0 ** (-0.2 * (place + 1))]
    if not order:
        return goal, [], False, [], []
    first = [m for count, m in order if count == order[0][0]]
    remark, flag = [], len(first) > 1
    if len(order) > 1 and len(first) == 1:
        count, second = order[1]
        ahead, both = wins(
            {m: {r["seed"]: r["runtimes"][place] for r in reversed(tuned[m])} for m in (first[0], second)}
        )
        flag = bool(4 * ahead < 3 * both)
        remark += [second, count / order[0][0], ahead, both]
    oracle = {m: next((r["oracle"] for r in rows if r["oracle"] is not None), None) for m, rows in tuned.items()}
    if all(oracle[m] == "hessian" for m in first):
        further, rest = to_hardest(m for m in tuned if oracle[m] != "hessian")
        remark += [rest[0][1], rest[0][0], 10.0 ** (-0.2 * (further + 1))] if rest else []
    return goal, first, flag, [order[0][0]], remark


def lowest(results: Results, problem: str) -> Lead:
    """Of a problem without a known optimum: smallest objective within the calls that every method made."""
    curves = {method: results.smallest(problem, method) for method in sorted(results.methods[problem])}
    budget = min((curve[-1][0] for curve in curves.values() if curve), default=math.nan)
    within = {m: [value for count, value in curve if count <= budget] for m, curve in curves.items()}
    reached = sorted((min(values), m) for m, values in within.items() if values)
    if not reached:
        return [], [], False, [], []
    first = [m for value, m in reached if value == reached[0][0]]
    behind, remark, flag = reached[len(first) :], [], len(first) > 1
    if behind:
        value, second = behind[0]
        remark = [second, value]
        if not flag:
            had = {
                m: {r["seed"]: best_within(r, budget) for r in results.tuned[problem, m]} for m in (first[0], second)
            }
            ahead, both = wins(had)
            flag = bool(4 * ahead < 3 * both)
            remark += [first[0], ahead, both]
    return [budget], first, flag, [reached[0][0]], remark


def wins(values: dict[str, dict[int, float]]) -> tuple[int, int]:
    """On how many seeds the first of two methods has the smaller value, and how many seeds both have."""
    mine, other = values.values()
    both = set(mine) & set(other)
    return sum(mine[seed] < other[seed] for seed in both), len(both)


def best_within(row: Row, budget: float) -> float:
    """The smallest objective of a run within so many calls."""
    values = [best for calls, best in zip(row["checkpoint_calls"], row["best"], strict=True) if calls <= budget]
    return values[-1] if values and math.isfinite(values[-1]) else math.inf


def lost_text(results: Results) -> list[Row]:
    """Divergences and failures as they are seen."""
    lines = []
    for (problem, method), rows in results.pairs.items():
        missing = len({r["settings"] for r in rows}) * len({r["seed"] for r in rows}) - len(rows)
        diverged, invalid, failed = (
            [r for r in rows if r["status"] == status] for status in ("diverged", "invalid", "failed")
        )
        numbers: list[Any] = []
        if diverged:
            sizes = [row["step_size"] for row in diverged if not math.isnan(row["step_size"])]
            steps = [row["end"] for row in diverged if row["end"] is not None]
            numbers.append(len(diverged))
            for values in (sizes, steps):
                numbers += dict.fromkeys((min(values), max(values))) if values else ()
        reasons = sorted(collections.Counter(row["error"] for row in failed).items())
        if invalid:
            reasons.insert(0, (min(row["error"] for row in invalid), len(invalid)))
        for error, count in reasons:
            numbers += [count, *map(float, re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", error))]
        numbers += [missing] if missing else []
        if numbers:
            runs = len(diverged) + len(invalid) + len(failed) + missing
            lines.append({"problem": problem, "method": [method], "runs": [runs], "what happened": numbers})
    return lines


# ---- all of it -------------------------------------------------------------------------------------------------------


def audited(folder: Path, text: str) -> Audit:
    """Compare a page with a folder of results."""
    page, results = read(text), Results(stored(folder))
    audit = Audit(method for _, method in results.pairs)
    compared: set[int] = set()
    for table in tables(page, results):
        audit.table(table)
        compared.add(id(table.shown))
    audit.unknown |= {f"table {name}" for name, lines in page.embedded.items() if id(lines) not in compared}
    return audit


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print(__doc__)
        return 2
    audit = audited(Path(arguments[0]), Path(arguments[1]).read_text(encoding="utf-8"))
    for table, count in sorted(audit.compared.items()):
        print(f"{count:8d}  {table}")
    print(f"{sum(audit.compared.values()):8d}  in all")
    for what in sorted(audit.unknown):
        print(f"not recomputed: {what}")
    for wrong in audit.wrong:
        print(wrong)
    print(f"{len(audit.wrong)} disagreement{'' if len(audit.wrong) == 1 else 's'}")
    return 1 if audit.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
