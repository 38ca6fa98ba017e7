"""Checkpoints: Orbax behind the few calls that a run needs.

A checkpoint holds the state (parameters, optimizer state and the step, which is the data's whole state) and a note
of the vocabulary and the versions that wrote it. Saving goes on in the background; a checkpoint appears whole or not
at all.
"""

import importlib.metadata
import pathlib
from types import TracebackType
from typing import Any

import orbax.checkpoint as ocp

from t5like.errors import UserError
from t5like.train.state import State

PACKAGES = ("t5like", "jax", "flax", "optax", "orbax-checkpoint")


class Checkpoints:
    """The checkpoints of one run, `<folder>/<step>/`."""

    def __init__(self, folder: pathlib.Path, keep: int | None = None, vocabulary_hash: str = ""):
        self.folder, self._vocabulary_hash = folder, vocabulary_hash
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, read_only=keep is None, create=keep is not None, cleanup_tmp_directories=keep is not None
        )
        handlers: dict[str, Any] = {"state": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, step: int) -> None:
        """Begins to write the state of a step; returns as soon as it may change again."""
        if step in self.steps():
            return
        about = {"vocabulary_sha256": self._vocabulary_hash, "versions": {n: _version(n) for n in PACKAGES}}
        saved = ocp.args.StandardSave(state), ocp.args.JsonSave(about)  # pyright: ignore[reportCallIssue]
        self._manager.save(step, args=ocp.args.Composite(state=saved[0], about=saved[1]))

    def wait(self) -> None:
        """Returns when everything that was begun is on disk."""
        self._manager.wait_until_finished()

    def restore(self, abstract: State, step: int | None = None) -> State:
        """The state of a step, or the newest, onto the shardings that `abstract` carries.

        Raises:
          UserError: no such checkpoint; one of another vocabulary; or one that does not fit the config.
        """
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.folder} holds no checkpoint: train first.")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise UserError(f"{self.folder} has no step {step}; there are {', '.join(map(str, steps))}.")
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
            about=ocp.args.JsonRestore(),
        )
        try:
            restored: Any = self._manager.restore(step, args=items)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(
                f"The checkpoint {self.folder / str(step)} cannot be read with this config "
                f"({str(error).strip().splitlines()[0].rstrip(':.')}): delete it to go on from the one before."
            ) from error
        written_with = restored.about["vocabulary_sha256"]
        if self._vocabulary_hash and written_with != self._vocabulary_hash:
            raise UserError(f"The checkpoint {self.folder / str(step)} belongs to another vocabulary than the run's.")
        return restored.state


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
