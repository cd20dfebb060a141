"""Tables and names on the page; the macro `table` of the templates renders them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from markupsafe import Markup, escape

BREAK = Markup("<br>")
NAME = Markup("<bdi>{}</bdi>")
FLAG = Markup(' <span class="flag">{}</span>')
INTERVAL = Markup('<span class="interval">{}</span>')


class HasHtml(Protocol):
    """Anything that renders itself as HTML; other text is escaped."""

    def __html__(self) -> str: ...


@dataclass(frozen=True)
class MethodKey:
    """The name of a method, and the index of its colour and marker; None for a method without runs."""

    name: str
    index: int | None

    @property
    def marker(self) -> Markup:
        """A sample of the line of the method."""
        return Markup('<svg class="key" aria-hidden="true"><use href="#key-{}"/></svg>').format(self.index)

    def __html__(self) -> str:
        name = NAME.format(self.name)
        if self.index is None:
            return name
        return Markup('<span class="method" data-method="{}">{}{}</span>').format(self.index, self.marker, name)


@dataclass(frozen=True)
class Link:
    """A name, and the anchor that it links to, if any."""

    name: str
    anchor: str | None = None

    def __html__(self) -> str:
        name = NAME.format(self.name)
        return name if self.anchor is None else Markup('<a href="#{}">{}</a>').format(self.anchor, name)


class Cell(NamedTuple):
    """A cell of a table."""

    text: str | HasHtml
    key: float | str | None = None  # to sort by
    note: Markup = Markup()  # after the text
    title: str = ""  # tooltip
    kind: str = ""  # CSS class, or "row"; by default that of the column
    rows: int = 1  # that it spans; 0 for a cell that one above covers


class Column(NamedTuple):
    """A column: title, function from a line to its cell, kind (CSS class, or "row" for headings of rows), and meaning."""

    title: str | HasHtml
    show: Callable[[Any], Cell]
    kind: str = "number"
    meaning: str = ""


def text_of(name: str) -> Callable[[Mapping[str, str]], Cell]:
    """Cells with the text of lines under this name."""
    return lambda line: Cell(line[name])


class Row(NamedTuple):
    """A row of a table."""

    cells: list[Cell]

    @property
    def method(self) -> MethodKey | None:
        """The method with which the row is highlighted."""
        return next((cell.text for cell in self.cells if isinstance(cell.text, MethodKey)), None)


@dataclass(frozen=True)
class Table:
    """A table: headings of columns, and groups of rows, each with a heading or None."""

    heads: list[Cell]
    groups: list[tuple[Link | None, list[Row]]]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.groups)

    @classmethod
    def of(
        cls, columns: Sequence[Column], lines: Iterable[Any], group: Callable[[Any], Link | None] = lambda line: None
    ) -> Table:
        """The table of some lines; those of a group must follow each other."""

        def row(line: Any) -> Row:
            cells = ((column.show(line), column.kind) for column in columns)
            return Row([cell._replace(kind=cell.kind or kind) for cell, kind in cells if cell.rows])

        heads = [Cell(column.title, kind=column.kind, title=column.meaning) for column in columns]
        return cls(heads, [(key, [*map(row, part)]) for key, part in itertools.groupby(lines, group)])


def whole(text: str) -> Markup:
    """Text as HTML without line breaks inside numbers such as 1e-10."""
    return Markup(re.sub(r"\d(?:\.\d+)?e-\d+", r'<span class="whole">\g<0></span>', str(escape(text))))
