"""Folders of random configurations, which transformers makes and runs: imported and exported, they give its numbers.

No golden folder has these: heads of decoders, Mistral, Qwen2, biases of single parts, untied outputs, names of labels,
configs as older versions wrote them. And of every field that a config.json may leave out we take what the class does.
"""

import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from golden_runs import float32, on_one_device, quiet_transformers
from random_folders import CONFIGS, one_of, write_folder
from settings import sentence

from t5like.config import CLS, MASK, SEP
from t5like.convert.cases import Outcome, cases_of, outcome_of
from t5like.convert.exporting import export_run
from t5like.convert.families import FAMILIES
from t5like.convert.files import open_weights
from t5like.convert.importing import import_run
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.original import Original, has_transformers
from t5like.convert.settings import Settings
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run

pytestmark = [
    pytest.mark.originals,
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_transformers(), reason="runs transformers' models, and torch or transformers is missing"
    ),
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers; ours are errors in all other tests
]
FOLDERS = [
    ("t5", 6),  # an encoder alone
    ("mt5", 2),  # untied, as transformers 4 writes it
    ("umt5", 0),  # tied, so scaled
    ("bert", 2),  # untied
    ("bert", 4),  # several labels of a row
    ("gpt2", 5),  # a classifier
    ("llama", 0),  # biases of attention alone
    ("llama", 6),  # a classifier, with biases of the feed-forward layer alone
    ("mistral", 0),
    ("qwen2", 2),
    ("marian", 0),
]
"""Model type and seed of folders that no golden one is like."""


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """One device, and transformers without network."""
    with on_one_device(), quiet_transformers():
        yield


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("vocabulary")
    Vocabulary(Bytes(), (CLS, SEP, MASK), 11).save(place)
    return str(place)


@pytest.mark.parametrize(("kind", "seed"), FOLDERS)
def test_a_random_folder_gives_the_originals_numbers_and_its_export_too(kind, seed, vocabulary, tmp_path):
    told = write_folder(kind, seed, tmp_path / "source")
    import_run(tmp_path / "source", tmp_path / "run", ImportOptions(vocabulary=vocabulary))
    with (
        open_run(float32(RunDirectory(tmp_path / "run").config())) as restored,
        jax.default_matmul_precision("highest"),
    ):
        net = restored.network.inference_net
        export_run(restored, tmp_path / "out", ExportOptions())
        originals = [Original(tmp_path / folder, net.model) for folder in ("source", "out")]
        for case in cases_of(net.model, restored.vocabulary, restored.frame, (), 16):
            ours = outcome_of(restored.params, net, case, 1)
            for original in originals:
                assert_close(ours, original.outcome(case), told)
    before, after = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("source", "out"))
    changed = {name for name, value in before.items() if after.get(name) != value}
    # The vocabulary is another one, so its special pieces are too.
    assert changed <= {"pad_token_id", "bos_token_id", "eos_token_id", "transformers_version"}, told


def assert_close(ours: Outcome, theirs: Outcome, told: str) -> None:
    compared = 0
    for kind in ("tokens", "rows"):
        for here, there in zip(getattr(ours, kind), getattr(theirs, kind), strict=True):
            if here is not None and there is not None:
                np.testing.assert_allclose(here, there, atol=1e-4, err_msg=told)
                compared += 1
    assert compared
    if ours.loss is not None and theirs.loss is not None:
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-5, err_msg=told)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_field_that_is_left_out_has_the_value_that_transformers_gives_it(kind):
    """Also one that transformers derives from others. Where it raises an error, there is nothing to compare with."""
    draw, compared = np.random.default_rng([0, *kind.encode()]), 0
    for _ in range(4):
        _, fields, untied = CONFIGS[kind](draw)
        names = {"lm_head.weight"} if untied or kind == "bert" else set()
        fields |= {"model_type": kind, "original_max_position_embeddings": 32} if draw.integers(2) else {}
        fields |= {"model_type": kind, "num_labels": one_of(draw, 2, 3)}
        for left_out in [*fields, "nothing"]:
            part = {name: value for name, value in fields.items() if name not in (left_out, "vocab_size")}
            part = json.loads(json.dumps({**part, "model_type": kind}))
            if (theirs := explicit(part)) is not None:
                ours = model_or_refusal(kind, part, names)
                assert ours == model_or_refusal(kind, theirs, names), (left_out, part)
                compared += ours != "refused"
    assert compared > 20


def model_or_refusal(kind: str, fields: dict[str, Any], names: set[str]) -> Any:
    try:
        return FAMILIES[kind].model_of(Settings(fields, "config.json"), names)
    except UserError:
        return "refused"


def explicit(fields: dict[str, Any]) -> dict[str, Any] | None:
    """All fields of a configuration as transformers completes it; None where it cannot."""
    import transformers

    fields = json.loads(json.dumps(fields))
    try:
        return json.loads(transformers.AutoConfig.for_model(**fields).to_json_string(use_diff=False))
    except Exception:  # it raises any
        return None


TINY = dict(vocab_size=32, n_embd=8, n_head=2, n_layer=1, n_positions=16)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_as_safetensors_are(zipped, tmp_path):
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**TINY))
    model.save_pretrained(tmp_path / "safe")
    state = model.state_dict() | {
        "transformer.wpe.weight": model.transformer.wpe.weight.to(torch.bfloat16).T.contiguous().T,
        "transformer.ln_f.bias": torch.nn.Parameter(torch.arange(20.0)[4:20:2].to(torch.float16)),
    }
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    (tmp_path / "pickled").mkdir()
    torch.save(state, tmp_path / "pickled" / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    found = open_weights(tmp_path / "pickled")
    assert {*found.names()} == {*state}
    for name, tensor in state.items():
        assert found.read(name).dtype.name == str(tensor.dtype).removeprefix("torch."), name
        np.testing.assert_array_equal(
            found.read(name).astype(np.float32), tensor.detach().float().numpy(), err_msg=name
        )
    torch.save(model, tmp_path / "pickled" / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert "is a pickle that names transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel, which" in sentence(
        open_weights, tmp_path / "pickled"
    )
