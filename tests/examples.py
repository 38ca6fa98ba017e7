"""Examples of objectives: settings, a vocabulary, windows, documents and pairs, and the rows that they make."""

import functools
import pydoc_data.topics
from typing import Any

import numpy as np
from small import task_of

from t5like import config
from t5like.config.objective import SPECS, WITH_LABELS
from t5like.data import objectives
from t5like.data.draws import Draws
from t5like.data.order import hash_of
from t5like.data.ragged import Ragged, RaggedFeatures
from t5like.data.rows.layout import lay_out
from t5like.data.vocabulary import Vocabulary, train_pieces

PIECES, EOS = 400, 1
EXTRA = (config.MASK, config.CLS, config.SEP, "[R]", "[S]", "[X]", *config.FIM)


@functools.cache
def vocabulary() -> Vocabulary:
    pieces = train_pieces(config.Vocabulary(kind="bpe", size=PIECES), [pydoc_data.topics.topics["class"]])
    return Vocabulary(pieces, EXTRA, 200)


def settings(kind: str, length: int = 64, documents: bool = False, **objective: Any) -> config.Data:
    """A run's data; further options are the objective's."""
    if kind == "ul2":
        objective.setdefault("denoisers", config.UL2)
    if kind in WITH_LABELS:
        objective.setdefault("labels", 3)
    if kind == "multiple_choice":
        objective.setdefault("candidates", 4)
    fields = {1: ("text",), 2: ("first", "second")}.get(SPECS[kind].parts, ("text",))
    task = task_of(kind) if SPECS[kind].parts == 3 else None
    return config.Data(
        store="unused",
        sources=(config.Source(kind="jsonl", path="unused", fields=fields, task=task),),
        length=length,
        target_length=length // 2 if kind == "sequence_to_sequence" else None,
        documents=documents,
        vocabulary=config.Vocabulary(size=PIECES, sentinels=200, extra=EXTRA),
        objective=config.Objective(kind=kind, **objective),
    )


def ragged(*sequences: list[int]) -> Ragged:
    values = np.array([token for sequence in sequences for token in sequence], np.int32)
    return Ragged(values, np.array([len(sequence) for sequence in sequences], np.int64))


def windows(rows: int, length: int, least: int = 3, most: int = PIECES) -> Ragged:
    values = np.random.default_rng(0).integers(least, most, rows * length, dtype=np.int32)
    return Ragged(values, np.full(rows, length))


def windows_of(lengths: Any, seed: int = 0) -> Ragged:
    """Random texts of these lengths without EOS."""
    lengths = np.asarray(lengths, np.int64)
    return Ragged(np.random.default_rng(seed).integers(3, PIECES, lengths.sum(), dtype=np.int32), lengths)


def documents(lengths: Any, seed: int = 0) -> Ragged:
    """Random texts, each closed by EOS, which counts."""
    lengths = np.asarray(lengths, np.int64)
    values = np.random.default_rng(seed).integers(3, PIECES, lengths.sum(), dtype=np.int32)
    values[np.cumsum(lengths) - 1] = EOS
    return Ragged(values, lengths)


def parts_for(data: config.Data, count: int) -> tuple[Ragged, ...]:
    """Random examples of all lengths that an objective may be given."""
    if not data.by_document:
        return (windows(count, data.window),)
    random = np.random.default_rng(1)
    if data.objective.spec.parts == 3:
        return labelled_parts(data, random.integers(8, data.length, count))
    if data.objective.spec.parts == 2:
        return tuple(documents(random.integers(1, data.length, count), n) for n in range(2))
    first = documents(random.integers(2, data.window, count))
    if data.objective.kind == "next_sentence":
        lengths = random.integers(1, data.window // 2, (3, count))
        return tuple(windows_of(own, n) for n, own in enumerate(lengths))
    return (first,)


def labelled_parts(data: config.Data, lengths: Any, seed: int = 0) -> tuple[Ragged, ...]:
    """Random labelled examples of these lengths in tokens, as the store has them."""
    random, kind, labels = np.random.default_rng(seed), data.objective.kind, data.objective.labels
    widths, answers = [], []
    for length in np.asarray(lengths).tolist():
        sequences = random.integers(2, 4) if kind == "multiple_choice" else 1
        cuts = np.sort(random.choice(np.arange(1, length), 2 * sequences - 1, replace=False))
        widths.append(np.diff([0, *cuts, length]).tolist())
        match kind:
            case "multi_label_classification":
                answers.append(random.integers(0, 2, labels).tolist())
            case "regression":
                bits = random.normal(size=labels).astype(np.float32).view(np.uint32).tolist()
                answers.append([half for number in bits for half in divmod(number, 2**16)])
            case "token_classification":
                answers.append(random.integers(0, labels + 1, length).tolist())
            case "span":
                answers.append(sorted(random.integers(0, length, 2).tolist()))
            case _:
                answers.append([int(random.integers(0, labels or sequences))])
    return windows_of(lengths, seed), ragged(*widths), ragged(*answers)


def keys_of(count: int) -> np.ndarray:
    return hash_of(1, np.arange(count))


def take(parts: tuple[Ragged, ...], chosen: Any) -> tuple[Ragged, ...]:
    """The same parts of some of the examples."""
    found = [[part.sequences()[n] for n in chosen] for part in parts]
    return tuple(Ragged(np.concatenate(s), np.array([len(one) for one in s])) for s in found)


def streams_of(data: config.Data, parts: tuple[Ragged, ...], keys: np.ndarray | None = None) -> RaggedFeatures:
    keys = keys_of(len(parts[0].lengths)) if keys is None else keys
    return objectives.make_features(parts, Draws(keys, keys), data, vocabulary())


def rows_of(data: config.Data, *parts: Ragged, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Rows of one example each."""
    count = len(parts[0].lengths)
    return lay_out(streams_of(data, parts, keys), np.arange(count), count, data, vocabulary())


def as_sequences(streams: RaggedFeatures) -> dict[str, list[list[float]]]:
    """The sequences of each feature."""
    return {name: [sequence.tolist() for sequence in stream.sequences()] for name, stream in streams.items()}
