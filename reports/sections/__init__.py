"""The sections of the page, in its order.

A section is a module with a function from the context of the page to a dataclass (or a list of what is shown alike), and a
template that shows it under the name ``section``. Adding one takes these two files and an entry of `SECTIONS`; a new figure
of a problem takes its module in `figures` and an entry of `problems.FIGURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..page.context import PageContext
from . import comparison, environment, explorer, failures, gpu, landscapes, lessons, overview, speed


class Section(NamedTuple):
    """A section of the page.

    Attributes
    ----------
    name : str
        Its anchor, and the name of its template.
    title : str
        In the contents of the page.
    build : callable or None
        What its template shows, or None where there is nothing to show. The sections of problems are drawn by other
        processes, see `problems.drawing`, and have a list of contents of their own.
    """

    name: str
    title: str
    build: Callable[[PageContext], object | None] | None


SECTIONS = (
    Section("overview", "Overview", overview.section),
    Section("comparison", "Side by side", comparison.section),
    Section("problems", "Problems", None),
    Section("landscapes", "Landscapes", landscapes.section),
    Section("lessons", "Lessons", lessons.section),
    Section("explorer", "Explorer", explorer.section),
    Section("speed", "Speed", speed.section),
    Section("lost", "Divergences and failures", failures.section),
    Section("gpu", "GPU against CPU", gpu.section),
    Section("environment", "Environment", environment.section),
)
