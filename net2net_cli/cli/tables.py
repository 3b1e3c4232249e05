"""Tables for terminals: aligned columns that never break a name; in a pipe, as wide as they need to be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

from net2net_cli.cli.printing import bold, terminal_width

GAP = "  "
Align = Literal["<", ">"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Columns under their names.

    Args:
        header: of each column.
        rows: cells as text.
        align: `<` or `>` for each column. The last column is cut to the terminal's width.
    """
    widths = [max(cells(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    room = last_column_room(widths)
    lines = [_line(row, widths, align, room) for row in (header, *rows)]
    return "\n".join([bold(lines[0]), *lines[1:]])


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one a line; empty values are left out."""
    kept = [(name, value) for name, value in rows if value]
    width = max((cells(name) for name, _ in kept), default=0)
    return "\n".join(f"{pad(name, width)}{GAP}{value}" for name, value in kept)


def last_column_room(widths: Sequence[int]) -> int | None:
    """How wide the last column may be, or None where there is no limit."""
    terminal = terminal_width()
    return None if terminal is None else max(12, terminal - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))


def _line(row: Sequence[str], widths: Sequence[int], align: str, room: int | None) -> str:
    *fixed, last = row
    parts = [pad(cell, width, side) for cell, width, side in zip(fixed, widths, align, strict=False)]
    last = shortened(last, room)
    if align[len(row) - 1] == ">":
        last = pad(last, widths[-1], ">")
    return GAP.join([*parts, last]).rstrip()


def pad(text: str, width: int, side: str = "<") -> str:
    """Filled up with spaces to a number of terminal cells."""
    space = " " * (width - cells(text))
    return space + text if side == ">" else text + space


def shortened(text: str, room: int | None) -> str:
    """Cut to a number of cells, with an ellipsis."""
    if room is None or cells(text) <= room:
        return text
    kept = text
    while kept and cells(kept) > room - 1:
        kept = kept[:-1]
    whole = kept if text[len(kept)] == " " else kept.rpartition(" ")[0]
    return (whole or kept).rstrip(" ,") + "…"


def cells(text: str) -> int:
    """How many terminal cells the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def count(number: int) -> str:
    """`25,557,032`."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def brief(number: float) -> str:
    """`4.09 G`: three digits and a unit of a thousand."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def growth(before: float, after: float) -> str:
    """`+1.8 %`; nothing where nothing changed."""
    return f"{(after / before - 1) * 100:+.1f} %" if before and before != after else ""
