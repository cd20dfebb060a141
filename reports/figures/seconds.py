"""Convergence in seconds: curves in oracle calls times the seconds a call took in a race."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from optbench.analysis import metrics, timing
from optbench.core.errors import InputError
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .lines import draw_lines, gap_floor
from .selection import one_problem


def seconds_of(runs: Runs, races: pd.DataFrame) -> pd.DataFrame:
    """Convergence in seconds: the curves of methods that raced too, oracle calls times seconds a call.

    A method and its race are matched as `optbench.analysis.timing.seconds_to_target` does. Where an update rule raced both
    fused and as written, the fused one is taken.

    Parameters
    ----------
    runs : Runs
    races : DataFrame
        As `optbench.results.store.Store.load_races` returns them.

    Returns
    -------
    DataFrame
        One row a problem, method, machine and checkpoint: problem, method, machine, backend, precision, fused, race,
        disturbed (whether the race may have been), seconds_per_call (median over rounds), calls, seconds, and median, low,
        high and gap of the smallest value so far, see `optbench.metrics.bands`.
    """
    who = ["problem", "method", "machine", "backend", "precision"]
    rates = timing.seconds_to_target(runs, races).sort_values("fused", ascending=False, kind="stable")
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
        As `optbench.results.store.Store.load_races` returns them.
    machine : str, optional
        Which machine, or GPU; may be left out where the methods raced on only one.

    The other parameters are those of `convergence`; drawn in colour are the best of the methods of the problem.

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
    return draw(part, table[table["machine"] == machine], problem, style.axes(ax), emphasis, styles)


def draw(part: Runs, table: pd.DataFrame, problem: str, ax: Axes, emphasis: int, styles: style.Styles | None) -> Axes:
    """`convergence_seconds` of the rows of `seconds_of` of one machine."""
    styles = styles or style.method_styles(part)
    style.title(ax, f"In seconds: {shorten(problem, 48)}")
    ax.set_xlabel("time of a single run (units at the ticks)")
    ax.set_ylabel(f"{'gap f − f*' if gap_floor(part)[0] else 'objective f'}, smallest so far")
    draw_lines(ax, part, table, "seconds", emphasis=emphasis, styles=styles)
    if len(ax.lines):
        ax.xaxis.set_major_formatter(FuncFormatter(style.duration_tick))
    return ax
