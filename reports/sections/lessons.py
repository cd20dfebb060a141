"""The section of lessons: what the results teach."""

from __future__ import annotations

from typing import Any

from ..lessons import LESSONS, Lesson
from ..page.context import PageContext


def section(context: PageContext) -> dict[str, Any] | None:
    """The lessons that the results contain, and the titles of those whose runs are not there; None without any."""
    if not context.lessons:
        return None
    names = {lesson.name for lesson in context.lessons}
    return {
        "lessons": [_shown(context, lesson) for lesson in context.lessons],
        "missing": [title for name, (title, _) in LESSONS.items() if name not in names],
    }


def _shown(context: PageContext, lesson: Lesson) -> dict[str, Any]:
    anchor = f"lesson-{lesson.name}"
    table = context.table(anchor, lesson.table)
    figures = [
        context.picture(f"{anchor}-{k}", drawing.figure, drawing.label, drawing.caption, None if k > 1 else table)
        for k, drawing in enumerate(lesson.drawings, start=1)
    ]
    problems = [context.link(name) for name in lesson.problems]
    return {"anchor": anchor, "lesson": lesson, "figures": figures, "problems": problems}
