"""A missing or damaged part of a T5X checkpoint is a sentence that names it."""

import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from t5x_format import network, t5x_tree, write_legacy, write_orbax, written

from t5like.convert.t5x import T5XTensors, open_t5x, t5x_mappings, t5x_model
from t5like.errors import UserError

pytestmark = pytest.mark.usefixtures("one_device")


def damage(file: pathlib.Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


@pytest.mark.parametrize("keep", [0, 1, 300])
def test_a_msgpack_that_was_cut_off_is_named(tmp_path, keep):
    file = written(tmp_path) / "checkpoint"
    damage(file, keep)
    with pytest.raises(UserError, match=rf"^The msgpack file {file} is damaged \(.*\): copy the checkpoint again\.$"):
        open_t5x(tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / ".zarray").unlink(),
        lambda folder: (folder / "1.0").unlink(),
        lambda folder: damage(folder / "1.0", 40),
        lambda folder: damage(folder / ".zarray", 40),
    ],
    ids=["no folder", "no metadata", "no chunk", "half a chunk", "half of the metadata"],
)
def test_an_array_that_is_not_whole_is_named_instead_of_read_as_zeros(tmp_path, harm):
    tensors, folder = (
        open_t5x(written(tmp_path)),
        tmp_path / "checkpoint_1000" / "target.decoder.layers_2.mlp.wo.kernel",
    )
    tensors.read("decoder/layers_2/mlp/wo/kernel")
    harm(folder)
    with pytest.raises(UserError, match=rf"^The array {folder} is missing or cut off .*: copy the checkpoint again\.$"):
        tensors.read("decoder/layers_2/mlp/wo/kernel")
    tensors.read("decoder/layers_1/mlp/wo/kernel")


def test_an_array_of_the_database_that_is_missing_is_named(tmp_path):
    tree = t5x_tree(network("t5")[1])
    folder = write_orbax(tmp_path / "checkpoint_3", tree, ocdbt=True)
    tensors = T5XTensors(folder, {"encoder/lost": "target.encoder.lost"})
    with pytest.raises(UserError, match=r"target\.encoder\.lost is missing or cut off"):
        tensors.read("encoder/lost")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent is not a folder: give T5X's checkpoint_<step>"):
        open_t5x(tmp_path / "absent")
    folder = tmp_path / "checkpoint_5"
    folder.mkdir()
    with pytest.raises(UserError, match=r"checkpoint_5 has neither T5X's msgpack file 'checkpoint' nor Orbax's"):
        open_t5x(tmp_path)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-5"')
    with pytest.raises(UserError, match="is of a TensorFlow checkpoint, not of T5X"):
        open_t5x(tmp_path)
    (folder / "checkpoint").write_bytes(msgpack_serialize({"params": {"x": np.ones(2)}}))
    with pytest.raises(UserError, match="has no parameters under 'target'"):
        open_t5x(tmp_path)
    (folder / "checkpoint").write_bytes(msgpack_serialize({"target": {"a": {"x": 3}}}))
    with pytest.raises(UserError, match="has neither an array nor a place of one for 'a/x'"):
        open_t5x(tmp_path)
    (folder / "checkpoint").unlink()
    (folder / "_METADATA").write_text('{"tree_metadata": {')
    with pytest.raises(UserError, match=r"_METADATA is damaged"):
        open_t5x(tmp_path)


@pytest.mark.parametrize("version", [1, 4])
def test_an_unknown_version_is_refused(tmp_path, version):
    folder = write_legacy(tmp_path / "checkpoint_5", t5x_tree(network("t5")[1]), version=version)
    with pytest.raises(
        UserError, match=rf"is of version {version}, but versions 2 and 3 of T5X's checkpoints are known"
    ):
        open_t5x(folder)


def changed(folder: pathlib.Path, change: Callable[[dict[str, np.ndarray]], object], **layout: bool) -> T5XTensors:
    tree = t5x_tree(network("umt5" if layout else "t5_1_1")[1], **layout)
    change(tree)
    return open_t5x(write_legacy(folder / "checkpoint_5", tree))


MLP, QUERY, BIAS = (
    "encoder/layers_0/mlp/wo/kernel",
    "encoder/layers_0/attention/query/kernel",
    "relpos_bias/rel_embedding",
)
MISTAKES = {
    "no embedding": (lambda tree: tree.pop("token_embedder/embedding"), "has no tensor 'token_embedder/embedding'"),
    "no decoder": (
        lambda tree: [tree.pop(name) for name in list(tree) if name.startswith("decoder/layers")],
        "'decoder/layers_0/pre_mlp_layer_norm/scale': it is not a checkpoint of T5's encoder and decoder.",
    ),
    "a flat embedding": (lambda tree: tree.update({"token_embedder/embedding": np.ones(4, np.float32)}), "not 2 dim"),
    "other heads": (
        lambda tree: tree.update({f"encoder/{BIAS}": np.ones((5, 32), np.float32)}),
        "has the shape (32, 32), but the relative bias is one of 5 heads: they do not belong together.",
    ),
    "stacks that differ": (
        lambda tree: tree.update({f"decoder/{BIAS}": np.ones((2, 32), np.float32)}),
        "has (4, 8, 32) heads, kv and buckets in its encoder and (2, 16, 32) in its decoder: T5 has the same in both.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_tensors_that_contradict_each_other_are_refused(tmp_path, mistake):
    change, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=re.escape(message)):
        t5x_model(changed(tmp_path, change))


def test_heads_apart_must_be_those_of_the_relative_bias(tmp_path):
    def change(tree):
        tree["encoder/encoder/relpos_bias/rel_embedding"] = np.ones((2, 2, 32), np.float32)

    with pytest.raises(UserError, match=r"has the shape \(32, 2, 4, 8\), but the relative bias is one of 2 heads"):
        t5x_model(changed(tmp_path, change, scanned=True, apart=True))


def test_layers_along_another_axis_are_refused(tmp_path):
    def change(tree):
        for name in [name for name in tree if name.startswith("encoder/encoder/")]:
            tree[name] = np.moveaxis(tree[name], 1, 0)

    with pytest.raises(UserError, match=r"has the shape \(2, 32\), not \(32, 'layers'\): only models that T5X scanned"):
        t5x_model(changed(tmp_path, change, scanned=True))


def test_unknown_tensors_are_named_and_missing_ones_too(tmp_path):
    def change(tree):
        tree["encoder/layers_1/mlp/router/kernel"] = tree["decoder/layers_9/mlp/wi_0/kernel"] = np.ones(
            (2, 2), np.float32
        )

    tensors = changed(tmp_path, change)
    model = network("t5_1_1")[0]
    names = "decoder/layers_9/mlp/wi_0/kernel, encoder/layers_1/mlp/router/kernel"
    with pytest.raises(UserError, match=rf"has 2 tensors that a T5 has no place for: {names}\.$"):
        t5x_mappings(model, tensors)


def test_numbers_that_are_not_floating_point_are_refused(tmp_path):
    name = "decoder/logits_dense/kernel"
    tensors = changed(tmp_path, lambda tree: tree.update({name: tree[name].astype(np.uint16)}))
    with pytest.raises(UserError, match=f"The array '{name}' of .* holds uint16, not one of float32"):
        tensors.read(name)
