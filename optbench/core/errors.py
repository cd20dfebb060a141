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
    """The question ``did you mean 'sgd'?`` with the known name nearest to `name`; empty if none is near."""
    names = list(known)
    alike = [other for other in names if other[:1] == name[:1]]
    nearest = difflib.get_close_matches(name, names, 1, 0.6) or difflib.get_close_matches(name, alike, 1, 0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else ""
