"""Entities of tags, as seqeval's strict mode finds them."""

import random

import pytest

from t5like.errors import UserError
from t5like.tasks.metrics import figures, prepare, score
from t5like.tasks.metrics.tags import entities_of, scheme_of

IOB2 = ("O", "B-A", "I-A", "B-B", "I-B")
IOBES = (*IOB2, "E-A", "E-B", "S-A", "S-B")


@pytest.mark.parametrize(
    ("scheme", "tags", "found"),
    [
        ("IOB2", "B-A I-A O B-B", {("A", 0, 2), ("B", 3, 4)}),
        ("IOB2", "B-A B-A I-A", {("A", 0, 1), ("A", 1, 3)}),
        ("IOB2", "I-A B-A I-B I-A", {("A", 1, 2)}),
        ("IOB2", "B I O B-X-Y", {("", 0, 2), ("X-Y", 3, 4)}),
        ("IOB2", "B-A E-A foo B-A", {("A", 0, 1), ("A", 3, 4)}),
        ("IOB1", "I-A I-A B-A I-B O I-B", {("A", 0, 2), ("A", 2, 3), ("B", 3, 4), ("B", 5, 6)}),
        ("IOBES", "B-A I-A E-A S-B", {("A", 0, 3), ("B", 3, 4)}),
        ("IOBES", "B-A I-A O B-A E-B I-A E-A B-B", set()),
        ("IOBES", "B-A B-A L-A U-B M-A", {("A", 1, 3), ("B", 3, 4)}),
        ("IOB2", "", set()),
    ],
)
def test_entities_of_a_sentence(scheme, tags, found):
    assert entities_of(tags.split(), scheme) == found


def test_schemes_are_told_by_the_targets():
    assert scheme_of([["B-A", "I-A", "O"], ["I-B", "B-A", "B-B"]]) == "IOB2"  # one mistake is not another scheme
    assert scheme_of([["I-A", "I-A", "O"], ["I-B", "B-B"]]) == "IOB1"
    assert scheme_of([["O", "I", "I"]]) == "IOB1"
    assert scheme_of([["O", "S-A"]]) == scheme_of([["B-A", "L-A"]]) == "IOBES"
    assert scheme_of([[], ["O"]]) == "IOB2"


def test_entities_count_over_the_whole_list():
    predictions = [["B-A", "I-A", "O"], ["B-B", "O"], ["O"]]
    targets = [["B-A", "I-A", "O"], ["B-A", "B-B"], ["O"]]
    found = figures("entities", predictions, targets)
    assert found == pytest.approx({"precision": 50, "recall": 100 / 3, "f1": 40})
    assert prepare("entities", predictions, targets).values.tolist() == [100, 0, 100]
    assert score("entities", predictions, targets, resamples=2).signature == "entities|scheme:IOB2|mode:strict"
    assert set(figures("entities", [["O"]], [["O"]]).values()) == {0}


def test_a_word_without_a_tag_is_wrong():
    assert figures("tag_accuracy", [["N", "V"], [], ["N", "N", "N"]], [["N", "N"], ["V"], ["N"]]) == {
        "tag_accuracy": 50
    }


def test_tags_of_no_entities_are_refused():
    with pytest.raises(UserError) as error:
        figures("entities", [["NOUN"]], [["NOUN"]])
    assert str(error.value) == (
        "The tag 'NOUN' is not one of entities, such as B-PER, I-PER and O: the metric 'tag_accuracy' takes tags of "
        "any kind."
    )


@pytest.mark.originals
@pytest.mark.parametrize("scheme", ["IOB2", "IOBES"])
def test_entities_are_seqevals_in_strict_mode(scheme):
    metrics, schemes = pytest.importorskip("seqeval.metrics.v1"), pytest.importorskip("seqeval.scheme")
    tags, rng = {"IOB2": IOB2, "IOBES": IOBES}[scheme], random.Random(0)
    for _ in range(100):
        lengths = [rng.randint(1, 12) for _ in range(5)]
        said, right = ([rng.choices(tags, k=length) for length in lengths] for _ in range(2))
        said = [
            [r if rng.random() < 0.6 else s for s, r in zip(*pair, strict=True)]
            for pair in zip(said, right, strict=True)
        ]
        if scheme_of(right) != scheme:
            continue
        expected = metrics.precision_recall_fscore_support(
            right, said, average="micro", mode="strict", scheme=getattr(schemes, scheme), zero_division=0
        )
        found = figures("entities", said, right)
        assert list(found.values()) == pytest.approx([100 * figure for figure in expected[:3]])
