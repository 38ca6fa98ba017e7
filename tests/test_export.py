"""Runs become folders of transformers: the same numbers, the files that its readers look for, and whole or not at all.

That golden folders are exported as they were is in `test_golden.py`, which has them open; here are runs of our own,
with random parameters that differ from layer to layer, and one that was trained.
"""

import json
import pathlib
import resource
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from command_line import PROGRAM, command, environment
from flax.traverse_util import flatten_dict
from golden_runs import assert_same_tensors, float32, on_one_device, opened, tensors_of
from settings import sentence
from starts import import_run as random_run
from starts import run_config, write_texts

from t5like.cli import run as carry_out
from t5like.config import CLS, MASK, SEP, Config, Mesh, Vocabulary
from t5like.convert import importing, t5
from t5like.convert.card import model_card
from t5like.convert.exporting import export_run
from t5like.convert.families import NamedTensors
from t5like.convert.files import INDEX, open_weights
from t5like.convert.importing import import_run
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.verify import Comparison, compare_tensors
from t5like.model.sharding import make_mesh
from t5like.runs import opened as opening
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.loop import train

BERT = dict(scale_attention=True, token_types=2, output_transform=True, output_bias=True)
LAYER_NORM = dict(max_positions=64, norm="layer", bias=True, gated=False, tied=True, scale_attention=True)
EXPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "T5ForConditionalGeneration": ("t5", {}),
    "LlamaForCausalLM": ("gpt", dict(kv_heads=2, max_positions=64)),
    "GPT2LMHeadModel": ("gpt", dict(LAYER_NORM, positions="learned", activation="gelu_tanh")),
    "BertForMaskedLM": ("bert", BERT),
    "BertForPreTraining": ("pairs", BERT),
    "MarianMTModel": (
        "t5",
        dict(LAYER_NORM, positions="sinusoidal", norm_position="post", norm_epsilon=1e-5, output_bias=True),
    ),
}
"""transformers' class -> the small family of ours that becomes it, with what that has to change."""
VOCABULARY = Vocabulary(kind="bytes", size=259, sentinels=11, extra=(CLS, SEP, MASK))


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    with on_one_device():
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_texts(tmp_path_factory.mktemp("texts"))["first"]


@pytest.fixture(scope="module")
def trained(text: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A decoder after two steps, of which each has its checkpoint."""
    settings = config_of(text, tmp_path_factory.mktemp("trained") / "run", "LlamaForCausalLM", train__save_every=1)
    train(settings)
    return settings


def config_of(text: pathlib.Path, directory: pathlib.Path, name: str, **more: Any) -> Config:
    family, changes = EXPORTED[name]
    return run_config(text, directory, family, mesh__data=1, data__vocabulary=VOCABULARY, **more, **of_model(changes))


def of_model(changes: dict[str, Any]) -> dict[str, Any]:
    return {f"model__{name}": value for name, value in changes.items()}


def config_in(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def assert_same_params(left: Any, right: Any) -> None:
    left, right = (flatten_dict(jax.device_get(params), sep="/") for params in (left, right))
    assert_same_tensors({**left}, {**right})


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_is_imported_as_the_run_that_it_was_made_of(name, text, tmp_path, say):
    settings = config_of(text, tmp_path / "run", name)
    params = random_run(settings)
    said = say("export", tmp_path / "run", tmp_path / "out", "--train.compilation_cache=")
    assert said.startswith(f"{tmp_path}/out: step 0 of {tmp_path}/run as {name}, ")
    assert config_in(tmp_path / "out")["architectures"] == [name]
    import_run(tmp_path / "out", tmp_path / "again", ImportOptions())
    with open_run(float32(RunDirectory(tmp_path / "again").config())) as again:
        assert_same_params(again.params, params)
        assert again.config.model == settings.model
        assert again.vocabulary.encode("the 你好 again") == [int(byte) + 3 for byte in "the 你好 again".encode()]


@pytest.mark.slow
def test_a_trained_run_is_imported_again_at_any_of_its_steps(trained, tmp_path, say):
    folders = {1: tmp_path / "first", 2: tmp_path / "second"}
    for step, folder in folders.items():
        said = say("export", trained.train.directory, folder, f"--step={step}")
        assert said.startswith(f"{folder}: step {step} of ")
        import_run(folder, tmp_path / f"run_{step}", ImportOptions())
        with open_run(trained, step) as before:
            expected = jax.device_get(before.params)
        with open_run(float32(RunDirectory(tmp_path / f"run_{step}").config())) as again:
            assert_same_params(again.params, expected)
    first, second = (tensors_of(folder)["model.embed_tokens.weight"] for folder in folders.values())
    assert np.abs(first - second).max() > 1e-4
    say("export", trained.train.directory, tmp_path / "newest")
    assert_same_tensors(tensors_of(tmp_path / "newest"), tensors_of(folders[2]))


@pytest.mark.slow
def test_half_the_bits_are_those_of_a_cast(trained, tmp_path, say):
    casts = {"bfloat16": lambda x: np.asarray(jnp.asarray(x).astype(jnp.bfloat16)), "float16": np.float16}
    say("export", trained.train.directory, tmp_path / "whole")
    whole = tensors_of(tmp_path / "whole")
    for kind, cast in casts.items():
        say("export", trained.train.directory, tmp_path / kind, f"--dtype={kind}")
        assert_same_tensors(tensors_of(tmp_path / kind), {name: cast(tensor) for name, tensor in whole.items()})
        assert config_in(tmp_path / kind)["dtype"] == kind


@pytest.mark.parametrize("name", ["t5_1_1", "gpt2"])
def test_small_files_have_an_index_that_names_each_tensors_file(name, tmp_path):
    most = 20_000
    with opened(name, tmp_path / "run") as golden:
        export_run(golden.restored, tmp_path / "out", ExportOptions(shard_gigabytes=most / 1e9))
        expected = tensors_of(golden.folder)
    index = json.loads((tmp_path / "out" / INDEX).read_text("utf-8"))
    files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 3
    assert files == [f"model-{n:05}-of-{len(files):05}.safetensors" for n in range(1, len(files) + 1)]
    assert {*index["weight_map"].values()} == {*files}
    for file in files:
        held = safetensors.numpy.load_file(tmp_path / "out" / file)
        assert held.keys() == {tensor for tensor, place in index["weight_map"].items() if place == file}
        assert len(held) == 1 or sum(tensor.nbytes for tensor in held.values()) <= most
    sizes = {"total_size": sum(t.nbytes for t in expected.values()), "total_parameters": _count(expected)}
    assert index["metadata"] == sizes
    assert_same_tensors(tensors_of(tmp_path / "out"), expected)


def _count(tensors: Any) -> int:
    return sum(tensor.size for tensor in tensors.values())


@pytest.mark.parametrize("name", ["t5_1_1", "gpt2", "llama"])
def test_a_mesh_changes_neither_an_import_nor_its_export(name, tmp_path, monkeypatch):
    with opened(name, tmp_path / "one") as golden:
        expected = jax.device_get(golden.restored.params)
        export_run(golden.restored, tmp_path / "from_one", ExportOptions())
    monkeypatch.setattr(importing, "make_mesh", make_mesh)
    monkeypatch.setattr(opening, "make_mesh", make_mesh)
    with opened(name, tmp_path / "eight", ImportOptions(mesh=Mesh(fsdp=4, tensor=2))) as golden:
        assert len(golden.restored.params["embedding"].sharding.device_set) == 8
        assert golden.restored.params["embedding"].addressable_shards[0].data.size * 8 == expected["embedding"].size
        assert_same_params(golden.restored.params, expected)
        export_run(golden.restored, tmp_path / "from_eight", ExportOptions())
    assert_same_tensors(tensors_of(tmp_path / "from_eight"), tensors_of(tmp_path / "from_one"))


def test_layers_in_another_order_are_not_the_same_tensors(tmp_path):
    with opened("t5_1_0", tmp_path / "run") as golden:
        export_run(golden.restored, tmp_path / "out", ExportOptions())
        model, tensors = golden.net.model, tensors_of(tmp_path / "out")
        mappings = t5.tensor_mappings(model)

        def compared() -> Comparison:
            files = NamedTensors(open_weights(tmp_path / "out"), t5, model)
            return compare_tensors(golden.restored.params, files, mappings)

        assert compared().passed
        for ours in ("decoder/blocks/cross/query", "encoder/blocks/mlp/down", "decoder/blocks/norm_mlp/scale"):
            first, second = (mappings[ours].name.format(layer=layer) for layer in range(2))
            swapped = {**tensors, first: tensors[second], second: tensors[first]}
            safetensors.numpy.save_file(swapped, tmp_path / "out" / "model.safetensors")
            line = compared()
            assert not line.passed
            assert line.result.startswith(
                f"{len(mappings) - 1} of {len(mappings)} parameters equal, bit for bit; {ours} "
            )


def test_a_type_of_another_architecture_is_refused_and_a_fitting_one_taken(trained, tmp_path):
    told = sentence(carry_out, ["export", trained.train.directory, f"{tmp_path}/out", "--type=t5"])
    assert told == (
        "--type 't5' has another architecture than this model: it has family='encoder-decoder' (here 'decoder'), "
        "kv_heads=4 (here 2), positions='relative' (here 'rotary') and scale_attention=False (here True); the model "
        "can be llama or mistral."
    )
    assert "no model type of ours; did you mean 'llama'?" in sentence(
        carry_out, ["export", trained.train.directory, f"{tmp_path}/out", "--type=lama"]
    )
    assert not list(tmp_path.iterdir())
    with opened("t5_encoder", tmp_path / "run") as golden:
        name = export_run(golden.restored, tmp_path / "out", ExportOptions(type="mt5"))
    assert [name] == config_in(tmp_path / "out")["architectures"] == ["MT5EncoderModel"]
    assert config_in(tmp_path / "out")["model_type"] == "mt5"


def test_what_is_there_already_stays_as_it_is(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    told = sentence(carry_out, ["export", trained.train.directory, f"{tmp_path}/out"])
    assert told == f"{tmp_path}/out is there already: name a new folder, or move that away."
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]
    told = sentence(carry_out, ["export", trained.train.directory, f"{tmp_path}/out/mine/below"])
    assert told == f"{tmp_path}/out/mine/below cannot be written: Not a directory."


def test_a_full_disk_leaves_nothing_behind(trained, tmp_path, say):
    """As far as a file system can tell: no file may have more than 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        told = sentence(carry_out, ["export", trained.train.directory, f"{tmp_path}/out"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written: " in told
    assert not list(tmp_path.iterdir())
    say("export", trained.train.directory, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


SLOWLY = """
import time, safetensors.numpy
save = safetensors.numpy.save_file
def slowly(*given):
    save(*given)
    print("written", flush=True)
    time.sleep(600)
safetensors.numpy.save_file = slowly
"""


def test_a_killed_export_leaves_no_folder_and_the_next_one_works(trained, tmp_path, say):
    words = command("export", trained.train.directory, tmp_path / "out", program=SLOWLY + PROGRAM)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    say("export", trained.train.directory, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_the_model_card_tells_what_the_run_knows(trained, say):
    with open_run(trained) as restored:
        assert "held-out" not in model_card(restored, "LlamaForCausalLM", "mine")
        say("eval", trained.train.directory)
        second, count = model_card(restored, "LlamaForCausalLM", "mine"), _count(flatten_dict(restored.params))
    with open_run(trained, 1) as restored:
        first = model_card(restored, "LlamaForCausalLM", "mine")
    kept = json.loads((pathlib.Path(trained.train.directory) / "eval.json").read_text("utf-8"))
    for fact in (
        f"| parameters | {count:,} |",
        "| vocabulary | 262 pieces in 384 rows (bytes) |",
        "| step | 2 |",
        f"| trained on | {trained.data.source_names[0]} (text) |",
        "| objective | causal; tokens of a row: decoder 24 |",
        "| batch | 8 rows |",
        "| optimizer | adafactor, peak rate 0.03, constant |",
        f"| held-out loss | {kept['loss']:.4g} |",
        'model = LlamaForCausalLM.from_pretrained("mine")',
        "pipeline_tag: text-generation",
    ):
        assert fact in second.splitlines(), second
    assert "| step | 1 |" in first
    assert "held-out" not in first


def test_the_model_card_of_an_import_tells_of_no_training(tmp_path):
    with opened("gpt2", tmp_path / "run") as golden:
        export_run(golden.restored, tmp_path / "out", ExportOptions())
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| imported from | weights of GPT2LMHeadModel |" in card
    assert "pipeline_tag: text-generation" in card
    assert "optimizer" not in card
