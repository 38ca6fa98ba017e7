"""Tables on a terminal: columns of text that stay aligned beside Chinese characters, emoji and combining marks."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

Row = Sequence[str]


def aligned(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Aligned columns; those that hold only numbers lean to the right."""
    lines = [[printable(cell) for cell in (*row, *[""] * (len(header) - len(row)))] for row in (header, *rows)]
    cells = list(zip(*lines, strict=True))
    widths = [max(map(columns, column)) for column in cells]
    numbers = [all(re.fullmatch(r"[\d,.]*%?|-", cell) for cell in column[1:]) for column in cells]
    for number, line in enumerate(lines):
        yield "  ".join(_padded(*cell) for cell in zip(line, widths, numbers, strict=True)).rstrip()
        if not number:
            yield "  ".join("-" * width for width in widths)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - columns(cell))
    return space + cell if right else cell + space


def columns(text: str) -> int:
    """Columns that a terminal gives to a text: two to Chinese characters and emoji, none to combining marks."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)


def printable(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(
        c if unicodedata.category(c)[0] != "C" or c == "\u200d" else "\ufffd" for c in " ".join(text.split())
    )


def shortened(text: str, most: int) -> str:
    """The beginning of a text, on one line of `most` columns."""
    text, width = printable(text), 0
    for number, character in enumerate(text):
        width += columns(character)
        if width > most:
            return text[:number] + "…"
    return text
