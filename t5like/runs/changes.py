"""Changes of a run's config: those that a resumed run may have, and those that commands which only read it may have.

Training goes on with the numbers that it would have had, so all that would change them is refused by name.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from t5like.config import Config, Data, Vocabulary, presets
from t5like.config.training import ENDING
from t5like.errors import UserError
from t5like.lock import locked
from t5like.runs.branch import OWN, command_for, may_branch
from t5like.runs.directory import RunDirectory, kept_vocabulary, named_checkpoint, relocated, with_vocabulary_in
from t5like.storage import path_of

RESUMABLE = (
    *("train.steps", "train.directory", "train.non_finite", "train.log_every", "train.save_every", "train.keep"),
    *("train.epochs", "train.best", "train.patience", "train.skips", "train.keep_every", "train.failed_saves"),
    *("train.spike_loss", "train.spike_norm", "train.spike_window", "train.save_minutes", "train.grace"),
    *("train.tensorboard", "train.compilation_cache", "train.profile_steps", "train.accumulate", "model.remat"),
)
"""Fields that a resumed run may change without a change of its numbers, besides those of `RESUMABLE_GROUPS`."""
RESUMABLE_GROUPS = ("eval.", "mesh.", "rules.", "train.limits.")
SCHEDULE = tuple(
    f"optimizer.{name}" for name in ("learning_rate", "schedule", "warmup", "hold", "decay", "final", "schedule_steps")
)
"""Fields that make the learning rate. A resumed run may change them, and says so with both rates."""
TRAINED_GROUPS = ("model.", "optimizer.", "data.vocabulary.")
"""Fields that a checkpoint was trained with, all but those of `UNTRAINED`: reading it cannot change them."""
UNTRAINED = ("model.dtype", "model.remat", "model.attention")
"""Fields of the model that say how it is computed and not what it is."""
LEARNED_FROM = ("sources", "filters", "held_out", "vocabulary")
"""Fields of `data` that a learned vocabulary depends on."""
Changes = dict[str, tuple[Any, Any]]
"""Dotted name of a field -> its value in the run and its value now."""


@contextlib.contextmanager
def writing(run: RunDirectory) -> Iterator[None]:
    """Hold the lock of a run directory.

    Raises:
      TransientError: another process holds it.
      UserError: the directory cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(run.path, "train"))
        except OSError as error:
            raise _unwritable(run, error) from None
        yield


def acquire(run: RunDirectory, config: Config) -> Changes:
    """Write the config into a new directory, or check that a used one may go on with it; returns what changed since.

    Until a run has a checkpoint, any config may take its place.

    Raises:
      UserError: the directory cannot be written, or belongs to another config, or the rows would be others; the
        sentence names the fields, or the files.
    """
    from t5like.runs.rows import check_rows, knows_rows  # with numpy, which mistakes of the config need not wait for

    try:
        run.path.mkdir(parents=True, exist_ok=True)
        changed = differences(run, config) if run.exists() else {}
        if run.steps():
            _refuse_other_masks(config, changed)
            knows = knows_rows(run)
            kept = {name for name in changed if _may_change(name) or (knows and _is_place(config.data, name))}
            kept |= {"train.init_from"} & changed.keys() if config.model.lora.rank else set()
            refused = {name: pair for name, pair in changed.items() if name not in kept}
            remedy = "or delete that folder"
            known = presets.leaves(run.config()).keys() & presets.leaves(config).keys() if refused else set[str]()
            if refused and all(may_branch(name) and name in known for name in refused):
                remedy = f"or go on from it in a new folder by `{command_for(run, refused)}`"
            _refuse(run, refused, f"choose another train.directory, {remedy}")
            check_rows(run, config)
        presets.write(config, run.path)
    except OSError as error:
        raise _unwritable(run, error) from None
    return changed


def _unwritable(run: RunDirectory, error: OSError) -> UserError:
    return UserError(f"train.directory={run.path} cannot be written: {error.strerror or error}.")


def require_branch(run: RunDirectory, config: Config) -> None:
    """Raises `UserError` if a branch of the run cannot have the config: its state would be another one."""
    changed = {name: pair for name, pair in branch_changes(run, config).items() if not may_branch(name)}
    _refuse(run, changed, "keep that in a branch, or start anew from its parameters by train.init_from")


def branch_changes(run: RunDirectory, config: Config) -> Changes:
    """The fields that a branch of the run changes; its vocabulary is the same, wherever it lies."""
    changed = differences(run, config).items()
    return {n: pair for n, pair in changed if n not in OWN and not n.startswith("data.vocabulary.")}


def require_unbegun(run: RunDirectory, config: Config) -> None:
    """Raises `UserError` if the directory of a branch has a run that is not the very same one."""
    if run.begun():
        changed = {name: pair for name, pair in differences(run, config).items() if not _goes_on(name)}
        _refuse(run, changed, "choose another train.directory for this one")


def with_schedule_of(run: RunDirectory, config: Config) -> Config:
    """The config with the end of the schedule that the run has had so far, if it has a checkpoint; one that the config
    names stays. So train.steps may change without a change of the rate.

    Raises:
      UserError: the schedule ends with a rate of 0 before train.steps.
    """
    settings = config.optimizer
    ends = settings.schedule in ENDING and settings.schedule_steps is None
    if not (ends and config.train.steps and run.begun()):
        return config
    before = run.config()
    end = before.optimizer.end(before.train.steps)
    if before.optimizer.schedule not in ENDING or end == config.train.steps:
        return config
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, schedule_steps=end))


def with_words_of(run: RunDirectory, config: Config) -> Config:
    """The config with the words that a run masks which began before there was a choice of them."""
    given = config.data.objective
    if not (given.whole_words and given.words == "marks" and run.begun()):
        return config
    if run.config().data.objective.words != "pieces":
        return config
    objective = dataclasses.replace(given, words="pieces")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, objective=objective))


def require_same_model(run: RunDirectory, config: Config) -> None:
    """Raises `UserError` if the config is of another model than the run's checkpoints."""
    changed = differences(run, config)
    trained = {name: pair for name, pair in changed.items() if name.startswith(TRAINED_GROUPS)}
    _refuse(run, {name: trained[name] for name in trained if name not in UNTRAINED}, "leave that as it is")


def differences(run: RunDirectory, config: Config) -> Changes:
    """The fields in which a config differs from the run's own; the path of a vocabulary that lies in the run directory
    and was relocated with it does not count, nor does the folder of compiled programs, which no run says."""
    changed = presets.differences(with_vocabulary_in(run.config(), config.train.directory), config)
    return {name: pair for name, pair in changed.items() if name != "train.compilation_cache"}


def listed(changed: Changes) -> str:
    """Differences of two configs as part of a sentence."""
    return ", ".join(f"{name} ({old!r} there, {new!r} now)" for name, (old, new) in changed.items())


def is_other_text(one: Data, other: Data) -> bool:
    """True if a vocabulary learned from one may be another than one learned from the other."""
    return any(getattr(one, name) != getattr(other, name) for name in LEARNED_FROM)


def inherited_vocabulary(data: Data, init_from: str, directory: str, other_text: bool) -> Vocabulary:
    """The vocabulary of a run in `directory` that starts from another's parameters and is given none: the other's,
    unless the same is learned here. A run that has begun goes on with its own, also without its source.

    Args:
      other_text: True if flags will change the text of `data`.
    """
    source, own = named_checkpoint(init_from)[0], RunDirectory(path_of(directory))
    begun = own.config().data.vocabulary if own.path.is_dir() and own.begun() else None
    if begun is not None:
        inherited = begun.kind == "bytes" or begun.path == str(source.vocabulary)
        return begun if inherited else data.vocabulary
    if not (source.path / presets.FILE).is_file():
        return data.vocabulary
    there = relocated(source.config(), str(source.path)).data
    if not other_text and not is_other_text(data, there):
        return data.vocabulary
    settings = kept_vocabulary(there.vocabulary, str(source.vocabulary))
    more = () if settings.sentinels else tuple(n for n in data.vocabulary.extra if not there.vocabulary.has(n))
    return dataclasses.replace(settings, extra=(*settings.extra, *more))


def _refuse(run: RunDirectory, changed: Changes, remedy: str) -> None:
    if changed:
        raise UserError(f"{run.path} belongs to a run with another {listed(changed)}: {remedy}.")


def _may_change(name: str) -> bool:
    return name in SCHEDULE or _goes_on(name)


def _goes_on(name: str) -> bool:
    """True if a change leaves the run's numbers as they would have been."""
    return (
        name in RESUMABLE or name.startswith(RESUMABLE_GROUPS) or bool(re.fullmatch(r"data\.sources\.\d+\.test", name))
    )


def _is_place(data: Data, name: str) -> bool:
    """True for fields that name where a run's data lies and not what it is, as far as the run knows its rows."""
    if source := re.fullmatch(r"data\.sources\.(\d+)\.(?:path|validation)", name):
        return data.sources[int(source[1])].kind != "tfds" or name.endswith("path")
    return name == "data.store" or bool(re.fullmatch(r"data\.filters\.\d+\.sources\.\d+\.path", name))


def _refuse_other_masks(config: Config, changed: Changes) -> None:
    """Refuse another train.accumulate with dropout: each part of an accumulated batch draws its own masks."""
    if config.model.drops and "train.accumulate" in changed:
        old, new = changed["train.accumulate"]
        name = "dropout" if config.model.dropout else "lora.dropout"
        rate = config.model.dropout or config.model.lora.dropout
        raise UserError(
            f"train.accumulate={new} draws other masks for model.{name}={rate} than the run's {old}, "
            "so it would not go on with the same numbers: leave it as it was; mesh and model.remat may change instead."
        )
