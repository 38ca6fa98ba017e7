"""Held-out passages: what the model saw, what was there, what it says, and what it said before it was trained."""

import json
from typing import Any, NamedTuple

import numpy as np

from t5like.config import MASK
from t5like.config.options import Sampling
from t5like.data.stream import Rows
from t5like.data.vocabulary import Vocabulary
from t5like.infer.fill import fill_tokens
from t5like.infer.generate import Generator, spans_of
from t5like.infer.restored import Restored
from t5like.model.transformer import Transformer

CONTINUATION = 48


class Gap(NamedTuple):
    """One place that the model had to fill."""

    name: str
    truth: str
    model: str
    untrained: str


class Passage(NamedTuple):
    """A held-out row: its input, the gaps in it, and all that the untrained model said, sentinels or not."""

    shown: str
    gaps: list[Gap]
    untrained_answer: str


def held_out_passages(restored: Restored, net: Transformer, count: int) -> list[Passage]:
    """Passages from the held-out rows, answered greedily by the restored and by the initial parameters."""
    rows = Rows(restored.config.data, restored.vocabulary, "validation")
    features = rows(np.arange(min(count, rows.count)))
    untrained = restored.plan.initial_state().params
    both = restored.params, untrained
    passages = {"encoder-decoder": _spans, "decoder": _continuations, "encoder": _masks}
    return passages[net.model.family](both, net, restored.vocabulary, features)


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


def _first(features: Any, stack: str, tokens: str) -> list[np.ndarray]:
    """The tokens of each row's first segment."""
    segments = features[f"{stack}_segment_ids"]
    return [row[segment == 1] for row, segment in zip(features[f"{stack}_{tokens}"], segments, strict=True)]


def _spans(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    """What stands behind each sentinel, or the whole target where it has none."""
    generator = Generator(net, vocabulary, Sampling(), features["decoder_target_tokens"].shape[1])
    control = (vocabulary.pad, vocabulary.eos)
    inputs, targets = _first(features, "encoder", "input_tokens"), _first(features, "decoder", "target_tokens")
    prompts = [[int(piece) for piece in row if piece not in control] for row in inputs]
    answers = [generator.answers(params, prompts) for params in both]
    passages = []
    for prompt, target, *said in zip(prompts, targets, *answers, strict=True):
        texts = (vocabulary.decode(target), *said)
        truth, model, untrained = map(spans_of, texts)
        gaps = [Gap(name, text, model.get(name, ""), untrained.get(name, "")) for name, text in truth.items()]
        passages.append(Passage(vocabulary.decode(prompt), gaps or [Gap("target", *texts)], said[1]))
    return passages


def _continuations(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    """What follows a prompt, which is what has no weight in the loss, or else the first half of the text."""
    texts, weights = _first(features, "decoder", "target_tokens"), _first(features, "decoder", "loss_weights")
    begins = [int(np.argmax(weight > 0)) or len(weight) // 2 for weight in weights]
    most = min(max(len(text) - begin for text, begin in zip(texts, begins, strict=True)), CONTINUATION)
    prompts = [text[:begin].tolist() for text, begin in zip(texts, begins, strict=True)]
    generator = Generator(net, vocabulary, Sampling(), most)
    answers = [generator.answers(params, prompts) for params in both]
    passages = []
    for text, begin, *said in zip(texts, begins, *answers, strict=True):
        shown, truth = map(vocabulary.decode, (text[:begin], text[begin : begin + most]))
        passages.append(Passage(shown, [Gap("continuation", truth, *said)], said[1]))
    return passages


def _masks(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    passages = []
    inputs, targets = (_first(features, "encoder", name) for name in ("input_tokens", "target_tokens"))
    for ids, target in zip(inputs, targets, strict=True):
        answers = [fill_tokens(params, net, vocabulary, ids.tolist(), top=1) for params in both]
        places = np.flatnonzero(ids == vocabulary.special[MASK])
        gaps = [
            Gap(f"{MASK} {number}", vocabulary.name(int(target[place])), model[0].text, untrained[0].text)
            for number, (place, model, untrained) in enumerate(zip(places, *answers, strict=True), 1)
        ]
        passages.append(Passage(vocabulary.decode(ids), gaps, " ".join(gap.untrained for gap in gaps)))
    return passages
