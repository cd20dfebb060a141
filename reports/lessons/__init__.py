"""What the default suite's own runs teach: figures with a paragraph whose numbers all come from the results.

`LESSONS` names the function of each, from results to a lesson, or to None where the results lack its runs. Runs are found
by the names of problem and optimizer and by their parameters, so that any results that have such runs have the lesson.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from . import adam, batches, differences, landscapes
from .base import Lesson as Lesson
from .base import Selection

# name -> title, and the function that finds it in results; in order of difficulty
LESSONS: dict[str, tuple[str, Callable[[Selection], Lesson | None]]] = {
    "valley": ("Momentum in an ill-conditioned valley", landscapes.valley),
    "saddle": ("Leaving a saddle", landscapes.saddle),
    "bias": ("Adam’s first steps, with and without bias correction", adam.first_steps),
    "decay": ("Adam with l2 against AdamW", adam.decay),
    "noise": ("Mini-batch noise against batch size", batches.noise),
    "scaling": ("The linear scaling rule", batches.scaling),
    "schedules": ("Schedules compared", batches.schedules),
    "differences": ("Numerical against analytic gradients", differences.differences),
}


def find_lessons(runs: Runs, *, styles: style.Styles | None = None) -> list[Lesson]:
    """The lessons that the results contain, in order of difficulty.

    Of several stores side by side the first is used. Runs that failed are left out.
    """
    rows = runs.rows
    if "store" in rows and runs.environments:
        rows = rows[rows["store"].isna() | (rows["store"] == runs.environments[0]["store"])]
    rows = rows[rows["status"] != Status.FAILED]
    # the same object where nothing is left out, so that what was computed of it is known
    selected = runs if len(rows) == len(runs.rows) else Runs(rows, runs.environments)
    selection = Selection(selected, styles or style.method_styles(runs))
    lessons = []
    for name, (title, find) in LESSONS.items():
        lesson = find(selection)
        if lesson is not None:
            command = f"{lesson.command}\noptbench report lesson"
            lessons.append(dataclasses.replace(lesson, name=name, title=title, command=command))
    return lessons
