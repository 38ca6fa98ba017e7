"""Rows of documents are as full as is said, in both stacks, whatever random choices decide their lengths."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from etils import epath
from streams import EXTRA, PAIRS, rows_of

from t5like import config
from t5like.data.packing import arrangement
from t5like.data.packing.pack_table import PackTable, fill_of, make_tables
from t5like.data.prepare import prepare
from t5like.data.ragged import Ragged
from t5like.data.rows.layout import MAIN
from t5like.data.rows.stream import Rows
from t5like.data.store import Store

PACKED = ("span_corruption", "ul2", "prefix", "causal", "masked", "fill_in_the_middle", *PAIRS)
DRAWN = ("ul2", "prefix", "fill_in_the_middle")
DRAWINGS = 3


def settings(folder: pathlib.Path, kind: str, **changes) -> config.Data:
    """Documents of 2 to 700 letters, or pairs of which the second is a third as long as the first."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4, 0.9, 1200), 2, 700).astype(int)
    texts = ["".join(map(chr, random.integers(97, 123, n))) for n in lengths]
    lines = [{"text": text, "q": text[:180], "a": text[: 1 + len(text[:180]) // 3]} for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    fields = {"fields": ("q", "a")} if kind in PAIRS else {}
    objective = config.Objective(kind=kind, denoisers=config.UL2 if kind == "ul2" else ())
    return config.Data(
        **{
            "store": f"{folder}/{'pairs' if kind in PAIRS else 'store'}",
            "sources": (config.Source(kind="jsonl", path=f"{folder}/texts.jsonl", **fields),),
            "vocabulary": config.Vocabulary(kind="bpe", size=400, sentinels=100, extra=EXTRA, train_characters=20_000),
            "objective": objective,
            "documents": True,
            "length": 256,
            "target_length": 94 if kind == "sequence_to_sequence" else None,
            "held_out": 0.1,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrangement")


@pytest.fixture(scope="module", autouse=True)
def few_drawings():
    """Each drawing is packed, which is slow where every call is checked."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("t5like.data.packing.arrangement.MOST_DRAWINGS", DRAWINGS)
        yield


def epoch_of(rows: Rows, epoch: int) -> dict[str, np.ndarray]:
    return rows(np.arange(rows.count) + epoch * rows.count)


def measured(rows: Rows, epochs: int) -> dict[str, float]:
    """The fill of each stack, over the rows of some epochs."""
    batches = [epoch_of(rows, epoch) for epoch in range(epochs)]
    return {
        stack: float(np.mean([(batch[f"{stack}_segment_ids"] > 0).mean() for batch in batches]))
        for stack in rows.data.lengths
    }


@pytest.mark.parametrize("kind", PACKED)
def test_rows_are_as_full_as_is_said_and_nearly_full(folder, kind):
    said: list[str] = []
    data = settings(folder, kind)
    vocabulary = prepare(data, said.append)
    splits = [Rows(data, vocabulary, split) for split in ("train", "validation")]
    told = [float(share) / 100 for share in re.findall(r"([\d.]+)%", said[-1])]
    found = [measured(rows, DRAWINGS) for rows in splits]
    counts = np.array([rows.count for rows in splits])
    together = [float(np.dot([fill[stack] for fill in found], counts) / counts.sum()) for stack in data.lengths]
    assert told[: len(together)] == pytest.approx(together, abs=0.01)
    # Where the lengths of the stacks do not fit the objective, the bound is said as well.
    bounds = [told[-1] if len(told) > len(together) and share < max(told) else 1.0 for share in together]
    assert all(share >= 0.95 * bound for share, bound in zip(found[0].values(), bounds, strict=True))
    assert (kind == "ul2") == (min(bounds) < 0.95)


@pytest.mark.parametrize("kind", DRAWN)
def test_each_document_is_read_once_in_each_epoch_by_choices_of_its_own(folder, kind):
    rows = rows_of(settings(folder, kind))["train"]
    numbers, lengths = [], []
    for epoch in range(DRAWINGS + 1):
        _, epochs, positions = rows.locate(np.arange(rows.count) + epoch * rows.count)
        examples = rows.sources[0].read(positions, epochs)
        order = np.argsort(examples.number)
        numbers.append(examples.number[order].tolist())
        features = epoch_of(rows, epoch)
        counts = [np.bincount(row)[1:] for row in features[f"{next(iter(rows.data.lengths))}_segment_ids"]]
        lengths.append(np.concatenate(counts)[order].tolist())
    assert all(each == numbers[0] for each in numbers)
    assert lengths[-1] == lengths[0] and len(set(map(tuple, lengths))) == DRAWINGS


def test_denoisers_keep_their_rates_in_packed_rows(folder):
    data = settings(folder, "ul2")
    modes = (("[R]", 0.1), ("[S]", 0.4), ("[X]", 0.5))
    mixed = [config.Denoiser(mode=mode, density=0.3, mean_span=None, rate=rate) for mode, rate in modes]
    data = dataclasses.replace(data, objective=config.Objective(kind="ul2", denoisers=tuple(mixed)))
    rows = rows_of(data)["train"]
    tokens = np.concatenate([epoch_of(rows, epoch)["encoder_input_tokens"].ravel() for epoch in range(DRAWINGS)])
    counts = np.array([(tokens == rows.vocabulary.special[mode]).sum() for mode, _ in modes])
    expected = counts.sum() * np.array([rate for _, rate in modes])
    # Chi-squared with 2 degrees of freedom: 20 is passed once in 20,000 times.
    assert counts.sum() > 3000 and (np.square(counts - expected) / expected).sum() < 20


def test_prefixes_of_packed_texts_end_at_every_place_equally_often(folder):
    rows = rows_of(settings(folder, "prefix"))["train"]
    shares = []
    for epoch in range(DRAWINGS):
        examples = rows.sources[0].read(np.arange(rows.count), np.full(rows.count, epoch))
        first, rest = (part.lengths for part in examples.parts)
        text = first + rest - (first + rest < rows.data.window)
        long = text > 100
        shares.append((first - 1)[long] / (text - 2)[long])
        assert ((first >= 1) & (first < text))[text > 1].all()
    counts = np.histogram(np.concatenate(shares), bins=10, range=(0, 1))[0]
    expected = counts.sum() / 10
    # Chi-squared with 9 degrees of freedom: 34 is passed once in 10,000 times.
    assert counts.sum() > 500 and (np.square(counts - expected) / expected).sum() < 34


@pytest.mark.parametrize("kind", DRAWN)
def test_arrangements_have_equally_many_rows_and_each_example_once(folder, kind):
    data = settings(folder, kind)
    rows_of(data)
    table = PackTable(Store(epath.Path(data.store)), data, 0, "train")
    assert table.drawings == DRAWINGS
    for drawing in range(DRAWINGS):
        examples, row = table.read(drawing * table.rows + np.arange(table.rows))
        assert len(examples) == table.examples and len(np.unique(row)) == table.rows
        assert len(np.unique(examples[:, 0])) == table.examples


def test_rows_are_divided_where_they_have_most_examples():
    divided = arrangement._divided(np.array([0, 5, 6, 10]), 16, 3)
    assert divided.tolist() == [0, 2, 5, 6, 8, 10, 13]
    assert arrangement._divided(np.array([0]), 4, 3).tolist() == [0, 1, 2, 3]


def test_large_sources_are_drawn_once(folder, monkeypatch):
    monkeypatch.setattr("t5like.data.packing.arrangement.DRAWN", 1500)
    data = settings(folder, "ul2", store=f"{folder}/once")
    rows = rows_of(data)["train"]
    first, second = (epoch_of(rows, epoch) for epoch in range(2))
    assert PackTable(Store(epath.Path(data.store)), data, 0, "train").drawings == 1
    assert not np.array_equal(first["decoder_target_tokens"], second["decoder_target_tokens"])
    filled = [sorted((batch["decoder_segment_ids"] > 0).sum(1).tolist()) for batch in (first, second)]
    assert filled[0] == filled[1]


def test_unpacked_documents_are_drawn_anew_in_each_epoch(folder):
    rows = rows_of(settings(folder, "prefix", pack=False))["train"]
    filled = {str(sorted((epoch_of(rows, epoch)["encoder_segment_ids"] > 0).sum(1).tolist())) for epoch in range(5)}
    assert len(filled) == 5 and rows.data.window == rows.data.length


@pytest.mark.parametrize(("kind", "told"), [("prefix", True), ("ul2", True), ("causal", False)])
def test_that_rows_are_made_otherwise_than_before_is_told(folder, kind, told, monkeypatch):
    monkeypatch.setattr("t5like.data.packing.arrangement.MOST_DRAWINGS", 1)
    data = settings(folder, kind, store=f"{folder}/before_{kind}")
    unpacked = dataclasses.replace(data, documents=False, objective=config.Objective(kind="causal"))
    vocabulary = prepare(unpacked, [].append)
    store = Store(epath.Path(data.store))
    with monkeypatch.context() as earlier:
        if told:
            earlier.setattr("t5like.data.packing.pack_table._key", lambda *_: _before(store, data))
        make_tables(store, data, vocabulary, [].append)
    if not told:
        (store.folder / "packs").rmtree()
    said: list[str] = []
    make_tables(store, data, vocabulary, said.append)
    assert len(said) == 1 + told
    assert all(f"data.objective.kind={kind!r}" in line and "goes on with other rows" in line for line in said[1:])
    make_tables(store, data, vocabulary, said.append)
    assert len(said) == 1 + told


def _before(store: Store, data: config.Data) -> str:
    from t5like.data.packing import pack_table

    found = pack_table._key_before(store, data)
    assert found
    return found


def test_the_bound_of_the_scarcer_stack_is_said():
    table = {"drawings": 2, "rows": 10, "tokens": [1900, 120]}
    assert (
        fill_of({"lengths": {"decoder": 100}, "tables": {"0-train": table | {"tokens": [1990]}}}) == "filled to 99.5%"
    )
    said = fill_of({"lengths": {"encoder": 100, "decoder": 10}, "tables": {"0-train": table}})
    assert said == "filled to encoder 95.0% and decoder 60.0% (of 63.2% that the lengths allow)"


def test_a_packed_prefix_and_the_rest_are_the_text(folder):
    rows = rows_of(settings(folder, "prefix"))["train"]
    features, eos = epoch_of(rows, 0), rows.vocabulary.eos
    found = []
    for row in range(rows.count):
        segments = {stack: features[f"{stack}_segment_ids"][row] for stack in MAIN}
        for segment in range(1, segments["encoder"].max() + 1):
            halves = [features[name][row][segments[stack] == segment] for stack, name in MAIN.items()]
            assert [half[-1] for half in halves] == [eos, eos]
            found.append((*halves[0][:-1].tolist(), *halves[1][:-1].tolist()))
    table, _ = rows.sources[0]._table.read(np.arange(rows.count))
    lengths = table[:, 2:].sum(axis=1)
    texts = Ragged(rows.store.tokens(0, "train").read(table[:, 0], lengths), lengths).sequences()
    assert sorted(found) == sorted(tuple(text[text != eos].tolist()) for text in texts)
