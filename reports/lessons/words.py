"""Numbers in sentences."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..wording import number


def count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "endless"


def signed(value: float) -> str:
    """A slope or correlation, two digits."""
    return f"{value:.2f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """A range, or its one value."""
    ends = number(low), number(high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def times(slow: float, fast: float) -> str:
    """How many times fewer steps a second method takes; nothing where one takes endless steps."""
    if not np.isfinite(slow) or not np.isfinite(fast) or fast <= 0:
        return ""
    return f", {number(slow / fast)} times fewer" if fast < slow else f", {number(fast / slow)} times as many"


def factor(value: float) -> str:
    return (
        f"a factor of {number(value)}" if np.isfinite(value) else "more than can be said, as most runs of one diverge"
    )


def wholes(values: Iterable[float]) -> str:
    """Whole numbers in a row: 4, 16, 64."""
    return ", ".join(str(int(value)) for value in values)
