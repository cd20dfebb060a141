"""Figures of one problem: functions from results to matplotlib axes.

Every number drawn here was computed by `optbench.metrics`. How things look is in `style`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from optbench.analysis import metrics, tuning
from optbench.core.errors import InputError
from optbench.results.runs import Runs

from . import style
from .style import INK, MUTED, PAPER

SPLITS = {"train": ("o", 7), "validation": ("s", 0), "test": ("D", 1)}  # part of the data -> its marker and colour
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
    leading = tuning.ranked(part)[problem][:emphasis]
    # what rises far above the start is drawn at a ceiling: how far it rose before it overflowed tells nothing
    starts = curves.loc[curves["t"] == 0, "median"].to_numpy(dtype=float)
    start = np.abs(starts).max(initial=0.0, where=np.isfinite(starts))
    ceiling = 100 * start if start > max(floor, 0.0) else np.inf
    drawn = lines_of(curves, "calls", floor, ceiling)
    for method, (calls, median, low, high) in drawn.items():
        style.line(ax, styles[method], calls, median, low, high, rest=method not in leading)
    what = "gap f − f*" if gap else "objective f"
    if guides and gap and drawn:
        _guides(ax, part, floor)
    style.title(ax, f"{'Smallest so far' if value == 'best' else 'Last iterate'}: {style.shorten(problem, 44)}")
    ax.set_xlabel(CALLS_LABEL)
    ax.set_ylabel(f"{what}, {'smallest so far' if value == 'best' else 'at the iterate'}")
    if not drawn:
        style.note(ax, "No run has a finite value to draw")
        return ax
    style.log_axis(ax.xaxis, "x")
    value_axis(ax, drawn, gap, floor)
    ends = [(float(drawn[m][1][-1]), m, styles[m]) for m in leading if m in drawn]
    style.end_names(ax, ends, others=len(drawn) - len(ends))
    return ax


def lines_of(curves: pd.DataFrame, x: str, floor: float, ceiling: float = np.inf) -> dict[str, tuple[np.ndarray, ...]]:
    """What is drawn of the rows of `metrics.bands` on one problem: the beginning of each curve, as long as it is finite.

    Parameters
    ----------
    x : str
        The column of the horizontal axis.
    floor, ceiling : float
        Between which values are drawn.

    Returns
    -------
    lines : dict
        Method -> x, median, low and high, each of shape (points,); methods without a finite beginning are missing.
    """
    found = {}
    numbers = curves[[x, "median", "low", "high"]].to_numpy(dtype=float)  # (rows, 4)
    for method, rows in curves.groupby("method", sort=True).indices.items():
        columns = numbers[rows[style.thin(len(rows))]]  # (points, 4)
        finite = np.isfinite(columns[:, 1])
        columns = columns[: len(finite) if finite.all() else int(np.argmin(finite))]  # past infinity there is no line
        if len(columns):
            found[str(method)] = (columns[:, 0], *np.clip(columns[:, 1:].T, floor, ceiling))
    return found


def value_axis(ax: Axes, drawn: Mapping[str, tuple[np.ndarray, ...]], gap: bool, floor: float) -> None:
    """The vertical axis of `lines_of`: logarithmic where that can be, with a dotted line where rounding ends a gap."""
    medians = [line[1] for line in drawn.values()]
    if all((median > 0).all() for median in medians):
        style.log_axis(ax.yaxis, "y")
    if gap and any((median <= floor).any() for median in medians):
        ax.axhline(floor, color=MUTED, linewidth=0.8, dashes=(1, 2), zorder=1)


def sensitivity(
    runs: Runs | pd.DataFrame,
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
    runs = as_runs(runs)
    problem, part = one_problem(runs, problem)
    styles = styles or style.method_styles(runs)
    ax = style.axes(ax)
    gap, floor = gap_floor(part)
    chosen = tuning.tuned(part).set_index("method")["step_size"]
    curves = metrics.sensitivity(part)
    curves = curves[np.isfinite(curves["median"].to_numpy(dtype=float))]
    with_size = set(curves["method"])
    leading = [method for method in tuning.ranked(part)[problem] if method in with_size][:emphasis]
    positive, ends = True, {}
    for method, curve in curves.groupby("method", sort=True):
        look = styles[str(method)]
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
    named = [(ends[m], m, styles[m]) for m in leading]
    style.end_names(ax, named, others=len(ends) - len(named))
    return ax


def generalization(runs: Runs, problem: str | None = None, ax: Axes | None = None, *, kind: str = "accuracy") -> Axes:
    """Accuracy (or loss) on training, validation and test data at the end of the runs, each method at its best settings.

    Marks are medians over seeds, lines reach from the lower to the upper quartile; the method that is best on the test
    data comes first. Settings were chosen by the objective, never by these figures.

    Parameters
    ----------
    kind : {"accuracy", "loss"}
        Which figures of `optbench.metrics.learned` to draw: those whose names end so.

    The other parameters, and the errors, are those of `convergence`.
    """
    problem, part = one_problem(runs, problem)
    ax = style.axes(ax)
    table = learned_table(part, kind)
    methods = list(dict.fromkeys(table["method"]))
    rows = {method: row for row, method in enumerate(methods)}
    parts = [name for name in SPLITS if name in set(table["split"])]
    finite = table[np.isfinite(table["median"])]
    # the axis holds the better half of the methods and half as much again; what lies beyond stands at its edge, in words
    better = finite[finite["method"].isin(methods[: (len(methods) + 1) // 2])]
    near, far = (better["median"].max(), better["median"].min()) if kind == "accuracy" else (
        better["median"].min(), better["median"].max())  # fmt: skip
    edge = far + 0.7 * (far - near)
    for at, name in enumerate(parts):
        its = finite[finite["split"] == name]
        y = its["method"].map(rows).to_numpy(dtype=float) + 0.22 * (at - (len(parts) - 1) / 2)
        low, middle, high = (its[q].to_numpy(dtype=float) for q in ("low", "median", "high"))
        inside = (middle >= edge) if kind == "accuracy" else (middle <= edge)
        ends = np.clip(np.where(np.isfinite([low, high]), [low, high], middle), *sorted((edge, 2 * near - edge)))
        color = style.PALETTE[SPLITS[name][1]]
        ax.hlines(y[inside], *ends[:, inside], color=color, linewidth=1.2, zorder=2)
        ax.plot(
            middle[inside], y[inside], linestyle="none", marker=SPLITS[name][0], markersize=5.5, color=color, zorder=3,
            markeredgecolor=PAPER, markeredgewidth=0.6, label=name,
        )  # fmt: skip
    for method in methods:
        its = finite[finite["method"] == method]
        beyond = its[(its["median"] < edge) if kind == "accuracy" else (its["median"] > edge)]
        said = ", ".join(f"{line['split']} {line['median']:.3g}" for line in beyond.to_dict("records"))
        if said:
            left = kind == "accuracy"
            ax.annotate(
                f"◂ {said}" if left else f"{said} ▸", (edge, rows[method]), (2 if left else -2, 0),
                textcoords="offset points", ha="left" if left else "right", va="center", fontsize=8.5, color=MUTED,
            )  # fmt: skip
    ax.set_yticks(range(len(methods)), [style.shorten(method, 24) for method in methods])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.set_ylim(len(methods) - 0.4, -0.6)
    if len(finite):
        low, high = ax.get_xlim()
        ax.set_xlim(*((edge, high) if kind == "accuracy" else (low, edge)) if far != near else (low, high))
    ax.tick_params("y", length=0)
    style.title(ax, f"{kind.capitalize()} at the end: {style.shorten(problem, 36)}")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("share of samples classified rightly" if kind == "accuracy" else "mean loss, without penalty")
    ax.set_ylabel("method")
    if table.empty:
        style.note(ax, f"No {kind} was recorded")
        return ax
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9.5, borderaxespad=0.0)
    return ax


def learned_table(part: Runs, kind: str) -> pd.DataFrame:
    """Rows of `metrics.learned` whose figures are of one kind, with the part of the data as `split`, best on test first."""
    table = metrics.learned(part)
    table = table[table["figure"].str.endswith(f"_{kind}")].assign(
        split=lambda t: t["figure"].str.removesuffix(f"_{kind}")
    )
    judge = next((name for name in ("test", "validation", "train") if name in set(table["split"])), "")
    order = table[table["split"] == judge].set_index("method")["median"]
    return table.assign(judge=table["method"].map(order)).sort_values(
        ["judge", "method", "split"], ascending=[kind == "loss", True, True], ignore_index=True
    )


def as_runs(runs: Runs | pd.DataFrame) -> Runs:
    """Runs as they are, or what a table of curves (`Runs.curves`, or a part of it) tells of them."""
    return Runs.from_curves(runs) if isinstance(runs, pd.DataFrame) else runs


def one_problem(runs: Runs | pd.DataFrame, problem: str | None) -> tuple[str, Runs]:
    """The name of the problem that is meant, and its runs alone; of a table of curves what that tells of them.

    Raises
    ------
    InputError
        If the results do not have the problem, or have several and none is named.
    """
    runs = as_runs(runs)
    known = sorted(set(runs.rows["problem"]))
    if problem is None and len(known) == 1:
        problem = known[0]
    if problem is None or problem not in known:
        there = f"the results have {', '.join(known)}" if known else "there are no results"
        raise InputError(f"{'choose a problem' if problem is None else f'no results for problem {problem!r}'}; {there}")
    if known == [problem]:
        return problem, runs  # the same object, so that what was computed of it is found again
    return problem, Runs(runs.rows[runs.rows["problem"] == problem], runs.environments)


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
    about = about_of(part)
    L, mu = about.get("smoothness"), about.get("strong_convexity")
    exact = rows[(rows["calls_per_step"] == 1) & rows["exact_targets"].eq(True) & rows["f_start"].notna()]
    columns = ["rate", "t", "calls", "bound"]
    if not L or not mu or exact.empty or not exact["f_star"].notna().all():
        return pd.DataFrame(columns=columns)
    start = tuning.median((exact["f_start"] - exact["f_star"]).to_numpy(dtype=float))
    t = np.unique(np.rint(np.geomspace(1, float(exact["end"].max()) + 1, 80) - 1).astype(int))  # (C,)
    bounds = {
        "gradient descent, step 1/L": start * (1 - mu / L) ** t,
        "Nesterov’s method": np.minimum(start, 2 * start * (1 - np.sqrt(mu / L)) ** t),
    }
    found = [pd.DataFrame({"rate": name, "t": t, "calls": t + 1.0, "bound": bound}) for name, bound in bounds.items()]
    return pd.concat(found, ignore_index=True)[columns]


def _guides(ax: Axes, part: Runs, floor: float) -> None:
    """Draw `rates` as far as the curves reach."""
    low = ax.dataLim.y0
    for number, (name, its) in enumerate(rates(part).groupby("rate", sort=True)):
        its = its[its["bound"] >= max(floor, low, np.finfo(float).tiny)]
        if len(its) < 2:
            continue
        ax.plot(
            its["calls"],
            its["bound"],
            color=INK,
            linewidth=1.0,
            dashes=((6, 3), (1.5, 2))[number],
            zorder=1,
            alpha=0.75,
            gid=f"guide-{number}",
        )
        ax.annotate(
            str(name), (its["calls"].iloc[-1], its["bound"].iloc[-1]), (-4, 4), textcoords="offset points", ha="right",
            fontsize=8.5, color=INK, zorder=5, annotation_clip=True,
        )  # fmt: skip


def about_of(part: Runs) -> dict[str, Any]:
    """What the rows of a problem tell about it (the column `about`), empty where they were stored without it."""
    if "description" not in part.rows:
        return {}
    told = part.rows["description"].dropna()
    return dict(json.loads(told.iloc[0])) if len(told) else {}


def gap_floor(runs: Runs) -> tuple[bool, float]:
    """Whether gaps are drawn, and the smallest that rounding can resolve; minus infinity for objectives."""
    rows = runs.rows
    if not rows["f_star"].notna().all():
        return False, -np.inf
    eps = max(float(np.finfo(name).eps) for name in set(rows["precision"]))
    return True, 8 * eps * max(1.0, float(rows["f_star"].abs().max()))
