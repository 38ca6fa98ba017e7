"""Batches have few shapes with little padding, and results keep the order and the numbers of what was asked."""

import itertools

import numpy as np
import pytest

from t5like.infer.batches import LENGTHS, Batches, choose_lengths, in_order, in_parts, row_length


def padded(longest: list[int], lengths: tuple[int, ...]) -> int:
    """The tokens of batches in a row each."""
    return sum(min(length for length in lengths if length >= size) for size in longest)


@pytest.mark.parametrize("seed", range(5))
def test_the_lengths_are_those_with_the_least_padding(seed):
    sizes = (np.random.default_rng(seed).lognormal(4, 1, 12).astype(int) + 1).tolist()
    there = sorted({-(-size // 32) * 32 for size in sizes})
    for most in (1, 2, 3):
        chosen = choose_lengths(sizes, 1, most)
        tried = [
            (*rest, there[-1])
            for count in range(min(most, len(there)))
            for rest in itertools.combinations(there[:-1], count)
        ]
        best = min(padded(sizes, lengths) for lengths in tried)
        assert padded(sizes, chosen) <= best / 0.95 ** (most - 1) and set(chosen) <= set(there)
    assert choose_lengths(sizes, 12) == (there[-1],)  # one batch
    assert choose_lengths([], 4) == ()


def test_every_row_is_in_one_batch_of_few_shapes_and_later_parts_add_none():
    sizes = (np.random.default_rng(0).lognormal(4, 1, 1000).astype(int) + 1).tolist()
    batches, shapes = Batches(16), set()
    for part in (sizes, sizes[:500], [max(sizes) + 900]):
        found = list(batches(part))
        assert sorted(n for each in found for n in each.members) == list(range(len(part)))
        for each in found:
            assert max(part[n] for n in each.members) == part[each.members[0]] <= each.length
        if part is not sizes or not shapes:
            shapes |= {(batches.rows(each), each.length) for each in found[:-1]}
    assert len(shapes) <= LENGTHS
    assert found[0].length == row_length(max(sizes) + 900)
    unsorted = sum(-(-max(sizes[first : first + 16]) // 32) * 32 for first in range(0, 1000, 16))
    assert sum(each.length for each in Batches(16)(sizes)) < 0.5 * unsorted


def test_items_are_given_as_soon_as_all_before_them_are_there():
    given = []

    def found():
        for number in (2, 0, 1, 4, 3):
            given.append(number)
            yield number, str(number)

    assert [(item, len(given)) for item in in_order(found())] == [("0", 2), ("1", 3), ("2", 3), ("3", 5), ("4", 5)]
    assert list(in_order([(5, "a"), (4, "b")], first=4)) == ["b", "a"]
    assert list(in_parts("abcde", 2)) == [(0, ["a", "b"]), (2, ["c", "d"]), (4, ["e"])]
    for batch in (1, 7, 16, 100):
        assert Batches(batch).part % batch == 0 and Batches(batch).part >= 1024
