"""The section that compares a GPU with the CPU, from the measurements that `benchmarks.gpu` stored.

Of each GPU and each part of the benchmark, the newest measurement is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..figures import style
from ..figures.crossover import GROWTH, crossing, crossover, step_seconds
from ..page.anchors import slug
from ..page.context import PageContext, Picture
from ..page.table import Cell, Column, Link, Table
from ..wording import NEVER, clean, names, notation, number

PRECISIONS = ("float64", "float32")
FEW = 6  # problems that a sentence names


@dataclass(frozen=True)
class Machine:
    """A GPU, the CPU that it is compared with, and the measurements."""

    name: str
    processor: str
    day: str
    tables: dict[str, Table]  # by the section of the measurement
    figures: list[Picture]


def section(context: PageContext) -> list[Machine] | None:
    """The newest measurements of every GPU; None without any."""
    if context.gpu is None or context.gpu.empty:
        return None
    return [_machine(context, name, rows) for name, rows in context.gpu.groupby("machine", sort=True)]


def _machine(context: PageContext, name: str, rows: pd.DataFrame) -> Machine:
    shown = _newest(rows)
    return Machine(
        name=name,
        processor=" / ".join(sorted(set(shown["processor"]))),
        day=" / ".join(sorted({str(created)[:10] for created in shown["created"]})),
        tables=tables_of(rows),
        figures=_figures(context, name, step_seconds(rows)),
    )


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest measurement of each section."""
    return rows[rows["measurement"] == rows.groupby("section")["measurement"].transform("max")]


def tables_of(rows: pd.DataFrame) -> dict[str, Table]:
    """The tables of the newest measurements of one GPU, by section."""
    rows = _newest(rows)
    tables = {section: build(rows[rows["section"] == section]) for section, build in _TABLES.items()}
    return {section: table for section, table in tables.items() if len(table)}


def _table(heading: list[str], lines: Sequence[Sequence[str | float]]) -> Table:
    """A table whose first column names the row; the numbers of a column share a notation."""
    columns = []
    for i, title in enumerate(heading):
        write = notation(value for line in lines if isinstance(value := line[i], float))
        columns.append(Column(title, partial(_cell, i, write), "number" if i else "row"))
    return Table.of(columns, lines)


def _cell(i: int, write: Callable[[float], str], line: Sequence[str | float]) -> Cell:
    value = line[i]
    text = value if isinstance(value, str) else write(value)
    return Cell(text if i else Link(text))


def _figures(context: PageContext, machine: str, times: pd.DataFrame) -> list[Picture]:
    """Figures of `crossover` of one GPU."""
    # cases can be highlighted like methods, so their numbers must differ from those of methods
    styles = style.numbered_styles(times["case"], first=max(context.names, default=-1) + 1)
    context.names.update({of_case.index: clean(case) for case, of_case in styles.items()})
    figures = []
    for grows in [name for name in GROWTH if name in set(times["grows"])]:
        for precision in [p for p in PRECISIONS if p in set(times.loc[times["grows"] == grows, "precision"])]:
            rows = times[(times["grows"] == grows) & (times["precision"] == precision)]
            verdict = in_words(rows)
            label = (
                f"Speedup of a step on {machine} over one core of the CPU, by {GROWTH[grows]}, {precision}. {verdict}"
            )
            caption = (
                "Above the line at 1 a step takes less time on the GPU than on one core of the CPU. A ring marks where a "
                f"curve crosses it for the last time, interpolated between measured sizes. {verdict}"
            )
            figure = style.figure(crossover, times, grows, precision, styles=styles)
            figures.append(context.picture(f"gpu-{slug(machine)}-{grows}-{precision}", figure, label, caption, rows))
    return figures


def in_words(rows: pd.DataFrame) -> str:
    """The sizes from which the GPU is faster, in words."""
    from_start, later, never = [], [], []
    for case, part in rows.groupby("case", sort=True):
        part = part.sort_values("size")
        start = crossing(part["size"].to_numpy(dtype=float), part["ratio"].to_numpy(dtype=float))
        smallest, largest = part["size"].iloc[[0, -1]]
        if np.isinf(start):
            never.append(f"{case} (up to {number(largest)})")
        elif start == smallest:
            from_start.append(f"{case} (from {number(smallest)})")
        else:
            later.append((start, f"from about {number(float(f'{start:.2g}'))} on {case}"))
    crossed = [text for _, text in sorted(later)]
    if len(crossed) > FEW:
        crossed = [f"{crossed[0]} to {crossed[-1].removeprefix('from ')}, {len(crossed)} problems in all"]
    sentences = []
    if later:
        sentences.append(f"The GPU takes less time {'; '.join(crossed)}.")
    if from_start:
        subject = "It" if later else "The GPU"
        sentences.append(f"{subject} takes less time at every measured size on {names(from_start, FEW, '; ')}.")
    if never:
        sentences.append(f"At the largest measured size the CPU takes less time on {names(never, FEW, '; ')}.")
    return " ".join(sentences)


def _curves(rows: pd.DataFrame) -> Table:
    ways = [(precision, who) for precision in PRECISIONS for who in ("gpu", "gpu fused")] + [("float32", "cpu")]
    names = ["case", "precision", "contender", "quantity"]
    first = rows.drop_duplicates(names).set_index(names)[["value", "note"]].to_dict("index")
    lines = []
    for case in dict.fromkeys(rows["case"]):
        cells = []
        for way in ways:
            out, share = (first.get((case, *way, quantity)) for quantity in ("first step out", "share of envelope"))
            if out is None or share is None:
                cells.append("" if out is None else "not compiled")
                continue
            text = f"step {out['value']:.0f}" if pd.notna(out["value"]) else f"never {out['note']}"
            cells.append(f"{text} ({'not finite' if np.isinf(share['value']) else number(share['value'])})")
        lines.append([str(case), *cells])
    return _table(["problem and method", *(f"{contender}, {precision}" for precision, contender in ways)], lines)


def _steps(rows: pd.DataFrame) -> Table:
    values = rows.groupby(["case", "size", "precision", "contender"])["value"].median()
    lines = []
    for case in [c for c in dict.fromkeys(rows["case"]) if c != "copy"]:
        for size in sorted(set(rows.loc[rows["case"] == case, "size"])):
            cells: list[str | float] = []
            for precision in PRECISIONS:
                copy = values.get(("copy", size, precision, "copy"), np.nan)
                cells.append(copy / 1e9)
                for text in ("fused", "plain"):
                    value = values.get((case, size, precision, text), np.nan)
                    cells.append(number(value / 1e9) + (f" ({value / copy:.2f})" if value / copy > 0 else ""))
            lines.append([str(case), number(float(size)), *cells])
    heading = ["rule", "numbers", *(f"{who}, {p}" for p in PRECISIONS for who in ("copy", "fused", "plain"))]
    return _table(heading, lines)


def _sweeps(rows: pd.DataFrame) -> Table:
    values = rows.groupby(["case", "precision", "contender", "quantity"])["value"].median()
    lines: list[list[str | float]] = []
    for (case, precision), part in rows.groupby(["case", "precision"], sort=False):

        def of(contender: str, quantity: str = "seconds", of: tuple[Any, Any] = (case, precision)) -> float:
            return float(values.get((*of, contender, quantity), np.nan))

        cpu, gpu, jax = (of(contender) for contender in ("cpu", "gpu", "jax on gpu"))
        deviations = np.array([of(who, "deviation after 20 steps") for who in ("gpu", "jax on gpu")])
        largest = np.max(deviations, where=~np.isnan(deviations), initial=-np.inf)
        ran = part.loc[part["note"].str.endswith(" steps"), "note"]
        lines.append(
            [
                f"{case}, {int(part['size'].iloc[0])} runs, {ran.iloc[0] if len(ran) else ''}",
                str(precision),
                cpu,
                gpu,
                jax,
                cpu / gpu,
                jax / gpu,
                float(largest),
                of("gpu", "peak bytes of the pool") / 2**20,
            ]
        )
    heading = ["sweep", "precision", "cpu", "gpu", "jax on gpu", "cpu / gpu", "jax / gpu", "difference", "pool, MiB"]
    return _table(heading, lines)


def _crossovers(rows: pd.DataFrame) -> Table:
    times = step_seconds(rows).sort_values("size")
    lines = []
    for case, part in rows.groupby("case", sort=False):
        cells = []
        for precision in PRECISIONS:
            pair = times[(times["case"] == case) & (times["precision"] == precision)]
            if pair.empty:  # not measured at any size
                cells += [NEVER, NEVER]
                continue
            sizes, ratios = (pair[name].to_numpy(dtype=float) for name in ("size", "ratio"))
            start = crossing(sizes, ratios)
            wins = f"{'at most ' if start == sizes[0] else ''}{number(float(f'{start:.2g}'))}"
            wins = f"not up to {number(sizes[-1])}" if np.isinf(start) else wins
            cells += [wins, f"{number(ratios[-1])} at {number(sizes[-1])}"]
        lines.append([str(case), str(part["note"].iloc[0]).partition(";")[0], *cells])
    heading = ["problem", "size", *(f"{what}, {p}" for p in PRECISIONS for what in ("GPU wins from", "times faster"))]
    return _table(heading, lines)


_TABLES = {"curves": _curves, "steps": _steps, "sweeps": _sweeps, "sizes": _crossovers}
