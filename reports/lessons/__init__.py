"""What the default suite's own runs teach: figures with a paragraph whose numbers all come from the results.

Each lesson is a function from results to what it tells, or to None where the results lack the runs it rests on. Runs
are found by the names of problem and optimizer and by their parameters, so that any results that have such runs have the
lesson.

`LESSONS` says in which module each is. They share `held` (what they find in results), `told` (what they are made of),
`words` (numbers in sentences) and `command` (the command that computes the runs anew).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optbench.results.runs import Runs

from ..figures import style
from ..page.context import Book, Picture
from . import adam, batches, differences, saddle, schedules, valley
from .base import Told
from .selection import Held

# name -> title, and the function that tells it; in order of difficulty
LESSONS: dict[str, tuple[str, Callable[[Held], Told | None]]] = {
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
class Lesson(Told):
    """A lesson: what it tells, and how it is called.

    Attributes
    ----------
    name : str
        What it is known by in links and names of files.
    title : str
    """

    name: str
    title: str


def find_lessons(runs: Runs, *, styles: style.Styles | None = None) -> list[Lesson]:
    """The lessons that the results hold, in order of difficulty.

    Of several stores side by side the first is used. Runs that failed are left out.
    """
    rows = runs.rows
    if "store" in rows and runs.environments:
        rows = rows[rows["store"].isna() | (rows["store"] == runs.environments[0]["store"])]
    rows = rows[rows["status"] != "failed"]
    kept = runs if len(rows) == len(runs.rows) else Runs(rows, runs.environments)  # whose scores may be known
    held = Held(kept, styles or style.method_styles(runs))
    found = ((name, title, tell(held)) for name, (title, tell) in LESSONS.items())
    return [Lesson(name=name, title=title, **vars(told)) for name, title, told in found if told is not None]


def section(book: Book) -> dict[str, Any] | None:
    """What the page shows of the lessons; None where there is none."""
    found = find_lessons(book.runs, styles=book.styles)
    if not found:
        return None
    shown = []
    for lesson in found:
        anchor = f"lesson-{lesson.name}"
        table = book.table(anchor, lesson.table)
        pictures = []
        for k, drawing in enumerate(lesson.drawings):
            picture = book.picture(f"{anchor}-{k}" if k else anchor, drawing.figure, drawing.label)
            pictures.append((Picture(picture.svg, None if k else table), drawing.caption))
        links = [(name, book.anchors[name]) for name in lesson.problems]
        shown.append({"anchor": anchor, "lesson": lesson, "pictures": pictures, "problems": links})
    names = {lesson.name for lesson in found}
    return {
        "shown": shown,
        "missing": [title for name, (title, _) in LESSONS.items() if name not in names],
        "maps": {problem for lesson in found for problem in lesson.maps},
    }
