"""Packing: every example once, nothing over capacity, and rows almost full."""

import itertools
import json
import lzma
import os
import pathlib

import numpy as np
import pytest

from t5like.data.packing.packing import pack

FOLDER = pathlib.Path(os.environ.get("T5LIKE_DATA", "/nonexistent"))


def packed(sizes: np.ndarray, capacity: tuple[int, ...], window: int = 2**16) -> np.ndarray:
    """The tokens of each row, after checking that each example is in one row and that none is overfull."""
    order, starts = pack(sizes, capacity, window)
    assert order.dtype == starts.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(len(sizes)))
    assert starts[0] == 0 and starts[-1] == len(sizes) and (np.diff(starts) > 0).all()
    rows = np.array([sizes[order[a:b]].sum(0) for a, b in itertools.pairwise(starts)], np.int64)
    rows = rows.reshape(-1, len(capacity))
    assert (rows <= np.array(capacity)).all()
    return rows


def first_fit(sizes: np.ndarray, capacity: tuple[int, ...]) -> int:
    """Rows if each example, in the order given, goes into the first row that has room."""
    free, rows = np.empty((len(sizes), len(capacity)), np.int64), 0
    for size in sizes:
        fits = np.flatnonzero((free[:rows] >= size).all(1))
        at = fits[0] if len(fits) else rows
        free[at] = (free[at] if len(fits) else np.array(capacity)) - size
        rows += not len(fits)
    return rows


def fewest(sizes: np.ndarray, capacity: tuple[int, ...]) -> int:
    """A bound that no packing can be below: all tokens, in rows without a gap."""
    return int(np.ceil(sizes.sum(0) / np.array(capacity)).max())


def pairs(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.integers(20, 301, count), random.integers(5, 81, count)], 1)


@pytest.mark.parametrize("seed", range(40))
def test_each_example_is_in_one_row_and_no_row_is_overfull(seed):
    random = np.random.default_rng(seed)
    dimensions, count = 1 + seed % 2, int(random.integers(1, 400))
    capacity = tuple(random.integers(1, 2 ** random.integers(2, 14), dimensions).tolist())
    largest = np.maximum(np.array(capacity) // random.integers(1, 9), 1)
    sizes = np.stack([random.integers(0 if seed % 5 == 0 else 1, most + 1, count) for most in largest], 1)
    sizes[random.random(count) < 0.05] = capacity
    sizes[random.random(count) < 0.05] = 1
    assert len(packed(sizes, capacity, window=int(random.integers(1, 500)))) >= fewest(sizes, capacity)


@pytest.mark.parametrize("capacity", [(512,), (512, 128)])
def test_no_examples_make_no_rows(capacity):
    order, starts = pack(np.empty((0, len(capacity)), np.int64), capacity)
    assert (order.tolist(), starts.tolist()) == ([], [0])


@pytest.mark.parametrize("sizes", [[[1, 1]], [[512, 128]], [[512, 1], [1, 128]], [[0, 0]]])
def test_a_few_examples_of_the_least_and_largest_sizes_are_packed(sizes):
    assert len(packed(np.array(sizes), (512, 128))) == len(sizes)


def test_examples_as_large_as_a_row_get_a_row_each():
    assert packed(np.full((50, 1), 512), (512,)).tolist() == [[512]] * 50
    assert packed(np.full((50, 2), 1000), (1000, 1000)).tolist() == [[1000, 1000]] * 50


def test_examples_of_one_token_fill_rows_without_a_gap():
    assert packed(np.ones((1000, 1), np.int64), (100,)).tolist() == [[100]] * 10
    assert packed(np.ones((1000, 2), np.int64), (200, 100)).tolist() == [[100, 100]] * 10


def test_the_worked_example_is_that_of_the_docstring():
    order, starts = pack(np.array([[3], [7], [4], [6]]), [10])
    assert (order.tolist(), starts.tolist()) == ([1, 0, 3, 2], [0, 2, 4])


def test_lengths_of_pairs_fill_rows_to_the_bound():
    """Encoder 20 to 300 in 512, decoder 5 to 80 in 128: the decoder's tokens bound the rows from below."""
    sizes, capacity = pairs(12_000), (512, 128)
    rows = packed(sizes, capacity)
    assert len(rows) <= 1.004 * fewest(sizes, capacity)
    encoder, decoder = (rows.mean(0) / capacity).tolist()
    assert encoder >= 0.93 and decoder >= 0.99
    assert rows.sum() / (len(rows) * sum(capacity)) >= 0.945


def test_short_and_long_documents_fill_rows_to_the_last_token():
    random = np.random.default_rng(0)
    sizes = np.clip(random.lognormal(5, 1, 10_000), 2, 512).astype(np.int64)[:, None]
    assert packed(sizes, (512,)).mean() / 512 >= 0.998


@pytest.mark.skipif(not (FOLDER / "pretrain_zh_poetry").is_dir(), reason="T5LIKE_DATA names no folder with the poems")
def test_real_poems_fill_rows_to_99_percent():
    with lzma.open(FOLDER / "pretrain_zh_poetry" / "song_ci.jsonl.xz", "rt", encoding="utf-8") as lines:
        lengths = [len("".join(map(str, json.loads(line).values()))) for line in lines]
    sizes = np.minimum(np.array(lengths), 512)[:, None]
    assert packed(sizes, (512,)).mean() / 512 >= 0.99


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("capacity", [(512,), (512, 128), (2048, 2048)])
def test_rows_are_never_more_than_first_fit_in_the_order_given_makes(capacity, seed):
    random = np.random.default_rng(seed)
    sizes = np.stack([random.lognormal(np.log(most / 5), 0.8, 800) for most in capacity], 1)
    sizes = np.clip(sizes, 1, capacity).astype(np.int64)
    assert len(packed(sizes, capacity)) <= first_fit(sizes, capacity)
    assert len(packed(pairs(600, seed), (512, 128))) <= first_fit(pairs(600, seed), (512, 128))


def test_rows_are_full_in_the_scarcer_dimension_whichever_it_is():
    sizes, capacity = pairs(600), (512, 128)
    count = len(packed(sizes, capacity))
    assert count <= 1.01 * fewest(sizes, capacity)
    assert len(packed(sizes[:, ::-1], capacity[::-1])) == count


def test_windows_are_packed_independently():
    sizes, window = pairs(2500), 1000
    order, starts = pack(sizes, (512, 128), window)
    parts = [pack(sizes[at : at + window], (512, 128)) for at in range(0, 2500, window)]
    np.testing.assert_array_equal(order, np.concatenate([part + n * window for n, (part, _) in enumerate(parts)]))
    lengths = np.concatenate([np.diff(starts) for _, starts in parts])
    np.testing.assert_array_equal(np.diff(starts), lengths)


def test_the_same_sizes_are_packed_in_the_same_way():
    first, second = (pack(pairs(3000), (512, 128)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    narrow = pack(pairs(3000).astype(np.int32), (512, 128))
    np.testing.assert_array_equal(first[0], narrow[0])


def test_an_example_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"Example 2 with sizes \[10, 129\] does not fit into \[512, 128\]"):
        pack(np.array([[10, 128], [512, 1], [10, 129], [513, 1]]), (512, 128))
    with pytest.raises(ValueError, match="Example 0 with sizes"):
        pack(np.array([[-1]]), (512,))


def test_dimensions_that_disagree_and_empty_windows_are_refused():
    for capacity in [(512,), (512, 128, 64)]:
        with pytest.raises(ValueError, match="both must be one, or both two"):
            pack(np.ones((3, 2), np.int64), capacity)
    with pytest.raises(ValueError, match="window of 0"):
        pack(np.ones((3, 1), np.int64), (512,), window=0)
