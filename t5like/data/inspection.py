"""Batches for people and programs: what `t5like inspect` prints.

People see the text of each row, where a bar or a change of colour divides segments (and BERT's sentences A and B),
special tokens stand by their names, and, where some targets count for nothing, «» enclose those that are learnt or
colour dims the rest. Control characters appear as their pictures, a line feed as ␊. Programs see everything.
"""

import io
import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from t5like.data.vocabulary import Vocabulary
from t5like.data.vocabulary.tables import is_chinese

Features = Mapping[str, Shaped[np.ndarray, "rows ..."]]

BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Classes of the characters that change the order of those around them."""
COLORS = ("default", "cyan")
"""Text of odd and even segments."""
MARKS = {"special": "bold yellow", "sentinel": "bold magenta"}


class RowOrigin(NamedTuple):
    """The provenance of a row."""

    source: str
    epoch: int
    position: int
    """Number of the row within the source."""
    documents: tuple[str, ...]
    """Names of the documents, each like "a.jsonl#120"."""


class Style(NamedTuple):
    """The style that the tokens of a run share."""

    kind: Literal["text", "special", "sentinel"]
    group: tuple[int, int]
    """Segment and token type."""
    counts: bool
    """True if the loss counts them."""


Run = tuple[str, Style]


def as_json(
    features: Features,
    vocabulary: Vocabulary,
    descriptions: Sequence[RowOrigin],
    first: int = 0,
    labels: bool = False,
) -> Iterator[dict[str, Any]]:
    """For each row: its number from `first` on, its origin, the fill of each stack as a share, the text of each
    segment by the name of the feature, and all features themselves.

    Texts name special tokens and leave out padding and EOS. With `labels`, targets are labels of tokens and no text.
    """
    for row, (origin, own) in enumerate(zip(descriptions, _rows(features), strict=True)):
        stacks = _stacks(own)
        yield {
            "row": first + row,
            **origin._asdict(),
            "documents": list(origin.documents),
            "fill": {stack: float((own[f"{stack}_segment_ids"] > 0).mean()) for stack in stacks},
            "text": {
                name: _texts(own[name], own[f"{stack}_segment_ids"], vocabulary)
                for stack in stacks
                for name in own
                if name.startswith(stack) and name.endswith("_input_tokens" if labels else "_tokens")
            },
            "features": {name: values.tolist() for name, values in own.items()},
        }


def as_text(
    features: Features,
    vocabulary: Vocabulary,
    descriptions: Sequence[RowOrigin],
    color: bool,
    first: int = 0,
    width: int = 100,
    labels: bool = False,
) -> str:
    """The rows for people, numbered from `first` on, in lines of at most `width` columns; with ANSI colours or none.

    With `labels`, targets are labels of tokens and not tokens."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    page = io.StringIO()
    console = Console(
        file=page, width=width, force_terminal=color, color_system="standard" if color else None, legacy_windows=False
    )
    for row, (origin, own) in enumerate(zip(descriptions, _rows(features), strict=True)):
        console.print(Text(_heading(first + row, origin, own), style="bold"))
        if origin.documents:
            console.print(Padding(Text("documents: " + ", ".join(map(_visible, origin.documents))), (0, 0, 0, 2)))
        for stack in _stacks(own):
            console.print(Text(f"  {_summary(stack, own)}"))
            for name, tokens in _streams(stack, own, vocabulary, labels):
                console.print(Text(f"  {name}"))
                console.print(Padding(Text.assemble(*_pieces(tokens, color)), (0, 0, 0, 4)))
        console.print()
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _rows(features: Features) -> Iterator[dict[str, Shaped[np.ndarray, "..."]]]:
    """The features of each row."""
    (count,) = {len(values) for values in features.values()}
    for row in range(count):
        yield {name: np.asarray(features[name][row]) for name in sorted(features)}


def _stacks(own: Mapping[str, np.ndarray]) -> list[str]:
    return [stack for stack in ("encoder", "decoder") if f"{stack}_segment_ids" in own]


def _texts(tokens: np.ndarray, segments: np.ndarray, vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.decode(tokens[segments == segment]) for segment in range(1, int(segments.max(initial=0)) + 1)]


def _heading(row: int, origin: RowOrigin, own: Mapping[str, np.ndarray]) -> str:
    label = f", label {own['labels']}" if "labels" in own else ""
    source = _visible(origin.source)
    return f"row {row}: source {source}, epoch {origin.epoch}, position {origin.position:,}{label}"


def _summary(stack: str, own: Mapping[str, np.ndarray]) -> str:
    segments = own[f"{stack}_segment_ids"]
    real, count = int((segments > 0).sum()), int(segments.max(initial=0))
    text = f"{stack}: {real} of {segments.size} positions filled ({real / max(segments.size, 1):.1%})"
    text += f", {count} segment{'s' if count != 1 else ''}"
    weights = own.get(f"{stack}_loss_weights")
    return text if weights is None else f"{text}, {int((weights > 0).sum())} targets count"


def _streams(
    stack: str, own: Mapping[str, np.ndarray], vocabulary: Vocabulary, labels: bool
) -> Iterator[tuple[str, list[Run]]]:
    """The lines of a stack. A decoder's inputs are its targets one position later and say nothing more, unless these
    are labels or none."""
    segments = own[f"{stack}_segment_ids"]
    types = own.get(f"{stack}_token_types", np.zeros_like(segments))
    targets = f"{stack}_target_tokens" in own
    if stack == "encoder" or labels or not targets:
        yield "inputs", list(_runs(own[f"{stack}_input_tokens"], segments, types, segments > 0, vocabulary))
    if targets:
        counts = own[f"{stack}_loss_weights"] > 0
        if labels:
            shown = " ".join(map(str, own[f"{stack}_target_tokens"][counts].tolist()))
            yield "labels", [(shown, Style("text", (0, 0), True))]
            return
        yield "targets", list(_runs(own[f"{stack}_target_tokens"], segments, types, counts, vocabulary))


def _runs(
    tokens: np.ndarray, segments: np.ndarray, types: np.ndarray, counts: np.ndarray, vocabulary: Vocabulary
) -> Iterator[Run]:
    """The tokens of a row without its padding; a character of several tokens is shown if they are in one run."""
    special, sentinels = vocabulary.is_special, set(vocabulary.sentinels.tolist())

    def style(position: int) -> Style:
        number = int(tokens[position])
        ordinary = 0 <= number < len(special) and not special[number]
        kind = "text" if ordinary else "sentinel" if number in sentinels else "special"
        return Style(kind, (int(segments[position]), int(types[position])), bool(counts[position]))

    for shared, positions in itertools.groupby(np.flatnonzero(segments > 0).tolist(), style):
        numbers = [int(tokens[position]) for position in positions]
        if shared.kind == "text":
            yield (
                _visible(b"".join(_spelt(number, vocabulary) for number in numbers).decode("utf-8", "replace")),
                shared,
            )
        else:
            yield _visible("".join(map(vocabulary.name, numbers))), shared


def _spelt(number: int, vocabulary: Vocabulary) -> bytes:
    """The bytes of a token, with the space before a word that WordPiece does not spell."""
    pieces = vocabulary.pieces
    name = pieces.name(number) if pieces.continuation else ""
    apart = name[:1].isalnum() and not is_chinese(name[0]) and not name.startswith(pieces.continuation)
    return b" " + pieces.spelt(number) if apart else pieces.spelt(number)


def _pieces(runs: Sequence[Run], color: bool) -> Iterator[tuple[str, str]]:
    """Texts and their styles for rich, with bars between groups and marks where colours cannot tell."""
    marked = not color and not all(style.counts for _, style in runs)
    for group, members in itertools.groupby(runs, lambda run: run[1].group):
        if group != runs[0][1].group:
            yield " | ", "dim" if color else ""
        for counts, texts in itertools.groupby(members, lambda run: run[1].counts):
            yield "«" if marked and counts else "", ""
            for text, style in texts:
                yield text, (MARKS.get(style.kind) or COLORS[(sum(group) + 1) % 2]) + ("" if counts else " dim")
            yield "»" if marked and counts else "", ""


def _visible(text: str) -> str:
    """The text with pictures or codes instead of what a terminal would obey."""
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    code = ord(character)
    if code < 32 or code == 127:
        return chr(0x2421 if code == 127 else 0x2400 + code)
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return f"<U+{code:04X}>" if hidden or unicodedata.bidirectional(character) in BIDIRECTIONAL else character
