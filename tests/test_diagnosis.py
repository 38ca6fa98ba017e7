"""The reasons of a score: tables that stay aligned, counts by hand, and the worst examples."""

import json
import xml.etree.ElementTree

import pytest

from t5like.data.aligned import columns
from t5like.tasks.diagnosis import diagnose, svg
from t5like.tasks.diagnosis.confusion import NO_LABEL, confusion
from t5like.tasks.diagnosis.outputs import outputs, repeats
from t5like.tasks.diagnosis.report import Band, Baseline

TARGETS = ["正面", "正面", "负面", "neutral", "正面"]
PREDICTIONS = ["正面", "负面", "负面", None, "正面"]


@pytest.fixture(scope="module")
def labels():
    inputs = ["a", "a b", "a b c", "a b c d", "a b c d e"]
    return diagnose("accuracy", PREDICTIONS, TARGETS, inputs=inputs, certainty=[0.6, 0.7, 0.9, 0.8, 0.5])


def test_labels_have_class_scores_confusion_and_the_majority_beside(labels):
    assert (labels.main, labels.score, labels.no_label) == ("accuracy", 60, 1)
    assert labels.baseline == Baseline("正面", 60.0)
    scores = {c.name: (c.precision, c.recall, c.f1, c.targets, c.predicted) for c in labels.classes}
    assert scores["正面"] == pytest.approx((100, 200 / 3, 80, 3, 2))
    assert scores["负面"] == pytest.approx((50, 100, 200 / 3, 1, 2))
    assert scores["neutral"] == (0, 0, 0, 1, 0)
    assert labels.confusion.names == ("neutral", "正面", "负面")
    assert labels.confusion.counts == ((0, 0, 0, 1), (0, 2, 1, 0), (0, 0, 1, 0))


def test_the_surest_mistakes_come_first_and_right_answers_apart(labels):
    assert [example.number for example in labels.worst] == [3, 1]
    assert [example.number for example in labels.best] == [2, 0, 4]
    assert (labels.worst[0].target, labels.worst[0].prediction, labels.worst[0].certainty) == ("neutral", None, 0.8)


def test_lengths_are_of_the_input_where_the_target_is_no_text(labels):
    assert labels.length_of == "input"
    assert labels.by_length[0] == Band(1, 2, 2, 50.0)
    assert sum(band.examples for band in labels.by_length) == 5


def test_the_text_is_aligned_beside_chinese(labels):
    lines = labels.as_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("target \\ predicted"))
    assert lines[start + 3].split() == ["正面", ".", "2", "1", "."]
    assert len({columns(line) for line in lines[start : start + 5]}) == 1
    assert "outputs that are no label: 1 (20.0%)" in lines
    assert "accuracy 60.00 if the answer were always '正面'" in lines


def test_a_diagnosis_is_json(labels):
    read = json.loads(json.dumps(labels.as_json()))
    assert read["confusion"]["counts"][1] == [0, 2, 1, 0]
    assert read["worst"][0]["prediction"] is None


def test_the_picture_is_svg_with_a_cell_for_each_pair(labels):
    root = xml.etree.ElementTree.fromstring(svg(labels.confusion))
    cells = [element for element in root if element.get("fill-opacity")]
    assert len(cells) == 3 * 4
    assert [cell.get("fill-opacity") for cell in cells[:4]] == ["0.000", "0.000", "0.000", "1.000"]
    assert {"正面", NO_LABEL} <= {element.text for element in root}
    assert "&lt;b&gt;" in svg(confusion(["<b>"], ["<b>"]))


def test_many_classes_are_those_with_most_mistakes_and_others():
    names = [f"c{n}" for n in range(20)]
    table = confusion(["c1", "c1", None, *names], ["c2", "c2", "c3", *names])
    small = table.reduced(4)
    assert small.names == ("c1", "c2", "c3", "(17 others)")
    assert small.counts == ((1, 0, 0, 0, 0), (2, 1, 0, 0, 0), (0, 0, 1, 0, 1), (0, 0, 0, 17, 0))
    assert small.columns[-1] == NO_LABEL
    assert table.mistakes()[0] == (2, "c2", "c1")


def test_texts_have_the_shape_of_their_outputs_and_the_score_by_length():
    targets = ["a", "a b", "a b c", ("a b c d", "x"), "e", "e f"]
    predictions = ["a", "a b", "a b c", "a b c d", "", "no no no no"]
    found = diagnose("exact_match", predictions, targets, inputs=["a", "x a b y", "z", "z", "z", "no"])
    shape = found.outputs
    assert (shape.distinct, shape.distinct_targets, shape.empty, shape.repeated) == (6, 6, 1, 1)
    assert (shape.equal_to_input, shape.found_in_input) == (1, 2)
    assert shape.length_ratio == pytest.approx(14 / 13)
    assert found.by_length[0] == Band(1, 1, 2, 50.0)
    assert [example.number for example in found.worst] == [4, 5]
    assert found.baseline.score == pytest.approx(100 / 6)
    assert json.loads(json.dumps(found.as_json()))["worst"][0]["target"] == "e"
    assert "found in the input     2 (33.3%)" in found.as_text()


def test_chinese_lengths_are_in_characters():
    assert outputs(["今天 好"], [("今天很好",)], (), True).length_ratio == pytest.approx(3 / 4)
    assert outputs(["a"], [("",)], (), False).length_ratio is None


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("a b a b a b a b", True),
        ("x a a a a y", True),
        ("a a a b a", False),
        ("a b c a b c a b c a b", False),
        ("", False),
    ],
)
def test_loops_are_four_times_in_a_row(text, loops):
    assert repeats(text.split()) == loops
    assert outputs([text], [("a a a a",)], (), False).repeated == 0  # where a reference does so too


def test_numbers_have_distances_and_what_is_none():
    found = diagnose("pearson", [1.0, None, 3.0], [1.0, 2.5, 6.0])
    assert (found.no_label, found.baseline, found.confusion, found.outputs) == (1, None, None, None)
    assert [(example.number, example.value) for example in found.worst] == [(2, -3.0), (1, -0.5)]
    assert "outputs that are no number: 1 (33.3%)" in found.as_text()


def test_sets_entities_tags_and_answers_have_their_parts():
    sets = diagnose("multi_label_f1", [{"b", "a"}, set()], [{"a"}, set()])
    assert [(c.name, c.f1) for c in sets.classes] == [("a", 100), ("b", 0)]
    assert sets.worst[0].prediction == ["a", "b"]
    found = diagnose("entities", [["B-A", "O"], ["B-B", "B-B"]], [["B-A", "I-A"], ["B-B", "B-B"]])
    assert [(c.name, c.f1, c.targets) for c in found.classes] == [("A", 0, 1), ("B", 100, 2)]
    assert found.confusion.mistakes() == [(1, "I-A", "O")]
    assert found.baseline is None
    tags = diagnose("tag_accuracy", [["N"], []], [["N", "V"], ["N"]])
    assert tags.confusion.counts == ((1, 0, 1), (0, 0, 1))
    assert (tags.baseline.answer, tags.baseline.score) == ("N", pytest.approx(200 / 3))
    answers = diagnose("squad", ["", "x"], [(), ("x y",)])
    assert answers.outputs.empty == 1
    assert answers.worst[0].target == ["x y"]
    for diagnosis in (sets, found, tags, answers):
        assert json.dumps(diagnosis.as_json())
        assert diagnosis.as_text()


def test_the_majority_of_training_can_be_given():
    assert diagnose("accuracy", PREDICTIONS, TARGETS, majority="负面").baseline == Baseline("负面", 20.0)
