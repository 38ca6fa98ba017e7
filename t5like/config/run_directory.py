"""The run directory: the names of what lies in it, and which config may go on in it."""

import pathlib
from dataclasses import dataclass
from typing import Any

from t5like.config import Config, presets
from t5like.errors import UserError

RESUMABLE = ("train.steps", "train.directory", "train.log_every", "train.save_every", "train.keep", "train.tensorboard")
"""Fields that a resumed run may change, besides the mesh, the rules and the evaluation."""
RESUMABLE_GROUPS = ("eval.", "mesh.", "rules.")


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

        Returns what changed since, by dotted name.

        Raises:
          UserError: the directory cannot be written, or belongs to another config; the sentence names the fields.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            changed = presets.differences(self.config(), config) if self.exists() else {}
            if refused := {name: pair for name, pair in changed.items() if not _may_change(name)}:
                listed = ", ".join(f"{name} ({old!r} there, {new!r} now)" for name, (old, new) in refused.items())
                raise UserError(
                    f"{self.path} belongs to a run with another {listed}: choose another train.directory, "
                    "or delete that folder."
                )
            presets.write(config, self.path)
        except OSError as error:
            raise UserError(f"train.directory={self.path} cannot be written: {error.strerror or error}.") from None
        return changed

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
        return presets.read(self.path)


def _may_change(name: str) -> bool:
    return name in RESUMABLE or name.startswith(RESUMABLE_GROUPS)
