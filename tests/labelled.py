"""Labelled examples whose labels follow from their tokens, as a store has them, and a store of such documents."""

import hashlib
import json
import pathlib
from typing import NamedTuple

import numpy as np
from etils import epath
from examples import ragged, vocabulary

from t5like import config
from t5like.data.draws import Draws
from t5like.data.objectives import make_features
from t5like.data.order import hash_of
from t5like.data.packing.pack_table import make_tables
from t5like.data.ragged import Ragged
from t5like.data.rows.layout import lay_out
from t5like.data.store import SPLITS, Store
from t5like.data.store.forms import FORMAT

FRAME, KEYS, NOISE = (4, 5), 10, (20, 60)
"""Tokens around a text, the first of three tokens that say the label, and all others."""
Parts = tuple[list[int], list[int], list[int]]


class _Text(NamedTuple):
    tokens: list[int]
    widths: tuple[int, int]


def made_examples(kind: str, count: int = 32, labels: int = 3) -> list[Parts]:
    """The parts of examples, of a text or of a pair, whose labels `KEYS` say."""
    random = np.random.default_rng(0)
    return [_made(kind, n, labels, random) for n in range(count)]


def _made(kind: str, number: int, labels: int, random: np.random.Generator) -> Parts:
    noise = random.integers(*NOISE, random.integers(4, 8)).tolist()
    key, at = number % labels, int(random.integers(1, 4))
    match kind:
        case "classification":
            text, answer = _framed([*noise[:at], KEYS + key, *noise[at:]]), [key]
        case "multi_label_classification":
            answer = [(number >> bit) & 1 for bit in range(labels)]
            text = _framed([*(KEYS + n for n, there in enumerate(answer) if there), *noise])
        case "regression":
            numbers = np.array([key - 0.5, 0.25, -key], np.float32)[:labels]
            answer = [half for bits in numbers.view(np.uint32).tolist() for half in divmod(bits, 2**16)]
            text = _framed([KEYS + key, *noise])
        case "token_classification":
            text, answer = _framed(noise), [0, *(token % labels + 1 for token in noise), 0]
        case "span":
            text, answer = _framed([*noise[:at], KEYS, KEYS + 1, *noise[at:]]), [at + 1, at + 2]
        case _:
            sequences = 2 + number % 2
            answer = [number // 2 % sequences]
            several = [_framed([noise[0], KEYS + (n == answer[0]), noise[n]]) for n in range(sequences)]
            return [token for s in several for token in s.tokens], [w for s in several for w in s.widths], answer
    return text.tokens, list(text.widths), answer


def _framed(tokens: list[int]) -> _Text:
    first = len(tokens) // 2 + 1
    framed = [FRAME[0], *tokens, FRAME[1]]
    return _Text(framed, (first, len(framed) - first))


def rows_of(data: config.Data, examples: list[Parts], row: list[int] | None = None) -> dict[str, np.ndarray]:
    """The features of examples, one a row unless `row` has the row of each."""
    row = [*range(len(examples))] if row is None else row
    keys = hash_of(1, np.arange(len(examples)))
    parts: tuple[Ragged, ...] = tuple(ragged(*part) for part in zip(*examples, strict=True))
    streams = make_features(parts, Draws(keys, keys), data, vocabulary())
    return lay_out(streams, np.array(row), row[-1] + 1, data, vocabulary())


def write_store(folder: pathlib.Path, data: config.Data, splits: dict[str, list[Parts]]) -> None:
    """A finished store of examples, with its pack tables; `data.store` names the folder."""
    described = {}
    for split, examples in splits.items():
        (folder / split).mkdir(parents=True)
        tokens = np.array([value for example in examples for part in example for value in part], "<u2").tobytes()
        table = [(*map(len, example), 0, n) for n, example in enumerate(examples)]
        documents = np.array(table, "<u8").tobytes()
        (folder / split / "00000.bin").write_bytes(tokens)
        (folder / split / "00000.documents").write_bytes(documents)
        hashes = [hashlib.sha256(content).hexdigest() for content in (tokens, documents)]
        counts = {"documents": len(examples), "tokens": len(tokens) // 2, "bytes": 0, "longest": 0}
        file = {"name": "00000.bin", "read": ["made"], "sha256": hashes[0], "documents_sha256": hashes[1], **counts}
        described[split] = {**counts, "files": [file]}
    assert described.keys() == set(SPLITS)
    source = {"name": "made", "kind": "text", "parts": 3, "units": 1, "splits": described, "filters": []}
    source["read"] = {"documents": 0, "bytes": 0}
    manifest = {"format": FORMAT, "dtype": "<u2", "vocabulary_sha256": "", "created_with": {}, "sources": [source]}
    manifest["invalid_sequences"] = 0
    (folder / "manifest.json").write_text(json.dumps(manifest))
    make_tables(Store(epath.Path(folder)), data, vocabulary(), [].append)
