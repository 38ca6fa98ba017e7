"""A fine-tuning run before its config: files that were surveyed and examined for a model and a task."""

from collections.abc import Mapping, Sequence
from typing import Any

from t5like.config import Config
from t5like.data.vocabulary import Vocabulary
from t5like.tasks.asked import Asked, Reading
from t5like.tasks.base import Base, vocabulary_of
from t5like.tasks.derive import Derived, derive, directory_of, kind_of, prompted, said, smaller
from t5like.tasks.evaluate import takes
from t5like.tasks.examine import Examined, examine, task_of
from t5like.tasks.files import source_of, stem
from t5like.tasks.guess import guess
from t5like.tasks.lengths import Count, counter, counter_of_learned
from t5like.tasks.metrics import check
from t5like.tasks.report import flags_of
from t5like.tasks.survey import Survey, survey


class Finetuning:
    """The task of some files for a model.

    Raises:
      UserError: the files, the task and the model do not fit together.
    """

    def __init__(
        self,
        base: Base,
        files: Sequence[str],
        asked: Asked,
        splits: Mapping[str, str] | None = None,
        reading: Reading | None = None,
        allow_overlap: bool = False,
        shares: Mapping[str, float] | None = None,
    ):
        """`splits` are the files of `validation` and `test`; `shares` those of the examples that a hash holds out."""
        seen = survey(source_of(files, **(splits or {}), reading=reading), bool(asked.target))
        self.given, found = examined(seen, asked, allow_overlap, shares)
        self.kind = kind_of(base, found.task, self.given.head)
        self.found = prompted(found, self.kind)
        self.base, count, vocabulary = with_vocabulary(base, seen, self.found)
        self.lengths = self.found.lengths(self.kind, count, vocabulary)
        self.name = stem(seen.source)

    def derived(self, fixed: Mapping[str, Any]) -> Derived:
        """The config, where flags have set the fields `fixed`."""
        directory = fixed.get("train.directory") or directory_of(self.base.start, self.name)
        return derive(self.base, self.found, self.kind, self.lengths, directory, fixed)

    def said(self, derived: Derived, config: Config) -> list[str]:
        """Lines on the files, their task, and what was chosen; flags have made `config` of what was derived."""
        found = self.found
        counts = ", ".join(f"{name} {facts.count:,}" for name, facts in found.facts.items() if facts.count)
        cut = {name: share for name, share in found.shares._asdict().items() if share}
        lines = [f"{' '.join(flags_of(self.given))}: {counts} examples"]
        if cut:
            shares = " and ".join(f"{share:g} for {name}" for name, share in cut.items())
            lines.append(f"without files for it, a hash of each example holds out {shares}")
        lines += [f"{found.overlap:,} test questions are among the training ones"] if found.overlap else []
        lines += [*found.notes, f"{config.train.directory} is the run, {config.data.store} its store"]
        return [*lines, *said(self.base, derived, config)]


def examined(
    seen: Survey, asked: Asked, allow_overlap: bool, shares: Mapping[str, float] | None = None
) -> tuple[Asked, Examined]:
    """The task that fits, and its examples.

    Raises:
      UserError: none fits, its metric does not, or its examples are at fault.
    """
    given = guess(seen, asked)
    task = task_of(seen, given)
    check(task.judged_by, takes(task))
    return given, examine(seen, task, allow_overlap, shares)


def with_vocabulary(base: Base, seen: Survey, found: Examined) -> tuple[Base, Count, Vocabulary | None]:
    """The base with its vocabulary, how its tokens are counted, and the vocabulary itself, if it is there already.

    One that is learned later is learned from fewer examples, to be counted by.
    """
    if vocabulary := vocabulary_of(base):
        return base._replace(has_cls=vocabulary.role("cls") is not None), counter(vocabulary), vocabulary
    characters = sum(sum(column.sizes) for column in seen.columns.values() if column.values)
    settings = base.vocabulary or smaller(base.config.data.vocabulary, characters)
    count = counter_of_learned(settings, found.facts["train"].sample, found.task)
    return base._replace(vocabulary=settings), count, None
