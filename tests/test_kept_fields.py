"""Fields of a config.json beyond our Model survive an import, a training and an export."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from damage import damaged, fields
from golden_runs import float32, on_one_device
from starts import write_texts

from t5like.config import Source
from t5like.convert.exporting import export_run
from t5like.convert.families import FAMILIES
from t5like.convert.importing import import_run
from t5like.convert.kept_fields import keep, kept_kind, notes_on, written_back
from t5like.convert.kinds import kind_of
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.settings import Settings
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.loop import train

LABELS = {
    "id2label": {"0": "joy", "1": "anger", "2": "fear"},
    "label2id": {"joy": 0, "anger": 1, "fear": 2},
    "problem_type": "multi_label_classification",
}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 16,
    "num_attention_heads": 4,
    "attention_probs_dropout_prob": 0.3,
    "classifier_dropout": 0.2,
    "of_another_tool": {"nested": [1, None]},
    "num_labels": 3,
    "transformers_version": "4.30.0",
    "torch_dtype": "float16",
    "pad_token_id": None,
    **LABELS,
}
SMALL: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
DECODERS = {
    "mistral": {"sliding_window": 64, "max_position_embeddings": 64, "num_key_value_heads": 2, **SMALL},
    "qwen2": {"use_sliding_window": False, "sliding_window": 8, "num_key_value_heads": 2, **SMALL},
    "llama": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4}},
}


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    with on_one_device():
        yield


def exported(run: RunDirectory, folder: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The config.json of an export after an import of one, with fields of `Model` changed between them."""
    kind, settings = folder["model_type"], Settings(folder, "config.json")
    family = FAMILIES[kind]
    model = family.model_of(settings, {"lm_head.weight"})
    keep(run, settings, family, model, {"pad_token_id": 0})
    model = dataclasses.replace(model, **changes)
    kind = kind_of(model, before=kept_kind(run))
    name = FAMILIES[kind].CLASSES[kind][model.head]
    ours = {"architectures": [name], "model_type": kind, "dtype": "float32", "pad_token_id": 0}
    return json.loads(json.dumps(written_back(ours | FAMILIES[kind].settings_of(model, kind), run)))


def test_fields_that_model_cannot_say_are_written_back(tmp_path):
    after = exported(RunDirectory(tmp_path), BERT)
    told = {"transformers_version", "torch_dtype", "pad_token_id"}
    assert {name: after.get(name) for name in BERT if name not in told} == {n: BERT[n] for n in BERT if n not in told}
    assert (after["dtype"], after["pad_token_id"], after["hidden_dropout_prob"]) == ("float32", 0, 0.1)
    assert not {"transformers_version", "torch_dtype"} & after.keys()


def test_what_changed_since_is_told_as_it_is(tmp_path):
    run = RunDirectory(tmp_path)
    after = exported(run, BERT, dropout=0.4, vocab=40_000)
    assert (after["hidden_dropout_prob"], after["attention_probs_dropout_prob"]) == (0.4, 0.4)
    assert (after["vocab_size"], after["id2label"]) == (40_000, LABELS["id2label"])
    more = exported(run, BERT, labels=2)
    assert (more["id2label"], more["problem_type"]) == ({"0": "LABEL_0", "1": "LABEL_1"}, LABELS["problem_type"])
    assert "num_labels" not in more
    one = exported(run, BERT, problem_type=None)
    assert "problem_type" not in one
    bare = exported(run, BERT, head="none", labels=0, problem_type=None)
    assert not LABELS.keys() & bare.keys()
    assert (bare["architectures"], bare["of_another_tool"]) == (["BertModel"], BERT["of_another_tool"])


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_keeps_its_model_type_and_what_only_that_has(kind, tmp_path):
    before = DECODERS[kind] | {"model_type": kind, "architectures": [FAMILIES[kind].CLASSES[kind]["vocabulary"]]}
    after = exported(RunDirectory(tmp_path), before)
    assert {name: after.get(name) for name in before} == before
    assert FAMILIES[kind].model_of(Settings(after, ""), {"lm_head.weight"}) == FAMILIES[kind].model_of(
        Settings(before, ""), {"lm_head.weight"}
    )


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_a_longer_row_than_the_window_leaves_no_window(kind, tmp_path):
    folder = DECODERS["mistral"] | {"model_type": kind, "use_sliding_window": True, "max_window_layers": 1}
    after = exported(RunDirectory(tmp_path), folder, max_positions=128)
    model = FAMILIES[kind].model_of(Settings(after, ""), {"lm_head.weight"})  # which refuses a window of fewer tokens
    assert model.max_positions == after["max_position_embeddings"] == 128


def test_a_position_scaling_that_changed_leaves_nothing_of_the_old_one(tmp_path):
    rope = DECODERS["llama"]["rope_parameters"] | {"rope_theta": 10_000.0}
    old = {"model_type": "llama", "rope_scaling": rope, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
    defaults = dict(rotary_factor=1.0, rotary_low=1.0, rotary_high=4.0, rotary_length=8192)
    for changes in (dict(rotary_scaling="none", **defaults), dict(rotary_length=128), dict(rotary_base=5e5)):
        after = exported(RunDirectory(tmp_path), old, **changes)
        assert ("original_max_position_embeddings" in after) == ("rotary_scaling" not in changes)
        model = FAMILIES["llama"].model_of(Settings(after, ""), set())
        assert {name: getattr(model, name) for name in changes} == changes


def test_a_folder_with_one_dropout_for_all_places_says_nothing_of_it():
    said = {
        kind: [*notes_on(Settings({"model_type": kind, **more}, ""), FAMILIES[kind], model_of(kind, more))]
        for kind, more in {
            "bert": {},
            "gpt2": {"attn_pdrop": 0.3},
            "marian": {},
            "llama": {"attention_dropout": 0.2},
        }.items()
    }
    assert (said["bert"], said["marian"][0]) == (
        [],
        "Training here drops 0.1 of all activations (model.dropout); attention_dropout=0.0, activation_dropout=0.0 of "
        "config.json is kept for an export alone.",
    )
    assert "attn_pdrop=0.3 of" in said["gpt2"][0]
    assert "attention_dropout=0.2 of" in said["llama"][0]


def model_of(kind: str, more: dict[str, Any]) -> Any:
    return FAMILIES[kind].model_of(Settings({"model_type": kind, **more}, ""), set())


@pytest.mark.slow
def test_a_run_that_starts_from_an_imported_one_is_exported_under_the_same_type(tmp_path):
    own = fields(
        model_type="mistral",
        architectures=["MistralForCausalLM"],
        attention_dropout=0.2,
        of_another_tool="kept",
        attention_bias=...,
        mlp_bias=...,
    )
    source, text = damaged(tmp_path, "llama", own), write_texts(tmp_path)["first"]
    import_run(source, tmp_path / "run", ImportOptions())
    config = float32(RunDirectory(tmp_path / "run").config())
    train(
        dataclasses.replace(
            config,
            data=dataclasses.replace(
                config.data,
                store=str(tmp_path / "store"),
                sources=(Source(kind="text", path=str(text), document="line"),),
                length=16,
            ),
            train=dataclasses.replace(
                config.train,
                directory=str(tmp_path / "tuned"),
                init_from=str(tmp_path / "run"),
                steps=1,
                batch=4,
                tensorboard=False,
            ),
            eval=dataclasses.replace(config.eval, rows=4, batch=4),
        )
    )
    with open_run(float32(RunDirectory(tmp_path / "tuned").config())) as restored:
        assert export_run(restored, tmp_path / "out", ExportOptions()) == "MistralForCausalLM"
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "out"))
    assert after["of_another_tool"] == "kept"
    assert {name: after.get(name) for name in before if name != "transformers_version"} == {
        name: value for name, value in before.items() if name != "transformers_version"
    }


def test_a_run_without_kept_fields_is_exported_as_its_model_says(tmp_path):
    run = RunDirectory(pathlib.Path(tmp_path))
    ours = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32"}
    ours |= FAMILIES["gpt2"].settings_of(model_of("gpt2", {}), "gpt2")
    assert kept_kind(run) == ""
    (run.path / "import.json").write_text('{"from": "MT5EncoderModel", "model_type": "mt5", "unused": {}}')
    assert kept_kind(run) == "mt5"
    assert written_back(ours, run) == {name: value for name, value in ours.items() if name not in LABELS}
