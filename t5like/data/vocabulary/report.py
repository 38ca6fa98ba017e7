"""Tokenization of texts in figures and token by token: the report of `t5like vocabulary`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from t5like import config
from t5like.data.vocabulary import Vocabulary, make_vocabulary, train_pieces
from t5like.data.vocabulary.tables import is_chinese

LONGEST = 20
INVISIBLE = {" ": "␣", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Report(NamedTuple):
    """Figures of a vocabulary on text that it was not learned from; None where there is no text to tell."""

    pieces: int
    texts: int
    characters: int
    tokens: int
    unit: str
    """Unit of `tokens_per_unit`: a word, or a character where most of the text is Chinese."""
    tokens_per_unit: float | None
    bytes_per_token: float | None
    unknown: float | None
    """Share of the tokens that are the unknown piece; 0 for a tokenizer that has none."""
    byte_fallback: float | None
    """Share of the tokens that hold parts of characters."""
    unchanged: float | None
    """Share of the texts that come back as they were."""
    longest: tuple[str, ...]
    special: tuple[tuple[int, str], ...]
    """Id and name of the special tokens, by id."""


def learn(
    settings: config.Vocabulary, training_texts: Iterable[str], held_out: Sequence[str], output: epath.Path
) -> Report:
    """Learn a vocabulary, save it to a folder, and report on held-out texts.

    Raises:
      UserError: it cannot be learned (`train_pieces`), or the folder cannot be written.
    """
    vocabulary = make_vocabulary(train_pieces(settings, training_texts), settings)
    vocabulary.save(output)
    return report(vocabulary, held_out)


def report(vocabulary: Vocabulary, held_out: Sequence[str]) -> Report:
    """The figures of a vocabulary on texts; each is encoded as a document, and its EOS not counted."""
    rows = [row[:-1] for row in vocabulary.encode_documents(held_out)]
    tokens = np.concatenate([np.zeros(0, np.int32), *rows])
    unit, units = _units(held_out)
    parts = np.array([_is_part(vocabulary, number) for number in range(vocabulary.pieces.size)])
    back = [vocabulary.decode(row) == text for row, text in zip(rows, held_out, strict=True)]
    by_length = sorted(vocabulary.ordinary.tolist(), key=lambda number: (-_length(vocabulary, number), number))
    return Report(
        pieces=vocabulary.size,
        texts=len(held_out),
        characters=sum(map(len, held_out)),
        tokens=len(tokens),
        unit=unit,
        tokens_per_unit=_share(len(tokens), units),
        bytes_per_token=_share(sum(len(text.encode("utf-8", "replace")) for text in held_out), len(tokens)),
        unknown=_share(int((tokens == vocabulary.unk).sum()), len(tokens)),
        byte_fallback=_share(int(parts[tokens].sum()), len(tokens)),
        unchanged=_share(sum(back), len(back)),
        longest=tuple(_spelling(vocabulary, number) for number in by_length[:LONGEST]),
        special=_special_rows(vocabulary),
    )


def as_text(report: Report) -> str:
    """The report for people."""
    lines = [f"{report.pieces:,} pieces"]
    if report.tokens:
        lines += [
            f"held-out text     {report.texts:,} texts, {report.characters:,} characters, {report.tokens:,} tokens",
            f"tokens            {_figure(report.tokens_per_unit)} a {report.unit}",
            f"bytes             {_figure(report.bytes_per_token)} a token",
            f"unknown           {_percent(report.unknown)} of the tokens",
            f"byte by byte      {_percent(report.byte_fallback)} of the tokens hold parts of characters",
            f"come back         {_percent(report.unchanged)} of the texts, unchanged",
        ]
    else:
        lines.append("held-out text     none, so there are no figures")
    lines.append(f"longest pieces    {' '.join(map(visible, report.longest))}")
    lines.append(f"special pieces    {_ranges(report.special)}")
    return "\n".join(lines) + "\n"


def shown(vocabulary: Vocabulary, text: str) -> str:
    """A text token by token: id and spelling of each, special ones by name, and whether the text comes back.

    Raises:
      UserError: half a surrogate pair in the text.
    """
    ids = vocabulary.encode(text)
    width = len(str(vocabulary.size - 1))
    lines = [f"{number:>{width}}  {_shown_piece(vocabulary, number)}" for number in ids]
    back = vocabulary.decode(ids)
    lines.append(f"{len(ids)} pieces, {len(text)} characters, {len(text.encode())} bytes")
    lines.append("comes back unchanged" if back == text else f"comes back as: {visible(back)}")
    return "\n".join(lines) + "\n"


def visible(text: str) -> str:
    """A text on one line, its spaces as ␣ and what cannot be seen as an escape."""
    return "".join(INVISIBLE.get(c) or (c if c.isprintable() else c.encode("unicode_escape").decode()) for c in text)


def _shown_piece(vocabulary: Vocabulary, number: int) -> str:
    if vocabulary.is_special[number]:
        return f"{visible(vocabulary.name(number))}  ({'unknown text' if number == vocabulary.unk else 'special'})"
    return visible(_spelling(vocabulary, number))


def _spelling(vocabulary: Vocabulary, number: int) -> str:
    """The text of a piece; WordPiece's ## before those within a word, bytes of parts of characters as <0xE4>."""
    pieces = vocabulary.pieces
    if pieces.continuation:
        return pieces.name(number)
    spelt = pieces.spelt(number)
    try:
        return spelt.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in spelt)


def _length(vocabulary: Vocabulary, number: int) -> int:
    """Whole characters of an ordinary piece."""
    return len(vocabulary.pieces.spelt(number).decode("utf-8", "ignore"))


def _is_part(vocabulary: Vocabulary, number: int) -> bool:
    """True if a token holds part of a character."""
    spelt = vocabulary.pieces.spelt(number)
    return spelt.decode("utf-8", "ignore").encode() != spelt


def _units(texts: Sequence[str]) -> tuple[str, int]:
    """The characters of a text that is mostly Chinese, spaces aside, or else its words; Chinese characters count as
    words there."""
    characters = sum(len(text) - sum(map(str.isspace, text)) for text in texts)
    chinese = sum(sum(map(is_chinese, text)) for text in texts)
    if 2 * chinese > characters:
        return "character", characters
    apart = ("".join(f" {c} " if is_chinese(c) else c for c in text) if chinese else text for text in texts)
    return "word", sum(len(text.split()) for text in apart)


def _special_rows(vocabulary: Vocabulary) -> tuple[tuple[int, str], ...]:
    control = {number for number in vocabulary.pieces.control if number is not None}
    return tuple((n, vocabulary.name(n)) for n in sorted(control | set(vocabulary.special.values())))


def _ranges(rows: Sequence[tuple[int, str]]) -> str:
    """Special tokens by id, runs of sentinels shortened."""
    shown: list[str] = []
    for at, (number, name) in enumerate(rows):
        inner = all(0 <= n < len(rows) and rows[n][1].startswith("<extra_id_") for n in (at - 1, at, at + 1))
        if not inner:
            shown.append(f"{number} {visible(name)}")
        elif shown[-1] != "...":
            shown.append("...")
    return "  ".join(shown)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4%}"
