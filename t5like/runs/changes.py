"""Changes of a run's config: those that a resumed run may have, and those that commands which only read it may have.

Training goes on with the numbers that it would have had, so all that would change them is refused by name.
"""

import dataclasses
import re
from typing import Any

from t5like.config import Config, Data, presets
from t5like.config.training import ENDING
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory, with_vocabulary_in

RESUMABLE = (
    *("train.steps", "train.directory", "train.non_finite", "train.log_every", "train.save_every", "train.keep"),
    *("train.tensorboard", "train.compilation_cache", "train.profile_steps", "train.accumulate", "model.remat"),
)
"""Fields that a resumed run may change without a change of its numbers, besides those of `RESUMABLE_GROUPS`."""
RESUMABLE_GROUPS = ("eval.", "mesh.", "rules.")
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
            refused = {name: pair for name, pair in changed.items() if name not in kept}
            _refuse(run, refused, "choose another train.directory, or delete that folder")
            check_rows(run, config)
        presets.write(config, run.path)
    except OSError as error:
        raise UserError(f"train.directory={run.path} cannot be written: {error.strerror or error}.") from None
    return changed


def with_schedule_of(run: RunDirectory, config: Config) -> Config:
    """The config with the end of the schedule that the run has had so far, if it has a checkpoint; one that the config
    names stays. So train.steps may change without a change of the rate.

    Raises:
      UserError: the schedule ends with a rate of 0 before train.steps.
    """
    if config.optimizer.schedule_steps is not None or config.optimizer.schedule not in ENDING or not run.begun():
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
    and was relocated with it does not count."""
    return presets.differences(with_vocabulary_in(run.config(), config.train.directory), config)


def listed(changed: Changes) -> str:
    """Differences of two configs as part of a sentence."""
    return ", ".join(f"{name} ({old!r} there, {new!r} now)" for name, (old, new) in changed.items())


def is_other_text(one: Data, other: Data) -> bool:
    """True if a vocabulary learned from one may be another than one learned from the other."""
    return any(getattr(one, name) != getattr(other, name) for name in LEARNED_FROM)


def _refuse(run: RunDirectory, changed: Changes, remedy: str) -> None:
    if changed:
        raise UserError(f"{run.path} belongs to a run with another {listed(changed)}: {remedy}.")


def _may_change(name: str) -> bool:
    return name in (*RESUMABLE, *SCHEDULE) or name.startswith(RESUMABLE_GROUPS)


def _is_place(data: Data, name: str) -> bool:
    """True for fields that name where a run's data lies and not what it is, as far as the run knows its rows."""
    if source := re.fullmatch(r"data\.sources\.(\d+)\.(?:path|validation)", name):
        return data.sources[int(source[1])].kind != "tfds" or name.endswith("path")
    return name == "data.store" or bool(re.fullmatch(r"data\.filters\.\d+\.sources\.\d+\.path", name))


def _refuse_other_masks(config: Config, changed: Changes) -> None:
    """Refuse another train.accumulate with dropout: each part of an accumulated batch draws its own masks."""
    if config.model.dropout and "train.accumulate" in changed:
        old, new = changed["train.accumulate"]
        raise UserError(
            f"train.accumulate={new} draws other masks for model.dropout={config.model.dropout} than the run's {old}, "
            "so it would not go on with the same numbers: leave it as it was; mesh and model.remat may change instead."
        )
