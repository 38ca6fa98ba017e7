"""A batch depends on its number alone: not on the start of the run, the hosts or what was read before."""

import dataclasses
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from streams import PAIRS, assert_same, join, rows_of, settings, without_rates, write_texts

from t5like import config
from t5like.config.objective import SPECS
from t5like.data.prepare import prepare
from t5like.data.rows.stream import Rows, evaluation_stream, training_stream
from t5like.errors import UserError

BATCH = 8
DOCUMENTS = ("span_corruption", "ul2", "prefix", "causal", "masked", "fill_in_the_middle", "next_sentence")
OF_TEXT = [kind for kind, spec in SPECS.items() if spec.parts < 3]
KINDS = [(kind, kind in PAIRS, True) for kind in OF_TEXT]
KINDS += [(kind, True, True) for kind in DOCUMENTS[:-2]]
KINDS += [(kind, True, False) for kind in (*DOCUMENTS, *PAIRS) if kind != "next_sentence"]  # which is never packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="module")
def store(folder) -> tuple[config.Data, dict[str, Rows]]:
    """The rows of both splits, of one epoch of everything after the other."""
    data = without_rates(settings(folder))
    return data, rows_of(data)


def shares(hosts: int) -> list[np.ndarray]:
    """The rows of a batch that each host reads."""
    return np.split(np.arange(BATCH), hosts)


@pytest.mark.parametrize(
    ("kind", "documents", "pack"),
    [*KINDS[: len(OF_TEXT)], *(pytest.param(*case, marks=pytest.mark.slow) for case in KINDS[len(OF_TEXT) :])],
)
def test_any_objective_mixed_and_packed_is_the_same_for_all_hosts_starts_and_neighbours(folder, kind, documents, pack):
    train = rows_of(settings(folder, kind, documents=documents, pack=pack))["train"]
    first = 10**6
    whole = list(training_stream(train, first, first + 4, BATCH))
    for hosts in (2, 4):
        of_hosts = [training_stream(train, first, first + 4, BATCH, own) for own in shares(hosts)]
        for features, parts in zip(whole, zip(*of_hosts, strict=True), strict=True):
            assert_same(features, join(parts))
    # From step 2 on with twice the hosts.
    for features, again in zip(whole[2:], training_stream(train, first + 2, first + 4, BATCH), strict=True):
        assert_same(features, again)
    numbers = (first + 3) * BATCH + np.arange(BATCH)
    alone = tuple(train(numbers[n : n + 1]) for n in reversed(range(BATCH)))
    assert_same(whole[3], join(alone[::-1]))
    read_as_remote = Rows(train.data, train.vocabulary, "train", remote=True)
    assert_same(whole[3], read_as_remote(numbers))


@pytest.mark.parametrize("first", [0, 5, 10**9])
def test_the_batch_of_a_step_is_its_own_rows_whatever_the_start(store, first):
    train = store[1]["train"]
    steps = list(training_stream(train, first, first + 6, BATCH))
    assert len(steps) == 6
    for step, features in enumerate(steps, first):
        assert_same(features, train(np.arange(step * BATCH, (step + 1) * BATCH)))


@pytest.mark.parametrize("first", [1, 7, 19])
def test_starting_at_a_step_is_the_same_as_running_up_to_it(store, first):
    train = store[1]["train"]
    whole = list(training_stream(train, 0, 20, BATCH))
    for features, again in zip(whole[first:], training_stream(train, first, 20, BATCH), strict=True):
        assert_same(features, again)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batches_of_one(store, hosts):
    splits = store[1]

    def streams(own: np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
        yield from training_stream(splits["train"], 3, 6, BATCH, own)
        yield from evaluation_stream(splits["validation"], 99, BATCH, own)

    of_hosts = zip(*map(streams, shares(hosts)), strict=True)
    for features, parts in zip(streams(), of_hosts, strict=True):
        assert_same(features, join(parts))


def test_a_host_may_read_rows_that_are_apart(store):
    """As the rows of the devices of one host are on some meshes."""
    own = np.array([1, 2, 5, 7])
    of_host = training_stream(store[1]["train"], 3, 6, BATCH, own)
    for whole, part in zip(training_stream(store[1]["train"], 3, 6, BATCH), of_host, strict=True):
        assert_same({name: feature[own] for name, feature in whole.items()}, part)


@pytest.mark.parametrize("at_once", [1, 24, 512])
def test_each_row_is_computed_once_however_many_at_a_time(store, monkeypatch, at_once):
    monkeypatch.setattr("t5like.data.rows.stream.ROWS_AT_ONCE", at_once)

    class Counted(Rows):
        asked: ClassVar[list[list[int]]] = []

        def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
            self.asked.append(numbers.tolist())
            return super().__call__(numbers)

    train = store[1]["train"]
    counted = Counted(train.data, train.vocabulary, "train")
    steps = list(training_stream(counted, 2, 9, BATCH))
    for step, features in enumerate(steps, 2):
        assert_same(features, train(np.arange(step * BATCH, (step + 1) * BATCH)))
    shapes, *asked = counted.asked
    assert shapes == [2 * BATCH]
    assert sorted(itertools.chain(*asked)) == list(range(2 * BATCH, 9 * BATCH))
    assert len(asked) == -(-7 // max(at_once // BATCH, 1))


def test_a_file_that_is_lost_while_it_is_read_is_a_sentence(folder, tmp_path):
    shutil.copytree(settings(folder).store, tmp_path / "store")
    data = without_rates(settings(folder), store=f"{tmp_path}/store")
    train = Rows(data, prepare(data, [].append), "train", remote=True)
    stream = training_stream(train, 0, 10**6, BATCH)
    next(stream)
    shutil.rmtree(tmp_path / "store" / "train")
    with pytest.raises(UserError, match=r"\.bin is missing, or shorter than its manifest says\.$"):
        for _ in stream:
            pass


@pytest.mark.parametrize("kind", ["span_corruption", "causal", "masked"])
@pytest.mark.parametrize(("most", "batch"), [(10**6, 8), (5, 8), (8, 4), (9, 4)])
def test_an_evaluation_counts_each_row_exactly_once(store, kind, most, batch):
    data = dataclasses.replace(store[0], objective=config.Objective(kind=kind))
    validation = rows_of(data)["validation"]
    count = min(most, validation.count)
    steps = list(evaluation_stream(validation, most, batch))
    assert len(steps) == -(-count // batch) and {len(f[n]) for f in steps for n in f} == {batch}
    joined, expected = join(tuple(steps)), validation(np.arange(count))
    assert_same({name: feature[:count] for name, feature in joined.items()}, expected)
    (weights,) = (feature for name, feature in joined.items() if name.endswith("_weights"))
    assert not weights[count:].any() and weights[:count].any(1).all()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_shorter_than_a_row_is_a_sentence(store, split):
    data = dataclasses.replace(store[0], length=60_000, objective=config.Objective(kind="causal"))
    sentence = rf"^The {split} split of 's0' in .* has [\d]+ tokens, less than the 60000 of one row: lower data\.len"
    with pytest.raises(UserError, match=sentence):
        Rows(data, prepare(data, [].append), split)


def patterns(rows: Rows, epoch: int) -> list[tuple[int, ...]]:
    """Where the sentinels stand in the inputs of an epoch, window by window in the order of their tokens."""
    numbers = np.arange(epoch * rows.count, (epoch + 1) * rows.count)
    plain = dataclasses.replace(rows.data, objective=config.Objective(kind="causal"), length=rows.data.window)
    order = np.lexsort(Rows(plain, rows.vocabulary, rows.split)(numbers)["decoder_target_tokens"].T)
    inputs = rows(numbers)["encoder_input_tokens"][order]
    return [tuple(np.flatnonzero(row >= rows.vocabulary.sentinels.min()).tolist()) for row in inputs]


def alike(left: list[tuple[int, ...]], right: list[tuple[int, ...]]) -> float:
    """The share of windows with the same noise in both."""
    return sum(map(tuple.__eq__, left, right)) / len(left)


def test_noise_is_new_in_each_epoch(store):
    train = store[1]["train"]
    assert alike(patterns(train, 0), patterns(train, 0)) == 1
    assert alike(patterns(train, 0), patterns(train, 1)) < 0.25


def test_noise_differs_between_the_splits_for_the_same_text(store, tmp_path):
    shutil.copytree(store[0].store, tmp_path / "store")
    shutil.copytree(tmp_path / "store" / "train", tmp_path / "store" / "validation", dirs_exist_ok=True)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    for source in manifest["sources"]:
        source["splits"]["validation"] = source["splits"]["train"]
    (tmp_path / "store" / "manifest.json").write_text(json.dumps(manifest))
    rows = rows_of(dataclasses.replace(store[0], store=f"{tmp_path}/store"))
    assert alike(patterns(store[1]["train"], 0), patterns(rows["train"], 0)) == 1
    assert alike(patterns(rows["train"], 0), patterns(rows["validation"], 0)) < 0.25


def test_another_seed_is_another_order_with_other_noise(store):
    train = store[1]["train"]
    other = Rows(dataclasses.replace(train.data, seed=1), train.vocabulary, "train")
    assert alike(patterns(train, 0), patterns(other, 0)) < 0.25
    assert not np.array_equal(
        train(np.arange(20))["encoder_input_tokens"], other(np.arange(20))["encoder_input_tokens"]
    )


IMPORTS = """
import importlib, pkgutil, sys
import t5like.data
for module in pkgutil.walk_packages(t5like.data.__path__, "t5like.data."):
    importlib.import_module(module.name)
print(sorted({"jax", "tensorflow", "sentencepiece", "pyarrow", "tokenizers", "datasketch"} & set(sys.modules)))
"""


def test_importing_the_data_engine_imports_neither_jax_nor_tensorflow():
    root = pathlib.Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", IMPORTS], cwd=root, capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
