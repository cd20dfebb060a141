"""The command that computes the runs of a lesson anew, read from the runs themselves."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

import numpy as np
import pandas as pd

from .selection import whole


def spec(problem: str) -> str:
    """The spec of a problem without what tells data or stores apart."""
    return problem.partition(" [")[0]


def command_of(rows: pd.DataFrame, *, scaled: bool = False, note: bool = True) -> str:
    """The command that computes rows of one problem anew.

    Parameters
    ----------
    scaled : bool
        Whether step sizes were given for the smallest batch and multiplied.
    note : bool
        Whether what shows the results follows.
    """
    words = ["optbench", "run", "--problem", spec(str(rows["problem"].iloc[0]))]
    grids = {}
    for name, its in rows.groupby(rows["method"].str.partition(", ")[0], sort=True):
        grids[str(name)] = _swept(its)
    sizes = {tuple(grid.pop("", ())) for grid in grids.values()}
    shared = len(sizes - {()}) == 1
    for name, grid in grids.items():
        inner = ",".join(f"{key}={'/'.join(map(_digits, values))}" for key, values in grid.items())
        words += ["--optimizer", f"{name}{',' if ':' in name else ':'}{inner}" if inner else name]
    if shared:
        given = sorted(next(iter(sizes - {()})))
        words += ["--lr", rates(given[:1] if scaled else given)]
    words += ["--seeds", str(rows["seed"].nunique())]
    batches = sorted(int(size) for size in rows["batch_size"].dropna().unique())
    words += _budget(rows)
    if batches:
        words += ["--batch-size", ",".join(map(str, batches))]
    if scaled:
        words.append("--linear-scaling")
    schedules = sorted(set(rows["schedule"]))
    for schedule in schedules if schedules != ["constant"] else []:
        words += ["--schedule", schedule]
    steps = int(rows["steps"].max())
    if steps >= 100 and not batches and whole(rows).all():
        words += ["--checkpoint-count", str(steps + 1)]
    return with_report(words) if note else line(words)


def line(words: Iterable[str]) -> str:
    """A command, broken before options where it would be too wide to read."""
    lines = [""]
    for word in shlex.join([*words, "-o", "lesson"]).split(" "):
        if word.startswith("-") and len(lines[-1]) > 72:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def with_report(words: Iterable[str]) -> str:
    return f"{line(words)}\noptbench report lesson"


def _swept(rows: pd.DataFrame) -> dict[str, list[float]]:
    """The hyperparameters of a method that were swept, by name; the step size under the empty name."""
    settings = [json.loads(text) for text in rows["settings"].drop_duplicates()]
    found = {}
    for key in settings[0]:
        values = {s[key] for s in settings if isinstance(s.get(key), int | float)}
        if key in ("lr", "scale"):
            found[""] = sorted(values)
        elif len(values) > 1:
            found[key] = sorted(values)
    return found


def _budget(rows: pd.DataFrame) -> list[str]:
    """Steps, or the oracle calls that give these steps for every batch size."""
    steps = sorted(set(rows["steps"].astype(int)))
    if len(steps) == 1:
        return ["--steps", str(steps[0])]
    pairs = {(int(s), float(f)) for s, f in zip(rows["steps"], rows["calls_per_step"], strict=True)}
    calls = round(float(np.median([(s + 1) * f for s, f in pairs])))
    return ["--calls", str(calls)] if all(round(calls / f) - 1 == s for s, f in pairs) else ["--steps", str(steps[-1])]


def rates(values: list[float]) -> str:
    """Step sizes as --lr takes them: a range where they are one."""
    spaced = [float(f"{v:.12g}") for v in np.geomspace(values[0], values[-1], len(values))] if len(values) > 3 else []
    if spaced == values:
        return f"{_digits(values[0])}:{_digits(values[-1])}:{len(values)}"
    return ",".join(map(_digits, values))


def _digits(value: float) -> str:
    return f"{value:.12g}"
