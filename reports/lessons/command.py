"""The command that reproduces the runs of a lesson."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

import numpy as np
import pandas as pd

from optbench.results.methods import method_name

from .base import has_path


def command_of(rows: pd.DataFrame, *, scaled: bool = False) -> str:
    """The command that reproduces rows of one problem; `scaled` if step sizes are proportional to the batch size."""
    words = ["optbench", "run", "--problem", str(rows["problem_spec"].iloc[0])]
    sizes = set()
    for (optimizer, fixed), part in rows.groupby(["optimizer", "fixed"], sort=True):
        name, grid = method_name(optimizer, json.loads(fixed)), _swept(part)
        sizes.add(tuple(grid.pop("", ())))
        inner = ",".join(f"{key}={'/'.join(map(_digits, values))}" for key, values in grid.items())
        words += ["--optimizer", f"{name}{',' if ':' in name else ':'}{inner}" if inner else name]
    if len(sizes - {()}) == 1:
        given = list(max(sizes))
        words += ["--lr", rates(given[:1] if scaled else given)]
    words += ["--seeds", str(rows["seed"].nunique()), *_budget(rows)]
    batches = sorted(int(size) for size in rows["batch_size"].dropna().unique())
    if batches:
        words += ["--batch-size", ",".join(map(str, batches))]
    if scaled:
        words.append("--linear-scaling")
    schedules = sorted(set(rows["schedule"]))
    for schedule in schedules if schedules != ["constant"] else []:
        words += ["--schedule", schedule]
    steps = int(rows["steps"].max())
    if steps >= 100 and not batches and has_path(rows).all():
        words += ["--checkpoint-count", str(steps + 1)]
    return command_line(words)


def command_line(words: Iterable[str]) -> str:
    """A shell command, with long lines broken before options."""
    lines = [""]
    for word in shlex.join([*words, "-o", "lesson"]).split(" "):
        if word.startswith("-") and len(lines[-1]) > 72:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def _swept(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Swept values by hyperparameter; those of the step size under the empty name."""
    settings = [json.loads(text) for text in rows["settings"].drop_duplicates()]
    swept = {}
    for key in settings[0]:
        values = {s[key] for s in settings if isinstance(s.get(key), int | float)}
        if key in ("lr", "scale"):
            swept[""] = sorted(values)
        elif len(values) > 1:
            swept[key] = sorted(values)
    return swept


def _budget(rows: pd.DataFrame) -> list[str]:
    """The option --steps, or --calls if the steps depend on the batch size."""
    steps = sorted(set(rows["steps"].astype(int)))
    if len(steps) == 1:
        return ["--steps", str(steps[0])]
    costs = rows[["steps", "calls_per_step", "budget_calls"]].drop_duplicates()
    calls = round(float(costs["budget_calls"].median()))
    same = (calls / costs["calls_per_step"].astype(float)).round() - 1 == costs["steps"]
    return ["--calls", str(calls)] if same.all() else ["--steps", str(steps[-1])]


def rates(values: list[float]) -> str:
    """Step sizes in the syntax of --lr, as a range if possible."""
    spaced = [float(f"{v:.12g}") for v in np.geomspace(values[0], values[-1], len(values))] if len(values) > 3 else []
    if spaced == values:
        return f"{_digits(values[0])}:{_digits(values[-1])}:{len(values)}"
    return ",".join(map(_digits, values))


def _digits(value: float) -> str:
    return f"{value:.12g}"
