"""The page: one HTML file that holds everything it shows, and asks for nothing from anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from optbench.errors import StoreError
from optbench.results import Runs
from optbench.seconds import standing_races
from reports import figures, tables
from reports import gpu as gpu_tables


def build_page(
    runs: Runs,
    path: str | Path,
    *,
    title: str = "optbench report",
    command: str | None = None,
    gpu: pd.DataFrame | None = None,
    races: pd.DataFrame | None = None,
) -> Path:
    """Write the results as one HTML page that needs no network. The same results give the same bytes.

    Parameters
    ----------
    path : str or Path
        The file to write, or a folder (any path that does not end in .html or .htm), which gets an index.html.
    title : str
        Heading of the page.
    command : str, optional
        The command that computed the results, to be shown.
    gpu : pandas.DataFrame, optional
        Figures of `Store.load_gpu`, shown in a section of their own.
    races : DataFrame, optional
        The races to be shown, as `optbench.store.Store.load_races` returns them: what the page says of seconds.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    StoreError
        If it cannot be written; a page that was there before stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "index.html"
    _check_writable(path)
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,  # names come from users
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["whole"] = _whole
    text = page.get_template("page.html.j2").render(
        title=title,
        command=command,
        gpu=[] if gpu is None else gpu_tables.machines(gpu),
        **_content(runs, pd.DataFrame() if races is None else races),
    )
    _write(path, figures.clean(text))
    return path


def _content(runs: Runs, races: pd.DataFrame) -> dict[str, Any]:
    """What the template shows; everything in a fixed order, whatever the order of the rows."""
    runs = Runs(runs.rows.sort_values(["problem", "method", "settings", "seed", "key"]), runs.environments)
    rows = runs.rows
    styles = figures.method_styles(runs)
    names = {style.index: figures.clean(method) for method, style in styles.items()}
    lines = tables.lines(runs)
    problems = [
        _problem(number, name, runs, lines[lines["problem"] == name], styles, names)
        for number, name in enumerate(sorted(set(rows["problem"])), start=1)
    ]
    anchors = {problem["name"]: problem["anchor"] for problem in problems}
    return {
        "counts": {
            "run": len(rows),
            "problem": rows["problem"].nunique(),
            "method": rows["method"].nunique(),
            "seed": rows["seed"].nunique(),
        },
        "styles": styles,
        "palettes": {"light": figures.PALETTE, "dark": figures.PALETTE_ON_BLACK},
        "inks": {"ink": figures.INK, "muted": figures.MUTED, "grid": figures.GRID, "paper": figures.PAPER},
        "problems": problems,
        "leaders": [leader._asdict() | {"anchor": anchors[leader.problem]} for leader in tables.leaders(runs)],
        "speed": None if races.empty else _speed(runs, races),
        "anchors": anchors,
        "notes": _notes(rows, lines, races),
        "lost": [_lost(key, part) for key, part in _unwell(rows).groupby(["problem", "method"], sort=True)],
        "environment": _environment(runs),
    }


def _problem(
    number: int, name: str, runs: Runs, lines: pd.DataFrame, styles: dict[str, figures.Style], names: dict[int, str]
) -> dict[str, Any]:
    """One problem's part of the page."""
    rows = runs.rows[runs.rows["problem"] == name]
    anchor = f"problem-{number}"
    gap = "gap" if rows["f_star"].notna().all() else "objective"
    best = lines["method"].iloc[0]
    pictures = {
        "convergence": f"Convergence on {name}: smallest {gap} so far against oracle calls, one line for each of "
        f"{len(lines)} methods. Best in the table below: {best}.",
        "sensitivity": f"Step sizes on {name}: smallest {gap} of a run against the step size, one line for each method "
        "that has one.",
    }
    drawn = {}
    for kind, label in pictures.items():
        made = figures.figure(getattr(figures, kind), runs, name)
        drawn[kind] = Markup(figures.to_svg(made, f"{anchor}-{kind[0]}-", figures.clean(label), names))
    columns = tables.columns(lines)
    return {
        "name": name,
        "anchor": anchor,
        "facts": _facts(rows),
        "gap": gap,
        "figures": drawn,
        "without_step_size": sorted(rows.groupby("method")["step_size"].count().loc[lambda n: n == 0].index),
        "has_step_size": bool(rows["step_size"].notna().any()),
        "not_drawn": sorted(set(rows["method"]) - set(rows.loc[rows["status"] != "failed", "method"])),
        "columns": [{"title": column.title, "meaning": column.meaning} for column in columns],
        "lines": [
            {"method": line["method"], "cells": [column.cell(line) for column in columns]}
            for line in lines.to_dict("records")
        ],
        "methods": sorted(lines["method"]),
    }


def _facts(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """What a problem is, as pairs of name and text."""
    first = rows.iloc[0]
    params = json.loads(first["problem_params"] or "{}")
    facts = [("dimension d", str(first["dim"]))]
    if params:
        facts.append(("parameters", ", ".join(f"{key} = {_plain(value)}" for key, value in params.items())))
    if rows["f_star"].notna().all():
        f_star, lower = float(first["f_star"]), first["f_star_lower"]
        width = 0.0 if pd.isna(lower) else max(0.0, f_star - float(lower))
        certain = f", certain to {tables.number(width)}" if width > 0 else ""
        facts.append(("optimal value f*", f"{f_star:.12g}{certain} ({first['f_star_method'] or 'method not stated'})"))
    else:
        facts.append(("optimal value f*", "not known; the objective is shown instead of the gap"))
    starts = rows["f_start"].dropna().astype(float)
    if len(starts):
        low, high = tables.number(starts.min()), tables.number(starts.max())
        facts.append(("objective at the start", low if low == high else f"{low} to {high}, by seed"))
    ran = rows.dropna(subset=["fraction"])
    if len(ran):
        budgets = sorted(
            {(int(steps) + 1) * float(part) for steps, part in zip(ran["steps"], ran["fraction"], strict=True)}
        )
        shown = sorted({tables.calls(budget): budget for budget in budgets}.items(), key=lambda pair: pair[1])
        facts.append(("budget of a run", " or ".join(text for text, _ in shown) + " oracle calls"))
    return facts


def _speed(runs: Runs, races: pd.DataFrame) -> dict[str, Any]:
    """What the races say in seconds."""
    standing = standing_races(races)
    reached = tables.seconds_table(runs, races)
    goals = [name for name in reached.columns if name.startswith("to ") and not name.endswith("95 %")]
    shown = ["machine", "update", "backend", "precision"]
    told = [name for name in shown if len(set(reached[name])) > 1]
    by_race = sorted(
        (part for _, part in standing.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True
    )
    return {
        "races": [_race(number, part) for number, part in enumerate(by_race, start=1)],
        "left_out": races["race"].nunique() - len(by_race),
        "goals": goals,
        "told": told,
        "same": [
            ", ".join(map(str, dict.fromkeys(reached[name]))) for name in shown if name not in told and len(reached)
        ],
        "reached": reached.to_dict("records"),
        "without": _without_seconds(runs, races, reached),
    }


def _race(number: int, rows: pd.DataFrame) -> dict[str, Any]:
    """One race's part of the page."""
    rows = rows.sort_values(["round", "place"])
    table = tables.speed_table(rows)
    figure = {}
    for place, problem in enumerate(dict.fromkeys(table["problem"]), start=1):
        its = table[table["problem"] == problem]
        label = (
            f"Time a step on {problem}, median of {rows['round'].nunique()} rounds; of it the oracle's part: "
            + "; ".join(f"{line['contestant']} {line['a step']}, {line['oracle']}" for line in its.to_dict("records"))
        )
        made = figures.speed_figure(rows, problem)
        figure[problem] = Markup(figures.to_svg(made, f"race-{number}-{place}-", figures.clean(label), {}))
    first = rows.iloc[0]
    before, after = (
        tables.NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after")
    )
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return {
        "held": f"{first['created'][:19].replace('T', ' ')} UTC",
        "facts": [
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself is 1)"),
            ("arrays", f"{_several(rows['backend'])}, {_several(rows['precision'])}"),
            ("held", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        "disturbed": bool((table["reason"] != "").any()),
        "figures": figure,
        "groups": [(problem, part.to_dict("records")) for problem, part in table.groupby("problem", sort=False)],
    }


def _without_seconds(runs: Runs, races: pd.DataFrame, reached: pd.DataFrame) -> list[str]:
    """What the table of seconds to target leaves out, and why."""
    said = []
    there = set(zip(reached["problem"], reached["method"], strict=True))
    for problem, rows in runs.rows.groupby("problem", sort=True):
        methods = sorted(set(rows["method"]))
        if rows["f_star"].isna().all():
            said.append(f"On {problem} there are no targets: its optimal value is not known.")
            continue
        absent = [method for method in methods if (problem, method) not in there]
        if len(absent) == len(methods):
            said.append(f"On {problem} there was no race of any method.")
        elif absent:
            said.append(f"On {problem} there was no race of: {'; '.join(absent)}.")
    ran = set(zip(runs.rows["problem_name"], runs.rows["problem_params"], strict=True))
    raced = set(zip(races["problem"], races["problem_name"], races["problem_params"], strict=True))
    only = sorted(problem for problem, *what in raced if tuple(what) not in ran)
    if only:
        said.append(f"Of {'; '.join(only)} there are races, but no runs that tell how many steps it takes.")
    return said


def _notes(rows: pd.DataFrame, lines: pd.DataFrame, races: pd.DataFrame) -> list[str]:
    """What a reader must know before quoting a number; only what applies to these results."""
    notes = [
        "The settings of every method were chosen on the same seeds as are shown, and among those that were tried, no "
        "more: a method with a finer grid has an advantage, which the column “tried” tells.",
        "An oracle call is counted alike whether it asks for a value, a gradient or a Hessian, though these cost "
        "different time; the column “a call asks for” tells which. "
        + (
            "Nothing on this page is measured in seconds." if races.empty else "Seconds are in the section Speed alone."
        ),
    ]
    if not all(rows["exact_hits"].dropna()):
        notes.append(
            "With mini-batches or noise the full objective is looked at only at checkpoints, so that "
            "calls to a target are rounded up to the next one. A mini-batch of b out of n samples counts b/n of a call."
        )
    if (rows["status"] == "target").any():
        notes.append(
            "Runs were ended once they reached 1e-10 of their initial gap, so that smaller gaps at the end do not tell "
            "which method is better."
        )
    if len(lines) and lines["edge"].any():
        notes.append(
            "* The best step size is the smallest or the largest that was tried; a better one may lie outside the grid."
        )
    if len(set(rows["seed"])) == 1:
        notes.append("There is only one seed: nothing here says how much results vary from seed to seed.")
    ran = rows.dropna(subset=["fraction"])
    if len(set(zip(ran["problem"], ran["steps"], ran["fraction"], strict=True))) > ran["problem"].nunique():
        notes.append(
            "Not all methods had the same budget; their objectives at the end compare different amounts of work."
        )
    return notes


def _unwell(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["status"].isin(["diverged", "failed"])]


def _lost(key: tuple[Any, ...], rows: pd.DataFrame) -> dict[str, Any]:
    """Why runs of a method have no result."""
    reasons = []
    diverged = rows[rows["status"] == "diverged"]
    if len(diverged):
        sizes = diverged["step_size"].dropna().astype(float)
        where = ""
        if len(sizes):
            low, high = tables.number(sizes.min()), tables.number(sizes.max())
            where = f", at step size {low}" if low == high else f", at step sizes from {low} to {high}"
        steps = sorted(int(end) for end in diverged["end"].dropna())
        when = f", after {steps[0]} to {steps[-1]} steps" if steps and steps[0] != steps[-1] else ""
        when = f", after {steps[0]} steps" if steps and steps[0] == steps[-1] else when
        reasons.append(f"{len(diverged)} left the finite numbers{where}{when}")
    failed = rows[rows["status"] == "failed"]
    for error, part in failed.groupby(failed["error"].fillna("no reason was recorded"), sort=True):
        reasons.append(f"{len(part)} failed: {figures.shorten(str(error), 600)}")
    return {"problem": key[0], "method": key[1], "runs": len(rows), "reasons": reasons}


def _environment(runs: Runs) -> list[tuple[str, list[str]]]:
    """Names and values of what the results were computed with: one value for each environment, the first ones for all."""
    rows = runs.rows
    facts = [
        ("array module", [_several(rows["backend"])]),
        ("precision", [_several(rows["precision"])]),
    ]
    kinds = sorted({json.dumps(environment, sort_keys=True): environment for environment in runs.environments}.items())
    keys = dict.fromkeys(key for _, environment in kinds for key in environment)
    for key in keys:
        values = [str(environment.get(key, "")) or tables.NEVER for _, environment in kinds]
        facts.append((key, values[:1] if len(set(values)) == 1 else values))
    return facts


def _whole(text: str) -> Markup:
    """Text as HTML in which no line ends within a number such as 1e-10."""
    return Markup(re.sub(r"\d(?:\.\d+)?e-\d+", r'<span class="whole">\g<0></span>', str(escape(text))))


def _several(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if pd.notna(value)})) or tables.NEVER


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else figures.shorten(str(value), 200) or "none"


def _check_writable(path: Path) -> None:
    """Make the folder, before figures are drawn for nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        reason = "is a folder" if path.is_dir() else "permission denied"
        raise StoreError(f"the page {str(path)!r} cannot be written ({reason}); choose another place for it")


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        # opened plainly, not as a temporary file, so that others may read the page where the umask lets them
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the page {str(path)!r} cannot be written ({error.strerror or error}); choose another place for it"
    )
