"""Objectives lose nothing, have T5's and BERT's shares, and are the worked examples of their docstrings."""

import pydoc_data.topics

import numpy as np
import pytest

from t5like import config
from t5like.data.objectives import OBJECTIVES, causal, masked, span_corruption
from t5like.data.order import hash_of
from t5like.data.vocabulary import Bytes, Vocabulary, train_pieces
from t5like.errors import UserError

PIECES = 400
# Length, density and mean span, then T5's raw tokens and targets.
PUBLISHED = [
    (512, 0.15, 3.0, 568, 114),
    (1024, 0.15, 3.0, 1137, 229),
    (1024, 0.15, 20.0, 1193, 189),
    (2048, 0.15, 3.0, 2274, 456),
    (512, 0.15, 8.0, 588, 100),
    (512, 0.5, 3.0, 766, 512),
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    pieces = train_pieces(config.Vocabulary(kind="bpe", size=PIECES), [pydoc_data.topics.topics["class"]])
    return Vocabulary(pieces, (config.MASK,), 200)


def settings(kind: str, length: int, density: float = 0.15, mean_span: float = 3.0) -> config.Data:
    return config.Data(
        store="unused",
        length=length,
        vocabulary=config.Vocabulary(size=PIECES, sentinels=200, extra=(config.MASK,)),
        objective=config.Objective(kind=kind, density=density, mean_span=mean_span),
    )


def random_windows(rows: int, length: int, least: int = 3, most: int = PIECES) -> np.ndarray:
    return np.random.default_rng(0).integers(least, most, (rows, length), dtype=np.int32)


def keys_of(rows: int) -> np.ndarray:
    return hash_of(1, np.arange(rows))


def restore(inputs: np.ndarray, targets: np.ndarray, vocabulary: Vocabulary) -> list[int]:
    """The raw tokens of a corrupted row: each sentinel of the inputs replaced by what follows it in the targets."""
    sentinels = vocabulary.sentinels.tolist()
    inputs, targets = (part.tolist()[: part.tolist().index(vocabulary.eos)] for part in (inputs, targets))
    order = [token for token in targets if token in sentinels]
    assert order == [token for token in inputs if token in sentinels] == sentinels[: len(order)]
    ends = [*(targets.index(sentinel) for sentinel in order), len(targets)]
    spans = {s: targets[a + 1 : b] for s, a, b in zip(order, ends[:-1], ends[1:], strict=True)}
    return [token for place in inputs for token in spans.get(place, [place])]


def noise_mask(features: dict[str, np.ndarray], vocabulary: Vocabulary) -> np.ndarray:
    """Which raw tokens were corrupted, from the targets alone, where raw token n is piece 3 + n."""
    targets = features["decoder_target_tokens"]
    mask = np.zeros((len(targets), PIECES - 3), bool)
    rows, places = np.nonzero((targets >= 3) & (targets < PIECES))
    mask[rows, targets[rows, places] - 3] = True
    return mask


@pytest.mark.parametrize(("length", "density", "mean", "raw", "targets"), PUBLISHED)
def test_lengths_are_t5s_and_nothing_is_lost(vocabulary, length, density, mean, raw, targets):
    data = settings("span_corruption", length, density, mean)
    assert (data.window, data.lengths) == (raw, {"encoder": length, "decoder": targets})
    windows = random_windows(20, raw)
    features = span_corruption(windows, keys_of(20), data, vocabulary)
    assert features["encoder_input_tokens"].shape == (20, length)
    assert features["decoder_target_tokens"].shape == (20, targets)
    pairs = zip(features["encoder_input_tokens"], features["decoder_target_tokens"], strict=True)
    assert [restore(*pair, vocabulary) for pair in pairs] == windows.tolist()


@pytest.mark.parametrize(
    ("density", "mean"), [(0.05, 1.0), (0.45, 1.0), (0.15, 1.4), (0.5, 1.4), (0.15, 3.0), (0.7, 3.0), (0.7, 50.0)]
)
def test_no_length_loses_a_token(vocabulary, density, mean):
    for length in range(8, 41):
        data = settings("span_corruption", length, density, mean)
        windows = random_windows(3, data.window)
        features = span_corruption(windows, keys_of(3), data, vocabulary)
        assert features["encoder_input_tokens"].shape == (3, length)
        pairs = zip(features["encoder_input_tokens"], features["decoder_target_tokens"], strict=True)
        assert [restore(*pair, vocabulary) for pair in pairs] == windows.tolist()


def test_bytes_are_corrupted_with_the_sentinels_of_byt5():
    vocabulary = Vocabulary(Bytes(), (), 11)
    text = "Bytes: 床前明月光，疑是地上霜。".encode()
    data = config.Data(
        store="unused",
        length=len(text) - 4,
        vocabulary=config.Vocabulary(kind="bytes", size=259, sentinels=11),
    )
    window = np.frombuffer(text, np.uint8)[None, : data.window].astype(np.int32) + 3
    features = span_corruption(window, keys_of(1), data, vocabulary)
    inputs, targets = features["encoder_input_tokens"][0], features["decoder_target_tokens"][0]
    assert targets[0] == 258 in inputs.tolist()
    assert restore(inputs, targets, vocabulary) == window[0].tolist()


def test_the_worked_example_of_span_corruption_is_one_of_eight_that_are_equally_likely(vocabulary):
    data, rows = settings("span_corruption", 8, 0.375, 1.5), 8000
    windows = np.tile(np.arange(10, 18, dtype=np.int32), (rows, 1))
    features = span_corruption(windows, keys_of(rows), data, vocabulary)
    first, second = vocabulary.sentinels[:2].tolist()
    row = features["encoder_input_tokens"].tolist().index([10, 11, first, 14, 15, 16, second, 1])
    assert features["decoder_target_tokens"][row].tolist() == [first, 12, 13, second, 17, 1]
    assert features["decoder_input_tokens"][row].tolist() == [0, first, 12, 13, second, 17]
    assert (features["encoder_segment_ids"] == 1).all() and (features["decoder_segment_ids"] == 1).all()
    assert (features["encoder_positions"] == np.arange(8)).all()
    kinds, counts = np.unique(features["encoder_input_tokens"], axis=0, return_counts=True)
    assert len(kinds) == 8
    # Chi-squared with 7 degrees of freedom: 30 is passed once in 10,000 times.
    assert (np.square(counts - 1000) / 1000).sum() < 30


def test_a_decoders_input_is_its_target_one_place_later(vocabulary):
    data = settings("span_corruption", 64)
    features = span_corruption(random_windows(5, data.window), keys_of(5), data, vocabulary)
    targets, inputs = features["decoder_target_tokens"], features["decoder_input_tokens"]
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (inputs[:, 0] == vocabulary.start).all()
    assert (targets[:, -1] == vocabulary.eos).all()
    assert (features["decoder_loss_weights"] == 1).all()


def test_density_and_mean_span_are_those_asked_for(vocabulary):
    data, rows = settings("span_corruption", 340), 4000
    windows = np.tile(np.arange(3, 3 + data.window, dtype=np.int32), (rows, 1))
    assert data.window <= PIECES - 3
    mask = noise_mask(span_corruption(windows, keys_of(rows), data, vocabulary), vocabulary)[:, : data.window]
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
        assert lengths.inputs == length == lengths.raw - lengths.noise + lengths.spans + 1
        assert lengths.targets == lengths.noise + lengths.spans + 1


def test_longer_windows_would_not_fit():
    # 569 raw tokens have 85 of noise in 28 spans, so their inputs are 569 - 85 + 28 + 1 = 513.
    assert config.Objective().span_lengths(512) == (568, 85, 28, 512, 114)
    assert config.Objective().span_lengths(513) == (569, 85, 28, 513, 114)


def test_spans_that_would_touch_are_refused():
    with pytest.raises(UserError, match=r"density=0\.9 and data\.objective\.mean_span=3\.0 leave no text between the"):
        settings("span_corruption", 512, 0.9, 3.0)


def test_causal_is_the_worked_example_of_its_docstring(vocabulary):
    targets = np.array([[7, 8, 1, 5, 6, 9]], np.int32)
    features = causal(targets, keys_of(1), settings("causal", 8), vocabulary)
    assert {name: feature.tolist()[0] for name, feature in features.items()} == {
        "decoder_target_tokens": [7, 8, 1, 5, 6, 9],
        "decoder_input_tokens": [0, 7, 8, 0, 5, 6],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 2],
        "decoder_positions": [0, 1, 2, 0, 1, 2],
        "decoder_loss_weights": [1] * 6,
    }


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_each_document_is_a_segment_whose_positions_begin_anew(vocabulary, kind):
    windows = random_windows(20, 64, least=0, most=8)
    features = OBJECTIVES[kind](windows, keys_of(20), settings(kind, 64), vocabulary)
    stack = "decoder" if kind == "causal" else "encoder"
    for row, window in enumerate(windows.tolist()):
        segment, position = 1, 0
        for place, token in enumerate(window):
            assert features[f"{stack}_segment_ids"][row, place] == segment
            assert features[f"{stack}_positions"][row, place] == position
            segment, position = (segment + 1, 0) if token == vocabulary.eos else (segment, position + 1)


def test_masked_is_the_worked_example_of_its_docstring(vocabulary):
    tokens, mask = np.tile(np.array([7, 8, 9, 6, 1], np.int32), (500, 1)), vocabulary.special[config.MASK]
    features = masked(tokens, keys_of(500), settings("masked", 8, 0.4), vocabulary)
    inputs, weights = features["encoder_input_tokens"].tolist(), features["encoder_loss_weights"].tolist()
    np.testing.assert_array_equal(features["encoder_target_tokens"], tokens)
    assert weights[inputs.index([7, mask, 9, mask, 1])] == [0, 1, 0, 1, 0]
    assert len(set(map(tuple, weights))) == 6  # two of the four that are not special


@pytest.mark.parametrize("density", [0.15, 0.5])
def test_masked_picks_its_share_and_no_special_token(vocabulary, density):
    tokens = random_windows(200, 125, least=0, most=12)
    tokens[:5] = 1
    tokens[:5, :4] = 7
    features = masked(tokens, keys_of(200), settings("masked", 125, density), vocabulary)
    chosen = features["encoder_loss_weights"] == 1
    assert not chosen[tokens < 3].any()
    np.testing.assert_array_equal(chosen.sum(1), [4] * 5 + [round(density * 125)] * 195)


def test_masked_chooses_every_place_equally_often(vocabulary):
    rows = 8000
    features = masked(random_windows(rows, 40), keys_of(rows), settings("masked", 40), vocabulary)
    share = features["encoder_loss_weights"].mean(0)
    assert np.abs(share - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / rows)


def test_masked_hides_80_replaces_10_and_keeps_10_percent(vocabulary):
    tokens = np.full((1000, 512), 7, np.int32)
    features = masked(tokens, keys_of(1000), settings("masked", 512), vocabulary)
    chosen, inputs = features["encoder_loss_weights"] == 1, features["encoder_input_tokens"]
    assert (inputs[~chosen] == 7).all()
    fates = inputs[chosen]
    kept, hidden = fates == 7, fates == vocabulary.special[config.MASK]
    learned = PIECES - 3
    for share, expected in ((hidden, 0.8), (kept, 0.1 + 0.1 / learned), (~hidden & ~kept, 0.1 * (1 - 1 / learned))):
        assert share.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / len(fates)))
    random = fates[~hidden & ~kept]
    counts = np.bincount(random, minlength=PIECES)
    assert set(random.tolist()) == set(range(3, PIECES)) - {7}
    # Chi-squared with 395 degrees of freedom: 500 is passed once in 4,000 times.
    expected = len(random) / (learned - 1)
    assert (np.square(np.delete(counts, [0, 1, 2, 7]) - expected) / expected).sum() < 500


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_features_are_contiguous_int32_and_float32_of_the_configs_lengths(vocabulary, kind):
    data = settings(kind, 64)
    features = OBJECTIVES[kind](random_windows(6, data.window), keys_of(6), data, vocabulary)
    for name, feature in features.items():
        assert feature.dtype == (np.float32 if name.endswith("_weights") else np.int32), name
        assert feature.flags.c_contiguous, name
        assert feature.shape == (6, data.lengths[name.split("_")[0]]), name


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_row_depends_on_its_own_tokens_and_key_alone(vocabulary, kind):
    data = settings(kind, 64)
    windows, keys = random_windows(6, data.window), keys_of(6)
    whole, part = (OBJECTIVES[kind](windows[at], keys[at], data, vocabulary) for at in (slice(6), slice(4, 1, -1)))
    for name in whole:
        np.testing.assert_array_equal(whole[name][4:1:-1], part[name])


@pytest.mark.parametrize("kind", ["span_corruption", "masked"])
def test_another_key_is_other_noise(vocabulary, kind):
    data = settings(kind, 64)
    windows = np.repeat(random_windows(1, data.window), 50, axis=0)
    features = OBJECTIVES[kind](windows, keys_of(50), data, vocabulary)
    assert len(np.unique(features["encoder_input_tokens"], axis=0)) == 50
