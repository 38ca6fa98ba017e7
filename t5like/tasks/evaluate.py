"""The scores of a model on the splits of its tasks: while it trains, and with all that tells why afterwards."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from t5like.config import Data
from t5like.config.tasks import Task
from t5like.data.example import Example, Gold
from t5like.data.splits import AnySplit
from t5like.data.tasks.examples import prompt_of
from t5like.data.tasks.reading import examples
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.model.network import Network
from t5like.model.sharding import Params
from t5like.storage import Path
from t5like.strict_json import dumps
from t5like.tasks.diagnosis import Diagnosis, diagnose, svg
from t5like.tasks.metrics import METRICS, Scores, score
from t5like.tasks.metrics import check as check_metric
from t5like.tasks.predict import Predictor
from t5like.tasks.prediction import Prediction

TAKES = {"classify": "label", "pair": "label", "choice": "label", "regress": "number", "tag": "tags", "span": "answer"}
"""The form of a kind of task's targets for a metric; those of the others are text."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """The predictions for a split, and their scores."""

    source: str
    """The name of the source in reports."""
    task: Task
    split: AnySplit
    examples: Sequence[Example]
    predictions: Sequence[Prediction]
    scores: Scores
    diagnosis: Diagnosis
    seconds: float

    @property
    def main(self) -> str:
        """The name of the figure that it is judged by."""
        return METRICS[self.task.judged_by].main

    def as_json(self) -> dict[str, Any]:
        """All but the single predictions."""
        return {
            "source": self.source,
            "task": self.task.kind,
            "split": self.split,
            "examples": len(self.examples),
            "metric": self.task.judged_by,
            "main": self.main,
            "figures": self.scores.figures,
            "intervals": self.scores.intervals,
            "signature": self.scores.signature,
            "seconds": round(self.seconds, 3),
            "diagnosis": self.diagnosis.as_json(),
        }

    def as_text(self) -> str:
        """The scores with their intervals, and the reasons."""
        lines = [f"{self.source}: {self.task.kind}, {self.split} split, {len(self.examples):,} examples"]
        for name, figure in self.scores.figures.items():
            low, high = self.scores.intervals[name]
            chosen = "  <- the task's" if name == self.main else ""
            lines.append(f"  {name:<18} {figure:7.2f}  95 % interval [{low:.2f}, {high:.2f}]{chosen}")
        lines.append(f"  {self.scores.signature}")
        return "\n".join(lines) + "\n\n" + self.diagnosis.as_text().rstrip("\n") + "\n"


def evaluate(
    network: Network,
    vocabulary: Vocabulary,
    params: Params,
    split: AnySplit,
    report: Report = lambda text: None,
) -> Iterator[Result]:
    """The results of each task on the whole of a split, every example once, written up to the longest target.

    Raises:
      UserError: the config has no task, or a task has no such split.
    """
    data = network.config.data
    check_tasks(data)
    for number, (name, task) in tasks_of(data).items():
        found = list(examples(data, number, split))
        require_examples(found, name, split)
        started, predictor = time.monotonic(), Predictor(network, vocabulary, task, network.config.eval.batch)
        predictions = []
        for prediction in predictor(params, found):
            predictions.append(prediction)
            if len(predictions) % 1000 == 0:
                report(f"{name}: {len(predictions):,} of {len(found):,} examples predicted.")
        yield judged(name, task, split, found, predictions, time.monotonic() - started)


def judged(
    name: str,
    task: Task,
    split: AnySplit,
    found: Sequence[Example],
    predictions: Sequence[Prediction],
    seconds: float = 0.0,
) -> Result:
    """The result of predictions that are known."""
    given = [prediction.value for prediction in predictions]
    targets = [target_of(example, task) for example in found]
    diagnosis = diagnose(
        task.judged_by,
        given,
        targets,
        inputs=[shown(example, task) for example in found],
        certainty=[max(p.scores.values()) for p in predictions] if all(p.scores for p in predictions) else (),
        chinese=task.chinese,
    )
    scores = score(task.judged_by, given, targets, chinese=task.chinese)
    return Result(name, task, split, found, predictions, scores, diagnosis, seconds)


def write(results: Sequence[Result], folder: Path, step: int) -> list[Path]:
    """Write results.json, predictions.jsonl and the pictures of confusion tables into `<folder>/<split>/<step>/`, and
    return their paths.

    Raises:
      UserError: the folder cannot be written.
    """
    into = folder / results[0].split / str(step)
    files = {"results.json": dumps([r.as_json() for r in results], ensure_ascii=False, indent=2) + "\n"}
    lines = [record(result, n) for result in results for n in range(len(result.examples))]
    files["predictions.jsonl"] = "".join(dumps(line, ensure_ascii=False) + "\n" for line in lines)
    for result in results:
        if result.diagnosis.confusion:
            named = "" if len(results) == 1 else f"_{result.source}"
            files[f"confusion{named}.svg"] = svg(result.diagnosis.confusion)
    try:
        into.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (into / name).write_text(content, "utf-8")
    except OSError as error:
        raise UserError(f"{into} cannot be written: {error.strerror or error}.") from None
    return [into / name for name in files]


def record(result: Result, number: int) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    example, prediction = result.examples[number], result.predictions[number]
    return {
        "source": result.source,
        "where": example.where().rstrip(","),
        "input": shown(example, result.task),
        "target": plain(example, result.task),
        "prediction": prediction.value if prediction.value is not None else prediction.text,
        "scores": prediction.scores,
    }


def shown(example: Example, task: Task) -> str:
    """The text that an example asks about."""
    return prompt_of(task, example) if task.kind == "chat" else f"{example.input}\n{example.second}".strip()


def plain(example: Example, task: Task) -> Any:
    """The target as JSON has it."""
    target = target_of(example, task)
    return list(target) if isinstance(target, tuple) else target


def target_of(example: Example, task: Task) -> Any:
    """The target as a metric takes it."""
    target = example.target
    if task.kind == "choice":
        assert isinstance(target, int)
        return example.candidates[target]
    if isinstance(target, tuple):
        texts = tuple(each.text if isinstance(each, Gold) else each for each in target)
        return tuple(dict.fromkeys(texts)) if task.kind == "span" else texts
    return (target,) if takes(task) == "answer" else target


def takes(task: Task) -> str:
    """The form of the task's targets for a metric."""
    if task.multi_label:
        return "labels"
    if task.is_text and task.metric in ("", *METRICS) and METRICS[task.judged_by].takes == "answer":
        return "answer"
    return TAKES.get(task.kind, "text")


def tasks_of(data: Data) -> dict[int, tuple[str, Task]]:
    """The number, the name and the task of each source that has one."""
    named = zip(data.source_names, data.sources, strict=True)
    return {number: (name, source.task) for number, (name, source) in enumerate(named) if source.task is not None}


def check_tasks(data: Data) -> None:
    """Raise `UserError` if there is no task, or one with a metric that does not fit it."""
    if not data.has_tasks:
        raise UserError(
            "The run has no task to be judged by: give a source one, data.sources.0.task, or fine-tune on a labelled "
            "file with `t5like finetune`."
        )
    for _, task in tasks_of(data).values():
        check_metric(task.judged_by, takes(task))


def require_examples(found: Sequence[Example], name: str, split: AnySplit) -> None:
    """Raise `UserError` if a split is empty."""
    if not found:
        raise UserError(
            f"The source {name!r} has no {split} examples: give it files of its own, data.sources.N.{split}, or raise "
            f"data.held_out{'_test' if split == 'test' else ''}."
        )
