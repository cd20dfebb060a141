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
def same(step_races: pd.DataFrame) -> pd.DataFrame:
    """The races, with the mini-batches of the runs."""
    return step_races.assign(calls_per_step=step_races["optimizer"].map({"slow": 1.0, "fast": 0.25}))


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
    assert "races on <bdi>N</bdi> are not drawn" in figure.caption
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
