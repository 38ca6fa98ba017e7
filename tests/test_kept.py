"""Files of a Hugging Face folder beyond its model: kept in the run, followed where we can, and exported again."""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import GOLDEN, float32, on_one_device

from t5like.config.decoding import Decoding
from t5like.convert.importing import import_run
from t5like.convert.kept import tokenizer_config
from t5like.convert.options import ImportOptions
from t5like.data.vocabulary import Frame, open_vocabulary
from t5like.infer.constraints import (
    TokenConstraints,
    completed,
    constraints_of,
    read_constraints,
    read_defaults,
    sequences_of,
)
from t5like.infer.generate import generator_of
from t5like.runs.directory import RunDirectory, relocated
from t5like.runs.opened import open_run

ENDS = [319, 22, 35]
GENERATION = {
    "bos_token_id": 319,
    "eos_token_id": ENDS,
    "pad_token_id": 319,
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "num_beams": 4,
    "suppress_tokens": [40],
    "begin_suppress_tokens": [41],
    "penalty_alpha": 0.6,
    "transformers_version": "5.24.0",
}
TOKENIZER = {
    "tokenizer_class": "GPT2Tokenizer",
    "model_max_length": 77,
    "padding_side": "left",
    "chat_template": "{{ messages }}",
    "add_prefix_space": False,
    "bos_token": {"content": "<|endoftext|>", "lstrip": False},
    "pad_token": None,
    "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]},
    "some_later_field": [1, {"a": 2}],
}
TEMPLATE = "{{ messages }} in a file"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The golden GPT-2 with all that a chat model's folder has."""
    folder = tmp_path_factory.mktemp("given") / "folder"
    shutil.copytree(GOLDEN / "gpt2", folder)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {"eos_token_id": [319, 22]}))
    return folder


@pytest.fixture(scope="module")
def run(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    with on_one_device():
        import_run(folder, folder.parent / "run", ImportOptions())
        yield folder.parent / "run"


def json_of(folder: pathlib.Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text("utf-8"))


def test_an_export_says_what_the_imported_folder_said(run, folder, tmp_path, say):
    say("export", run, tmp_path / "out")
    assert json_of(tmp_path / "out", "generation_config.json") == GENERATION
    assert json_of(tmp_path / "out", "config.json")["eos_token_id"] == [319, 22]
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TEMPLATE
    written = json_of(tmp_path / "out", "tokenizer_config.json")
    for name in ("model_max_length", "padding_side", "chat_template", "add_prefix_space", "some_later_field"):
        assert written[name] == TOKENIZER[name]
    assert written["bos_token"] == "<|endoftext|>" and not {"pad_token", "auto_map"} & written.keys()
    assert say("import", tmp_path / "out", tmp_path / "again")
    assert json_of(tmp_path / "again/hugging_face", "generation_config.json") == GENERATION


def test_an_import_names_what_is_lost_and_what_generate_does_not_follow(folder, tmp_path, say, run):
    said = say("import", folder, tmp_path / "run").splitlines()
    assert "Lost: tokenizer_config.json has auto_map, which names code of its own." in said
    assert (
        "Kept for the export, but not followed by `t5like generate`: begin_suppress_tokens=[41], penalty_alpha=0.6 of "
        "generation_config.json."
    ) in said


def test_an_answer_ends_with_any_of_several_ends(run):
    """Two of the ends are what the golden model says anyway, so that answers stop early."""
    with open_run(float32(RunDirectory(run).config())) as restored:
        assert constraints_of(restored) == TokenConstraints(tuple(ENDS), (40,))
        several = generator_of(restored, Decoding(tokens=12))
        prompts = [[7, 30, 31], [50, 60], [90] * 5]
        free = several.tokens(restored.params, prompts)
        end = int(free[0][3])
        (run / "hugging_face" / "generation_config.json").write_text(
            json.dumps(GENERATION | {"eos_token_id": [319, end]})
        )
        try:
            answers = generator_of(restored, Decoding(tokens=12)).tokens(restored.params, prompts)
        finally:
            (run / "hugging_face" / "generation_config.json").write_text(json.dumps(GENERATION))
    for whole, cut in zip(free.tolist(), answers.tolist(), strict=True):
        at = whole.index(end) + 1 if end in whole else len(whole)
        assert cut == [*whole[:at], *[0] * (len(whole) - at)]


def test_a_run_that_was_trained_further_frames_texts_as_its_rows_had_them(run, tmp_path, say):
    """Its directory has no record of an import, and its vocabulary no frame; what was kept came with its start."""
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/import.json").unlink()
    forget_frame(tmp_path / "run")
    with open_run(relocated(float32(RunDirectory(run).config()), str(tmp_path / "run"))) as restored:
        assert restored.frame == Frame((319,))  # a decoder's rows begin with the start
        assert constraints_of(restored).ends == tuple(ENDS)
    say("export", tmp_path / "run", tmp_path / "out")
    assert json_of(tmp_path / "out", "generation_config.json") == GENERATION
    post = json_of(tmp_path / "out", "tokenizer.json")["post_processor"]
    assert post["single"][0] == {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}


def test_runs_imported_before_frames_were_kept_have_that_of_their_tokenizer(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    forget_frame(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "hugging_face")
    with open_run(relocated(float32(RunDirectory(run).config()), str(tmp_path / "run"))) as restored:
        assert restored.vocabulary.frame is None
        assert restored.frame == Frame()
        assert constraints_of(restored) == TokenConstraints((319,))


def forget_frame(run: pathlib.Path) -> None:
    file = run / "vocabulary" / "vocabulary.json"
    file.write_text(
        json.dumps(
            {name: value for name, value in json.loads(file.read_text()).items() if name not in ("frame", "checksum")}
        )
    )


@pytest.mark.parametrize(
    ("fields", "trained", "constraints"),
    [
        ({}, False, TokenConstraints((1,))),
        ({"eos_token_id": 5}, False, TokenConstraints((5,))),
        ({"eos_token_id": 5}, True, TokenConstraints((1, 5))),
        ({"eos_token_id": None, "forced_eos_token_id": [9, 4]}, True, TokenConstraints((1,), last=4)),
        (
            {"forced_bos_token_id": 3, "bad_words_ids": [[8], [6, 7], [1]], "min_length": 4},
            False,
            TokenConstraints((1,), (8,), first=3, sequences=((6, 7),), min_length=4),
        ),
        ({"suppress_tokens": [2, 3]}, True, TokenConstraints((1,), (2, 3))),
    ],
)
def test_constraints_are_those_of_the_kept_file(tmp_path, fields, trained, constraints):
    run = RunDirectory(tmp_path)
    run.hugging_face.mkdir()
    (run.hugging_face / "generation_config.json").write_text(json.dumps(fields))
    assert read_constraints(run, 1, trained) == constraints


@pytest.mark.parametrize(
    ("fields", "defaults"),
    [
        (GENERATION, dict(temperature=0.6, top_p=0.9, top_k=50, num_beams=4)),
        ({"temperature": 0.6, "top_k": 50, "early_stopping": True, "num_beams": 1, "length_penalty": 2.0}, {}),
        ({"do_sample": True, "top_k": 0, "typical_p": 1.0}, dict(temperature=1.0)),
        (
            {"num_beams": 2, "early_stopping": "never", "length_penalty": 0.5, "num_return_sequences": 1},
            dict(num_beams=2, early_stopping="never", length_penalty=0.5),
        ),
        (
            {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "min_new_tokens": 2, "stop_strings": "</a>"},
            dict(repetition_penalty=1.2, no_repeat_ngram_size=3, min_new_tokens=2, stop=("</a>",)),
        ),
    ],
)
def test_defaults_of_options_are_those_of_the_kept_file(tmp_path, fields, defaults):
    run = RunDirectory(tmp_path)
    assert read_defaults(run) == {}
    run.hugging_face.mkdir()
    (run.hugging_face / "generation_config.json").write_text(json.dumps(fields))
    assert read_defaults(run) == defaults


def test_sequences_of_tokens_are_never_completed():
    """The last rows' columns before their start, and those behind the slot, hold the same tokens."""
    sequences = sequences_of(TokenConstraints((1,), sequences=((5, 6, 7), (6, 3), (6, 8))))
    tokens = jnp.array([[0, 5, 6, 9], [5, 5, 6, 7], [0, 6, 5, 6], [5, 6, 0, 6]], jnp.int32)
    banned = completed(sequences, tokens, jnp.array([0, 2, 1, 0], jnp.int32), jnp.int32(3), 10)
    assert [np.flatnonzero(row).tolist() for row in banned] == [[3, 7, 8], [3, 8], [], []]
    assert not completed(sequences_of(TokenConstraints((1,))), tokens, jnp.zeros(4, jnp.int32), jnp.int32(3), 10).any()


@pytest.mark.originals
def test_sequences_are_those_of_transformers():
    torch = pytest.importorskip("torch", reason="launch/originals.sh installs it")
    from transformers.generation.logits_process import NoBadWordsLogitsProcessor

    draw = np.random.default_rng(0)
    for _ in range(60):
        words = [draw.integers(0, 4, draw.integers(2, 4)).tolist() for _ in range(4)]
        tokens = draw.integers(0, 4, (8, draw.integers(1, 5)))
        processor: Any = NoBadWordsLogitsProcessor(words, eos_token_id=3)
        theirs = processor(torch.tensor(tokens), torch.zeros(8, 6)) < 0
        found = sequences_of(TokenConstraints((3,), sequences=tuple(map(tuple, words))))
        starts = jnp.full(8, 2, jnp.int32)
        held = jnp.asarray(np.pad(tokens, ((0, 0), (2, 3))), jnp.int32)
        ours = completed(found, held, starts, jnp.int32(2 + tokens.shape[1]), 6)
        assert (np.asarray(ours) == theirs.numpy()).all()


def test_a_run_of_our_own_is_exported_with_our_fields_alone(tmp_path):
    ours = {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["[R]"], "eos_token": "</s>"}
    assert tokenizer_config(tmp_path / "none", ours) == ours


def test_a_vocabulary_s_frame_is_kept_beside_it(run):
    assert open_vocabulary(run / "vocabulary").frame == Frame()
