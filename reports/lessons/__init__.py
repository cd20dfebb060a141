"""Lessons: questions that the runs of the default suite answer, with figures; all numbers come from the results.

A lesson is a function from results to a `Lesson`, or to None where its runs are missing. It finds runs by the names and
parameters of problem and optimizer, so any results that have such runs have the lesson.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from optbench.analysis.validity import judged
from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from . import adam, batches, differences, landscapes
from .base import Lesson as Lesson
from .base import Selection

# name -> title, question, and the function that finds the answer in results; in order of difficulty
LESSONS: dict[str, tuple[str, str, Callable[[Selection], Lesson | None]]] = {
    "valley": (
        "Momentum in an ill-conditioned valley", "Why does gradient descent zigzag, and what does momentum change?",
        landscapes.valley,
    ),
    "saddle": ("Leaving a saddle", "How long does an optimizer stay near a saddle?", landscapes.saddle),
    "bias": (
        "Adam’s first steps, with and without bias correction", "What does Adam’s bias correction do?", adam.first_steps,
    ),
    "decay": ("Adam with l2 against AdamW", "Is weight decay the same as an l2 penalty?", adam.decay),
    "noise": (
        "Mini-batch noise against batch size", "How close to the minimum does SGD get with a fixed step size?",
        batches.noise,
    ),
    "scaling": ("The linear scaling rule", "How should the step size change with the batch size?", batches.scaling),
    "schedules": ("Schedules compared", "Which schedule of the step size ends with the lowest gap?", batches.schedules),
    "differences": (
        "Numerical against analytic gradients", "Can difference quotients check a gradient?", differences.differences,
    ),
}  # fmt: skip


def find_lessons(runs: Runs, *, styles: style.Styles | None = None) -> list[Lesson]:
    """The lessons that the results contain, in order of difficulty.

    Of several stores the first is used. Runs that failed are left out.

    Parameters
    ----------
    runs : Runs
        Results, such as those of the suite ``lesson``.
    styles : style.Styles, optional
        Styles of methods, by default `style.method_styles` of the results.

    Returns
    -------
    list of Lesson
        Question, answer and figures of each; empty if the runs contain none.

    Examples
    --------
    >>> valley = optbench.compare("quadratic:dim=5", ["adam"], lr=0.1, seeds=1, steps=20)
    >>> reports.find_lessons(valley)
    []
    """
    runs = judged(runs)
    rows = runs.rows
    if "store" in rows and runs.environments:
        rows = rows[rows["store"].isna() | (rows["store"] == runs.environments[0]["store"])]
    rows = rows[~rows["status"].isin([Status.FAILED, Status.INVALID])]
    # the same object where nothing is left out, so that cached results are reused
    selected = runs if len(rows) == len(runs.rows) else Runs(rows, runs.environments)
    selection = Selection(selected, styles or style.method_styles(runs))
    lessons = []
    for name, (title, question, find) in LESSONS.items():
        lesson = find(selection)
        if lesson is not None:
            command = f"{lesson.command}\noptbench report lesson"
            lessons.append(dataclasses.replace(lesson, name=name, title=title, question=question, command=command))
    return lessons
