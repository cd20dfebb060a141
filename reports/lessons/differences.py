"""Difference quotients against the analytic gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..figures import style
from ..wording import number, signed
from .base import MARK, THEORY, Content, Drawing, figure, label, line_style
from .command import with_report
from .selection import Selection


def differences(selection: Selection) -> Content | None:
    """How difference quotients depart from the analytic gradient as their step h shrinks."""
    lines, curves = [], {}
    for problem, rows in selection.parts.items():
        errors = selection.description(rows).get("differences")
        if not errors:
            continue
        h = np.array(errors["h"])
        line: dict[str, Any] = {"problem": problem}
        for kind in ("forward", "central"):
            error = np.array(errors[kind], dtype=float)
            at = int(np.argmin(error))
            line |= {f"{kind}_h": h[at], f"{kind}_least": error[at]}
            # where truncation rules: from an error that rounding is a hundredth of, on to larger h
            large, small = (h >= 30 * h[at]) & (h <= 0.011), h <= h[at] / 30
            for name, where in (("truncation", large), ("rounding", small)):
                ok = where & (error > 0)
                fit = np.polyfit(np.log(h[ok]), np.log(error[ok]), 1) if ok.sum() >= 3 else [np.nan]
                line[f"{kind}_{name}"] = float(fit[0])
        curves[problem] = h, np.array(errors["forward"], dtype=float), np.array(errors["central"], dtype=float)
        lines.append(line)
    table = pd.DataFrame(lines)
    # of a quadratic the central quotient is exact, and there is nothing to fit
    shown = table[table["central_truncation"].between(1.5, 2.5)] if len(table) else table
    if len(shown) < 2:
        return None
    eps = float(np.finfo(np.float64).eps)
    middle = shown.drop(columns="problem").median()
    least, slope = middle.map(number), middle.map(signed)
    problems = list(shown["problem"])
    text = (
        f"On {len(shown)} problems, along a random direction at the start, the error of (f(x + hv) − f(x))/h falls "
        f"with the slope {slope['forward_truncation']} in h and that of (f(x + hv) − f(x − hv))/2h with "
        f"{slope['central_truncation']} (medians; Taylor’s theorem says 1 and 2), until rounding of the values takes "
        f"over: its part is about ε|f|/h, slope −1, and {slope['forward_rounding']} and {slope['central_rounding']} "
        f"are measured. The sum is least near h = √ε = {number(eps**0.5)} for the forward and ε^(1/3) = "
        f"{number(eps ** (1 / 3))} for the central quotient, up to the scales of f and of its derivatives (Nocedal & "
        f"Wright 2006, section 8.1); measured are h = {least['forward_h']} with error {least['forward_least']}, and "
        f"{least['central_h']} with {least['central_least']}. A quotient that follows both slopes shows that "
        "the analytic gradient is right: with a wrong one the error would stay level."
    )
    others = sorted(set(table["problem"]) - set(problems))
    if others:
        text += (
            f" Not counted, because no slope near 2 is seen there: {', '.join(others)}. Of a quadratic the central "
            "quotient has no truncation error at all."
        )
    # one of a kind, so that the names tell them apart
    kinds = {selection.names[name]: name for name in reversed(problems)}
    drawn = (sorted(kinds.values()) if len(kinds) > 1 else problems)[:6]
    some = {name: curves[name] for name in drawn}
    drawings = (
        Drawing(
            figure(_errors, some, 1, "Forward differences"),
            f"Relative error of forward differences against h on {', '.join(drawn)}: least near {least['forward_h']}.",
            "Relative error of the derivative along one direction. Dashes are the slopes 1 and −1, the dotted line "
            "is √ε.",
        ),
        Drawing(
            figure(_errors, some, 2, "Central differences"),
            f"Relative error of central differences against h on {', '.join(drawn)}: least near {least['central_h']}.",
            "The same for central differences. Dashes are the slopes 2 and −1, the dotted line is ε^(1/3).",
        ),
    )
    words = ["optbench", "run"]
    for name in problems:
        words += ["--problem", selection.parts[name]["problem_spec"].iloc[0]]
    words += ["--optimizer", "gradient_descent", "--lr", "0.001", "--steps", "1", "--seeds", "1"]
    return Content(drawings=drawings, paragraph=text, command=with_report(words), problems=tuple(problems), table=table)


def _errors(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], order: int, title: str, ax: Axes) -> None:
    style.axes(ax)
    eps, ends, low = float(np.finfo(float).eps), [], np.inf
    for k, (name, (h, *errors)) in enumerate(curves.items()):
        error = np.maximum(errors[order - 1], eps / 10)
        style.line(ax, line_style(k), h, error)
        ends.append((float(error[np.argmax(h)]), name, line_style(k)))
        low = min(low, float(error.min()))
    h = np.geomspace(1e-13, 1e-1, 25)
    with np.errstate(divide="ignore"):
        for guide in (h**order, eps / h):
            ax.plot(h, np.where(guide >= low / 3, guide, np.nan), **THEORY, alpha=0.6, zorder=1)
    ax.axvline(eps ** (1 / (order + 1)), **MARK)
    label(ax, title, "step h of the quotient", "relative error of the derivative")
    ax.set_ylim(low / 3, 10)
    style.end_names(ax, ends)
