"""Speed: the section of the page that has seconds, all of them from races, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from optbench.analysis import metrics, tuning
from optbench.analysis import timing as seconds
from optbench.analysis.timing import standing_races
from optbench.core.errors import InputError
from optbench.results.runs import Runs

from . import steps, style, tables
from .book import Book, Picture
from .figures import gap_floor, lines_of, one_problem, value_axis

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = {"markersize": 6, "markeredgewidth": 1.4}
# what is drawn of a step's time -> the columns of its interval, and its look
SPEED_MARKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "oracle_seconds": (
        "",
        "",
        {"marker": "D", "markersize": 6.5, "markerfacecolor": style.PAPER, "markeredgecolor": style.PALETTE[1]},
    ),
    "optimizer_seconds": (
        "optimizer_low",
        "optimizer_high",
        {"marker": "s", "markersize": 8, "markerfacecolor": style.PAPER, "markeredgecolor": style.PALETTE[2]},
    ),
    "seconds": (
        "seconds_low",
        "seconds_high",
        {"marker": "o", "markerfacecolor": style.PALETTE[0], "markeredgecolor": style.PALETTE[0]},
    ),
}


def speed(races: pd.DataFrame, problem: str | None = None, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """How long a step takes, configuration by configuration in the order of a race, and how much of it is the oracle's.

    A disc is the median time of a whole step, a diamond that of its oracle call, a square that of the rest, which is the
    optimizer's; lines are 95 % intervals. Where the rest is not above zero, it is too short to be told, and not drawn.

    Parameters
    ----------
    races : DataFrame
        One row a round and configuration, as `optbench.store.Store.load_races` returns them.
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
    ax = style.axes(ax)
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
    style.log_axis(ax.xaxis, "x")
    ax.xaxis.set_major_formatter(FuncFormatter(style.duration_tick))
    words = table["disturbed"].map({True: " – disturbed", False: ""}) + table["finite"].map(
        {True: "", False: " – diverged"}
    )
    names = [style.shorten(name, 44) + word for name, word in zip(table["configuration"], words, strict=True)]
    ax.set_yticks(rows - 0.2, names)
    ax.tick_params("y", length=0, pad=-4)
    for label in ax.get_yticklabels():  # above the marks, so that long names have room
        label.set(ha="left", va="bottom", parse_math=False)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(table) - 0.5, -0.8)
    style.title(ax, f"Time a step: {style.shorten(problem, 32)}")
    ax.set_xlabel("time a step (units at the ticks; logarithmic)")
    ax.set_ylabel("configuration")
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


def figure_of(races: pd.DataFrame, problem: str) -> Figure:
    """A figure of its own of `speed`, as high as its rows need; pyplot knows nothing of it."""
    rows = races.loc[races["problem"] == problem, "place"].nunique()
    above, row, below = 0.4, 0.44, 0.85  # inches
    height = above + row * (rows + 0.3) + below
    with style.theme():
        made = Figure(figsize=(5.4, height))
        speed(races, problem, made.add_axes((0.06, below / height, 0.91, 1 - (above + below) / height)))
    return made


def _symbols(ax: Axes, names: dict[str, str]) -> None:
    """A legend of `SPEED_MARKS` below the axes."""
    handles = [Line2D([], [], linestyle="none", **MARK | SPEED_MARKS[column][2]) for column in names.values()]
    ax.legend(
        handles, list(names), loc="upper left", bbox_to_anchor=(0.0, -0.52 / (ax.bbox.height / ax.figure.dpi)), ncols=3,
        frameon=False, fontsize=9.5, borderaxespad=0.0, handletextpad=0.2, columnspacing=1.6,
    )  # fmt: skip


@dataclass(frozen=True)
class SecondsPicture(Picture):
    """A figure of `convergence_seconds` on the page.

    Attributes
    ----------
    told : str
        What it shows and leaves out, for its caption.
    """

    told: str


def seconds_of(runs: Runs, races: pd.DataFrame) -> pd.DataFrame:
    """Convergence in seconds: the curves of methods that raced too, oracle calls times seconds a call.

    A method and its race are matched as `optbench.seconds.seconds_to_target` does. Where an update rule raced both fused
    and as written, the fused one is taken.

    Parameters
    ----------
    runs : Runs
    races : DataFrame
        As `optbench.store.Store.load_races` returns them.

    Returns
    -------
    DataFrame
        One row a problem, method, machine and checkpoint: problem, method, machine, backend, precision, fused, race,
        disturbed (whether the race may have been), seconds_per_call (median over rounds), calls, seconds, and median, low,
        high and gap of the smallest value so far, see `optbench.metrics.bands`.
    """
    who = ["problem", "method", "machine", "backend", "precision"]
    rates = seconds.seconds_to_target(runs, races).sort_values("fused", ascending=False, kind="stable")
    rates = rates.drop_duplicates(who)[[*who, "fused", "race", "disturbed", "seconds_per_call"]]
    curves = metrics.bands(runs)[["problem", "method", "calls", "median", "low", "high", "gap"]]
    table = rates.merge(curves, on=["problem", "method"])
    table.insert(table.columns.get_loc("calls") + 1, "seconds", table["calls"] * table["seconds_per_call"])
    return table.sort_values([*who, "calls"], ignore_index=True)


def convergence_seconds(
    runs: Runs,
    races: pd.DataFrame,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    machine: str | None = None,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Smallest gap (or objective) so far against seconds: `reports.convergence` for the methods that raced too.

    Parameters
    ----------
    runs : Runs
    races : DataFrame
        As `optbench.store.Store.load_races` returns them.
    problem : str, optional
        Which problem; may be left out where the results have only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    machine : str, optional
        Which machine, or GPU; may be left out where the methods raced on only one.
    emphasis : int
        How many methods are drawn in colour, the best of those of the problem.
    styles : style.Styles, optional
        How methods look, by default as `style.method_styles` of these results has it.

    Raises
    ------
    InputError
        If the results do not have the problem, or no method of it raced (there), or a choice is needed and none is made.
    """
    problem, part = one_problem(runs, problem)
    table = seconds_of(part, races)
    known = sorted(set(table["machine"]))
    if machine is None and len(known) == 1:
        machine = known[0]
    if machine is None or machine not in known:
        there = f"there are races on {', '.join(known)}" if known else "no method with runs on it raced"
        raise InputError(
            f"{f'no seconds on {problem!r}' if machine is None else f'no race on machine {machine!r}'}; {there}"
        )
    return _seconds(part, table[table["machine"] == machine], problem, style.axes(ax), emphasis, styles)


def _seconds(
    part: Runs, table: pd.DataFrame, problem: str, ax: Axes, emphasis: int, styles: style.Styles | None
) -> Axes:
    """`convergence_seconds` of the rows of `seconds_of` of one machine."""
    styles = styles or style.method_styles(part)
    gap, floor = gap_floor(part)
    drawn = lines_of(table, "seconds", floor)
    style.title(ax, f"In seconds: {style.shorten(problem, 48)}")
    ax.set_xlabel("time of a single run (units at the ticks)")
    ax.set_ylabel(f"{'gap f − f*' if gap else 'objective f'}, smallest so far")
    if not drawn:
        style.note(ax, "No run has a finite value to draw")
        return ax
    leading = [method for method in tuning.ranked(part)[problem] if method in drawn][:emphasis]
    for method, (x, median, low, high) in drawn.items():
        style.line(ax, styles[method], x, median, low, high, rest=method not in leading)
    style.log_axis(ax.xaxis, "x")
    ax.xaxis.set_major_formatter(FuncFormatter(style.duration_tick))
    value_axis(ax, drawn, gap, floor)
    ends = [(float(drawn[m][1][-1]), m, styles[m]) for m in leading]
    style.end_names(ax, ends, others=len(drawn) - len(ends))
    return ax


def seconds_picture(book: Book, problem: str) -> SecondsPicture | None:
    """The figure of `convergence_seconds` of a problem for the page; None where no method with runs on it raced.

    Where methods raced on several machines, that with the most methods is shown.
    """
    part = book.parts[problem]
    if book.races.empty or not set(part.rows["problem_name"]) & set(book.races["problem_name"]):
        return None
    every = seconds_of(part, book.races)
    if every.empty:
        return None
    count = every.groupby("machine", sort=True)["method"].nunique()
    machine = str(count.idxmax())
    table = every[every["machine"] == machine]
    rates = table.drop_duplicates("method")
    made = style.figure(_drawn, part, table, problem, book.styles)
    methods = sorted(set(table["method"]))
    absent = sorted(set(part.rows["method"]) - set(methods))
    facts = [f"Seconds a call are those of races on {machine}"]
    if len(count) > 1:
        facts.append(f"raced also on {', '.join(name for name in count.index if name != machine)}, not drawn here")
    told = f"{'; '.join(facts)}."
    if rates["disturbed"].any():
        told += f" Disturbed: {_some(rates.loc[rates['disturbed'], 'method'])}."
    if absent:
        told += f" Without a race: {_some(absent)}."
    best = next(m for m in tuning.ranked(part)[problem] if m in methods)
    label = (
        f"Convergence on {problem} in seconds on {machine}: one line for each of {len(methods)} methods that raced. Best "
        f"of them in oracle calls: {best}."
    )
    drawn = book.picture(f"{book.anchors[problem]}-seconds", made, label, _rates(every))
    return SecondsPicture(drawn.svg, drawn.table, told)


def _drawn(part: Runs, table: pd.DataFrame, problem: str, styles: style.Styles, ax: Axes) -> None:
    _seconds(part, table, problem, style.axes(ax), style.EMPHASIS, styles)


def _rates(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds a call by method and machine: with the curves in oracle calls, which have a table of their own, all of it."""
    held = ["problem", "method", "machine", "backend", "precision", "fused", "race", "disturbed", "seconds_per_call"]
    return table[held].drop_duplicates(ignore_index=True)


def _some(names: Iterable[str], most: int = 8) -> str:
    """Names as text, not more than a caption holds."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def section(book: Book) -> dict[str, Any] | None:
    """What the races say in seconds; None where there are none."""
    runs, races = book.runs, book.races
    if races.empty:
        return None
    standing = standing_races(races)
    reached = tables.seconds_table(runs, races)
    goals = [name for name in reached.columns if name.startswith("to ") and not name.endswith("95 %")]
    shown = ["machine", "update", "backend", "precision"]
    told = [name for name in shown if len(set(reached[name])) > 1]
    by_race = sorted(
        (part for _, part in standing.groupby("race")), key=lambda part: part["race"].iloc[0], reverse=True
    )
    return {
        "steps": steps.section(book),
        "races": [_race(book, number, part) for number, part in enumerate(by_race, start=1)],
        "left_out": races["race"].nunique() - len(by_race),
        "goals": goals,
        "told": told,
        "same": [
            ", ".join(map(str, dict.fromkeys(reached[name]))) for name in shown if name not in told and len(reached)
        ],
        "reached": reached.to_dict("records"),
        "without": _without_seconds(runs, races, reached),
    }


def _race(book: Book, number: int, rows: pd.DataFrame) -> dict[str, Any]:
    """One race's part of the page."""
    rows = rows.sort_values(["round", "place"])
    table = tables.speed_table(rows)
    figure = {}
    for place, problem in enumerate(dict.fromkeys(table["problem"]), start=1):
        its = table[table["problem"] == problem]
        label = (
            f"Time a step on {problem}, median of {rows['round'].nunique()} rounds; of it the oracle's part: "
            + "; ".join(
                f"{line['configuration']} {line['a step']}, {line['oracle']}" for line in its.to_dict("records")
            )
        )
        figure[problem] = book.picture(f"race-{number}-{place}", figure_of(rows, problem), label, table=its)
    first = rows.iloc[0]
    before, after = (
        tables.NEVER if pd.isna(first[name]) else f"{first[name]:.2f}" for name in ("load_before", "load_after")
    )
    core = "not pinned to a core" if pd.isna(first["core"]) else f"pinned to core {first['core']}"
    steps = " and ".join(map(str, sorted(set(rows["steps"]))))
    return {
        "held": f"{first['created'][:19].replace('T', ' ')} UTC",
        "facts": [
            ("machine", f"{first['machine']}, {first['cores']} cores; {core}, one thread"),
            ("load average", f"{before} in the minute before, {after} at its end (the race itself is 1)"),
            ("arrays", f"{tables.several(rows['backend'])}, {tables.several(rows['precision'])}"),
            ("held", f"{rows['round'].nunique()} rounds of {steps} steps, after a warm-up"),
        ],
        "disturbed": bool((table["reason"] != "").any()),
        "figures": figure,
        "groups": [(problem, part.to_dict("records")) for problem, part in table.groupby("problem", sort=False)],
    }


def _without_seconds(runs: Runs, races: pd.DataFrame, reached: pd.DataFrame) -> list[str]:
    """What the table of seconds to target leaves out, and why."""
    said = []
    there = set(zip(reached["problem"], reached["method"], strict=True))
    for problem, rows in runs.rows.groupby("problem", sort=True):
        methods = sorted(set(rows["method"]))
        if rows["f_star"].isna().all():
            said.append(f"On {problem} there are no targets: its optimal value is not known.")
            continue
        absent = [method for method in methods if (problem, method) not in there]
        if len(absent) == len(methods):
            said.append(f"On {problem} there was no race of any method.")
        elif absent:
            said.append(f"On {problem} there was no race of: {'; '.join(absent)}.")
    ran = set(zip(runs.rows["problem_name"], runs.rows["problem_params"], strict=True))
    raced = set(zip(races["problem"], races["problem_name"], races["problem_params"], strict=True))
    only = sorted(problem for problem, *what in raced if tuple(what) not in ran)
    if only:
        said.append(f"Of {'; '.join(only)} there are races, but no runs that tell how many steps it takes.")
    return said
