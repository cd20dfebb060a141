"""The sections of the page, in its order.

A section is a module with a function from the page context to a dataclass (or a list), and a template that gets the result
as ``section``. To add a section, write these two files and add an entry to `SECTIONS`. To add a figure to the sections of
problems, write a module in `figures` and add an entry to `problems.FIGURES`.
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
        Anchor, and name of the template.
    title : str
        Entry in the table of contents.
    build : callable or None
        Returns the content, or None if there is none. None for the sections of problems, which other processes draw (see
        `problems.drawing`).
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
