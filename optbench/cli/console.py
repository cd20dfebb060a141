"""What commands print with: a console, and tables that fit it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from optbench.core.progress import ProgressBar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 2  # columns between two columns of a table
SHORT = 40  # columns that a text which may be cut off is given at least
NAME = 18  # columns within which text is not folded
UNLIMITED = 10_000  # columns of a pipe or a file, where COLUMNS sets no other width


class StrippedOutput:
    """Standard output without the blanks at the ends of lines, with which rich fills the columns of a table."""

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(r" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


def make_console() -> Console:
    """Standard output."""
    from rich.console import Console

    class QuietConsole(Console):
        """Leaves a pipe whose reader has gone to `cli.main`."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    terminal = sys.stdout.isatty()
    width = None if terminal or "COLUMNS" in os.environ else UNLIMITED
    file = None if terminal else cast(IO[str], StrippedOutput())
    return QuietConsole(file=file, width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


def say(message: object) -> None:
    """Print a message on standard error, folded to the width of a terminal."""
    text = f"optbench: {message}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    with contextlib.suppress(OSError):  # as of a full disk
        print(text, file=sys.stderr)


def print_table(
    console: Console,
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    text_columns: Sequence[int] = (0,),
    short_columns: Sequence[int] = (),
    optional: Sequence[int] = (),
) -> None:
    """Print a table whose columns are numbers, but for `text_columns` and `short_columns`.

    Where the console is too narrow, columns without any value ("–") are dropped, then `optional` columns, the first of
    them first. Then text is folded, or cut off in `short_columns`. Numbers and the first `NAME` columns of a text are
    never cut: rather, lines are longer than the console.
    """
    from rich.cells import cell_len
    from rich.table import Table

    cells = [*rows]
    widths = [max(cell_len(str(row[i])) for row in [headings, *cells]) for i in range(len(headings))]
    widths = [min(width, SHORT) if i in short_columns else width for i, width in enumerate(widths)]
    shown = [*range(len(headings))]
    empty = [i for i in shown if i not in text_columns and {str(row[i]) for row in cells} == {"–"}]
    for column in dict.fromkeys([*empty, *optional]):
        if sum(widths[i] + GAP for i in shown) > console.width:
            shown.remove(column)
    needed = sum((min(widths[i], NAME) if i in text_columns else widths[i]) + GAP for i in shown)
    width = needed if needed > console.width else None
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", width=width)
    room = console.width - GAP - sum(widths[i] + GAP for i in shown if i not in short_columns)
    for i in shown:
        number, short = i not in (*text_columns, *short_columns), i in short_columns
        table.add_column(
            headings[i],
            justify="right" if number else "left",
            no_wrap=number or short,
            overflow="ellipsis" if short else "fold",
            min_width=min(widths[i], NAME),
            max_width=max(room, SHORT) if short else None,
        )
    for row in cells:
        table.add_row(*(row[i] for i in shown))
    console.print(title, style="bold")
    console.print(table, crop=False)
    console.print()


class CommandProgress(ProgressBar):
    """The progress bar of a command, which first says what there is to do."""

    def __init__(self, announcement: str) -> None:
        super().__init__("running")
        self.announcement = announcement

    def start(self, total: float, runs: int = 0, stored: int = 0) -> None:
        found = f", {stored} found in the results folder" if stored else ""
        print(f"{self.announcement}: {runs} runs to compute{found}", file=sys.stderr)
        super().start(total, runs, stored)
