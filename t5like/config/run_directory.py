"""The run directory: the names of what lies in it, and which config may go on in it."""

import pathlib
from dataclasses import dataclass
from typing import Any

from t5like.config import Config, presets
from t5like.errors import UserError

RESUMABLE = (
    *("train.steps", "train.directory", "train.non_finite", "train.log_every", "train.save_every", "train.keep"),
    *("train.tensorboard", "train.compilation_cache"),
)
"""Fields that a resumed run may change, besides the mesh, the rules and the evaluation."""
RESUMABLE_GROUPS = ("eval.", "mesh.", "rules.")
TRAINED_GROUPS = ("model.", "optimizer.", "data.vocabulary.")
"""Fields that make a checkpoint what it is, so that reading it cannot change them, besides the two that follow."""
UNTRAINED = ("model.dtype", "model.remat")


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run."""

    path: pathlib.Path

    @property
    def vocabulary(self) -> pathlib.Path:
        return self.path / "vocabulary"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> pathlib.Path:
        return self.path / "samples"

    def claim(self, config: Config) -> dict[str, tuple[Any, Any]]:
        """Writes the config into a new directory, or checks that a used one may go on with it.

        Returns what changed since, by dotted name. Until a run has a checkpoint, any config may take its place.

        Raises:
          UserError: the directory cannot be written, or belongs to another config; the sentence names the fields.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            changed = presets.differences(self.config(), config) if self.exists() else {}
            if any(step.name.isdigit() for step in self.checkpoints.glob("*")):
                refused = {name: pair for name, pair in changed.items() if not _may_change(name)}
                self._refuse(refused, "choose another train.directory, or delete that folder")
            presets.write(config, self.path)
        except OSError as error:
            raise UserError(f"train.directory={self.path} cannot be written: {error.strerror or error}.") from None
        return changed

    def require_same_model(self, config: Config) -> None:
        """Raises `UserError` if the config is of another model than the run's checkpoints."""
        changed = presets.differences(self.config(), config)
        trained = {name: pair for name, pair in changed.items() if name.startswith(TRAINED_GROUPS)}
        self._refuse({name: trained[name] for name in trained if name not in UNTRAINED}, "leave that as it is")

    def _refuse(self, changed: dict[str, tuple[Any, Any]], remedy: str) -> None:
        if changed:
            listed = ", ".join(f"{name} ({old!r} there, {new!r} now)" for name, (old, new) in changed.items())
            raise UserError(f"{self.path} belongs to a run with another {listed}: {remedy}.")

    def exists(self) -> bool:
        """Whether a run has begun here.

        Raises:
          UserError: there are checkpoints, but no config that says what they are.
        """
        found = (self.path / presets.FILE).is_file()
        if not found and self.checkpoints.exists():
            raise UserError(
                f"{self.path} has checkpoints but no {presets.FILE}: put that file back, "
                "or choose another train.directory."
            )
        return found

    def config(self) -> Config:
        """The config that the run was last started with."""
        self.exists()
        return presets.read(self.path)


def _may_change(name: str) -> bool:
    return name in RESUMABLE or name.startswith(RESUMABLE_GROUPS)
