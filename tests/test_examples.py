"""What rows are made of: every window or document of every source, at the rates that were asked for."""

import dataclasses
import pathlib

import numpy as np
import pytest
from streams import rows_of, settings, without_rates, write_texts

from t5like import config
from t5like.data.rows.stream import Rows
from t5like.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="module")
def store(folder):
    """The rows of both splits, of one epoch of everything after the other."""
    data = without_rates(settings(folder))
    return data, rows_of(data)


def windows_of(rows: Rows) -> list[list[int]]:
    """All windows of the sources of a split, in the order of the store."""
    found = []
    for source, size in enumerate(rows.sizes):
        tokens, window = rows.store.tokens(source, rows.split), rows.data.window
        assert 0 <= tokens.size - size * window < window
        found += tokens.read(np.arange(size) * window, np.full(size, window)).reshape(size, window).tolist()
    return found


def test_an_epoch_reads_each_window_of_the_store_once(store):
    data = dataclasses.replace(store[0], objective=config.Objective(kind="causal"))
    train = rows_of(data)["train"]
    read = train(np.arange(train.count, 2 * train.count))["decoder_target_tokens"].tolist()
    assert sorted(read) == sorted(windows_of(train))
    assert read != windows_of(train)


@pytest.mark.parametrize("pack", [True, False])
def test_an_epoch_reads_each_document_once_and_whole(folder, pack):
    data = without_rates(settings(folder, "causal", documents=True, pack=pack, length=100))
    train = rows_of(data)["train"]
    features = train(np.arange(train.count))
    read = [
        tokens[segments == segment].tolist()
        for tokens, segments in zip(features["decoder_target_tokens"], features["decoder_segment_ids"], strict=True)
        for segment in range(1, segments.max() + 1)
    ]
    documents = []
    for source in range(3):
        tokens = train.store.tokens(source, "train")
        whole = tokens.read(np.array([0]), np.array([tokens.size]))
        ends = np.flatnonzero(whole == train.vocabulary.eos) + 1
        documents += [part.tolist() for part in np.split(whole, ends)[:-1]]
    assert max(map(len, documents)) <= 100
    assert sorted(read) == sorted(documents)
    assert (features["decoder_segment_ids"].max() > 1) == pack


def test_rates_are_exact_in_each_block_and_every_source_shows_all_its_rows(folder):
    train = rows_of(settings(folder, "causal"))["train"]
    rows = np.arange(4 * 100)
    source, epoch, position = train.locate(rows)
    for block in source.reshape(-1, 4):
        assert np.bincount(block, minlength=3).tolist() == [2, 1, 1]
    for number, size in enumerate(train.sizes):
        own = list(zip(epoch[source == number].tolist(), position[source == number].tolist(), strict=True))
        complete = [(each, place) for each in range(len(own) // size) for place in range(size)]
        assert sorted(own)[: len(complete)] == complete
    epochs = train.epochs(400)
    assert list(epochs) == ["s0", "s1", "s2"]
    assert epochs["s0"] == pytest.approx(200 / train.sizes[0])


def test_no_row_mixes_documents_of_training_and_of_evaluation(folder):
    for documents in (False, True):
        splits = rows_of(without_rates(settings(folder, "causal", documents=documents)))
        seen = {}
        for split, rows in splits.items():
            seen[split] = {id for origin in rows.origins(np.arange(rows.count)) for id in origin.documents}
        assert seen["train"] and seen["validation"] and not seen["train"] & seen["validation"]


def test_the_origin_of_a_row_names_the_documents_that_it_shows(folder):
    data = without_rates(settings(folder, "causal", documents=True))
    train = rows_of(data)["train"]
    numbers = np.arange(30)
    features = train(numbers)
    for row, origin in enumerate(train.origins(numbers)):
        path = f"{folder}/{origin.source[1]}.txt"
        content = pathlib.Path(path).read_bytes()
        places = [id.removeprefix(f"{path}#") for id in origin.documents]
        lines = [content[int(place) :].split(b"\n")[0].decode() for place in places]
        tokens, segments = features["decoder_target_tokens"][row], features["decoder_segment_ids"][row]
        for segment in range(1, segments.max() + 1):
            shown = train.vocabulary.decode(tokens[segments == segment])
            assert any(shown in line for line in lines), (shown, lines)
        assert len(lines) <= segments.max()


@pytest.mark.parametrize("lines", [["One short document. And more."], ["One sentence."], []])
def test_a_pair_is_drawn_from_another_document_even_where_one_is_nearly_all(tmp_path, lines):
    """Of a single document there is nothing to draw, nor of one of a single sentence; that is told."""
    long = " ".join(f"This is sentence number {number}." for number in range(20_000))
    (tmp_path / "a.txt").write_text("\n".join([long, *lines]))
    (tmp_path / "held_out.txt").write_text("Held out. And more.\nAnother one. And more.")
    source = config.Source(
        kind="text", path=f"{tmp_path}/a.txt", validation=f"{tmp_path}/held_out.txt", document="line"
    )
    data = without_rates(settings(tmp_path, "next_sentence", store=f"{tmp_path}/store", sources=(source,)))
    train = rows_of(data)["train"]
    if lines != ["One short document. And more."]:
        with pytest.raises(UserError, match=r"a source has one document alone of two sentences or more: split it"):
            train(np.arange(4))
        return
    features = train(np.arange(64))
    short = train.vocabulary.encode(lines[0])
    drawn = features["labels"] == 1
    assert drawn.any() and not drawn.all()
    for tokens, types in zip(
        features["encoder_target_tokens"][drawn], features["encoder_token_types"][drawn], strict=True
    ):
        assert set(tokens[types == 1].tolist()) <= {*short, train.vocabulary.special[config.SEP]}
