"""Gap or objective against oracle calls and against seconds, with the rates that theory guarantees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import metrics, statistics, timing, tuning
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .selection import as_runs, description_of, gap_floor, one_of, one_problem, value_name
from .style import INK

CALLS_LABEL = "oracle calls (1 = full value and gradient)"


def convergence(
    runs: Runs | pd.DataFrame,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    value: str = "best",
    emphasis: int = style.EMPHASIS,
    guides: bool = True,
    styles: style.Styles | None = None,
) -> Axes:
    """Smallest gap (or objective) so far against oracle calls, each method at its best settings.

    Lower and further left is better. Lines are medians over seeds, bands reach from the lower to the upper quartile. The
    gap f - f* is drawn if the optimum is known, else the objective f. Values are clipped to the gap that rounding can
    resolve and to 100 times the start. The best methods have colours and names, the others are grey.

    Parameters
    ----------
    runs : Runs or DataFrame
        Results, or `Runs.curves` or a part of it.
    problem : str, optional
        Which problem; needed if the results have several.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    value : {"best", "f"}
        The smallest value so far, or the value of the iterate.
    emphasis : int
        Number of methods in colour.
    guides : bool
        Whether to draw the `rates` that theory guarantees on a strongly convex problem.
    styles : style.Styles, optional
        Styles of methods, by default `style.method_styles` of the results.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If the problem is not among the results, or none is named and there are several.

    Examples
    --------
    >>> ax = reports.convergence(runs, "rosenbrock")
    >>> ax.get_title(loc="left")
    'Smallest so far: rosenbrock'
    """
    runs = as_runs(runs)
    problem, part = one_problem(runs, problem)
    ax = style.axes(ax)
    curves = metrics.bands(part, value)
    gap, floor = gap_floor(part)
    # how far a run rises before it overflows says nothing, so values have a ceiling
    starts = curves.loc[curves["t"] == 0, "median"].to_numpy(dtype=float)
    start = np.abs(starts).max(initial=0.0, where=np.isfinite(starts))
    ceiling = 100 * start if start > max(floor, 0.0) else np.inf
    title, what = ("Smallest so far", "smallest so far") if value == "best" else ("Last iterate", "at the iterate")
    style.label(ax, f"{title}: {shorten(problem, 44)}", CALLS_LABEL, f"{value_name(part)}, {what}")
    styles = styles or style.method_styles(runs)
    return _draw(ax, part, curves, "calls", styles, emphasis, ceiling, _guides if guides and gap else None)


def seconds_of(runs: Runs, races: pd.DataFrame) -> pd.DataFrame:
    """Curves against seconds of the methods that raced: oracle calls times seconds per call.

    Methods and races are matched as in `optbench.analysis.timing.seconds_to_target`. A fused race is preferred to one of
    the same rule as written.

    Parameters
    ----------
    runs : Runs
        Results with curves.
    races : DataFrame
        As `optbench.results.store.Store.load_races` returns them.

    Returns
    -------
    DataFrame
        One row per problem, method, machine and checkpoint: problem, method, machine, backend, precision, fused, race,
        disturbed (whether the race may have been), seconds_per_call (median over rounds), calls, seconds, and the columns
        median, low, high and gap of `optbench.metrics.bands` for the smallest value so far.

    Examples
    --------
    >>> table = reports.seconds_of(runs, races)
    >>> sorted(set(table["method"])), bool((table["seconds"] > 0).all())
    (['adam', 'momentum'], True)
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
    """Smallest gap (or objective) so far against seconds: `reports.convergence` for the methods that raced.

    Parameters
    ----------
    runs : Runs
        Results with curves.
    races : DataFrame
        As in `seconds_of`.
    problem, ax : optional
        As in `convergence`.
    machine : str, optional
        Which machine or GPU; needed if the methods raced on several.
    emphasis, styles : optional
        As in `convergence`.

    Returns
    -------
    matplotlib Axes
        The axes with the figure.

    Raises
    ------
    InputError
        If the problem is not among the results, no method of it raced on the machine, or a choice is missing.

    Examples
    --------
    >>> ax = reports.convergence_seconds(runs, races, "quadratic:dim=5")
    """
    problem, part = one_problem(runs, problem)
    table = seconds_of(part, races)
    words = f"no seconds on {problem!r}", "no race on machine", "there are races on", "no method with runs on it raced"
    machine = one_of(table["machine"], machine, *words)
    styles = styles or style.method_styles(runs)
    return draw_seconds(part, table[table["machine"] == machine], problem, ax, styles, emphasis)


def draw_seconds(
    part: Runs, table: pd.DataFrame, problem: str, ax: Axes | None, styles: style.Styles, emphasis: int = style.EMPHASIS
) -> Axes:
    """`convergence_seconds` from the rows of `seconds_of` for one machine."""
    ax = style.axes(ax)
    title, x = f"In seconds: {shorten(problem, 48)}", "time of a single run (units at the ticks)"
    style.label(ax, title, x, f"{value_name(part)}, smallest so far")
    _draw(ax, part, table, "seconds", styles, emphasis)
    if len(ax.lines):
        ax.xaxis.set_major_formatter(style.duration_tick)
    return ax


def rates(part: Runs) -> pd.DataFrame:
    """Bounds of the gap that theory guarantees on a strongly convex problem with exact gradients.

    Gradient descent with step 1/L: f_t - f* <= (1 - mu/L)^t (f_0 - f*), by f_{t+1} <= f_t - |g_t|^2 / (2 L) and
    |g|^2 >= 2 mu (f - f*). Nesterov's method with constant momentum (sqrt(k) - 1) / (sqrt(k) + 1), k = L/mu:
    f_t - f* <= 2 (1 - sqrt(mu/L))^t (f_0 - f*) (Nesterov, Lectures on Convex Optimization, 2nd ed. (2018), Theorem
    2.2.3, with mu/2 |x_0 - x*|^2 <= f_0 - f*). The start is the median over seeds.

    Returns
    -------
    DataFrame
        rate (its name), t, calls, bound; empty if L, mu or the optimum are unknown, or no run has exact gradients.
    """
    rows = part.rows
    about = description_of(part)
    L, mu = about.get("smoothness"), about.get("strong_convexity")
    exact = rows[(rows["calls_per_step"] == 1) & rows["exact_targets"].eq(True) & rows["f_start"].notna()]
    columns = ["rate", "t", "calls", "bound"]
    if not L or not mu or exact.empty or not exact["f_star"].notna().all():
        return pd.DataFrame(columns=columns)
    start = statistics.median((exact["f_start"] - exact["f_star"]).to_numpy(dtype=float))
    t = np.unique(np.rint(np.geomspace(1, float(exact["end"].max()) + 1, 80) - 1).astype(int))  # (C,)
    bounds = {
        "gradient descent, step 1/L": start * (1 - mu / L) ** t,
        "Nesterov’s method": np.minimum(start, 2 * start * (1 - np.sqrt(mu / L)) ** t),
    }
    tables = [pd.DataFrame({"rate": name, "t": t, "calls": t + 1.0, "bound": bound}) for name, bound in bounds.items()]
    return pd.concat(tables, ignore_index=True)[columns]


def _draw(
    ax: Axes,
    part: Runs,
    curves: pd.DataFrame,
    x: str,
    styles: style.Styles,
    emphasis: int,
    ceiling: float = np.inf,
    guides: Callable[[Axes, Runs, float], None] | None = None,
) -> Axes:
    """Draw rows of `metrics.bands` for one problem against the column `x`, each curve as long as it is finite.

    A dotted line shows the gap that rounding can resolve.
    """
    has_gap, floor = gap_floor(part)
    lines: dict[str, tuple[np.ndarray, ...]] = {}  # method -> x, median, low, high; each of shape (points,)
    numbers = curves[[x, "median", "low", "high"]].to_numpy(dtype=float)  # (rows, 4)
    for method, rows in curves.groupby("method", sort=True).indices.items():
        columns = numbers[rows[style.thin(len(rows))]]  # (points, 4)
        finite = np.isfinite(columns[:, 1])
        columns = columns[: len(finite) if finite.all() else int(np.argmin(finite))]
        if len(columns):
            lines[str(method)] = (columns[:, 0], *np.clip(columns[:, 1:].T, floor, ceiling))
    if not lines:
        return style.note(ax, "No run has a finite value to draw")
    leading = [method for method in next(iter(tuning.ranked(part).values())) if method in lines][:emphasis]
    style.draw_lines(ax, lines, styles, leading)
    if guides:
        guides(ax, part, floor)
    medians = np.concatenate([median for _, median, *_ in lines.values()])
    style.log_axes(ax, "xy" if (medians > 0).all() else "x")
    if has_gap and (medians <= floor).any():
        ax.axhline(floor, **style.MARK)
    style.end_names(ax, lines, styles, leading)
    return ax


def _guides(ax: Axes, part: Runs, floor: float) -> None:
    """Draw `rates` down to the lowest curve."""
    low = ax.dataLim.y0
    for number, (name, curve) in enumerate(rates(part).groupby("rate", sort=True)):
        curve = curve[curve["bound"] >= max(floor, low, np.finfo(float).tiny)]
        if len(curve) < 2:
            continue
        ax.plot(
            curve["calls"], curve["bound"], color=INK, linewidth=1.0, dashes=((6, 3), (1.5, 2))[number], zorder=1,
            alpha=0.75, gid=f"guide-{number}",
        )  # fmt: skip
        end = float(curve["bound"].iloc[-1])
        side, offset = ("top", -4) if end > 100 * max(floor, low) else ("bottom", 4)  # the line falls: below it is room
        ax.annotate(
            str(name), (curve["calls"].iloc[-1], end), (-4, offset), textcoords="offset points", ha="right", va=side,
            fontsize=8.5, color=INK, zorder=5, annotation_clip=True,
        )  # fmt: skip
