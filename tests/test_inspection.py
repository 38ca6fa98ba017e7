"""Batches as text and JSON: everything is shown once, in the right place, and nothing can harm a terminal."""

import json
import pydoc_data.topics
import re
import unicodedata

import numpy as np
import pytest
from examples import documents, parts_for, rows_of, settings, streams_of, vocabulary

from t5like import config
from t5like.data.inspection import RowOrigin, as_json, as_text
from t5like.data.objectives import OBJECTIVES
from t5like.data.rows.layout import lay_out
from t5like.data.vocabulary import Bytes, Vocabulary, train_pieces

BYTES = Vocabulary(Bytes(), ("[MASK]",), 3)
ORIGIN = RowOrigin("en", 2, 12345, ("a.jsonl#1", "文.txt#3"))
CHINESE = "床前明月光，疑是地上霜。"
ANSI = re.compile(r"\x1b\[[\d;]*m")


def decoder_row(*texts: str, weights: list[float] | None = None, length: int = 80) -> dict[str, np.ndarray]:
    """One row of a decoder: each text, closed by EOS, is a segment."""
    ids = [[*BYTES.pieces.encode(text), BYTES.eos] for text in texts]
    tokens = [token for one in ids for token in one]
    segments = [n + 1 for n, one in enumerate(ids) for _ in one]
    positions = [position for one in ids for position in range(len(one))]

    def padded(values: list[int] | list[float], kind: type = np.int32) -> np.ndarray:
        return np.array([*values, *[0] * (length - len(values))], kind)[None]

    return {
        "decoder_input_tokens": padded([0, *tokens[:-1]]),
        "decoder_target_tokens": padded(tokens),
        "decoder_segment_ids": padded(segments),
        "decoder_positions": padded(positions),
        "decoder_loss_weights": padded([1.0] * len(tokens) if weights is None else weights, np.float32),
    }


def rows_of_tokens(words: Vocabulary, text: str) -> dict[str, np.ndarray]:
    tokens = np.array([words.encode_document(text)], np.int32)
    ones = np.ones_like(tokens)
    return {
        "decoder_target_tokens": tokens,
        "decoder_segment_ids": ones,
        "decoder_loss_weights": ones.astype(np.float32),
    }


def shown(features: dict[str, np.ndarray], vocabulary: Vocabulary = BYTES, color: bool = False, **options: int) -> str:
    count = len(next(iter(features.values())))
    return as_text(features, vocabulary, [ORIGIN] * count, color, **options)


def test_a_row_says_where_it_comes_from_and_how_full_it_is():
    lines = shown(decoder_row("Hello, world", CHINESE), first=7).splitlines()
    assert lines[:5] == [
        "row 7: source en, epoch 2, position 12,345",
        "  documents: a.jsonl#1, 文.txt#3",
        "  decoder: 50 of 80 positions filled (62.5%), 2 segments, 50 targets count",
        "  targets",
        f"    Hello, world</s> | {CHINESE}</s>",
    ]


def test_targets_that_count_are_marked_where_others_do_not():
    features = decoder_row("Q: 1+1? 2", "next", weights=[0] * 8 + [1] * 2 + [1] * 5)
    assert "    Q: 1+1? «2</s>» | «next</s>»" in shown(features).splitlines()
    assert "7 targets count" in shown(features)
    nothing = shown(decoder_row("abc", weights=[0] * 4))
    assert "    abc</s>\n" in nothing and "0 targets count" in nothing


def test_colours_tell_segments_special_pieces_and_weights_apart():
    text = shown(decoder_row("ab", "cd", "ef", weights=[0, 0, 0] + [1] * 6), color=True)
    styles = {word: set(codes.split(";")) for codes, word in re.findall(r"\x1b\[([\d;]*)m(ab|cd|ef)", text)}
    assert styles["ab"] - styles["ef"] == {"2"}  # dim, for it does not count
    assert styles["cd"] != styles["ef"]
    assert re.search(r"\x1b\[1;33m</s>", text)
    assert "«" not in text


def test_without_colours_there_are_no_codes_and_with_them_the_same_words():
    features = decoder_row("Hello, world", CHINESE)
    assert "\x1b" not in shown(features)
    assert [line.rstrip() for line in ANSI.sub("", shown(features, color=True)).split("\n")] == shown(features).split(
        "\n"
    )


def test_control_characters_are_pictures_and_letters_of_all_scripts_stay():
    text = shown(decoder_row("a\nb\t\x1b[31m\x7f\u202e\u2028 \\n é 👩‍🚀"))
    assert "a␊b␉␛[31m␡<U+202E><U+2028> \\n é 👩‍🚀</s>" in text
    with_codes = RowOrigin("x\x1b[2J", 0, 0, ("a\nb",))
    lines = as_text(decoder_row("a"), BYTES, [with_codes], False).splitlines()
    assert lines[:2] == ["row 0: source x␛[2J, epoch 0, position 0", "  documents: a␊b"]


def test_a_character_whose_bytes_are_apart_is_a_replacement_character():
    features = decoder_row("中", weights=[1, 0, 0, 0])
    assert "    «\ufffd»\ufffd\ufffd</s>" in shown(features)
    features["decoder_target_tokens"][0, 1] = 999_999
    assert "<unused>" in shown(features)


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "wordpiece"])
def test_words_and_chinese_read_well_in_pieces_of_every_kind(kind):
    text = f"The class statement is executed. {CHINESE}"
    learnt = config.Vocabulary(kind=kind, size=400, **({} if kind == "byte_bpe" else {"coverage": 1.0}))
    words = Vocabulary(train_pieces(learnt, [pydoc_data.topics.topics["class"], text] * 2))
    features = rows_of_tokens(words, text)
    line = shown(features, words, width=200).splitlines()[4].strip()
    wanted = text.replace(". 床", ".床") if kind == "wordpiece" else text
    assert line == wanted + words.name(words.eos)


def test_lines_are_not_wider_than_asked_for_in_any_script():
    features = decoder_row(CHINESE * 6, "long words and short ones " * 12, length=700)
    for width in (40, 100):
        lines = shown(features, width=width).splitlines()
        wide = [sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) for line in lines]
        assert max(wide) <= width
        text = "".join(line[4:] for line in lines[lines.index("  targets") + 1 :])
        assert CHINESE * 6 + "</s>" in text


def test_sentinels_stand_where_spans_were():
    data = settings("span_corruption", 32)
    features = rows_of(data, *parts_for(data, 2))
    plain = shown(features, vocabulary())
    assert plain.count("  inputs") == plain.count("  targets") == 2
    assert plain.count("<extra_id_0>") == 4
    assert "\x1b[1;35m<extra_id_0>" in shown(features, vocabulary(), color=True)


def test_sentences_of_a_pair_are_divided_and_the_label_is_shown():
    data = settings("next_sentence", 64)
    features = rows_of(data, documents([30]), documents([31], 1), documents([31], 2))
    text = shown(features, vocabulary())
    assert text.startswith(f"row 0: source en, epoch 2, position 12,345, label {features['labels'][0]}\n")
    joined = "".join(line[4:] + " " for line in text.splitlines())
    assert len(re.findall(r"\[SEP\] +\| ", joined)) == 2
    (row,) = as_json(features, vocabulary(), [ORIGIN])
    assert row["features"]["labels"] == features["labels"][0]
    assert row["features"]["encoder_token_types"] == features["encoder_token_types"][0].tolist()


@pytest.mark.parametrize("kind", sorted(OBJECTIVES.keys() - {"multiple_choice"}))  # whose rows are several segments
def test_json_holds_every_feature_and_the_text_of_each_segment(kind):
    data = settings(kind, 256, documents=True)
    parts = parts_for(data, 3)
    features = rows_of(data, *parts)
    origins = [ORIGIN._replace(position=n) for n in range(3)]
    rows = [json.loads(json.dumps(row)) for row in as_json(features, vocabulary(), origins, first=4)]
    assert [row["row"] for row in rows] == [4, 5, 6]
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert rows[0]["documents"] == list(ORIGIN.documents) and rows[0]["source"] == "en" and rows[0]["epoch"] == 2
    for name, values in features.items():
        assert [row["features"][name] for row in rows] == values.tolist()
    for stack in data.lengths:
        shares = (features[f"{stack}_segment_ids"] > 0).mean(1)
        assert [row["fill"][stack] for row in rows] == pytest.approx(shares.tolist())
        for number, row in enumerate(rows):
            tokens = features[f"{stack}_input_tokens"][number]
            assert row["text"][f"{stack}_input_tokens"] == [vocabulary().decode(tokens)]
    assert shown(features, vocabulary()).count("\nrow ") == 2


def test_packed_examples_have_a_text_each():
    data = settings("sequence_to_sequence", 64)
    streams = streams_of(data, (documents([10, 20, 5]), documents([4, 6, 9], 1)))
    features = lay_out(streams, np.array([0, 0, 1]), 2, data, vocabulary())
    rows = list(as_json(features, vocabulary(), [ORIGIN] * 2))
    assert [len(row["text"]["decoder_target_tokens"]) for row in rows] == [2, 1]
    assert shown(features, vocabulary()).count("2 segments") == 2


def test_rows_without_documents_and_batches_without_tokens_are_shown():
    empty = decoder_row()
    text = as_text(empty, BYTES, [ORIGIN._replace(documents=())], False)
    assert "documents" not in text and "0 of 80 positions filled (0.0%), 0 segments, 0 targets count" in text
    (row,) = as_json(empty, BYTES, [ORIGIN])
    assert row["fill"] == {"decoder": 0} and row["text"]["decoder_target_tokens"] == []


def test_descriptions_of_another_number_of_rows_are_refused():
    with pytest.raises(ValueError, match="zip"):
        list(as_json(decoder_row("a"), BYTES, [ORIGIN] * 2))
