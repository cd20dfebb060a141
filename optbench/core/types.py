"""The small types that every package shares: how a run ended, what an oracle tells, and what a metric means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How a run ended."""

    BUDGET = "budget"
    """All steps were taken."""
    TARGET = "target"
    """It reached the last target."""
    GRADIENT = "gradient"
    """Its gradient became small enough."""
    DIVERGED = "diverged"
    """An iterate, or its value, was not finite."""
    FAILED = "failed"
    """The computation raised an error."""

    @property
    def is_lost(self) -> bool:
        """Whether the run has no valid end: it diverged or failed."""
        return self in (Status.DIVERGED, Status.FAILED)


class Oracle(StrEnum):
    """What one oracle call returns at a point; each kind includes the ones before it."""

    VALUE = "value"
    GRADIENT = "gradient"
    HESSIAN = "hessian"


@dataclass(frozen=True)
class Metric:
    """A figure besides the objective that a problem reports of an iterate.

    Attributes
    ----------
    name : str
        ``"test_accuracy"``, for example.
    better : {"lower", "higher"} or None
        Which values are better; None for figures that are not judged, such as coordinates.
    unit : str
        Empty for numbers without a unit, such as fractions.
    """

    name: str
    better: Literal["lower", "higher"] | None
    unit: str = ""
