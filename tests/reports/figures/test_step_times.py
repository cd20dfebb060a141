"""Time per step in one race and over all races: the table, the figures, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.colors as colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import reports
from optbench.analysis import timing
from optbench.core.errors import InputError
from optbench.results.runs import Runs
from reports.figures import step_times, style
from reports.page.context import PageContext
from reports.sections import speed as steps
from tests.conftest import present
from tests.reports.conftest import HOSTILE, VALLEY, page_of
from tests.rows import race_rows, race_table


def test_the_figure_of_speed_draws_the_medians(races: pd.DataFrame, ax: Axes) -> None:
    part = races[races["race"] == "race 1"]
    assert reports.speed(part, VALLEY, ax) is ax
    table = timing.race_summary(part[part["problem"] == VALLEY])
    drawn = {line.get_marker(): np.asarray(line.get_xdata()).tolist() for line in ax.get_lines()}
    assert drawn["o"] == table["seconds"].tolist()
    assert drawn["D"] == table["oracle_seconds"].tolist()
    assert drawn["s"] == table["optimizer_seconds"].tolist()[1:]  # of the first nothing is left to draw
    assert VALLEY in ax.get_title(loc="left")
    assert "time per step" in ax.get_xlabel()
    names = [text.get_text() for text in present(ax.get_legend()).get_texts()]
    assert names == ["whole step", "oracle call", "optimizer"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["adam", "lbfgs:memory=5", "newton"]
    assert all(label.get_text().endswith(" µs") for label in ax.get_xticklabels())


def test_the_figure_of_speed_needs_one_race(races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="choose a problem"):
        reports.speed(races)
    with pytest.raises(InputError, match=r"there are 2 races .* choose one"):
        reports.speed(races, VALLEY)
    with pytest.raises(InputError, match="no race on problem 'sphere'"):
        reports.speed(races, "sphere")


def test_a_line_for_every_configuration_problem_and_machine(step_races: pd.DataFrame) -> None:
    table = step_times.step_seconds(step_races)
    shown = table[["problem", "configuration", "way", "seconds", "disturbed"]].to_records(index=False).tolist()
    assert shown == [
        ("p", "fast", "M", pytest.approx(1e-3), False),
        ("p", "fast", "N", pytest.approx(4e-3), True),
        ("p", "slow", "M", pytest.approx(5e-3), False),
        ("p", "slow", "N", pytest.approx(2e-3), True),
        ("q", "fast", "M", pytest.approx(1e-3), False),
    ]
    assert (table["seconds_low"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["seconds_high"]).all()
    assert table["seconds_low"].iloc[0] == pytest.approx(0.95e-3)


def test_the_newest_undisturbed_race_is_taken() -> None:
    # each race has a configuration of its own, so that none is dropped
    rows = race_table(
        race_rows("a", [1e-3] * 3, race="1", created="2026-01-01"), race_rows("b", place=1, race="1", created="2026-01-01"),
        race_rows("a", [2e-3] * 3, race="2", created="2026-01-02"), race_rows("c", place=1, race="2", created="2026-01-02"),
        race_rows("a", [3e-3] * 3, race="3", created="2026-01-03", load_before=3.0),
        race_rows("d", place=1, race="3", created="2026-01-03"),
    )  # fmt: skip
    table = step_times.step_seconds(rows).set_index("configuration")
    assert len(table) == 4
    assert table.loc["a", "race"] == "2"
    assert table.loc["a", "seconds"] == pytest.approx(2e-3)


def test_ways_of_computing_are_named_by_what_differs() -> None:
    rows = race_table(
        race_rows("adam"), race_rows("lbfgs", place=1, fused=False),
        race_rows("adam", race="s", fused=False), race_rows("adam", race="t", precision="float32"),
    )  # fmt: skip
    ways = step_times.step_seconds(rows).groupby("configuration")["way"].apply(sorted).to_dict()
    # a method that never runs fused is not marked "as written"
    assert ways == {"adam": ["float32", "float64", "float64, as written"], "lbfgs": ["float64"]}
    assert set(step_times.step_seconds(race_table(race_rows("adam")))["way"]) == {"M, numpy, float64"}


def test_data_that_changed_under_a_name_are_different_problems() -> None:
    rows = race_table(race_rows("a", data_hash="0123456789"), race_rows("a", race="s", data_hash="abcdefghij"))
    assert list(step_times.step_seconds(rows)["problem"]) == ["p [data 01234567]", "p [data abcdefgh]"]


def test_the_overview_draws_medians_and_intervals(step_races: pd.DataFrame) -> None:
    ax = reports.step_times(step_races, Figure().add_subplot())
    table = step_times.step_seconds(step_races)
    marks = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert sorted(float(np.asarray(mark.get_xdata())[0]) for mark in marks) == pytest.approx(sorted(table["seconds"]))
    spans = [
        tuple(segment[:, 0]) for c in ax.collections if isinstance(c, LineCollection) for segment in c.get_segments()
    ]
    ends = zip(table["seconds_low"], table["seconds_high"], strict=True)
    np.testing.assert_allclose(sorted(spans), sorted(ends), rtol=1e-12)
    hollow = [
        float(np.asarray(m.get_xdata())[0]) for m in marks if colors.to_hex(m.get_markerfacecolor()) == style.PAPER
    ]
    assert sorted(hollow) == pytest.approx([2e-3, 4e-3])  # the disturbed ones
    assert len({m.get_marker() for m in marks}) == 2  # a marker a machine
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fast", "slow", "fast"]
    assert {"p", "q"} <= {text.get_text() for text in ax.texts}
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["M", "N", "hollow: disturbed"]


def test_the_overview_counts_omitted_configurations(step_races: pd.DataFrame) -> None:
    ax = reports.step_times(step_races, Figure().add_subplot(), problems=["p"], most=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fast"]
    assert [text.get_text() for text in ax.texts] == ["p – 1 fastest of 2"]


def test_the_overview_rejects_unknown_problems(step_races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no race on problem 'x'; there are races on p, q"):
        reports.step_times(step_races, problems=["x"])
    with pytest.raises(InputError, match="there are no races"):
        reports.step_times(step_races.iloc[:0])
    with pytest.raises(InputError, match="there are no races"):
        reports.step_times(pd.DataFrame())


def test_one_race_on_one_problem_needs_no_overview(step_races: pd.DataFrame) -> None:
    here, on_p = step_races["race"] == "r", step_races["problem"] == "p"
    contexts = [PageContext(Runs.from_rows([]), step_races[part]) for part in (here & on_p, here, on_p)]
    assert steps.step_times_of(contexts[0]) is None
    assert steps.step_times_of(contexts[1]) is not None  # two problems
    assert steps.step_times_of(contexts[2]) is not None  # two machines


def test_many_configurations_on_many_problems_stay_readable() -> None:
    rows = race_table(
        *(
            race_rows(
                f"configuration {k}", 1e-5 * (1 + k) * np.array([0.99, 1, 1.01]), 100 * j + k, problem=f"problem {j}"
            )
            for j in range(10)
            for k in range(16)
        )
    )
    section = steps.step_times_of(PageContext(Runs.from_rows([]), rows))
    assert section is not None
    drawn = [re.findall(r">(configuration \d+)<", figure.svg) for figure in section.figures]
    share = steps.ROWS // 10
    assert sum(map(len, drawn)) == 10 * share
    assert max(map(len, drawn)) <= steps.FIGURE_ROWS
    assert {name for names in drawn for name in names} == {f"configuration {k}" for k in range(share)}  # the fastest
    assert "".join(figure.svg for figure in section.figures).count(f"{share} fastest of 16") == 10
    assert len(section.lines) == 16  # the table has them all
    assert "Not drawn" not in section.figures[-1].caption


def test_omitted_problems_are_listed() -> None:
    rows = race_table(*(race_rows("a", place=j, problem=f"problem {j:02}") for j in range(30)))
    section = steps.step_times_of(PageContext(Runs.from_rows([]), rows))
    assert section is not None
    left_out = "; ".join(f"problem {j:02}" for j in range(steps.ROWS // 3, 30))
    assert section.figures[-1].caption.endswith(f" Not drawn: <bdi>{left_out}</bdi>.")
    assert len(section.lines.heads) == 31


def test_the_overview_on_the_page(step_races: pd.DataFrame, tmp_path: Path) -> None:
    page = page_of(Runs.from_rows([]), tmp_path, races=step_races)
    part = page[page.index("<h3>Time per step</h3>") : page.index("<h3>Seconds to target</h3>")]
    assert "1.00 ms" in part
    assert part.count('<span class="flag"') == 2
    assert "load average 3.0" in part
    for column in ("configuration", "problem", "machine", "optimizer"):
        hostile = step_races.assign(**{column: step_races[column].where(step_races["race"] == "s", HOSTILE[0])})
        text = page_of(Runs.from_rows([]), tmp_path, races=hostile)
        assert "<script>alert" not in text, column
