"""Rows to examples: the fields that a task names, checked.

What is wrong with a row is one sentence that names it. A label that is not among `Task.labels` is an error as well,
for a model would learn or be judged by something that it cannot say.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from t5like.config.tasks import Task
from t5like.data.example import Example, Gold, Target
from t5like.data.sources.records import Row, text_of, value_of
from t5like.errors import UserError, did_you_mean

SHOWN = 60
"""Characters of a text in an error."""
SETTING = "data.sources.N.task"
"""The setting that names the fields, for errors."""
ROLES = ("system", "user", "assistant")


def examples_of(task: Task, row: Row, labelled: bool = True) -> Iterator[Example]:
    """The examples of a row: one, or those of a dialogue's answers.

    Args:
      labelled: demand a target; without, one that is there is read all the same.

    Raises:
      UserError: the row is no record, lacks a field, or has one that the task cannot have.
    """
    if row.problem:
        raise UserError(f"{row.where()} {row.problem}")
    if task.kind == "chat":
        yield from _dialogue(task, row, labelled)
        return
    words = tuple(_words(task, row)) if task.kind == "tag" else ()
    text = " ".join(words) if words else _text(task.input, row)
    if not text.strip():
        raise UserError(f"{row.where()} has no text in the field {task.input!r}: leave the row out.")
    second = _text(task.second or task.context, row) if task.is_paired else ""
    candidates = tuple(_candidates(task, row)) if task.kind == "choice" else ()
    group = row.group or _group(text, second, *candidates)
    example = Example(row.values, row.where, text, None, second, words, candidates, group)
    for name in task.prompt_fields:
        _text(name, row)
    if not labelled and not _has(row, task.target):
        yield example
        return
    target = _target(task, row, example)
    if target is not None:
        yield example._replace(target=target)
    elif labelled:
        raise UserError(f"{row.where()} has nothing in the field {task.target!r}: leave the row out.")
    else:
        yield example


def prompt_of(task: Task, example: Example) -> str:
    """The text that a T5 or a GPT is given."""
    if task.kind == "chat":
        turns = "".join(_turn(task, message) for message in example.dialogue)
        return turns + task.assistant.partition("{content}")[0]
    row = Row(0, example.values, example.where)
    values = {"input": example.input, "second": example.second, "context": example.second}
    prompt = task.template
    for name in task.prompt_fields:
        values[name] = _text(name, row)
    parts = prompt.split("{")
    filled = parts[0]
    for part in parts[1:]:  # the text that a field brings is not looked at for names
        name, closed, rest = part.partition("}")
        filled += values[name] + rest if closed and name in values else f"{{{part}"
    return filled


def target_text(task: Task, example: Example) -> str:
    """The text that a T5 or a GPT learns to write; empty where an example has no target."""
    match example.target:
        case None:
            return ""
        case bool() | int() if task.kind == "choice":
            return example.candidates[example.target]
        case int() | float():
            return number_text(float(example.target))
        case str():
            return _written(task, example.target) if task.labels else example.target
    target = example.target
    if task.kind == "tag":
        return " ".join(_written(task, str(label)) for label in target)
    if task.multi_label:
        return ", ".join(_written(task, label) for label in task.labels if label in target) or NONE
    first = target[0] if target else ""
    return (first.text if isinstance(first, Gold) else first) or NONE


NONE = "none"
"""The text that a T5 or GPT writes where there is no answer or no label."""


def number_text(number: float) -> str:
    """The text of a number: 3.8 -> "3.8", 4 -> "4.0"."""
    return f"{number:.4g}" if not float(number).is_integer() else f"{number:.1f}"


def label_number(task: Task, label: str, where: Callable[[], str]) -> int:
    """The number of a label.

    Raises:
      UserError: there is no such label.
    """
    if label not in task.labels:
        hint = did_you_mean(label, task.labels)
        raise UserError(f"{where()} has the label {label[:SHOWN]!r}, which data.sources.N.task.labels lacks{hint}")
    return task.labels.index(label)


def _target(task: Task, row: Row, example: Example) -> Target | None:
    value = _value(task.target, row)
    if value is None or value == "":
        return () if task.multi_label or task.unanswerable else None
    match task.kind:
        case "classify" if task.multi_label:
            labels = value if isinstance(value, list | tuple) else str(value).split(",")
            found = tuple(dict.fromkeys(str(label).strip() for label in labels if str(label).strip()))
            for label in found:
                label_number(task, label, row.where)
            return found
        case "classify" | "pair":
            label = _text(task.target, row).strip()
            label_number(task, label, row.where)
            return label
        case "regress":
            return _number(value, task.target, row)
        case "tag":
            return _tags(task, value, row, example)
        case "span":
            answers = tuple(_answers(value, row, example))
            if not answers and not task.unanswerable:
                raise UserError(
                    f"{row.where()} has no answer in the field {task.target!r}: set data.sources.N.task.unanswerable "
                    "where that is meant."
                )
            return answers
        case "choice":
            return _choice(task, value, row, example)
    if isinstance(value, list | tuple):
        texts = tuple(text_of(each, task.target, row.where)[0] for each in value)
        return texts or None
    return text_of(value, task.target, row.where)[0]


def _number(value: Any, field: str, row: Row) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{row.where()} has in the field {field!r} {str(value)[:SHOWN]!r}, which is no number.")
    return number


def _words(task: Task, row: Row) -> Sequence[str]:
    value = _value(task.input, row)
    words = value if isinstance(value, list | tuple) else text_of(value, task.input, row.where)[0].split()
    return [text_of(word, task.input, row.where)[0] for word in words]


def _tags(task: Task, value: Any, row: Row, example: Example) -> tuple[str, ...]:
    labels = value if isinstance(value, list | tuple) else str(value).split()
    tags = tuple(str(label) for label in labels)
    if len(tags) != len(example.words):
        raise UserError(
            f"{row.where()} has {len(example.words)} words in {task.input!r} but {len(tags)} labels in "
            f"{task.target!r}: each word needs one."
        )
    for tag in tags:
        label_number(task, tag, row.where)
    return tags


def _answers(value: Any, row: Row, example: Example) -> Iterator[Gold]:
    """The answers in any of the usual forms: a text, a list of texts, SQuAD's list of objects, an object of lists."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text", ()), value.get("answer_start", ())
        texts = [texts] if isinstance(texts, str) else list(texts)
        starts = [starts] if isinstance(starts, int) else list(starts)
        starts = starts or [None] * len(texts)
        value = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=False)]
    for each in value if isinstance(value, list | tuple) else [value]:
        told = each if isinstance(each, Mapping) else {"text": each}
        text, start = str(told.get("text", "")), told.get("answer_start")
        if not text.strip():
            continue
        there = isinstance(start, int) and example.second[start : start + len(text)] == text
        if not there:
            start = example.second.find(text)
            if start < 0:
                raise UserError(f"{row.where()} has the answer {text[:SHOWN]!r}, which is not in its context.")
        yield Gold(text, start)


def _candidates(task: Task, row: Row) -> Iterator[str]:
    if len(task.candidates) != 1:
        yield from (_text(name, row) for name in task.candidates)
        return
    name = task.candidates[0]
    value = _value(name, row)
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise UserError(f"{row.where()} has in the field {name!r} no list of two candidates or more.")
    yield from (text_of(each, name, row.where)[0] for each in value)


def _choice(task: Task, value: Any, row: Row, example: Example) -> int:
    """The number of the right candidate, by its text, its number from 0, or its letter from A."""
    text, count = str(value).strip(), len(example.candidates)
    if text in example.candidates:
        return example.candidates.index(text)
    if text.isdecimal() and int(text) < count:
        return int(text)
    if len(text) == 1 and 0 <= (letter := ord(text.upper()) - ord("A")) < count:
        return letter
    raise UserError(
        f"{row.where()} has in the field {task.target!r} {text[:SHOWN]!r}, which is neither one of its {count} "
        "candidates nor the number (from 0) or letter of one."
    )


def _dialogue(task: Task, row: Row, labelled: bool) -> Iterator[Example]:
    """An example for each of the assistant's messages, or one to be answered after the last message of the user."""
    messages = _value(task.input, row)
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError(f"{row.where()} has in the field {task.input!r} no list of messages.")
    told = [_message(message, row) for message in messages]
    group, turn = _group(*(f"{m['role']}:{m['content']}" for m in told)), 0
    for number, message in enumerate(told):
        if message["role"] == "assistant":
            before = tuple(told[:number])
            shown = before[-1]["content"] if before else ""
            yield Example(row.values, row.where, shown, message["content"], group=group, turn=turn, dialogue=before)
            turn += 1
    if not labelled and told[-1]["role"] != "assistant":
        yield Example(row.values, row.where, told[-1]["content"], None, group=group, turn=turn, dialogue=tuple(told))
    elif labelled and not turn:
        raise UserError(f"{row.where()} has no message of the assistant in the field {task.input!r}.")


def _message(message: Any, row: Row) -> dict[str, str]:
    """A message by the names of OpenAI (role, content) or of ShareGPT (from, value)."""
    if isinstance(message, Mapping):
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        role = {"human": "user", "gpt": "assistant", "bot": "assistant"}.get(str(role), role)
        if role in ROLES and isinstance(content, str):
            return {"role": str(role), "content": content}
    raise UserError(
        f"{row.where()} has a message that is not {{'role': one of {', '.join(ROLES)}, 'content': a text}}: "
        f"{str(message)[:SHOWN]!r}."
    )


def _turn(task: Task, message: Mapping[str, str]) -> str:
    template: str = getattr(task, message["role"])
    before, _, behind = template.partition("{content}")
    return f"{before}{message['content']}{behind}"


def _written(task: Task, label: str) -> str:
    return task.written[task.labels.index(label)]


def _text(field: str, row: Row) -> str:
    return text_of(_value(field, row), field, row.where)[0]


def _value(field: str, row: Row) -> Any:
    return value_of(row, field, SETTING)


def _has(row: Row, field: str) -> bool:
    try:
        value = _value(field, row)
    except UserError:
        return False
    return value is not None and value != ""


def _group(*texts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "replace")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
