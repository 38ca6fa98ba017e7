"""A confusion table as a picture: SVG, which is text, needs no library, and is sharp in browsers and papers."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from t5like.data.aligned import columns, shortened
from t5like.tasks.diagnosis.confusion import Confusion

IN_PICTURE = 40
"""Most classes of a picture."""
CELL, COLUMN, SIZE = 36, 7, 12
"""Pixels of a cell, of a column of text, and of a letter."""
LONGEST = 30
"""Columns of a name."""
CORNER = 10
"""Columns of the corner at least, for the names of both sides."""
BLUE, GREY = "#1f5fa8", "#707070"


def svg(confusion: Confusion) -> str:
    """The table with a blue as deep as the share of the row's targets; the others of many classes are one."""
    small = confusion.reduced(IN_PICTURE)
    heads, rows = ([shortened(name, LONGEST) for name in names] for names in (small.columns, small.names))
    left = COLUMN * max(CORNER, *map(columns, [*heads, *rows])) + 2 * SIZE
    width, height = left + CELL * len(heads) + SIZE, left + CELL * len(rows) + SIZE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="{SIZE}">',
        "<title>Targets in rows, predictions in columns</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="6" y="{SIZE + 4}" fill="{GREY}">predicted →</text>',
        f'<text x="6" y="{2 * SIZE + 8}" fill="{GREY}">target ↓</text>',
        *_names(heads, rows, left),
        *_cells(small, left),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _names(heads: list[str], rows: list[str], left: int) -> Iterator[str]:
    for number, name in enumerate(heads):
        x, y = left + CELL * number + CELL // 2 + 4, left - SIZE // 2
        yield f'<text x="{x}" y="{y}" transform="rotate(-90 {x} {y})">{escape(name)}</text>'
    for number, name in enumerate(rows):
        y = left + CELL * number + CELL // 2 + 4
        yield f'<text x="{left - SIZE // 2}" y="{y}" text-anchor="end">{escape(name)}</text>'


def _cells(confusion: Confusion, left: int) -> Iterator[str]:
    """A square for each pair, with its count unless that is 0."""
    for row, counts in enumerate(confusion.counts):
        for column, count in enumerate(counts[: len(confusion.columns)]):
            share = count / max(sum(counts), 1)
            x, y = left + CELL * column, left + CELL * row
            yield (
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{BLUE}" fill-opacity="{share:.3f}" '
                'stroke="#cccccc"/>'
            )
            if count:
                ink = "white" if share > 0.5 else "black"
                x, y = x + CELL // 2, y + CELL // 2 + 4
                yield f'<text x="{x}" y="{y}" text-anchor="middle" fill="{ink}">{count}</text>'
