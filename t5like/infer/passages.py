"""Held-out passages: the input, the truth, and the answers of the trained and of the initial parameters."""

import itertools
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from t5like.config.sampling import Sampling
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import Vocabulary
from t5like.infer.characters import characters_of, only_whole, until_whole, whole_cut, whole_masks, whole_spans
from t5like.infer.fill import fill_tokens
from t5like.infer.generate import generator_of, spans_of
from t5like.model.sharding import Params
from t5like.runs.opened import Restored

Features = Mapping[str, np.ndarray]
CONTINUATION = 48
"""Most tokens of a continuation: enough to judge, on one screen."""


class Gap(NamedTuple):
    """A gap that the model had to fill: its true text and both answers."""

    name: str
    truth: str
    model: str
    untrained: str


class Passage(NamedTuple):
    """A row of the validation split: its input, the gaps in it, and the untrained model's answer in full."""

    shown: str
    gaps: list[Gap]
    untrained_answer: str


def held_out_passages(restored: Restored, count: int) -> list[Passage]:
    """Passages of the validation split, answered greedily by the restored and by the initial parameters."""
    rows = Rows(restored.config.data, restored.vocabulary, "validation")
    features = rows(np.arange(min(count, rows.count)))
    both, family = (restored.params, restored.network.initial_params()), restored.config.model.family
    if family == "encoder":
        return _masks(both, restored, features)
    asked = (_spans if family == "encoder-decoder" else _continuations)(features, restored.vocabulary)
    generator = generator_of(restored, Sampling(), max(asked.rooms))
    decode, said = restored.vocabulary.decode, []
    for params in both:
        # An answer has its own row's room, so that it does not depend on the other passages.
        answers = zip(generator.tokens(params, asked.prompts), asked.rooms, strict=True)
        ends = ((ids, min(generator.length(ids), room)) for ids, room in answers)
        said.append([decode(until_whole(restored.vocabulary, ids[:end])) for ids, end in ends])
    shown, truths = ([decode(ids) for ids in rows] for rows in (asked.shown, asked.truths))
    return [_passage(asked.name, *texts) for texts in zip(shown, truths, *said, strict=True)]


def as_text(passages: list[Passage]) -> str:
    """The passages for people."""
    lines = []
    for number, passage in enumerate(passages, 1):
        lines += [f"--- held-out passage {number} ---", passage.shown, ""]
        for gap in passage.gaps:
            answers = gap._asdict()
            lines += [answers.pop("name"), *(f"  {name:<10}{answer!r}" for name, answer in answers.items())]
        if not any(gap.untrained for gap in passage.gaps):
            lines.append(f"untrained, in full: {passage.untrained_answer[:100]!r}")
        lines.append("")
    return "\n".join(lines) + "\n"


def as_json_lines(passages: list[Passage]) -> str:
    """The passages for programs, one JSON object a line."""
    records = (passage._asdict() | {"gaps": [gap._asdict() for gap in passage.gaps]} for passage in passages)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _first(features: Features, stack: str, tokens: str) -> list[np.ndarray]:
    """The tokens of each row's first segment."""
    segments = features[f"{stack}_segment_ids"]
    return [row[segment == 1] for row, segment in zip(features[f"{stack}_{tokens}"], segments, strict=True)]


class Asked(NamedTuple):
    """Prompts to a model that generates, and the tokens that follow them in the rows."""

    name: str
    """Name of a gap where sentinels do not name it."""
    prompts: list[list[int]]
    """Token ids, as rows have them."""
    shown: list[list[int]]
    truths: list[np.ndarray]
    rooms: list[int]
    """Most tokens of each answer."""


def _spans(features: Features, vocabulary: Vocabulary) -> Asked:
    """The input of each row's first example, and its target."""
    rows = _first(features, "encoder", "input_tokens"), _first(features, "decoder", "target_tokens")
    inputs, targets = zip(*(whole_spans(vocabulary, *pair) for pair in zip(*rows, strict=True)), strict=True)
    prompts = [row.tolist() for row in inputs]
    room = features["decoder_target_tokens"].shape[1]
    return Asked("target", prompts, prompts, list(targets), [max(room, len(target)) for target in targets])


def _continuations(features: Features, vocabulary: Vocabulary) -> Asked:
    """The continuation of each row's prompt: the tokens without weight in the loss, or else the first half. Prompts and
    continuations are of whole characters."""
    names = ("target_tokens", "loss_weights", "input_tokens")
    texts, weights, inputs = (_first(features, "decoder", name) for name in names)
    begins = [int(np.argmax(weight > 0)) or len(weight) // 2 for weight in weights]
    begins = [whole_cut(vocabulary, text, begin) for text, begin in zip(texts, begins, strict=True)]
    rooms = [min(features["decoder_target_tokens"].shape[1] - begin, CONTINUATION) for begin in begins]
    shown = [only_whole(vocabulary, text[:begin]).tolist() for text, begin in zip(texts, begins, strict=True)]
    return Asked(
        "continuation",
        [[*ids[:1].tolist(), *text] for ids, text in zip(inputs, shown, strict=True)],
        shown,
        [only_whole(vocabulary, text[b : b + room]) for text, b, room in zip(texts, begins, rooms, strict=True)],
        rooms,
    )


def _passage(name: str, shown: str, truth: str, model: str, untrained: str) -> Passage:
    """A gap for each sentinel of the truth, or one for the whole of it where it has none."""
    spans, *said = map(spans_of, (truth, model, untrained))
    gaps = [Gap(sentinel, text, *(one.get(sentinel, "") for one in said)) for sentinel, text in spans.items()]
    return Passage(shown, gaps or [Gap(name, truth, model, untrained)], untrained)


def _masks(both: tuple[Params, Params], restored: Restored, features: Features) -> list[Passage]:
    vocabulary, passages = restored.vocabulary, []
    mask = vocabulary.require("mask")
    rows = (_first(features, "encoder", name) for name in ("input_tokens", "target_tokens"))
    for seen, text in zip(*rows, strict=True):
        ids, target = whole_masks(vocabulary, seen, text), only_whole(vocabulary, text)
        places = np.flatnonzero(ids == mask)
        pieces = [target[places].tolist()]
        for params in both:
            answers = fill_tokens(params, restored.network, vocabulary, ids.tolist(), top=1)
            pieces.append([candidates[0].piece for candidates in answers])
        gaps = _gaps(vocabulary, characters_of(vocabulary, target)[places].tolist(), *pieces)
        passages.append(Passage(vocabulary.decode(ids), gaps, " ".join(gap.untrained for gap in gaps)))
    return passages


def _gaps(
    vocabulary: Vocabulary, characters: list[int], truth: list[int], model: list[int], untrained: list[int]
) -> list[Gap]:
    """A gap for each masked token, or for those of a character together."""
    mask, found = vocabulary.written("mask"), list[Gap]()
    for _, same in itertools.groupby(range(len(truth)), characters.__getitem__):
        at = list(same)
        texts = ([pieces[n] for n in at] for pieces in (truth, model, untrained))
        written = (vocabulary.name(ids[0]) if len(at) == 1 else vocabulary.decode(ids) for ids in texts)
        found.append(Gap(f"{mask} {at[0] + 1}" + (f"-{at[-1] + 1}" if len(at) > 1 else ""), *written))
    return found
