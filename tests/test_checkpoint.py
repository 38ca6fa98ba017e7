"""Checkpoints: the same bits on any mesh, parameters without the rest, and a sentence for what cannot be read."""

import contextlib
import json
import pathlib
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from small import small_config

from t5like import config
from t5like.errors import UserError
from t5like.model.sharding import make_mesh
from t5like.runs import checksums
from t5like.runs.checkpoints import Checkpoints, DamagedCheckpointError, State
from t5like.runs.checksums import FILE, MARK
from t5like.runs.shapes import first_difference, shapes_of
from t5like.train.state import Training, make_training


def training_of(devices: int = 8, **changes: Any) -> Training:
    """A small GPT's plan for the first devices, with AdamW, whose state is twice as large as the parameters."""
    settings = small_config("gpt", optimizer__name="adamw", **changes)
    mesh = make_mesh(config.Mesh(data=2 if devices > 1 else 1), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        return make_training(settings, mesh)


@pytest.fixture(scope="module")
def training() -> Training:
    return training_of()


@pytest.fixture(scope="module")
def state(training) -> State:
    """Random numbers in every leaf but the rows that are skipped: Orbax stores no zeros."""
    rng = np.random.default_rng(0)
    random = jax.tree.map(
        lambda x: jax.device_put(np.asarray(rng.integers(1, 99, x.shape), x.dtype), x.sharding), training.abstract
    )
    return random._replace(skipped=0 * random.skipped)


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory) -> pathlib.Path:
    """Steps 5, a whole state, and 9, its parameters alone, of a vocabulary with the hash abc."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with Checkpoints(folder, 3, "abc") as checkpoints:
        checkpoints.save(state, 5)
        checkpoints.save_params(state.params, 9)
        checkpoints.wait()
    return folder


def assert_same(left: Any, right: Any) -> None:
    """The same tree with the same bits, wherever its leaves live."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("step", [5, 9])
def test_parameters_come_back_onto_any_mesh(step, devices, folder, state):
    there = training_of(devices, mesh__tensor=2 if devices > 1 else 1).abstract.params
    with Checkpoints(folder) as checkpoints:
        found, params = checkpoints.restore_params(there, step)
    assert found == step
    assert_same(params, state.params)
    assert [x.sharding for x in jax.tree.leaves(params)] == [x.sharding for x in jax.tree.leaves(there)]


def test_the_newest_step_is_the_one_that_is_read(folder, training):
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore_params(training.abstract.params)[0] == 9


def test_a_whole_state_comes_back(folder, training, state):
    with Checkpoints(folder) as checkpoints:
        assert_same(checkpoints.restore(training.abstract, 5), state)


def test_a_checkpoint_of_the_earlier_format_is_read(training, state, tmp_path):
    """Until parameters could be read alone, Orbax's handler of standard trees wrote the states."""
    args: Any = ocp.args
    handlers: Any = {"state": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(tmp_path / "checkpoints", item_handlers=handlers) as manager:
        about = args.JsonSave({"vocabulary_sha256": "abc", "versions": {}})
        manager.save(5, args=args.Composite(state=args.StandardSave(state), about=about))
        manager.wait_until_finished()
    with Checkpoints(tmp_path / "checkpoints", vocabulary_hash="abc") as checkpoints:
        assert_same(checkpoints.restore(training.abstract), state)
        assert_same(checkpoints.restore_params(training.abstract.params)[1], state.params)


@contextlib.contextmanager
def earlier_manager(folder: pathlib.Path, keep: int | None = None) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager as it was called until November 2026, with arguments that are deprecated since."""
    handlers: Any = {"state": ocp.PyTreeCheckpointHandler(), "about": ocp.JsonCheckpointHandler()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        with ocp.CheckpointManager(folder, options=options, item_handlers=handlers) as manager:
            yield manager


def test_a_checkpoint_of_an_earlier_version_has_skipped_no_row(training, state, tmp_path):
    """It has neither that number nor any other in its stead."""
    args: Any = ocp.args
    earlier = {name: value for name, value in state._asdict().items() if name != "skipped"}
    with earlier_manager(tmp_path / "checkpoints") as manager:
        about = args.JsonSave({"vocabulary_sha256": "", "versions": {}})
        manager.save(5, args=args.Composite(state=args.PyTreeSave(earlier), about=about))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(training.abstract)
    assert_same(restored, state._replace(skipped=np.int32(0)))
    assert restored.skipped.sharding == training.shardings.skipped


def files_of(folder: pathlib.Path) -> set[str]:
    """Names of the files of one step; those of arrays are different each time."""
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in names if "/d/" not in name}


def test_rows_that_are_skipped_and_recent_steps_come_back(state, tmp_path):
    """Those of another window do not, and the rest is read without them."""
    watching, other = (training_of(train__spike_norm=9.0, train__spike_window=window) for window in (4, 5))
    recent = jax.tree.map(lambda x: jax.device_put(np.ones(x.shape, x.dtype), x.sharding), watching.abstract.recent)
    whole = state._replace(skipped=state.skipped + 8, recent=recent)
    with Checkpoints(tmp_path / "checkpoints", 3) as checkpoints:
        checkpoints.save(whole, 5)
        checkpoints.wait()
        assert_same(checkpoints.restore(watching.abstract), whole)
        none = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), other.abstract.recent)
        assert_same(checkpoints.restore(other.abstract), whole._replace(recent=none))
        assert_same(checkpoints.restore(training_of().abstract), whole._replace(recent=None))


def test_checkpoints_written_with_the_earlier_arguments_are_read_and_go_on(training, state, tmp_path):
    args: Any = ocp.args
    with earlier_manager(tmp_path / "checkpoints", 2) as manager:
        about = args.JsonSave({"vocabulary_sha256": "abc", "versions": {}})
        for step in (5, 6):
            manager.save(step, args=args.Composite(state=args.PyTreeSave(state), about=about))
        manager.wait_until_finished()
    with Checkpoints(tmp_path / "checkpoints", 2, "abc") as checkpoints:
        assert checkpoints.steps() == [5, 6]
        assert_same(checkpoints.restore(training.abstract, 5), state)
        assert_same(checkpoints.restore_params(training.abstract.params)[1], state.params)
        checkpoints.save(state, 7)
        checkpoints.wait()
        assert checkpoints.steps() == [6, 7]
    assert files_of(tmp_path / "checkpoints" / "6") == files_of(tmp_path / "checkpoints" / "7") - {FILE}


def test_checkpoints_are_read_with_the_earlier_arguments_too(folder, training, state):
    """So a run may go on with the version of before."""
    args: Any = ocp.args
    abstract, known = training.abstract._asdict(), ("step", "params", "opt_state")
    abstract = {name: abstract[name] for name in known}
    shardings = ocp.checkpoint_utils.construct_restore_args(abstract)
    with earlier_manager(folder) as manager:
        assert sorted(manager.all_steps()) == [5, 9]
        wanted = args.PyTreeRestore(abstract, restore_args=shardings)
        restored = manager.restore(5, args=args.Composite(state=wanted, about=args.JsonRestore()))
    assert_same(restored["state"], {name: getattr(state, name) for name in known})
    assert restored["about"]["vocabulary_sha256"] == "abc"


def test_the_newest_checkpoints_stay(state, tmp_path):
    with Checkpoints(tmp_path / "checkpoints", 2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save_params(state.params, step)
            checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
    assert sorted(step.name for step in (tmp_path / "checkpoints").glob("[0-9]*")) == ["2", "3"]


def bytes_read() -> int:
    metrics = tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return sum(value["value"] for metric in metrics for value in metric["values"])


def test_the_optimizer_state_is_not_read_with_the_parameters(folder, training):
    """AdamW's moments are two thirds of the checkpoint."""
    with Checkpoints(folder) as checkpoints:
        before = bytes_read()
        checkpoints.restore_params(training.abstract.params, 5)
        alone = bytes_read() - before
        checkpoints.restore(training.abstract, 5)
        whole = bytes_read() - before - alone
    assert 0 < alone < 0.6 * whole


@pytest.mark.parametrize("step", [5, 9])
def test_paths_and_shapes_are_known_without_the_numbers(step, folder, state):
    with Checkpoints(folder) as checkpoints:
        shapes = checkpoints.param_shapes(step)
    assert shapes == shapes_of(state.params)
    assert shapes["decoder/blocks/self/query"] == (2, 32, 4, 8)


def test_parameters_may_be_left_out(folder, state, training):
    wanted = {name: tree for name, tree in training.abstract.params.items() if name != "output"}
    with Checkpoints(folder) as checkpoints:
        _, params = checkpoints.restore_params(wanted, left_out=["output"])
    assert_same(params, {name: tree for name, tree in state.params.items() if name != "output"})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__mlp": 128}, "decoder/blocks/mlp/down is (2, 64, 32) there and (2, 128, 32) here"),
        ({"model__tied": True}, "output is (32, 256) there and missing here"),
        (
            {"model__positions": "learned", "model__max_positions": 64},
            "positions is missing there and (64, 32) here",
        ),
    ],
)
def test_the_first_parameter_that_does_not_fit_is_named_with_both_shapes(changes, expected, folder):
    other = training_of(**changes).abstract
    said = f"The checkpoint {folder}/5 cannot be read with this config: the parameter {expected}; set model.* to the "
    with Checkpoints(folder) as checkpoints:
        for read in (
            lambda: checkpoints.restore(other, 5),
            lambda: checkpoints.restore_params(other.params, 5),
        ):
            with pytest.raises(UserError) as raised:
                read()
            assert str(raised.value) == f"{said}same as there."


def test_trees_agree_or_differ_at_the_first_path():
    there = {"a": (1,), "b": (2,)}
    assert first_difference(there, dict(reversed(there.items()))) is None
    assert first_difference(there, {"b": (3,)}) == "the parameter a is (1,) there and missing here"
    assert first_difference(there, {**there, "c": ()}) == "the parameter c is missing there and () here"


def test_a_checkpoint_without_optimizer_state_says_how_to_train_on(folder, training):
    run = folder.parent
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError) as raised:
        checkpoints.restore(training.abstract)
    assert str(raised.value) == (
        f"{run} holds parameters without an optimizer state, with which no training can go on: start another run from "
        f"it, `t5like train {run} --train.directory runs/NEW --train.init_from {run}`."
    )


def test_a_checkpoint_that_is_not_there_or_of_another_vocabulary_is_one_sentence(folder, training, tmp_path):
    params = training.abstract.params
    with Checkpoints(folder, vocabulary_hash="xyz") as checkpoints:
        with pytest.raises(UserError, match=rf"^{folder} has no step 6; there are 5, 9\.$"):
            checkpoints.restore_params(params, 6)
        with pytest.raises(UserError, match=rf"^{folder} has no step 6; there are 5, 9\.$"):
            checkpoints.param_shapes(6)
        with pytest.raises(UserError, match=rf"^The checkpoint {folder}/9 belongs to another vocabulary than the run"):
            checkpoints.restore_params(params)
    with Checkpoints(tmp_path / "none") as checkpoints, pytest.raises(UserError, match=r"none holds no checkpoint: tr"):
        checkpoints.restore_params(params)


ARRAYS = "state/d/*"


def flip(file: pathlib.Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm", "reason"),
    [
        (ARRAYS, flip, " has other bytes than were written"),
        (ARRAYS, lambda file: file.write_bytes(file.read_bytes()[:-1]), " were written"),
        (ARRAYS, lambda file: file.write_bytes(bytes(file.stat().st_size)), " has other bytes than were written"),
        (ARRAYS, pathlib.Path.unlink, " is missing"),
        ("state/_METADATA", flip, "state/_METADATA has other bytes than were written"),
        ("state", shutil.rmtree, " is missing"),
        ("about/metadata", pathlib.Path.unlink, "about/metadata is missing"),
        (FILE, pathlib.Path.unlink, f"{FILE} is damaged"),
        (FILE, lambda file: file.write_text("[1]"), f"{FILE} is damaged"),
    ],
)
def test_damage_of_any_file_is_one_sentence(name, harm, reason, folder, training, tmp_path):
    shutil.copytree(folder / "5", tmp_path / "5")
    harm(max((tmp_path / "5").glob(name), key=lambda file: file.stat().st_size))
    with Checkpoints(tmp_path, vocabulary_hash="abc") as checkpoints:
        for read in (
            lambda: checkpoints.restore(training.abstract),
            lambda: checkpoints.restore_params(training.abstract.params),
        ):
            with pytest.raises(DamagedCheckpointError) as raised:
                read()
            said = str(raised.value)
            assert said.startswith(f"The checkpoint {tmp_path}/5 is damaged (")
            assert f"{reason}): put it back as it was" in said and "\n" not in said


@pytest.fixture(scope="module")
def older(folder, tmp_path_factory) -> pathlib.Path:
    """A checkpoint as versions wrote it that knew of no checksums."""
    there = tmp_path_factory.mktemp("older")
    shutil.copytree(folder / "5", there / "5")
    (there / "5" / FILE).unlink()
    note = there / "5" / "about" / "metadata"
    note.write_text(json.dumps({name: value for name, value in json.loads(note.read_text()).items() if name != MARK}))
    return there


def test_an_older_checkpoint_without_checksums_is_read(older, training, state):
    with Checkpoints(older, vocabulary_hash="abc") as checkpoints:
        assert_same(checkpoints.restore(training.abstract), state)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("state/_METADATA", pathlib.Path.unlink),
        ("state/_METADATA", lambda file: file.write_bytes(b"{")),
        ("about/metadata", pathlib.Path.unlink),
        ("about/metadata", lambda file: file.write_bytes(b"{}")),
        ("state/manifest.ocdbt", lambda file: file.write_bytes(bytes(9))),
        (ARRAYS, pathlib.Path.unlink),
        (ARRAYS, lambda file: file.write_bytes(b"")),
    ],
)
def test_damage_of_an_older_checkpoint_is_one_sentence_where_it_is_noticed(name, harm, older, training, tmp_path):
    shutil.copytree(older / "5", tmp_path / "5")
    for file in (tmp_path / "5").glob(name):
        harm(file)
    with Checkpoints(tmp_path, vocabulary_hash="abc") as checkpoints, pytest.raises(DamagedCheckpointError) as raised:
        checkpoints.restore(training.abstract)
    assert "\n" not in str(raised.value)


def test_a_checksum_is_that_of_the_standard(tmp_path):
    """The check value of CRC32C, with the polynomial of RFC 3720."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "file").write_bytes(b"123456789")
    checksums.write(tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == {"crc32c": {"state/file": [9, "e3069283"]}}


def test_several_processes_read_each_file_once(tmp_path):
    for name in range(5):
        (tmp_path / str(name)).write_bytes(bytes(name))
    checksums.write(tmp_path)
    for name in range(5):
        (tmp_path / str(name)).write_bytes(b"others")
    found = [checksums.find_damage(tmp_path, index, 5) for index in range(5)]
    assert sorted(reason.split()[0] for reason in found) == ["0", "1", "2", "3", "4"]
