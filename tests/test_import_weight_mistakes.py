"""Weights that are missing, damaged or of another model are refused in one sentence that names file and tensor."""

import numpy as np
import pytest
from damage import (
    GOLDEN,
    INDEX,
    WEIGHTS,
    cut,
    damaged,
    fields,
    file,
    header,
    index,
    pickled,
    put,
    refused,
    tensor,
    weights,
)

from t5like.convert.files import open_weights
from t5like.errors import UserError

SHARDED, SECOND = "t5_1_1_bfloat16", "model-00002-of-00002.safetensors"
QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"
BROKEN = "SOURCE/model.safetensors is damaged or no safetensors file ("
FILES = {
    "no weights": (
        "t5_1_1",
        file(WEIGHTS, None),
        "SOURCE holds no weights: model.safetensors or pytorch_model.bin, or their ",
    ),
    "no pickle": ("t5_1_1", pickled, "SOURCE/pytorch_model.bin is damaged or no file of torch.save (ValueError: at "),
    "a missing shard": (SHARDED, file(SECOND, None), "SOURCE lacks model-00002-of-00002.safetensors, which "),
    "a tensor in no shard": (
        SHARDED,
        index(lambda names: names.update({"extra.weight": SECOND})),
        "SOURCE/model.safetensors.index.json says that model-00002-of-00002.safetensors holds 'extra.weight', but it",
    ),
    "a path in the index": (
        SHARDED,
        index(lambda names: names.update({"extra.weight": "../other.safetensors"})),
        "SOURCE/model.safetensors.index.json is no index of weights (extra.weight is ",
    ),
    "a number in the index": (
        SHARDED,
        index(lambda names: names.update({"extra.weight": 3})),
        "SOURCE/model.safetensors.index.json is no index of weights (",
    ),
    "half an index": (
        SHARDED,
        file(INDEX, '{"weight_map": {"a":'),
        "SOURCE/model.safetensors.index.json is no index of weights (",
    ),
    "an index of nothing": (SHARDED, file(INDEX, "{}"), "SOURCE/model.safetensors.index.json is no index of "),
    "an index without tensors": (SHARDED, file(INDEX, '{"weight_map": {}}'), "SOURCE holds no weights: "),
    "an index of a list": (
        SHARDED,
        file(INDEX, '{"weight_map": ["a"]}'),
        "SOURCE/model.safetensors.index.json is no",
    ),
    "a file cut off": ("t5_1_1", cut, BROKEN),
    "an empty file": ("t5_1_1", file(WEIGHTS, ""), BROKEN),
    "a header of 2^60 bytes": ("t5_1_1", file(WEIGHTS, header({}, 2**60)), BROKEN),
    "a header of all bytes": ("t5_1_1", file(WEIGHTS, header({}, 2**64 - 1)), BROKEN),
    "a header that is no JSON": ("t5_1_1", file(WEIGHTS, header(b"\x80\x04pickled")), BROKEN),
    "a header without fields": ("t5_1_1", file(WEIGHTS, header({"a": {}})), BROKEN),
    "offsets beyond the file": ("t5_1_1", file(WEIGHTS, header({"a": tensor(0, 4000)})), BROKEN),
    "offsets that overlap": ("t5_1_1", file(WEIGHTS, header({"a": tensor(0, 12), "b": tensor(4, 16)})), BROKEN),
    "offsets with a hole": ("t5_1_1", file(WEIGHTS, header({"a": tensor(0, 4), "b": tensor(8, 16)})), BROKEN),
    "offsets that go back": ("t5_1_1", file(WEIGHTS, header({"a": tensor(16, 0)})), BROKEN),
    "a shape of 2^124": (
        "t5_1_1",
        file(WEIGHTS, header({"a": tensor(0, 16) | {"shape": [2**62, 2**62]}})),
        BROKEN,
    ),
    "another's shape": (
        "t5_1_1",
        put(QUERY, lambda tensors: tensors[QUERY][:, :8].copy()),
        f"The tensor {QUERY!r} has the shape (24, 8), but its config makes it (24, 16): the two do not ",
    ),
    "another's width": (
        "gpt2",
        fields(n_inner=32),
        "The tensor 'transformer.h.0.mlp.c_proj.weight' has the shape (28, 16), ",
    ),
    "a missing tensor": (
        "t5_1_1",
        weights(lambda tensors: tensors.pop(QUERY)),
        f"The tensor {QUERY!r}, which encoder/blocks/self/query is filled from, is missing in the checkpoint.",
    ),
    "a missing layer": ("llama", fields(num_hidden_layers=4), "The tensor 'model.layers.3."),
    "a layer too many": (
        "llama",
        fields(num_hidden_layers=2),
        "The tensor 'model.layers.2.input_layernorm.weight' and ",
    ),
    "an unknown tensor": (
        "t5_1_1",
        put("adapter.weight", lambda tensors: np.ones(3, np.float32)),
        "The tensor 'adapter.weight' of the folder has no place in this model, so the numbers may not be the ",
    ),
    "a copy that differs": (
        "t5_1_0",
        put("encoder.embed_tokens.weight", lambda tensors: tensors["shared.weight"] + 1),
        "The tensor 'encoder.embed_tokens.weight' should be a copy of 'shared.weight', since config.json ties ",
    ),
    "a tied head that differs": (
        "gpt2",
        put("lm_head.weight", lambda tensors: tensors["transformer.wte.weight"] + 1),
        "The tensor 'lm_head.weight' should be a copy of 'transformer.wte.weight', since config.json ties ",
    ),
    "whole numbers": (
        "t5_1_1",
        put(QUERY, lambda tensors: tensors[QUERY].astype(np.int8)),
        f"The tensor {QUERY!r} of SOURCE is of type I8, not one of F64, F32, F16, BF16: quantised weights ",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_weights_that_cannot_be_read_are_refused(tmp_path, what):
    name, harm, expected = FILES[what]
    said = refused(damaged(tmp_path, name, harm))
    assert said.startswith(expected), said


def test_a_header_of_which_some_bytes_changed_is_refused_or_read_whole(tmp_path):
    whole = (GOLDEN / "gpt2" / WEIGHTS).read_bytes()
    header_size, random, refusals = 8 + int.from_bytes(whole[:8], "little"), np.random.default_rng(0), 0
    for _ in range(300):
        changed = np.frombuffer(whole, np.uint8).copy()
        count = random.integers(1, 6)
        changed[random.integers(0, header_size, count)] = random.integers(0, 256, count)
        (tmp_path / WEIGHTS).write_bytes(changed.tobytes())
        try:
            tensors = open_weights(tmp_path)
            assert all(tensors.read(name).shape == tensors.shape(name) for name in tensors.names())
        except UserError as error:
            refusals += 1
            assert str(error).endswith(".") and "\n" not in str(error)
    assert refusals > 200
