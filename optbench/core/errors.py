"""The errors a user can cause or cure; the command line prints them as one sentence, without a traceback."""

from __future__ import annotations


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose."""


class InputError(OptbenchError, ValueError):
    """Something that was asked for cannot be done as asked; the message names the thing, the place and the cure."""


class BackendError(OptbenchError, RuntimeError):
    """The array module or device that was asked for cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""
