"""The value of a run against oracle calls, and the rates that theory guarantees."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from optbench.analysis import metrics, statistics
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .lines import CALLS_LABEL, draw_lines, gap_floor
from .selection import as_runs, description_of, one_problem
from .style import INK


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

    Lines are medians over seeds, bands reach from the lower to the upper quartile. The gap f - f* is drawn where the
    optimum is known, else the objective f. Gaps below what rounding can resolve are drawn at that floor, what rises above
    100 times the start at that ceiling. The best methods are drawn in colour and named at the end of their lines, the
    others in grey.

    Parameters
    ----------
    runs : Runs or DataFrame
        Results, or `Runs.curves` or a part of it, which may lack what the curves do not hold.
    problem : str, optional
        Which problem; may be left out where the results have only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    value : {"best", "f"}
        The smallest value so far, or that of the last iterate.
    emphasis : int
        How many methods are drawn in colour.
    guides : bool
        Whether to draw what theory guarantees where the problem is strongly convex: see `rates`.
    styles : style.Styles, optional
        How methods look, by default as `style.method_styles` of these results has it.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    runs = as_runs(runs)
    problem, part = one_problem(runs, problem)
    styles = styles or style.method_styles(runs)
    ax = style.axes(ax)
    curves = metrics.bands(part, value)
    gap, floor = gap_floor(part)
    # what rises far above the start is drawn at a ceiling: how far it rose before it overflowed says nothing
    starts = curves.loc[curves["t"] == 0, "median"].to_numpy(dtype=float)
    start = np.abs(starts).max(initial=0.0, where=np.isfinite(starts))
    ceiling = 100 * start if start > max(floor, 0.0) else np.inf
    style.title(ax, f"{'Smallest so far' if value == 'best' else 'Last iterate'}: {shorten(problem, 44)}")
    ax.set_xlabel(CALLS_LABEL)
    what = "gap f − f*" if gap else "objective f"
    ax.set_ylabel(f"{what}, {'smallest so far' if value == 'best' else 'at the iterate'}")
    below = functools.partial(_guides, ax, part, floor) if guides and gap else lambda: None
    return draw_lines(ax, part, curves, "calls", ceiling=ceiling, emphasis=emphasis, styles=styles, guides=below)


def rates(part: Runs) -> pd.DataFrame:
    """What theory guarantees on a strongly convex problem with exact gradients, at the checkpoints of its longest run.

    Gradient descent with step 1/L: f_t - f* <= (1 - mu/L)^t (f_0 - f*), by f_{t+1} <= f_t - |g_t|^2 / (2 L) and
    |g|^2 >= 2 mu (f - f*). Nesterov's method with constant momentum (sqrt(k) - 1) / (sqrt(k) + 1), k = L/mu:
    f_t - f* <= 2 (1 - sqrt(mu/L))^t (f_0 - f*) (Nesterov, Lectures on Convex Optimization, 2nd ed. (2018), Theorem
    2.2.3, with mu/2 |x_0 - x*|^2 <= f_0 - f*). The start is the median over seeds.

    Returns
    -------
    DataFrame
        rate (its name), t, calls, bound; empty where L, mu or the optimum are not known, or no run had exact gradients.
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


def _guides(ax: Axes, part: Runs, floor: float) -> None:
    """Draw `rates` as far as the curves reach."""
    low = ax.dataLim.y0
    for number, (name, curve) in enumerate(rates(part).groupby("rate", sort=True)):
        curve = curve[curve["bound"] >= max(floor, low, np.finfo(float).tiny)]
        if len(curve) < 2:
            continue
        ax.plot(
            curve["calls"],
            curve["bound"],
            color=INK,
            linewidth=1.0,
            dashes=((6, 3), (1.5, 2))[number],
            zorder=1,
            alpha=0.75,
            gid=f"guide-{number}",
        )
        ax.annotate(
            str(name), (curve["calls"].iloc[-1], curve["bound"].iloc[-1]), (-4, 4), textcoords="offset points", ha="right",
            fontsize=8.5, color=INK, zorder=5, annotation_clip=True,
        )  # fmt: skip
