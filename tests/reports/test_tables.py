"""Tables as text in Markdown and LaTeX."""

from __future__ import annotations

import pandas as pd

import reports

TABLE = pd.DataFrame(
    {
        "problem": ["a_b", "a_b", "c|d"],
        "method": ["adam, batch 64", "sgd & $x$ 100 %", "# {newton}"],
        "calls to 1e-2": ["41 (4/5)", "–", "5"],
        "gap": ["3.4e-10", "1e-8", "0"],
        "a call asks for": ["f", "f, gradient", "f"],
    }
)


def test_markdown() -> None:
    assert reports.markdown(TABLE).splitlines() == [
        "| problem | method | calls to 1e-2 | gap | a call asks for |",
        "| --- | --- | ---: | ---: | --- |",
        "| a\\_b | adam, batch 64 | 41 (4/5) | 3.4e-10 | f |",
        "| a\\_b | sgd & $x$ 100 % | – | 1e-8 | f, gradient |",
        "| c\\|d | \\# \\{newton\\} | 5 | 0 | f |",
    ]


def test_latex() -> None:
    assert reports.latex(TABLE).splitlines() == [
        r"\begin{tabular}{llrrl}",
        r"\toprule",
        r"problem & method & calls to $10^{-2}$ & gap & a call asks for \\",
        r"\midrule",
        r"a\_b & adam, batch 64 & 41 (4/5) & $3.4 \cdot 10^{-10}$ & f \\",
        r" & sgd \& \$x\$ 100 \% & -- & $10^{-8}$ & f, gradient \\",
        r"\midrule",
        r"c\textbar{}d & \# \{newton\} & 5 & 0 & f \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_tables_of_nothing() -> None:
    assert reports.markdown(TABLE.iloc[:0]).count("\n") == 1
    assert r"\end{tabular}" in reports.latex(TABLE.iloc[:0])
