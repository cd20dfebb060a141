"""Numbers and names as text, for tables, sentences and figures.

A number in a sentence has the form that is shortest for it (`number`, `calls`, `factor`). The numbers of a column share
one form (`notation`), so that they can be compared at a glance.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

DEFAULT = 1e-4  # target that is shown first, as a fraction of the initial gap
NO_RANKING = "No two optimizers ran on a problem whose optimal value is known"
NEVER = "–"


def number(value: float) -> str:
    """Three significant digits: 0.0312, 4.64, 1230, 5.4e-10; a dash if not finite."""
    if value is None or not np.isfinite(value):
        return NEVER
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    if not 1e-3 <= abs(rounded) < 1e5:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    return f"{rounded:.15g}"


def notation(values: Iterable[float], digits: int = 3) -> Callable[[float], str]:
    """The function that writes every number of a column in the same notation.

    Whole numbers have no decimals. Others have the decimals that the smallest needs for `digits` significant digits. Where
    that takes more than seven digits, all are in scientific notation: 2.50e-5, 1.82e-3. Values that are not finite are
    dashes.
    """
    sizes = np.abs(np.array([*values], dtype=float))  # NaN for None
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    low, high = (int(f"{size:e}".partition("e")[2]) for size in (sizes.min(initial=1.0), sizes.max(initial=1.0)))
    decimals = 0 if (sizes == np.rint(sizes)).all() else max(0, digits - 1 - low)

    def write(value: float) -> str:
        if value is None or not np.isfinite(value):
            return NEVER
        if max(high, 0) + 1 + decimals <= 7:
            return f"{value:.{decimals}f}"
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(exponent)}" if value else "0"

    return write


def calls(value: float) -> str:
    """A number of oracle calls: whole from ten on, two digits below (mini-batches count fractions); a dash for never."""
    if not np.isfinite(value):
        return NEVER
    if value < 10:
        return f"{float(f'{value:.2g}'):g}"
    return f"{value:.0f}" if value < 99_999.5 else number(value)


def target_name(fraction: float) -> str:
    """A fraction of the initial gap: 1e-2, 6.31e-8, 0.631."""
    mantissa, _, exponent = f"{fraction:.2e}".partition("e")
    return number(fraction) if fraction > 0.1 else f"{float(mantissa):g}e{int(exponent)}"


def duration(median: float, low: float, high: float) -> tuple[str, str]:
    """A duration and its interval in one unit, three significant digits of the median: 12.3 µs, 11.9 to 12.8."""
    if not np.isfinite(median):
        return NEVER, ""
    unit, name = next(((u, n) for u, n in ((1.0, "s"), (1e-3, "ms")) if abs(median) >= u), (1e-6, "µs"))
    digits = max(0, 2 - int(np.floor(np.log10(max(abs(median) / unit, 1e-2)))))
    shown = (f"{value / unit:.{digits}f}" if np.isfinite(value) else "never" for value in (low, high))
    return f"{median / unit:.{digits}f} {name}", " to ".join(shown)


def several(values: Iterable[Any]) -> str:
    """The distinct values as text; a dash for none."""
    return ", ".join(sorted({str(value) for value in values if pd.notna(value)})) or NEVER


def shorten(text: str, width: int) -> str:
    """A name on one line with at most `width` characters, the middle left out.

    Wide characters, such as Chinese ones and emoji, count as two (Unicode Standard Annex 11).
    """
    text = " ".join(clean(text).split())
    sizes = [1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text]
    if sum(sizes) <= width:
        return text
    half = (width - 1) // 2
    ends = np.cumsum(sizes), np.cumsum(sizes[::-1])  # columns up to each letter, from either side
    first, last = (
        int(np.searchsorted(end, room, side="right")) for end, room in zip(ends, (width - 1 - half, half), strict=True)
    )
    return f"{text[:first]}…{text[len(text) - last :]}"


def clean(text: str) -> str:
    """Text without control characters, lone surrogates, and characters that change the direction of text."""
    return _UNCLEAN.sub("\ufffd", text)


_UNCLEAN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def rank(value: float) -> str:
    """A mean rank, two decimals."""
    return f"{value:.2f}"


def percent(share: float) -> str:
    """A share in percent; only none and all round to 0 and 100 %."""
    if share in (0, 1):
        return "all" if share else "none"
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else "less than 1 %" if share < 0.5 else "more than 99 %"


def factor(ratio: float) -> str:
    """A ratio with two significant digits, or two decimals near one: 0.85, 1, 1.04, 1.3, 12, 120, 1.2e4."""
    if ratio != 1 and 0.95 < ratio < 1.05:
        return f"{ratio:.2f}"
    if ratio >= 9999.5:
        return number(float(f"{ratio:.1e}"))
    return f"{float(f'{ratio:.2g}'):g}" if ratio < 100 else f"{ratio:.0f}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def span(low: float, high: float) -> str:
    """A range of numbers, or its single value: 0.1 to 3."""
    return " to ".join(dict.fromkeys((number(low), number(high))))


def mebibytes(count: float) -> str:
    return f"{number(count / 2**20)} MiB"


def signed(value: float) -> str:
    """A slope or correlation, two digits."""
    return f"{value:.2f}".replace("-", "−")


def names(values: Iterable[str], most: int = 8, separator: str = ", ") -> str:
    """At most so many names: a, b and 3 more."""
    values = list(values)
    return separator.join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def wholes(values: Iterable[float]) -> str:
    """A list of whole numbers: 4, 16, 64."""
    return ", ".join(str(int(value)) for value in values)
