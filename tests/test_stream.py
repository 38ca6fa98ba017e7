"""A batch depends on its number alone: not on the start of the run, the hosts or what was read before."""

import dataclasses
import json
import pathlib
import pydoc_data.topics
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.stream import Rows, evaluation_stream, training_stream
from t5like.errors import UserError

BATCH = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[config.Data, dict[str, Rows]]:
    """A store of bytes and the rows of its two splits."""
    folder = tmp_path_factory.mktemp("stream")
    for number, name in enumerate(("if", "for", "class")):
        (folder / f"{number}.txt").write_text(pydoc_data.topics.topics[name])
    files = (config.Source(kind="text", path=f"{folder}/{n}.txt", document="line") for n in range(3))
    data = config.Data(
        store=f"{folder}/store",
        sources=tuple(files),
        vocabulary=config.Vocabulary(kind="bytes", size=259, sentinels=11, extra=(config.MASK,)),
        objective=config.Objective(mean_span=2.0),
        length=64,
        held_out=0.3,
    )
    return data, rows_of(data)


def rows_of(data: config.Data) -> dict[str, Rows]:
    vocabulary = prepare(data, [].append)
    return {split: Rows(data, vocabulary, split) for split in ("train", "validation")}


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        assert left[name].dtype == right[name].dtype


def join(parts: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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

    def streams(host: int, of: int) -> Iterator[dict[str, np.ndarray]]:
        yield from training_stream(splits["train"], 3, 6, BATCH, host, of)
        yield from evaluation_stream(splits["validation"], 99, BATCH, host, of)

    of_hosts = zip(*(streams(host, hosts) for host in range(hosts)), strict=True)
    for features, parts in zip(streams(0, 1), of_hosts, strict=True):
        assert_same(features, join(parts))


def test_each_batch_is_computed_once(store):
    class Counted(Rows):
        calls = 0

        def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
            self.calls += 1
            return super().__call__(numbers)

    train = store[1]["train"]
    counted = Counted(train.data, train.vocabulary, "train")
    assert len(list(training_stream(counted, 0, 7, BATCH))) == 7
    assert counted.calls == 7 + 1  # one more for the shapes


def test_an_epoch_reads_each_window_of_the_store_once(store):
    data = dataclasses.replace(store[0], objective=config.Objective(kind="causal"))
    train = rows_of(data)["train"]
    windows = train.tokens.windows(np.arange(train.count) * data.window, data.window)
    read = train(np.arange(train.count, 2 * train.count))["decoder_target_tokens"]
    assert sorted(read.tolist()) == sorted(windows.tolist())
    assert read.tolist() != windows.tolist()
    assert 0 <= train.tokens.size - windows.size < data.window


@pytest.mark.parametrize("kind", ["span_corruption", "causal", "masked"])
@pytest.mark.parametrize(("most", "batch"), [(10**6, 8), (5, 8), (8, 4), (9, 4)])
def test_an_evaluation_counts_each_row_exactly_once(store, kind, most, batch):
    data = dataclasses.replace(store[0], objective=config.Objective(kind=kind, mean_span=2.0))
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
    sentence = (
        rf"^The {split} split of .* has [\d]+ tokens, less than the 60000 of one row: lower data\.length, add text"
    )
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
    manifest["splits"]["validation"] = manifest["splits"]["train"]
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
for module in pkgutil.iter_modules(t5like.data.__path__):
    importlib.import_module(f"t5like.data.{module.name}")
print(sorted({"jax", "tensorflow", "sentencepiece"} & set(sys.modules)))
"""


def test_importing_the_data_engine_imports_neither_jax_nor_tensorflow():
    root = pathlib.Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", IMPORTS], cwd=root, capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
