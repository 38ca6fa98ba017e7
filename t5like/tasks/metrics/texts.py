"""Scores of texts: exact match, BLEU and chrF of sacrebleu, ROUGE of rouge-score.

All give the exact match too. Of several references BLEU takes the n-grams of all, the others the best one. BLEU and
chrF are those of the whole list, from its summed counts; ROUGE is by definition a mean.
"""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain

import numpy as np
from jaxtyping import Float

from t5like.errors import UserError
from t5like.tasks.metrics.prepared import Prepared, Weighed, mean_of

Text = str | tuple[str, ...]
Targets = Sequence[Text]
Table = Float[np.ndarray, "examples counts"]
Row = Float[np.ndarray, " counts"]
Matches = Float[np.ndarray, " examples"]
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORD = re.compile(r"[a-z0-9]+|[^\W_]")
"""A Latin word as rouge-score has it, or one letter of another script."""
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
CHINESE = 0.3
"""From this share of Han characters a list of texts is Chinese."""


def references(target: Text) -> list[str]:
    """The references of a target."""
    return [target] if isinstance(target, str) else list(target)


def is_chinese(texts: Sequence[Text]) -> bool:
    """True if a good part of the characters are Chinese ones, so that texts have characters for words."""
    text = "".join(chain.from_iterable(references(target) for target in texts))
    return len(HAN.findall(text)) > CHINESE * len("".join(text.split()))


def exact_match(predictions: Sequence[str], targets: Targets, chinese: bool) -> Prepared:
    """The share of texts that are one of their references, white space at both ends aside."""
    matches = _matches(predictions, targets)
    return Prepared("exact match|strip:yes|case:mixed", 100 * matches, _with_matches(matches, lambda weights: {}))


def _matches(predictions: Sequence[str], targets: Targets) -> Matches:
    pairs = zip(predictions, targets, strict=True)
    return np.array([p.strip() in {r.strip() for r in references(target)} for p, target in pairs], np.float64)


def _with_matches(matches: Matches, weighed: Weighed) -> Weighed:
    exact = mean_of(matches[:, None], ("exact_match",))
    return lambda weights: weighed(weights) | exact(weights)


def bleu(predictions: Sequence[str], targets: Targets, chinese: bool) -> Prepared:
    """Corpus BLEU, as sacrebleu gives it (Papineni et al. 2002, Post 2018): its tokeniser 13a, or zh for Chinese."""
    return _bleu(predictions, targets, "zh" if chinese else "13a")


def tokenized_bleu(predictions: Sequence[str], targets: Targets, chinese: bool) -> Prepared:
    """Corpus BLEU of texts that are tokenised already: words are what white space divides, as papers on code count."""
    return _bleu(predictions, targets, "none")


def _bleu(predictions: Sequence[str], targets: Targets, tokenize: str) -> Prepared:
    from sacrebleu.metrics.bleu import BLEU

    metric, sentence = BLEU(tokenize=tokenize, force=True), BLEU(tokenize=tokenize, effective_order=True, force=True)
    metric.num_refs = _number_of_references(targets)
    scores = [sentence.sentence_score(p, references(target)) for p, target in zip(predictions, targets, strict=True)]
    table = np.array([(*s.counts, *s.totals, s.sys_len, s.ref_len) for s in scores], np.float64)
    order = metric.max_ngram_order

    def corpus(row: Row) -> float:
        counts = [int(count) for count in row]
        return BLEU.compute_bleu(counts[:order], counts[order:-2], *counts[-2:], smooth_method="exp").score

    values = np.array([s.score for s in scores])
    weighed = _of_sums(table, "bleu", corpus)
    return Prepared(f"BLEU|{metric.get_signature()}", values, _with_matches(_matches(predictions, targets), weighed))


def chrf(predictions: Sequence[str], targets: Targets, chinese: bool) -> Prepared:
    """chrF2, as sacrebleu gives it (Popović 2015): F of n-grams of up to six characters, recall counting twice."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    table = np.array(
        [
            metric._extract_corpus_statistics([prediction], [[text] for text in references(target)])[0]
            for prediction, target in zip(predictions, targets, strict=True)
        ],
        np.float64,
    )
    metric.num_refs = _number_of_references(targets)  # after the counts of single examples, which set it

    def corpus(row: Row) -> float:
        return metric._compute_f_score([int(count) for count in row])

    values = np.array([corpus(row) for row in table])
    weighed = _of_sums(table, "chrf", corpus)
    return Prepared(f"chrF2|{metric.get_signature()}", values, _with_matches(_matches(predictions, targets), weighed))


def _of_sums(table: Table, name: str, corpus: Callable[[Row], float]) -> Weighed:
    """A figure of the summed counts of all examples."""
    return lambda weights: {name: np.array([corpus(row) for row in weights @ table])}


def _number_of_references(targets: Targets) -> int:
    """Of each target, or -1 if they differ, which signatures call "var"."""
    numbers = {len(references(target)) for target in targets}
    return numbers.pop() if len(numbers) == 1 else -1


class CharacterTokenizer:
    """The characters of Chinese and the words of Latin script, in the form that rouge-score takes."""

    def tokenize(self, text: str) -> list[str]:
        """Lower case, without punctuation."""
        return WORD.findall(text.lower())


def rouge(predictions: Sequence[str], targets: Targets, chinese: bool) -> Prepared:
    """ROUGE-1, -2, -L and -Lsum (Lin 2004), means of F as rouge-score gives it, without stemming; Lsum has a sentence a
    line. Tokens are words of a-z and 0-9, or for Chinese characters.

    Raises:
      UserError: the references have no such word, so that every score would be 0.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer = CharacterTokenizer() if chinese else DefaultTokenizer()
    if not any(tokenizer.tokenize(text) for target in targets for text in references(target)):
        raise UserError("The targets have no words of a-z and 0-9, and ROUGE counts no others: choose chrf or bleu.")
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    scored = [scorer.score_multi(references(target), p) for p, target in zip(predictions, targets, strict=True)]
    table = np.array([[scores[name].fmeasure for name in ROUGE] for scores in scored])
    tokens = "characters" if chinese else "words"
    signature = f"ROUGE|tok:{tokens}|stem:no|measure:f|version:{version('rouge-score')}"
    weighed = _with_matches(_matches(predictions, targets), mean_of(table, ROUGE))
    return Prepared(signature, 100 * table[:, ROUGE.index("rougeL")], weighed)
