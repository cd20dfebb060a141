"""What commands print with: a console, and tables that fit it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from optbench.core.progress import ProgressBar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNLIMITED = 10_000  # columns of a pipe or a file: nothing is folded there


def make_console() -> Console:
    """Standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else UNLIMITED
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

    Where the console is too narrow, `optional` columns are dropped, the first of them first.
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
            justify = "left" if column in text_columns else "right"
            table.add_column(headings[column], justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in cells:
            table.add_row(*(row[column] for column in shown))
        width = Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum
        if width <= console.width or not dropped:
            console.print(table)
            console.print()
            return
        shown.remove(dropped.pop(0))


class CommandProgress(ProgressBar):
    """The progress bar of a command, which also says how much there is to do."""

    def start(self, total: float, runs: int = 0, stored: int = 0) -> None:
        print(
            f"{runs} runs to compute" + (f", {stored} found in the results folder" if stored else ""), file=sys.stderr
        )
        super().start(total, runs, stored)
