"""What the default suite's own runs teach: figures with a paragraph whose numbers all come from the results.

Each lesson is a function from results to its content, or to None where the results lack its runs. Runs
are found by the names of problem and optimizer and by their parameters, so that any results that have such runs have the
lesson.

`LESSONS` names the module of each. They share `selection` (the runs of a lesson), `base` (what a lesson consists of) and
`command` (the command that reproduces the runs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optbench.core.types import Status
from optbench.results.runs import Runs

from ..figures import style
from . import adam, batches, differences, saddle, schedules, valley
from .base import Content
from .selection import Selection

# name -> title, and the function that finds it in results; in order of difficulty
LESSONS: dict[str, tuple[str, Callable[[Selection], Content | None]]] = {
    "valley": ("Momentum in an ill-conditioned valley", valley.valley),
    "saddle": ("Leaving a saddle", saddle.saddle),
    "bias": ("Adam’s first steps, with and without bias correction", adam.first_steps),
    "decay": ("Adam with l2 against AdamW", adam.decay),
    "noise": ("Mini-batch noise against batch size", batches.noise),
    "scaling": ("The linear scaling rule", batches.scaling),
    "schedules": ("Schedules compared", schedules.schedules),
    "differences": ("Numerical against analytic gradients", differences.differences),
}


@dataclass(frozen=True, kw_only=True)
class Lesson(Content):
    """A lesson with its name, as it stands in links and names of files, and its title."""

    name: str
    title: str


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
    contents = ((name, title, lesson(selection)) for name, (title, lesson) in LESSONS.items())
    return [Lesson(name=name, title=title, **vars(content)) for name, title, content in contents if content is not None]
