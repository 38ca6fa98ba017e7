"""The config of a fine-tuning run: a pure function of what the files hold, of the run or preset that it starts from,
and of the fields that flags have set."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from t5like.config import Config, Data, Model, Objective, Source, Task, Vocabulary
from t5like.config.conditions import effective
from t5like.config.tasks import OBJECTIVES
from t5like.errors import UserError
from t5like.tasks.base import Base
from t5like.tasks.course import Course, course_of, eval_of, optimizer_of, train_of
from t5like.tasks.examine import Examined
from t5like.tasks.lengths import CUT, LONGEST, Lengths, fitting, share_cut

HEADS = {
    "classification": "sequence",
    "multi_label_classification": "sequence",
    "regression": "sequence",
    "token_classification": "token",
    "span": "span",
    "multiple_choice": "choice",
}
"""The head that learns an objective."""
CUES = {
    **dict.fromkeys(("classify", "pair"), " label:"),
    **dict.fromkeys(("text", "answer", "span", "choice"), " answer:"),
    "regress": " score:",
    "tag": " tags:",
    "translate": " translation:",
    "summarise": " summary:",
    "title": " title:",
    "code": " code:",
}
"""The end of a GPT's prompt, which tells it to begin with the target."""
CONTEXT = 384
"""Tokens of a window of a context, as BERT took for SQuAD."""


LEARNED = 384
"""Pieces from which on some are learned."""


class Derived(NamedTuple):
    """A config, and what it was derived by."""

    config: Config
    course: Course
    lengths: list[str]
    """Lines on the lengths of rows, and what they cut."""


def kind_of(base: Base, task: Task, head: bool) -> str:
    """The kind of objective that learns a task.

    Raises:
      UserError: the model has no way to learn it; the sentence says which models have.
    """
    family = base.config.model.family
    heads = [kind for kind in OBJECTIVES[task.kind] if kind in HEADS]
    if family == "encoder" or head:
        if not heads:
            why = f"{base.named} is an encoder alone" if family == "encoder" else "--head scores labels"
            raise UserError(
                f"{why} and cannot write text, as --task {task.kind} asks for: take a T5 or a GPT"
                f"{'' if family == 'encoder' else ' without --head'}, or a task with labels."
            )
        return "multi_label_classification" if task.multi_label else heads[0]
    return "sequence_to_sequence" if family == "encoder-decoder" else "prompt_target"


def prompted(found: Examined, kind: str) -> Examined:
    """The examples with a prompt that ends with a cue where a GPT goes on from it."""
    task, cue = found.task, CUES.get(found.task.kind, "")
    if kind != "prompt_target" or not cue or task.prompt.rstrip().endswith((":", "?", cue.strip())):
        return found
    task = dataclasses.replace(task, prompt=task.template.rstrip("\n") + cue)
    return dataclasses.replace(found, source=dataclasses.replace(found.source, task=task))


def derive(
    base: Base, found: Examined, kind: str, lengths: Lengths, directory: str, fixed: Mapping[str, Any] | None = None
) -> Derived:
    """The config of the run.

    Args:
      fixed: fields by their dotted names that flags have set, on which other choices depend.
      directory: the run directory.

    Raises:
      UserError: the model has no head that writes text, and the task needs it.
    """
    fixed = fixed or {}
    model = model_of(base, kind, found.task)
    data, said = _data(base, found, kind, lengths, directory, fixed)
    course = course_of(base, _count(found, fixed), lengths.of_rows(kind), data, fixed)
    data = _packed(data, lengths, course.pack, fixed)
    config = Config(
        model=model,
        data=data,
        optimizer=optimizer_of(base, course.steps),
        rules=base.config.rules,
        train=train_of(base, found.task, course, directory, fixed),
        eval=eval_of(found, course),
    )
    return Derived(config, course, said)


def _count(found: Examined, fixed: Mapping[str, Any]) -> int:
    """The training examples, of which only a few may be kept."""
    few, train = fixed.get("data.sources.0.task.few"), found.facts["train"]
    return min(train.count, few * max(len(train.labels) if found.task.labels else 1, 1)) if few else train.count


def model_of(base: Base, kind: str, task: Task) -> Model:
    """The source's model, with the head that the objective needs.

    Raises:
      UserError: the source has no head that writes text.
    """
    model, fields = base.config.model, dict[str, Any]()
    dropout = model.dropout or 0.1
    if not base.start:  # small factors suit Muon, and `course.optimizer_of` takes AdamW
        model = dataclasses.replace(model, initializer_factor=1.0)
    if kind not in HEADS:
        if not model.predicts_pieces:
            raise UserError(
                f"{base.named} has the head {model.head!r} and none of the vocabulary, with which it could write the "
                f"answers of --task {task.kind}: take a model with a language model's head, or give --head."
            )
        return dataclasses.replace(model, dropout=dropout)
    head, labels = HEADS[kind], labels_of(kind, task)
    decoder = model.family == "decoder"
    if head in ("sequence", "choice"):
        pooling = "last" if decoder else "first" if model.family == "encoder" and base.has_cls else "mean"
        fields |= {"pooling": model.pooling if model.head == head else pooling}
        fields |= {"pooler": model.pooler and model.family == "encoder"}
    problem = {"multi_label_classification": kind}
    fields |= {"head": head, "labels": labels, "problem_type": problem.get(kind), "dropout": dropout}
    fields |= {"head_bias": False} if decoder and head == "sequence" else {}  # as of GPT-2 and Llama
    fields |= {} if decoder else {"decoder_layers": 0}
    return Model(**effective(Model, vars(model) | fields))


def labels_of(kind: str, task: Task) -> int:
    """The scores of a head: labels, or the one number of a regression; 0 where it has none."""
    return 1 if kind == "regression" else len(task.labels) if kind not in ("span", "multiple_choice") else 0


def _data(
    base: Base, found: Examined, kind: str, lengths: Lengths, directory: str, fixed: Mapping[str, Any]
) -> tuple[Data, list[str]]:
    """The data of the run, and what was chosen of it."""
    read, most = lengths.of_rows(kind), base.config.model.max_positions
    limit = min(most or CONTEXT, CONTEXT) if kind == "span" else most
    length = fixed.get("data.length") or fitting(read, limit)
    target = None
    if kind == "sequence_to_sequence":  # of labels none is cut, for only whole ones can be told apart
        share = CUT if found.task.is_text or found.task.kind == "span" else 0.0
        target = fixed.get("data.target_length") or fitting(lengths.written, most, 2, share)
    task = found.task
    if kind == "prompt_target" and not task.tokens:
        task = dataclasses.replace(task, tokens=min(-(-int(lengths.written.max()) // 8) * 8, LONGEST))
    source: Source = dataclasses.replace(found.source, task=task)
    heads = {"stack": "decoder"} if base.config.model.family == "decoder" and kind in HEADS else {}
    counted = {"labels": labels_of(kind, task)} if kind in HEADS and labels_of(kind, task) else {}
    counted |= {"candidates": max(f.candidates for f in found.facts.values())} if kind == "multiple_choice" else {}
    data = Data(
        sources=(source,),
        store=store_of(directory),
        vocabulary=base.vocabulary or base.config.data.vocabulary,
        objective=Objective(kind=kind, **heads, **counted),  # pyright: ignore[reportArgumentType]
        length=length,
        target_length=target,
        held_out=found.shares.validation or Data(store="-").held_out,
        held_out_test=found.shares.test,
        seed=base.config.data.seed,
    )
    return data, _lengths_said(kind, lengths, length, target, most)


def _packed(data: Data, lengths: Lengths, pack: bool, fixed: Mapping[str, Any]) -> Data:
    """The data with or without packing: targets have room beside each other where inputs have."""
    if data.objective.kind not in ("sequence_to_sequence", "prompt_target", "token_classification"):
        return data
    if not (pack and data.target_length) or "data.target_length" in fixed:
        return dataclasses.replace(data, pack=pack)
    (source,) = data.sources
    assert source.task is not None
    task = dataclasses.replace(source.task, tokens=data.target_length) if source.task.is_text else source.task
    beside = data.length / max(float(np.minimum(lengths.read, data.length).mean()), 1.0)
    room = min(max(math.ceil(beside * max(float(lengths.written.mean()), 1.0)), data.target_length), LONGEST)
    sources = (dataclasses.replace(source, task=task),)
    return dataclasses.replace(data, pack=pack, sources=sources, target_length=-(-room // 8) * 8)


def _lengths_said(kind: str, lengths: Lengths, length: int, target: int | None, most: int | None) -> list[str]:
    """Lines on the lengths of rows, of which the model allows `most`."""
    read = lengths.of_rows(kind)
    longest = f"the longest has {int(read.max()):,}"
    if kind in ("span", "token_classification"):
        return [f"rows of {length} tokens ({longest}; longer ones become several rows)"]
    share = share_cut(read, length)
    cut = f"{share:.1%}{', for the model reads no more' * (share > CUT and length == most)}" if share else "none"
    lines = [f"rows of {length} tokens, which cut {cut} ({longest})"]
    if target is not None:
        count = int((lengths.written > target).sum())
        longest = f"the longest has {int(lengths.written.max()):,}"
        lines.append(f"targets of {target} tokens, which cut {f'{count:,}' if count else 'none'} ({longest})")
    return lines


def said(base: Base, derived: Derived, config: Config) -> list[str]:
    """Lines on what was chosen, of which flags have made `config`."""
    rate, course, there = config.optimizer, derived.course, base.config.model
    start = f"from {base.start}" if base.start else "from scratch"
    how = f"the head {config.model.head!r}" if config.data.objective.spec.head else f"{config.data.objective.kind}"
    packed = f", packed into {course.rows:,} rows" if course.pack else ""
    lines = [*derived.lengths, f"{config.model.family} {start}, learning by {how}"]
    if base.start and config.model.head == there.head and config.model.labels != there.labels:
        counts = f"{base.start} has one of {there.labels} labels, and this task has {config.model.labels}"
        lines.append(f"the head begins anew: {counts}")
    return [
        *lines,
        f"{course.steps:,} steps of {course.batch} rows: {course.epochs:.3g} epochs{packed}",
        f"{rate.name} with a rate of {rate.learning_rate:g}, {rate.schedule}, after {rate.warmup} steps of warm-up",
        f"evaluation every {config.eval.every:,} steps on {config.eval.rows:,} examples, best by {config.train.best}",
    ]


def store_of(directory: str) -> str:
    """The store beside a run directory: stores/reviews of runs/reviews."""
    before, slash, name = directory.rstrip("/").rpartition("/")
    above, _, last = before.rpartition("/")
    if last == "runs":
        return f"{above}{'/' * bool(above)}stores/{name}" if above or before == "runs" else f"/stores/{name}"
    return f"{before}{slash}{name}_store"


def directory_of(start: str, name: str) -> str:
    """The run directory beside that of the run that it starts from, or in runs."""
    run = start.rstrip("/").partition("/checkpoints/")[0]
    before, slash, own = run.rpartition("/")
    folder = f"{before}{slash}" if start else "runs/"
    return f"{folder}{name}" if name != own else f"{folder}{name}_tuned"


def smaller(vocabulary: Vocabulary, characters: int) -> Vocabulary:
    """A vocabulary that can be learned from so few characters: of bytes and as many pieces as these have in them, where
    they are too few for its own size, or of bytes alone."""
    most = 256 + characters // 25
    if vocabulary.kind in ("file", "bytes") or vocabulary.size <= most:
        return vocabulary
    if most < LEARNED:
        alone = {"kind": "bytes", "size": 259, "sentinels": 0}
        return Vocabulary(**effective(Vocabulary, vars(vocabulary) | alone))
    return Vocabulary(**effective(Vocabulary, vars(vocabulary) | {"kind": "byte_bpe", "size": most}))
