"""Figures of one problem: convergence, step sizes, rates of theory."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import optbench
import reports
from optbench.analysis import metrics
from optbench.core.errors import InputError
from optbench.results.runs import Runs
from reports import wording
from reports.figures import convergence, selection, sensitivity, style
from reports.figures.selection import gap_floor
from reports.page.svg import to_svg
from tests.reports.conftest import HOSTILE, NETWORK, NOISE, STEEP, VALLEY
from tests.rows import run_row


def test_figures_do_not_depend_on_matplotlib_settings(runs: Runs) -> None:
    import matplotlib as mpl

    def drawn() -> str:
        return to_svg(style.figure(convergence.convergence, runs, VALLEY), "a-", "label", dict.fromkeys(range(99), "m"))

    plain = drawn()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9}):
        assert drawn() == plain


def test_hostile_names_in_a_figure_are_drawn_as_they_are(runs: Runs) -> None:
    rows = runs.rows[runs.rows["problem"] == VALLEY].replace({"problem": {VALLEY: HOSTILE[2]}})
    svg = to_svg(
        style.figure(convergence.convergence, Runs(rows), HOSTILE[2]), "a-", "label", dict.fromkeys(range(9), "<m>")
    )
    curves = [g for g in ET.fromstring(svg).iter("g") if g.get("data-method")]
    assert curves
    assert all(g[0].tag == "title" and g[0].text == "<m>" for g in curves)
    assert "$\\frac{1}{0}$ &amp;" in svg


@pytest.mark.parametrize("start", [0.0, 1e-300])
def test_a_start_at_the_optimum_is_drawn_at_the_floor(runs: Runs, ax: Axes, start: float) -> None:
    rows = runs.rows[(runs.rows["problem"] == VALLEY) & (runs.rows["method"] == "adam")].copy()
    flat = [np.full(len(t), start) for t in rows["t"]]
    start_runs = Runs(rows.assign(f=flat, best=flat, f_star=0.0, f_start=start, f_end=start, f_best=start))
    convergence.convergence(start_runs, ax=ax)
    floor = gap_floor(start_runs)[1]
    (line,) = [line for line in ax.lines if str(line.get_gid()).endswith("-line")]
    assert set(np.asarray(line.get_ydata()).tolist()) == {floor}
    cast(Figure, ax.figure).draw_without_rendering()
    low, high = ax.get_ylim()
    labels = [t.get_text() for t in ax.get_yticklabels() if low <= t.get_position()[1] <= high and t.get_text()]
    assert len(set(labels)) == len(labels) > 1


def test_without_finite_values_the_figure_says_so(runs: Runs) -> None:
    rows = runs.rows[runs.rows["method"] == "broken"]
    for draw in (convergence.convergence, sensitivity.sensitivity):
        svg = to_svg(style.figure(draw, Runs(rows), VALLEY), "a-", "label", {})
        assert ">No " in svg


@pytest.mark.parametrize("draw", [reports.convergence, reports.sensitivity])
@pytest.mark.parametrize("problem", [VALLEY, NETWORK, NOISE, STEEP])
def test_figures_have_titles_labels_and_names(runs: Runs, ax: Axes, draw: Any, problem: str) -> None:
    assert draw(runs, problem, ax) is ax
    assert problem in ax.get_title(loc="left")
    assert "oracle calls" in ax.get_xlabel() or "step size" in ax.get_xlabel()
    assert ax.get_ylabel().startswith("objective" if problem == NETWORK else "gap")
    named = [text for text in ax.texts if text.get_gid()]
    names = {text.get_text() for text in named}
    rows = runs.rows[(runs.rows["problem"] == problem) & (runs.rows["status"] != "failed")]
    wanted = set(rows["method"] if draw is reports.convergence else rows.loc[rows["step_size"].notna(), "method"])
    assert {wording.shorten(method.partition(", batch")[0], 18) for method in wanted} == names
    assert min(text.get_window_extent().x0 for text in named) >= ax.get_window_extent().x1  # right of the data


def test_convergence_draws_the_bands(runs: Runs, ax: Axes) -> None:
    convergence.convergence(runs, VALLEY, ax)
    curve = metrics.bands(runs).query("problem == @VALLEY and method == 'adam'")
    index = style.method_styles(runs)["adam"].index
    (line,) = [line for line in ax.get_lines() if line.get_gid() == f"curve-{index}-line"]
    np.testing.assert_array_equal(line.get_xdata(), curve["calls"])
    np.testing.assert_array_equal(line.get_ydata(), curve["median"])


def test_gaps_below_rounding_are_drawn_at_the_floor(runs: Runs, ax: Axes) -> None:
    convergence.convergence(runs, VALLEY, ax)
    lowest = min(np.min(line.get_ydata()) for line in ax.get_lines())
    assert lowest == 8 * np.finfo(float).eps


def test_a_method_looks_the_same_everywhere(runs: Runs) -> None:
    index = style.method_styles(runs)["lbfgs"].index
    looks = set()
    for problem in (VALLEY, NETWORK):
        ax = reports.convergence(runs, problem, Figure().add_subplot())
        (line,) = [line for line in ax.get_lines() if line.get_gid() == f"curve-{index}-line"]
        looks.add((line.get_color(), line.get_marker(), line.get_linestyle()))
    assert len(looks) == 1


def test_methods_differ_in_grey() -> None:
    names = [f"method {i}" for i in range(36)]
    many = Runs(pd.DataFrame({"problem": "a", "method": names, "batch_size": pd.array([pd.NA] * 36, "Int64")}))
    assert len({(one.dashes, one.marker) for one in style.method_styles(many).values()}) == 36


@pytest.mark.parametrize(
    ("limits", "ticks"),
    [
        ((1, 1.2), "1 1.05 1.1 1.15 1.2"), ((42, 93), "50 60 70 80 90"), ((1, 8), "1 1.5 2 3 4 6 8"),
        ((0.05, 0.31), "0.06 0.08 0.1 0.15 0.2 0.3"), ((1, 25), "1 2 5 10 20"), ((6e-4, 0.9), "0.001 0.01 0.1"),
        ((2e-5, 3e-4), "2·10⁻⁵ 5·10⁻⁵ 10⁻⁴ 2·10⁻⁴"), ((1e-9, 1), "10⁻⁸ 10⁻⁶ 10⁻⁴ 10⁻² 10⁰"),
    ],
)  # fmt: skip
def test_logarithmic_axes_have_round_ticks(ax: Axes, limits: tuple[float, float], ticks: str) -> None:
    ax.plot([1, 2], limits)
    ax.set_ylim(*limits)
    style.log_axes(ax, "y")
    shown = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    low, high = limits
    assert " ".join(text.get_text() for value, text in shown if low <= 1.0001 * value <= 1.0002 * high) == ticks


def test_curves_are_thinned() -> None:
    indices = style.thin(5000)
    assert len(indices) == style.MAX_POINTS
    assert indices[0] == 0
    assert indices[-1] == 4999
    assert style.thin(3).tolist() == [0, 1, 2]


def test_figures_of_a_table_of_curves(runs: Runs) -> None:
    def drawn(what: Any) -> dict[str, np.ndarray]:
        ax = reports.convergence(what, VALLEY, Figure().add_subplot())
        return {
            str(line.get_gid()): np.asarray(line.get_xydata())
            for line in ax.get_lines()
            if str(line.get_gid()).endswith("-line")
        }

    finished = Runs(runs.rows[~runs.rows["status"].isin(["failed"])])
    from_runs, from_curves = drawn(finished), drawn(finished.curves)
    assert from_runs.keys() == from_curves.keys()
    for name in from_runs:
        np.testing.assert_allclose(from_runs[name], from_curves[name], rtol=1e-12)
    fewer = finished.curves.query("optimizer == 'adam' and step_size > 0.5")
    assert len(drawn(fewer)) == 1
    with pytest.raises(InputError, match="lacks best_gap"):
        reports.convergence(finished.curves.drop(columns="best_gap"), VALLEY)


def test_the_last_iterate_is_drawn_below_a_ceiling(runs: Runs) -> None:
    ax = reports.convergence(runs, STEEP, Figure().add_subplot(), value="f")
    ((line,),) = [[line for line in ax.get_lines() if str(line.get_gid()).endswith("-line")]]
    start, end = np.asarray(line.get_ydata())[[0, -1]]
    assert end == 100 * start
    best = reports.convergence(runs, STEEP, Figure().add_subplot())
    assert max(np.max(line.get_ydata()) for line in best.get_lines() if line.get_gid()) == start


def test_guaranteed_rates_hold_for_gradient_descent(runs: Runs) -> None:
    rows = runs.rows[runs.rows["problem"] == VALLEY]
    table = convergence.rates(Runs(rows)).query("rate == 'gradient descent, step 1/L'")
    # L = 1 and mu = 1/100, by the definition of the problem
    start = np.median((rows["f_start"] - rows["f_star"]).groupby(rows["seed"]).first())
    np.testing.assert_allclose(table["bound"], start * 0.99 ** table["t"], rtol=1e-12)
    run = optbench.sweep(VALLEY, "gradient_descent", lr=1.0, seeds=5, steps=60).curves
    part = run["gap"] / run.groupby("seed")["gap"].transform("first")
    assert (part <= 0.99 ** run["t"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("problem", [NETWORK, STEEP, NOISE])
def test_no_rate_is_claimed_where_none_is_known(runs: Runs, problem: str) -> None:
    rows = runs.rows[runs.rows["problem"] == problem].copy()
    assert convergence.rates(
        Runs(rows[["calls_per_step", "exact_targets", "f_start", "f_star", "end"]])
    ).empty  # stored without a description
    if problem == STEEP:
        return  # strongly convex, with exact gradients
    assert convergence.rates(Runs(rows)).empty


def test_without_metrics_the_figure_says_so(runs: Runs, ax: Axes) -> None:
    reports.generalization(runs, VALLEY, ax)
    assert [text.get_text() for text in ax.texts] == ["No accuracy was recorded"]


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
def test_parts_of_the_data_have_their_own_markers(runs: Runs, kind: str) -> None:
    ax = reports.generalization(runs, NETWORK, Figure().add_subplot(), kind=kind)
    legend = ax.get_legend()
    assert legend is not None
    parts = [text.get_text() for text in legend.get_texts()]
    assert parts == (["train", "validation", "test"] if kind == "accuracy" else ["validation", "test"])
    assert len({line.get_marker() for line in ax.get_lines()}) == len(parts)
    table = metrics.final_metrics(runs).query(
        "problem == @NETWORK and metric == @kind.__str__() or metric == 'test_' + @kind"
    )
    order = table.sort_values("median", ascending=kind == "loss")["method"].tolist()
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(shown) == sorted(order)
    assert table.set_index("method")["median"][shown[0]] == (max if kind == "accuracy" else min)(table["median"])


def test_metrics_are_chosen_by_their_declared_direction() -> None:
    declared = [
        {"name": name, "better": way, "unit": ""} for name, way in (("skill", "higher"), ("error_rate", "lower"))
    ]
    rows = [
        run_row(
            problem_spec="p", optimizer="a", f_start=1.0, f_best=0.5, f_end=0.5, end=1, t=[0, 1], f=[1.0, 0.5],
            best=[1.0, 0.5], gradient_norm=[1.0, 1.0], metrics=[("skill", [0.1, 0.9]), ("error_rate", [0.5, 0.2])],
            description=json.dumps({"metrics": declared}),
        )
    ]  # fmt: skip
    for kind, name in (("accuracy", "skill"), ("loss", "error_rate")):
        ax = reports.generalization(Runs.from_rows(rows), "p", Figure().add_subplot(), kind=kind)
        legend = ax.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == [name]
        assert ax.get_xlabel() == name


def test_figures_need_a_problem(runs: Runs) -> None:
    with pytest.raises(InputError, match="choose a problem"):
        reports.convergence(runs)
    with pytest.raises(InputError, match="no results for problem 'sphere'"):
        reports.sensitivity(runs, "sphere")


def test_a_problem_may_be_named_by_a_spec() -> None:
    problems = ["quadratic:dim=3", "quadratic:dim=3,condition=1e4", "logistic"]
    runs = optbench.compare(problems, ["sgd"], lr=0.1, seeds=1, steps=3, progress=False)
    labels = {"logistic": "logistic:data=breast_cancer", "quadratic:condition=1e4": "quadratic:dim=3,condition=10000"}
    for spec, label in {**labels, "quadratic:condition=100": "quadratic:dim=3"}.items():
        assert selection.one_problem(runs, spec)[0] == label
    with pytest.raises(InputError, match="no results for problem 'quadratic'; the results have"):
        selection.one_problem(runs, "quadratic")


def test_one_problem_needs_no_name(runs: Runs) -> None:
    import matplotlib.pyplot as plt

    ax = reports.convergence(Runs(runs.rows[runs.rows["problem"] == NETWORK]))
    assert NETWORK in ax.get_title(loc="left")
    plt.close("all")
