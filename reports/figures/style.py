"""Palette, styles of methods, and axes of all figures.

A method has the same colour, marker and dashes in every figure of a page. Of many methods only the best are coloured and
named at the end of their lines. The others are thin and grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from optbench.results.runs import Runs

from ..wording import shorten

# seaborn's "colorblind" palette with more contrast: its palest colours are darker on white, its darkest lighter on black
PALETTE = ("#0173b2", "#d07b00", "#029e73", "#d55e00", "#c066ad", "#a8713c", "#e06fb8", "#7d7d7d", "#a39a00", "#2f9fd8")
PALETTE_ON_BLACK = (
    "#4ba3e3", "#f0a030", "#2cc197", "#ff7f2a", "#db8fcd", "#d2a06c", "#fbafe4", "#a8a8a8", "#ece133", "#7cc8f0",
)  # fmt: skip
DASHES = ((), (5.0, 1.6), (1.4, 1.4), (6.0, 1.6, 1.4, 1.6))
MARKERS = "os^DvPX<>"  # with 4 dash patterns and 10 colours: 36 combinations in grey, 180 in colour
INK, MUTED, GRID, PAPER = "#26272b", "#6b6d75", "#dddee3", "#ffffff"
MAX_POINTS = 200  # of a curve; more do not make it smoother
SIZE = (6.8, 4.1)  # inches
HASH_SALT = "optbench figures"  # makes ids in SVG reproducible; also tells that `theme` is active
EMPHASIS = 6  # coloured and named methods of a figure
ROOM = 1.9  # inches right of the axes, for names
MARK: dict[str, Any] = {"linewidth": 0.8, "color": MUTED, "dashes": (1, 2), "zorder": 1}  # a reference line


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    index: int  # number of the method among all methods of the results
    color: str
    dashes: tuple[float, ...]  # lengths of dash and gap in line widths; empty for a solid line
    marker: str  # of matplotlib

    @classmethod
    def numbered(cls, k: int, index: int) -> Style:
        """The k-th combination of colour, dashes and marker."""
        return cls(index, PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)], MARKERS[k % len(MARKERS)])

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of `Axes.plot`."""
        edge = {"markersize": 5.5, "markeredgewidth": 0.8, "markeredgecolor": PAPER}
        dashes = self.dashes or (None, None)
        return {"color": self.color, "dashes": dashes, "marker": self.marker, "linewidth": 1.5, **edge}

    @property
    def marker_path(self) -> str:
        """Outline of the marker as the ``d`` of an SVG path, about the origin, one unit wide."""
        shape = MarkerStyle(self.marker)
        polygons: Any = shape.get_path().transformed(shape.get_transform()).to_polygons()
        return "".join("M" + "L".join(f"{x:.2f} {-y:.2f}" for x, y in p) + "Z" for p in polygons)


Styles: TypeAlias = Mapping[str, Style]  # of methods by name


class DrawOptions(TypedDict, total=False):
    """Options of figures of several methods."""

    emphasis: int
    """Number of methods in colour."""
    styles: Styles | None
    """Styles of methods, by default `method_styles` of the results."""


def numbered_styles(names: Iterable[str], first: int = 0) -> dict[str, Style]:
    """A style for each name in alphabetical order, numbered from `first`."""
    return {name: Style.numbered(k, first + k) for k, name in enumerate(sorted(set(names)))}


def method_styles(runs: Runs) -> dict[str, Style]:
    """The style of every method of the results."""
    return numbered_styles(runs.rows["method"])


@contextmanager
def theme() -> Iterator[None]:
    """Draw with the settings of the report instead of those of the user."""
    if matplotlib.rcParams["svg.hashsalt"] == HASH_SALT:  # already active; setting hundreds of parameters is slow
        yield
        return
    own = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 9.5),
        **{"axes.labelsize": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlepad": 10},
        **{"axes.linewidth": 0.8, "axes.unicode_minus": True, "path.simplify_threshold": 0.3},
        **{"svg.fonttype": "none", "svg.hashsalt": HASH_SALT, "text.parse_math": False},
    }
    with matplotlib.style.context("default"), matplotlib.rc_context(own):
        yield


def figure(
    draw: Any, *args: Any, size: tuple[float, float] = SIZE, left: float = 0.78, room: float = ROOM, **options: Any
) -> Figure:
    """A new figure, unknown to pyplot, with the axes that `draw(*args, ax=..., **options)` fills.

    Parameters
    ----------
    size : (float, float)
        Width and height in inches.
    left, room : float
        Inches left and right of the axes; names at the ends of lines stand on the right.
    """
    with theme():
        figure = Figure(figsize=size)
        # fixed margins, so that figures side by side line up
        below, above = 0.55, 0.4  # inches
        box = left / size[0], below / size[1], 1 - (left + room) / size[0], 1 - (below + above) / size[1]
        ax = figure.add_axes(box)
        draw(*args, ax=ax, **options)
        # fixed places of labels, because laying out ticks to find them is slow
        ax.xaxis.set_label_coords(0.5, -(below - 0.18) / (box[3] * size[1]))
        ax.yaxis.set_label_coords(-(left - 0.22) / (box[2] * size[0]), 0.5)
    return figure


def new_axes(size: tuple[float, float] = SIZE) -> Axes:
    """Axes of a new figure of pyplot."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def axes(ax: Axes | None) -> Axes:
    """Axes to draw on, by default of a new figure of pyplot, with a grid and without a frame."""
    ax = new_axes() if ax is None else ax
    ax.grid(True, which="major", color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    sns.despine(ax=ax)
    return ax


def label(ax: Axes, title: str, x: str, y: str, log: str = "") -> None:
    """Set title and labels; the axes in `log` ("x", "y", "xy") are logarithmic."""
    # a $ in a name is a dollar; computing the height of the title is slow
    ax.set_title(title, loc="left", y=1.0, parse_math=False)
    ax.set(xlabel=x, ylabel=y)
    log_axes(ax, log)


def line(
    ax: Axes,
    style: Style,
    x: np.ndarray,
    y: np.ndarray,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
    *,
    marks: np.ndarray | None = None,
    rest: bool = False,
    **options: Any,
) -> None:
    """Draw the line of a method, and a band from `low` to `high`; all arrays have shape (points,).

    `marks` selects the points with a marker, by default a few. The `rest` are thin and grey, without band or markers.
    """
    if rest:
        ax.plot(x, y, color=MUTED, linewidth=0.8, alpha=0.45, zorder=2, gid=f"rest-{style.index}-line", **options)
        return
    if marks is None:
        # six markers, shifted so that those of different methods do not coincide
        at = np.linspace(0, len(x) - 1, 6)[:-1] + (style.index % 7) / 7 * len(x) / 6
        marks = np.isin(np.arange(len(x)), np.unique(np.minimum(np.rint(at), len(x) - 1).astype(int)))
    if low is not None and high is not None:
        ax.fill_between(
            x, low, high, where=np.isfinite(low) & np.isfinite(high), color=style.color, alpha=0.13, linewidth=0,
            zorder=2, gid=f"curve-{style.index}-band",
        )  # fmt: skip
    which = np.flatnonzero(marks).tolist()
    ax.plot(x, y, **style.line | options, markevery=which or [], zorder=3, gid=f"curve-{style.index}-line")


Lines: TypeAlias = Mapping[str, Sequence[np.ndarray]]  # by name: x, y, and low and high of a band; all (points,)


def draw_lines(ax: Axes, lines: Lines, styles: Styles, leading: Sequence[str], **options: Any) -> None:
    """Draw all lines with `line`; those that do not lead are grey."""
    for name, values in lines.items():
        line(ax, styles[name], *values, rest=name not in leading, **options)


def end_names(ax: Axes, lines: Lines, styles: Styles, leading: Sequence[str], width: int = 18) -> None:
    """Write the names of the leading lines right of the axes, at the ends of the lines, moved apart where they overlap.

    Scales and limits of the axes must be final. Names longer than `width` characters are shortened. The other lines are
    counted below.
    """
    names = [name for name in leading if name in lines]
    if len(names) < len(lines):
        ax.annotate(
            f"and {len(lines) - len(names)} more, in grey", (1.0, 0.0), (8, -14), xycoords="axes fraction",
            textcoords="offset points", color=MUTED, fontsize=9, va="top", annotation_clip=False,
        )  # fmt: skip
    if not names:
        return
    to_axes = ax.transData + ax.transAxes.inverted()
    x = ax.get_xlim()[1]
    ends = [max((a, b) for a, b in zip(*lines[name][:2], strict=True) if np.isfinite(b)) for name in names]
    heights = np.clip([to_axes.transform((x, y))[1] for _, y in ends], 0.0, 1.0)
    gap = 12.5 / (ax.bbox.height * 72 / ax.figure.dpi)  # a line of text, as a part of the axes' height
    order = np.argsort(-heights, kind="stable")
    for i, at in zip(order, _apart(heights[order], gap), strict=True):
        style = styles[names[i]]
        beside: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False}
        gid = f"curve-{style.index}"
        ax.plot(
            [1.005, 1.035], [heights[i], at], **beside, color=style.color, linewidth=0.8, zorder=1, gid=f"{gid}-lead"
        )
        ax.plot([1.04, 1.075, 1.11], [at] * 3, **beside, **style.line, markevery=[1], gid=f"{gid}-key")
        name = shorten(names[i], width)
        ax.text(
            1.13,
            at,
            name,
            **beside,
            va="center",
            fontsize=matplotlib.rcParams["ytick.labelsize"],
            parse_math=False,
            gid=f"{gid}-name",
        )


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Descending heights, moved as little as possible to be a gap apart and, if they fit, between 0 and 1."""
    steps = gap * np.arange(len(heights))
    placed: np.ndarray = isotonic_regression(heights + steps, increasing=False).x - steps
    within: np.ndarray = np.clip(np.minimum(placed, 1 - steps), steps[::-1], None)  # not above or below the axes
    return within


def log_axes(ax: Axes, which: str) -> None:
    """Make "x", "y" or both axes logarithmic, with few round ticks: plain numbers, or powers of ten on long axes."""
    for name in which:
        axis = ax.xaxis if name == "x" else ax.yaxis
        ax.set(**{f"{name}scale": "log"})
        low, high = sorted(float(v) for v in axis.get_view_interval())
        least, most = (float(v) for v in axis.get_data_interval())
        if (
            0 < least <= most < 1.001 * least
        ):  # one value: matplotlib may choose a range in which all tick labels are equal
            low, high = least / 10, 10 * most
            ax.set(**{f"{name}lim": (low, high)})
        decades = np.log10(high / low)
        axis.set_minor_locator(NullLocator())
        if decades < 0.5:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        elif decades < 2.5:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 4, 6, 8)))
        else:
            axis.set_major_locator(LogLocator(numticks=8))
        plain = low > 5e-4 and high < 2e4
        axis.set_major_formatter((lambda v, _: f"{v:.6g}") if plain else (lambda v, _: _scientific(v)))


def _scientific(value: float) -> str:
    """A tick as 10⁻⁴ or 2·10⁻⁴."""
    mantissa, _, exponent = f"{value:.4e}".partition("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"


def duration_tick(value: float, _: float) -> str:
    """A duration at a tick: 20 µs, 0.5 ms, 3 s."""
    unit, name = next(((u, n) for u, n in ((1.0, "s"), (1e-3, "ms")) if value >= 0.9999 * u), (1e-6, "µs"))
    return f"{value / unit:.4g} {name}"


def name_rows(ax: Axes, names: Sequence[str], width: int) -> None:
    """Label the rows of the vertical axis, the first at the top."""
    ax.set_yticks(range(len(names)), [shorten(name, width) for name in names], parse_math=False)
    ax.tick_params("y", length=0)
    ax.set_ylim(len(names) - 0.4, -0.6)


def note(ax: Axes, text: str) -> Axes:
    """Show a text in empty axes."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)
    return ax


def thin(count: int) -> np.ndarray:
    """Indices of the points of a curve to draw: at most `MAX_POINTS`, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))
