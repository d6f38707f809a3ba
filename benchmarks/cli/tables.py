"""Tables whose ids and numbers are never cut: in a pipe every row is one line, and narrow terminals get other layouts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

LEAST = 16  # prose is not made narrower than this
GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of ids ("left"), of numbers ("right"), or of words, which may be wrapped ("prose")."""

    name: str
    kind: Literal["left", "right", "prose"] = "left"


class Table:
    """Rows of text. The first column holds the row's id."""

    def __init__(self, *columns: Column) -> None:
        self.columns, self.rows = columns, list[tuple[str, ...]]()

    def add(self, *cells: str) -> None:
        """Add a row; white space in a cell becomes single spaces, control characters question marks."""
        words = (" ".join(cell.split()) for cell in cells)
        self.rows.append(tuple("".join(c if c.isprintable() else "?" for c in text) for text in words))

    def print(self, console: Console) -> None:
        """Print all rows. On a terminal, prose is wrapped so that they fit.

        If that is not enough, ids stand above their rows; if that is not enough either, each cell gets a line.
        """
        widths, room = self._widths(), console.width if console.is_terminal else None
        if fitted := _fitted(self.columns, widths, room):
            lines = self._side_by_side(fitted)
        elif fitted := _fitted(self.columns[1:], widths[1:], room and room - GAP):
            lines = self._under_ids(fitted)
        else:
            lines = self._one_by_one(room or 0)
        for line in lines:
            console.print(line, soft_wrap=True)

    def _widths(self) -> list[int]:
        names = [column.name for column in self.columns]
        return [max(map(cell_len, cells)) for cells in zip(names, *self.rows, strict=True)]

    def _side_by_side(self, widths: Sequence[int]) -> Iterator[Text]:
        yield from self._head(self.columns, widths)
        for row in self.rows:
            yield from _aligned(self.columns, row, widths)

    def _under_ids(self, widths: Sequence[int]) -> Iterator[Text]:
        yield Text(self.columns[0].name, "bold")
        yield from (_indented(line) for line in self._head(self.columns[1:], widths))
        for name, rows in itertools.groupby(self.rows, key=lambda row: row[0]):
            yield Text(name)
            for _, *cells in rows:
                yield from (_indented(line) for line in _aligned(self.columns[1:], cells, widths))

    def _one_by_one(self, room: int) -> Iterator[Text]:
        names = max(cell_len(column.name) for column in self.columns[1:])
        columns = (Column("", "left"), Column("", "prose"))
        for name, *cells in self.rows:
            yield Text(name)
            for column, cell in zip(self.columns[1:], cells, strict=True):
                prose = column.kind == "prose"
                width = max(LEAST, room - names - 2 * GAP) if prose else cell_len(cell)
                yield from (_indented(line) for line in _aligned(columns, (column.name, cell), (names, width)))

    def _head(self, columns: Sequence[Column], widths: Sequence[int]) -> Iterator[Text]:
        for line in _aligned(columns, [column.name for column in columns], widths):
            line.stylize("bold")
            yield line


def _fitted(columns: Sequence[Column], widths: Sequence[int], room: int | None) -> list[int] | None:
    """Widths with which all columns fit into `room` (None is endless), with narrower prose if needed; None if they don't."""
    found = list(widths)
    excess = 0 if room is None else sum(found) + GAP * (len(found) - 1) - room
    prose = [index for index, column in enumerate(columns) if column.kind == "prose"]
    while excess > 0:
        widest = max(prose, key=lambda index: found[index], default=None)
        if widest is None or found[widest] <= LEAST:
            return None
        found[widest] -= 1
        excess -= 1
    return found


def _aligned(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> Iterator[Text]:
    """The lines of one row."""
    parts = [
        _wrapped(cell, width) if column.kind == "prose" else [cell]
        for column, cell, width in zip(columns, cells, widths, strict=True)
    ]
    for line in itertools.zip_longest(*parts, fillvalue=""):
        padded = [
            " " * (width - cell_len(text)) + text if column.kind == "right" else text + " " * (width - cell_len(text))
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        yield Text((" " * GAP).join(padded).rstrip())


def _wrapped(text: str, width: int) -> list[str]:
    return [line.plain.rstrip() for line in Text(text).wrap(_PLAIN, width)]


def _indented(line: Text) -> Text:
    return Text(" " * GAP) + line


_PLAIN = Console(width=80)  # rich needs a console to wrap text
