"""Mean ranks over problems."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from optbench.analysis import ranking
from optbench.results.runs import Runs

from ..wording import shorten
from . import style
from .profiles import NO_RANKING
from .style import MUTED, PAPER


def ranks(
    runs: Runs,
    ax: Axes | None = None,
    *,
    emphasis: int = style.EMPHASIS,
    styles: style.Styles | None = None,
) -> Axes:
    """Mean rank over problems of every method, with its 95 % interval, see `optbench.analysis.ranking.ranking`.

    Parameters are those of `performance_profile`.
    """
    ax = style.axes(ax)
    styles = styles or style.method_styles(runs)
    table = ranking.ranking(runs)
    style.title(ax, "Mean rank over problems")
    ax.set_xlabel("mean rank (1 is best), with 95 % interval")
    if table.empty:
        style.note(ax, NO_RANKING)
        return ax
    for place, line in enumerate(table.itertuples()):
        drawn = styles[str(line.method)]
        leads = place < emphasis
        color, kind = (drawn.color, "curve") if leads else (MUTED, "rest")
        ax.plot(
            [line.low, line.high],
            [place] * 2,
            color=color,
            linewidth=1.6,
            zorder=2,
            gid=f"{kind}-{drawn.index}-interval",
        )
        ax.plot(
            [line.rank], [place], linestyle="none", marker=drawn.marker, color=color, markersize=6.5, markeredgecolor=PAPER,
            markeredgewidth=0.8, zorder=3, gid=f"{kind}-{drawn.index}-rank",
        )  # fmt: skip
    ax.yaxis.tick_right()
    ax.set_yticks(range(len(table)), [shorten(name, 22) for name in table["method"]])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.tick_params("y", length=0)
    ax.set_ylabel("optimizer, best first")
    ax.yaxis.set_label_position("left")
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(*((0.8, len(table) + 0.2) if len(table) > 1 else (0.5, 1.5)))
    ax.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
    return ax
