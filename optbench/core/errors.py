"""Errors that users can correct; the command line prints them without a traceback."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

MAX_WORD, MAX_MESSAGE = 200, 450  # characters; a word may be a path


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose. Its message is one line of at most `MAX_MESSAGE` characters."""

    def __init__(self, message: object = "") -> None:
        text = _shortened(str(message), 20 * MAX_MESSAGE)
        words = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text).split()
        super().__init__(_shortened(" ".join(_shortened(word, MAX_WORD) for word in words), MAX_MESSAGE))


class InputError(OptbenchError, ValueError):
    """A request that cannot be met. The message names what is wrong, where, and how to correct it."""


class BackendError(OptbenchError, RuntimeError):
    """The requested array module or device cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""


def shown(value: Any) -> str:
    """The `repr` of a value for a message, which is short whatever the value is."""
    try:
        return _reprlib.repr(value)
    except ValueError:  # Python writes integers of up to 4300 digits
        return "a number of thousands of digits"


_reprlib = reprlib.Repr()
_reprlib.maxstring = _reprlib.maxother = _reprlib.maxlong = 100


def _shortened(text: str, length: int) -> str:
    """The text, without its middle if it is longer: the beginning names the place, the end the cure."""
    return text if len(text) <= length else f"{text[: length * 2 // 3 - 3]}...{text[-length // 3 :]}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'sgd'?`` with the known names nearest to `name`; empty if none is near."""
    names, name = list(known), name[:MAX_WORD]
    alike = [other for other in names if other[:1] == name[:1]]
    nearest = difflib.get_close_matches(name, names, 3, 0.6) or difflib.get_close_matches(name, alike, 3, 0.5)
    ratios = [difflib.SequenceMatcher(None, other, name).ratio() for other in nearest]
    equal = [repr(other) for other, ratio in zip(nearest, ratios, strict=True) if ratio == ratios[0]]
    return f"did you mean {' or '.join(sorted(equal))}?" if equal else ""
