"""Recompute the tables of a page from the stored Parquet files, with nothing of optbench and reports: an auditor.

    python tests/independent.py RESULTS PAGE

RESULTS is one folder of results and PAGE a page of `optbench report RESULTS`. The definitions are written anew from the
documentation: the README, and the docstrings of `optbench.metrics`, `optbench.profiles` and `reports`. It prints how many
numbers and words of every table it compared, and every disagreement; it exits with 1 if there is one.

Recomputed are the tables that a reader sees (head line, leaders, heat maps, ranking, the summary and the calls to powers
of ten of every problem, divergences and failures) and those that are embedded for download. In the embedded ones a number
must be the own one rounded to the digits shown.

Not recomputed: the intervals of the ranking. Its shares of resamples are random, and are held against resamples drawn
here, within `SHARE`. Of the lessons every number of a table is recomputed but the choice of its rows. What is made of
races, of GPUs, of asv and of several stores side by side is named at the end, as is every other table it does not know.
"""

from __future__ import annotations

import base64
import collections
import csv
import functools
import gzip
import html.parser
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

Row = dict[str, Any]  # a stored run, or a line of a table

TARGETS = np.array([10 ** (-0.2 * k) for k in range(1, 51)])  # fractions of the initial gap
SHOWN = {"1e-2": 9, "1e-4": 19, "1e-8": 39}  # places of targets that tables show
WELL = ("budget", "target", "gradient")
ASKS = {"value": "f", "gradient": "f, gradient", "hessian": "f, gradient, Hessian", "": "–"}
PAIR = ("problem", "method")
SHARE = 0.08  # by which shares of resamples may differ: more than five standard errors of 1000 draws against 4000
DIGITS, CURVE_DIGITS = 6, 4  # significant digits of embedded numbers


# ---- what is stored --------------------------------------------------------------------------------------------------


def stored(folder: Path) -> list[Row]:
    """The newest of the runs that were asked for alike, under names that tell apart what differs, in order."""
    found: dict[tuple[Any, ...], Row] = {}
    for path in sorted((folder / "v2").glob("??/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            row |= {"problem": row["problem_spec"], "method": base_name(row)}
            asked = (
                "problem",
                "data_hash",
                "method",
                "batch_size",
                "settings",
                "seed",
                "steps",
                "precision",
                "backend",
            )
            key = tuple(row[name] for name in asked)
            if key not in found or (row["created"], row["key"]) > (found[key]["created"], found[key]["key"]):
                found[key] = row
    rows = list(found.values())
    apart: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)  # method -> where it has several batch sizes
    for (problem, data, method), group in grouped(rows, "problem", "data_hash", "method").items():
        if len({row["batch_size"] for row in group}) > 1:
            apart[method].add((problem, data))
    for row in rows:
        if row["method"] in apart and row["batch_size"]:
            row["method"] += f", batch {row['batch_size']}"
        elif (row["problem"], row["data_hash"]) in apart.get(row["method"], ()):
            row["method"] += ", full batch"
    for column, text in (("steps", "{} steps"), ("precision", "{}"), ("backend", "{}")):
        groups = grouped(rows, "problem", "data_hash", "method")
        for group in groups.values():
            if len({row[column] for row in group}) > 1:
                for row in group:
                    row["method"] += ", " + text.format(row[column])
    for group in grouped(rows, "problem").values():
        if len({row["data_hash"] for row in group}) > 1:
            for row in group:
                row["problem"] += f" [data {row['data_hash'][:8]}]"
    for row in rows:
        for name in ("step_size", "calls", "calls_per_step", "f_start", "f_end", "f_best", "f_star"):
            row[name] = math.nan if row[name] is None else row[name]
        row["known"] = not math.isnan(row["f_star"])
        row["well"] = row["status"] in WELL
        row["final"] = row["f_end"] if row["well"] else math.inf
        row["metrics"] = dict(row["metrics"] or ())
        told = np.inf if row["known"] else np.nan
        row["calls_to_target"] = (
            np.full(50, told) if row["calls_to_target"] is None else np.array(row["calls_to_target"], dtype=float)
        )
    return sorted(rows, key=lambda row: tuple(row[name] for name in (*PAIR, "settings", "seed", "key")))


def base_name(row: Row) -> str:
    """The optimizer with its fixed settings, and its schedule unless it is constant."""

    def text(value: Any) -> str:
        if isinstance(value, bool) or value is None:
            return str(value).lower()
        if isinstance(value, list):
            return "-".join(map(text, value))
        return f"{value:.12g}" if isinstance(value, float) else str(value)

    fixed = ",".join(f"{name}={text(value)}" for name, value in json.loads(row["fixed"]).items())
    name = f"{row['optimizer']}:{fixed}" if fixed else row["optimizer"]
    return name if row["schedule"] == "constant" else f"{name}, {row['schedule']}"


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Rows by the values of some columns, the groups sorted by them, the rows of each in their order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names) if len(names) > 1 else row[names[0]], []).append(row)
    return {key: found[key] for key in sorted(found)}


def middle(values: Iterable[float]) -> float:
    """Median: of an even number the larger of the middle two; infinity is later than every number, NaN still later."""
    held = np.sort(np.array(list(values), dtype=float))
    return float(held[len(held) // 2]) if len(held) else math.nan


def last_nan(values: Iterable[float]) -> tuple[tuple[bool, float], ...]:
    """Numbers to sort by, NaN behind all."""
    return tuple((math.isnan(v), 0.0 if math.isnan(v) else v) for v in values)


# ---- numbers as text -------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-3 <= abs(float(f"{value:.3g}")) < 1e5:
        return f"{float(f'{value:.3g}'):.15g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def calls(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if value < 10:
        return f"{float(f'{value:.2g}'):g}"
    return f"{value:.0f}" if round(value) < 100_000 else number(value)


def calls_of(count: float, reached: int, seeds: int) -> str:
    return calls(count) + (f" ({reached}/{seeds})" if 0 < reached < seeds else "")


def target(fraction: float) -> str:
    mantissa, exponent = f"{fraction:.2e}".split("e")
    return number(fraction) if fraction > 0.1 else f"{float(mantissa):g}e{int(exponent)}"


def factor(ratio: float) -> str:
    if ratio != 1 and 0.95 < ratio < 1.05:
        return f"{ratio:.2f}"
    if ratio >= 9999.5:
        return number(float(f"{ratio:.1e}"))
    return f"{float(f'{ratio:.2g}'):g}" if ratio < 100 else f"{ratio:.0f}"


def rank_text(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def clean(text: str) -> str:
    """Without characters that XML cannot hold or that turn a line around."""
    bad = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    return re.sub(bad, "\ufffd", text)


def seen(text: str) -> str:
    """Text as a reader sees it: clean, and with single spaces."""
    return " ".join(clean(text).split())


# ---- the page --------------------------------------------------------------------------------------------------------


class Cell:
    """A cell of a table: its text without that of small print, its small print, and its attributes."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes, self.text, self.small = attributes, "", ""

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


class Page(html.parser.HTMLParser):
    """What is recomputed of a page.

    Attributes
    ----------
    tables : list of (str, str, list of list of Cell)
        The tables that are seen: id of the section, name of the region around it, rows.
    headings : dict of str to str
        Id of a section -> its heading.
    lead : str
    embedded : dict of str to list of dict
        The tables for download, their cells as text.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[tuple[str, str, list[list[Cell]]]] = []
        self.headings: dict[str, str] = {}
        self.lead = self.script = ""
        self.section = self.region = self.writing = ""
        self.small = self.in_table = False
        self.cell: Cell | None = None
        self.feed(text)
        self.close()
        self.embedded = {}
        for name, packed in json.loads(self.script).items():
            plain = gzip.decompress(base64.b64decode(packed)).decode("utf-8")
            lines = list(csv.reader(io.StringIO(plain, newline="")))
            self.embedded[name] = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        if tag == "section":
            self.section = attributes.get("id", "")
        elif tag == "div" and attributes.get("role") == "region":
            self.region = attributes.get("aria-label", "")
        elif tag == "h2" and self.section not in self.headings:
            self.writing = "heading"
            self.headings[self.section] = ""
        elif tag == "p" and attributes.get("class") == "lead":
            self.writing = "lead"
        elif tag == "script" and attributes.get("id") == "tables":
            self.writing = "script"
        elif tag == "table":
            self.in_table = True
            self.tables.append((self.section, self.region, []))
        elif tag == "tr" and self.in_table:
            self.tables[-1][2].append([])
        elif tag in ("td", "th") and self.in_table:
            self.cell = Cell(attributes)
            self.tables[-1][2][-1].append(self.cell)
        elif tag == "small":
            self.small = True
        elif tag == "br" and self.cell:
            self.cell.text += "\n"
        elif tag == "a" and self.cell:
            self.cell.attributes.setdefault("link", attributes.get("title", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.cell = None
        elif tag == "table":
            self.in_table = False
        elif tag == "small":
            self.small = False
        elif tag in ("h2", "p", "script"):
            self.writing = ""

    def handle_data(self, data: str) -> None:
        if self.cell and self.small:
            self.cell.small += data
        elif self.cell:
            self.cell.text += data
        elif self.writing == "heading":
            self.headings[self.section] += data
        elif self.writing == "lead":
            self.lead += data
        elif self.writing == "script":
            self.script += data

    def table(self, section: str, region: str) -> list[list[Cell]] | None:
        """The rows of the table in a region of a section."""
        return next((rows for s, r, rows in self.tables if (s, r) == (section, region)), None)


class Audit:
    """Comparisons: how many of each table, and what disagreed."""

    def __init__(self) -> None:
        self.compared: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def same(self, table: str, where: Any, shown: Any, own: Any) -> None:
        """Two texts, or whatever is equal or not."""
        self.compared[table] += 1
        if shown != own:
            self.wrong.append(f"{table}: {where}: the page has {shown!r}, the files give {own!r}")

    def cell(self, table: str, where: Any, shown: str, own: Any, digits: int = DIGITS) -> None:
        """A cell of an embedded table against a value."""
        if isinstance(own, float | np.floating) and math.isfinite(own):
            unit = 10.0 ** (math.floor(math.log10(abs(own))) - digits + 1) if own else 1e-300
            try:
                right = abs(float(shown) - own) <= 0.5001 * unit + 1e-12 * abs(own)
            except ValueError:
                right = False
            self.same(table, where, shown if not right else own, own)
            return
        if own is None or (isinstance(own, float | np.floating) and math.isnan(own)):
            text = ""
        elif isinstance(own, bool | np.bool_):
            text = "true" if own else "false"
        else:
            text = clean(str(own))
            if text[:1] in tuple("'=+-@\t\r") and not re.fullmatch(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?|-inf", text, re.I):
                text = f"'{text}"  # no formula of a spreadsheet
        self.same(table, where, shown, text)

    def lines(self, table: str, shown: list[Row], own: list[Row], but: Sequence[str] = ()) -> None:
        """An embedded table against lines in the same order; columns of `but` are left out."""
        self.same(table, "number of rows", len(shown), len(own))
        for k, (line, mine) in enumerate(zip(shown, own, strict=False)):
            self.same(
                table, f"columns of row {k}", [c for c in line if c not in but], [c for c in mine if c not in but]
            )
            where = " / ".join(str(mine[c]) for c in list(mine)[:3])
            for name, value in mine.items():
                if name not in but:
                    self.cell(table, f"{where} / {name}", line.get(name, ""), value)


# ---- tuning ----------------------------------------------------------------------------------------------------------


class Results:
    """The runs of a store, tuned, and the tables of problems."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.pairs: dict[tuple[str, str], list[Row]] = grouped(rows, *PAIR)
        self.settings = {pair: self._ranked(its) for pair, its in self.pairs.items()}
        self.tuned = {pair: grouped(its, "settings")[self.settings[pair][0]] for pair, its in self.pairs.items()}
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
        count = np.array([row["calls_to_target"] for row in rows])
        reached = np.flatnonzero(np.isfinite(count).sum(axis=0) > len(rows) / 2)
        end = middle(row["final"] for row in rows)
        return (-float(reached[-1]), middle(count[:, reached[-1]]), end) if len(reached) else (1.0, math.inf, end)

    def _ranked(self, rows: list[Row]) -> list[str]:
        """The settings of a method on a problem, the best first."""
        scores = {text: (*last_nan(self.score(its)), text) for text, its in grouped(rows, "settings").items()}
        return sorted(scores, key=scores.__getitem__)

    def known(self, problem: str) -> bool:
        """Whether the optimal value is known to every run of a problem."""
        return all(row["known"] for row in self.parts[problem])

    def quantities(self, rows: list[Row]) -> list[str]:
        """What problems tell of their iterates, by the first run that did not fail of each."""
        first = {row["problem"]: row["metrics"] for row in reversed(rows) if row["status"] != "failed"}
        return sorted({name for held in first.values() for name in held} - {"x_1", "x_2"})

    def summary(self, problem: str) -> list[Row]:
        """The table of a problem, as numbers."""
        lines = []
        for method in self.methods[problem]:
            rows, whole = self.tuned[problem, method], self.pairs[problem, method]
            size = rows[0]["step_size"]
            line: Row = {"problem": problem, "method": method, "step_size": size}
            line["batch_size"] = rows[0]["batch_size"] or math.nan
            for text, place in SHOWN.items():
                at = [row["calls_to_target"][place] for row in rows]
                name = f"{float(text):.0e}"
                line[f"calls_{name}"] = math.nan if np.isnan(at).any() else middle(at)
                line[f"reached_{name}"] = int(np.isfinite(at).sum())
            gap = all(row["known"] for row in rows)
            line["final"] = middle(row["final"] - (row["f_star"] if gap else 0.0) for row in rows)
            line |= {"gap": gap, "seeds": len({row["seed"] for row in rows})}
            line |= {name: sum(row["status"] == name for row in whole) for name in ("diverged", "failed")}
            line |= {"runs": len(whole), "oracle": next((r["oracle"] for r in rows if r["oracle"] is not None), "")}
            sizes = {row["step_size"] for row in whole if not math.isnan(row["step_size"])}
            line["edge"] = len(sizes) > 1 and size in (min(sizes), max(sizes))
            line["n_settings"] = len(self.settings[problem, method])
            line["others"] = self._others(problem, method)
            lines.append(line)
        return lines

    def _others(self, problem: str, method: str) -> Row:
        """What was swept beside the step size, in the best settings."""
        tried = {row["settings"]: row["step_size"] for row in self.pairs[problem, method]}
        held = {text: json.loads(text) for text in tried}
        best = held[self.settings[problem, method][0]]
        return {
            name: value
            for name, value in best.items()
            if len({json.dumps(s.get(name)) for s in held.values()}) > 1
            and any(s.get(name) != tried[text] for text, s in held.items())
        }

    def decades(self, problem: str) -> list[Row]:
        """Calls to every power of ten, of methods all of whose runs know the optimum."""
        lines = []
        for method in self.methods[problem]:
            rows = self.tuned[problem, method]
            for k in range(1, 11) if all(row["known"] for row in rows) else ():
                place = 5 * k - 1
                at = [row["calls_to_target"][place] for row in rows]
                made = [
                    r["calls"] for r in rows if math.isinf(r["calls_to_target"][place]) and math.isfinite(r["calls"])
                ]
                lines.append(
                    {"problem": problem, "method": method, "target": 10.0**-k, "calls": middle(at)}
                    | {"reached": sum(v < math.inf for v in at), "seeds": len(rows), "censored": middle(made)}
                )
        return lines

    def sizes(self, problem: str) -> list[Row]:
        """How touchy every method is to its step size: quartiles over seeds of the smallest value."""
        lines = []
        for method in sorted(self.methods[problem]):
            whole = [row for row in self.pairs[problem, method] if not math.isnan(row["step_size"])]
            for size, at in grouped(whole, "step_size").items():
                rows = grouped(at, "settings")[self._ranked(at)[0]]
                gap = all(row["known"] for row in rows)
                value = [
                    (row["f_best"] if row["well"] else row["f_start"]) - (row["f_star"] if gap else 0.0) for row in rows
                ]
                finite = [v for v in value if math.isfinite(v)]
                low, half, high = np.quantile(finite, [0.25, 0.5, 0.75]).tolist() if finite else [math.nan] * 3
                lines.append(
                    {"problem": problem, "method": method, "step_size": size, "median": half, "low": low, "high": high}
                    | {"gap": gap, "n_diverged": sum(not row["well"] for row in rows), "n_seeds": len(rows)}
                )
        return lines

    def learned(self, problem: str, kind: str) -> list[Row]:
        """Accuracies or losses where the runs ended."""
        first = next((r["metrics"] for r in self.parts[problem] if r["status"] != "failed"), {})
        figures = [name for name in sorted(first) if name.endswith(f"_{kind}")]
        worst = math.inf if kind == "loss" else -math.inf
        lines = []
        for method in sorted(self.methods[problem]):
            rows = self.tuned[problem, method]
            for figure in figures:
                values = []
                for row in rows:
                    finite = [v for v in row["metrics"].get(figure, ()) if math.isfinite(v)] if row["well"] else []
                    values.append(finite[-1] if finite else worst)
                values.sort()
                last = len(values) - 1
                half = values[len(values) // 2 if kind == "loss" else last // 2]  # the worse of the middle two
                lines.append(
                    {"problem": problem, "method": method, "figure": figure, "median": half}
                    | {"low": values[round(last / 4)], "high": values[round(3 * last / 4)], "n_seeds": len(values)}
                    | {"split": figure.removesuffix(f"_{kind}")}
                )
        judge = next((s for s in ("test", "validation", "train") if any(line["split"] == s for line in lines)), "")
        order = {line["method"]: line["median"] for line in lines if line["split"] == judge}
        lines = [line | {"judge": order[line["method"]]} for line in lines]
        sign = 1 if kind == "loss" else -1
        return sorted(lines, key=lambda line: (sign * line["judge"], line["method"], line["split"]))

    def curves(self, problem: str) -> tuple[list[str], dict[tuple[str, int], Row]]:
        """Medians and quartiles over seeds at every checkpoint: names of the columns, and rows by method and step."""
        part = self.parts[problem]
        gap = self.known(problem)
        eps = max(float(np.finfo(row["precision"]).eps) for row in part)
        floor = 8 * eps * max(1.0, *(abs(row["f_star"]) for row in part)) if gap else -math.inf
        what = "gap" if gap else "objective"
        names = {"best": f"smallest {what} so far", "f": f"{what} at the iterate", "gradient_norm": "gradient norm"}
        names |= {name: name.replace("_", " ") for name in self.quantities(part)}
        lines: dict[tuple[str, int], Row] = {}
        heads: list[str] = []
        for value, name in names.items():
            found: dict[tuple[str, int], Row] = {}
            for method in self.methods[problem]:
                rows = [row for row in self.tuned[problem, method] if row["status"] != "failed"]
                if value in names and value not in ("best", "f", "gradient_norm"):
                    rows = [row for row in rows if value in row["metrics"]]
                found |= self._band(method, rows, value, name, floor)
            if not any(math.isfinite(line[f"{name} median"]) for line in found.values()):
                continue
            heads += [f"{name} {q}" for q in ("median", "low", "high")]
            for key, line in found.items():
                if not lines or key in lines or value == "best":
                    lines.setdefault(key, {}).update(line)
        return heads, lines

    @staticmethod
    def _band(method: str, rows: list[Row], value: str, name: str, floor: float) -> dict[tuple[str, int], Row]:
        """One curve of one method."""
        steps = sorted({t for row in rows for t in row["t"]})
        objective = value in ("best", "f")
        gap = objective and all(row["known"] for row in rows)
        sign = -1.0 if value.endswith("accuracy") else 1.0
        wide = np.empty((len(steps), len(rows)))
        for k, row in enumerate(rows):
            curve = row["metrics"][value] if value in row["metrics"] else row[value]
            held = dict(zip(row["t"], (math.nan if v is None else v for v in curve), strict=True))
            now = math.nan
            for i, t in enumerate(steps):
                now = held.get(t, now) if value != "gradient_norm" or not math.isnan(held.get(t, now)) else now
                lost = row["status"] == "diverged" and value != "best" and t >= row["end"]
                wide[i, k] = (math.inf if lost else sign * now) - (row["f_star"] if gap else 0.0)
        last = len(rows) - 1
        ends = [round(last / 4), round(3 * last / 4)][:: int(sign)]
        found = {}
        for t, values in zip(steps, np.sort(wide, axis=1), strict=True):
            picked = [sign * float(values[i]) for i in (len(rows) // 2, *ends)]
            if objective:
                picked = [v if math.isnan(v) else max(v, floor) for v in picked]
            found[method, t] = {"calls": (t + 1) * rows[0]["calls_per_step"]} | {
                f"{name} {q}": v for q, v in zip(("median", "low", "high"), picked, strict=True)
            }
        return found


# ---- all problems together -------------------------------------------------------------------------------------------


class Overview:
    """Methods on problems: arrays of E methods, P problems, at most S seeds."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.names = sorted({method for _, method in results.pairs})
        self.problems = sorted(results.problems)
        E, P = len(self.names), len(self.problems)
        S = max((len(rows) for rows in results.tuned.values()), default=0)
        self.hits = np.full((E, P, S, 50), np.nan)
        self.first = np.full((E, P, S), np.nan)
        self.budget = np.full((E, P), np.nan)
        self.seeds = np.zeros((E, P), dtype=int)
        self.oracle: dict[tuple[int, int], str] = {}
        self.known = np.array([any(r["known"] for r in results.parts[p]) for p in self.problems], dtype=bool)
        for problem, method in results.pairs:
            e, p = self.names.index(method), self.problems.index(problem)
            rows = {row["seed"]: row for row in reversed(results.tuned[problem, method])}
            fractions = [row["calls_per_step"] for row in rows.values() if not math.isnan(row["calls_per_step"])]
            for s, (_, row) in enumerate(sorted(rows.items())):
                count = row["calls_to_target"]
                cost = (
                    row["calls_per_step"] if not math.isnan(row["calls_per_step"]) else max(fractions, default=math.nan)
                )
                self.hits[e, p, s] = np.where(np.isnan(count) & self.known[p], np.inf, count)
                self.first[e, p, s] = cost
                self.budget[e, p] = np.fmax(self.budget[e, p], (row["steps"] + 1) * cost)
            self.seeds[e, p] = len(rows)
            self.oracle[e, p] = next((r["oracle"] for r in rows.values() if r["oracle"] is not None), "")
        self.block, self.on = self._block()

    def _block(self) -> tuple[list[int], list[int]]:
        """Methods that all ran on many problems with a known optimum, and these."""
        ran = self.seeds > 0
        held = [frozenset(p for p in range(len(self.problems)) if self.known[p] and mine[p]) for mine in ran]
        best: tuple[Any, ...] = (False, 0, 0, ())
        for shared in {one & other for one in held for other in held} - {frozenset()}:
            whole = sum(shared <= mine for mine in held)
            first = tuple(p in shared for p in range(len(self.problems)))  # of equals the first in the order of names
            best = max(best, (whole > 1, whole * len(shared), len(shared), first))
        on = [p for p, inside in enumerate(best[3]) if inside]
        return [e for e in range(len(self.names)) if on and ran[e, on].all()], on

    def relative(self, place: int) -> list[Row]:
        """Median calls to a target, and how many times those of the best."""
        lines = []
        for e, name in enumerate(self.names):
            for p, problem in enumerate(self.problems):
                lines.append({"method": name, "problem": problem, "oracle": self.oracle.get((e, p))})
                count = self.median(e, p, place)
                best = np.nanmin([self.median(k, p, place) for k in range(len(self.names))] + [np.inf])
                reached = int(np.isfinite(self.hits[e, p, :, place]).sum())
                status = "not run" if not self.seeds[e, p] else "no target" if not self.known[p] else "reached"
                if status == "reached" and math.isinf(count):
                    status = "missed"
                ratio = math.inf if status == "missed" else count / best
                lines[-1] |= {"calls": count, "reached": reached, "seeds": int(self.seeds[e, p])}
                lines[-1] |= {"ratio": ratio, "status": status}
        return lines

    def median(self, e: int, p: int, place: int) -> float:
        count = self.hits[e, p, : self.seeds[e, p], place]
        return middle(count) if len(count) and self.known[p] else math.nan

    @functools.cached_property
    def counted(self) -> np.ndarray:
        """(P, 50): targets of known problems below which not every run begins."""
        begun = ~(self.hits > self.first[..., None])  # what did not run takes no part
        return self.known[:, None] & ~begun.all(axis=(0, 2))

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """Area below the ECDF of every run of the block, in decades, (E, P, S); NaN beyond the seeds that ran."""
        hits = self.hits[np.ix_(self.block, self.on)]
        counted = self.counted[self.on]  # (P, 50)
        budget = np.nanmin(self.budget[np.ix_(self.block, self.on)], axis=0)[:, None, None]  # (P, 1, 1)
        saved = np.where(np.isinf(hits), 0.0, np.log10(budget / np.minimum(hits, budget)))
        area: np.ndarray = (
            np.where(counted[:, None], saved, 0.0).sum(axis=3) / np.maximum(counted.sum(axis=1), 1)[:, None]
        )
        return np.where(np.isnan(hits[..., 0]), np.nan, area)

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
            asked = {self.oracle[self.block[e], p] for p in range(len(self.problems)) if self.seeds[self.block[e], p]}
            line: Row = {"method": names[e], "oracle": " or ".join(sorted(asked - {""})), "rank": float(rank[e])}
            line |= {"low": math.nan, "high": math.nan, "first": float(first[e]), "area": float(area[e])}
            line |= {"problems": len(self.on)} | dict.fromkeys(("ahead", "behind", "beats_next", "p_next"), math.nan)
            if after is not None:
                ahead, behind = int((mean[e] > mean[after]).sum()), int((mean[e] < mean[after]).sum())
                n, k = ahead + behind, min(ahead, behind)
                p = min(1.0, 2 * sum(math.comb(n, j) for j in range(k + 1)) / 2**n)
                less = drawn[after] - drawn[e]
                beats = float(np.mean(np.where(abs(less) < 1e-9, 0.5, less > 0)))
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
            held = np.empty((E, draws))
            for e in range(E):
                n = seeds[e, problem][:, None]
                of = self.areas[e, problem[:, None], (u * n).astype(int)]  # (draws, S)
                held[e] = np.where(np.arange(S) < n, of, 0.0).sum(axis=1) / n[:, 0]
            total += self.places(held)
        return total / P

    def profile(self, place: int, relative: bool) -> list[Row]:
        """Steps of the performance profile, or of the data profile."""
        times = np.array([[self.median(e, p, place) for p in self.on] for e in self.block])  # (E, P)
        if relative:
            best = times.min(axis=0)
            times = np.array(
                [[t / b if math.isfinite(t) else math.inf for t, b in zip(ts, best, strict=True)] for ts in times]
            )
        start = 1.0 if relative or not np.isfinite(times).any() else float(times.min())
        lines = []
        for e, own in zip(self.block, times, strict=True):
            for at in sorted({start, *own[np.isfinite(own)].tolist()}):
                share = float((own <= at).sum() / len(own))
                lines.append({"method": self.names[e], "ratio" if relative else "calls": at, "share": share})
        return lines

    def ecdf(self) -> list[Row]:
        """Share of problems, targets and seeds reached, all problems alike."""
        counted = self.counted[self.on]
        lines = []
        for e in self.block:
            weight: dict[float, float] = collections.defaultdict(float)
            for p, of in zip(self.on, counted, strict=True):
                for run in self.hits[e, p, : self.seeds[e, p]][:, of]:
                    for at in run[np.isfinite(run)].tolist():
                        weight[at] += 1 / (of.sum() * self.seeds[e, p] * counted.any(axis=1).sum())
            share = 0.0
            for at in sorted(weight):
                share += weight[at]
                lines.append({"method": self.names[e], "calls": at, "share": share})
        return lines


# ---- comparisons -----------------------------------------------------------------------------------------------------


def check_problems(audit: Audit, page: Page, results: Results) -> Iterator[str]:
    """The sections of problems; names of the embedded tables that were compared."""
    for k, problem in enumerate(results.problems, start=1):
        anchor = f"problem-{k}"
        audit.same("headings", anchor, seen(page.headings.get(anchor, "")), seen(problem))
        lines = results.summary(problem)
        own = [{name: value for name, value in line.items() if name != "others"} for line in lines]
        audit.lines("summary of a problem, embedded", page.embedded[f"{anchor}-table"], own)
        yield f"{anchor}-table"
        check_summary(audit, page.table(anchor, "Summary table") or [], lines)
        decades = results.decades(problem)
        shown = page.table(anchor, "Calls to targets")
        audit.same("calls to powers of ten", f"{problem}: whether there is one", shown is not None, bool(decades))
        if decades and shown:
            audit.lines("calls to powers of ten, embedded", page.embedded[f"{anchor}-targets"], decades)
            yield f"{anchor}-targets"
            check_decades(audit, shown, decades)
        audit.lines("step sizes, embedded", page.embedded[f"{anchor}-sizes"], results.sizes(problem))
        yield f"{anchor}-sizes"
        for kind in ("accuracy", "loss"):
            learned = results.learned(problem, kind)
            name = f"{anchor}-{kind}"
            audit.same(
                "accuracy and loss, embedded", f"{name}: whether there is one", name in page.embedded, bool(learned)
            )
            if learned:
                audit.lines("accuracy and loss, embedded", page.embedded[name], learned)
                yield name
        yield from check_curves(audit, page, results, problem, f"curves-{anchor}")


def check_summary(audit: Audit, shown: list[list[Cell]], lines: list[Row]) -> None:
    """The table of a problem as it is seen."""
    known = [text for text in SHOWN if any(not math.isnan(line[f"calls_{float(text):.0e}"]) for line in lines)]
    gaps = {line["gap"] for line in lines}
    heads = ["method", "best settings", *(f"calls to {text}" for text in known)]
    heads.append(("gap" if gaps == {True} else "objective" if gaps == {False} else "gap or objective") + " at the end")
    heads += ["diverged", *(["failed"] if any(line["failed"] for line in lines) else []), "tried", "a call asks for"]
    own = [heads]
    for line in lines:
        size = "" if math.isnan(line["step_size"]) else number(line["step_size"]) + "*" * line["edge"]
        others = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in line["others"].items()]
        batch = "" if math.isnan(line["batch_size"]) else f"batch {line['batch_size']}"
        row = [line["method"], ", ".join(filter(None, [size, *others, batch])) or "–"]
        for text in known:
            name = f"{float(text):.0e}"
            row.append(calls_of(line[f"calls_{name}"], line[f"reached_{name}"], line["seeds"]))
        row.append(number(line["final"]))
        for name in ("diverged", *(["failed"] if "failed" in heads else [])):
            row.append(f"{line[name]} of {line['runs']}" if line[name] else "0")
        own.append([*row, number(line["n_settings"]), ASKS[line["oracle"]]])
    check_cells(audit, "summary of a problem", shown, own)


def check_decades(audit: Audit, shown: list[list[Cell]], decades: list[Row]) -> None:
    """The calls to powers of ten as they are seen, and what they say of runs that missed."""
    own = [["method", *(target(10.0**-k) for k in range(1, 11))]]
    told = []
    for method in dict.fromkeys(line["method"] for line in decades):
        its = [line for line in decades if line["method"] == method]
        own.append([method, *(calls_of(line["calls"], line["reached"], line["seeds"]) for line in its)])
        words = [""]
        for line in its:
            ends = f", median end {calls(line['censored'])} calls" if math.isfinite(line["censored"]) else ""
            missed = line["seeds"] - line["reached"]
            words.append(f"missed by {missed} of {line['seeds']}{ends}" if missed else "")
        told.append(words)
    check_cells(audit, "calls to powers of ten", shown, own)
    for cells, words in zip(shown[1:], told, strict=False):
        for cell, word in zip(cells, words, strict=False):
            audit.same("calls to powers of ten", cells[0].words, cell.attributes.get("title", ""), word)


def check_cells(audit: Audit, table: str, shown: list[list[Cell]], own: list[list[str]]) -> None:
    """Texts of all cells."""
    audit.same(table, "number of rows", len(shown), len(own))
    for cells, texts in zip(shown, own, strict=False):
        audit.same(table, f"{texts[0]}: number of cells", len(cells), len(texts))
        for k, (cell, text) in enumerate(zip(cells, texts, strict=False)):
            audit.same(table, f"{own[1][0] if len(own) < 2 else texts[0]} / {own[0][k]}", cell.words, seen(text))


def check_curves(audit: Audit, page: Page, results: Results, problem: str, name: str) -> Iterator[str]:
    """The curves of a problem, of which a page may hold fewer points than there are: the first and the last at least."""
    table = "curves, embedded"
    heads, lines = results.curves(problem)
    audit.same(table, f"{name}: whether there is one", name in page.embedded, bool(heads))
    if name not in page.embedded or not heads:
        return
    shown = page.embedded[name]
    audit.same(table, f"{name}: columns", list(shown[0]), ["method", "entrant", "t", "calls", *heads])
    methods = [m for m in results.methods[problem] if any(method == m for method, _ in lines)]
    plain = {clean(m): m for m in methods}
    audit.same(table, f"{name}: methods", list(dict.fromkeys(unquoted(r["method"]) for r in shown)), [*plain])
    held = collections.defaultdict(list)
    for row in shown:
        method, t = plain.get(unquoted(row["method"]), ""), int(row["t"])
        held[method].append(t)
        own = lines.get((method, t))
        if own is None:
            audit.same(table, f"{problem} / {method} / {t}", "a row", "none")
            continue
        audit.cell(table, f"{problem} / {method} / {t} / calls", row["calls"], own["calls"])
        for head in heads:
            audit.cell(table, f"{problem} / {method} / {t} / {head}", row[head], own.get(head, math.nan), CURVE_DIGITS)
    for method in methods:
        steps = [t for m, t in lines if m == method]
        ends = held[method][:1] + held[method][-1:]
        audit.same(table, f"{problem} / {method}: first and last step", ends, [min(steps), max(steps)])
    yield name


def unquoted(text: str) -> str:
    """Text of an embedded table without the apostrophe that keeps a spreadsheet from running it."""
    return text[1:] if text.startswith("'") else text


def check_overview(audit: Audit, page: Page, overview: Overview) -> Iterator[str]:
    """Heat maps, profiles and ranking; names of the embedded tables that were compared."""
    if not overview.on:
        audit.same("ranking", "whether there is one", "ranking" in page.embedded, False)
        return
    ranking = overview.ranking
    ranks = {line["method"]: line["rank"] for line in ranking}
    steps = (1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 100.0, math.inf)
    for text, place in SHOWN.items():
        relative = overview.relative(place)
        audit.lines("relative calls, embedded", page.embedded[f"relative-calls-{text}"], relative)
        for kind, name in ((True, f"performance-profile-{text}"), (False, f"data-profile-{text}")):
            audit.lines("profiles, embedded", page.embedded[name], overview.profile(place, kind))
            yield name
        yield f"relative-calls-{text}"
        shown = page.table("overview", f"Heat map to {text} of the initial gap") or []
        targets = {line["problem"] for line in relative if line["status"] in ("reached", "missed")}
        problems = [problem for problem in overview.results.problems if problem in targets]
        held = {(line["method"], line["problem"]): line for line in relative}
        did = [line for line in relative if line["problem"] in targets and line["status"] != "not run"]
        ran = {line["method"] for line in did}
        if len(ranks) > 1:  # besides the block, what fills a quarter of its cells
            on = {overview.problems[p] for p in overview.on}
            ran = {
                e for e in ran if e in ranks or 3 * sum(d["method"] == e and d["problem"] in on for d in did) >= len(on)
            }
            here = [line for line in did if line["method"] in ran]
            problems = [p for p in problems if p in on or 4 * sum(d["problem"] == p for d in here) >= len(ran)]
        order = [*ranks, *sorted(ran - set(ranks))]
        heads = [cell.attributes.get("link", "") for cell in shown[0][2:]] if shown else []
        audit.same("heat map", f"{text}: problems", [*map(seen, heads)], [*map(seen, problems)])
        audit.same("heat map", f"{text}: optimizers", [cells[0].words for cells in shown[1:]], [*map(seen, order)])
        for cells, method in zip(shown[1:], order, strict=False):
            mean = rank_text(ranks[method]) if method in ranks else "–"
            audit.same("heat map", f"{text} / {method} / mean rank", cells[1].words, mean)
            for cell, problem in zip(cells[2:], problems, strict=False):
                line = held[method, problem]
                got, of = line["reached"], line["seeds"]
                if line["status"] == "not run":
                    own = "absent", "–", "", "did not run"
                elif line["status"] == "missed":
                    words = f"missed: {got} of {plural(of, 'seed')} got there"
                    own = "missed", f"{got}/{of}" if got else "×", "", words
                else:
                    look = sum(line["ratio"] > limit for limit in steps)
                    words = f"{calls(line['calls'])} calls, {got} of {plural(of, 'seed')}"
                    own = f"r{look}", factor(line["ratio"]), f"{got}/{of}" if got < of else "", words
                found = cell.attributes.get("class"), cell.words, cell.small, cell.attributes.get("title")
                for a, b in zip(found, own, strict=True):
                    audit.same("heat map", f"{text} / {method} / {problem}", a, b)
    audit.lines("targets at any time, embedded", page.embedded["ecdf"], overview.ecdf())
    yield "ecdf"
    yield from check_ranking(audit, page, ranking)


def check_ranking(audit: Audit, page: Page, ranking: list[Row]) -> Iterator[str]:
    """The ranking as it is seen and as it is embedded."""
    random = ("low", "high", "first", "beats_next")
    audit.lines("ranking, embedded", page.embedded["ranking"], ranking, but=random)
    for line, mine in zip(page.embedded["ranking"], ranking, strict=False):
        for name in ("first", "beats_next"):
            if not math.isnan(mine[name]):
                near = abs(float(line[name] or "nan") - mine[name]) <= SHARE
                audit.same("ranking, shares of resamples", f"{mine['method']} / {name}", near or line[name], True)
        inside = float(line["low"]) <= float(line["high"])
        audit.same("ranking, shares of resamples", f"{mine['method']} / interval", inside, True)
    own = [["optimizer", "mean rank", "95 % interval", "first", "before the next", "problems", "a call asks for"]]
    for mine, line in zip(ranking, page.embedded["ranking"], strict=False):
        last = math.isnan(mine["ahead"])
        own.append(
            [mine["method"], rank_text(mine["rank"])]
            + [f"{rank_text(float(line['low']))} to {rank_text(float(line['high']))}"]
            + [f"{100 * float(line['first']):.0f} %", "–" if last else f"{100 * float(line['beats_next']):.0f} %"]
            + ["–" if last else f"{mine['ahead']:.0f} : {mine['behind']:.0f}"]
            + [" or ".join(ASKS[asked] for asked in mine["oracle"].split(" or "))]
        )
    check_cells(audit, "ranking", page.table("overview", "Ranking") or [], own)
    yield "ranking"


def check_leaders(audit: Audit, page: Page, results: Results) -> None:
    """Who leads on each problem."""
    own = [["problem", "compared in", "leader", "result", "a call asks for", "and the others"]]
    for problem in sorted(results.problems):
        known = all(row["known"] for m in results.methods[problem] for row in results.tuned[problem, m])
        own.append([problem, *(fastest if known else lowest)(results, problem)])
    check_cells(audit, "leaders", page.table("overview", "Who leads on each problem") or [], own)


def fastest(results: Results, problem: str) -> list[str]:
    """The line of a problem whose optimum is known: fewest calls to the hardest target that any method reaches."""
    tuned = {m: results.tuned[problem, m] for m in sorted(results.methods[problem])}

    def to_hardest(methods: Iterable[str]) -> tuple[int, list[tuple[float, str]]]:
        medians = {m: [middle(row["calls_to_target"][k] for row in tuned[m]) for k in range(50)] for m in methods}
        places = [k for k in range(50) if any(math.isfinite(its[k]) for its in medians.values())]
        place = places[-1] if places else -1
        return place, sorted((its[place], m) for m, its in medians.items() if places and math.isfinite(its[place]))

    place, order = to_hardest(tuned)
    if not order:
        return [f"{target(TARGETS[0])} of the initial gap", "none", "–", "–", "no method gets there on most seeds"]
    asked = {m: next((r["oracle"] for r in rows if r["oracle"] is not None), None) for m, rows in tuned.items()}
    first = [m for count, m in order if count == order[0][0]]
    remarks, flag = [], len(first) > 1
    if len(order) == len(first):
        remarks.append("no other method gets there on most seeds")
    elif len(first) == 1:
        count, second = order[1]
        mine, other = ({r["seed"]: r["calls_to_target"][place] for r in reversed(tuned[m])} for m in (first[0], second))
        both = set(mine) & set(other)
        ahead = sum(mine[seed] < other[seed] for seed in both)
        flag = 4 * ahead < 3 * len(both)
        more = count / order[0][0]
        times = f"{more:.2f}" if more < 1.995 else f"{more:.1f}" if more < 9.95 else f"{more:.0f}"
        often = f"{'only ' if flag else ''}{ahead} of {len(both)} seeds"
        remarks.append(f"{second} needs {times} times as many, and more on {often}")
    if all(asked[m] == "hessian" for m in first):
        further, rest = to_hardest(m for m in tuned if asked[m] != "hessian")
        if rest:
            goal = target(TARGETS[further])
            remarks.append(f"without Hessians: {rest[0][1]}, {calls(rest[0][0])} calls to {goal}")
    asks = " or ".join(sorted({ASKS[asked[m] or ""] for m in first}))
    who = " ".join(first) + (" too close to call" if flag else "")
    goal = f"{target(TARGETS[place])} of the initial gap"
    return [goal, who, f"{calls(order[0][0])} call{'' if order[0][0] == 1 else 's'}", asks, "; ".join(remarks)]


def lowest(results: Results, problem: str) -> list[str]:
    """The line of a problem without a known optimum: smallest objective within the calls that every method made."""
    name = "smallest " + ("gap" if results.known(problem) else "objective") + " so far median"
    curves = results.curves(problem)[1]
    at = {key: line["calls"] for key, line in curves.items()}
    finite = {key: line[name] for key, line in curves.items() if math.isfinite(line.get(name, math.nan))}
    if not finite:
        return ["smallest objective", "none", "–", "–", "no run has a finite value"]
    methods = sorted({method for method, _ in finite})
    budget = min(max(at[key] for key in finite if key[0] == method) for method in methods)
    within = {m: [v for key, v in finite.items() if key[0] == m and at[key] <= budget] for m in methods}
    reached = sorted((min(values), m) for m, values in within.items() if values)
    if not reached:
        return ["smallest objective", "none", "–", "–", "the budgets have nothing in common"]
    first = [m for value, m in reached if value == reached[0][0]]
    behind = reached[len(first) :]
    remark = f"{behind[0][1]} reaches {number(behind[0][0])}" if behind else "no other method to compare with"
    if len(first) > 1 and not behind:
        remark = "no method is behind"
    flag = len(first) > 1
    if behind and not flag:
        mine, other = ({r["seed"]: had(r, budget) for r in results.tuned[problem, m]} for m in (first[0], behind[0][1]))
        both = set(mine) & set(other)
        ahead = sum(mine[seed] < other[seed] for seed in both)
        flag = 4 * ahead < 3 * len(both)
        remark += f"; {first[0]} is lower on {'only ' if flag else ''}{ahead} of {len(both)} seeds"
    tuned = {m: results.tuned[problem, m] for m in first}
    asked = {next((r["oracle"] for r in rows if r["oracle"] is not None), "") for rows in tuned.values()}
    goal = f"smallest objective within {calls(budget)} calls, which every method made"
    return [
        goal,
        " ".join(first) + " too close to call" * flag,
        number(reached[0][0]),
        " or ".join(sorted(ASKS[a] for a in asked)),
        remark,
    ]


def had(row: Row, budget: float) -> float:
    """The smallest objective of a run within so many calls."""
    values = [best for t, best in zip(row["t"], row["best"], strict=True) if (t + 1) * row["calls_per_step"] <= budget]
    return values[-1] if values and math.isfinite(values[-1]) else math.inf


def check_lost(audit: Audit, page: Page, results: Results) -> Iterator[str]:
    """Divergences and failures."""
    names = ("problem", "method", "settings", "seed", "status", "end", "error")
    lost = [{name: row[name] for name in names} for row in results.rows if row["status"] in ("diverged", "failed")]
    audit.same("divergences and failures", "whether there are any", "lost" in page.embedded, bool(lost))
    if lost:
        audit.lines("divergences and failures, embedded", page.embedded["lost"], lost)
        yield "lost"
    own = [["problem", "method", "runs", "what happened"]]
    for (problem, method), rows in results.pairs.items():
        missing = len({r["settings"] for r in rows}) * len({r["seed"] for r in rows}) - len(rows)
        diverged, failed = ([r for r in rows if r["status"] == status] for status in ("diverged", "failed"))
        reasons = []
        if diverged:
            sizes = [row["step_size"] for row in diverged if not math.isnan(row["step_size"])]
            low, high = (number(f(sizes)) for f in (min, max)) if sizes else ("", "")
            where = f", at step size{f' {low}' if low == high else f's from {low} to {high}'}" if sizes else ""
            steps = sorted(row["end"] for row in diverged if row["end"] is not None)
            when = f", after {steps[0]}{f' to {steps[-1]}' if steps[0] != steps[-1] else ''} steps" if steps else ""
            reasons.append(f"{len(diverged)} left the finite numbers{where}{when}")
        errors = collections.Counter(
            "no reason was recorded" if row["error"] is None else row["error"] for row in failed
        )
        reasons += [f"{errors[e]} failed: {e}" for e in sorted(errors)]
        if missing:
            what = ("is", "its") if missing == 1 else ("are", "their")
            reasons.append(
                f"{missing} {what[0]} not stored, though {what[1]} settings ran with other seeds: the study was "
                "interrupted, or grew; its command computes them"
            )
        if reasons:
            own.append([problem, method, str(len(diverged) + len(failed) + missing), " ".join(reasons)])
    check_cells(
        audit,
        "divergences and failures",
        page.table("lost", "Divergences and failures") or own[:0],
        own[len(own) == 1 :],
    )


def check_lead(audit: Audit, page: Page, results: Results) -> None:
    """The line below the title."""
    count = {"run": len(results.rows), "method": len({r["method"] for r in results.rows})}
    count |= {"problem": len(results.problems), "seed": len({r["seed"] for r in results.rows})}
    words = {name: plural(n, name) for name, n in count.items()}
    own = f"{words['run']} of {words['method']} on {words['problem']}, with {words['seed']}."
    audit.same("head line", "the line", seen(page.lead), own)


# ---- lessons and paths -----------------------------------------------------------------------------------------------


def check_labelled(audit: Audit, page: Page, results: Results) -> Iterator[str]:
    """Tables whose rows name the runs they are made of."""
    by_run = {(*(clean(str(row[n])) for n in ("problem", "method", "settings", "seed")),): row for row in results.rows}
    makers: dict[str, Callable[[Row, Row], Row]] = {
        "lesson-valley": valley_line, "lesson-saddle": saddle_line, "lesson-noise": noise_line, "paths": path_line
    }  # fmt: skip
    for name, shown in page.embedded.items():
        make = makers.get("paths" if name.startswith("paths-") else name)
        if make is None:
            continue
        for line in shown:
            row = by_run.get((*(unquoted(line[n]) for n in ("problem", "method", "settings", "seed")),))
            if row is None:
                audit.same(name, line, "a row", "no such run")
                continue
            own = make(row, line) | {n: row[n] for n in ("step_size", "status")}
            for column, value in own.items():
                audit.cell(
                    name.partition("-problem")[0] + ", embedded", f"{name} / {line} / {column}", line[column], value
                )
        yield name


def path_line(row: Row, shown: Row) -> Row:
    """Where a run in the plane began and ended."""
    x, y = (np.array(row["metrics"][name], dtype=float) for name in ("x_1", "x_2"))
    here = np.isfinite(x) & np.isfinite(y)
    own = {"steps": row["end"], "calls": row["calls"], "start_x_1": x[0], "start_x_2": y[0]}
    if row["well"] and here.all():
        own["final"] = row["f_end"] - (row["f_star"] if row["known"] else 0.0)
    return own


def valley_line(row: Row, shown: Row) -> Row:
    """How often a run crosses the floor of a valley before it is at 1e-4 of its gap."""
    angle = math.radians(json.loads(row["problem_params"])["angle"])
    x, y = (np.array(row["metrics"][name]) for name in ("x_1", "x_2"))
    across = math.cos(angle) * y - math.sin(angle) * x
    gap = np.array(row["f"]) - row["f_star"]
    steps = next((k for k, value in enumerate(gap) if value <= 1e-4 * gap[0]), math.inf)
    moved = [0.0 if abs(v) <= 1e-9 * abs(across[0]) else v for v in across[: int(min(steps, len(across) - 1)) + 1]]
    crossings = sum(a * b < 0 for a, b in itertools.pairwise(moved))
    return {"steps": float(steps), "crossings": crossings, "of": len(moved) - 1}


def saddle_line(row: Row, shown: Row) -> Row:
    """When a run is half way from a saddle to a minimum, and by which factor it leaves."""
    y = np.abs(np.array(row["metrics"]["x_2"]))
    steps = next((k for k, value in enumerate(y) if value >= 0.5), math.inf)
    near = list(y[: next((k for k, value in enumerate(y) if value > 0.1), len(y))])
    growth = (near[-1] / near[0]) ** (1 / (len(near) - 1)) if len(near) > 3 and near[0] > 0 else math.nan
    settings, offset = json.loads(row["settings"]), json.loads(row["problem_params"])["offset"]
    theory = {"newton": 2.0, "gradient_descent": 1 + settings.get("lr", 0.0)}.get(row["optimizer"], math.nan)
    if row["optimizer"] == "momentum":  # the larger root of z^2 - (1 + beta + lr) z + beta
        theory = float(max(np.roots([1.0, -(1 + settings["beta"] + settings["lr"]), settings["beta"]]).real))
    own = {"steps": float(steps), "growth": growth, "growth_in_theory": theory}
    return own | {"steps_in_theory": math.log(0.5 / offset) / math.log(theory) if theory > 1 else math.nan}


def noise_line(row: Row, shown: Row) -> Row:
    """Mean gap over the second half of the steps, and over the quarter before."""
    t, gap = np.array(row["t"]), np.array(row["f"], dtype=float) - row["f_star"]
    late, before = gap[t > row["steps"] / 2], gap[(t > row["steps"] / 4) & (t <= row["steps"] / 2)]
    floor = math.inf if row["status"] == "diverged" or not len(late) else float(late.mean())
    return {
        "batch_size": row["batch_size"],
        "floor": floor,
        "before": float(before.mean()) if len(before) else math.nan,
    }


def check_lessons(audit: Audit, page: Page, results: Results) -> Iterator[str]:
    """Tables of lessons whose rows are medians over runs."""
    makers = {
        "lesson-bias": bias_values,
        "lesson-decay": decay_values,
        "lesson-schedules": schedule_values,
    }
    for name, make in makers.items():
        shown = page.embedded.get(name, [])
        held = grouped(results.rows, "problem")
        plain = {clean(problem): rows for problem, rows in held.items()}
        for line in shown:
            rows = plain[unquoted(line["problem"])] if "problem" in line else results.rows
            for column, value in make(rows, line).items():
                audit.cell(f"{name}, embedded", f"{line} / {column}", line[column], value)
        if shown:
            yield name
    if "lesson-scaling" in page.embedded:
        shown = page.embedded["lesson-scaling"]
        audit.lines("lesson-scaling, embedded", shown, scaling_lines(results.rows, shown))
        yield "lesson-scaling"
    if "lesson-differences" in page.embedded:
        own = [line for problem in sorted(results.problems) if (line := difference_line(results.parts[problem]))]
        audit.lines("lesson-differences, embedded", page.embedded["lesson-differences"], own)
        yield "lesson-differences"


def at_size(rows: Iterable[Row], line: Row, *names: str) -> list[Row]:
    """Runs with the step size of a line and the same values of other columns."""
    return [
        row
        for row in rows
        if f"{row['step_size']:.6g}" == line["step_size"] and all(str(row[n]) == line[n] for n in names)
    ]


def bias_values(rows: list[Row], line: Row) -> Row:
    """Largest move of a coordinate in the first step, over the step size."""
    first = []
    for row in at_size(rows, line, "optimizer"):
        whole = len(row["t"]) > 2 and row["t"][-1] == len(row["t"]) - 1 and row["status"] != "failed"
        if whole and row["batch_size"] is None and row["schedule"] == "constant":
            first.append(
                max(abs(row["metrics"][n][1] - row["metrics"][n][0]) for n in ("x_1", "x_2")) / row["step_size"]
            )
    first = [value for value in first if math.isfinite(value)]
    return {"min": min(first), "median": float(np.median(first)), "max": max(first)}


def decay_values(rows: list[Row], line: Row) -> Row:
    """Median test accuracy of a step size and a strength, on the problem where both forms were swept."""
    key = {"adam_l2": "l2", "adamw": "weight_decay"}
    swept: dict[str, dict[str, set[float]]] = {}
    for row in rows:
        if row["optimizer"] in key and "test_accuracy" in row["metrics"]:
            strengths = swept.setdefault(row["problem"], {}).setdefault(row["optimizer"], set())
            strengths.add(json.loads(row["settings"])[key[row["optimizer"]]])
    where = {p for p, of in swept.items() if len(of) == 2 and all(len(strengths) > 2 for strengths in of.values())}
    values = []
    for row in at_size((row for row in rows if row["problem"] in where), line, "optimizer"):
        if (
            f"{json.loads(row['settings'])[key[row['optimizer']]]:.6g}" == line["strength"]
            and row["status"] != "failed"
        ):
            finite = [v for v in row["metrics"].get("test_accuracy", ()) if math.isfinite(v)]
            values.append(0.0 if row["status"] == "diverged" or not finite else finite[-1])
    return {"test_accuracy": float(np.median(values))}


def schedule_values(rows: list[Row], line: Row) -> Row:
    """Median gap of the last iterate."""
    chosen = [r for r in at_size(rows, line, "optimizer", "batch_size", "steps", "schedule") if r["status"] != "failed"]
    ends = (math.inf if row["status"] == "diverged" else row["f_end"] - row["f_star"] for row in chosen)
    return {"gap": middle(value if math.isfinite(value) else math.inf for value in ends)}


def scaling_lines(rows: list[Row], shown: list[Row]) -> list[Row]:
    """Median gaps after numbers of epochs, on straight lines in log(gap) between checkpoints."""
    rows = [row for row in rows if clean(row["problem"]) == unquoted(shown[0]["problem"])]
    rows = [
        row for row in rows if row["optimizer"] == "sgd" and row["schedule"] == "constant" and row["status"] != "failed"
    ]
    chosen = {}
    for line in shown:
        of = [row for row in at_size(rows, line, "batch_size") if row["batch_size"] is not None]
        # where one was run for several budgets, the longest: all batch sizes have as many epochs
        longest = max((row["steps"] + 1) * row["calls_per_step"] for row in of)
        of = [row for row in of if (row["steps"] + 1) * row["calls_per_step"] > longest - row["calls_per_step"]]
        chosen[line["lr_is"], of[0]["batch_size"], of[0]["step_size"]] = of
    scaled = [row for (kind, *_), of in chosen.items() if kind == "scaled" for row in of]
    grid = np.geomspace(1.0, min(row["end"] * row["calls_per_step"] for row in scaled), 60)
    lines = []
    for (kind, size, step), of in sorted(chosen.items()):
        curves = []
        for row in of:
            pairs = [(t * row["calls_per_step"], f - row["f_star"]) for t, f in zip(row["t"], row["f"], strict=True)]
            at, gap = np.array([p for p in pairs if math.isfinite(p[1]) and p[1] > 0]).reshape(-1, 2).T
            curve = np.exp(np.interp(grid, at, np.log(gap))) if len(at) > 1 else np.full(60, np.inf)
            lost = row["status"] == "diverged"
            curves.append(np.where(lost & (grid > row["end"] * row["calls_per_step"]), np.inf, curve))
        for epochs, *values in zip(grid.tolist(), *curves, strict=True):
            line = {"lr_is": kind, "problem": of[0]["problem"], "batch_size": size, "step_size": step}
            lines.append(line | {"epochs": epochs, "gap": middle(values)})
    return lines


def difference_line(rows: list[Row]) -> Row | None:
    """Least error of difference quotients, and slopes on either side of it."""
    about = next((row["description"] for row in rows if row.get("description") and row["status"] != "failed"), None)
    errors = json.loads(about).get("differences") if about else None
    if not errors:
        return None
    h = np.array(errors["h"])
    line: Row = {"problem": rows[0]["problem"]}
    for kind in ("forward", "central"):
        error = np.array(errors[kind])
        at = h[np.argmin(error)]
        line |= {f"{kind}_h": float(at), f"{kind}_least": float(error.min())}
        for name, where in (("truncation", (h >= 30 * at) & (h <= 0.011)), ("rounding", h <= at / 30)):
            fit = np.log(h[where & (error > 0)]), np.log(error[where & (error > 0)])
            line[f"{kind}_{name}"] = math.nan
            if len(fit[0]) >= 3:
                x, y = (values - values.mean() for values in fit)
                line[f"{kind}_{name}"] = float((x * y).sum() / (x * x).sum())
    return line


# ---- all of it -------------------------------------------------------------------------------------------------------


def audited(folder: Path, text: str) -> tuple[Audit, list[str]]:
    """Compare a page with a folder of results; what was found, and names of embedded tables that were not looked at."""
    audit, page, results = Audit(), Page(text), Results(stored(folder))
    check_lead(audit, page, results)
    checked = [
        *check_problems(audit, page, results),
        *check_overview(audit, page, Overview(results)),
        *check_lost(audit, page, results),
        *check_labelled(audit, page, results),
        *check_lessons(audit, page, results),
    ]
    check_leaders(audit, page, results)
    return audit, sorted(set(page.embedded) - set(checked))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print(__doc__)
        return 2
    audit, unknown = audited(Path(arguments[0]), Path(arguments[1]).read_text(encoding="utf-8"))
    for table, count in sorted(audit.compared.items()):
        print(f"{count:8d}  {table}")
    print(f"{sum(audit.compared.values()):8d}  in all")
    if unknown:
        print(f"not looked at: {', '.join(unknown)}")
    for wrong in audit.wrong:
        print(wrong)
    print(f"{plural(len(audit.wrong), 'disagreement')}")
    return 1 if audit.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
