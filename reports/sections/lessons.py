"""The section of lessons: what the results teach."""

from __future__ import annotations

from dataclasses import dataclass

from ..lessons import LESSONS, Lesson
from ..page.context import PageContext, Picture
from ..page.table import Link


@dataclass(frozen=True)
class ShownLesson:
    """A lesson on the page."""

    anchor: str
    lesson: Lesson
    figures: list[Picture]
    problems: list[Link]


@dataclass(frozen=True)
class LessonsSection:
    """What the template shows."""

    lessons: list[ShownLesson]
    missing: list[str]  # titles of the lessons whose runs are not among the results


def section(context: PageContext) -> LessonsSection | None:
    """The lessons that the results allow; None without any."""
    if not context.lessons:
        return None
    names = {lesson.name for lesson in context.lessons}
    return LessonsSection(
        lessons=[_shown(context, lesson) for lesson in context.lessons],
        missing=[title for name, (title, *_) in LESSONS.items() if name not in names],
    )


def _shown(context: PageContext, lesson: Lesson) -> ShownLesson:
    anchor = f"lesson-{lesson.name}"
    table = context.table(anchor, lesson.table)
    figures = [
        context.picture(f"{anchor}-{k}", drawing.figure, drawing.label, drawing.caption, None if k > 1 else table)
        for k, drawing in enumerate(lesson.drawings, start=1)
    ]
    return ShownLesson(anchor, lesson, figures, [context.link(name) for name in lesson.problems])
