"""The run directory: the names of its files, and the config in it. It may lie elsewhere than where it was written."""

import dataclasses
import pathlib
import re
from dataclasses import dataclass

from t5like.config import Config, Source, Vocabulary, presets
from t5like.config.conditions import effective
from t5like.errors import UserError
from t5like.storage import Path, copy_folder, is_remote, path_of

COMMITTED = "commit_success.txt"
"""What Orbax writes last into a checkpoint in a bucket, where no folder can be renamed."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run."""

    path: Path

    @property
    def vocabulary(self) -> Path:
        return self.path / "vocabulary"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def import_record(self) -> Path:
        """The source of an imported run; runs that were trained have no such file."""
        return self.path / "import.json"

    @property
    def base(self) -> Path:
        """The run and step whose parameters a run with adapters leaves as they are; others have no such file."""
        return self.path / "base.json"

    @property
    def hugging_face(self) -> Path:
        """Files of the imported folder that an export writes back; a run that starts from another has its."""
        return self.path / "hugging_face"

    def take_hugging_face(self, source: "RunDirectory") -> None:
        """Copy the files that another run keeps of a Hugging Face folder, for a run that starts with its parameters."""
        if source.hugging_face.is_dir():
            copy_folder(source.hugging_face, self.hugging_face)

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, ascending."""
        named = [step for step in self.checkpoints.glob("*") if is_step(step.name)]
        return sorted(int(step.name) for step in named if is_whole(step))

    def begun(self) -> bool:
        """True if the run has a checkpoint."""
        return self.exists() and bool(self.steps())

    def exists(self) -> bool:
        """True if the directory holds a run, with or without a checkpoint.

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


def is_step(name: str) -> bool:
    """True if a file is named as the folder of a step's checkpoint is, such as `500`."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def is_whole(checkpoint: Path) -> bool:
    """True if a folder holds a checkpoint that was written to its end, be it damaged since; an empty one holds none."""
    if is_remote(checkpoint):
        return (checkpoint / COMMITTED).exists()
    return checkpoint.is_dir() and any(checkpoint.iterdir())


def named_checkpoint(given: str) -> tuple[RunDirectory, int | None]:
    """The run, and the step if one is named, of `runs/x` or `runs/x/checkpoints/500`."""
    path = path_of(given)
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        return RunDirectory(path.parent.parent), int(path.name)
    return RunDirectory(path), None


def kept_vocabulary(settings: Vocabulary, folder: str) -> Vocabulary:
    """The settings of a run's vocabulary as it lies in `folder` of that run, for configs of other text."""
    if settings.kind == "bytes":
        return settings
    return Vocabulary(**effective(Vocabulary, vars(settings) | {"kind": "file", "path": folder}))


def config_of(source: str) -> Config:
    """The config of a SOURCE, a preset or a run directory; that of a run says where the run lies now."""
    given = RunDirectory(presets.find(source))
    return relocated(given.config(), source) if given.path.is_dir() else presets.load(source)


def relocated(config: Config, directory: str) -> Config:
    """The config of a run that lies in `directory`, perhaps another one than when it was written."""
    config = with_vocabulary_in(_with_data_of(config, path_of(directory)), directory)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, directory=directory))


def _with_data_of(config: Config, directory: Path) -> Config:
    """The config with relative paths of its data that lead somewhere not from this working folder, but from the one
    that its run was started in, of which runs/a is the end of `directory`:
    store of runs/a -> /home/me/store for /home/me/runs/a."""
    started = path_of(config.train.directory)
    if is_remote(directory) or started.is_absolute() or not (directory / "store.json").is_file():
        return config
    parts, count = directory.resolve().parts, len(started.parts)
    if parts[-count:] != started.parts:
        return config
    root, data = pathlib.Path(*parts[:-count]), config.data
    sources = tuple(dataclasses.replace(s, **_from(root, s)) for s in data.sources)
    store = _path_from(root, data.store)
    return dataclasses.replace(config, data=dataclasses.replace(data, store=store, sources=sources))


def _from(root: pathlib.Path, source: Source) -> dict[str, str]:
    """The paths of a source as they lead from `root`; names of splits are none."""
    names = ("path",) if source.kind in ("tfds", "arrow") else ("path", "validation", "test")
    return {name: _path_from(root, getattr(source, name)) for name in names}


def _path_from(root: pathlib.Path, path: str) -> str:
    """A relative path or pattern from `root`, where that leads somewhere and the path itself does not."""
    if not path or is_remote(path) or pathlib.Path(path).expanduser().is_absolute() or " " in path:
        return path
    fixed = re.split(r"[*?\[{]", path, maxsplit=1)[0]
    known = fixed if fixed == path else fixed.rpartition("/")[0]
    there = root / known
    return str(root / path) if there.exists() and not pathlib.Path(known).exists() else path


def with_vocabulary_in(config: Config, directory: str) -> Config:
    """The config with its vocabulary's path in `directory`, if that was in the run directory:
    runs/a/vocabulary/spiece.model of runs/a -> old/b/vocabulary/spiece.model for old/b."""
    settings = config.data.vocabulary
    old, new, file = (path_of(p) for p in (config.train.directory, directory, settings.path))
    if not (settings.path and file.is_relative_to(old)) or old.resolve() == new.resolve():
        return config
    settings = dataclasses.replace(settings, path=str(new / file.relative_to(old)))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, vocabulary=settings))
