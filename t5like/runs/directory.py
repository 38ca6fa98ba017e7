"""The run directory: the names of what lies in it, and which config may go on in it."""

import dataclasses
import pathlib
import shutil
from dataclasses import dataclass
from typing import Any, NamedTuple

from t5like.config import Config, Data, presets
from t5like.config.training import ENDING
from t5like.errors import UserError

RESUMABLE = (
    *("train.steps", "train.directory", "train.non_finite", "train.log_every", "train.save_every", "train.keep"),
    *("train.tensorboard", "train.compilation_cache", "train.profile_steps", "train.accumulate", "model.remat"),
)
"""Fields that a resumed run may change, besides the mesh, the rules, the evaluation and the schedule: training goes on
with the numbers that it would have had."""
SCHEDULE = tuple(
    f"optimizer.{name}" for name in ("learning_rate", "schedule", "warmup", "hold", "decay", "final", "schedule_steps")
)
"""Fields that make the learning rate. A resumed run may change them, and says so with both rates."""
RESUMABLE_GROUPS = ("eval.", "mesh.", "rules.")
TRAINED_GROUPS = ("model.", "optimizer.", "data.vocabulary.")
"""Fields that make a checkpoint what it is, so that reading it cannot change them, besides those of `UNTRAINED`."""
LEARNED_FROM = ("sources", "filters", "held_out", "vocabulary")
"""Fields of `data` that a learned vocabulary depends on."""
UNTRAINED = ("model.dtype", "model.remat", "model.attention")


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

    @property
    def import_record(self) -> pathlib.Path:
        """Says what an imported run was imported from; runs that were trained have none."""
        return self.path / "import.json"

    @property
    def hugging_face(self) -> pathlib.Path:
        """Files of the imported folder that an export writes back; a run that starts from another has its."""
        return self.path / "hugging_face"

    def take_hugging_face(self, source: "RunDirectory") -> None:
        """Copies what another run keeps of a Hugging Face folder, for a run that starts with its parameters."""
        if source.hugging_face.is_dir():
            shutil.copytree(source.hugging_face, self.hugging_face, dirs_exist_ok=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(int(step.name) for step in self.checkpoints.glob("*") if step.name.isdecimal())

    def resumed(self, config: Config) -> Config:
        """The config with the end of the schedule that the run has had so far, if it has a checkpoint; one that the
        config names stays. So train.steps may change without a change of the rate.

        Raises:
          UserError: the schedule ends with a rate of 0 before train.steps.
        """
        if config.optimizer.schedule_steps is not None or config.optimizer.schedule not in ENDING or not self.begun():
            return config
        before = self.config()
        end = before.optimizer.end(before.train.steps)
        if before.optimizer.schedule not in ENDING or end == config.train.steps:
            return config
        return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, schedule_steps=end))

    def begun(self) -> bool:
        """True if the run has a checkpoint."""
        return self.exists() and bool(self.steps())

    def claim(self, config: Config) -> dict[str, tuple[Any, Any]]:
        """Writes the config into a new directory, or checks that a used one may go on with it.

        Returns what changed since, by dotted name. Until a run has a checkpoint, any config may take its place.

        Raises:
          UserError: the directory cannot be written, or belongs to another config; the sentence names the fields.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            changed = self.differences(config) if self.exists() else {}
            if self.steps():
                _refuse_other_masks(config, changed)
                refused = {name: pair for name, pair in changed.items() if not _may_change(name)}
                self._refuse(refused, "choose another train.directory, or delete that folder")
            presets.write(config, self.path)
        except OSError as error:
            raise UserError(f"train.directory={self.path} cannot be written: {error.strerror or error}.") from None
        return changed

    def require_same_model(self, config: Config) -> None:
        """Raises `UserError` if the config is of another model than the run's checkpoints."""
        changed = self.differences(config)
        trained = {name: pair for name, pair in changed.items() if name.startswith(TRAINED_GROUPS)}
        self._refuse({name: trained[name] for name in trained if name not in UNTRAINED}, "leave that as it is")

    def differences(self, config: Config) -> dict[str, tuple[Any, Any]]:
        """Dotted name -> (here, there) of the fields in which another config differs from the run's own; a vocabulary
        that lies in the run and was moved with it does not count."""
        return presets.differences(_with_vocabulary_in(self.config(), config.train.directory), config)

    def _refuse(self, changed: dict[str, tuple[Any, Any]], remedy: str) -> None:
        if changed:
            raise UserError(f"{self.path} belongs to a run with another {listed(changed)}: {remedy}.")

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


class Start(NamedTuple):
    """The checkpoint whose parameters another run starts with."""

    run: RunDirectory
    step: int


def find_start(config: Config) -> Start:
    """The checkpoint that `train.init_from` names.

    Raises:
      UserError: it is the run's own directory, no run directory, or there is no such checkpoint.
    """
    given, path = f"train.init_from={config.train.init_from}", pathlib.Path(config.train.init_from).expanduser()
    named = path.name.isdecimal() and path.parent.name == "checkpoints"
    run = RunDirectory(path.parent.parent if named else path)
    if run.path.resolve() == pathlib.Path(config.train.directory).expanduser().resolve():
        raise UserError(f"{given} is the run's own directory: choose another train.directory, or leave it out.")
    if not (run.path / presets.FILE).is_file():
        raise UserError(f"{given} is not a run directory: {run.path} has no {presets.FILE}.")
    if not (steps := run.steps()):
        raise UserError(f"{given} holds no checkpoint: train there first, or name another run.")
    if named and int(path.name) not in steps:
        raise UserError(f"{given} is not there: {run.path} has checkpoints of the steps {', '.join(map(str, steps))}.")
    return Start(run, int(path.name) if named else steps[-1])


def moved(config: Config, directory: str) -> Config:
    """The config of a run that lies in `directory`, to which it may have been moved since it was written."""
    config = _with_vocabulary_in(config, directory)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, directory=directory))


def is_other_text(one: Data, other: Data) -> bool:
    """Whether a vocabulary that is learned from one may be another than what is learned from the other."""
    return any(getattr(one, name) != getattr(other, name) for name in LEARNED_FROM)


def listed(changed: dict[str, tuple[Any, Any]]) -> str:
    """Differences of two configs as part of a sentence."""
    return ", ".join(f"{name} ({old!r} there, {new!r} now)" for name, (old, new) in changed.items())


def _with_vocabulary_in(config: Config, directory: str) -> Config:
    """The config with a vocabulary file that lay in its run directory where it lies if that is `directory` now."""
    settings = config.data.vocabulary
    old, new, file = (pathlib.Path(p).expanduser() for p in (config.train.directory, directory, settings.path))
    if not (settings.path and file.is_relative_to(old)) or old.resolve() == new.resolve():
        return config
    settings = dataclasses.replace(settings, path=str(new / file.relative_to(old)))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, vocabulary=settings))


def _may_change(name: str) -> bool:
    return name in (*RESUMABLE, *SCHEDULE) or name.startswith(RESUMABLE_GROUPS)


def _refuse_other_masks(config: Config, changed: dict[str, tuple[Any, Any]]) -> None:
    """Refuses what would change a resumed run's numbers: each part of an accumulated batch draws its own dropout."""
    if config.model.dropout and "train.accumulate" in changed:
        old, new = changed["train.accumulate"]
        raise UserError(
            f"train.accumulate={new} draws other masks for model.dropout={config.model.dropout} than the run's {old}, "
            "so it would not go on with the same numbers: leave it as it was; mesh and model.remat may change instead."
        )
