"""Objectives of heads: their worked examples, their rows from a store, and mistakes as sentences."""

import dataclasses
import pathlib

import numpy as np
import pytest
from examples import EOS, as_sequences, ragged, settings, streams_of, vocabulary
from labelled import made_examples, rows_of, write_store
from settings import sentence
from small import labelled_config, replace

from t5like import config
from t5like.config.objective import LABELLED
from t5like.data.inspection import RowOrigin, as_text
from t5like.data.objectives import trained_frame
from t5like.data.rows.stream import Rows, evaluation_stream, training_stream
from t5like.data.vocabulary import Frame, Vocabulary

EXAMPLES = {
    "classification": (
        ([40, 5, 9, 41, 6, 7, 41], [4, 3], [2]),
        {"token_types": [0, 0, 0, 0, 1, 1, 1], "labels": [2]},
    ),
    "multi_label_classification": (([5, 9, EOS], [3, 0], [0, 1, 1]), {"token_types": [0] * 3, "labels": [0, 1, 1]}),
    "regression": (([5, 9, EOS], [3, 0], [16416, 0]), {"token_types": [0] * 3, "labels": [2.5]}),
    "token_classification": (
        ([40, 5, 9, 6, 41], [5, 0], [0, 3, 0, 1, 0]),
        {"token_types": [0] * 5, "target_tokens": [0, 2, 0, 0, 0], "loss_weights": [0, 1, 0, 1, 0]},
    ),
    "span": (
        ([40, 5, 41, 6, 7, 9, 41], [3, 4], [4, 5]),
        {"token_types": [0, 0, 0, 1, 1, 1, 1], "labels": [4, 5]},
    ),
    "multiple_choice": (
        ([40, 5, 41, 6, 41, 40, 5, 41, 7, 9, 41], [3, 2, 3, 3], [1]),
        {
            "token_types": [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1],
            "segments": [5, 6],
            "candidates": [1, 1, 0, 0],
            "labels": [1],
        },
    ),
}
"""The examples of the docstrings in data/objectives/labelled.py."""
WHOLE = ("labels", "segments", "candidates")


@pytest.mark.parametrize("kind", LABELLED)
def test_the_worked_example_holds_for_an_encoder_and_for_a_decoder_that_reads_the_text_itself(kind):
    (tokens, widths, labels), expected = EXAMPLES[kind]
    for stack in ("encoder", "decoder"):
        data = settings(kind, stack=stack, **{"labels": 1} if kind == "regression" else {})
        found = as_sequences(streams_of(data, tuple(ragged(part) for part in (tokens, widths, labels))))
        wanted = {name if name in WHOLE else f"{stack}_{name}": [value] for name, value in expected.items()}
        if stack == "decoder":
            del wanted["decoder_token_types"]
        assert found == {f"{stack}_input_tokens": [tokens], **wanted}


def test_a_labelled_text_has_the_frame_of_berts_where_the_vocabulary_has_it():
    data, full = settings("classification"), vocabulary()
    bare = Vocabulary(full.pieces, ("[MASK]",), 200)
    assert trained_frame(data, full) == Frame((full.require("cls"),), (full.require("sep"),))
    assert trained_frame(data, bare) == Frame(behind=(EOS,))


def test_a_decoder_s_rows_are_not_shifted():
    data = settings("classification", 8, stack="decoder")
    rows = rows_of(data, [([5, 9, EOS], [3, 0], [2])])
    assert rows["decoder_input_tokens"].tolist() == [[5, 9, EOS, 0, 0, 0, 0, 0]]
    assert rows["decoder_positions"].tolist() == [[0, 1, 2, 0, 0, 0, 0, 0]]
    assert rows["labels"].tolist() == [2] and "decoder_target_tokens" not in rows


def test_each_candidate_is_a_segment_with_positions_of_its_own_whatever_the_order_of_rows():
    data = settings("multiple_choice", 12)
    examples = [EXAMPLES["multiple_choice"][0], ([40, 6, 41], [3, 0], [0])]
    rows = rows_of(data, examples)
    assert rows["encoder_segment_ids"].tolist() == [[1] * 5 + [2] * 6 + [0], [1] * 3 + [0] * 9]
    assert rows["encoder_positions"].tolist() == [[*range(5), *range(6), 0], [0, 1, 2, *[0] * 9]]
    assert rows["candidates"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]] and rows["labels"].tolist() == [1, 0]


def stored(kind: str, folder: pathlib.Path) -> config.Data:
    own = labelled_config(kind).data
    return dataclasses.replace(own, store=str(folder), vocabulary=settings("masked").vocabulary)


@pytest.mark.parametrize("kind", ["multiple_choice", "token_classification"])
def test_rows_of_a_store_have_their_labels_and_go_on_from_any_step(kind, tmp_path):
    """What a resumed run reads is what it would have read; tokens alone are packed."""
    data = dataclasses.replace(
        labelled_config(kind).data, store=str(tmp_path), vocabulary=settings("masked").vocabulary
    )
    examples = made_examples(kind, 20)
    write_store(tmp_path, data, {"train": examples[:15], "validation": examples[15:]})
    rows = Rows(data, vocabulary(), "train")
    assert rows.count < 15 if kind == "token_classification" else rows.count == 15
    whole = list(training_stream(rows, 0, 6, 4))
    for batch, resumed in zip(whole[3:], training_stream(Rows(data, vocabulary(), "train"), 3, 6, 4), strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], resumed[name], err_msg=name)
    alone = rows_of(data, examples[:15])
    if kind == "multiple_choice":
        shown = rows(np.arange(15))
        order = [
            int(np.flatnonzero((alone["encoder_input_tokens"] == row).all(1))[0])
            for row in shown["encoder_input_tokens"]
        ]
        assert sorted(order) == [*range(15)]
        for name in alone:
            np.testing.assert_array_equal(shown[name], alone[name][order], err_msg=name)


def test_an_evaluation_has_each_example_once_and_fills_its_last_batch_with_rows_without_segments(tmp_path):
    data = stored("classification", tmp_path)
    examples = made_examples("classification", 14)
    write_store(tmp_path, data, {"train": examples[:1], "validation": examples[1:]})
    batches = list(evaluation_stream(Rows(data, vocabulary(), "validation"), 1000, 8))
    there = np.concatenate([batch["encoder_segment_ids"].any(axis=1) for batch in batches])
    tokens = np.concatenate([batch["encoder_input_tokens"] for batch in batches])
    assert there.tolist() == [True] * 13 + [False] * 3
    assert len(np.unique(tokens[there], axis=0)) == 13


def test_labels_of_tokens_are_shown_as_numbers():
    data = labelled_config("token_classification").data
    rows = rows_of(data, [([4, 60, 61, 62, 5], [5, 0], [0, 3, 0, 1, 0])])
    shown = as_text(rows, vocabulary(), [RowOrigin("made", 0, 0, ())], color=False, labels=True)
    assert "labels\n    2 0" in shown


@pytest.mark.parametrize(
    ("kind", "example", "expected"),
    [
        (
            "multiple_choice",
            ([7] * 10, [1, 1] * 5, [0]),
            "An example has 5 candidates, but data.objective.candi",
        ),
        (
            "classification",
            ([7], [1, 0], [3]),
            "An example has the label 3, counted from 0, but data.",
        ),
        ("span", ([7], [1, 0], [0]), "An example has 1 labels, but data.objective has 2"),
    ],
)
def test_an_example_that_does_not_fit_the_objective_is_a_sentence(kind, example, expected):
    assert sentence(rows_of, settings(kind), [example]).startswith(expected)


def changed(kind: str, part: str, **fields):
    settings = labelled_config(kind)
    return dataclasses.replace(settings, **{part: replace(getattr(settings, part), **fields)})


@pytest.mark.parametrize(
    ("kind", "part", "fields", "expected"),
    [
        (
            "regression",
            "model",
            dict(problem_type=None),
            "data.objective.kind='regression' needs model.problem_type='regression', but with model.labels=3 and "
            "model.problem_type=None it is 'single_label_classification'.",
        ),
        (
            "classification",
            "model",
            dict(labels=4),
            "data.objective.labels=3 and model.labels=4 must be the same.",
        ),
        (
            "span",
            "model",
            dict(head="token", labels=2),
            "data.objective.kind='span' needs model.head='span', not 'token'.",
        ),
        (
            "classification",
            "train",
            dict(class_weights=(1.0, 2.0)),
            "train.class_weights has 2 weights, but data.objective.labels=3: give one for each label.",
        ),
        (
            "span",
            "train",
            dict(class_weights=(1.0, 2.0)),
            "train.class_weights are for data.objective.kind='classification' or 'token_classification', not 'span': "
            "leave them out.",
        ),
        (
            "classification",
            "train",
            dict(class_weights=(1.0, 0.0, 1.0)),
            "train.class_weights=(1.0, 0.0, 1.0) must be above 0 each.",
        ),
        (
            "regression",
            "train",
            dict(label_smoothing=0.1),
            "train.label_smoothing=0.1 is not for data.objective.kind='regression': set it to 0.",
        ),
        (
            "classification",
            "train",
            dict(label_smoothing=1.0),
            "train.label_smoothing=1.0 must lie in [0, 1).",
        ),
        (
            "classification",
            "data",
            dict(objective=config.Objective(kind="classification", labels=1)),
            "data.objective.kind='classification' needs data.objective.labels of at least 2, the labels or the numbers "
            "of an example, not 1.",
        ),
        (
            "multiple_choice",
            "data",
            dict(objective=config.Objective(kind="multiple_choice")),
            "data.objective.kind='multiple_choice' needs data.objective.candidates of at least 2, the most of an "
            "example, not 0.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(kind, part, fields, expected):
    assert sentence(changed, kind, part, **fields) == expected
