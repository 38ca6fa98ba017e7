"""PEFT itself beside us: adapters that we export alone, loaded onto the exported base, give the numbers of the run."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
import safetensors.numpy
from golden_runs import GOLDEN, float32, on_one_device, quiet_transformers
from lora_runs import adapted_run
from test_original import AUTO, auto

from t5like.config import Lora
from t5like.convert.cases import outcome_of
from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions
from t5like.convert.original import StoredOutputs, has_transformers
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run

pytest.importorskip("peft", reason="PEFT is not installed")
pytestmark = [
    pytest.mark.originals,
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_transformers(), reason="runs transformers' models, and torch or transformers is missing"
    ),
    pytest.mark.filterwarnings("ignore"),
]
ALL = ("query", "key", "value", "out", "up", "down")
CASES = {
    "t5_1_1": Lora(rank=4, alpha=6.0, targets=(*ALL, "gate"), train=("norm", "relative")),
    "gpt2": Lora(rank=3, targets=("query", "value", "up"), dora=True),
    "llama3": Lora(rank=2, targets=(*ALL, "gate")),
    "bert_sequence": Lora(rank=2, targets=ALL, dora=True),
}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    with on_one_device(), quiet_transformers():
        yield


@pytest.mark.parametrize("name", CASES)
def test_peft_loads_adapters_onto_the_exported_base(name, tmp_path, say):
    import peft
    import torch

    import_run(GOLDEN / name, tmp_path / "base", ImportOptions())
    config = adapted_run(float32(RunDirectory(tmp_path / "base").config()), tmp_path / "run", CASES[name])
    say("export", tmp_path / "base", tmp_path / "exported")
    say("export", tmp_path / "run", tmp_path / "adapter", "--adapter")
    model = peft.PeftModel.from_pretrained(auto(AUTO[name], tmp_path / "exported"), tmp_path / "adapter").eval()
    kept = safetensors.numpy.load_file(GOLDEN / name / "golden.safetensors")
    inputs = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
    with torch.no_grad():
        found = model(**{key: torch.from_numpy(kept[key]).long() for key in inputs if key in kept}).logits.numpy()
    with open_run(config) as restored, jax.default_matmul_precision("highest"):
        net = restored.network.inference_net
        examples, theirs = StoredOutputs(GOLDEN / name, net.model).case()
        ours = outcome_of(restored.params, net, examples, 1)
    for kind in ("tokens", "rows"):
        for mine, its, before in zip(getattr(ours, kind), found, getattr(theirs, kind), strict=True):
            if mine is not None:
                np.testing.assert_allclose(mine, its[: len(mine)], rtol=0, atol=1e-5 * max(1, np.abs(mine).max()))
                assert np.abs(mine - before).max() > 0.01
