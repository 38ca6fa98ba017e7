"""Predictions for the examples of a task, by whichever of three ways the model has learned it.

A model with a head scores labels, numbers, words, positions or candidates. A T5 or a GPT writes text; where the answer
is one of few texts, labels or candidates, it is the likeliest of them, so that no answer can be outside.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t5like.config.checks import require
from t5like.config.decoding import Decoding
from t5like.config.tasks import Task
from t5like.data.example import Example
from t5like.data.objectives import trained_frame
from t5like.data.tasks.examples import NONE, prompt_of
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError, did_you_mean
from t5like.infer.batches import Batches, in_parts
from t5like.infer.generate import Generator
from t5like.model.network import Network
from t5like.model.sharding import Params
from t5like.signals import uninterrupted
from t5like.storage import Path
from t5like.tasks.head_scores import head_predictions
from t5like.tasks.likelihood import log_likelihoods
from t5like.tasks.prediction import Prediction, Value


@dataclass(frozen=True)
class Predictor:
    """Predicts for a task with any parameters of a network. A prediction depends on its example alone."""

    network: Network
    vocabulary: Vocabulary
    task: Task
    batch: int = 32
    """Examples that are computed at once."""

    def __call__(
        self, params: Params, examples: Sequence[Example], between: Callable[[], None] = uninterrupted
    ) -> Iterator[Prediction]:
        """The predictions in the order of the examples. Work is done in the order of their lengths, a part of them at a
        time, so that neighbours are of one shape and memory stays bounded. `between` is called before each batch,
        and may raise.

        Raises:
          UserError: the model can neither score nor write what the task asks for.
        """
        for _, part in in_parts(examples, self._batches.part):
            yield from self._part(params, part, between)

    @functools.cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch)

    def _part(self, params: Params, examples: Sequence[Example], between: Callable[[], None]) -> list[Prediction]:
        if self.network.config.data.objective.spec.head:
            return head_predictions(self.network, self.vocabulary, self.task, params, examples, self.batch, between)
        if self.task.kind == "choice" or (self.task.kind in ("classify", "pair") and not self.task.multi_label):
            return self._likeliest(params, examples, between)
        return self._written(params, examples, between)

    def _likeliest(self, params: Params, examples: Sequence[Example], between: Callable[[], None]) -> list[Prediction]:
        written = self.task.written
        candidates = [example.candidates if self.task.kind == "choice" else written for example in examples]
        prompts = [prompt_of(self.task, example) for example in examples]
        found = log_likelihoods(self.network, self.vocabulary, params, prompts, candidates, self.batch, between)
        predictions = []
        for texts, scores in zip(candidates, found, strict=True):
            names = texts if self.task.kind == "choice" else self.task.labels
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            by_name = {name: float(share) for name, share in zip(names, shares, strict=True)}
            predictions.append(Prediction(names[int(np.argmax(scores))], by_name))
        return predictions

    def _written(self, params: Params, examples: Sequence[Example], between: Callable[[], None]) -> list[Prediction]:
        data, vocabulary = self.network.config.data, self.vocabulary
        prompts = vocabulary.encode_documents([prompt_of(self.task, example) for example in examples])
        frame, most = trained_frame(data, vocabulary), most_tokens(self.network, self.task)
        generator = Generator(self.network, vocabulary, frame, Decoding(tokens=most))
        if "encoder" in data.lengths:
            framed = [frame.around(ids[:-1][: data.lengths["encoder"] - 1]) for ids in prompts]
        else:  # as in training, a long prompt loses its beginning; what is written may go beyond the row
            positions = self.network.config.model.max_positions
            room = data.length - 1 if positions is None else min(data.length - 1, positions - most - 1)
            if room < 1:
                raise UserError(
                    f"data.sources.N.task.tokens={most} leaves a prompt no room in model.max_positions={positions}: "
                    "lower it."
                )
            framed = [frame.around(ids[:-1][-room:]) for ids in prompts]
        texts = [""] * len(framed)
        for together in self._batches(list(map(len, framed))):
            between()
            rows = together.full(framed, self._batches.rows(together))
            answers = generator.tokens(params, rows, 0, together.length)
            for number, ids in zip(together.members, answers, strict=False):
                texts[number] = vocabulary.decode(ids[: generator.length(ids)]).strip()
        return [
            Prediction(value_of(text, self.task, example), {}, text)
            for text, example in zip(texts, examples, strict=True)
        ]


def most_tokens(network: Network, task: Task) -> int:
    """The most tokens of a text that is written for a task."""
    data = network.config.data
    if task.tokens:
        return task.tokens
    return data.lengths["decoder"] if "encoder" in data.lengths else data.length // 2


def value_of(text: str, task: Task, example: Example) -> Value:
    """The answer that a written text is, or None."""
    labels = dict(zip(task.written, task.labels, strict=True))
    if task.kind == "regress":
        try:
            number = float(text)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    if task.multi_label:
        names = [name.strip() for name in text.split(",")]
        return tuple(label for written, label in labels.items() if written in names)
    if task.kind == "tag":
        outside = "O" if "O" in task.labels else task.labels[0]
        tags = [labels.get(word, outside) for word in text.split()][: len(example.words)]
        return (*tags, *[outside] * (len(example.words) - len(tags)))
    if task.unanswerable and text == NONE:
        return ""
    return text


def task_called(source: str, tasks: Mapping[str, Task], path: Path, family: str) -> Task:
    """The task of a source of a run, or its only one. `path` is where the run lies, for errors.

    Raises:
      UserError: there is none, or several and none is named.
    """
    others = {"encoder": "`fill` and `embed`", "decoder": "`generate`", "encoder-decoder": "`generate`"}
    require(bool(tasks), f"{path} has learned no task to predict: use {others[family]}.")
    if source and source not in tasks:
        raise UserError(f"{path} has no task of a source {source!r}{did_you_mean(source, tasks)}")
    require(
        bool(source) or len(tasks) == 1,
        f"{path} has learned several tasks: give source, one of {', '.join(tasks)}.",
    )
    return tasks[source or next(iter(tasks))]
