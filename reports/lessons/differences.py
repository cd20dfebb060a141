"""Lesson on difference quotients and analytic gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..wording import number, signed
from .base import Drawing, Lesson, Selection, line_figure
from .command import command_line


def differences(selection: Selection) -> Lesson | None:
    """The error of difference quotients against their step h."""
    eps = float(np.finfo(np.float64).eps)
    lines: list[dict[str, Any]] = []
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {"forward": {}, "central": {}}
    for problem, rows in selection.parts.items():
        errors = selection.description(rows).get("differences")
        if not errors:
            continue
        h = np.array(errors["h"])  # falling
        line: dict[str, Any] = {"problem": problem}
        for kind in ("forward", "central"):
            error = np.array(errors[kind], dtype=float)
            curves[kind][problem] = h, np.maximum(error, eps / 10)
            at = int(np.argmin(error))
            line |= {f"{kind}_h": h[at], f"{kind}_least": error[at]}
            # fit truncation and rounding where the other is negligible
            large, small = (h >= 30 * h[at]) & (h <= 0.011), h <= h[at] / 30
            for name, where in (("truncation", large), ("rounding", small)):
                ok = where & (error > 0)
                fit = np.polyfit(np.log(h[ok]), np.log(error[ok]), 1) if ok.sum() >= 3 else [np.nan]
                line[f"{kind}_{name}"] = float(fit[0])
        lines.append(line)
    table = pd.DataFrame(lines)
    # central differences of a quadratic are exact, so there is no slope
    shown = table[table["central_truncation"].between(1.5, 2.5)] if len(table) else table
    if len(shown) < 2:
        return None
    middle = shown.drop(columns="problem").median()
    least, slope = middle.map(number), middle.map(signed)
    problems = list(shown["problem"])
    points = [
        f"On {len(shown)} problems, along a random direction v at the start (medians): forward (f(x + hv) − f(x))/h and "
        "central (f(x + hv) − f(x − hv))/2h.",
        f"Large h: slope {slope['forward_truncation']} and {slope['central_truncation']}; Taylor’s theorem says 1 and 2.",
        "Small h: rounding gives an error of about ε|f|/h, ε the machine precision: slope −1; measured "
        f"{slope['forward_rounding']} and {slope['central_rounding']}.",
        f"Best h in theory: √ε = {number(eps**0.5)} and ε^(1/3) = {number(eps ** (1 / 3))}, up to the scales of f and its "
        f"derivatives (Nocedal & Wright 2006, section 8.1). Measured: {least['forward_h']} (error "
        f"{least['forward_least']}) and {least['central_h']} (error {least['central_least']}).",
    ]
    others = sorted(set(table["problem"]) - set(problems))
    if others:
        points.append(
            f"Left out, without a slope near 2: {', '.join(others)}. On a quadratic, central differences have no "
            "truncation error."
        )
    # one problem per registered name, so that short names are unique
    kinds = {selection.names[name]: name for name in reversed(problems)}
    drawn = (sorted(kinds.values()) if len(kinds) > 1 else problems)[:6]
    h = np.geomspace(1e-13, 1e-1, 25)
    drawings = []
    for order, kind, root in (
        (1, "forward", "√ε"),
        (2, "central", "ε^(1/3)"),
    ):
        lines_of = {name: curves[kind][name] for name in drawn}
        low = min(float(error.min()) for _, error in lines_of.values()) / 3
        guides = [(h, np.where(guide >= low, guide, np.nan)) for guide in (h**order, eps / h)]
        title, x, y = f"{kind.capitalize()} differences", "step h of the quotient", "relative error of the derivative"
        dotted, limits = eps ** (1 / (order + 1)), (low, 10)
        drawing = Drawing(
            line_figure(title, x, y, lines_of, theory=guides, behind=True, at=dotted, limits=limits),
            f"Relative error of {kind} differences against h on {', '.join(drawn)}: least near {least[f'{kind}_h']}.",
            f"Lower is better. Dashes have the slopes {order} and −1; the dotted line is h = {root}.",
        )
        drawings.append(drawing)
    words = ["optbench", "run"]
    for name in problems:
        words += ["--problem", selection.parts[name]["problem_spec"].iloc[0]]
    words += ["--optimizer", "gradient_descent", "--lr", "0.001", "--steps", "1", "--seeds", "1"]
    takeaway = "Yes: as h shrinks, the error falls with the slope of theory. With a wrong gradient it would stay level."
    return Lesson(takeaway, points, drawings, command_line(words), problems, table)
