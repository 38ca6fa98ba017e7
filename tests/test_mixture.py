"""A mixture gives every row to one source, at rates that are exact, and forgets no row of any."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from t5like import config
from t5like.data.rows.mixture import BLOCK, Mixture, exact_counts, mixture
from t5like.errors import UserError


def data(rates=(None, None, None), **changes) -> config.Data:
    sources = (
        config.Source(kind="text", path="x", name=f"s{n}", rate=None if rate is None else float(rate))
        for n, rate in enumerate(rates)
    )
    return config.Data(store="store", sources=tuple(sources), **changes)


@pytest.mark.parametrize("counts", [(1,), (1, 1), (7, 2, 1), (5, 0, 3), (1000, 1, 399)])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_source_counts_its_rows_without_a_gap_and_each_block_has_its_counts(counts, seed):
    mixed = Mixture(counts, seed)
    rows = np.arange(3 * mixed.block)
    source, number = mixed.locate(rows)
    for which, count in enumerate(counts):
        own = number[source == which]
        assert sorted(own.tolist()) == list(range(3 * count))
    for block in np.split(source, 3) if len(counts) > 1 else []:
        assert np.bincount(block, minlength=len(counts)).tolist() == list(counts)


def test_a_row_far_away_is_the_same_alone_and_among_others():
    mixed = Mixture((70, 20, 10), 3)
    rows = 10**12 + np.arange(500)
    together = np.stack(mixed.locate(rows), axis=1)
    alone = [np.stack(mixed.locate(rows[n : n + 1]), axis=1)[0] for n in range(500)]
    np.testing.assert_array_equal(together, alone)


def test_blocks_differ_in_their_order_and_seeds_too():
    mixed, other = Mixture((50, 50), 0), Mixture((50, 50), 1)
    one, two = np.split(mixed.locate(np.arange(200))[0], 2)
    assert (one != two).any() and (one != other.locate(np.arange(100))[0]).any()


@pytest.mark.parametrize(
    ("rates", "counts"),
    [((0.7, 0.3), [7, 3]), ((1, 1, 1), [1, 1, 1]), ((2, 1), [2, 1]), ((0.5, 0.25, 0.25), [2, 1, 1])],
)
def test_rates_make_the_smallest_block_that_has_them_exactly(rates, counts):
    assert mixture(data(rates), [10] * len(rates)).counts.tolist() == counts


def test_rates_that_no_block_has_exactly_are_nearest_in_the_largest():
    shares = np.array([2**0.5, 1, 3**0.5])
    counts = exact_counts(shares / shares.sum())
    assert counts.sum() == BLOCK
    assert (np.abs(counts / BLOCK - shares / shares.sum()) < 1 / BLOCK).all()


def test_without_rates_an_epoch_of_everything_is_a_block():
    mixed = mixture(data(), [30, 4, 6])
    assert mixed.block == 40 and mixed.counts.tolist() == [30, 4, 6]


def test_a_cap_bounds_the_size_that_a_source_counts_for():
    counts = mixture(data(size_cap=100), [10_000, 100, 50]).counts
    assert counts.tolist() == [2, 2, 1]


def test_a_temperature_brings_the_rates_nearer_to_each_other():
    plain, hot = (mixture(data(temperature=t), [1000, 10, 90]).counts for t in (1.0, 2.0))
    shares = np.sqrt([1000, 10, 90])
    np.testing.assert_allclose(hot / hot.sum(), shares / shares.sum(), atol=1 / BLOCK)
    assert hot[1] / hot.sum() > plain[1] / plain.sum()


def test_the_rows_that_a_run_takes_of_each_source_are_those_that_it_locates():
    mixed = Mixture((7, 2, 1), 0)
    for rows in (10, 1000, 123_450):
        assert mixed.rows_of(rows).tolist() == np.bincount(mixed.locate(np.arange(rows))[0]).tolist()


def test_a_rate_below_one_row_in_a_block_is_a_sentence():
    with pytest.raises(UserError, match=r"^The source 's1' would be 5e-06 of the rows, less than one in 4096: leave"):
        mixture(data((1, 1e-5, 1)), [10, 10, 10])


@pytest.mark.parametrize("rate", [-1.0, 0.0])
def test_a_rate_that_is_none_is_a_sentence(rate):
    with pytest.raises(UserError, match=r"^data\.sources\.N\.rate=.* must be above 0; leave a source out"):
        config.Source(rate=rate)


@pytest.mark.parametrize(
    ("rates", "changes", "sentence"),
    [
        ((1, None, 1), {}, r"^data\.sources\.1 has no rate, but others have: give every source one, or none\.$"),
        ((1, 1, 1), {"temperature": 2.0}, r"^data\.temperature=2\.0 has no effect here, only for several sources w"),
        (
            (1, 1, 1),
            {"size_cap": 5},
            r"only for several sources without rates: leave it at its default, data\.size",
        ),
        ((None,) * 3, {"size_cap": 0}, r"^data\.size_cap=0 must be above 0\.$"),
        ((None,) * 3, {"temperature": 0.0}, r"^data\.temperature=0\.0 must be above 0\.$"),
    ],
)
def test_rates_that_contradict_each_other_are_a_sentence(rates, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        data(rates, **changes)


def test_two_sources_of_one_name_are_a_sentence():
    settings = data()
    with pytest.raises(UserError, match=r"^Two of data\.sources are called 's0': set data\.sources\.N\.name\.$"):
        dataclasses.replace(settings, sources=(settings.sources[0],) * 2)


def test_rates_are_exact_as_fractions():
    counts = exact_counts(np.array([1 / 3, 1 / 7, 1 - 1 / 3 - 1 / 7]))
    shares = [Fraction(int(count), int(counts.sum())) for count in counts]
    assert shares[:2] == [Fraction(1, 3), Fraction(1, 7)]
