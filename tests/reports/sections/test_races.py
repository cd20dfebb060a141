"""The section Speed: seconds a step over all races, convergence in seconds, and where a GPU takes over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.colors as colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import reports
from benchmarks.gpu import COLUMNS as GPU_COLUMNS
from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from optbench.results.schema import to_arrow, to_frame
from reports.figures import crossover, step_times, style
from reports.page.context import PageContext
from reports.sections import gpu
from reports.sections import speed as steps
from reports.sections.problems import seconds_figure
from tests.rows import race_rows, race_table, run_row

HOSTILE = '</svg><script>alert(1)</script> $\\frac{1}{0}$ "&\x07'


@pytest.fixture
def races() -> pd.DataFrame:
    """Two problems; one of them raced on two machines, and on one of those the race was disturbed."""
    away: dict[str, Any] = {"race": "s", "machine": "N", "load_before": 3.0}
    return race_table(
        race_rows("slow", (5e-3, 5e-3, 5e-3)), race_rows("fast", place=1),
        race_rows("fast", place=2, problem="q", problem_name="q"),
        race_rows("slow", (2e-3, 2e-3, 2e-3), **away), race_rows("fast", (4e-3, 4e-3, 4e-3), place=1, **away),
    )  # fmt: skip


# ---- a step, over all races ------------------------------------------------------------------------------------------


def test_a_line_for_every_configuration_problem_and_machine(races: pd.DataFrame) -> None:
    found = step_times.step_seconds(races)
    told = found[["problem", "configuration", "way", "seconds", "disturbed"]].to_records(index=False).tolist()
    assert told == [
        ("p", "fast", "M", pytest.approx(1e-3), False),
        ("p", "fast", "N", pytest.approx(4e-3), True),
        ("p", "slow", "M", pytest.approx(5e-3), False),
        ("p", "slow", "N", pytest.approx(2e-3), True),
        ("q", "fast", "M", pytest.approx(1e-3), False),
    ]
    assert (found["seconds_low"] <= found["seconds"]).all()
    assert (found["seconds"] <= found["seconds_high"]).all()
    assert found["seconds_low"].iloc[0] == pytest.approx(0.95e-3)


def test_the_newest_undisturbed_race_is_taken() -> None:
    # each race has a configuration of its own, so that all of them stand
    rows = race_table(
        race_rows("a", [1e-3] * 3, race="1", created="2026-01-01"), race_rows("b", place=1, race="1", created="2026-01-01"),
        race_rows("a", [2e-3] * 3, race="2", created="2026-01-02"), race_rows("c", place=1, race="2", created="2026-01-02"),
        race_rows("a", [3e-3] * 3, race="3", created="2026-01-03", load_before=3.0),
        race_rows("d", place=1, race="3", created="2026-01-03"),
    )  # fmt: skip
    found = step_times.step_seconds(rows).set_index("configuration")
    assert len(found) == 4
    assert found.loc["a", "race"] == "2"
    assert found.loc["a", "seconds"] == pytest.approx(2e-3)


def test_ways_of_computing_are_told_apart_by_what_differs() -> None:
    rows = race_table(
        race_rows("adam"), race_rows("lbfgs", place=1, fused=False),
        race_rows("adam", race="s", fused=False), race_rows("adam", race="t", precision="float32"),
    )  # fmt: skip
    ways = step_times.step_seconds(rows).groupby("configuration")["way"].apply(sorted).to_dict()
    # a method that never runs fused is not called one that was left as it is written
    assert ways == {"adam": ["float32", "float64", "float64, as written"], "lbfgs": ["float64"]}
    assert set(step_times.step_seconds(race_table(race_rows("adam")))["way"]) == {"M, numpy, float64"}


def test_data_that_changed_under_a_name_are_different_problems() -> None:
    rows = race_table(race_rows("a", data_hash="0123456789"), race_rows("a", race="s", data_hash="abcdefghij"))
    assert list(step_times.step_seconds(rows)["problem"]) == ["p [data 01234567]", "p [data abcdefgh]"]


def test_lines_have_the_labels_that_their_methods_have_in_runs() -> None:
    rows = [
        run_row(key=f"{n}", problem_spec="p", optimizer=optimizer, steps=n, batch_size=batch)
        for optimizer, n, batch in (("a", 9, None), ("a", 99, None), ("b", 9, 4), ("b", 9, 8))
    ]
    races = race_table(
        race_rows("a"), race_rows("b, batch 4", place=1, optimizer="b", batch_size=4), race_rows("c", place=2)
    )
    found = step_times.step_seconds(races, Runs.from_rows(rows)).set_index("configuration")["method"]
    assert found.to_dict() == {"a": "a, 99 steps", "b, batch 4": "b, batch 4", "c": "c"}


def test_the_overview_draws_medians_and_intervals(races: pd.DataFrame) -> None:
    ax = reports.step_times(races, Figure().add_subplot())
    found = step_times.step_seconds(races)
    marks = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert sorted(float(np.asarray(mark.get_xdata())[0]) for mark in marks) == pytest.approx(sorted(found["seconds"]))
    spans = [
        tuple(segment[:, 0]) for c in ax.collections if isinstance(c, LineCollection) for segment in c.get_segments()
    ]
    ends = zip(found["seconds_low"], found["seconds_high"], strict=True)
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


def test_the_overview_says_what_it_leaves_out(races: pd.DataFrame) -> None:
    ax = reports.step_times(races, Figure().add_subplot(), problems=["p"], most=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fast"]
    assert [text.get_text() for text in ax.texts] == ["p – 1 fastest of 2"]


def test_the_overview_asks_for_what_there_is(races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no race on problem 'x'; there are races on p, q"):
        reports.step_times(races, problems=["x"])
    with pytest.raises(InputError, match="there are no races"):
        reports.step_times(races.iloc[:0])
    with pytest.raises(InputError, match="there are no races"):
        reports.step_times(pd.DataFrame())


def test_one_race_on_one_problem_needs_no_overview(races: pd.DataFrame) -> None:
    empty = Runs.from_rows([])
    assert steps.step_times_of(PageContext(empty, races[(races["race"] == "r") & (races["problem"] == "p")])) is None
    assert steps.step_times_of(PageContext(empty, races[races["race"] == "r"])) is not None  # two problems
    assert steps.step_times_of(PageContext(empty, races[races["problem"] == "p"])) is not None  # two machines


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
    found = steps.step_times_of(PageContext(Runs.from_rows([]), rows))
    assert found is not None
    drawn = [re.findall(r">(configuration \d+)<", figure.svg) for figure in found["figures"]]
    share = steps.ROWS // 10
    assert sum(map(len, drawn)) == 10 * share
    assert max(map(len, drawn)) <= steps.FIGURE_ROWS
    assert {name for names in drawn for name in names} == {f"configuration {k}" for k in range(share)}  # the fastest
    assert "".join(figure.svg for figure in found["figures"]).count(f"{share} fastest of 16") == 10
    assert len(found["lines"]) == 16  # the table has them all
    assert "Not drawn" not in found["figures"][-1].caption


def test_very_many_problems_are_said_to_be_left_out() -> None:
    rows = race_table(*(race_rows("a", place=j, problem=f"problem {j:02}") for j in range(30)))
    found = steps.step_times_of(PageContext(Runs.from_rows([]), rows))
    assert found is not None
    left_out = "; ".join(f"problem {j:02}" for j in range(steps.ROWS // 3, 30))
    assert found["figures"][-1].caption.endswith(f" Not drawn: <bdi>{left_out}</bdi>.")
    assert len(found["problems"]) == 30


def test_the_overview_on_the_page(races: pd.DataFrame, tmp_path: Path) -> None:
    page = reports.build_page(Runs.from_rows([]), tmp_path / "a.html", races=races).read_text("utf-8")
    part = page[page.index("<h3>Time per step</h3>") : page.index("<h3>Seconds to target</h3>")]
    assert "1.00 ms" in part
    assert part.count('<span class="flag"') == 2
    assert "load average 3.0" in part
    for column in ("configuration", "problem", "machine", "optimizer"):
        hostile = races.assign(**{column: races[column].where(races["race"] == "s", HOSTILE)})
        text = reports.build_page(Runs.from_rows([]), tmp_path / "b.html", races=hostile).read_text("utf-8")
        assert "<script>alert" not in text, column


# ---- convergence in seconds ------------------------------------------------------------------------------------------


def ran(method: str, best: list[float], **more: Any) -> list[dict[str, Any]]:
    """Three runs of a method with the same curve, one checkpoint a step."""
    t = list(range(len(best)))
    known = {
        "problem_spec": "p", "optimizer": method, "settings": json.dumps({"lr": 0.1}), "step_size": 0.1,
        "f_start": best[0], "f_end": best[-1], "f_best": best[-1], "f_star": 0.0, "steps": len(best) - 1,
        "end": len(best) - 1, "t": t, "f": best, "best": best, "gradient_norm": best,
        "calls_to_target": [next((float(k + 1) for k in t if best[k] <= target * best[0]), np.inf) for target in TARGETS],
    }  # fmt: skip
    return [run_row(**known | {"key": f"{method} {seed}", "seed": seed} | more) for seed in range(3)]


@pytest.fixture
def runs() -> Runs:
    """Three methods; for the last there is no race."""
    return Runs.from_rows(
        [
            *ran("slow", [1.0, 0.1, 1e-9]),
            *ran("fast", [1.0, 0.5, 0.2, 0.1], calls_per_step=0.25),
            *ran("absent", [1.0, 0.5]),
        ]
    )


@pytest.fixture
def same(races: pd.DataFrame) -> pd.DataFrame:
    """The races, with the mini-batches of the runs."""
    return races.assign(calls_per_step=races["optimizer"].map({"slow": 1.0, "fast": 0.25}))


def test_seconds_are_calls_times_seconds_a_call(runs: Runs, same: pd.DataFrame) -> None:
    found = reports.seconds_of(runs, same)
    here = dict(iter(found[found["machine"] == "M"].groupby("method")))
    assert set(here) == {"slow", "fast"}
    assert here["slow"]["seconds"].tolist() == pytest.approx([5e-3, 10e-3, 15e-3])
    assert here["slow"]["median"].tolist() == [1.0, 0.1, 1e-9]
    # four steps a call, but the time of a step is what it is
    assert here["fast"]["calls"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert here["fast"]["seconds"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])
    assert here["fast"]["seconds_per_call"].iloc[0] == pytest.approx(4e-3)
    assert set(found.loc[found["machine"] == "N", "disturbed"]) == {True}
    assert reports.seconds_of(runs, same.iloc[:0]).empty


def test_of_a_rule_that_raced_both_ways_the_fused_one_is_taken(runs: Runs) -> None:
    both = race_table(race_rows("slow", [7e-3] * 3, fused=False), race_rows("slow", [1e-3] * 3, race="s"))
    found = reports.seconds_of(runs, both)
    assert found["fused"].all()
    assert found["seconds"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3])


def curve(ax: Axes, runs: Runs, method: str) -> Any:
    index = style.method_styles(runs)[method].index
    (line,) = [line for line in ax.get_lines() if line.get_gid() in (f"curve-{index}-line", f"rest-{index}-line")]
    return line


def test_convergence_in_seconds_draws_what_the_table_has(runs: Runs, same: pd.DataFrame) -> None:
    ax = reports.convergence_seconds(runs, same, "p", Figure().add_subplot(), machine="M", emphasis=1)
    found = reports.seconds_of(runs, same)
    for method in ("slow", "fast"):
        expected = found[(found["machine"] == "M") & (found["method"] == method)]
        line = curve(ax, runs, method)
        assert line.get_xdata().tolist() == pytest.approx(expected["seconds"].tolist())
        assert line.get_ydata().tolist() == pytest.approx(expected["median"].tolist())
    assert curve(ax, runs, "slow").get_color() != style.MUTED  # the best in oracle calls has the colour
    assert curve(ax, runs, "fast").get_color() == style.MUTED
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert "p" in ax.get_title(loc="left")


def test_convergence_in_seconds_asks_for_one_machine(runs: Runs, same: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="there are races on M, N"):
        reports.convergence_seconds(runs, same)
    with pytest.raises(InputError, match="no race on machine 'X'; there are races on M, N"):
        reports.convergence_seconds(runs, same, machine="X")
    with pytest.raises(InputError, match="no results for problem 'q'"):
        reports.convergence_seconds(runs, same, "q")
    with pytest.raises(InputError, match="no method with runs on it raced"):
        reports.convergence_seconds(runs, same[same["problem"] == "q"])
    alone = same[same["race"] == "r"]
    ax = reports.convergence_seconds(runs, alone, ax=Figure().add_subplot())
    assert curve(ax, runs, "slow").get_xdata()[0] == pytest.approx(5e-3)


def test_without_an_optimum_the_objective_is_drawn(same: pd.DataFrame) -> None:
    unknown = Runs.from_rows(ran("slow", [3.0, 2.0, -1.0], f_star=None, calls_to_target=None))
    ax = reports.convergence_seconds(unknown, same, machine="M", ax=Figure().add_subplot())
    assert "objective" in ax.get_ylabel()
    assert curve(ax, unknown, "slow").get_ydata().tolist() == [3.0, 2.0, -1.0]
    assert ax.get_yscale() == "linear"


def test_nothing_finite_is_said(same: pd.DataFrame) -> None:
    lost = Runs.from_rows(
        ran("slow", [np.inf, np.inf], calls_to_target=None, f_star=None, f_start=None, status="diverged")
    )
    ax = reports.convergence_seconds(lost, same, machine="M", ax=Figure().add_subplot())
    assert any("No run has a finite value" in text.get_text() for text in ax.texts)


def test_the_caption_in_seconds_says_what_is_shown(runs: Runs, same: pd.DataFrame) -> None:
    context = PageContext(runs, same)
    figure = seconds_figure(context, "p")
    assert figure is not None
    assert "races on <bdi>M</bdi>" in figure.caption  # as many methods on N, and M comes first
    assert "on <bdi>N</bdi>, not drawn" in figure.caption
    assert "Without a race: <bdi>absent</bdi>." in figure.caption
    assert "Disturbed" not in figure.caption
    assert figure.table is not None
    rates = context.tables[figure.table]
    assert rates.set_index(["machine", "method"])["seconds_per_call"].to_dict() == pytest.approx(
        {("M", "fast"): 4e-3, ("M", "slow"): 5e-3, ("N", "fast"): 16e-3, ("N", "slow"): 2e-3}
    )
    away = seconds_figure(PageContext(runs, same[same["race"] == "s"]), "p")
    assert away is not None
    assert "Disturbed: <bdi>fast, slow</bdi>." in away.caption


def test_without_a_race_there_is_no_figure_in_seconds(runs: Runs, same: pd.DataFrame) -> None:
    for there in (pd.DataFrame(), same[same["problem"] == "q"], same.assign(schedule="cosine")):
        assert seconds_figure(PageContext(runs, there), "p") is None


# ---- where a GPU takes over ------------------------------------------------------------------------------------------


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
    found = crossover.step_seconds(rows)
    told = found[["case", "size", "cpu", "gpu", "ratio"]].to_records(index=False).tolist()
    assert told == [
        ("ends", 10, *(pytest.approx(v) for v in (1e-5, 1e-4, 0.1))),
        ("whole", 10, *(pytest.approx(v) for v in (1e-5, 1e-4, 0.1))),
        ("whole", 1000, *(pytest.approx(v) for v in (1e-3, 1e-4, 10))),
    ]
    assert crossover.step_seconds(rows[rows["section"] == "curves"]).empty


def test_the_crossover_is_marked_where_the_curve_passes_one() -> None:
    found = crossover.step_seconds(
        figures_of(
            timed("crosses", (10, 1000), linear, constant),
            timed("ahead", (200, 1000), linear, constant),
            timed("behind", (10, 50), linear, constant),
            timed("elsewhere", (10, 1000), linear, constant, grows="n"),
        )
    )
    ax = crossover.crossover(found, "d", ax=Figure().add_subplot())
    index = {case: look.index for case, look in style.numbered_styles(found["case"]).items()}
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
    nothing = crossover.crossover(found, "runs", ax=Figure().add_subplot())
    assert any("Nothing was measured" in text.get_text() for text in nothing.texts)


def test_the_crossing_is_said_in_words(tmp_path: Path) -> None:
    rows = figures_of(
        timed("crosses", (10, 1000), linear, constant),
        timed("ahead", (200, 1000), linear, constant),
        timed("behind", (10, 50), linear, constant),
        timed("ahead", (200, 1000), linear, constant, machine="B GPU", grows="n"),
        timed("only", (10, 1000), linear, lambda n: None, machine="C GPU"),
    )
    page = reports.build_page(Runs.from_rows([]), tmp_path / "a.html", gpu=rows).read_text("utf-8")
    part = page[page.index("A GPU") : page.index("B GPU, ".rstrip(", "))]
    assert "The GPU takes less time from about 100 on crosses." in part
    assert "It takes less time at every measured size on ahead (from 200)." in part
    assert "At the largest measured size the CPU takes less time on behind (up to 50)." in part
    assert page.count("Where the GPU takes over") == 2  # nothing is claimed of the third
    assert "number of samples n" in page
    assert len(re.findall("<svg viewBox", page)) == 2


def test_many_crossings_are_summed_up() -> None:
    rows = [timed(f"case {k:02}", (10, 10_000), linear, lambda n, k=k: 1e-4 * (k + 1)) for k in range(12)]
    said = gpu.in_words(crossover.step_seconds(figures_of(*rows)))
    assert said == "The GPU takes less time from about 100 on case 00 to about 1200 on case 11, 12 problems in all."


def test_cases_are_picked_out_apart_from_methods(runs: Runs, same: pd.DataFrame) -> None:
    context = PageContext(runs, same, figures_of(timed("crosses", (10, 1000), linear, constant)))
    methods = dict(context.names)
    section = gpu.section(context)
    assert section is not None
    ((figure,),) = [machine["figures"] for machine in section]
    (index,) = set(re.findall(r'data-method="(\d+)"', figure.svg))
    assert int(index) not in methods
    assert context.names[int(index)] == "crosses"
    assert figure.table is not None
    assert context.tables[figure.table]["ratio"].tolist() == pytest.approx([0.1, 10])
