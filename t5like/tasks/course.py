"""The course of a fine-tuning run: batch, steps, rate and evaluations, by the model's family and size, the number of
examples, and the start."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from t5like.config import Data, Eval, Optimizer, Task, Train
from t5like.tasks.base import Base
from t5like.tasks.examine import Examined
from t5like.tasks.metrics import METRICS

SMALL = 320
"""Width up to which a model is small: it learns at higher rates and in more epochs."""
TOKENS = 2**14
"""Tokens of a batch at most."""
PACKED = 2_000
"""Examples from which on short ones are packed into rows."""
EVALUATIONS = 10
"""Evaluations of a run."""
MOST_EVALUATED = 2_000
"""Validation examples that are evaluated."""


class Course(NamedTuple):
    """The rows and steps of a run."""

    batch: int
    epochs: float
    steps: int
    rows: int
    """Rows of an epoch."""
    pack: bool


def course_of(base: Base, count: int, lengths: np.ndarray, data: Data, fixed: Mapping[str, Any]) -> Course:
    """Batch, epochs and steps: many epochs of few examples, more from scratch than from pretrained parameters, and more
    of small models."""
    length = sum(data.lengths.values())
    fill = float(np.minimum(lengths, data.length).mean()) / data.length if len(lengths) else 1.0
    pack = bool(fixed.get("data.pack", fill < 0.5 and count >= PACKED and not data.objective.spec.head))
    together = 2 ** round(math.log2(32 * min(fill / 0.9, 1.0))) if pack else 32  # rows of about as many examples
    batch = fixed.get("train.batch") or _power(max(int(min(together, TOKENS / length, max(count // 8, 8))), 1))
    rows = max(math.ceil(count * min(fill / 0.9, 1.0)), 1) if pack else count
    small = base.config.model.embed <= SMALL
    least, passes, most = {  # of small ones fewer, the longer the rows are: they are to be there in a minute
        (True, True): (10, 400_000 / length, 30),
        (True, False): (3, 10_000, 40),
        (False, True): (12, 1_000_000 / length, 60),
        (False, False): (10, 60_000, 60),
    }[bool(base.start), small]
    epochs = float(fixed.get("train.epochs") or min(max(least, round(passes / count)), most))
    steps = fixed.get("train.steps") or max(math.ceil(epochs * rows / batch), 1)
    return Course(batch, steps * batch / rows, steps, rows, pack)


def optimizer_of(base: Base, steps: int) -> Optimizer:
    """Adafactor at T5's constant rate for pretrained T5s of published sizes; else AdamW with a warm-up and a linear
    fall, at rates that fall with the width (BERT's 5e-5 at 768), and higher ones from scratch."""
    model = base.config.model
    if base.start and model.family == "encoder-decoder" and model.embed > SMALL:
        return Optimizer(name="adafactor", learning_rate=1e-3, schedule="constant", warmup=min(steps // 10, 100))
    peak = 5e-5 * (768 / model.embed) ** 1.25 if base.start else 1e-3 * min((256 / model.embed) ** 0.5, 1.0)
    if model.family == "encoder-decoder":
        peak = max(peak, 5e-4)  # T5 was trained at rates relative to its parameters, ten times BERT's
    return Optimizer(
        name="adamw",
        learning_rate=float(f"{peak:.1g}"),
        schedule="linear",
        warmup=max(steps * 6 // 100, min(steps // 2, 10)),
        weight_decay=0.01,
        clip=1.0,
    )


def train_of(base: Base, task: Task, course: Course, directory: str, fixed: Mapping[str, Any]) -> Train:
    every = _every(course.steps)
    epochs: float | None = fixed.get("train.epochs")
    return Train(
        directory=directory,
        init_from=base.start,
        batch=course.batch,
        log_every=max(course.steps // 50, 1),
        save_every=every,
        keep=1,
        best=f"task/{METRICS[task.judged_by].main}",
        compilation_cache=base.config.train.compilation_cache,
        steps=0 if epochs else course.steps,
        epochs=epochs,
    )


def eval_of(found: Examined, course: Course) -> Eval:
    rows = min(max(found.facts["validation"].count, 1), MOST_EVALUATED)
    return Eval(every=_every(course.steps), rows=rows, batch=max(min(_power(rows), 64), 8))


def _every(steps: int) -> int:
    return max(math.ceil(steps / EVALUATIONS), 1)


def _power(number: int) -> int:
    """The largest power of two that is no larger."""
    return 2 ** (max(number, 1).bit_length() - 1)
