"""What a lesson is made of, and how its figures look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures import style
from ..figures.style import INK, MUTED, PALETTE

GAP_LABEL = "gap f − f* of the iterate"
THEORY: dict[str, Any] = {"color": INK, "linewidth": 1.0, "dashes": (5, 3)}  # lines of what theory gives
MARK: dict[str, Any] = {"color": MUTED, "linewidth": 0.8, "dashes": (1, 2), "zorder": 1}  # of a value to compare with


class Drawing(NamedTuple):
    """A figure of a lesson, its alternative text, and how to read it."""

    figure: Figure
    label: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a lesson consists of."""

    drawings: tuple[Drawing, ...]
    paragraph: str  # what is seen, why, and how sure that is; its numbers come from the results
    command: str  # what reproduces the runs and shows the lesson; lines of a shell
    problems: tuple[str, ...]  # specs of the problems it rests on
    table: pd.DataFrame  # the numbers behind it
    maps: tuple[str, ...] = ()  # problems whose landscape a drawing shows with paths


def figure(draw: Any, *args: Any) -> Figure:
    """A figure of what `draw(*args, ax)` draws, with room for long names."""
    return style.figure(draw, *args, room=2.0)


def line_style(k: int) -> style.Style:
    """How the k-th line of a lesson is drawn that is no method of the page, so that no reader can pick it out."""
    return style.Style(
        -1 - k, PALETTE[k % len(PALETTE)], style.DASHES[k % len(style.DASHES)], style.MARKERS[k % len(style.MARKERS)]
    )


def label(ax: Axes, title: str, x: str, y: str, log: str = "xy") -> None:
    """Title and names of the axes; those in `log` are logarithmic."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    style.title(ax, title)
    for which in log:
        style.log_axis(ax.xaxis if which == "x" else ax.yaxis, which)
