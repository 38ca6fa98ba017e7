"""Held-out passages: the input, the truth, and the answers of the trained and of the initial parameters."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5like.config import Data
from t5like.config.decoding import Decoding
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import Vocabulary
from t5like.infer.characters import characters_of, only_whole, until_whole, whole_cut, whole_masks, whole_spans
from t5like.infer.fill import fill_tokens
from t5like.infer.generate import Generator, generator_of
from t5like.model.sharding import Params
from t5like.runs.opened import Restored
from t5like.strict_json import dumps

Features = Mapping[str, np.ndarray]
CONTINUATION = 48
"""Most tokens of a continuation: enough to judge, on one screen."""
TOGETHER = 64
"""Rows that are answered at once, so that many take no more memory than few."""
SPAN, TARGET, NEXT, MASK = "span", "target", "next token", "mask"
"""The units of which the shares are taken: in a text that simply goes on, the first token."""
Tokens = tuple[int, ...]


class Gap(NamedTuple):
    """A gap that the model had to fill: its true text and both answers."""

    name: str
    truth: str
    model: str
    untrained: str
    exact: bool
    """True if the model's tokens are those of the truth, one for one; of a continuation that counts the first alone."""


class Passage(NamedTuple):
    """A row of the validation split: its input, the gaps in it, and the untrained model's answer in full."""

    shown: str
    gaps: list[Gap]
    untrained_answer: str


class Shares(NamedTuple):
    """The share of gaps that the model fills exactly, beside that of the one answer that fits most of the same gaps."""

    unit: str
    """The kind of the gaps: a span, a mask, a whole target, or the next token."""
    gaps: int
    exact: int
    """Gaps that the trained model fills token for token."""
    commonest: str
    """The text that is the truth of more gaps than any other: an answer that needs no model, chosen with all truths in
    sight."""
    commonest_exact: int
    """Gaps whose truth it is."""


class Asked(NamedTuple):
    """Prompts to a model that generates, and the tokens that follow them in the rows."""

    unit: str
    """The gaps whose shares are taken."""
    prompts: list[list[int]]
    """Token ids, as rows have them."""
    shown: list[list[int]]
    truths: list[Tokens]
    rooms: list[int]
    """Most tokens of each answer."""


def held_out_passages(restored: Restored, count: int, seed: int = 0) -> tuple[list[Passage], Shares]:
    """Passages of the validation split, answered greedily by the restored and by the initial parameters, and the shares
    of all their gaps.

    The seed chooses them: they are the first rows of the split's epoch of that number, each epoch with an order and
    with gaps of its own.
    """
    rows = Rows(restored.config.data, restored.vocabulary, "validation")
    features = rows(seed * rows.count + np.arange(min(count, rows.count)))
    both, family = (restored.params, restored.network.initial_params()), restored.config.model.family
    if family == "encoder":
        return _masks(both, restored, features)
    if family == "encoder-decoder":
        asked = _targets(features, restored.vocabulary)
    else:
        asked = _continuations(features, restored.config.data, restored.vocabulary)
    generator = generator_of(restored, Decoding(tokens=max(asked.rooms)))
    answers = [list(_answers(generator, params, asked, restored.vocabulary)) for params in both]
    passages, truths = list[Passage](), list[Tokens]()
    for shown, truth, *said in zip(asked.shown, asked.truths, *answers, strict=True):
        passage, of_gaps = answered(asked.unit, shown, truth, said, restored.vocabulary)
        passages.append(passage)
        truths += of_gaps
    return passages, shares_of(asked.unit, passages, truths, restored.vocabulary)


def _answers(generator: Generator, params: Params, asked: Asked, vocabulary: Vocabulary) -> Iterator[Tokens]:
    """The tokens of each answer. It has its own row's room, so that it does not depend on the other passages."""
    for first in range(0, len(asked.prompts), TOGETHER):
        part = slice(first, first + TOGETHER)
        answers = generator.tokens(params, asked.prompts[part])
        for ids, room in zip(answers, asked.rooms[part], strict=True):
            yield tuple(until_whole(vocabulary, ids[: min(generator.length(ids), room)]).tolist())


def shares_of(unit: str, passages: list[Passage], truths: Sequence[Tokens], vocabulary: Vocabulary) -> Shares:
    """The shares of the gaps of all passages, whose truths are these tokens."""
    commonest, count = Counter(truths).most_common(1)[0] if truths else ((), 0)
    exact = sum(gap.exact for passage in passages for gap in passage.gaps)
    return Shares(unit, len(truths), exact, _written(commonest, vocabulary), count)


def as_text(passages: list[Passage]) -> str:
    """The passages for people."""
    lines = []
    for number, passage in enumerate(passages, 1):
        lines += [f"--- held-out passage {number} ---", passage.shown, ""]
        for gap in passage.gaps:
            answers = gap._asdict()
            exact = answers.pop("exact")
            lines += [answers.pop("name"), *(f"  {name:<10}{answer!r}" for name, answer in answers.items())]
            lines[-2] += "   exact" * exact
        if not any(gap.untrained for gap in passage.gaps):
            lines.append(f"untrained, in full: {passage.untrained_answer[:100]!r}")
        lines.append("")
    return "\n".join(lines) + "\n"


def shares_as_text(shares: Shares, passages: int) -> str:
    """The shares as sentences for people."""
    if not shares.gaps:
        return f"The {passages:,} passages have no {shares.unit}.\n"
    exact, common = shares.exact / shares.gaps, shares.commonest_exact / shares.gaps
    return (
        f"Of {shares.gaps:,} held-out {shares.unit}s in {passages:,} passages, counted token for token:\n"
        f"  {exact:6.1%}  the trained model has exactly ({shares.exact:,})\n"
        f"  {common:6.1%}  are {shares.commonest!r}, the commonest {shares.unit} of them ({shares.commonest_exact:,}): "
        f"the model has {exact / common:.1f} times as many\n"
    )


def as_json_lines(passages: list[Passage]) -> str:
    """The passages for programs, one JSON object a line."""
    records = (passage._asdict() | {"gaps": [gap._asdict() for gap in passage.gaps]} for passage in passages)
    return "".join(dumps(record, ensure_ascii=False) + "\n" for record in records)


def _first(features: Features, stack: str, tokens: str) -> list[np.ndarray]:
    """The tokens of each row's first segment."""
    segments = features[f"{stack}_segment_ids"]
    return [row[segment == 1] for row, segment in zip(features[f"{stack}_{tokens}"], segments, strict=True)]


def _targets(features: Features, vocabulary: Vocabulary) -> Asked:
    """The input of each row's first example, and its target."""
    rows = _first(features, "encoder", "input_tokens"), _first(features, "decoder", "target_tokens")
    inputs, targets = zip(*(whole_spans(vocabulary, *pair) for pair in zip(*rows, strict=True)), strict=True)
    prompts = [row.tolist() for row in inputs]
    truths = [tuple(row[row != vocabulary.eos].tolist()) for row in targets]
    unit = SPAN if any(split_spans(truth, vocabulary) for truth in truths) else TARGET
    room = features["decoder_target_tokens"].shape[1]
    return Asked(unit, prompts, prompts, truths, [max(room, len(target)) for target in targets])


def _continuations(features: Features, data: Data, vocabulary: Vocabulary) -> Asked:
    """The continuation of each row's prompt: the tokens without weight in the loss, or else the first half. Prompts and
    continuations are of whole characters."""
    names = ("target_tokens", "loss_weights", "input_tokens")
    texts, weights, inputs = (_first(features, "decoder", name) for name in names)
    begins = [int(np.argmax(weight > 0)) or len(weight) // 2 for weight in weights]
    begins = [whole_cut(vocabulary, text, begin) for text, begin in zip(texts, begins, strict=True)]
    rooms = [min(features["decoder_target_tokens"].shape[1] - begin, CONTINUATION) for begin in begins]
    shown = [only_whole(vocabulary, text[:begin]).tolist() for text, begin in zip(texts, begins, strict=True)]
    return Asked(
        TARGET if data.objective.spec.answers else NEXT,
        [[*ids[:1].tolist(), *text] for ids, text in zip(inputs, shown, strict=True)],
        shown,
        [
            tuple(only_whole(vocabulary, text[begin : begin + room]).tolist())
            for text, begin, room in zip(texts, begins, rooms, strict=True)
        ],
        rooms,
    )


def split_spans(ids: Sequence[int], vocabulary: Vocabulary) -> dict[int, Tokens]:
    """Sentinel -> the tokens that follow it, as `generate.spans_of` does for texts."""
    bounds = [number for number, token in enumerate(ids) if token in vocabulary.sentinels]
    spans: dict[int, Tokens] = {}
    for first, last in itertools.pairwise([*bounds, len(ids)]):
        spans.setdefault(ids[first], tuple(ids[first + 1 : last]))
    return spans


def answered(
    unit: str, shown: Sequence[int], truth: Tokens, said: Sequence[Tokens], vocabulary: Vocabulary
) -> tuple[Passage, list[Tokens]]:
    """A gap for each sentinel of the truth, or one for the whole of it where it has none, and the tokens that count in
    each. `said` are the answers of the trained and of the untrained model."""
    spans, *answers = (split_spans(ids, vocabulary) for ids in (truth, *said))
    gaps = []
    for sentinel, ids in spans.items():
        texts = [_written(one.get(sentinel, ()), vocabulary) for one in (spans, *answers)]
        gaps.append(Gap(vocabulary.name(sentinel), *texts, exact=answers[0].get(sentinel) == ids))
    counted = list(spans.values())
    if not gaps:
        end = 1 if unit == NEXT else None
        texts = [vocabulary.decode(ids) for ids in (truth, *said)]
        gaps = [Gap("continuation" if end else unit, *texts, exact=said[0][:end] == truth[:end])]
        counted = [truth[:end]]
    return Passage(vocabulary.decode(shown), gaps, vocabulary.decode(said[1])), counted


def _written(ids: Tokens, vocabulary: Vocabulary) -> str:
    """The text of some tokens, or their names where they have none, as the first space of a text has none."""
    return vocabulary.decode(ids) or "".join(map(vocabulary.name, ids))


def _masks(both: tuple[Params, Params], restored: Restored, features: Features) -> tuple[list[Passage], Shares]:
    vocabulary, passages, truths = restored.vocabulary, list[Passage](), list[Tokens]()
    mask = vocabulary.require("mask")
    rows = (_first(features, "encoder", name) for name in ("input_tokens", "target_tokens"))
    for seen, text in zip(*rows, strict=True):
        ids, target = whole_masks(vocabulary, seen, text), only_whole(vocabulary, text)
        masked = np.flatnonzero(ids == mask)
        tokens = [target[masked].tolist()]
        for params in both:
            answers = fill_tokens(params, restored.network, vocabulary, ids.tolist(), top=1)
            tokens.append([candidates[0].piece for candidates in answers])
        gaps, of_gaps = _gaps(vocabulary, characters_of(vocabulary, target)[masked].tolist(), *tokens)
        passages.append(Passage(vocabulary.decode(ids), gaps, " ".join(gap.untrained for gap in gaps)))
        truths += of_gaps
    return passages, shares_of(MASK, passages, truths, vocabulary)


def _gaps(
    vocabulary: Vocabulary, characters: list[int], truth: list[int], model: list[int], untrained: list[int]
) -> tuple[list[Gap], list[Tokens]]:
    """A gap for each masked token, or for those of a character together, and the tokens of its truth."""
    mask, found, truths = vocabulary.written("mask"), list[Gap](), list[Tokens]()
    for _, same in itertools.groupby(range(len(truth)), characters.__getitem__):
        at = list(same)
        filled = [tuple(tokens[n] for n in at) for tokens in (truth, model, untrained)]
        written = (vocabulary.name(ids[0]) if len(at) == 1 else vocabulary.decode(ids) for ids in filled)
        name = f"{mask} {at[0] + 1}" + (f"-{at[-1] + 1}" if len(at) > 1 else "")
        found.append(Gap(name, *written, exact=filled[0] == filled[1]))
        truths.append(filled[0])
    return found, truths
