"""Writes checkpoints as T5X wrote them, from parameters of ours, after T5X's sources and without our reader's tables.

`t5x_tree` names and shapes the arrays: unrolled or scanned along axis 1, heads joined or apart. The writers put such a
tree on disk: with TensorStore specs (`write_legacy`), with Orbax's placeholders of 2023 (`write_placeholders`), or by
the Orbax that is installed (`write_orbax`).
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from flax import serialization
from small import random_batch, random_params, small_config

from t5like.config import Model
from t5like.model.transformer import Transformer

FIRST = dict(gated=False, activation="relu", tied=True, scale_logits=True)
KINDS = {"t5": FIRST, "t5_1_1": {}, "umt5": dict(relative_per_layer=True)}
ATTENTION = {
    "encoder": {"self": "attention"},
    "decoder": {"self": "self_attention", "cross": "encoder_decoder_attention"},
}
NORMS = {
    "encoder": {"norm_self": "pre_attention_layer_norm", "norm_mlp": "pre_mlp_layer_norm"},
    "decoder": {
        "norm_self": "pre_self_attention_layer_norm",
        "norm_cross": "pre_cross_attention_layer_norm",
        "norm_mlp": "pre_mlp_layer_norm",
    },
}
Tree = dict[str, np.ndarray]
STATE = {"step": np.int32(7), "param_states": {"token_embedder": {"embedding": {"v": np.ones(3, np.float32)}}}}


@functools.cache
def network(kind: str) -> tuple[Model, Any]:
    """A small model, two layers in its encoder and three in its decoder, and its parameters, no two alike."""
    settings = small_config("t5", **{f"model__{name}": value for name, value in KINDS[kind].items()})
    net = Transformer(settings.model, settings.rules)
    return settings.model, random_params(net, random_batch(settings))


def t5x_tree(params: dict[str, Any], scanned: bool = False, apart: bool = False) -> Tree:
    """T5X's arrays by name, `encoder/layers_0/attention/query/kernel`, for parameters of ours."""
    params = jax.tree.map(np.asarray, params)
    tree: Tree = {"token_embedder/embedding": params["embedding"]}
    if "output" in params:
        tree["decoder/logits_dense/kernel"] = params["output"]
    for stack in ("encoder", "decoder"):
        blocks = params[stack]["blocks"]
        tree[f"{stack}/{stack}_norm/scale"] = params[stack]["norm"]["scale"]
        if "relative" in params[stack]:
            tree[f"{stack}/relpos_bias/rel_embedding"] = params[stack]["relative"].T
        layers = [_layer(stack, jax.tree.map(lambda x, n=n: x[n], blocks), apart) for n in range(_depth(blocks))]
        if scanned:
            tree |= {f"{stack}/{stack}/{name}": np.stack([x[name] for x in layers], axis=1) for name in layers[0]}
        else:
            tree |= {f"{stack}/layers_{n}/{name}": x for n, layer in enumerate(layers) for name, x in layer.items()}
    return tree


def _depth(blocks: dict[str, Any]) -> int:
    return blocks["norm_mlp"]["scale"].shape[0]


def _layer(stack: str, block: dict[str, Any], apart: bool) -> Tree:
    layer: Tree = {f"{theirs}/scale": block[ours]["scale"] for ours, theirs in NORMS[stack].items()}
    for ours, theirs in ATTENTION[stack].items():
        for name in ("query", "key", "value"):
            kernel = block[ours][name]
            layer[f"{theirs}/{name}/kernel"] = kernel if apart else kernel.reshape(kernel.shape[0], -1)
        out = block[ours]["out"]
        layer[f"{theirs}/out/kernel"] = out if apart else out.reshape(-1, out.shape[-1])
    mlp = block["mlp"]
    layer["mlp/wo/kernel"] = mlp["down"]
    if "gate" in mlp:
        layer |= {"mlp/wi_0/kernel": mlp["gate"], "mlp/wi_1/kernel": mlp["up"]}
    else:
        layer["mlp/wi/kernel"] = mlp["up"]
    if "relative" in block:
        layer["relpos_bias/rel_embedding"] = block["relative"].T
    return layer


def write_legacy(folder: pathlib.Path, tree: Tree, version: int | None = 3, old_paths: bool = False) -> pathlib.Path:
    """As t5x.checkpoints.Checkpointer: norms within the msgpack, specs of zarr arrays for the rest.

    `version` None writes the state without its wrapping, and `old_paths` as before tensorstore 0.1.14 at gs://.
    """
    folder.mkdir(parents=True)
    leaves: dict[str, Any] = {}
    for name, array in tree.items():
        if array.ndim == 1:
            leaves[name] = array
            continue
        place = f"target.{name.replace('/', '.')}"
        chunks = [-(-array.shape[0] // 2), *array.shape[1:]]
        metadata = {"chunks": chunks, "compressor": {"id": "gzip", "level": 1}, "shape": list(array.shape)}
        spec = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
        _write_zarr(folder / place, array, spec)
        bucket = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
        where = (
            {"kvstore": bucket, "path": place} if old_paths else {"kvstore": {"driver": "file", "path": f"{place}/"}}
        )
        leaves[name] = spec | where
    state = {"target": _nest(leaves), "state": STATE}
    content = state if version is None else {"version": version, "optimizer": state}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    return folder


def written(folder: pathlib.Path, kind: str = "t5_1_1", **layout: bool) -> pathlib.Path:
    """The plainest of checkpoints in a folder: `checkpoint_1000` of a small model."""
    return write_legacy(folder / "checkpoint_1000", t5x_tree(network(kind)[1], **layout))


def write_placeholders(folder: pathlib.Path, tree: Tree) -> pathlib.Path:
    """As T5X's OrbaxCheckpointManagerInterface of 2023: `state/` with a msgpack of placeholders beside zarr arrays."""
    state = folder / "state"
    state.mkdir(parents=True)
    leaves = {}
    for name, array in tree.items():
        place = f"target.{name.replace('/', '.')}"
        metadata = {"chunks": list(array.shape), "compressor": {"id": "gzip"}, "shape": list(array.shape)}
        _write_zarr(state / place, array, {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata})
        leaves[name] = f"PLACEHOLDER://{place}"
    content = {"state": {"step": np.int32(7)}, "target": _nest(leaves)}
    (state / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    return folder


def write_orbax(folder: pathlib.Path, tree: Tree, ocdbt: bool = False) -> pathlib.Path:
    """By the installed Orbax's PyTreeCheckpointHandler, as T5X's state dict."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    state = {"target": _nest({name: jnp.asarray(x) for name, x in tree.items()}), "state": {"step": jnp.int32(7)}}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as checkpointer:
        checkpointer.save(folder.absolute(), state)
    return folder


def _write_zarr(folder: pathlib.Path, array: np.ndarray, spec: dict[str, Any]) -> None:
    store = {"driver": "file", "path": str(folder)}
    tensorstore.open(spec | {"kvstore": store}, create=True).result().write(array).result()


def _nest(leaves: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return nested
