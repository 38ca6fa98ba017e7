"""Entities of tags, as seqeval's strict mode finds them, and the share of tags that are right.

An entity is right if its type, first and last word are. Schemes are told apart by the targets: IOBES if any tag ends an
entity (E, S; also L, U and M of BILOU and BMES), IOB1 if most entities begin with I, else IOB2. In IOB2 an I that no B
of its type precedes is no entity; in IOBES neither is a B that no E ends.
"""

from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np

from t5like.errors import UserError
from t5like.tasks.metrics.prepared import Prepared, Totals, Weights, f1_of, share

PREFIXES = {"O": "O", "B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
OUTSIDE = ("O", "")
Tags = Sequence[str]
Entity = tuple[str, int, int]
"""Type, first word, and the word after the last."""


def entities(predictions: Sequence[Tags], targets: Sequence[Tags], chinese: bool) -> Prepared:
    """Precision, recall and F1 of entities over the whole list. An example's own value is its F1, and 100 if there is
    nothing to find and nothing found.

    Raises:
      UserError: targets that name no entities.
    """
    scheme = scheme_of(targets)
    found = [
        (entities_of(prediction, scheme), entities_of(target, scheme))
        for prediction, target in zip(predictions, targets, strict=True)
    ]
    table = np.array([(len(said & right), len(said), len(right)) for said, right in found], np.float64)
    values = [200 * len(said & right) / (len(said) + len(right)) if said or right else 100.0 for said, right in found]

    def weighed(weights: Weights) -> dict[str, Totals]:
        hits, said, right = (weights @ table).T
        return {"precision": share(hits, said), "recall": share(hits, right), "f1": f1_of(hits, said, right)}

    return Prepared(f"entities|scheme:{scheme}|mode:strict", np.array(values), weighed)


def tag_accuracy(predictions: Sequence[Tags], targets: Sequence[Tags], chinese: bool) -> Prepared:
    """The share of words whose tag is right, over all words of the list; a word without a prediction is wrong."""
    right = [sum(map(str.__eq__, *pair)) for pair in zip(predictions, targets, strict=True)]
    words = [len(target) for target in targets]
    table = np.array([right, words], np.float64).T

    def weighed(weights: Weights) -> dict[str, Totals]:
        return {"tag_accuracy": share(*(weights @ table).T)}

    return Prepared("tags", share(table[:, 0], table[:, 1], 100.0), weighed)


def scheme_of(targets: Sequence[Tags]) -> str:
    """IOB2, IOBES or IOB1.

    Raises:
      UserError: a tag names no entity, as B-PER and O do.
    """
    for tag in set(chain.from_iterable(targets)):
        if tag.partition("-")[0] not in PREFIXES:
            raise UserError(
                f"The tag {tag!r} is not one of entities, such as B-PER, I-PER and O: the metric 'tag_accuracy' takes "
                "tags of any kind."
            )
    parsed = [[OUTSIDE, *map(_parsed, target)] for target in targets]
    if any(prefix in "ES" for prefix, _ in chain.from_iterable(parsed)):
        return "IOBES"
    begins = [
        prefix
        for before, (prefix, kind) in chain.from_iterable(map(pairwise, parsed))
        if prefix == "B" or (prefix == "I" and (before[1] != kind or before == OUTSIDE))
    ]
    return "IOB1" if begins.count("I") > begins.count("B") else "IOB2"


def _parsed(tag: str) -> tuple[str, str]:
    """Prefix and type; a tag of no scheme, which a model may say, is outside."""
    prefix, _, kind = tag.partition("-")
    return (PREFIXES[prefix], kind) if PREFIXES.get(prefix, "O") != "O" else OUTSIDE


def entities_of(tags: Tags, scheme: str) -> set[Entity]:
    """The entities of one sentence: B-PER I-PER O B-LOC has (PER, 0, 2) and (LOC, 3, 4)."""
    found: set[Entity] = set()
    open_at, open_kind = -1, ""
    for word, (prefix, kind) in enumerate([*map(_parsed, tags), OUTSIDE]):
        if prefix in "ES" and scheme != "IOBES":
            prefix, kind = OUTSIDE
        goes_on = open_at >= 0 and prefix in "IE" and kind == open_kind
        if goes_on and prefix == "I":
            continue
        if open_at >= 0 and (scheme != "IOBES" or goes_on):
            found.add((open_kind, open_at, word + goes_on))
        if prefix == "S":
            found.add((kind, word, word + 1))
        begins = prefix == "B" or (prefix == "I" and scheme == "IOB1")
        open_at, open_kind = (word, kind) if begins else (-1, "")
    return found
