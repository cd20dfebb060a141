"""The history of the asv benchmarks as a table, from the result files of asv.

The files are those of asv 0.4.2 and later (version 2 of the format): ``MACHINE/COMMIT-ENVIRONMENT.json`` with the results
of one commit, and ``benchmarks.json`` with the benchmarks and their units.
"""

from __future__ import annotations

import ast
import datetime
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optbench.core.errors import InputError

FORMAT = 2  # version of asv's result files
COLUMNS = (
    "machine", "environment", "benchmark", "parameters", "unit", "commit", "date", "value", "low", "high",
)  # fmt: skip
SERIES = ["benchmark", "parameters", "machine", "environment"]  # identify a series of values


def load_history(folder: str | Path) -> pd.DataFrame:
    """The results of asv, commit by commit.

    Like asv, it leaves out values of benchmarks that were removed or changed since, and of benchmarks that were skipped or
    failed. Files that cannot be read, or are not from asv, are skipped.

    Parameters
    ----------
    folder : str or Path
        asv's results folder, often ``.asv/results``.

    Returns
    -------
    DataFrame
        One row a commit, machine, environment, benchmark and set of parameters, with the columns machine, environment,
        benchmark, parameters (``name=value``, comma-separated; may be empty), unit, commit, date (of the commit, UTC),
        value, low and high (the 99 % interval that asv stores with durations; else NaN). The names of skipped files are in
        ``attrs["skipped"]``.

    Raises
    ------
    InputError
        If there is no such folder.

    Examples
    --------
    >>> reports.load_history(".asv/results").columns[:3]  # doctest: +SKIP
    Index(['machine', 'environment', 'benchmark'], dtype='object')
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}; 'asv run' creates one, often .asv/results")
    skipped: list[str] = []
    benchmarks: Mapping[str, Any] | None = None
    benchmark_info = folder / "benchmarks.json"
    if benchmark_info.exists():
        try:
            benchmarks = _mapping(json.loads(benchmark_info.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            skipped.append(benchmark_info.name)
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/*.json")):
        if path.name == "machine.json":
            continue
        try:
            rows += list(_rows(path, benchmarks))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            skipped.append(path.relative_to(folder).as_posix())
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.sort_values([*SERIES, "date", "commit"], ignore_index=True)
    table.attrs["skipped"] = skipped
    return table


def _rows(path: Path, benchmarks: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The rows of a result file; raises ValueError, TypeError or KeyError for other files."""
    results = _mapping(json.loads(path.read_text(encoding="utf-8")))
    if results["version"] != FORMAT:
        raise ValueError(f"version {results['version']!r}")
    commit = {
        "machine": str(_mapping(results["params"])["machine"]),
        "environment": str(results["env_name"]),
        "commit": str(results["commit_hash"]),
        "date": datetime.datetime.fromtimestamp(results["date"] / 1000, datetime.UTC),  # asv has milliseconds
    }
    names = list(results["result_columns"])
    for benchmark, cells in _mapping(results["results"]).items():
        cell = dict(zip(names, cells, strict=False))  # asv leaves out empty cells at the end
        benchmark_info: Mapping[str, Any] = {}
        if benchmarks is not None:
            benchmark_info = _mapping(benchmarks.get(benchmark, {}))
            if not benchmark_info or cell.get("version") not in (None, benchmark_info.get("version")):
                continue
        axes = [list(values) for values in cell.get("params") or []]
        titles = [str(name) for name in benchmark_info.get("param_names") or []]
        values = _cells(cell.get("result"))
        low, high = (_cells(cell.get(f"stats_ci_99_{end}")) for end in "ab")
        sets = itertools.product(*axes)
        for point, value, *ends in itertools.zip_longest(itertools.islice(sets, len(values)), values, low, high):
            if point is None or not _number(value) or not math.isfinite(value):
                continue
            ends = [float(end) if _number(end) else math.nan for end in ends]  # infinite where asv had too few samples
            yield commit | {
                "benchmark": str(benchmark),
                "parameters": _parameters(titles, point),
                "unit": str(benchmark_info.get("unit") or ""),
                "value": float(value),
                "low": ends[0],
                "high": ends[1],
            }


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, not {type(value).__name__}")
    return value


def _cells(value: Any) -> list[Any]:
    """The values of a cell, one a set of parameters; none if the whole benchmark failed."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parameters(titles: Sequence[str], point: Sequence[Any]) -> str:
    """A set of parameters as text; asv stores the `repr` of each value."""
    shown = []
    for title, value in itertools.zip_longest(titles[: len(point)], point, fillvalue=""):
        try:
            text = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            text = value
        shown.append(f"{title}={text}" if title else str(text))
    return ", ".join(shown)


def changes(history: pd.DataFrame) -> pd.DataFrame:
    """The first and last value of every series, largest change first.

    Returns
    -------
    DataFrame
        benchmark, parameters, machine, environment, unit, commits (their number), first_commit, last_commit, first, last,
        change (last / first - 1; NaN if one is zero or their signs differ), clear (whether the intervals of first and last
        do not overlap; true without intervals).
    """
    groups = history.sort_values(["date", "commit"]).groupby(SERIES, sort=True)
    first, last = (part.set_index(SERIES).sort_index() for part in (groups.head(1), groups.tail(1)))
    ratio = last["value"] / first["value"].where(first["value"] != 0)
    overlap = (first["high"] >= last["low"]) & (last["high"] >= first["low"])  # false for NaN
    table = pd.DataFrame({
        "unit": last["unit"], "commits": groups["commit"].nunique(),
        "first_commit": first["commit"], "last_commit": last["commit"], "first": first["value"], "last": last["value"],
        "change": (ratio - 1).where(ratio > 0), "clear": ~overlap,
    }).reset_index()  # fmt: skip
    # a halving is as large a change as a doubling
    size = np.abs(np.log1p(table["change"].to_numpy(dtype=float)))
    order = np.lexsort((np.where(np.isnan(size), 0, -size), table["commits"].to_numpy() < 2))
    return table.iloc[order].reset_index(drop=True)
