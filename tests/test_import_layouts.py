"""Folders as older transformers and the released checkpoints have them: other names, copies and constants."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from command_line import ROOT

from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run

GOLDEN = ROOT / "tests" / "golden"
Tensors = dict[str, np.ndarray]


def as_in_tensorflow(tensors: Tensors) -> Tensors:
    """BERT's first release: gamma and beta, the output's copies, a constant, and a head that the class lacks."""
    named = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): x for n, x in tensors.items()}
    named = {n.replace("LayerNorm.bias", "LayerNorm.beta"): x for n, x in named.items()}
    return named | {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
        "bert.embeddings.position_ids": np.arange(48)[None],
        "cls.seq_relationship.weight": np.zeros((2, 16), np.float32),
    }


def without_prefix(tensors: Tensors) -> Tensors:
    """GPT-2's release: no prefix, and the masks of each layer."""
    named = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    masks = {f"h.{layer}.attn.bias": np.tri(8, dtype=np.float32)[None, None] for layer in range(3)}
    return named | masks | {"h.0.attn.masked_bias": np.float32(-1e4) * np.ones(())}


def with_copies(tensors: Tensors) -> Tensors:
    """T5's release: the embedding of each stack, and tables that cross-attention never had."""
    table = tensors["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    copies = {f"{stack}.embed_tokens.weight": tensors["shared.weight"] for stack in ("encoder", "decoder")}
    return tensors | copies | {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": table}


def with_tied_output(tensors: Tensors) -> Tensors:
    return with_copies(tensors) | {"lm_head.weight": tensors["shared.weight"]}


def under_another_name(tensors: Tensors) -> Tensors:
    """An encoder whose only embedding is called as its stack's."""
    rest = {name: x for name, x in tensors.items() if name != "shared.weight"}
    return rest | {"encoder.embed_tokens.weight": tensors["shared.weight"]}


def with_frequencies(tensors: Tensors) -> Tensors:
    return tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones((4,), np.float32)}


LAYOUTS: dict[str, tuple[str, Callable[[Tensors], Tensors], dict[str, Any], int]] = {
    "bert of 2018": ("bert_masked", as_in_tensorflow, {}, 4),
    "bert without a class": ("bert_pretraining", lambda tensors: tensors, {"architectures": None}, 0),
    "gpt2 as released": ("gpt2", without_prefix, {}, 4),
    "t5 1.1 of transformers 4": (
        "t5_1_1",
        with_copies,
        {"tie_word_embeddings": False, "scale_decoder_outputs": None},
        3,
    ),
    "t5 1.0 of transformers 4": ("t5_1_0", with_tied_output, {"scale_decoder_outputs": None}, 4),
    "t5's encoder": ("t5_encoder", under_another_name, {}, 0),
    "llama of transformers 4": (
        "llama3",
        with_frequencies,
        {
            "rope_parameters": None,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
        1,
    ),
}


def params_of(run: pathlib.Path) -> tuple[Any, Any]:
    config = RunDirectory(run).config()
    with open_run(config) as restored:
        return config.model, jax.device_get(restored.params)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_an_older_layout_is_the_same_model(name, tmp_path):
    folder, rewritten, changes, unused = LAYOUTS[name]
    shutil.copytree(GOLDEN / folder, tmp_path / "old")
    tensors = rewritten(safetensors.numpy.load_file(GOLDEN / folder / "model.safetensors"))
    safetensors.numpy.save_file(
        {n: np.ascontiguousarray(x) for n, x in tensors.items()}, tmp_path / "old/model.safetensors"
    )
    file = tmp_path / "old" / "config.json"
    settings = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}
    file.write_text(json.dumps(settings))
    import_run(GOLDEN / folder, tmp_path / "new_run", ImportOptions())
    found = import_run(tmp_path / "old", tmp_path / "old_run", ImportOptions())
    assert len(found.unused) == unused
    assert json.loads((tmp_path / "old_run" / "import.json").read_text())["unused"] == found.unused
    (model, params), (expected, originals) = (params_of(tmp_path / run) for run in ("old_run", "new_run"))
    assert model == expected
    jax.tree.map(np.testing.assert_array_equal, params, originals)
