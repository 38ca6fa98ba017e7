"""The figures of a run while it trains: those of held-out rows, and those of its tasks on their validation splits."""

from collections.abc import Callable, Sequence

import jax

from t5like.data.example import Example
from t5like.data.tasks.reading import examples
from t5like.data.vocabulary import Vocabulary
from t5like.model.network import Network
from t5like.model.sharding import Params
from t5like.signals import uninterrupted
from t5like.tasks.evaluate import check_tasks, require_examples, target_of, tasks_of
from t5like.tasks.metrics import METRICS, figures
from t5like.tasks.predict import Predictor
from t5like.train.evaluate import Evaluator

MEAN = "task/mean"
"""The mean of the figures that several tasks are judged by."""


class Figures:
    """The figures of parameters, of the same rows and examples each time.

    To those of `Evaluator` come all that a task's metric gives, as `task/accuracy`; of several sources, as
    `task/SOURCE/accuracy` and `task/mean`. Examples are `eval.rows` of each validation split, or all.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary):
        config = network.config
        self._rows = Evaluator(network, vocabulary)
        self._tasks: dict[str, tuple[Predictor, list[Example]]] = {}
        if config.data.has_tasks:
            check_tasks(config.data)
        for number, (name, task) in tasks_of(config.data).items():
            found = first_by_hash(list(examples(config.data, number, "validation")), config.eval.rows)
            require_examples(found, name, "validation")
            place = f"task/{name}/" if len(config.data.sources) > 1 else "task/"
            self._tasks[place] = Predictor(network, vocabulary, task, config.eval.batch), found

    def __call__(self, params: Params, between: Callable[[], None] = uninterrupted) -> dict[str, float]:
        """All figures by their names; `between` is called before each batch, and may raise."""
        found = self._rows(params, between)
        with jax.transfer_guard("allow"):
            for place, (predictor, chosen) in self._tasks.items():
                given = [prediction.value for prediction in predictor(params, chosen, between)]
                found |= _scores(place, predictor, chosen, given)
        return found | self._mean(found)

    def names(self) -> list[str]:
        """The names of the figures, which are known before there are any."""
        found: dict[str, float] = {}
        for place, (predictor, chosen) in self._tasks.items():
            targets = [target_of(example, predictor.task) for example in chosen]
            texts = METRICS[predictor.task.judged_by].takes in ("text", "answer")
            right = [(t[0] if t else "") if texts and isinstance(t, tuple) else t for t in targets]
            found |= _scores(place, predictor, chosen, right)
        return [*self._rows.names(), *found, *self._mean(found)]

    def _mean(self, found: dict[str, float]) -> dict[str, float]:
        main = [found[place + METRICS[p.task.judged_by].main] for place, (p, _) in self._tasks.items()]
        return {MEAN: sum(main) / len(main)} if len(main) > 1 else {}


def _scores(place: str, predictor: Predictor, chosen: Sequence[Example], given: Sequence) -> dict[str, float]:
    task = predictor.task
    scores = figures(task.judged_by, given, [target_of(example, task) for example in chosen], task.chinese)
    return {f"{place}{name}": value for name, value in scores.items()}


def first_by_hash(found: Sequence[Example], most: int) -> list[Example]:
    """As many examples in their order, chosen by their hashes where there are more."""
    if len(found) <= most:
        return list(found)
    chosen = sorted(range(len(found)), key=lambda number: (found[number].group, number))[:most]
    return [found[number] for number in sorted(chosen)]
