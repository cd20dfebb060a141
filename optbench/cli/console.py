"""What commands print with: a console, and tables that fit it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from optbench.core.progress import ProgressBar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNLIMITED = 10_000  # columns of a pipe or a file, where COLUMNS sets no other width


def make_console() -> Console:
    """Standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNLIMITED
    return Console(width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


def print_table(
    console: Console,
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    text_columns: Sequence[int] = (0,),
    optional: Sequence[int] = (),
) -> None:
    """Print a table whose columns are numbers, but for `text_columns`.

    Where the console is too narrow, `optional` columns are dropped, the first of them first; then text is folded, but no
    number is cut.
    """
    from rich.measure import Measurement
    from rich.table import Table

    cells = [*rows]
    shown, dropped = [*range(len(headings))], [*optional]
    while True:
        table = Table(
            title=title, title_style="bold", title_justify="left", box=None, pad_edge=False, header_style="dim"
        )
        for column in shown:
            text = column in text_columns
            table.add_column(headings[column], justify="left" if text else "right", overflow="fold", no_wrap=not text)
        for row in cells:
            table.add_row(*(row[column] for column in shown))
        width = Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum
        if width <= console.width or not dropped:
            console.print(table)
            console.print()
            return
        shown.remove(dropped.pop(0))


class CommandProgress(ProgressBar):
    """The progress bar of a command, which first says how much there is to do."""

    def start(self, total: float, runs: int = 0, stored: int = 0) -> None:
        found = f"; {stored} are in the results folder already" if stored else ""
        print(f"{runs} runs to compute{found}", file=sys.stderr)
        super().start(total, runs, stored)
