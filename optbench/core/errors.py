"""Errors that users can correct; the command line prints them without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose."""


class InputError(OptbenchError, ValueError):
    """A request that cannot be met. The message names what is wrong, where, and how to correct it."""


class BackendError(OptbenchError, RuntimeError):
    """The requested array module or device cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'sgd'?`` with the known names nearest to `name`; empty if none is near."""
    names = list(known)
    alike = [other for other in names if other[:1] == name[:1]]
    nearest = difflib.get_close_matches(name, names, 3, 0.6) or difflib.get_close_matches(name, alike, 3, 0.5)
    ratios = [difflib.SequenceMatcher(None, other, name).ratio() for other in nearest]
    equal = [repr(other) for other, ratio in zip(nearest, ratios, strict=True) if ratio == ratios[0]]
    return f"did you mean {' or '.join(sorted(equal))}?" if equal else ""
