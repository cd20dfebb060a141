"""The errors a user can cause or cure; the command line prints them as one sentence, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose."""


class InputError(OptbenchError, ValueError):
    """Something that was asked for cannot be done as asked; the message names the thing, the place and the cure."""


class BackendError(OptbenchError, RuntimeError):
    """The array module or device that was asked for cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'sgd'?`` with the known name nearest to `name`; empty if none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else ""
