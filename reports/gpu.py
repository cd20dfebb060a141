"""Tables and figures of a comparison of a GPU with the CPU, from the figures that `benchmarks.gpu` left in the store.

Figures are rows of `optbench.results.GPU_COLUMNS`. Of every GPU the newest figures of each section are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import style
from .tables import NEVER, number

if TYPE_CHECKING:
    from .book import Book, Picture

PRECISIONS = ("float64", "float32")
FEW = 6  # problems that a sentence names
# what a problem grows in -> what its size is called
GROWTH = {"d": "number of parameters d", "n": "number of samples n", "runs": "number of runs at once"}


class Table(NamedTuple):
    """A table for the page: its title, a sentence on how to read it, the heading and the lines, all text."""

    title: str
    reading: str
    heading: list[str]
    lines: list[list[str]]


def machines(figures: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every GPU its name, the processor beside it, the day, and its tables."""
    found = []
    for machine, rows in figures.groupby("machine", sort=True):
        rows = rows[rows["measurement"] == rows.groupby("section")["measurement"].transform("max")]
        made = [make(rows[rows["section"] == section]) for section, make in _TABLES.items()]
        found.append(
            {
                "machine": str(machine),
                "processor": " / ".join(sorted(set(rows["processor"]))),
                "day": " / ".join(sorted({str(created)[:10] for created in rows["created"]})),
                "tables": [table for table in made if table.lines],
            }
        )
    return found


def section(book: Book, figures: pd.DataFrame) -> list[dict[str, Any]]:
    """What `machines` finds, and of every GPU its `pictures`."""
    if figures.empty:  # without columns too
        return []
    found = machines(figures)
    for place, machine in enumerate(found, start=1):
        rows = times(figures[figures["machine"] == machine["machine"]])
        machine["pictures"] = _pictures(book, f"gpu-{place}", machine["machine"], rows)
    return found


def times(figures: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a step on both sides, by size, from the newest figures of each GPU; only where both could be measured.

    Returns
    -------
    DataFrame
        One row a machine (GPU), case, precision and size: machine, processor, case, precision, grows (what the size is: d,
        n or runs), size, cpu, gpu (medians over repeats, in seconds), ratio (cpu / gpu: above 1 the GPU takes less time).
    """
    names = ["machine", "processor", "case", "precision", "grows", "size", "cpu", "gpu", "ratio"]
    rows = figures[(figures["section"] == "sizes") & figures["value"].notna()]
    rows = rows[rows["measurement"] == rows.groupby("machine")["measurement"].transform("max")]
    if rows.empty:
        return pd.DataFrame(columns=names)
    rows = rows.assign(grows=rows["note"].str.partition(";")[0])
    of = rows.groupby([*names[:6], "contender"], sort=True)["value"].median().rename("seconds").reset_index("contender")
    sides = (of.loc[of["contender"] == side, "seconds"].rename(side) for side in ("cpu", "gpu"))
    both = pd.concat(sides, axis=1, join="inner").sort_index().reset_index()
    both["ratio"] = both["cpu"] / both["gpu"]
    return both[names]


def crossover(
    times: pd.DataFrame,
    grows: str,
    precision: str = "float64",
    ax: Axes | None = None,
    *,
    styles: Mapping[str, style.Style] | None = None,
) -> Axes:
    """How many times less time a step takes the GPU than one core of the CPU, against the size; at 1 they are level.

    A ring marks the size from which on the GPU takes less time, see `crossing`: no ring, no crossing between the sizes that
    were measured. Where there are many problems, those with the largest ratios are drawn in colour.

    Parameters
    ----------
    times : DataFrame
        See `times`, of one GPU.
    grows : {"d", "n", "runs"}
        What the problems to be drawn grow in.
    precision : {"float64", "float32"}
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    styles : mapping of str to style.Style, optional
        How the cases look.
    """
    ax = style.axes(ax)
    rows = times[(times["grows"] == grows) & (times["precision"] == precision)]
    looks = styles or case_styles(times)
    best = rows.groupby("case", sort=True)["ratio"].max().sort_values(ascending=False, kind="stable")
    leading = list(best.index[: style.EMPHASIS])
    ends = []
    for case, part in rows.groupby("case", sort=True):
        part = part.sort_values("size")
        sizes, ratios = part["size"].to_numpy(dtype=float), part["ratio"].to_numpy(dtype=float)
        look = looks[str(case)]
        rest = case not in leading
        style.line(ax, look, sizes, ratios, marks=np.ones(len(sizes), dtype=bool), rest=rest)
        if not rest:
            ends.append((float(ratios[-1]), str(case), look))
            start = crossing(sizes, ratios)
            if sizes[0] < start < np.inf:
                ax.plot(
                    start, 1.0, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=look.color,
                    markeredgewidth=1.4, linestyle="none", zorder=4, gid=f"curve-{look.index}-crossing",
                )  # fmt: skip
    style.title(ax, f"CPU time / GPU time, {precision}")
    ax.set_xlabel(GROWTH.get(grows, grows))
    ax.set_ylabel("times faster on the GPU")
    if rows.empty:
        style.note(ax, "Nothing was measured on both sides")
        return ax
    style.log_axis(ax.xaxis, "x")
    ax.axhline(1.0, color=style.INK, linewidth=0.9, zorder=1)
    ax.set_yscale("log")
    low, high = ax.get_ylim()  # with both sides of 1, so that it is plain who is ahead
    ax.set_ylim(min(low, 0.7), max(high, 1.4))
    style.log_axis(ax.yaxis, "y")
    style.end_names(ax, ends, width=15, others=len(best) - len(ends))
    return ax


def case_styles(times: pd.DataFrame, first: int = 0) -> dict[str, style.Style]:
    """A style for every case, numbered from `first`."""
    return {
        case: style.Style(
            first + k,
            style.PALETTE[k % len(style.PALETTE)],
            style.DASHES[k % len(style.DASHES)],
            style.MARKERS[k % len(style.MARKERS)],
        )
        for k, case in enumerate(sorted(set(times["case"])))
    }


def _pictures(book: Book, anchor: str, machine: str, times: pd.DataFrame) -> list[tuple[Picture, str]]:
    """Figures of `crossover` of one GPU, each with what it says in words."""
    # cases are picked out on the page like entrants, and so have numbers that no entrant has
    looks = case_styles(times, first=max(book.names, default=-1) + 1)
    book.names.update({look.index: style.clean(case) for case, look in looks.items()})
    made = []
    for grows in [name for name in GROWTH if name in set(times["grows"])]:
        for precision in [p for p in PRECISIONS if p in set(times.loc[times["grows"] == grows, "precision"])]:
            rows = times[(times["grows"] == grows) & (times["precision"] == precision)]
            said = _said(rows)
            label = (
                f"How many times faster a step is on {machine} than on one core of the CPU, by {GROWTH[grows]}, "
                f"{precision}. {said}"
            )
            drawn = style.figure(crossover, times, grows, precision, styles=looks)
            made.append((book.picture(f"{anchor}-{grows}-{precision}", drawn, label, rows), said))
    return made


def _said(rows: pd.DataFrame) -> str:
    """Where the GPU takes over, in words; of what was measured, and nothing beyond."""
    from_start, later, never = [], [], []
    for case, part in rows.groupby("case", sort=True):
        part = part.sort_values("size")
        start = crossing(part["size"].to_numpy(dtype=float), part["ratio"].to_numpy(dtype=float))
        smallest, largest = part["size"].iloc[[0, -1]]
        if np.isinf(start):
            never.append(f"{case} (up to {number(largest)})")
        elif start == smallest:
            from_start.append(f"{case} (from {number(smallest)})")
        else:
            later.append((start, f"from about {number(float(f'{start:.2g}'))} on {case}"))
    crossed = [text for _, text in sorted(later)]
    if len(crossed) > FEW:
        crossed = [f"{crossed[0]} to {crossed[-1].removeprefix('from ')}, {len(crossed)} problems in all"]
    said = [
        f"The GPU takes less time {'; '.join(crossed)}." if later else "",
        f"{'It' if later else 'The GPU'} takes less time at every size that was measured on {_few(from_start)}."
        if from_start
        else "",
        f"At the largest size that was measured the CPU takes less time on {_few(never)}." if never else "",
    ]
    return " ".join(filter(None, said))


def _few(names: Sequence[str]) -> str:
    return "; ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def crossing(sizes: Sequence[float], ratios: Sequence[float]) -> float:
    """Size from which on a ratio stays at 1 or above; sizes ascending.

    Between the last size at which it is below 1 and the next, the logarithm of the ratio is taken to be a straight line
    over that of the size. The smallest size if it is never below 1, infinity if it is below 1 at the largest; NaN without
    sizes.
    """
    if not len(sizes):
        return float("nan")
    below = np.flatnonzero(np.asarray(ratios, dtype=float) < 1)
    if not len(below):
        return float(sizes[0])
    k = int(below[-1])
    if k == len(sizes) - 1:
        return float("inf")
    (x0, x1), (y0, y1) = np.log(sizes[k : k + 2]), np.log(ratios[k : k + 2])
    return float(np.exp(x0 - y0 * (x1 - x0) / (y1 - y0)))


def _curves(rows: pd.DataFrame) -> Table:
    ways = [(precision, who) for precision in PRECISIONS for who in ("gpu", "gpu fused")] + [("float32", "cpu")]
    lines = []
    for case, part in rows.groupby("case", sort=False):
        cells = []
        for precision, contender in ways:
            its = part[(part["precision"] == precision) & (part["contender"] == contender)]
            out, share = (its[its["quantity"] == quantity] for quantity in ("first step out", "share of envelope"))
            if out.empty or share.empty:
                cells.append("")
                continue
            step, used = out["value"].iloc[0], float(share["value"].iloc[0])
            text = f"step {step:.0f}" if pd.notna(step) else f"never {out['note'].iloc[0]!s}"
            cells.append(f"{text} ({'not finite' if np.isinf(used) else number(used)})")
        lines.append([str(case), *cells])
    return Table(
        "The same curves?",
        "The first step at which a run leaves the envelope that rounding explains, and in brackets the largest share of "
        "the envelope that was used, above 1 outside it. The envelope is measured: sixteen times the largest deviation of "
        "eight runs on the CPU that are off by one rounding at every step. The CPU in float32 stands beside it as a "
        "yardstick; a line search may take another turn on either.",
        ["problem and method", *(f"{contender}, {precision}" for precision, contender in ways)],
        lines,
    )


def _steps(rows: pd.DataFrame) -> Table:
    values = rows.groupby(["case", "size", "precision", "contender"])["value"].median()
    lines = []
    for case in [c for c in dict.fromkeys(rows["case"]) if c != "copy"]:
        for size in sorted(set(rows.loc[rows["case"] == case, "size"])):
            cells = []
            for precision in PRECISIONS:
                copy = values.get(("copy", size, precision, "copy"), np.nan)
                cells.append(number(copy / 1e9))
                for text in ("fused", "plain"):
                    value = values.get((case, size, precision, text), np.nan)
                    cells.append(number(value / 1e9) + (f" ({value / copy:.2f})" if value / copy > 0 else ""))
            lines.append([str(case), number(float(size)), *cells])
    return Table(
        "The update of a rule against a copy",
        "10^9 bytes a second that the arrays of the rule take to be read and written once, in brackets as a share of what "
        "a copy on the device reaches; 1 is as fast as memory allows. Plain is the rule as it is written, which reads and "
        "writes more than once.",
        ["rule", "numbers", *(f"{who}, {precision}" for precision in PRECISIONS for who in ("copy", "fused", "plain"))],
        lines,
    )


def _sweeps(rows: pd.DataFrame) -> Table:
    values = rows.groupby(["case", "precision", "contender", "quantity"])["value"].median()
    lines = []
    for (case, precision), part in rows.groupby(["case", "precision"], sort=False):

        def of(contender: str, quantity: str = "seconds", of: tuple[Any, Any] = (case, precision)) -> float:
            return float(values.get((*of, contender, quantity), np.nan))

        cpu, gpu, jax = (of(contender) for contender in ("cpu", "gpu", "jax on gpu"))
        apart = max((of(who, "deviation after 20 steps") for who in ("gpu", "jax on gpu")), key=lambda v: (v == v, v))
        ran = part.loc[part["note"].str.endswith(" steps"), "note"]
        lines.append(
            [
                f"{case}, {int(part['size'].iloc[0])} runs, {ran.iloc[0] if len(ran) else ''}",
                str(precision),
                *(number(seconds) for seconds in (cpu, gpu, jax)),
                number(cpu / gpu),
                number(jax / gpu),
                number(apart),
                number(of("gpu", "peak bytes of the pool") / 2**20),
            ]
        )
    return Table(
        "Whole sweeps",
        "Seconds of a whole sweep, tables included, on one core of the CPU, on the GPU and by JAX on the same GPU "
        "(gradients by hand, compile time aside; a dash where it is not there). Ratios above 1 mean that optbench on the "
        "GPU is ahead. Beside them the largest relative difference from the CPU's iterates after 20 steps, and the most "
        "that the memory pool of the GPU held, in MiB.",
        ["sweep", "precision", "cpu", "gpu", "jax on gpu", "cpu / gpu", "jax / gpu", "difference", "pool, MiB"],
        lines,
    )


def _sizes(rows: pd.DataFrame) -> Table:
    medians = rows.groupby(["case", "precision", "contender", "size"])["value"].median()
    lines = []
    for case, part in rows.groupby("case", sort=False):
        cells = []
        for precision in PRECISIONS:
            key = (case, precision)
            try:
                pair = pd.concat([medians[(*key, "cpu")], medians[(*key, "gpu")]], axis=1, keys=["cpu", "gpu"]).dropna()
            except KeyError:  # it could not be measured at any size
                cells += [NEVER, NEVER]
                continue
            sizes, ratios = pair.index.to_numpy(dtype=float), (pair["cpu"] / pair["gpu"]).to_numpy()
            start = crossing(sizes, ratios)
            if not len(sizes):
                cells += [NEVER, NEVER]
                continue
            if np.isinf(start):
                cells.append(f"not up to {number(sizes[-1])}")
            else:
                cells.append(f"{'at most ' if start == sizes[0] else ''}{number(float(f'{start:.2g}'))}")
            cells.append(f"{number(ratios[-1])} at {number(sizes[-1])}")
        lines.append([str(case), str(part["note"].iloc[0]).partition(";")[0], *cells])
    return Table(
        "From which size on",
        "The size from which on a step of momentum, oracle included, takes the GPU less time than one core of the CPU, and "
        "how many times faster the GPU is at the largest size that was tried. The size is the number of parameters d, of "
        "samples n (100 runs at once in both), or the number of runs. Between measured sizes it is interpolated.",
        ["problem", "size", *(f"{what}, {p}" for p in PRECISIONS for what in ("GPU wins from", "times faster"))],
        lines,
    )


_TABLES = {"curves": _curves, "steps": _steps, "sweeps": _sweeps, "sizes": _sizes}
