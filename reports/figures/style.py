"""How figures look: palette, the style of a method, and axes.

A method has one colour, marker and dash pattern wherever it appears, given by its place among all methods of the
results, so that the figures of a page can be read together. Where many are drawn, those that lead have their colours and
are named at the end of their lines; the others are thin and grey, until a reader picks one.
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

# seaborn's "colorblind" palette; on white its palest colours are deepened, on black its darkest are lifted
PALETTE = ("#0173b2", "#d07b00", "#029e73", "#d55e00", "#c066ad", "#a8713c", "#e06fb8", "#7d7d7d", "#a39a00", "#2f9fd8")
PALETTE_ON_BLACK = (
    "#4ba3e3", "#f0a030", "#2cc197", "#ff7f2a", "#db8fcd", "#d2a06c", "#fbafe4", "#a8a8a8", "#ece133", "#7cc8f0",
)  # fmt: skip
DASHES = ((), (5.0, 1.6), (1.4, 1.4), (6.0, 1.6, 1.4, 1.6))
MARKERS = "os^DvPX<>"  # nine, four and ten have no common cycle shorter than 36 in grey and 180 in colour
INK, MUTED, GRID, PAPER = "#26272b", "#6b6d75", "#dddee3", "#ffffff"
MAX_POINTS = 200  # a curve is no smoother for more
SIZE = (6.8, 4.1)  # inches
HASH_SALT = "optbench figures"  # of ids in a figure; shows that `theme` is in force
EMPHASIS = 6  # methods of a figure that have their colour and their name
ROOM = 1.9  # inches beside the axes for names
MARK: dict[str, Any] = {"linewidth": 0.8, "color": MUTED, "dashes": (1, 2), "zorder": 1}  # a value to compare with


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    index: int  # place of the method among all methods of the results
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
    """Options that figures of several methods share."""

    emphasis: int
    """How many methods are drawn in colour."""
    styles: Styles | None
    """How methods look; by default as `method_styles` of the results has it."""


def numbered_styles(names: Iterable[str], first: int = 0) -> dict[str, Style]:
    """A style for each name, in the order of the names; their numbers begin at `first`."""
    return {name: Style.numbered(k, first + k) for k, name in enumerate(sorted(set(names)))}


def method_styles(runs: Runs) -> dict[str, Style]:
    """The style of every method of the results, in the order of their names."""
    return numbered_styles(runs.rows["method"])


@contextmanager
def theme() -> Iterator[None]:
    """The look of the page's figures, whatever the user's own settings of matplotlib are."""
    if matplotlib.rcParams["svg.hashsalt"] == HASH_SALT:  # within another: settings are hundreds, and each is checked
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
    """A figure of its own of what `draw(*args, ax=..., **options)` draws; pyplot knows nothing of it.

    Parameters
    ----------
    size : (float, float)
        Width and height in inches.
    left, room : float
        Inches at the left of the axes, and at their right, for names at the ends of lines.
    """
    with theme():
        figure = Figure(figsize=size)
        # fixed margins, so that figures side by side line up
        below, above = 0.55, 0.4  # inches
        box = left / size[0], below / size[1], 1 - (left + room) / size[0], 1 - (below + above) / size[1]
        ax = figure.add_axes(box)
        draw(*args, ax=ax, **options)
        # and fixed places of the labels, so that no tick is laid out to find them
        ax.xaxis.set_label_coords(0.5, -(below - 0.18) / (box[3] * size[1]))
        ax.yaxis.set_label_coords(-(left - 0.22) / (box[2] * size[0]), 0.5)
    return figure


def new_axes(size: tuple[float, float] = SIZE) -> Axes:
    """Axes of a new figure of pyplot."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def axes(ax: Axes | None) -> Axes:
    """Axes to draw on, by default of a new figure of pyplot, with a grid and without the frame."""
    ax = new_axes() if ax is None else ax
    ax.grid(True, which="major", color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    sns.despine(ax=ax)
    return ax


def label(ax: Axes, title: str, x: str, y: str, log: str = "") -> None:
    """Title and names of the axes; those in `log` are logarithmic."""
    # a $ in a name is a dollar; a height that is given need not be looked for
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
    """The line of a method, and its band where `low` and `high` are given; all arrays of shape (points,).

    Markers stand where `marks` says, by default at a few points. One of the `rest` is thin and grey, without band and
    markers.
    """
    if rest:
        ax.plot(x, y, color=MUTED, linewidth=0.8, alpha=0.45, zorder=2, gid=f"rest-{style.index}-line", **options)
        return
    if marks is None:
        # a few markers, evenly spaced along the axis, where those of other methods are not
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
    """Every line as `line` draws it; those that do not lead are grey."""
    for name, values in lines.items():
        line(ax, styles[name], *values, rest=name not in leading, **options)


def end_names(ax: Axes, lines: Lines, styles: Styles, leading: Sequence[str], width: int = 18) -> None:
    """Names beside the right edge of the axes, at the height of the ends of their lines as far as they do not overlap.

    Call it once scales and limits of the axes are final. Names longer than `width` characters lose their middle. Of the
    lines that do not lead, which have no names, it says how many there are.
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
        ax.text(1.13, at, name, **beside, va="center", fontsize=9.5, parse_math=False, gid=f"{gid}-name")


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Heights in falling order, moved as little as needed to lie a gap apart, and between 0 and 1 if they fit."""
    steps = gap * np.arange(len(heights))
    placed: np.ndarray = isotonic_regression(heights + steps, increasing=False).x - steps
    within: np.ndarray = np.clip(np.minimum(placed, 1 - steps), steps[::-1], None)  # nothing above the axes, nor below
    return within


def log_axes(ax: Axes, which: str) -> None:
    """Make "x", "y" or both axes logarithmic, with few round ticks: plain numbers, or powers of ten on long axes."""
    for name in which:
        axis = ax.xaxis if name == "x" else ax.yaxis
        ax.set(**{f"{name}scale": "log"})
        low, high = sorted(float(v) for v in axis.get_view_interval())
        least, most = (float(v) for v in axis.get_data_interval())
        if 0 < least <= most < 1.001 * least:  # one value: matplotlib may choose a range in which all ticks read alike
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
    """Names of rows at the ticks of the vertical axis, the first row at the top."""
    ax.set_yticks(range(len(names)), [shorten(name, width) for name in names], parse_math=False)
    ax.tick_params("y", length=0)
    ax.set_ylim(len(names) - 0.4, -0.6)


def note(ax: Axes, text: str) -> Axes:
    """Say why there is nothing to see."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)
    return ax


def thin(count: int) -> np.ndarray:
    """Which of a curve's points to draw, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))
