"""Convergence in seconds: the table, the figure, and its caption on the page."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import reports
from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from reports.figures import style
from reports.page.context import PageContext
from reports.sections.problems import seconds_figure
from tests.rows import race_rows, race_table, run_row


def runs_of(method: str, best: list[float], **more: Any) -> list[dict[str, Any]]:
    """Three runs of a method with the matching_races curve, one checkpoint a step."""
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
    """Three methods, the last without a race."""
    return Runs.from_rows(
        [
            *runs_of("slow", [1.0, 0.1, 1e-9]),
            *runs_of("fast", [1.0, 0.5, 0.2, 0.1], calls_per_step=0.25),
            *runs_of("absent", [1.0, 0.5]),
        ]
    )


@pytest.fixture
def matching_races(step_races: pd.DataFrame) -> pd.DataFrame:
    """Races with the batch sizes of the runs."""
    return step_races.assign(calls_per_step=step_races["optimizer"].map({"slow": 1.0, "fast": 0.25}))


def test_seconds_are_calls_times_seconds_per_call(runs: Runs, matching_races: pd.DataFrame) -> None:
    table = reports.seconds_of(runs, matching_races)
    here = dict(iter(table[table["machine"] == "M"].groupby("method")))
    assert set(here) == {"slow", "fast"}
    assert here["slow"]["seconds"].tolist() == pytest.approx([5e-3, 10e-3, 15e-3])
    assert here["slow"]["median"].tolist() == [1.0, 0.1, 1e-9]
    # four steps per call
    assert here["fast"]["calls"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert here["fast"]["seconds"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])
    assert here["fast"]["seconds_per_call"].iloc[0] == pytest.approx(4e-3)
    assert set(table.loc[table["machine"] == "N", "disturbed"]) == {True}
    assert reports.seconds_of(runs, matching_races.iloc[:0]).empty


def test_a_fused_race_is_preferred(runs: Runs) -> None:
    both = race_table(race_rows("slow", [7e-3] * 3, fused=False), race_rows("slow", [1e-3] * 3, race="s"))
    table = reports.seconds_of(runs, both)
    assert table["fused"].all()
    assert table["seconds"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3])


def curve(ax: Axes, runs: Runs, method: str) -> Any:
    index = style.method_styles(runs)[method].index
    (line,) = [line for line in ax.get_lines() if line.get_gid() in (f"curve-{index}-line", f"rest-{index}-line")]
    return line


def test_convergence_in_seconds_draws_the_table(runs: Runs, matching_races: pd.DataFrame) -> None:
    ax = reports.convergence_seconds(runs, matching_races, "p", Figure().add_subplot(), machine="M", emphasis=1)
    table = reports.seconds_of(runs, matching_races)
    for method in ("slow", "fast"):
        expected = table[(table["machine"] == "M") & (table["method"] == method)]
        line = curve(ax, runs, method)
        assert line.get_xdata().tolist() == pytest.approx(expected["seconds"].tolist())
        assert line.get_ydata().tolist() == pytest.approx(expected["median"].tolist())
    assert curve(ax, runs, "slow").get_color() != style.MUTED  # the best in oracle calls has the colour
    assert curve(ax, runs, "fast").get_color() == style.MUTED
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert "p" in ax.get_title(loc="left")


def test_convergence_in_seconds_needs_one_machine(runs: Runs, matching_races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="there are races on M, N"):
        reports.convergence_seconds(runs, matching_races)
    with pytest.raises(InputError, match="no race on machine 'X'; there are races on M, N"):
        reports.convergence_seconds(runs, matching_races, machine="X")
    with pytest.raises(InputError, match="no results for problem 'q'"):
        reports.convergence_seconds(runs, matching_races, "q")
    with pytest.raises(InputError, match="no method with runs on it raced"):
        reports.convergence_seconds(runs, matching_races[matching_races["problem"] == "q"])
    alone = matching_races[matching_races["race"] == "r"]
    ax = reports.convergence_seconds(runs, alone, ax=Figure().add_subplot())
    assert curve(ax, runs, "slow").get_xdata()[0] == pytest.approx(5e-3)


def test_without_an_optimum_the_objective_is_drawn(matching_races: pd.DataFrame) -> None:
    unknown = Runs.from_rows(runs_of("slow", [3.0, 2.0, -1.0], f_star=None, calls_to_target=None))
    ax = reports.convergence_seconds(unknown, matching_races, machine="M", ax=Figure().add_subplot())
    assert "objective" in ax.get_ylabel()
    assert curve(ax, unknown, "slow").get_ydata().tolist() == [3.0, 2.0, -1.0]
    assert ax.get_yscale() == "linear"


def test_without_finite_values_the_figure_says_so(matching_races: pd.DataFrame) -> None:
    lost = Runs.from_rows(
        runs_of("slow", [np.inf, np.inf], calls_to_target=None, f_star=None, f_start=None, status="diverged")
    )
    ax = reports.convergence_seconds(lost, matching_races, machine="M", ax=Figure().add_subplot())
    assert any("No run has a finite value" in text.get_text() for text in ax.texts)


def test_the_caption_names_machines_and_missing_races(runs: Runs, matching_races: pd.DataFrame) -> None:
    context = PageContext(runs, matching_races)
    figure = seconds_figure(context, "p")
    assert figure is not None
    assert "races on <bdi>M</bdi>" in figure.caption  # as many methods on N, and M comes first
    assert "races on <bdi>N</bdi> are not drawn" in figure.caption
    assert "Without a race: <bdi>absent</bdi>." in figure.caption
    assert "Disturbed" not in figure.caption
    assert figure.table is not None
    rates = context.tables[figure.table]
    assert rates.set_index(["machine", "method"])["seconds_per_call"].to_dict() == pytest.approx(
        {("M", "fast"): 4e-3, ("M", "slow"): 5e-3, ("N", "fast"): 16e-3, ("N", "slow"): 2e-3}
    )
    away = seconds_figure(PageContext(runs, matching_races[matching_races["race"] == "s"]), "p")
    assert away is not None
    assert "Disturbed: <bdi>fast, slow</bdi>." in away.caption


def test_without_a_race_there_is_no_figure_in_seconds(runs: Runs, matching_races: pd.DataFrame) -> None:
    for there in (
        pd.DataFrame(),
        matching_races[matching_races["problem"] == "q"],
        matching_races.assign(schedule="cosine"),
    ):
        assert seconds_figure(PageContext(runs, there), "p") is None
