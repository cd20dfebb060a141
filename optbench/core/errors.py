"""Errors that users can correct; the command line prints them without a traceback."""

from __future__ import annotations

import contextlib
import difflib
import reprlib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_OWN = [Path(__file__).parents[1], *(Path(__file__).parents[2] / name for name in ("problems", "reports"))]
_INSTALLED = {Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
MAX_WORD, MAX_MESSAGE = 200, 450  # characters; a word may be a path


class OptbenchError(Exception):
    """Base of every error that optbench raises on purpose. Its message is one line of at most `MAX_MESSAGE` characters."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_one_line(str(message)))


class InputError(OptbenchError, ValueError):
    """A request that cannot be met. The message names what is wrong, where, and how to correct it."""


class BackendError(OptbenchError, RuntimeError):
    """The requested array module or device cannot be used here."""


class StoreError(OptbenchError, OSError):
    """The results folder cannot be read or written."""


@contextlib.contextmanager
def blaming(owner: str) -> Iterator[None]:
    """A context whose code may belong to a plug-in: what it raises becomes an `InputError` that names the owner."""
    try:
        yield
    except (OptbenchError, MemoryError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit as well, or a plug-in could end the command without a word
        raise InputError(f"{owner}: {error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """Type and message of an error in one line, and the file and line of the user's code that raised it."""
    try:
        message = _one_line(str(error))
    except Exception as other:  # its __str__ raises
        message = f"(no message, because its __str__ raises {type(other).__name__})"
    name, place = type(error).__name__, place_of(error)
    return (f"{name}: {message}" if message else name) + (f" ({place})" if place else "")


def place_of(error: BaseException) -> str:
    """File and line of the user's code that raised an error; empty if there is none."""
    lines = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    lines = [(file, line) for file, line in lines if _is_of_user(file)]
    return f"{Path(lines[-1][0]).name}, line {lines[-1][1]}" if lines else ""


def _is_of_user(filename: str) -> bool:
    """Whether a file belongs neither to Python nor to an installed package nor to optbench."""
    return not filename.startswith("<") and not any(Path(filename).is_relative_to(p) for p in (*_OWN, *_INSTALLED))


def shown(value: Any) -> str:
    """The `repr` of a value for a message, which is short whatever the value is."""
    try:
        return _reprlib.repr(value)
    except ValueError:  # Python writes integers of up to 4300 digits
        return "a number of thousands of digits"


_reprlib = reprlib.Repr()
_reprlib.maxstring = _reprlib.maxother = _reprlib.maxlong = 100


def _one_line(text: str) -> str:
    """A short text of printable characters."""
    text = _shortened(text, 20 * MAX_MESSAGE)
    words = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text).split()
    return _shortened(" ".join(_shortened(word, MAX_WORD) for word in words), MAX_MESSAGE)


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
