"""Figures: functions from results to matplotlib axes, and from a matplotlib figure to SVG for a page.

Every number drawn here was computed by `optbench.metrics` or `optbench.seconds`. A method has one colour, marker and dash
pattern wherever it appears, given by its place among all methods of the results, so that figures of one page can be read
together.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from optbench import metrics, seconds
from optbench.errors import InputError
from optbench.results import Runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis

# seaborn's "colorblind" palette; on white its palest colours are deepened, on black its darkest are lifted
PALETTE = ("#0173b2", "#d07b00", "#029e73", "#d55e00", "#c066ad", "#a8713c", "#e06fb8", "#7d7d7d", "#a39a00", "#2f9fd8")
PALETTE_ON_BLACK = (
    "#4ba3e3", "#f0a030", "#2cc197", "#ff7f2a", "#db8fcd", "#d2a06c", "#fbafe4", "#a8a8a8", "#ece133", "#7cc8f0",
)  # fmt: skip
DASHES = ((), (5.0, 1.6), (1.4, 1.4), (6.0, 1.6, 1.4, 1.6))
MARKERS = "os^DvPX<>"  # nine, four and ten have no common cycle shorter than 36 in grey and 180 in colour
INK, MUTED, GRID, PAPER = "#26272b", "#6b6d75", "#dddee3", "#ffffff"
MAX_POINTS = 200  # a curve is no smoother for more
SIZE = (5.4, 4.2)  # inches

MARK = {"markersize": 6, "markeredgewidth": 1.4}
# what is drawn of a step's time -> the columns of its interval, and its look
SPEED_MARKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "oracle_seconds": (
        "",
        "",
        {"marker": "D", "markersize": 6.5, "markerfacecolor": PAPER, "markeredgecolor": PALETTE[1]},
    ),
    "optimizer_seconds": (
        "optimizer_low",
        "optimizer_high",
        {"marker": "s", "markersize": 8, "markerfacecolor": PAPER, "markeredgecolor": PALETTE[2]},
    ),
    "seconds": (
        "seconds_low",
        "seconds_high",
        {"marker": "o", "markerfacecolor": PALETTE[0], "markeredgecolor": PALETTE[0]},
    ),
}

CALLS_LABEL = "oracle calls (1 = full value and gradient)"


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes
    ----------
    index : int
        Place of the method among all methods of the results.
    color : str
    dashes : tuple of float
        Lengths of dash and gap in line widths; empty for a solid line.
    marker : str
        A matplotlib marker.
    """

    index: int
    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of `Axes.plot`."""
        return {
            "color": self.color,
            "dashes": self.dashes or (None, None),
            "marker": self.marker,
            "linewidth": 1.5,
            "markersize": 5.5,
            "markeredgewidth": 0.8,
            "markeredgecolor": PAPER,
        }

    @property
    def marker_path(self) -> str:
        """Outline of the marker as the ``d`` of an SVG path, about the origin, one unit wide."""
        shape = MarkerStyle(self.marker)
        polygons: Any = shape.get_path().transformed(shape.get_transform()).to_polygons()
        return "".join("M" + "L".join(f"{x:.2f} {-y:.2f}" for x, y in p) + "Z" for p in polygons)


def method_styles(runs: Runs) -> dict[str, Style]:
    """The style of every method of the results, in the order of their names."""
    methods = sorted(set(runs.rows["method"]))
    looks = zip(itertools.cycle(PALETTE), itertools.cycle(DASHES), itertools.cycle(MARKERS), strict=False)
    return {method: Style(i, *look) for i, (method, look) in enumerate(zip(methods, looks, strict=False))}


def convergence(runs: Runs, problem: str | None = None, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """Smallest gap (or objective) so far against oracle calls, each method at its best settings.

    Lines are medians over seeds, bands reach from the lower to the upper quartile. The gap f - f* is drawn where the
    optimum is known, else the objective f. Gaps below what rounding can resolve are drawn at that floor.

    Parameters
    ----------
    problem : str, optional
        Which problem; may be left out where the results have only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    legend : bool
        Whether to put a legend beside the axes.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    problem, part = one_problem(runs, problem)
    styles = method_styles(runs)
    ax = _axes(ax)
    curves = metrics.bands(part)
    gap, floor = _gap_floor(part)
    drawn: dict[str, np.ndarray] = {}  # finite medians of each method
    for method, curve in curves.groupby("method", sort=True):
        curve = curve.iloc[_thin(len(curve))]
        finite = np.isfinite(curve["median"].to_numpy(dtype=float))
        curve = curve.iloc[: len(finite) if finite.all() else int(np.argmin(finite))]  # past infinity there is no line
        if len(curve):
            calls = curve["calls"].to_numpy(dtype=float)
            low, median, high = (np.maximum(curve[q].to_numpy(dtype=float), floor) for q in ("low", "median", "high"))
            _curve(ax, styles[str(method)], calls, low, median, high)
            drawn[str(method)] = median
    what = "gap f − f*" if gap else "objective f"
    _title(ax, f"Convergence: {shorten(problem, 32)}")
    ax.set_xlabel(CALLS_LABEL)
    ax.set_ylabel(f"{what}, smallest so far")
    if not drawn:
        _note(ax, "No run has a finite value to draw")
        return ax
    _log_axis(ax.xaxis, "x")
    if all((median > 0).all() for median in drawn.values()):
        _log_axis(ax.yaxis, "y")
    if gap and any((median <= floor).any() for median in drawn.values()):
        ax.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    if legend:
        _legend(ax, {method: styles[method] for method in drawn})
    return ax


def sensitivity(runs: Runs, problem: str | None = None, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """Smallest gap (or objective) of a run against the step size of its method.

    Lines are medians over seeds, bands reach from the lower to the upper quartile, and a ring marks the setting that
    `optbench.metrics.tuned` chooses. A hollow marker is a step size at which some seeds diverged, a cross one at which
    all did; a run that diverged counts with the value it started from. Methods without a step size do not appear.

    Parameters and errors are those of `convergence`.
    """
    problem, part = one_problem(runs, problem)
    styles = method_styles(runs)
    ax = _axes(ax)
    gap, floor = _gap_floor(part)
    chosen = metrics.tuned(part).set_index("method")["step_size"]
    curves = metrics.sensitivity(part)
    curves = curves[np.isfinite(curves["median"].to_numpy(dtype=float))]
    positive = True
    for method, curve in curves.groupby("method", sort=True):
        style = styles[str(method)]
        size = curve["step_size"].to_numpy(dtype=float)
        low, median, high = (np.maximum(curve[q].to_numpy(dtype=float), floor) for q in ("low", "median", "high"))
        positive = positive and bool((low > 0).all())
        lost, seeds = curve["n_diverged"].to_numpy(), curve["n_seeds"].to_numpy()
        _curve(ax, style, size, low, median, high, marks=lost == 0)
        signs: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "some": (
                (lost > 0) & (lost < seeds),
                {"marker": style.marker, "markersize": 5.5, "markerfacecolor": PAPER},
            ),
            "all": (lost == seeds, {"marker": "x", "markersize": 5.5}),
            "best": (size == chosen[method], {"marker": "o", "markersize": 11, "markerfacecolor": "none"}),
        }
        for name, (where, look) in signs.items():
            if where.any():
                look |= {"linestyle": "none", "markeredgecolor": style.color, "markeredgewidth": 1.2}
                ax.plot(size[where], median[where], **look, zorder=4, gid=f"curve-{style.index}-{name}")
    what = "gap f − f*" if gap else "objective f"
    _title(ax, f"Step sizes: {shorten(problem, 32)}")
    ax.set_xlabel("step size (learning rate; scale of a search)")
    ax.set_ylabel(f"{what}, smallest of a run")
    if curves.empty:
        _note(ax, "No method has a step size with finite values")
        return ax
    if (curves["step_size"] > 0).all():
        _log_axis(ax.xaxis, "x")
    if positive:
        _log_axis(ax.yaxis, "y")
    if legend:
        grey: dict[str, Any] = {"color": MUTED, "linestyle": "none", "markersize": 5.5}
        symbols = {
            "chosen": Line2D([], [], **grey | {"marker": "o", "markersize": 10}, markerfacecolor="none"),
            "some seeds diverged": Line2D([], [], **grey, marker="s", markerfacecolor=PAPER),
            "all seeds diverged": Line2D([], [], **grey, marker="x"),
        }
        _legend(ax, {method: styles[method] for method in sorted(set(curves["method"]))}, symbols)
    return ax


def speed(races: pd.DataFrame, problem: str | None = None, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """How long a step takes, contestant by contestant in the order of a race, and how much of it is the oracle's.

    A disc is the median time of a whole step, a diamond that of its oracle call, a square that of the rest, which is the
    optimizer's; lines are 95 % intervals. Where the rest is not above zero, it is too short to be told, and not drawn.

    Parameters
    ----------
    races : DataFrame
        One row a round and contestant, as `optbench.store.Store.load_races` returns them.
    problem : str, optional
        Which problem; may be left out where the race had only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    legend : bool
        Whether to put a legend below the axes.

    Raises
    ------
    InputError
        If there is no race on the problem, or several races or problems and none is chosen.
    """
    problem, part = _one_race(races, problem)
    ax = _axes(ax)
    table = seconds.race_summary(part)
    rows = np.arange(len(table))
    times = table[list(SPEED_MARKS)].to_numpy(dtype=float)
    least = 0.7 * times.min(initial=np.inf, where=times > 0)  # where an interval that reaches zero is cut off
    for name, (low, high, look) in SPEED_MARKS.items():
        shown = table[name].to_numpy(dtype=float) > 0
        if low:
            ends = np.maximum(table.loc[shown, [low, high]].to_numpy(dtype=float), least)
            ax.hlines(rows[shown], *ends.T, color=look["markeredgecolor"], linewidth=1.4, zorder=2)
        ax.plot(table.loc[shown, name], rows[shown], linestyle="none", zorder=3, **MARK | look)
    _log_axis(ax.xaxis, "x")
    ax.xaxis.set_major_formatter(FuncFormatter(_time))
    words = table["disturbed"].map({True: " – disturbed", False: ""}) + table["finite"].map(
        {True: "", False: " – diverged"}
    )
    names = [shorten(name, 44) + word for name, word in zip(table["contestant"], words, strict=True)]
    ax.set_yticks(rows - 0.2, names)
    ax.tick_params("y", length=0, pad=-4)
    for label in ax.get_yticklabels():  # above the marks, so that long names have room
        label.set(ha="left", va="bottom", parse_math=False)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(table) - 0.5, -0.8)
    _title(ax, f"Time a step: {shorten(problem, 32)}")
    ax.set_xlabel("time a step (units at the ticks; logarithmic)")
    ax.set_ylabel("contestant")
    if legend:
        _symbols(ax, {"whole step": "seconds", "oracle call": "oracle_seconds", "optimizer": "optimizer_seconds"})
    return ax


def _one_race(races: pd.DataFrame, problem: str | None) -> tuple[str, pd.DataFrame]:
    """The name of the problem that is meant, and the rows of the one race on it."""
    known = sorted(set(races["problem"]))
    if problem is None and len(known) == 1:
        problem = known[0]
    if problem is None or problem not in known:
        there = f"there are races on {', '.join(known)}" if known else "there are no races"
        raise InputError(f"{'choose a problem' if problem is None else f'no race on problem {problem!r}'}; {there}")
    part = races[races["problem"] == problem]
    held = sorted(set(part["race"]))
    if len(held) > 1:
        raise InputError(
            f"there are {len(held)} races on {problem!r}; choose one: races[races['race'] == {held[-1]!r}]"
        )
    return problem, part


def one_problem(runs: Runs, problem: str | None) -> tuple[str, Runs]:
    """The name of the problem that is meant, and its runs alone.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    known = sorted(set(runs.rows["problem"]))
    if problem is None and len(known) == 1:
        problem = known[0]
    if problem is None or problem not in known:
        there = f"the results have {', '.join(known)}" if known else "there are no results"
        raise InputError(f"{'choose a problem' if problem is None else f'no results for problem {problem!r}'}; {there}")
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


def speed_figure(races: pd.DataFrame, problem: str) -> Figure:
    """A figure of its own of `speed`, as high as its rows need; pyplot knows nothing of it."""
    rows = races.loc[races["problem"] == problem, "place"].nunique()
    above, row, below = 0.4, 0.44, 0.85  # inches
    height = above + row * (rows + 0.3) + below
    with _theme():
        made = Figure(figsize=(SIZE[0], height))
        speed(races, problem, made.add_axes((0.06, below / height, 0.91, 1 - (above + below) / height)))
    return made


def figure(draw: Any, runs: Runs, problem: str) -> Figure:
    """A figure of its own, without a legend, of `convergence` or `sensitivity`; pyplot knows nothing of it."""
    with _theme():
        made = Figure(figsize=SIZE)
        # fixed margins, so that figures side by side line up
        draw(runs, problem, made.add_axes((0.15, 0.13, 0.83, 0.775)), legend=False)
    return made


def to_svg(made: Figure, prefix: str, label: str, names: dict[int, str]) -> str:
    """A figure as SVG for an HTML page; the same figure gives the same text.

    Colours become CSS variables (``--ink``, ``--c0``, ... with the colour itself as fallback), and every part of a
    method's curve has the attribute ``data-method`` with its index.

    Parameters
    ----------
    prefix : str
        Put before every id, so that several figures can live in one page.
    label : str
        What a reader who cannot see the figure is told.
    names : dict
        Names of the methods by index, shown when a curve is pointed at.
    """
    buffer = io.BytesIO()
    with _theme(), warnings.catch_warnings():
        # text is left to the browser's fonts; those of matplotlib only measure it
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from font")
        warnings.filterwarnings("ignore", r"(?s)Matplotlib currently does not support .* natively")
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)  # a style sheet inside a figure would reach the whole page
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]  # HTML knows SVG without namespaces
        for key in list(element.attrib):
            element.attrib[key.partition("}")[2] or key] = _attribute(key, element.attrib.pop(key), prefix)
        found = re.fullmatch(rf"{prefix}curve-(\d+)-\w+", element.get("id", ""))
        if found:
            element.set("data-method", found[1])
            title = ET.Element("title")
            title.text = names[int(found[1])]
            element.insert(0, title)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def shorten(text: str, width: int) -> str:
    """A name as it can be drawn: on one line, and of at most `width` characters, the middle left out."""
    text = " ".join(clean(text).split())
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}…{text[-half:]}"


def clean(text: str) -> str:
    """Text without what XML cannot hold (control characters, lone surrogates) or what turns the line around it."""
    return _UNCLEAN.sub("\ufffd", text)


_UNCLEAN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--c{i}" for i, color in enumerate(PALETTE)
}


def _attribute(key: str, value: str, prefix: str) -> str:
    """An attribute of matplotlib's SVG as the page wants it."""
    if key == "id":
        return prefix + value
    if key.endswith("href"):
        return f"#{prefix}{value[1:]}"
    if key == "d":
        return re.sub(r"(\.\d\d)\d+", r"\1", value)  # a hundredth of a point is less than a pixel
    if key in ("style", "fill", "stroke"):
        return re.sub(
            r"#[0-9a-f]{6}", lambda m: f"var({_VARIABLES[m[0]]}, {m[0]})" if m[0] in _VARIABLES else m[0], value
        )
    return value.replace("url(#", f"url(#{prefix}")


@contextmanager
def _theme() -> Iterator[None]:
    """The look of the page's figures, whatever the user's own settings of matplotlib are."""
    own = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.labelsize": 10,
        "axes.linewidth": 0.8,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlepad": 10,
        "axes.unicode_minus": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "optbench",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "xtick.labelsize": 9.5,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
        "ytick.labelsize": 9.5,
    }
    with matplotlib.style.context("default"), matplotlib.rc_context(own):
        yield


def _axes(ax: Axes | None) -> Axes:
    """Axes to draw on, with a grid and without the frame."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=SIZE, layout="constrained")[1]
    ax.grid(True, which="major", color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    sns.despine(ax=ax)
    return ax


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", parse_math=False)  # a $ in a name is a dollar


def _curve(
    ax: Axes,
    style: Style,
    x: np.ndarray,
    low: np.ndarray,
    median: np.ndarray,
    high: np.ndarray,
    marks: np.ndarray | None = None,
) -> None:
    """One method: its band and its line; all arrays of shape (points,). Markers where `marks` says, or a few."""
    if marks is None:
        # a few markers, evenly spaced along the axis, where those of other methods are not
        at = np.linspace(0, len(x) - 1, 6)[:-1] + (style.index % 7) / 7 * len(x) / 6
        marks = np.isin(np.arange(len(x)), np.unique(np.minimum(np.rint(at), len(x) - 1).astype(int)))
    ax.fill_between(
        x, low, high, where=np.isfinite(low) & np.isfinite(high), color=style.color, alpha=0.13, linewidth=0, zorder=2,
        gid=f"curve-{style.index}-band",
    )  # fmt: skip
    which = np.flatnonzero(marks).tolist()
    ax.plot(x, median, **style.line, markevery=which or [], zorder=3, gid=f"curve-{style.index}-line")


def _thin(count: int) -> np.ndarray:
    """Which of a curve's points to draw, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))


def _gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))


def _log_axis(axis: Axis, which: str) -> None:
    """Make an axis logarithmic, with ticks that people read: powers of ten, or plain numbers over a short range."""
    ax = axis.axes
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = sorted(float(v) for v in axis.get_view_interval())
    decades = np.log10(high / low)
    axis.set_minor_locator(NullLocator())
    if decades < 1:
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))
    elif decades < 2.5:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))
    else:
        axis.set_major_locator(LogLocator(numticks=8))
        plain = low > 5e-4 and high < 2e4
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if plain else _power_of_ten(v)))


def _power_of_ten(value: float) -> str:
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _time(value: float, _: int) -> str:
    """A duration at a tick: 20 µs, 0.5 ms, 3 s."""
    unit, name = next(((u, n) for u, n in ((1.0, "s"), (1e-3, "ms")) if value >= 0.9999 * u), (1e-6, "µs"))
    return f"{value / unit:.4g} {name}"


def _symbols(ax: Axes, names: dict[str, str]) -> None:
    """A legend of `SPEED_MARKS` below the axes."""
    handles = [Line2D([], [], linestyle="none", **MARK | SPEED_MARKS[column][2]) for column in names.values()]
    ax.legend(
        handles, list(names), loc="upper left", bbox_to_anchor=(0.0, -0.52 / (ax.bbox.height / ax.figure.dpi)), ncols=3,
        frameon=False, fontsize=9.5, borderaxespad=0.0, handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip


def _note(ax: Axes, text: str) -> None:
    """Say why there is nothing to see."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def _legend(ax: Axes, styles: dict[str, Style], symbols: dict[str, Line2D] | None = None) -> None:
    """A legend beside the axes, where it hides no data."""
    handles = [Line2D([], [], **style.line) for style in styles.values()] + list((symbols or {}).values())
    # matplotlib leaves out names that begin with an underscore, unless something invisible stands before it
    labels = [shorten(name, 40) for name in [*styles, *(symbols or {})]]
    labels = [f"\u200b{name}" if name.startswith("_") else name for name in labels]
    legend = ax.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, borderaxespad=0.0,
        handlelength=3.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
