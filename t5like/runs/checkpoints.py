"""Checkpoints: Orbax behind the few calls that a run needs.

A checkpoint holds the state (parameters, optimizer state, the step and the rows skipped, which are the data's whole
state) and a note of the vocabulary and the versions that wrote it. One that was imported has no optimizer state.
Parameters can be read without the rest. Saving goes on in the background; a checkpoint appears whole or not at all.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Lora, Optimizer
from t5like.errors import UserError
from t5like.model.network import path_name
from t5like.model.sharding import Params
from t5like.optim.average import trained
from t5like.storage import Path, is_remote
from t5like.versions import versions

PACKAGES = ("t5like", "jax", "flax", "optax", "orbax-checkpoint")
ADDED = ("skipped", "recent")
"""Fields of a state that checkpoints of earlier versions, or of other settings, lack."""
Shapes = Mapping[str, tuple[int, ...]]
"""Path of each parameter, such as `decoder/blocks/self/query`, to its shape."""


class State(NamedTuple):
    """A run after `step` steps. The data's whole state is `step` and `skipped`, int32 scalars: rows are addressed by
    number, and those of the steps to come lie behind as many that no step learns from. `recent` is what a step knows
    of those before it (`train.spikes.Recent`), if it needs to.

    The same tree holds arrays, their shapes (`jax.ShapeDtypeStruct`) or their shardings.
    """

    step: Any
    params: Params
    opt_state: optax.OptState
    skipped: Any = np.zeros((), np.int32)
    recent: Any = None


class NewestAndBest:
    """Orbax's rule of what stays: the newest checkpoints, and that of the step `best`."""

    def __init__(self, newest: int | None):
        self._newest = ocp.checkpoint_managers.LatestN(newest)
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = self._newest.should_preserve(checkpoints, context=context)
        return [stays or each.step == self.best for stays, each in zip(newest, checkpoints, strict=True)]


class Checkpoints:
    """The checkpoints of one run, `<folder>/<step>/`."""

    def __init__(self, folder: Path, keep: int | None = None, vocabulary_hash: str = ""):
        """Without `keep` the checkpoints can only be read; with it, the newest `keep` of them stay, and the best. A
        `vocabulary_hash` is written into checkpoints, and those of another vocabulary are not read."""
        self.folder, self._vocabulary_hash, self._kept = folder, vocabulary_hash, NewestAndBest(keep)
        writes = keep is not None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept,
            read_only=not writes,
            create=writes,
            cleanup_tmp_directories=writes,
            temporary_path_class=_committed_by_file() if is_remote(folder) else None,
        )
        handlers = ocp.handlers.create_default_handler_registry(
            state=ocp.PyTreeCheckpointHandler(), about=ocp.JsonCheckpointHandler()
        )
        with self._reaching():
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options, handler_registry=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._reaching():
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, step: int, best: int | None = None) -> None:
        """Begin to write the state of a step in the background; return as soon as its arrays may be donated. The
        checkpoint of the step `best` stays."""
        self._kept.best = best
        if step in self.steps():
            return
        about = {"vocabulary_sha256": self._vocabulary_hash, "versions": versions(PACKAGES)}
        saved = ocp.args.PyTreeSave(_saved(state)), ocp.args.JsonSave(about)  # pyright: ignore[reportCallIssue]
        with self._reaching():
            self._manager.save(step, args=ocp.args.Composite(state=saved[0], about=saved[1]))

    def save_params(self, params: Params, step: int) -> None:
        """Begin to write a checkpoint without optimizer state, which other runs can start from."""
        alone: Any = None  # in the optimizer state's stead
        self.save(State(np.array(step, np.int32), params, alone), step)

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps, which a run takes again."""
        with self._reaching():
            for later in [each for each in self.steps() if each > step]:
                self._manager.delete(later)

    def wait(self) -> None:
        """Wait until everything that was begun is on disk."""
        with self._reaching():
            self._manager.wait_until_finished()

    def param_shapes(self, step: int | None = None) -> dict[str, tuple[int, ...]]:
        """Path and shape of every parameter of a step, or the newest, without reading any.

        Raises:
          UserError: there is no such checkpoint, or it is damaged.
        """
        return shapes_of(self._described(self._existing(step))["params"])

    def require_optimizer_state(self, step: int | None = None) -> None:
        """Raises `UserError` if the checkpoint of a step, or the newest, has parameters alone."""
        if self._described(self._existing(step))["opt_state"] is None:
            run = self.folder.parent
            raise UserError(
                f"{run} holds parameters without an optimizer state, with which no training can go on: start another "
                f"run from it, `t5like train {run} --train.directory runs/NEW --train.init_from {run}`."
            )

    def require_same_optimizer(self, abstract: State, step: int) -> None:
        """Raises `UserError` if the optimizer state of a step is of another optimizer than that of `abstract`, or of
        other parameters."""
        self.require_optimizer_state(step)
        there = shapes_of(self._described(step)["opt_state"])
        if first_difference(there, shapes_of(abstract.opt_state)):
            raise UserError(
                f"The optimizer state of {self.folder / str(step)} is not that of these settings: leave the optimizer, "
                "its frozen parts, and whether it decays weights as they are there."
            )

    def restore(self, abstract: State, step: int | None = None) -> State:
        """The state of a step, or the newest, onto the shardings that `abstract` carries. Fields that the checkpoint
        lacks (`ADDED`) are 0: no row is skipped, and nothing is recent.

        Raises:
          UserError: no such checkpoint; one without optimizer state or of another vocabulary; or one that does not fit
            the config.
        """
        step = self._existing(step)
        self.require_optimizer_state(step)
        self._require_fit(step, abstract.params)
        fields, there = abstract._asdict(), self._described(step)
        lacking = {name for name in ADDED if shapes_of(there.get(name)) != shapes_of(fields[name])}
        asked = {name: fields[name] for name in fields if name not in lacking and fields[name] is not None}
        found = self._read(step, asked, partial_restore=not there.keys() <= asked.keys())
        return State(**found, **{name: jax.tree.map(_zeros, fields[name]) for name in fields.keys() - asked.keys()})

    def restore_params(
        self, abstract: Params, step: int | None = None, left_out: Collection[str] = ()
    ) -> tuple[int, Params]:
        """The step and the parameters of a step, or the newest, onto the shardings that `abstract` carries.

        Neither optimizer state nor the parameters whose paths are in `left_out` are read.

        Raises:
          UserError: no such checkpoint; one of another vocabulary; or one with other parameters than `abstract`.
        """
        step = self._existing(step)
        self._require_fit(step, abstract, left_out)
        return step, self._read(step, {"params": abstract}, partial_restore=True)["params"]

    def restore_averaged(
        self, abstract: Params, settings: Optimizer, lora: Lora, step: int | None = None
    ) -> tuple[int, Params]:
        """As `restore_params`, with the averages that `train.ema` keeps in the place of what is trained.

        Raises:
          UserError: as there, or the checkpoint has no averages.
        """
        step = self._existing(step)
        self._require_fit(step, abstract)
        described = self._described(step)["opt_state"]
        if not (isinstance(described, dict) and "average" in described):
            raise UserError(
                f"{self.folder / str(step)} holds no averaged parameters, which train.ema keeps: leave eval.ema out."
            )
        moving, flat = trained(abstract, settings, lora), flatten_dict(abstract, sep="/")
        still = unflatten_dict({path: flat[path] for path in flat.keys() - flatten_dict(moving, sep="/")}, sep="/")
        asked = {"opt_state": {"average": moving}} | ({"params": still} if still else {})
        found = self._read(step, asked, partial_restore=True)
        parts = [flatten_dict(part, sep="/") for part in (found.get("params", {}), found["opt_state"]["average"])]
        return step, unflatten_dict(parts[0] | parts[1], sep="/")

    def _existing(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.folder} holds no checkpoint: train first.")
        if step is not None and step not in steps:
            raise UserError(f"{self.folder} has no step {step}; there are {', '.join(map(str, steps))}.")
        return steps[-1] if step is None else step

    def _described(self, step: int) -> dict[str, Any]:
        """The tree of a step's state, with the metadata of each array (shape and type) in its stead."""
        with self._sentences(step):
            described: Any = self._manager.metadata(step).item_metadata
            if described.state is None:
                raise ValueError("its description is missing")
            return described.state.tree

    def _require_fit(self, step: int, abstract: Params, left_out: Collection[str] = ()) -> None:
        there = {path: shape for path, shape in self.param_shapes(step).items() if path not in left_out}
        if difference := first_difference(there, shapes_of(abstract)):
            raise UserError(
                f"The checkpoint {self.folder / str(step)} cannot be read with this config: {difference}; set model.* "
                "to the same as there."
            )

    def _read(self, step: int, abstract: Any, partial_restore: bool = False) -> Any:
        """Read a checkpoint in the structure of `abstract`. With `partial_restore`, nothing else of it is read, and
        leaves that it lacks stay abstract."""
        args: Any = ocp.args  # their fields are not known to type checkers
        shardings = ocp.checkpoint_utils.construct_restore_args(abstract)
        state = args.PyTreeRestore(abstract, restore_args=shardings, partial_restore=partial_restore)
        with self._sentences(step):
            about = self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]
            if self._vocabulary_hash not in ("", about["vocabulary_sha256"]):
                raise UserError(
                    f"The checkpoint {self.folder / str(step)} belongs to another vocabulary than the run's."
                )
            return self._manager.restore(step, args=args.Composite(state=state))["state"]

    def _reaching(self) -> contextlib.AbstractContextManager[None]:
        if not is_remote(self.folder):
            return contextlib.nullcontext()
        from t5like.runs import bucket_checkpoints

        return bucket_checkpoints.errors(self.folder)

    @contextlib.contextmanager
    def _sentences(self, step: int) -> Iterator[None]:
        """Turn the errors of Orbax into a sentence."""
        try:
            with self._reaching():
                yield
        except (ValueError, OSError, KeyError) as error:
            raise UserError(
                f"The checkpoint {self.folder / str(step)} cannot be read "
                f"({str(error).strip().splitlines()[0].rstrip(':.')}): delete it to go on from the one before."
            ) from error


def _committed_by_file() -> type[ocp.path.atomicity.CommitFileTemporaryPath]:
    """Make ready for checkpoints in a bucket; they are whole once a file says so, since folders are not renamed."""
    from t5like.runs.bucket_checkpoints import open_buckets

    open_buckets()
    return ocp.path.atomicity.CommitFileTemporaryPath


def _saved(state: State) -> dict[str, Any]:
    """The fields of a state that a checkpoint holds; of those that earlier versions do not know, only what matters."""
    matters = {"skipped": int(jax.device_get(state.skipped)) > 0, "recent": state.recent is not None}
    return {name: value for name, value in state._asdict().items() if matters.get(name, True)}


def _zeros(abstract: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros in the place of an abstract array."""
    part = lambda index: np.zeros(abstract.shape, abstract.dtype)[index]  # noqa: E731
    if abstract.sharding is None:
        return jnp.zeros(abstract.shape, abstract.dtype)
    return jax.make_array_from_callback(abstract.shape, abstract.sharding, part)


def shapes_of(params: Any) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of a tree."""
    return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def first_difference(there: Shapes, here: Shapes) -> str | None:
    """The first difference of two trees of parameters, as part of a sentence; None where they agree."""
    for path in sorted(there.keys() | here.keys()):
        if there.get(path) != here.get(path):
            return f"the parameter {path} is {there.get(path, 'missing')} there and {here.get(path, 'missing')} here"
    return None
