"""T5X's checkpoints read back as the parameters that they were written from, and refused where they are none."""

import dataclasses
import functools
import re
import subprocess
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import environment
from flax.serialization import msgpack_serialize
from jax.sharding import NamedSharding, PartitionSpec
from small import random_batch, random_params, small_config
from t5x_format import network, t5x_tree, write_legacy, write_orbax, write_placeholders, written

from t5like.config import Model
from t5like.convert.layout import assemble, layers_of
from t5like.convert.t5x import T5XTensors, is_t5x, open_t5x, t5x_mappings, t5x_model
from t5like.errors import UserError
from t5like.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_device")
WRITERS = {
    "version 3": write_legacy,
    "version 2": functools.partial(write_legacy, version=2, old_paths=True),
    "without a version": functools.partial(write_legacy, version=None),
    "placeholders": write_placeholders,
    "orbax": write_orbax,
    "ocdbt": functools.partial(write_orbax, ocdbt=True),
}


def flat(params: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(part.key for part in path): leaf for path, leaf in leaves}


def read_back(tensors: T5XTensors, model: Model, expected: Any) -> dict[str, jax.Array]:
    mappings, whole = t5x_mappings(model, tensors), NamedSharding(jax.sharding.get_mesh(), PartitionSpec())
    wanted = flat(expected)
    assert mappings.keys() == wanted.keys()
    found = {}
    for path, mapping in mappings.items():
        abstract = jax.ShapeDtypeStruct(wanted[path].shape, jnp.float32, sharding=whole)
        found[path] = assemble(layers_of(tensors, path, mapping, abstract.shape), mapping.stacked, abstract)
    return found


def assert_same(found: dict[str, jax.Array], expected: Any) -> None:
    for path, value in flat(expected).items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["t5", "t5_1_1"])
def test_each_format_gives_back_the_parameters_and_their_model(tmp_path, kind, writer):
    model, params = network(kind)
    folder = WRITERS[writer](tmp_path / "checkpoint_1000", t5x_tree(params))
    assert is_t5x(folder)
    tensors = open_t5x(folder)
    assert dataclasses.replace(t5x_model(tensors), dtype="float32") == model
    assert_same(read_back(tensors, model, params), params)


@pytest.mark.parametrize("writer", ["version 3", "orbax"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", ["umt5", "t5"])
def test_a_scanned_checkpoint_gives_back_each_layer(tmp_path, kind, apart, writer):
    model, params = network(kind)
    tensors = open_t5x(WRITERS[writer](tmp_path / "checkpoint_1000", t5x_tree(params, scanned=True, apart=apart)))
    assert dataclasses.replace(t5x_model(tensors), dtype="float32") == model
    assert_same(read_back(tensors, model, params), params)


@pytest.mark.parametrize("kind", ["umt5", "t5_1_1"])
def test_unrolled_layers_may_have_heads_apart_and_biases_of_their_own(tmp_path, kind):
    model, params = network(kind)
    tensors = open_t5x(written(tmp_path, kind, apart=True))
    assert dataclasses.replace(t5x_model(tensors), dtype="float32") == model
    assert_same(read_back(tensors, model, params), params)


@pytest.mark.parametrize("writer", WRITERS)
def test_bfloat16_is_read_as_it_is_stored(tmp_path, writer):
    model, params = network("t5_1_1")
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    tensors = open_t5x(WRITERS[writer](tmp_path / "checkpoint_1000", t5x_tree(half)))
    assert tensors.read("decoder/layers_0/mlp/wo/kernel").dtype == jnp.bfloat16
    assert tensors.read("encoder/encoder_norm/scale").dtype == jnp.bfloat16
    assert_same(read_back(tensors, model, params), jax.tree.map(lambda x: x.astype(jnp.float32), half))


@pytest.mark.originals
def test_logits_of_transformers_come_from_its_weights_in_t5x_names(tmp_path):
    pytest.importorskip("transformers", reason="compares with Hugging Face's T5")
    torch = pytest.importorskip("torch", reason="compares with Hugging Face's T5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from transformers import T5Config, T5ForConditionalGeneration
    torch.manual_seed(0)
    sizes = dict(vocab_size=256, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=3, num_heads=4)
    kind: dict[str, Any] = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0)
    theirs = T5ForConditionalGeneration(T5Config(**sizes, **kind)).eval()
    weights = {name: value.detach().numpy() for name, value in theirs.state_dict().items()}
    tensors = open_t5x(write_legacy(tmp_path / "checkpoint_5", hugging_face_tree(weights)))
    model = dataclasses.replace(t5x_model(tensors), dtype="float32")
    settings = small_config("t5")
    batch = random_batch(settings)
    shapes = random_params(Transformer(model, settings.rules), batch)
    found = read_back(tensors, model, shapes)
    params = jax.tree_util.tree_map_with_path(lambda path, _: found["/".join(part.key for part in path)], shapes)
    ours: Any = Transformer(model, settings.rules).apply({"params": params}, batch)
    with torch.no_grad():
        logits = theirs(
            input_ids=torch.from_numpy(np.asarray(batch["encoder_input_tokens"], np.int64)),
            decoder_input_ids=torch.from_numpy(np.asarray(batch["decoder_input_tokens"], np.int64)),
        ).logits
    np.testing.assert_allclose(ours, logits.numpy(), atol=2e-4, rtol=1e-4)


def hugging_face_tree(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of transformers' convert_t5x_checkpoint_to_pytorch, name by name."""
    kinds = {"q": "query", "k": "key", "v": "value", "o": "out"}
    layers = {
        "encoder": {"0": "attention", "1": "mlp"},
        "decoder": {"0": "self_attention", "1": "cross_attention", "2": "mlp"},
    }
    tree = {"token_embedder/embedding": weights["shared.weight"]}
    tree["decoder/logits_dense/kernel"] = weights["lm_head.weight"].T
    for name, value in weights.items():
        match name.split("."):
            case [stack, "final_layer_norm", _]:
                tree[f"{stack}/{stack}_norm/scale"] = value
            case [stack, "block", _, "layer", _, _, "relative_attention_bias", _]:
                tree[f"{stack}/relpos_bias/rel_embedding"] = value.T
            case [stack, "block", n, "layer", layer, "layer_norm", _]:
                tree[f"{stack}/layers_{n}/pre_{layers[stack][layer]}_layer_norm/scale"] = value
            case [stack, "block", n, "layer", layer, "SelfAttention" | "EncDecAttention", kind, _]:
                part = layers[stack][layer].replace("cross_", "encoder_decoder_")
                tree[f"{stack}/layers_{n}/{part}/{kinds[kind]}/kernel"] = value.T
            case [stack, "block", n, "layer", _, "DenseReluDense", kind, _]:
                tree[f"{stack}/layers_{n}/mlp/{kind}/kernel"] = value.T
    return {name: np.ascontiguousarray(value) for name, value in tree.items()}


def test_the_newest_checkpoint_of_a_folder_is_taken(tmp_path):
    params = network("t5")[1]
    for step, factor in {900: 1, 1000: 2, 50: 3}.items():
        write_legacy(tmp_path / f"checkpoint_{step}", t5x_tree(jax.tree.map(lambda x, f=factor: x * f, params)))
    (tmp_path / "checkpoint_2000.tmp-1").mkdir()
    assert is_t5x(tmp_path)
    np.testing.assert_array_equal(open_t5x(tmp_path).read("token_embedder/embedding"), 2 * params["embedding"])


def test_a_checkpoint_is_known_by_its_content_too(tmp_path):
    tree = t5x_tree(network("t5")[1])
    for name, writer in WRITERS.items():
        assert is_t5x(writer(tmp_path / name.replace(" ", "_"), tree))


def test_other_folders_are_not_taken_for_t5x(tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000"\n')
    write_orbax(tmp_path / "10" / "state", {"x": np.ones(2, np.float32)}, ocdbt=True)
    metadata = tmp_path / "10" / "state" / "_METADATA"
    metadata.write_text(metadata.read_text().replace("target", "params"))
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "checkpoint").write_bytes(msgpack_serialize({"params": {"x": np.ones(2, np.float32)}}))
    assert not is_t5x(tmp_path / "flax")
    assert not is_t5x(tmp_path)
    assert not is_t5x(tmp_path / "10")
    assert not is_t5x(tmp_path / "absent")
    assert not is_t5x(tmp_path / "checkpoint")


def test_asking_what_a_folder_is_loads_nothing_heavy():
    program = "import sys; from t5like.convert.t5x_files import is_t5x; is_t5x('.'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert not {"jax", "flax", "tensorstore", "orbax"} & set(done.stdout.split())


def test_gin_tells_the_activation_and_the_dropout(tmp_path):
    gin = tmp_path / "config.gin"
    gin.write_text(
        "network.T5Config:\n  mlp_activations = ('silu', 'linear')  # SwiGLU\n  dropout_rate = %RATE\nRATE = 0.1\n"
    )
    found = t5x_model(open_t5x(written(tmp_path)), gin)
    assert (found.activation, found.dropout) == ("silu", 0.1)
    gin.write_text("t5.network.T5Config.mlp_activations = ('gelu',)\nnetwork.T5Config.dropout_rate = %gin.REQUIRED\n")
    found = t5x_model(open_t5x(written(tmp_path / "first", "t5")), gin)
    assert (found.activation, found.dropout) == ("gelu_tanh", 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_heads = 2", "sets T5Config.num_heads = 2, but the checkpoint has 4: they do not belong together."),
        ("mlp_activations = ('gelu',)", "one of relu, gelu, silu, swish is possible, with 'linear' after it."),
    ],
)
def test_gin_of_another_model_is_refused(tmp_path, line, message):
    gin = tmp_path / "config.gin"
    gin.write_text(f"network.T5Config.{line}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        t5x_model(open_t5x(written(tmp_path)), gin)
