"""A few training examples, chosen by a seed: few-shot learning."""

import functools
import hashlib

from t5like.config import Data
from t5like.data.example import Example
from t5like.data.tasks.examples import target_text
from t5like.data.tasks.reading import examples


@functools.lru_cache(maxsize=8)
def chosen(data: Data, number: int) -> frozenset[str]:
    """The names of the training examples of a source that are kept: `Task.few` of each label, or in all where there are
    no labels. They are those of the smallest hashes, so that more of them contain fewer, and their order in files does
    not count."""
    task = data.sources[number].task
    assert task is not None
    if task.few is None:
        raise ValueError("The task keeps all examples.")
    by_label: dict[str, list[str]] = {}
    for example in examples(data, number, "train"):
        label = target_text(task, example) if task.kind in ("classify", "pair") else ""
        by_label.setdefault(label, []).append(key_of(example, task.few_seed))
    return frozenset(name for names in by_label.values() for name in sorted(names)[: task.few])


def key_of(example: Example, seed: int) -> str:
    """The name of an example among those of a seed."""
    return hashlib.blake2b(f"{seed} {example.group} {example.turn}".encode(), digest_size=16).hexdigest()
