"""Tables as text in Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import reports
from optbench.analysis import tuning
from optbench.results.runs import Runs
from reports import tables
from tests.reports.conftest import NETWORK, NOISE, STEEP, VALLEY

TABLE = pd.DataFrame(
    {
        "problem": ["a_b", "a_b", "c|d"],
        "method": ["adam, batch 64", "sgd & $x$ 100 %", "# {newton}"],
        "calls to 1e-2": ["41 (4/5)", "–", "5"],
        "gap": ["3.4e-10", "-1.39e-17", "-0.5"],
        "oracle": ["f", "f, gradient", "f"],
    }
)


def test_markdown() -> None:
    assert reports.markdown(TABLE).splitlines() == [
        "| problem | method | calls to 1e-2 | gap | oracle |",
        "| --- | --- | ---: | ---: | --- |",
        "| a\\_b | adam, batch 64 | 41 (4/5) | 3.4e-10 | f |",
        "| a\\_b | sgd & $x$ 100 % | – | -1.39e-17 | f, gradient |",
        "| c\\|d | \\# \\{newton\\} | 5 | -0.5 | f |",
    ]


def test_latex() -> None:
    assert reports.latex(TABLE).splitlines() == [
        r"\begin{tabular}{llrrl}",
        r"\toprule",
        r"problem & method & calls to $10^{-2}$ & gap & oracle \\",
        r"\midrule",
        r"a\_b & adam, batch 64 & 41 (4/5) & $3.4 \cdot 10^{-10}$ & f \\",
        r" & sgd \& \$x\$ 100 \% & -- & $-1.39 \cdot 10^{-17}$ & f, gradient \\",
        r"\midrule",
        r"c\textbar{}d & \# \{newton\} & 5 & $-0.5$ & f \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_tables_of_nothing() -> None:
    assert reports.markdown(TABLE.iloc[:0]).count("\n") == 1
    assert r"\end{tabular}" in reports.latex(TABLE.iloc[:0])


def test_a_gap_below_zero_by_rounding_is_shown_as_zero(runs: Runs) -> None:
    rows = runs.rows[runs.rows["problem"] == VALLEY].copy()
    for method, below in (("newton", 1e-16), ("lbfgs", 1e-6)):
        rows.loc[rows["method"] == method, "f_end"] = rows["f_star"] - below
    shown = reports.summary_table(Runs(rows)).set_index("method")["gap at the end"]
    assert shown["newton"] == "0"
    assert shown["lbfgs"] == "-1.00e-6"
    lines = tables.lines(Runs(rows)).set_index("method")
    assert lines.loc["newton", "final"] < 0  # the numbers for download are not changed


def test_the_numbers_of_a_column_share_a_notation(runs: Runs) -> None:
    shown = reports.summary_table(runs)
    gaps = shown.loc[shown["problem"] == VALLEY, "gap or objective at the end"]
    assert {gap.partition(".")[2].isdigit() and len(gap) for gap in gaps if gap != "–"} == {8}  # such as 0.000146


def test_the_leader_on_every_kind_of_problem(runs: Runs) -> None:
    leaders = {leader.problem: leader for leader in tables.leaders(runs)}
    assert leaders[VALLEY].methods == ("newton",)
    assert leaders[VALLEY].goal == "1e-10 of the initial gap"
    assert "without Hessians: " in leaders[VALLEY].remark
    assert leaders[STEEP].methods == ()
    assert leaders[NETWORK].goal.startswith("smallest objective within ")
    assert len(leaders[NETWORK].methods) == 1


def test_a_lead_on_few_seeds_is_too_close_to_call(runs: Runs, tmp_path: Path) -> None:
    rows = runs.rows[runs.rows["problem"] == NOISE]
    best = rows[rows["step_size"] == tuning.tuned(Runs(rows))["step_size"][0]]
    twin = best.assign(method="twin", seed=best["seed"].to_numpy()[::-1])
    leader = tables.leaders(Runs(pd.concat([best, twin], ignore_index=True)))[0]
    assert not leader.certain


def test_methods_with_the_same_objective_lead_together(runs: Runs) -> None:
    one = runs.rows[(runs.rows["problem"] == NETWORK) & (runs.rows["method"] == "lbfgs")]
    (leader,) = tables.leaders(Runs(pd.concat([one, one.assign(method="twin")], ignore_index=True)))
    assert leader.methods == ("lbfgs", "twin")
    assert leader.remark == "no method is behind"
    assert not leader.certain
