"""Span corruption and UL2 lose nothing, have T5's lengths and shares, and are their docstrings' worked examples."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from examples import EOS, PIECES, documents, keys_of, ragged, rows_of, settings, streams_of, vocabulary, windows

from t5like import config
from t5like.config.spans import corrupted
from t5like.data.draws import Draws
from t5like.data.objectives.denoising import span_corruption
from t5like.data.ragged import Ragged
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError

# Length, density and mean span, then T5's raw tokens and targets.
PUBLISHED = [
    (512, 0.15, 3.0, 568, 114),
    (1024, 0.15, 3.0, 1137, 229),
    (1024, 0.15, 20.0, 1193, 189),
    (2048, 0.15, 3.0, 2274, 456),
    (512, 0.15, 8.0, 588, 100),
    (512, 0.5, 3.0, 766, 512),
]
MODES = ("[R]", "[S]", "[X]")


def restore(inputs: np.ndarray, targets: np.ndarray, vocabulary: Vocabulary) -> list[int]:
    """The raw tokens of an example: each sentinel of the inputs replaced by what follows it in the targets."""
    sentinels = vocabulary.sentinels.tolist()
    assert inputs[-1] == targets[-1] == vocabulary.eos
    inputs, targets = inputs.tolist()[:-1], targets.tolist()[:-1]
    order = [token for token in targets if token in sentinels]
    assert order == [token for token in inputs if token in sentinels] == sentinels[: len(order)]
    if not order:
        return inputs + targets
    ends = [*(targets.index(sentinel) for sentinel in order), len(targets)]
    spans = {s: targets[a + 1 : b] for s, a, b in zip(order, ends[:-1], ends[1:], strict=True)}
    assert all(spans.values())
    return [token for place in inputs for token in spans.get(place, [place])]


def restored(streams: dict[str, Ragged], vocabulary: Vocabulary) -> list[list[int]]:
    pairs = zip(*(streams[n].sequences() for n in ("encoder_input_tokens", "decoder_target_tokens")), strict=True)
    return [restore(*pair, vocabulary) for pair in pairs]


def as_lists(part: Ragged) -> list[list[int]]:
    return [sequence.tolist() for sequence in part.sequences()]


def chi_squared(counts: np.ndarray, expected: float | np.ndarray) -> float:
    return (np.square(counts - expected) / expected).sum()


@pytest.mark.parametrize(("length", "density", "mean", "raw", "targets"), PUBLISHED)
def test_lengths_are_t5s_and_nothing_is_lost(length, density, mean, raw, targets):
    data = settings("span_corruption", length, density=density, mean_span=mean)
    assert (data.window, data.lengths) == (raw, {"encoder": length, "decoder": targets})
    part = windows(20, raw)
    streams = streams_of(data, (part,))
    assert set(streams["encoder_input_tokens"].lengths) == {length}
    assert set(streams["decoder_target_tokens"].lengths) == {targets}
    assert restored(streams, vocabulary()) == as_lists(part)


@pytest.mark.parametrize(
    ("density", "mean"), [(0.05, 1.0), (0.45, 1.0), (0.15, 1.4), (0.5, 1.4), (0.15, 3.0), (0.7, 3.0), (0.7, 50.0)]
)
def test_no_length_loses_a_token(density, mean):
    for length in range(8, 41):
        data = settings("span_corruption", length, density=density, mean_span=mean)
        part = windows(3, data.window)
        streams = streams_of(data, (part,))
        assert set(streams["encoder_input_tokens"].lengths) == {length}
        assert restored(streams, vocabulary()) == as_lists(part)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("span_corruption", {}), ("span_corruption", {"density": 0.6, "mean_span": 1.5}), ("ul2", {})],
)
def test_documents_of_every_length_come_back_without_their_eos(kind, options):
    data = settings(kind, 64, documents=True, **options)
    part = documents(np.arange(1, data.window + 1).repeat(3))
    streams = streams_of(data, (part,))
    if kind == "ul2":
        inputs = streams["encoder_input_tokens"]
        modes = [vocabulary().special[mode] for mode in MODES]
        assert np.isin(inputs.values[inputs.starts], modes).all()
        values = np.delete(inputs.values, inputs.starts)
        streams |= {"encoder_input_tokens": Ragged(values, inputs.lengths - 1)}
    assert restored(streams, vocabulary()) == [text[:-1] for text in as_lists(part)]


def test_bytes_are_corrupted_with_the_sentinels_of_byt5():
    of_bytes = Vocabulary(Bytes(), (), 11)
    text = "Bytes: 床前明月光，疑是地上霜。".encode()
    data = config.Data(
        store="unused",
        length=len(text) - 4,
        vocabulary=config.Vocabulary(kind="bytes", size=259, sentinels=11),
    )
    window = Ragged(np.frombuffer(text, np.uint8)[: data.window].astype(np.int32) + 3, np.array([data.window]))
    streams = span_corruption((window,), Draws(keys_of(1), keys_of(1)), data, of_bytes)
    assert streams["decoder_target_tokens"].values[0] == 258 in streams["encoder_input_tokens"].values.tolist()
    assert restored(streams, of_bytes) == as_lists(window)


def test_the_worked_example_of_span_corruption_is_one_of_eight_that_are_equally_likely():
    data, rows = settings("span_corruption", 8, density=0.375, mean_span=1.5), 8000
    part = Ragged(np.tile(np.arange(10, 18, dtype=np.int32), rows), np.full(rows, 8))
    features = rows_of(data, part)
    first, second = vocabulary().sentinels[:2].tolist()
    row = features["encoder_input_tokens"].tolist().index([10, 11, first, 14, 15, 16, second, 1])
    assert features["decoder_target_tokens"][row].tolist() == [first, 12, 13, second, 17, 1]
    assert features["decoder_input_tokens"][row].tolist() == [0, first, 12, 13, second, 17]
    kinds, counts = np.unique(features["encoder_input_tokens"], axis=0, return_counts=True)
    assert len(kinds) == 8
    # Chi-squared with 7 degrees of freedom: 30 is passed once in 10,000 times.
    assert chi_squared(counts, 1000) < 30


def test_documents_of_different_lengths_in_one_batch_are_each_corrupted_in_all_ways_equally_often():
    # 7 tokens with 4 of noise in 2 spans: 3 ways to cut the noise, 2 to cut the rest; 5 tokens with 3 in 2: 2 and 1.
    data, repeats = settings("span_corruption", 16, documents=True, density=0.55, mean_span=1.9), 4000
    assert (corrupted(7, 0.55, 1.9)[1:3], corrupted(5, 0.55, 1.9)[1:3]) == ((4, 2), (3, 2))
    part = ragged(*([list(range(10, 17)), list(range(10, 15))] * repeats))
    found = collections.Counter(tuple(s) for s in as_lists(streams_of(data, (part,))["encoder_input_tokens"]))
    for length, ways in ((6, 6), (5, 2)):
        counts = np.array([count for inputs, count in found.items() if len(inputs) == length])
        assert len(counts) == ways
        # Chi-squared with at most 5 degrees of freedom: 26 is passed once in 10,000 times.
        assert chi_squared(counts, repeats / ways) < 26


def test_density_and_mean_span_are_those_asked_for():
    data, rows = settings("span_corruption", 340), 4000
    assert data.window <= PIECES - 3
    part = Ragged(np.tile(np.arange(3, 3 + data.window, dtype=np.int32), rows), np.full(rows, data.window))
    targets = rows_of(data, part)["decoder_target_tokens"]
    # Raw token n is piece 3 + n, so that the targets alone tell which were corrupted.
    mask = np.zeros((rows, data.window), bool)
    row, place = np.nonzero((targets >= 3) & (targets < PIECES))
    mask[row, targets[row, place] - 3] = True
    begins = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    assert set(mask.sum(1)) == {round(0.15 * data.window)}
    assert set(begins.sum(1)) == {round(mask[0].sum() / 3)}
    assert not mask[:, 0].any()
    # Away from the ends every place is corrupted equally often.
    share = mask[:, 40:-40].mean(0)
    assert np.abs(share - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / rows)


@pytest.mark.parametrize("density", [0.01, 0.15, 1 / 3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("mean", [1.0, 1.1, 3.0, 20.0])
def test_corrupted_rows_fill_their_length(density, mean):
    objective = config.Objective(density=density, mean_span=mean)
    for length in range(8, 80):
        lengths = objective.span_lengths(length)
        assert lengths.inputs == lengths.raw - lengths.noise + lengths.spans + 1
        assert lengths.targets == lengths.noise + lengths.spans + 1
        # From one token in two on, spans may touch; there are fewer then, and the row may have one place too many.
        assert length - (density >= 0.5) <= lengths.inputs <= length


def test_longer_windows_would_not_fit():
    # 569 raw tokens have 85 of noise in 28 spans, so their inputs are 569 - 85 + 28 + 1 = 513.
    assert config.Objective().span_lengths(512) == (568, 85, 28, 512, 114)
    assert config.Objective().span_lengths(513) == (569, 85, 28, 513, 114)


def test_spans_that_would_touch_are_refused():
    with pytest.raises(UserError, match=r"density=0\.9 and data\.objective\.mean_span=3\.0 leave no text between the"):
        settings("span_corruption", 512, density=0.9, mean_span=3.0)


def test_a_text_of_one_token_stays_whole_and_one_of_two_loses_its_second():
    data, sentinel = settings("span_corruption", documents=True), int(vocabulary().sentinels[0])
    streams = streams_of(data, (ragged([EOS], [7, EOS], [7, 8, EOS], [7, 8]),))
    assert as_lists(streams["encoder_input_tokens"]) == [[1], [7, 1], [7, sentinel, 1], [7, sentinel, 1]]
    assert as_lists(streams["decoder_target_tokens"]) == [[1], [1], [sentinel, 8, 1], [sentinel, 8, 1]]


def test_without_sentinels_the_same_tokens_are_left_out_and_asked_for():
    data, part = settings("span_corruption", documents=True), documents(np.arange(1, 60))
    with_them = streams_of(data, (part,))
    bare = streams_of(settings("span_corruption", documents=True, sentinels=False), (part,))
    for name, stream in with_them.items():
        sentinels = np.isin(stream.values, vocabulary().sentinels)
        np.testing.assert_array_equal(bare[name].values, stream.values[~sentinels])
        assert bare[name].lengths.sum() == (~sentinels).sum()


def test_windows_without_sentinels_fill_the_row():
    data = settings("span_corruption", 512, sentinels=False)
    assert (data.window, data.lengths) == (601, {"encoder": 512, "decoder": 91})
    part = windows(4, data.window)
    features = rows_of(data, part)
    assert (features["encoder_segment_ids"] == 1).all() and (features["decoder_segment_ids"] == 1).all()
    both = np.concatenate([features["encoder_input_tokens"][:, :-1], features["decoder_target_tokens"][:, :-1]], axis=1)
    np.testing.assert_array_equal(np.sort(both, axis=1), np.sort(part.values.reshape(4, -1), axis=1))


def test_ul2_with_one_denoiser_is_span_corruption():
    alone = settings("ul2", denoisers=(config.Denoiser(density=0.3, mean_span=2.0, rate=5.0),))
    plain = settings("span_corruption", density=0.3, mean_span=2.0)
    part = windows(9, plain.window)
    assert plain.window == alone.window
    for name, stream in streams_of(plain, (part,)).items():
        np.testing.assert_array_equal(streams_of(alone, (part,))[name].values, stream.values)


def test_ul2_chooses_each_denoiser_by_its_rate():
    denoisers = tuple(
        config.Denoiser(mode=mode, density=density, rate=rate)
        for mode, density, rate in (("[R]", 0.15, 1.0), ("[S]", 0.3, 4.0), ("[X]", 0.5, 5.0))
    )
    data, rows = settings("ul2", denoisers=denoisers), 10_000
    streams = streams_of(data, (windows(rows, data.window),))
    inputs, targets = streams["encoder_input_tokens"], streams["decoder_target_tokens"]
    modes = inputs.values[inputs.starts]
    counts = np.array([(modes == vocabulary().special[mode]).sum() for mode in MODES])
    # Chi-squared with 2 degrees of freedom: 20 is passed once in 20,000 times.
    assert chi_squared(counts, rows * np.array([0.1, 0.4, 0.5])) < 20
    for mode, denoiser in zip(MODES, denoisers, strict=True):
        expected = corrupted(data.window, denoiser.density, denoiser.mean_span).targets
        assert set(targets.lengths[modes == vocabulary().special[mode]]) == {expected}


def test_the_worked_example_of_ul2():
    denoisers = (config.Denoiser(mode="[S]", density=0.25, mean_span=None),)
    data = settings("ul2", 8, denoisers=denoisers)
    assert (data.window, data.lengths) == (8, {"encoder": 8, "decoder": 3})
    streams = streams_of(data, (ragged(list(range(10, 18))),))
    assert as_lists(streams["encoder_input_tokens"]) == [[vocabulary().special["[S]"], *range(10, 16), 1]]
    assert as_lists(streams["decoder_target_tokens"]) == [[16, 17, 1]]


def test_each_denoiser_of_ul2_fits_into_the_row_with_the_same_window():
    for length in (64, 128, 512):
        data = settings("ul2", length)
        for denoiser in config.UL2:
            one = dataclasses.replace(data, objective=config.Objective(kind="ul2", denoisers=(denoiser,)))
            bound = [data.length, data.lengths["decoder"]]
            streams = streams_of(one, (windows(2, data.window),))
            found = [streams[name].lengths[0] for name in ("encoder_input_tokens", "decoder_target_tokens")]
            assert found[0] <= bound[0] and found[1] <= bound[1]


def test_an_empty_batch_is_an_empty_batch():
    for kind, by_document in itertools.product(("span_corruption", "ul2"), (False, True)):
        features = rows_of(settings(kind, documents=by_document), ragged())
        assert all(len(feature) == 0 for feature in features.values())
