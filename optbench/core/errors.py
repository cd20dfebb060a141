"""Errors that users can correct; the command line prints them without a traceback."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

_OWN = [Path(__file__).parents[1], *(Path(__file__).parents[2] / name for name in ("problems", "reports"))]
_INSTALLED = {Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose."""


class InputError(OptbenchError, ValueError):
    """A request that cannot be met. The message names what is wrong, where, and how to correct it."""


class BackendError(OptbenchError, RuntimeError):
    """The requested array module or device cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""


MAX_TEXT = 500  # characters of a message of someone else's code


def error_text(error: BaseException) -> str:
    """Type and message of an error in one line, and the file and line of the user's code that raised it."""
    try:
        message = " ".join(str(error).split())
    except Exception as other:  # its __str__ raises
        message = f"(no message, because its __str__ raises {type(other).__name__})"
    if len(message) > MAX_TEXT:
        message = f"{message[:MAX_TEXT]}..."
    message = message.encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
    name = type(error).__name__
    lines = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    lines = [(file, line) for file, line in lines if _is_of_user(file)]
    place = f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else ""
    return (f"{name}: {message}" if message else name) + place


def _is_of_user(filename: str) -> bool:
    """Whether a file belongs neither to Python nor to an installed package nor to optbench."""
    return not filename.startswith("<") and not any(Path(filename).is_relative_to(p) for p in (*_OWN, *_INSTALLED))


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'sgd'?`` with the known names nearest to `name`; empty if none is near."""
    names = list(known)
    alike = [other for other in names if other[:1] == name[:1]]
    nearest = difflib.get_close_matches(name, names, 3, 0.6) or difflib.get_close_matches(name, alike, 3, 0.5)
    ratios = [difflib.SequenceMatcher(None, other, name).ratio() for other in nearest]
    equal = [repr(other) for other, ratio in zip(nearest, ratios, strict=True) if ratio == ratios[0]]
    return f"did you mean {' or '.join(sorted(equal))}?" if equal else ""
