"""Exact match and F1 of answers, as the scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018 normalise and score them.

An example has several right answers, of which the best counts, or none: then "" is right. Where some have none, the
figures stand for both kinds apart too (HasAns, NoAns), and SQuAD's rules are those of version 2.0, which differ in one
thing: of an answer that is nothing but articles and punctuation F1 is 1 if both are, and not 0.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

import numpy as np
from jaxtyping import Float

from t5like.tasks.metrics.prepared import Prepared, Totals, Weights, share

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
IDEOGRAPH = re.compile("[\u4e00-\u9fa5]")
"""The characters that CMRC's script takes as segments of their own."""
CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""The marks that CMRC's script takes out. It names the ellipsis as a pair of characters, and so keeps it."""
Answers = tuple[str, ...]
Compare = Callable[[str, str], tuple[float, float]]
"""Exact match and F1, 0 to 1, of a prediction beside one answer."""


def squad(predictions: Sequence[str], targets: Sequence[Answers], chinese: bool) -> Prepared:
    """SQuAD's exact match and F1: words in lower case, without punctuation, articles and further white space."""
    newer = not all(targets)
    golds = [_with_words(answers) for answers in targets] if newer else targets

    def compare(prediction: str, answer: str) -> tuple[float, float]:
        said, right = normalized(prediction), normalized(answer)
        return float(said == right), _overlap(said.split(), right.split(), newer)

    return _scored(predictions, golds, targets, compare, f"squad|version:{'2.0' if newer else '1.1'}")


def cmrc(predictions: Sequence[str], targets: Sequence[Answers], chinese: bool) -> Prepared:
    """CMRC 2018's exact match and F1, by the longest common run of segments: Chinese characters and Latin words.

    Words are those of NLTK's tokeniser, of a Latin run as one sentence, since the splitter of the script needs data
    that NLTK downloads: a full stop inside a run of several sentences stays with its word. An unanswerable question,
    which the script does not know, counts as in SQuAD 2.0.
    """

    def compare(prediction: str, answer: str) -> tuple[float, float]:
        exact = without_punctuation(prediction) == without_punctuation(answer)
        f1 = _longest_run(segments(prediction), segments(answer)) if answer else float(exact)
        return float(exact), f1

    return _scored(predictions, targets, targets, compare, "cmrc|version:2018-v5")


def _scored(
    predictions: Sequence[str], golds: Sequence[Answers], targets: Sequence[Answers], compare: Compare, signature: str
) -> Prepared:
    """Means of the best of each example's answers, apart for those with answers and without if there are both."""
    table = np.array(
        [
            np.max([compare(prediction, answer) for answer in answers or ("",)], axis=0)
            for prediction, answers in zip(predictions, golds, strict=True)
        ]
    )
    answerable = np.array([bool(answers) for answers in targets])
    groups = {"": np.ones_like(answerable)}
    if not answerable.all():
        groups |= {"HasAns_": answerable, "NoAns_": ~answerable}

    def weighed(weights: Weights) -> dict[str, Totals]:
        figures: dict[str, Totals] = {}
        for prefix, members in groups.items():
            if members.any():
                figures |= _means(weights * members, table, prefix)
        return figures

    return Prepared(signature, 100 * table[:, 1], weighed)


def _means(weights: Weights, table: Float[np.ndarray, "examples 2"], prefix: str) -> dict[str, Totals]:
    """Of a resample without any such example there is no mean."""
    exact, f1 = (weights @ table).T
    total = weights.sum(1)
    return {f"{prefix}exact_match": share(exact, total, np.nan), f"{prefix}f1": share(f1, total, np.nan)}


def _with_words(answers: Answers) -> Answers:
    """Without those that normalise to nothing, as SQuAD 2.0's script does."""
    return tuple(answer for answer in answers if normalized(answer))


def normalized(answer: str) -> str:
    """Lower case without punctuation, articles and further white space: "The  Eiffel-Tower!" is "eiffeltower"."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(NO_PUNCTUATION)).split())


def _overlap(said: list[str], right: list[str], newer: bool) -> float:
    """F1 of the words as bags."""
    if newer and not (said and right):
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right)) if common else 0.0


def segments(text: str) -> list[str]:
    """Chinese characters and other words in lower case, without CMRC's punctuation: "在 iPhone" is 在 and iphone."""
    found, run = [], ""
    for character in text.lower().strip():
        if IDEOGRAPH.match(character):
            found += [*_words(run), character]
            run = ""
        elif character not in CMRC_PUNCTUATION:
            run += character
    return found + _words(run)


def _words(run: str) -> list[str]:
    if not run.strip() or run.isalnum():
        return run.split()
    from nltk import word_tokenize  # here, since it takes a second that most scores do not need

    return word_tokenize(run, preserve_line=True)


def _longest_run(said: list[str], right: list[str]) -> float:
    """F1 of the longest run of segments that both have."""
    common = SequenceMatcher(None, said, right, autojunk=False).find_longest_match().size
    return 2 * common / (len(said) + len(right)) if common else 0.0


def without_punctuation(text: str) -> str:
    """Lower case without CMRC's punctuation."""
    return "".join(character for character in text.lower().strip() if character not in CMRC_PUNCTUATION)
