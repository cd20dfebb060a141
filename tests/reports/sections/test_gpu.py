"""Where a GPU takes over: sizes, crossings, and their part of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.gpu import COLUMNS as GPU_COLUMNS
from optbench.results.runs import Runs
from optbench.results.schema import to_arrow, to_frame
from reports.figures import crossover, style
from reports.page.context import PageContext
from reports.sections import gpu
from tests.reports.conftest import page_of


def timed(
    case: str, sizes: Iterable[int], cpu: Any, device: Any, grows: str = "d", **more: Any
) -> list[dict[str, Any]]:
    """Rows of seconds a step on both sides, each a function of the size, or None where it could not be measured."""
    common = dict.fromkeys(GPU_COLUMNS) | {
        "measurement": "20260102T000000-a", "created": "2026-01-02T00:00:00", "machine": "A GPU", "processor": "A CPU",
        "section": "sizes", "case": case, "precision": "float64", "quantity": "seconds a step", "note": grows,
    }  # fmt: skip
    return [
        common | {"size": n, "contender": side, "repeat": k, "value": None if of(n) is None else of(n) * factor} | more
        for n in sizes
        for side, of in (("cpu", cpu), ("gpu", device))
        for k, factor in enumerate((1.0, 0.99, 5.0))  # the median counts
    ]


def figures_of(*parts: list[dict[str, Any]]) -> pd.DataFrame:
    return to_frame(to_arrow([row for part in parts for row in part], GPU_COLUMNS))


def linear(n: int) -> float:
    return 1e-6 * n


def constant(n: int) -> float:
    return 1e-4


def test_only_what_was_measured_on_both_sides_is_compared() -> None:
    rows = figures_of(
        timed("whole", (10, 1000), linear, constant),
        timed("ends", (10, 1000), linear, lambda n: constant(n) if n < 100 else None),
        timed("never", (10,), linear, lambda n: None),
        timed("old", (10,), linear, constant, measurement="20250101T000000-b"),
    )
    table = crossover.step_seconds(rows)
    values = table[["case", "size", "cpu", "gpu", "ratio"]].to_records(index=False).tolist()
    assert values == [
        ("ends", 10, *(pytest.approx(v) for v in (1e-5, 1e-4, 0.1))),
        ("whole", 10, *(pytest.approx(v) for v in (1e-5, 1e-4, 0.1))),
        ("whole", 1000, *(pytest.approx(v) for v in (1e-3, 1e-4, 10))),
    ]
    assert crossover.step_seconds(rows[rows["section"] == "curves"]).empty


def test_the_crossover_is_marked_where_the_curve_passes_one() -> None:
    table = crossover.step_seconds(
        figures_of(
            timed("crosses", (10, 1000), linear, constant),
            timed("ahead", (200, 1000), linear, constant),
            timed("behind", (10, 50), linear, constant),
            timed("elsewhere", (10, 1000), linear, constant, grows="n"),
        )
    )
    ax = crossover.crossover(table, "d", ax=Figure().add_subplot())
    index = {case: of_case.index for case, of_case in style.numbered_styles(table["case"]).items()}
    (ring,) = [line for line in ax.get_lines() if str(line.get_gid()).endswith("crossing")]
    assert ring.get_gid() == f"curve-{index['crosses']}-crossing"
    assert np.asarray(ring.get_xdata())[0] == pytest.approx(100)
    assert np.asarray(ring.get_ydata())[0] == 1
    (line,) = [line for line in ax.get_lines() if line.get_gid() == f"curve-{index['crosses']}-line"]
    assert np.asarray(line.get_xydata()).ravel().tolist() == pytest.approx([10, 0.1, 1000, 10])
    assert not [line for line in ax.get_lines() if line.get_gid() == f"curve-{index['elsewhere']}-line"]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low < 1 < high
    nothing = crossover.crossover(table, "runs", ax=Figure().add_subplot())
    assert any("Nothing was measured" in text.get_text() for text in nothing.texts)


def test_the_crossing_in_words(tmp_path: Path) -> None:
    rows = figures_of(
        timed("crosses", (10, 1000), linear, constant),
        timed("ahead", (200, 1000), linear, constant),
        timed("behind", (10, 50), linear, constant),
        timed("ahead", (200, 1000), linear, constant, machine="B GPU", grows="n"),
        timed("only", (10, 1000), linear, lambda n: None, machine="C GPU"),
    )
    page = page_of(Runs.from_rows([]), tmp_path, gpu=rows)
    part = page[page.index("A GPU") : page.index("B GPU, ".rstrip(", "))]
    assert "The GPU takes less time from about 100 on crosses." in part
    assert "It takes less time at every measured size on ahead (from 200)." in part
    assert "At the largest measured size the CPU takes less time on behind (up to 50)." in part
    assert page.count("Where the GPU takes over") == 2  # nothing is claimed of the third
    assert "number of samples n" in page
    assert len(re.findall("<svg viewBox", page)) == 2


def test_many_crossings_are_summarized() -> None:
    rows = [timed(f"case {k:02}", (10, 10_000), linear, lambda n, k=k: 1e-4 * (k + 1)) for k in range(12)]
    text = gpu.in_words(crossover.step_seconds(figures_of(*rows)))
    assert text == "The GPU takes less time from about 100 on case 00 to about 1200 on case 11, 12 problems in all."


def test_cases_are_not_highlighted_with_methods(runs: Runs) -> None:
    context = PageContext(runs, gpu=figures_of(timed("crosses", (10, 1000), linear, constant)))
    methods = dict(context.names)
    section = gpu.section(context)
    assert section is not None
    ((figure,),) = [machine.figures for machine in section]
    (index,) = set(re.findall(r'data-method="(\d+)"', figure.svg))
    assert int(index) not in methods
    assert context.names[int(index)] == "crosses"
    assert figure.table is not None
    assert context.tables[figure.table]["ratio"].tolist() == pytest.approx([0.1, 10])
