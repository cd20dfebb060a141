"""Figures of one problem: functions from results to matplotlib axes.

Every number drawn here was computed by `optbench.metrics`. How things look is in `style`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from optbench import metrics
from optbench.errors import InputError
from optbench.results import Runs
from reports import style
from reports.style import MUTED, PAPER

CALLS_LABEL = "oracle calls (1 = full value and gradient)"


def convergence(
    runs: Runs,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    value: str = "best",
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Smallest gap (or objective) so far against oracle calls, each method at its best settings.

    Lines are medians over seeds, bands reach from the lower to the upper quartile. The gap f - f* is drawn where the
    optimum is known, else the objective f. Gaps below what rounding can resolve are drawn at that floor. The best methods
    are drawn in colour and named at the end of their lines, the others in grey.

    Parameters
    ----------
    problem : str, optional
        Which problem; may be left out where the results have only one.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    value : {"best", "f"}
        The smallest value so far, or that of the last iterate.
    emphasis : int
        How many methods are drawn in colour.
    styles : style.Styles, optional
        How entrants look, by default as `style.entrant_styles` of these results has it.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    problem, part = one_problem(runs, problem)
    styles = styles or style.entrant_styles(runs)
    ax = style.axes(ax)
    curves = metrics.bands(part, value)
    gap, floor = gap_floor(part)
    leading = metrics.ranked(part)[problem][:emphasis]
    drawn: dict[str, np.ndarray] = {}  # finite medians of each method
    for method, curve in curves.groupby("method", sort=True):
        curve = curve.iloc[style.thin(len(curve))]
        finite = np.isfinite(curve["median"].to_numpy(dtype=float))
        curve = curve.iloc[: len(finite) if finite.all() else int(np.argmin(finite))]  # past infinity there is no line
        if len(curve):
            calls = curve["calls"].to_numpy(dtype=float)
            low, median, high = (np.maximum(curve[q].to_numpy(dtype=float), floor) for q in ("low", "median", "high"))
            style.line(ax, styles(problem, str(method)), calls, median, low, high, rest=method not in leading)
            drawn[str(method)] = median
    what = "gap f − f*" if gap else "objective f"
    style.title(ax, f"{'Smallest so far' if value == 'best' else 'Last iterate'}: {style.shorten(problem, 44)}")
    ax.set_xlabel(CALLS_LABEL)
    ax.set_ylabel(f"{what}, {'smallest so far' if value == 'best' else 'at the iterate'}")
    if not drawn:
        style.note(ax, "No run has a finite value to draw")
        return ax
    style.log_axis(ax.xaxis, "x")
    if all((median > 0).all() for median in drawn.values()):
        style.log_axis(ax.yaxis, "y")
    if gap and any((median <= floor).any() for median in drawn.values()):
        ax.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)
    ends = [(float(drawn[m][-1]), styles.of[problem, m], styles(problem, m)) for m in leading if m in drawn]
    style.end_names(ax, ends, others=len(drawn) - len(ends))
    return ax


def sensitivity(
    runs: Runs,
    problem: str | None = None,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Smallest gap (or objective) of a run against the step size of its method.

    Lines are medians over seeds, bands reach from the lower to the upper quartile, and a ring marks the setting that
    `optbench.metrics.tuned` chooses. A hollow marker is a step size at which some seeds diverged, a cross one at which
    all did; a run that diverged counts with the value it started from. Methods without a step size do not appear.

    Parameters and errors are those of `convergence`.
    """
    problem, part = one_problem(runs, problem)
    styles = styles or style.entrant_styles(runs)
    ax = style.axes(ax)
    gap, floor = gap_floor(part)
    chosen = metrics.tuned(part).set_index("method")["step_size"]
    curves = metrics.sensitivity(part)
    curves = curves[np.isfinite(curves["median"].to_numpy(dtype=float))]
    with_size = set(curves["method"])
    leading = [method for method in metrics.ranked(part)[problem] if method in with_size][:emphasis]
    positive, ends = True, {}
    for method, curve in curves.groupby("method", sort=True):
        look = styles(problem, str(method))
        size = curve["step_size"].to_numpy(dtype=float)
        low, median, high = (np.maximum(curve[q].to_numpy(dtype=float), floor) for q in ("low", "median", "high"))
        positive = positive and bool((low > 0).all())
        lost, seeds = curve["n_diverged"].to_numpy(), curve["n_seeds"].to_numpy()
        style.line(ax, look, size, median, low, high, marks=lost == 0, rest=method not in leading)
        ends[str(method)] = float(median[-1])
        kind, color = ("curve", look.color) if method in leading else ("rest", MUTED)
        signs: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "some": ((lost > 0) & (lost < seeds), {"marker": look.marker, "markersize": 5.5, "markerfacecolor": PAPER}),
            "all": (lost == seeds, {"marker": "x", "markersize": 5.5}),
            "best": (size == chosen[method], {"marker": "o", "markersize": 11, "markerfacecolor": "none"}),
        }
        for name, (where, mark) in signs.items():
            if where.any() and (kind == "curve" or name == "all"):
                mark |= {"linestyle": "none", "markeredgecolor": color, "markeredgewidth": 1.2}
                mark |= {"alpha": 0.45, "markersize": 4} if kind == "rest" else {}
                ax.plot(size[where], median[where], **mark, zorder=4, gid=f"{kind}-{look.index}-{name}")
    what = "gap f − f*" if gap else "objective f"
    style.title(ax, f"Step sizes: {style.shorten(problem, 46)}")
    ax.set_xlabel("step size (learning rate; scale of a search)")
    ax.set_ylabel(f"{what}, smallest of a run")
    if curves.empty:
        style.note(ax, "No method has a step size with finite values")
        return ax
    if (curves["step_size"] > 0).all():
        style.log_axis(ax.xaxis, "x")
    if positive:
        style.log_axis(ax.yaxis, "y")
    named = [(ends[m], styles.of[problem, m], styles(problem, m)) for m in leading]
    style.end_names(ax, named, others=len(ends) - len(named))
    return ax


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


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))
