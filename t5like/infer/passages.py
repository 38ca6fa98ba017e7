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
    passages = {"span_corruption": _spans, "causal": _continuations, "masked": _masks}
    return passages[restored.config.data.objective.kind](both, net, restored.vocabulary, features)


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


def _spans(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    generator = Generator(net, vocabulary, Sampling(), features["decoder_target_tokens"].shape[1])
    control = (vocabulary.pad, vocabulary.eos)
    prompts = [[int(piece) for piece in row if piece not in control] for row in features["encoder_input_tokens"]]
    answers = [[vocabulary.decode(row) for row in generator.tokens(params, prompts)] for params in both]
    passages = []
    for prompt, target, *said in zip(prompts, features["decoder_target_tokens"], *answers, strict=True):
        truth, model, untrained = map(spans_of, (vocabulary.decode(target), *said))
        gaps = [Gap(name, text, model.get(name, ""), untrained.get(name, "")) for name, text in truth.items()]
        passages.append(Passage(vocabulary.decode(prompt), gaps, said[1]))
    return passages


def _continuations(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    targets = features["decoder_target_tokens"]
    half = targets.shape[1] // 2
    most = min(half, CONTINUATION)
    generator = Generator(net, vocabulary, Sampling(), most)
    answers = [generator.tokens(params, targets[:, :half].tolist()) for params in both]
    passages = []
    for row, *said in zip(targets, *answers, strict=True):
        shown, truth, model, untrained = map(vocabulary.decode, (row[:half], row[half : half + most], *said))
        passages.append(Passage(shown, [Gap("continuation", truth, model, untrained)], untrained))
    return passages


def _masks(both: tuple[Any, Any], net: Transformer, vocabulary: Vocabulary, features: Any) -> list[Passage]:
    passages = []
    for ids, targets in zip(features["encoder_input_tokens"], features["encoder_target_tokens"], strict=True):
        answers = [fill_tokens(params, net, vocabulary, ids.tolist(), top=1) for params in both]
        places = np.flatnonzero(ids == vocabulary.special[MASK])
        gaps = [
            Gap(f"{MASK} {number}", vocabulary.name(int(targets[place])), model[0].text, untrained[0].text)
            for number, (place, model, untrained) in enumerate(zip(places, *answers, strict=True), 1)
        ]
        passages.append(Passage(vocabulary.decode(ids), gaps, " ".join(gap.untrained for gap in gaps)))
    return passages
