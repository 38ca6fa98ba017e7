"""Special tokens are found by their roles, whatever a tokenizer calls them."""

import json
import re

import numpy as np
import pytest
from examples import keys_of, ragged
from small import random_batch, random_params, small_config

from t5like import config
from t5like.convert.tokenizer import read_tokenizer
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data import objectives
from t5like.data.draws import Draws
from t5like.data.prepare import prepare
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import Bytes, Frame, Vocabulary, load_pieces, open_vocabulary, train_pieces
from t5like.errors import UserError
from t5like.infer.fill import fill
from t5like.model.network import make_network
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored

TEXT = "The cat sat on the mat, and a dog ran to the door. "
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
DECLARED = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": {"content": "<mask>"}, "eos_token": "</s>"}
PIECES = 270


@pytest.fixture
def roberta(tmp_path):
    """vocab.json, merges.txt and a config as RoBERTa is published, with masks and frames in other words than BERT's."""
    model = json.loads(train_pieces(config.Vocabulary(kind="byte_bpe", size=PIECES), [20 * TEXT]).serialized)["model"]
    vocab = dict.fromkeys(SPECIAL) | dict.fromkeys(sorted(model["vocab"], key=model["vocab"].get))
    folder = tmp_path / "roberta"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(vocab)}))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(DECLARED))
    return folder


def roles_of(vocabulary):
    return {role: vocabulary.role(role) for role in config.ROLES}


def test_roles_are_what_the_folder_of_a_tokenizer_says_and_are_saved_with_it(roberta, tmp_path):
    vocabulary = Vocabulary(load_pieces(roberta))
    expected = {"mask": SPECIAL.index("<mask>"), "cls": 0, "sep": 2}
    assert roles_of(vocabulary) == expected
    assert [vocabulary.written(role) for role in config.ROLES] == ["<mask>", "<s>", "</s>"]
    vocabulary.save(tmp_path / "saved")
    assert roles_of(open_vocabulary(tmp_path / "saved")) == expected
    description = json.loads((tmp_path / "saved" / "vocabulary.json").read_text())
    assert description.pop("roles") == {"mask": "<mask>", "cls": "<s>", "sep": "</s>"}
    del description["checksum"]
    # As earlier versions saved it: <mask> is known by its usual name, the others were not.
    (tmp_path / "saved" / "vocabulary.json").write_text(json.dumps(description))
    before = open_vocabulary(tmp_path / "saved")
    assert roles_of(before) == {"mask": expected["mask"], "cls": None, "sep": None}
    assert before.hash == vocabulary.hash and before.special == vocabulary.special


def test_a_post_processor_says_what_frames_a_text(roberta, tmp_path):
    described = json.loads(load_pieces(roberta).serialized)
    described["post_processor"] = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    described["post_processor"] |= {"trim_offsets": True, "add_prefix_space": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    assert roles_of(Vocabulary(load_pieces(tmp_path / "tokenizer.json"))) == {"mask": 4, "cls": 0, "sep": 2}


def test_a_name_that_the_config_adds_comes_before_the_tokenizers(roberta):
    vocabulary = Vocabulary(load_pieces(roberta), (config.MASK, "[R]"))
    assert vocabulary.role("mask") == vocabulary.special[config.MASK] and vocabulary.role("cls") == 0


def test_a_role_without_a_token_is_a_sentence():
    vocabulary = Vocabulary(Bytes(), ("<mask>",))
    assert vocabulary.require("mask") == 259
    assert (vocabulary.role("sep"), vocabulary.written("sep")) == (None, "[SEP]")
    with pytest.raises(UserError, match=r"^The vocabulary has no \[SEP\], nor another token with its role\.$"):
        vocabulary.require("sep")


def test_a_config_that_adds_a_mask_by_another_name_is_accepted():
    masked, pieces = config.Objective(kind="masked"), config.Vocabulary(extra=("<mask>",))
    assert config.Data(store="unused", objective=masked, vocabulary=pieces).objective.spec.roles == ("mask",)
    with pytest.raises(UserError, match=r"needs special tokens: add \[MASK\] to data\.vocabulary\.extra"):
        config.Data(store="unused", objective=masked)


def test_roles_go_out_to_transformers_and_come_back(roberta, tmp_path):
    vocabulary = Vocabulary(load_pieces(roberta))
    (out := tmp_path / "out").mkdir()
    write_tokenizer(vocabulary, small_config("bert", model__vocab=384).model, Frame((0,), (2,)), out)
    named = json.loads((out / "tokenizer_config.json").read_text())
    assert [named[f"{role}_token"] for role in config.ROLES] == ["<mask>", "<s>", "</s>"]
    assert roles_of(read_tokenizer(out, {"model_type": "bert"})) == roles_of(vocabulary)


def test_rows_are_masked_with_the_vocabularys_own_mask(roberta, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(f"{n} {TEXT}" for n in range(30)))
    data = config.Data(
        store=str(tmp_path / "store"),
        sources=(config.Source(kind="text", path=str(tmp_path / "text.txt"), document="line"),),
        vocabulary=config.Vocabulary(kind="file", path=str(roberta), size=PIECES - 1 + len(SPECIAL), sentinels=0),
        objective=config.Objective(kind="masked", density=0.3),
        length=16,
        held_out=0.2,
    )
    vocabulary = prepare(data, lambda line: None)
    features = Rows(data, vocabulary, "train")(np.arange(8))
    changed = features["encoder_input_tokens"] != features["encoder_target_tokens"]
    masks = features["encoder_input_tokens"] == SPECIAL.index("<mask>")
    assert masks.sum() > 0.6 * changed.sum() > 0
    assert not (masks & ~changed).any()


def test_pairs_of_sentences_stand_between_the_vocabularys_own_cls_and_sep(roberta):
    vocabulary = Vocabulary(load_pieces(roberta))
    special = config.Vocabulary(kind="file", path="unused", size=vocabulary.size, sentinels=0)
    pairs = config.Objective(kind="next_sentence")
    data = config.Data(store="unused", length=32, objective=pairs, vocabulary=special)
    assert objectives.trained_frame(data, vocabulary) == Frame((0,), (2,))
    parts = ragged([50, 51], [52]), ragged([60], [61, 62]), ragged([60], [61, 62])
    streams = objectives.make_features(parts, Draws(keys_of(2), keys_of(2)), data, vocabulary)
    rows = [row.tolist() for row in streams["encoder_target_tokens"].sequences()]
    assert rows == [[0, 50, 51, 2, 60, 2], [0, 52, 2, 61, 62, 2]]


def test_fill_takes_the_mask_of_the_vocabulary(roberta, mesh):
    network = make_network(small_config("bert", model__vocab=384), mesh)
    vocabulary = Vocabulary(load_pieces(roberta), frame=Frame((0,), (2,)))
    params = random_params(network.net, random_batch(network.config))
    run = Restored(RunDirectory(roberta), network, vocabulary, 0, params)
    assert [len(candidates) for candidates in fill(run, "The <mask> sat on<mask>.", top=2)] == [2, 2]
    sentence = re.escape('The text has no <mask>: write one where a piece is wanted, as in "The <mask> sat".')
    with pytest.raises(UserError, match=f"^{sentence}$"):
        fill(run, "The [MASK] sat.", top=2)
