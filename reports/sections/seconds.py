"""Convergence in seconds, in the section of a problem whose methods raced too."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from optbench.analysis import tuning
from optbench.results.runs import Runs

from ..figures import convergence, style
from ..page.context import PageContext, Picture
from ..wording import names

# with the curves in oracle calls, which have a table of their own, this is all of the figure
COLUMNS = ["problem", "method", "machine", "backend", "precision", "fused", "race", "disturbed", "seconds_per_call"]


def seconds_figure(context: PageContext, problem: str) -> Picture | None:
    """The figure of `convergence_seconds` of a problem; None where no method with runs on it raced.

    Where methods raced on several machines, the one with the most methods is shown.
    """
    part, races = context.parts[problem], context.races
    if races.empty or not set(part.rows["problem_name"]) & set(races["problem_name"]):
        return None
    table = convergence.seconds_of(part, races)
    if table.empty:
        return None
    count = table.groupby("machine", sort=True)["method"].nunique()
    machine = str(count.idxmax())
    shown = table[table["machine"] == machine]
    methods = sorted(set(shown["method"]))
    best = next(method for method in tuning.ranked(part)[problem] if method in methods)
    label = (
        f"Convergence on {problem} in seconds on {machine}: one line for each of {len(methods)} methods that raced. Best "
        f"of them in oracle calls: {best}."
    )
    figure = style.figure(convergence.draw_seconds, part, shown, problem, styles=context.styles)
    caption = _caption(part, shown, [name for name in count.index if name != machine])
    rates = table[COLUMNS].drop_duplicates(ignore_index=True)
    return context.picture(f"{context.anchors[problem]}-seconds", figure, label, caption, rates)


def _caption(part: Runs, shown: pd.DataFrame, others: list[str]) -> Markup:
    """What the figure shows and leaves out."""
    rates = shown.drop_duplicates("method")
    caption = Markup(
        "The same curves against time: oracle calls times the seconds a call took in a race. Seconds a call are those of "
        "races on <bdi>{}</bdi>"
    ).format(shown["machine"].iloc[0])
    if others:
        caption += Markup("; methods also raced on <bdi>{}</bdi>, not drawn here").format(", ".join(others))
    caption += "."
    for text, methods in (
        ("Disturbed", rates.loc[rates["disturbed"], "method"]),
        ("Without a race", sorted(set(part.rows["method"]) - set(rates["method"]))),
    ):
        if len(methods):
            caption += Markup(" {}: <bdi>{}</bdi>.").format(text, names(methods))
    return caption
