"""The start of a fine-tuning run: a run with its vocabulary, or a preset."""

from typing import NamedTuple

from t5like.config import Config, Vocabulary, presets
from t5like.data import vocabulary as pieces
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory, kept_vocabulary, named_checkpoint
from t5like.storage import path_of


class Base(NamedTuple):
    """The start of a fine-tuning run."""

    config: Config
    start: str = ""
    """Run directory, or one of its checkpoints, whose parameters are taken; empty starts from scratch."""
    vocabulary: Vocabulary | None = None
    """The run's vocabulary as it lies there; None: that of the config."""
    has_cls: bool = False
    """The vocabulary has a CLS, whose vector stands for a text."""

    @property
    def named(self) -> str:
        """The run, or the model's family, in sentences."""
        return self.start or "the preset"


def base_of(run: str) -> Base:
    """The start that a RUN or preset gives to a fine-tuning run.

    Raises:
      UserError: it is neither, or a run without a checkpoint.
    """
    directory, _ = named_checkpoint(str(presets.find(run)))
    if not directory.path.is_dir():
        return Base(presets.load(run))
    config = directory.config()
    if not directory.steps():
        raise UserError(f"{run} holds no checkpoint: train there first, or name a preset to start from scratch.")
    folder = str(RunDirectory(directory.path).vocabulary)
    return Base(config, run, kept_vocabulary(config.data.vocabulary, folder))


def vocabulary_of(base: Base) -> pieces.Vocabulary | None:
    """The vocabulary of the run, or of a preset that names one that is there; None where it is learned later."""
    if base.start:
        return pieces.open_vocabulary(named_checkpoint(base.start)[0].vocabulary)
    settings = base.config.data.vocabulary
    if settings.kind == "bytes":
        return pieces.make_vocabulary(pieces.Bytes(), settings)
    file = path_of(settings.path)
    there = settings.path and file.exists()
    return pieces.make_vocabulary(pieces.load_pieces(file, settings.lowercase), settings) if there else None
