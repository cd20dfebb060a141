"""What is wrong with results, and which targets do not count: sentences for the top of the page and of the terminal."""

from __future__ import annotations

import re

import numpy as np

from optbench.analysis.validity import judged
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs

from .wording import names, plural, shorten, target_name


def alerts(runs: Runs) -> list[str]:
    """What must be corrected or computed again, the gravest first.

    Parameters
    ----------
    runs : Runs
        Any results.

    Returns
    -------
    list of str
        One text for each problem that contradicts itself or has rows with different optimal values, and one if runs are
        missing.

    Examples
    --------
    >>> reports.alerts(runs)
    []
    """
    lines = []
    for entry in judged(runs).unjudged.values():
        if entry.runs:
            total = int((runs.rows["problem"] == entry.problem).sum())
            reason = re.sub(r"^(?:\w+Error): ", "", shorten(entry.reason, 300)).rstrip(".")
            lines.append(
                f"{entry.problem} contradicts itself in {entry.runs} of {plural(total, 'run')}: {reason}. No target counts "
                "there, and nothing is claimed about it."
            )
        elif entry.is_wrong:
            lines.append(
                f"{entry.problem} {entry.why}. No target counts there until the same code has computed all its runs, for "
                "example in a new results folder."
            )
    lines.sort(key=lambda line: "contradicts itself" not in line)
    if runs.missing:
        requested = plural(len(runs) + runs.missing, "requested run")
        lines.append(
            f"{runs.missing} of {requested} {'is' if runs.missing == 1 else 'are'} missing, because the computation was "
            "interrupted. The same command computes what is missing."
        )
    return lines


def unresolved_targets(runs: Runs) -> list[str]:
    """Which targets do not count, because the precision or the stated optimum cannot resolve them.

    Parameters
    ----------
    runs : Runs
        Any results.

    Returns
    -------
    list of str
        One sentence for each precision and last target that counts, and one for problems where none counts.

    Examples
    --------
    >>> reports.unresolved_targets(runs)
    []
    """
    state = judged(runs)
    precision = runs.rows.groupby("problem")["precision"].agg(lambda kinds: " and ".join(sorted(set(kinds))))
    groups: dict[tuple[str, int], list[str]] = {}
    for problem, resolved in state.resolved.items():
        last = int(np.flatnonzero(resolved).max(initial=-1))
        groups.setdefault((precision[problem], last), []).append(problem)
    lines = [
        f"Targets below {target_name(TARGETS[last])} of the initial gap cannot be resolved in {kind} on "
        f"{names(sorted(problems))}; they count neither as reached nor as missed."
        for (kind, last), problems in sorted(groups.items())
    ]
    if without := [entry.problem for entry in state.unjudged.values() if not entry.is_wrong]:
        lines.append(f"No target can be resolved on {names(sorted(without))}, so that none counts there.")
    return lines
