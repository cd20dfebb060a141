"""The section of one problem: what it is, its curves, and the table of its methods."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pandas as pd

from optbench.analysis import metrics
from optbench.results.runs import Runs

from .. import tables, wording
from ..figures import convergence, generalization, sensitivity, style
from ..figures.selection import description_of
from ..page.context import Book, Picture, collecting_rarely
from . import races


@contextlib.contextmanager
def sections(book: Book, lines: dict[str, pd.DataFrame], jobs: int) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Begin the sections of all problems in other processes; the function that is given waits for them.

    The process that waits makes those that no other has begun. Whatever process makes it, a section is the same.

    Parameters
    ----------
    lines : dict of str to DataFrame
        Lines of `tables.lines` by problem.
    jobs : int
        Processes that draw, this one among them.
    """
    names = list(book.parts)
    workers = min(jobs - 1, len(names) // 2)
    if workers < 1:
        yield lambda: [section(book, name, lines[name]) for name in names]
        return
    # not forked: libraries have started threads here, and a fork of them may hang
    pool = cf.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    begun: dict[str, cf.Future[tuple[dict[str, Any], dict[str, pd.DataFrame]]]] = {}

    def wait() -> list[dict[str, Any]]:
        made = {
            name: section(book, name, lines[name])
            for name in reversed(names)
            if name not in begun or begun[name].cancel()
        }
        for name in names:
            if name not in made:
                try:
                    made[name], tables = begun[name].result()
                    book.tables |= tables
                except BrokenProcessPool:  # no memory, or whatever else ends a process
                    made[name] = section(book, name, lines[name])
        return [made[name] for name in names]

    try:
        with contextlib.suppress(BrokenProcessPool):  # no process can begin, as where the main module is no file
            for name in names:
                begun[name] = pool.submit(_apart, book.only(name), name, lines[name])
        yield wait
    finally:
        pool.shutdown(cancel_futures=True)


def _apart(book: Book, name: str, lines: pd.DataFrame) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """A section made in another process, and the tables that it offers."""
    with style.theme(), collecting_rarely():
        return section(book, name, lines), book.tables


def section(book: Book, name: str, lines: pd.DataFrame) -> dict[str, Any]:
    """What the page says of a problem; `lines` are those of `tables.lines` about it."""
    part, anchor = book.parts[name], book.anchors[name]
    rows = part.rows
    gap = "gap" if rows["f_star"].notna().all() else "objective"
    columns = tables.columns(lines)
    sizes = rows.groupby("method")["step_size"].count()
    return {
        "name": name,
        "anchor": anchor,
        "summary": description_of(part).get("summary"),
        "facts": facts(part),
        "gap": gap,
        "figures": _pictures(book, name, gap, lines),
        "seconds": races.seconds_picture(book, name),
        "rates": not convergence.rates(part).empty,
        "without_step_size": sorted(sizes[sizes == 0].index),
        "has_step_size": bool(rows["step_size"].notna().any()),
        "not_drawn": sorted(set(rows["method"]) - set(rows.loc[rows["status"] != "failed", "method"])),
        "columns": [{"title": column.title, "meaning": column.meaning} for column in columns],
        "lines": [
            {"index": book.index(name, line["method"]), "cells": [column.cell(line) for column in columns]}
            for line in lines.to_dict("records")
        ],
        "table": book.table(f"{anchor}-table", lines.drop(columns="others")),
        "targets": _targets(book, name),
        "methods": [(method, book.index(name, method)) for method in sorted(lines["method"])],
    }


def _pictures(book: Book, name: str, gap: str, lines: pd.DataFrame) -> dict[str, Picture]:
    """The figures of a problem, by kind."""
    part, anchor = book.parts[name], book.anchors[name]
    best = lines["method"].iloc[0]
    curves = f"curves-{anchor}"  # a table of the explorer
    count = f"one line for each of {len(lines)} methods. Best in the table below: {best}."
    found = {
        "best": book.picture(
            f"{anchor}-best",
            style.figure(convergence.convergence, part, name, styles=book.styles),
            f"Convergence on {name}: smallest {gap} so far against oracle calls, {count}",
            curves,
        ),
        "sizes": book.picture(
            f"{anchor}-sizes",
            style.figure(sensitivity.sensitivity, part, name, styles=book.styles),
            f"Step sizes on {name}: smallest {gap} of a run against the step size, one line for each method that has one.",
            metrics.sensitivity(part),
        ),
        "last": book.picture(
            f"{anchor}-last",
            style.figure(convergence.convergence, part, name, value="f", guides=False, styles=book.styles),
            f"Last iterate on {name}: {gap} of the iterate against oracle calls, {count}",
            curves,
        ),
    }
    for kind in ("accuracy", "loss"):
        learned = generalization.learned_table(part, kind)
        if len(learned):
            height = 1.2 + 0.24 * learned["method"].nunique()
            made = style.figure(
                generalization.generalization, part, name, kind=kind, size=(6.8, height), left=1.9, room=1.1
            )
            judged = f"{learned['split'].iloc[-1]} {kind}; first by it: {learned['method'].iloc[0]}"
            found[kind] = book.picture(
                f"{anchor}-{kind}", made, f"{kind.capitalize()} by part of the data on {name}: {judged}.", learned
            )
    return found


def _targets(book: Book, name: str) -> dict[str, Any] | None:
    """The table of calls to every power of ten; None where no optimum is known."""
    table = metrics.decades(book.parts[name])
    if table.empty:
        return None
    cells: dict[str, list[tuple[tables.Cell, str]]] = {}
    for line in table.to_dict("records"):
        cell = tables.calls_cell(line["calls"], line["reached"], line["seeds"])
        title = f"missed by {line['seeds'] - line['reached']} of {line['seeds']}"
        ends = f", median end {wording.calls(line['censored'])} calls" if np.isfinite(line["censored"]) else ""
        cells.setdefault(line["method"], []).append((cell, title + ends if line["reached"] < line["seeds"] else ""))
    lines = [{"method": method, "index": book.index(name, method), "cells": its} for method, its in cells.items()]
    return {
        "heads": [wording.target_name(t) for t in metrics.DECADES],
        "lines": lines,
        "table": book.table(f"{book.anchors[name]}-targets", table),
    }


def facts(part: Runs) -> list[tuple[str, str]]:
    """What a problem is, as pairs of name and text."""
    rows = part.rows
    first, about = rows.iloc[0], description_of(part)
    params = json.loads(first["problem_params"] or "{}")
    samples = f", n = {about['n_samples']} samples" if about.get("n_samples") else ""
    found = [("formula", about["formula"])] if about.get("formula") else []
    found.append(("dimension", f"d = {first['dim']} parameters{samples}"))
    if params:
        found.append(("parameters", ", ".join(f"{key} = {_plain(value)}" for key, value in params.items())))
    L, mu = about.get("smoothness"), about.get("strong_convexity")
    if L and mu:
        constants = f"smoothness L = {wording.number(L)}, strong convexity μ = {wording.number(mu)}"
        found.append(("conditioning", f"L/μ = {wording.number(L / mu)}; {constants}"))
    elif about:
        kind = "not convex, or not known to be" if mu is None else "convex, but not strongly"
        found.append(("conditioning", f"{kind}{f'; smoothness L = {wording.number(L)}' if L else ''}"))
    if rows["f_star"].notna().all():
        f_star, lower = float(first["f_star"]), first["f_star_lower"]
        width = 0.0 if pd.isna(lower) else max(0.0, f_star - float(lower))
        certain = f", certain to {wording.number(width)}" if width > 0 else ""
        found.append(
            ("optimal value", f"f* = {f_star:.12g}{certain} ({first['f_star_method'] or 'method not stated'})")
        )
    else:
        found.append(("optimal value", "f* is not known; the objective is shown instead of the gap"))
    starts = rows["f_start"].dropna().astype(float)
    if len(starts):
        low, high = wording.number(starts.min()), wording.number(starts.max())
        found.append(("objective at the start", low if low == high else f"{low} to {high}, by seed"))
    budgets = np.unique(rows["budget_calls"].dropna().to_numpy(dtype=float))
    if len(budgets):
        shown = dict.fromkeys(wording.calls(float(budget)) for budget in budgets)
        found.append(("budget of a run", " or ".join(shown) + " oracle calls"))
    if about.get("differences"):
        least = min(about["differences"]["central"])
        found.append(("gradient checked", f"central differences agree to {wording.number(least)}, relative"))
    if about.get("citation"):
        found.append(("source", about["citation"]))
    return found


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else wording.shorten(str(value), 200) or "none"
