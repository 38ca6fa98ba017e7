"""From predictions and targets to all that tells why their score is so."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import numpy as np
from jaxtyping import Float

from t5like.tasks.diagnosis.confusion import ClassScores, class_scores, confusion
from t5like.tasks.diagnosis.outputs import outputs, words
from t5like.tasks.diagnosis.report import Band, Baseline, Diagnosis, Example, Plain
from t5like.tasks.metrics import METRICS, figures, prepare
from t5like.tasks.metrics.classes import as_sets
from t5like.tasks.metrics.numbers import is_number
from t5like.tasks.metrics.prepared import Prepared
from t5like.tasks.metrics.tags import entities_of, scheme_of
from t5like.tasks.metrics.texts import references

EXAMPLES = 20
"""Examples of the worst, and of the best."""
Answer = str | Collection[str]


def diagnose(
    metric: str,
    predictions: Sequence,
    targets: Sequence,
    *,
    inputs: Sequence[str] = (),
    certainty: Sequence[float] = (),
    majority: Answer | None = None,
    chinese: bool = False,
) -> Diagnosis:
    """The reasons of a score. `inputs` are shown and compared, `certainty` (probabilities, or scores of any unit) puts
    the surest first; `majority` is the answer of the baseline, such as the majority class of training, by default the
    most frequent target.

    Raises:
      UserError: there is no such metric, or the lists do not fit each other or it.
    """
    prepared, takes, main = prepare(metric, predictions, targets, chinese), METRICS[metric].takes, METRICS[metric].main
    texts = [_texts(target) for target in targets] if takes in ("text", "answer") else []
    measured = [target[0] if target else "" for target in texts] or inputs
    pairs = list(zip(predictions, targets, strict=True))
    worst, best = _extremes(prepared.values, certainty, takes)
    rows = [
        tuple(_example(number, pairs[number], prepared, inputs, certainty) for number in chosen)
        for chosen in (worst, best)
    ]
    return Diagnosis(
        metric=metric,
        main=main,
        score=float(prepared.weighed(np.ones((1, len(targets))))[main][0]),
        examples=len(targets),
        baseline=_baseline(metric, targets, majority, chinese),
        no_label=sum(not is_number(p) if takes == "number" else p is None for p in predictions),
        classes=_classes(takes, metric, predictions, targets),
        confusion=confusion(*_single(takes, predictions, targets)) if takes in ("label", "tags") else None,
        outputs=outputs(predictions, texts, inputs, chinese) if texts else None,
        length_of="target" if texts else "input",
        by_length=_bands(prepared, main, [len(words(text, chinese)) for text in measured]),
        worst=rows[0],
        best=rows[1],
    )


def _texts(target: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(references(target))


def _classes(takes: str, metric: str, predictions: Sequence, targets: Sequence) -> tuple[ClassScores, ...]:
    """The scores of labels, of the types of entities, or of tags."""
    if takes not in ("label", "labels", "tags"):
        return ()
    if metric == "entities":
        scheme = scheme_of(targets)
        found = [[entities_of(tags, scheme) for tags in many] for many in (predictions, targets)]
        hits = [said & right for said, right in zip(*found, strict=True)]
        return class_scores(*(Counter(entity[0] for entity in chain(*sets)) for sets in (hits, *found)))
    said, right = (predictions, targets) if takes == "labels" else map(as_sets, _single(takes, predictions, targets))
    hits = [set(p) & set(t) for p, t in zip(said, right, strict=True)]
    return class_scores(*(Counter(chain.from_iterable(map(set, sets))) for sets in (hits, said, right)))


def _single(takes: str, predictions: Sequence, targets: Sequence) -> tuple[Sequence[str | None], Sequence[str]]:
    """The predicted and the right label of each example, or tag of each word of all sentences; None where a prediction
    is too short."""
    if takes == "label":
        return predictions, targets
    said: list[str | None] = []
    for prediction, target in zip(predictions, targets, strict=True):
        said += [*prediction, *[None] * len(target)][: len(target)]
    return said, list(chain.from_iterable(targets))


def _baseline(metric: str, targets: Sequence, majority: Answer | None, chinese: bool) -> Baseline | None:
    """The score of the same answer everywhere; of numbers and entities it has none."""
    takes = METRICS[metric].takes
    if takes == "number" or metric == "entities":
        return None
    answers = {
        "labels": lambda: map(frozenset, targets),
        "tags": lambda: chain.from_iterable(targets),
    }.get(takes, lambda: (next(iter(_texts(target)), "") for target in targets))
    answer = _commonest(answers()) if majority is None else majority
    constant = [[answer] * len(target) if takes == "tags" else answer for target in targets]
    return Baseline(_plain(answer), figures(metric, constant, targets, chinese)[METRICS[metric].main])


def _commonest(answers: Iterable[Answer]) -> Answer:
    return Counter(answers).most_common(1)[0][0]


def _bands(prepared: Prepared, main: str, lengths: Sequence[int]) -> tuple[Band, ...]:
    """The score of each quarter of the lengths; fewer bands where many are the same."""
    if not lengths:
        return ()
    length = np.array(lengths)
    quarter = np.searchsorted(np.quantile(length, (0.25, 0.5, 0.75)), length)
    members = [quarter == number for number in sorted(set(quarter.tolist()))]
    scores = prepared.weighed(np.array(members, np.float64))[main]
    return tuple(
        Band(int(length[who].min()), int(length[who].max()), int(who.sum()), float(score))
        for who, score in zip(members, scores, strict=True)
    )


def _extremes(
    values: Float[np.ndarray, " examples"], certainty: Sequence[float], takes: str
) -> tuple[list[int], list[int]]:
    """The numbers of the worst examples that are not wholly right, and of the best that are not wholly wrong."""
    sure = np.array(certainty if len(certainty) else np.zeros(len(values)), np.float64)
    top, bottom = (0.0, -np.inf) if takes == "number" else (100.0, 0.0)
    worst = [int(n) for n in np.lexsort((-sure, values)) if values[n] < top]
    best = [int(n) for n in np.lexsort((-sure, -values)) if values[n] > bottom]
    return worst[:EXAMPLES], best[:EXAMPLES]


def _example(
    number: int, pair: tuple, prepared: Prepared, inputs: Sequence[str], certainty: Sequence[float]
) -> Example:
    return Example(
        number=number,
        value=float(prepared.values[number]),
        certainty=float(certainty[number]) if len(certainty) else None,
        target=_plain(pair[1]),
        prediction=_plain(pair[0]),
        input=inputs[number] if inputs else "",
    )


def _plain(value: str | float | Collection[str] | None) -> Plain:
    """For JSON; sets stand in order."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Collection):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    return float(value)
