"""Sequences in one flat array are treated as each would be alone, and random places are drawn fairly."""

import itertools

import numpy as np
import pytest
from examples import keys_of, ragged

from t5like.data.draws import below, choose, random_bits
from t5like.data.ragged import positions_in, slices, text_lengths


def test_slices_are_those_of_numpy():
    values = np.random.default_rng(0).integers(0, 9, 50)
    starts, lengths = np.array([3, 0, 40, 7, 7]), np.array([5, 0, 10, 1, 12])
    expected = [values[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    np.testing.assert_array_equal(slices(values, starts, lengths), np.concatenate(expected))


def test_a_slice_may_reach_over_both_ends():
    found = slices(np.array([7, 8, 9]), np.array([-1, 1]), np.array([3, 3]))
    np.testing.assert_array_equal(found[[1, 2, 3, 4]], [7, 8, 8, 9])
    assert found.size == 6


def test_places_begin_anew_in_each_sequence():
    assert positions_in(np.array([3, 0, 2])).tolist() == [0, 1, 2, 0, 1]


def test_a_text_ends_before_the_eos_that_closes_it():
    assert text_lengths(ragged([7, 8, 1], [7, 8], [1], [], [1, 7]), 1).tolist() == [2, 2, 0, 0, 2]
    assert text_lengths(ragged(), 1).tolist() == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6])
def test_every_set_of_places_is_equally_likely(count):
    rows = 12_000
    flags = choose(keys_of(rows), np.full(rows, 6), np.full(rows, count)).reshape(rows, 6)
    assert (flags.sum(1) == count).all()
    sets = len(list(itertools.combinations(range(6), count)))
    kinds, counts = np.unique(flags, axis=0, return_counts=True)
    assert len(kinds) == sets
    # Chi-squared with at most 19 degrees of freedom: 52 is passed once in 10,000 times.
    assert (np.square(counts - rows / sets) / (rows / sets)).sum() < 52


def test_sequences_of_any_size_get_their_own_number_of_places():
    random = np.random.default_rng(0)
    sizes = np.concatenate([[0, 1, 1, 2, 5000], random.integers(0, 300, 500)])
    counts = np.minimum(np.concatenate([[0, 0, 1, 2, 2500], random.integers(0, 300, 500)]), sizes)
    keys = keys_of(len(sizes))
    flags = np.split(choose(keys, sizes, counts), np.cumsum(sizes)[:-1])
    assert [own.sum() for own in flags] == counts.tolist()
    for n in (0, 4, 9, 200):
        np.testing.assert_array_equal(choose(keys[n : n + 1], sizes[n : n + 1], counts[n : n + 1]), flags[n])


def test_how_much_is_drawn_at_once_does_not_show(monkeypatch):
    sizes, counts, keys = np.full(300, 40), np.full(300, 19), keys_of(300)
    expected = choose(keys, sizes, counts)
    monkeypatch.setattr("t5like.data.draws._draws", lambda sizes, counts, slack: (counts + 2 * slack).astype(int))
    np.testing.assert_array_equal(choose(keys, sizes, counts), expected)


def test_random_numbers_are_each_keys_own_and_uniform():
    keys = keys_of(3)
    whole = np.split(random_bits(keys, np.array([5, 0, 70_000])), [5])
    np.testing.assert_array_equal(whole[0], random_bits(keys[:1], np.array([5])))
    counts = np.bincount(below(whole[1], 7), minlength=8)
    assert counts[7] == 0
    # Chi-squared with 6 degrees of freedom: 28 is passed once in 10,000 times.
    assert (np.square(counts[:7] - 10_000) / 10_000).sum() < 28
    assert below(np.full(1, 2**64 - 1, np.uint64), 2**32).tolist() == [2**32 - 1]
