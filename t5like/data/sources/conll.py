"""Reader of CoNLL's columns: a token a line, columns between tabs or spaces, a blank line behind each sentence.

A row is a sentence, with a list for each column. Tags stay as they are written: IOB1, BIO (IOB2), BIOES, BMES. Files of
Universal Dependencies (CoNLL-U) and CoNLL-X are known by their ten columns.
"""

import codecs
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.files import line_of, read_lines
from t5like.data.sources.readers import paragraphs
from t5like.data.sources.records import Row, Wanted, too_long

UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Columns of CoNLL-U (Universal Dependencies, format version 2)."""
START = "-DOCSTART-"
"""Begins the lines between documents in CoNLL-2003."""
IDEOGRAPHS = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
"""Characters between which Chinese and Japanese have no spaces, their marks included."""


def read_conll(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The sentences that begin in the bytes [start, stop): `words`, the first column, `tags`, the last of several, and
    `text`, the words joined; then each column by its name, or by its number and the last as `-1`.

    In CoNLL-U words are forms, tags universal parts of speech, and the text is that of the comment `# text = `; lines
    of several words (1-2) and of words that are not there (1.1) do not count.
    """
    width = len(source.columns) or _width(source, name)
    for offset, raw in paragraphs(source, name, start, stop):
        where = functools.partial(line_of, source, name, offset)
        if raw is None:
            yield Row(offset, {}, where, problem=f"{too_long(source)}: raise it, or break it by a blank line.")
            continue
        text, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
        lines = text.split("\n")
        tokens = _tokens(lines, width)
        ragged = next((number for number, cells in tokens.items() if len(cells) != width), None)
        if ragged is not None:
            count = len(tokens[ragged])
            known = "are named" if source.columns else "the file begins with"
            problem = f"has {count} column{'s' if count != 1 else ''} where {width} {known}."
            yield Row(offset, {}, functools.partial(line_of, source, name, offset, ragged), problem=problem)
        elif tokens:
            yield Row(offset, _values(source.columns, list(tokens.values()), lines), where, invalid)


def _width(source: Source, name: str) -> int:
    """The columns of the first line of a file that is surely no comment; 0 where there is none."""
    for offset, raw in read_lines(source, name, 0, None):
        line = decode((raw or b"") if offset else (raw or b"").removeprefix(codecs.BOM_UTF8))[0]
        if line.strip() and not line.startswith(("#", START)):
            return len(_cells(line))
    return 0


def _tokens(lines: Sequence[str], width: int) -> dict[int, list[str]]:
    """The columns of each token by the number of its line. Lines before the first token that begin with # are comments
    unless they have the columns of a token, such as `# NN O`, and no space in the first."""
    tokens: dict[int, list[str]] = {}
    for number, line in enumerate(lines):
        cells = _cells(line)
        comment = not tokens and line.startswith("#") and (len(cells) != width or cells[0].startswith("# "))
        if not comment and not line.startswith(START):
            tokens[number] = cells
    return tokens


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))


def _values(columns: Sequence[str], tokens: list[list[str]], lines: Sequence[str]) -> dict[str, Any]:
    """The fields of a sentence."""
    named = {"words": 0, "tags": -1} if len(tokens[0]) > 1 else {"words": 0}
    if columns:
        named |= {name: column for column, name in enumerate(columns)}
    elif len(tokens[0]) == len(UNIVERSAL) and all(re.fullmatch(r"\d+([-.]\d+)?", cells[0]) for cells in tokens):
        tokens = [cells for cells in tokens if cells[0].isdecimal()]
        named = {"words": 1, "tags": 3} | {name: column for column, name in enumerate(UNIVERSAL)}
    else:
        named |= {str(column): column for column in range(len(tokens[0]))} | {"-1": -1}
    lists = {name: [cells[column] for cells in tokens] for name, column in named.items()}
    said = (line.removeprefix("# text = ") for line in lines if line.startswith("# text = "))
    return {"text": next(said, None) or joined(lists["words"])} | lists


def joined(words: Sequence[str]) -> str:
    """The text of words, with a space between two unless both sides of it are Chinese or Japanese."""
    return re.sub(rf"(?<={IDEOGRAPHS}) (?={IDEOGRAPHS})", "", " ".join(words))
