"""The programs that a run compiles: its train step, its evaluations and, where that is asked, its generation.

A device must hold each of them, beside what lies there anyway: while a run evaluates, its optimizer state stays.
"""

from typing import NamedTuple

import jax

from t5like.config import Config
from t5like.errors import UserError
from t5like.infer.program import lower_generation
from t5like.train.compile import lower_evaluation, lower_step
from t5like.train.state import Training

TRAIN, EVALUATION, GENERATION = "train step", "evaluation", "generation"
FUNCTIONS = {TRAIN: "train_step", EVALUATION: "eval_step", GENERATION: "generate"}
"""The function of each program, by which the compiler names it."""


class Answers(NamedTuple):
    """Generation that is planned: so many prompts at once, and tokens after each; none if there are no tokens."""

    prompts: int = 0
    tokens: int = 0
    beams: int = 1


NONE = Answers()


def names(config: Config, answers: Answers) -> tuple[str, ...]:
    """The programs of a run.

    Raises:
      UserError: generation with a model that has no decoder.
    """
    if not answers.tokens:
        return TRAIN, EVALUATION
    if config.model.family == "encoder":
        raise UserError("--generate is for models with a decoder: this one has an encoder alone.")
    return TRAIN, EVALUATION, GENERATION


def lower(training: Training, name: str, answers: Answers) -> jax.stages.Lowered:
    """One of the programs; call it under the plan's mesh."""
    if name == TRAIN:
        return lower_step(training)
    return lower_evaluation(training.network) if name == EVALUATION else lower_generation(training.network, *answers)
