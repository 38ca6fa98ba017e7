"""The order of rows is a permutation that looks like chance, and its numbers never change."""

import numpy as np
import pytest

from t5like.data.order import hash_of, locate, mix, permute


def keys_of(key: int, rows: int) -> np.ndarray:
    return np.full(rows, key, np.uint64)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("sizes", [range(1, 301), (1000, 1023, 1024, 1025, 4095, 4096, 4097, 5000)], ids=["1-300", "k"])
def test_each_index_goes_to_its_own_place(sizes):
    for size in sizes:
        for key in (0, 7, 2**64 - 1):
            places = permute(np.arange(size), size, keys_of(key, size))
            np.testing.assert_array_equal(np.sort(places), np.arange(size))


@pytest.mark.parametrize("size", [10**12, 2**40, 2**40 + 1, 2**62])
def test_no_two_of_many_indices_collide_in_a_huge_permutation(size):
    index = np.unique(np.random.default_rng(0).integers(0, size, 200_000))
    places = permute(index, size, keys_of(5, len(index)))
    assert len(np.unique(places)) == len(index)
    assert places.min() >= 0 and places.max() < size
    # The mean of uniform places deviates by size / sqrt(12 n).
    assert places.mean() / size == pytest.approx(0.5, abs=4 / np.sqrt(12 * len(index)))


def test_a_place_depends_on_its_own_index_and_key_alone():
    index, keys = np.arange(1000), hash_of(3, np.arange(1000) % 4)
    whole = permute(index, 1000, keys)
    for part in (slice(0, 1), slice(17, 400), slice(None, None, -1)):
        np.testing.assert_array_equal(permute(index[part], 1000, keys[part]), whole[part])


def test_positions_that_follow_each_other_are_not_correlated():
    size = 10**6
    places = permute(np.arange(size), size, keys_of(11, size))
    assert abs(correlation(places[:-1], places[1:])) < 0.004
    assert abs(correlation(np.arange(size), places)) < 0.004


@pytest.mark.parametrize("size", [1000, 10**6, 10**12])
def test_keys_give_unrelated_orders(size):
    index = np.arange(min(size, 10**5))
    orders = [permute(index, size, keys_of(key, len(index))) for key in (0, 1, 2**63)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(correlation(orders[one], orders[other])) < 4 / np.sqrt(len(index))


def test_every_order_of_a_few_rows_occurs_equally_often():
    keys = hash_of(np.arange(24_000))
    orders = np.stack([permute(np.full(len(keys), n), 4, keys) for n in range(4)], axis=1)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    # Chi-squared with 23 degrees of freedom: 58 is passed once in 20,000 times.
    assert (np.square(counts - 1000) / 1000).sum() < 58


@pytest.mark.parametrize("size", [1, 7, 100])
def test_each_epoch_visits_each_row_once(size):
    epochs, positions = locate(np.arange(5 * size), size, 3)
    np.testing.assert_array_equal(epochs, np.repeat(np.arange(5), size))
    for epoch in positions.reshape(5, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [locate(np.arange(300), 100, seed)[1].reshape(3, 100) for seed in (0, 1)]
    assert len(np.unique(np.concatenate(orders), axis=0)) == 6


def test_rows_far_beyond_the_first_epoch_are_found_at_once():
    epoch, position = locate(np.array([10**15 + 3]), 1000, 0)
    assert epoch.tolist() == [10**12]
    assert position.tolist() == permute(np.array([3]), 1000, hash_of(0, 10**12)).tolist()


def test_the_order_of_numbers_counts_in_a_hash():
    assert hash_of(1, 2) != hash_of(2, 1)
    assert hash_of(0) != hash_of(0, 0) != hash_of(0, 0, 0)
    grid = hash_of(*(axis.ravel() for axis in np.meshgrid(np.arange(300), np.arange(300))))
    assert len(np.unique(grid)) == 300 * 300


def test_a_hash_of_rows_is_the_hash_of_each_row():
    rows = np.array([5, -1, 2**62])
    assert hash_of(9, rows, 4).tolist() == [int(hash_of(9, int(row), 4)[0]) for row in rows]


def test_half_of_a_mix_changes_with_any_bit():
    x = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.uint64)
    for bit in range(0, 64, 7):
        changed = np.bitwise_count(mix(x) ^ mix(x ^ np.uint64(1 << bit)))
        assert changed.mean() == pytest.approx(32, abs=4 * 4 / np.sqrt(len(x)))


@pytest.mark.parametrize("size", [10**7, 10**9, 2**31 - 5, 10**12])
def test_neighbours_are_strangers(size):
    """Pairs of places at several distances fall into a grid of 32 by 32 as independent ones do, and so do their
    differences; TensorFlow's index_shuffle fails this with its default of four rounds."""
    rows = size // 3 + np.arange(2**17)
    share = permute(rows, size, keys_of(11, len(rows))) / size
    for lag in (1, 2, 3, 64, 4096, 32768):
        pairs = (share[lag:] * 32).astype(int) * 32 + (share[:-lag] * 32).astype(int)
        differences = ((share[lag:] - share[:-lag]) % 1 * 256).astype(int)
        for values, cells in ((pairs, 1024), (differences, 256)):
            expected = len(values) / cells
            chi_square = (np.square(np.bincount(values, minlength=cells) - expected) / expected).sum()
            # Five standard deviations above the mean.
            assert chi_square < cells - 1 + 5 * np.sqrt(2 * (cells - 1)), (lag, cells)
        assert abs(correlation(share[lag:], share[:-lag])) < 5 / np.sqrt(len(rows)), lag


def test_these_numbers_never_change():
    # Whoever resumes a run gets its rows by these numbers: if this fails, change the code and not the test.
    assert mix(np.array([0, 1], np.uint64)).tolist() == [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]
    assert hash_of(0, 1, 2).tolist() == [6768782832058643234]
    assert permute(np.arange(10), 10, keys_of(1, 10)).tolist() == [4, 1, 9, 2, 7, 0, 6, 3, 8, 5]
    assert permute(np.array([0, 1, 10**12 - 1]), 10**12, keys_of(1, 3)).tolist() == [
        250539637815,
        838076491333,
        847752275452,
    ]
    assert locate(np.arange(6, 12), 6, 1)[1].tolist() == [3, 4, 1, 5, 0, 2]
