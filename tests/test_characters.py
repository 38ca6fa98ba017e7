"""Whole characters in token ids, whatever a vocabulary cuts them into; and everything as it was where it cuts none."""

import numpy as np
import pytest

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary, train_pieces
from t5like.infer.characters import characters_of, only_whole, until_whole, whole_cut, whole_masks, whole_spans

TEXT = "床前明月光，a疑是地上霜。举头望明月，低头思故乡。"
BYTES = Vocabulary(Bytes(), [config.MASK], 11)
BPE = Vocabulary(
    train_pieces(config.Vocabulary(kind="byte_bpe", size=290), [TEXT * 20, "明日月光头" * 9]), [config.MASK], 30
)
SPELT = Vocabulary(
    train_pieces(config.Vocabulary(kind="unigram", size=264, coverage=0.98), ["abc " * 900 + TEXT]), [config.MASK], 30
)
VOCABULARIES = pytest.mark.parametrize("vocabulary", [BYTES, BPE, SPELT], ids=["bytes", "byte_bpe", "unigram"])


def corrupted(ids: np.ndarray, hidden: np.ndarray, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of span corruption with these tokens hidden."""
    inputs, targets, mark = [], [], -1
    for n, (number, gone) in enumerate(zip(ids.tolist(), hidden.tolist(), strict=True)):
        if gone and (n == 0 or not hidden[n - 1]):
            mark += 1
            inputs.append(vocabulary.sentinels[mark])
            targets.append(vocabulary.sentinels[mark])
        (targets if gone else inputs).append(number)
    return np.array([*inputs, vocabulary.eos]), np.array([*targets, vocabulary.eos])


def joined(vocabulary: Vocabulary, inputs: np.ndarray, targets: np.ndarray) -> str:
    """The text of an input with each sentinel replaced by what the target has for it."""
    marks = set(vocabulary.sentinels.tolist())
    spans, at = {}, None
    for number in targets[:-1].tolist():
        at = number if number in marks else at
        spans.setdefault(at, []).extend([] if number in marks else [number])
    parts = (spans[number] if number in marks else [number] for number in inputs[:-1].tolist())
    return vocabulary.decode([number for part in parts for number in part])


@VOCABULARIES
def test_spans_of_any_tokens_become_spans_of_whole_characters(vocabulary):
    rng, ids = np.random.default_rng(0), np.array(vocabulary.encode(TEXT))
    changed = 0
    for _ in range(30):
        first, last = sorted(rng.choice(len(ids) + 1, 2, replace=False))
        window = ids[first:last]
        hidden = np.zeros(len(window), bool)
        for start in rng.choice(len(window), 2):
            hidden[start : start + 3] = True
        given = corrupted(window, hidden, vocabulary)
        inputs, targets = whole_spans(vocabulary, *given)
        shown = vocabulary.decode(inputs) + vocabulary.decode(targets)
        assert "\ufffd" not in shown
        assert joined(vocabulary, inputs, targets).strip() in TEXT
        again = whole_spans(vocabulary, inputs, targets)
        assert all((one == other).all() for one, other in zip(again, (inputs, targets), strict=True))
        changed += "\ufffd" in vocabulary.decode(given[0])
    assert changed > 5


@VOCABULARIES
def test_a_cut_is_moved_to_the_nearest_character(vocabulary):
    ids = vocabulary.encode(TEXT)
    for cut in range(1, len(ids)):
        moved = whole_cut(vocabulary, ids, cut)
        assert 0 <= moved <= cut
        assert "\ufffd" not in vocabulary.decode(ids[:moved]) + vocabulary.decode(ids[moved:])
        assert "\ufffd" not in vocabulary.decode(only_whole(vocabulary, ids[cut:]))
        assert "\ufffd" not in vocabulary.decode(until_whole(vocabulary, np.array(ids[:cut])))
    broken = np.array([BYTES.encode("é")[1], *BYTES.encode("a")])  # which no room explains
    assert (until_whole(BYTES, broken) == broken).all()


def test_a_prefix_ends_before_a_character_that_it_cut():
    ids = np.array(BYTES.encode("明月"))
    inputs, targets = whole_spans(BYTES, np.append(ids[:4], 1), np.append(ids[4:], 1))
    assert (BYTES.decode(inputs), BYTES.decode(targets)) == ("明", "月")


@VOCABULARIES
def test_masks_hide_whole_characters(vocabulary):
    rng, text = np.random.default_rng(1), np.array(vocabulary.encode(TEXT))[1:-1]
    mask = vocabulary.require("mask")
    for _ in range(20):
        seen = np.where(rng.random(len(text)) < 0.2, mask, text)
        seen = np.where(rng.random(len(text)) < 0.05, rng.choice(vocabulary.ordinary, len(text)), seen)
        ids, whole = whole_masks(vocabulary, seen, text), only_whole(vocabulary, text)
        assert len(ids) == len(whole)
        assert "\ufffd" not in vocabulary.decode(ids)
        runs = characters_of(vocabulary, whole)
        assert all(len({*(ids[runs == run] == mask).tolist()}) == 1 for run in runs.tolist())


def test_tokens_that_are_whole_characters_stay_as_they_are():
    vocabulary = Vocabulary(train_pieces(config.Vocabulary(kind="wordpiece", size=180), [TEXT, "some words"]), (), 9)
    ids = np.array(vocabulary.encode(TEXT))
    given = corrupted(ids, np.arange(len(ids)) % 5 == 3, vocabulary)
    assert all(one is other for one, other in zip(whole_spans(vocabulary, *given), given, strict=True))
    assert (only_whole(vocabulary, ids) == ids).all()
    assert [whole_cut(vocabulary, ids, cut) for cut in range(len(ids))] == list(range(len(ids)))
    seen = np.where(np.arange(len(ids)) % 7 == 2, vocabulary.require("mask"), ids)
    assert (whole_masks(vocabulary, seen, ids) == seen).all()
