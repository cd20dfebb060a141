"""A progress bar for calls that take longer than about a second, in terminals and notebooks."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from typing import Any, Self

MIN_SECONDS = 1.0  # before the bar appears
REDRAW_SECONDS = 0.1
MIN_ESTIMATE = 0.01  # fraction of the work before the remaining time is estimated
WIDTH = 20  # characters of the bar


class ProgressBar:
    """Progress of a call, drawn on standard error as ``running ━━━━━━━        45 %   0:12, 0:15 left  adam on mlp``.

    The end of the line is what was done last.

    Parameters
    ----------
    label : str
        What the call does, in one word.
    progress : bool or None
        Whether to draw; None draws in terminals and notebooks only.
    """

    def __init__(self, label: str, progress: bool | None = None) -> None:
        self.label = label
        self.enabled = (_in_notebook() or sys.stderr.isatty()) if progress is None else progress
        self.total, self.done = 0.0, 0.0
        self.begin = self.drawn = time.monotonic()
        self.last = ""  # part of the work that is done
        self.length = 0  # of the drawn line
        self.output: Any = None  # display of a notebook cell, updated in place

    @classmethod
    def of(cls, label: str, progress: bool | ProgressBar | None) -> ProgressBar:
        """The given bar, or a new one."""
        return progress if isinstance(progress, ProgressBar) else cls(label, progress)

    def start(self, total: float, runs: int = 0, stored: int = 0) -> None:
        """Begin `total` units of work: `runs` are to be computed, and `stored` ones exist already."""
        self.total, self.done, self.begin = total, 0.0, time.monotonic()

    def advance(self, amount: float) -> None:
        """Add finished work, and draw the bar if it is due."""
        self.done += amount
        now = time.monotonic()
        if self.enabled and self.total > 0 and now - self.begin > MIN_SECONDS and now - self.drawn > REDRAW_SECONDS:
            self.drawn = now
            self._draw(self._line(now - self.begin))

    def note(self, part: str) -> None:
        """Name the part of the work that has just been done."""
        self.last = part

    def _line(self, seconds: float) -> str:
        part = min(1.0, self.done / self.total)
        left = f", {_clock(seconds / part - seconds)} left" if part > MIN_ESTIMATE else ""
        bar = ("━" * round(WIDTH * part)).ljust(WIDTH)
        line = f"{self.label} {bar} {100 * part:3.0f} %   {_clock(seconds)}{left}"
        return f"{line}  {self.last}".rstrip()[: shutil.get_terminal_size().columns - 1]

    def _draw(self, line: str) -> None:
        if _in_notebook():
            content = {"text/plain": line}
            if self.output is None:
                self.output = importlib.import_module("IPython.display").display(content, raw=True, display_id=True)
            else:
                self.output.update(content, raw=True)
        else:
            sys.stderr.write("\r" + line.ljust(self.length) + ("" if line else "\r"))
            sys.stderr.flush()
        self.length = len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.done = self.total  # failed runs do not report their work
        if self.output is not None:
            self._draw(self._line(time.monotonic() - self.begin))  # remains below the cell
        elif self.length:
            self._draw("")


def _in_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel.")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
