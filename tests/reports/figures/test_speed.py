"""The figure of speed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

import reports
from optbench.analysis import timing as seconds
from optbench.core.errors import InputError
from tests.conftest import present
from tests.reports.conftest import VALLEY


def test_the_figure_of_speed_draws_the_medians(races: pd.DataFrame, ax: Axes) -> None:
    part = races[races["race"] == "race 1"]
    assert reports.speed(part, VALLEY, ax) is ax
    table = seconds.race_summary(part[part["problem"] == VALLEY])
    drawn = {line.get_marker(): np.asarray(line.get_xdata()).tolist() for line in ax.get_lines()}
    assert drawn["o"] == table["seconds"].tolist()
    assert drawn["D"] == table["oracle_seconds"].tolist()
    assert drawn["s"] == table["optimizer_seconds"].tolist()[1:]  # of the first nothing is left to draw
    assert VALLEY in ax.get_title(loc="left")
    assert "time per step" in ax.get_xlabel()
    assert [text.get_text() for text in present(ax.get_legend()).get_texts()] == [
        "whole step",
        "oracle call",
        "optimizer",
    ]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["adam", "lbfgs:memory=5", "newton"]
    assert all(label.get_text().endswith(" µs") for label in ax.get_xticklabels())


def test_the_figure_of_speed_asks_for_one_race(races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="choose a problem"):
        reports.speed(races)
    with pytest.raises(InputError, match=r"there are 2 races .* choose one"):
        reports.speed(races, VALLEY)
    with pytest.raises(InputError, match="no race on problem 'sphere'"):
        reports.speed(races, "sphere")
