"""Checkpoints: Orbax behind the few calls that a run needs.

A checkpoint holds the state (parameters, optimizer state, the step and the rows skipped, which are the data's whole
state) and a note of the vocabulary and the versions that wrote it. One that was imported has no optimizer state.
Parameters can be read without the rest. Saving goes on in the background; a checkpoint appears whole or not at all.
"""

import contextlib
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Lora, Optimizer
from t5like.errors import UserError
from t5like.model.sharding import Params
from t5like.optim.average import trained
from t5like.runs import checksums
from t5like.runs.directory import is_whole
from t5like.runs.quiet import ignore_late_arrays, without_orbax
from t5like.runs.saving import Kept, Outcome, Saves, failure, reason_of
from t5like.runs.shapes import first_difference, shapes_of, zeros
from t5like.storage import Path, is_remote
from t5like.versions import versions

PACKAGES = ("t5like", "jax", "flax", "optax", "orbax-checkpoint")
ADDED = ("skipped", "recent")
"""Fields of a state that checkpoints of earlier versions, or of other settings, lack."""


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


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be restored, for a reason that is part of a sentence; others of the run may be good."""

    def __init__(self, checkpoint: Path, reason: str):
        super().__init__(
            f"The checkpoint {checkpoint} is damaged ({reason}): put it back as it was, or name another step; where "
            "none is named, the last good one is taken."
        )
        self.reason = reason


class Checkpoints:
    """The checkpoints of one run, `<folder>/<step>/`."""

    def __init__(self, folder: Path, keep: int | None = None, vocabulary_hash: str = "", keep_every: int | None = None):
        """Without `keep` the checkpoints can only be read; with it, the newest `keep` of them stay, the best, and those
        of every `keep_every`th step. A `vocabulary_hash` is written into checkpoints, and those of another vocabulary
        are not read."""
        self.folder, self._vocabulary_hash = folder, vocabulary_hash
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(without_orbax())
        if keep is not None:
            ignore_late_arrays()
        with self._reaching():
            self._saves = Saves(folder, None if keep is None else Kept(keep, keep_every))
        self._manager = self._saves.manager

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._quiet, self._reaching():
            self._saves.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending; one of them may be damaged."""
        return sorted(step for step in self._manager.all_steps() if is_whole(self.folder / str(step)))

    def save(self, state: State, step: int, best: int | None = None) -> None:
        """Begin to write the state of a step in the background, unless it is there; return as soon as its arrays may be
        donated. The checkpoint of the step `best` stays. `outcome` says how it ended, and is asked for before the next.
        """
        self._saves.begin(step, self._items(state), best)

    def save_params(self, params: Params, step: int) -> None:
        """Write a checkpoint without optimizer state, which other runs can start from.

        Raises:
          UserError: it cannot be written.
        """
        alone: Any = None  # in the optimizer state's stead
        self.save(State(np.array(step, np.int32), params, alone), step)
        self.wait()

    def ended(self) -> Outcome | None:
        """The outcome of the save that was begun in this process, without waiting; None while it goes on."""
        return self._saves.own_outcome() if self._saves.over() else None

    def finish(self) -> None:
        """Wait until the save that was begun has ended in this process, well or not."""
        self._saves.own_outcome()

    def outcome(self) -> Outcome | None:
        """Wait until the save that was begun has ended; None if there is none. All processes get the same."""
        return self._saves.outcome()

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps, which a run takes again."""
        with self._reaching():
            for later in [each for each in self.steps() if each > step]:
                self._manager.delete(later)

    def wait(self) -> None:
        """Wait until what was begun is on disk.

        Raises:
          UserError: it could not be written.
          StorageError: its bucket did not answer.
        """
        outcome = self.outcome()
        if outcome and outcome.reason:
            raise failure(self.folder, outcome)

    def require_whole(self, step: int) -> None:
        """Hold a checkpoint against its checksums, each process a share of it.

        Raises:
          DamagedCheckpointError: it is not as it was written.
          UserError: it cannot be read.
        """
        if reason := checksums.agreed_damage(self.folder / str(step)):
            raise DamagedCheckpointError(self.folder / str(step), reason)

    def reload(self) -> None:
        """Look again at which checkpoints there are."""
        self._manager.reload()

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
        self.require_whole(step)
        self.require_optimizer_state(step)
        self._require_fit(step, abstract.params)
        fields, there = abstract._asdict(), self._described(step)
        lacking = {name for name in ADDED if shapes_of(there.get(name)) != shapes_of(fields[name])}
        asked = {name: fields[name] for name in fields if name not in lacking and fields[name] is not None}
        found = self._read(step, asked, partial_restore=not there.keys() <= asked.keys())
        return State(**found, **{name: jax.tree.map(zeros, fields[name]) for name in fields.keys() - asked.keys()})

    def restore_params(
        self, abstract: Params, step: int | None = None, left_out: Collection[str] = ()
    ) -> tuple[int, Params]:
        """The step and the parameters of a step, or the newest, onto the shardings that `abstract` carries.

        Neither optimizer state nor the parameters whose paths are in `left_out` are read.

        Raises:
          UserError: no such checkpoint; one of another vocabulary; or one with other parameters than `abstract`.
        """
        step = self._existing(step)
        self.require_whole(step)
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
        self.require_whole(step)
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

    def _items(self, state: State) -> Any:
        about = {"vocabulary_sha256": self._vocabulary_hash, "versions": versions(PACKAGES), checksums.MARK: "crc32c"}
        args: Any = ocp.args  # their fields are not known to type checkers
        return args.Composite(state=args.PyTreeSave(_saved(state)), about=args.JsonSave(about))

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
        if not (self.folder / str(step) / checksums.FILE).exists():
            ignore_late_arrays()
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
        """Turn the errors of Orbax, which are of all kinds, into a sentence."""
        try:
            with self._reaching():
                yield
        except (UserError, MemoryError, PermissionError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:
            raise DamagedCheckpointError(self.folder / str(step), reason_of(error)) from error


def _saved(state: State) -> dict[str, Any]:
    """The fields of a state that a checkpoint holds; of those that earlier versions do not know, only what matters."""
    matters = {"skipped": int(jax.device_get(state.skipped)) > 0, "recent": state.recent is not None}
    return {name: value for name, value in state._asdict().items() if matters.get(name, True)}
