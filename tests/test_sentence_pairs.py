"""Pairs of sentences: whole sentences by one rule, of which neither lengths nor endings tell whether they follow."""

import dataclasses
import functools
import json
import lzma
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from guesses import accuracy
from streams import EXTRA, rows_of

from t5like import config
from t5like.data.packing.sentences import Sentences
from t5like.data.rows.stream import Rows

FOLDER = pathlib.Path(os.environ.get("T5LIKE_DATA", "/nonexistent")) / "pretrain_en_c4_sample"


@functools.cache
def documents(count: int, seed: int) -> list[str]:
    """Texts of 1 to 60 sentences of 1 to 40 words; some end in the middle of one."""
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("etaoinshrdlu"), random.integers(1, 9))) for _ in range(500)]

    def sentence() -> str:
        chosen = random.choice(words, min(int(random.lognormal(1.8, 0.7)) + 1, 40))
        return " ".join(chosen).capitalize() + str(random.choice([".", ".", "?", "!"]))

    lengths = np.clip(random.lognormal(1.8, 1, count), 1, 60).astype(int)
    return [" ".join(sentence() for _ in range(n))[: None if n % 7 else -1] for n in lengths]


def settings(folder: pathlib.Path, **changes) -> config.Data:
    for name, seed, count in (("train", 0, 600), ("held_out", 1, 400)):
        texts = documents(count, seed)
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    source = config.Source(kind="jsonl", path=f"{folder}/train.jsonl", validation=f"{folder}/held_out.jsonl")
    fields = {
        "store": f"{folder}/store",
        "sources": (source,),
        "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=0, extra=EXTRA),
        "objective": config.Objective(kind="next_sentence"),
        "length": 512,
        **changes,
    }
    return config.Data(**fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


class Pairs:
    """The pairs of some epochs of a split: the tokens of A and of B, and the labels."""

    def __init__(self, rows: Rows, epochs: int, first: int = 0):
        batches = [rows(np.arange(rows.count) + epoch * rows.count) for epoch in range(first, first + epochs)]
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        self.labels, self._vocabulary = joined["labels"], rows.vocabulary
        real, types = joined["encoder_segment_ids"] > 0, joined["encoder_token_types"]
        tokens = joined["encoder_target_tokens"]
        self.a = [row[own][1:-1] for row, own in zip(tokens, real & (types == 0), strict=True)]
        self.b = [row[own][:-1] for row, own in zip(tokens, real & (types == 1), strict=True)]

    def outside(self) -> np.ndarray:
        """All that a model which cannot read knows of a pair."""
        pieces = self._vocabulary.pieces
        spelt = [pieces.spelt(n).decode("utf-8", "ignore") if n < pieces.size else "" for n in range(pieces.size)]
        ends = np.array([text.rstrip(" \"'”’)」").endswith((*".!?。！？…\n",)) for text in spelt])
        capital = np.array([text.strip()[:1].isupper() for text in spelt])
        a, b = (np.array(list(map(len, own))) for own in (self.a, self.b))
        edges = [
            table[[own[at] for own in part]] for part in (self.a, self.b) for table, at in ((ends, -1), (capital, 0))
        ]
        return np.column_stack([a, b, a + b, a / (a + b), *edges]).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 512])
def test_lengths_and_endings_do_not_tell_whether_b_follows(folder, length):
    rows = rows_of(settings(folder, length=length))
    train, test = (Pairs(rows[split], 12_000 // rows[split].count + 1) for split in ("train", "validation"))
    base = max(test.labels.mean(), 1 - test.labels.mean())
    assert len(test.labels) > 10_000 and base < 0.52
    for depth in (2, 6):
        guessed = accuracy((train.outside(), train.labels), (test.outside(), test.labels), depth)
        assert guessed <= base + 0.02


@pytest.mark.skipif(not FOLDER.is_dir(), reason="T5LIKE_DATA names no folder with the C4 sample")
@pytest.mark.parametrize("length", [128, 512])
def test_real_text_does_not_tell_either(folder, length):
    for split in ("train", "validation"):
        (folder / f"c4_{split}.jsonl").write_bytes(lzma.open(FOLDER / f"{split}.jsonl.xz").read())
    source = config.Source(kind="jsonl", path=f"{folder}/c4_train.jsonl", validation=f"{folder}/c4_validation.jsonl")
    pieces = config.Vocabulary(kind="bpe", size=2000, sentinels=0, extra=EXTRA, train_characters=200_000)
    rows = rows_of(settings(folder, sources=(source,), store=f"{folder}/c4", vocabulary=pieces, length=length))
    train, test = (Pairs(rows[split], 16_000 // rows[split].count + 1) for split in ("train", "validation"))
    base = max(test.labels.mean(), 1 - test.labels.mean())
    assert accuracy((train.outside(), train.labels), (test.outside(), test.labels), 6) <= base + 0.02


def test_segments_are_whole_sentences_and_a_b_that_follows_does(folder):
    rows = rows_of(settings(folder))["train"]
    store = rows.store.tokens(0, "train")
    tokens = store.read(np.array([0]), np.array([store.size]))
    text, marks = tokens.astype(np.uint16).tobytes(), Sentences(rows.vocabulary)
    ends = {0, *marks.ends(tokens).tolist(), *np.flatnonzero(tokens == rows.vocabulary.eos).tolist()}
    pairs = Pairs(rows, 1)
    short = 0
    for label, a, b in zip(pairs.labels, pairs.a, pairs.b, strict=True):
        assert len(a) and len(b) and len(a) + len(b) <= 509
        short += len(a) + len(b) == 509
        for segment in (a, b) if label else (np.concatenate([a, b]),):
            at = text.find(segment.astype(np.uint16).tobytes())
            assert at >= 0
            if len(a) + len(b) < 509:
                assert at // 2 in ends and at // 2 + len(segment) in ends
    # Only two sentences that do not fit together are cut, and some pairs happen to fill the row.
    assert short < 0.05 * len(pairs.labels)


def test_every_sentence_of_a_document_of_two_or_more_is_in_a_pair_of_each_epoch(folder):
    rows = rows_of(settings(folder))["train"]
    documents = np.concatenate(list(rows.store.document_tables(0, "train", 1000)))[:, 0].astype(int)
    store = rows.store.tokens(0, "train")
    ends = Sentences(rows.vocabulary).ends(store.read(np.array([0]), np.array([store.size])))
    stops = np.cumsum(documents)
    for epoch in range(2):
        examples = rows.sources[0].read(np.arange(rows.count), np.full(rows.count, epoch))
        covered = np.zeros(store.size + 1, int)
        whole = examples.parts[0].lengths + examples.parts[1].lengths
        for first, length in zip(examples.number, whole, strict=True):
            covered[first : first + length] += 1
        for start, stop in zip(stops - documents, stops, strict=True):
            several = ((ends > start) & (ends < stop - 1)).any()
            missing = (covered[start : stop - 1] == 0).mean()
            # What is missing are parts of sentences that are too long for a row.
            assert missing < 0.4 if several else missing == 1
        assert 1 <= covered[covered > 0].mean() < 1.1


def test_another_b_is_of_another_document_and_as_long(folder):
    rows = rows_of(settings(folder))["train"]
    positions, epochs = np.arange(rows.count), np.zeros(rows.count, np.int64)
    source: Any = rows.sources[0]
    pairs = source.read(positions, epochs)
    own = {tuple(b.tolist()): document for b, document in zip(pairs.parts[1].sequences(), pairs.document, strict=True)}
    with_others = source.with_others(pairs, positions, epochs, np.arange(rows.count, dtype=np.uint64))
    others = with_others.parts[2]
    assert all(
        own[tuple(b.tolist())] != document for b, document in zip(others.sequences(), pairs.document, strict=True)
    )
    away = np.abs(others.lengths - pairs.parts[1].lengths)
    assert (away == 0).mean() > 0.6 and away.mean() < 3
    assert (pairs.parts[0].lengths + others.lengths <= 509).all()


def test_many_pairs_are_sorted_in_parts_and_other_bs_come_from_the_same_part(folder, monkeypatch):
    monkeypatch.setattr("t5like.data.packing.arrangement.SORTED", 100)
    rows = rows_of(settings(folder, store=f"{folder}/parts"))["train"]
    positions, epochs = np.arange(rows.count), np.full(rows.count, 1)
    source: Any = rows.sources[0]
    pairs = source.read(positions, epochs)
    part = np.minimum(positions // 100, rows.count // 100 - 1)
    assert part[-1] > 1 and np.bincount(part)[-1] > 100
    others = source.with_others(pairs, positions, epochs, np.arange(rows.count, dtype=np.uint64)).parts[2]
    where = {tuple(b.tolist()): n for n, b in zip(part, pairs.parts[1].sequences(), strict=True)}
    assert [where[tuple(b.tolist())] for b in others.sequences()] == part.tolist()
    falls = np.flatnonzero(np.diff(pairs.parts[1].lengths) < 0)
    # In each part come the Bs that lost their end, if any, and then the others.
    assert len(falls) <= 2 * (part[-1] + 1) and set((np.arange(1, part[-1] + 1) * 100 - 1).tolist()) <= set(
        falls.tolist()
    )


def test_labels_cuts_and_other_documents_are_drawn_anew(folder):
    rows = rows_of(settings(folder))["train"]
    examples = [rows.sources[0].read(np.arange(rows.count), np.full(rows.count, epoch)) for epoch in range(9)]
    # The ninth epoch has the cuts of the first, and other labels.
    assert len({str(each.parts[0].lengths.tolist()) for each in examples}) == 8
    pairs, other = (rows.sources[0].read(np.arange(rows.count), np.full(rows.count, epoch)) for epoch in (0, 8))
    np.testing.assert_array_equal(pairs.parts[1].values, other.parts[1].values)
    labels = [Pairs(rows, 1, first).labels.mean() for first in (0, 8)]
    assert labels == pytest.approx([0.5, 0.5], abs=2.5 / np.sqrt(rows.count)) and labels[0] != labels[1]


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0.0), (0.1, 0.02, 0.08), (1.0, 0.3, 0.7)])
def test_a_share_of_the_pairs_is_short(folder, rate, least, most):
    """Of documents that are much longer than a row all pairs are of nearly its length but those, whose length is
    drawn: of these half are shorter than half a row."""
    (folder / "long.txt").write_text("\n".join(" ".join(f"W{n}. " * 3000 for n in range(3)) for _ in range(2)))
    source = config.Source(
        kind="text", path=f"{folder}/long.txt", validation=f"{folder}/held_out.jsonl", document="line"
    )
    objective = config.Objective(kind="next_sentence", short_rate=rate)
    rows = rows_of(settings(folder, sources=(source,), store=f"{folder}/long", objective=objective))["train"]
    pairs = Pairs(rows, 1)
    whole = [len(a) + len(b) for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert least <= np.mean(np.array(whole) < 250) <= most


def test_another_rate_of_short_pairs_is_another_table(folder):
    data = settings(folder)
    rows_of(data)
    before = len(list((folder / "store" / "packs").iterdir()))
    rows_of(dataclasses.replace(data, objective=config.Objective(kind="next_sentence", short_rate=0.3)))
    rows_of(dataclasses.replace(data, seed=1))
    assert len(list((folder / "store" / "packs").iterdir())) == before + 2
