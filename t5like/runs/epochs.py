"""The steps of a run that is given epochs: they are known once its data is prepared, and kept in its config."""

import dataclasses

from t5like.config import Config
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import Vocabulary
from t5like.runs.directory import RunDirectory


def with_steps_of(run: RunDirectory, config: Config) -> Config:
    """The config with the steps that the run has had so far, if it has a checkpoint and was given the same epochs."""
    if config.train.steps or not run.begun():
        return config
    before = run.config().train
    return with_steps(config, before.steps) if before.epochs == config.train.epochs else config


def with_steps_of_epochs(config: Config, vocabulary: Vocabulary) -> Config:
    """The config with the steps of `train.epochs`, if it has none: the last one ends with or after the last row.

    An epoch is as many rows as all sources have together, packs counted as rows; where these are mixed by their sizes,
    it is each of them once.

    Raises:
      UserError: the store is not finished, or the schedule does not fit the steps.
    """
    settings = config.train
    if settings.steps or settings.epochs is None:
        return config
    rows = round(settings.epochs * Rows(config.data, vocabulary, "train").count) - settings.row_offset
    return with_steps(config, max(-(-rows // settings.batch), 1))


def with_steps(config: Config, steps: int) -> Config:
    """The config with other steps."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))
