"""The outcome of a check, one row of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        What was checked.
    error, limit : float or None
        The measured error and the largest that passes; None where nothing was measured.
    passed : bool or None
        None for what the problem does not offer.
    note : str
        How the error was measured, or why it was not.
    """

    check: str
    error: float | None
    limit: float | None
    passed: bool | None
    note: str = ""


def measured(check: str, error: float, limit: float, note: str) -> Finding:
    """The finding of an error, which passes up to the limit; NaN does not."""
    error = float(error)
    return Finding(check, error, limit, error <= limit, note if math.isfinite(error) else f"not finite; {note}")


def not_offered(check: str, why: str) -> Finding:
    """The finding of a check that the problem gives no cause for."""
    return Finding(check, None, None, None, f"not offered: {why}")
