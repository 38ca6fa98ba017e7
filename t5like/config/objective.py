"""The objective of a run, and all that the package must know of each kind, in one table of specs.

A new objective is its name in `Objective.kind`, an entry of `SPECS`, and a function in `t5like.data.objectives`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from t5like.config.checks import require, require_fields
from t5like.config.marks import applies_to
from t5like.config.spans import Denoiser, Denoising, SpanLengths, denoised, span_lengths
from t5like.config.vocabulary import FIM, Role

WITH_LABELS = ("classification", "multi_label_classification", "regression", "token_classification")
LABELLED = (*WITH_LABELS, "span", "multiple_choice")
"""Kinds of labelled examples, which a head learns; the former have `labels`."""


class Lengths(NamedTuple):
    """The settings of rows that a kind's lengths depend on."""

    length: int
    """Tokens of a row, `data.length`."""
    target_length: int | None
    """Tokens of the decoder's row beside an encoder's, `data.target_length`."""
    drawn: bool
    """True if the pack table has lengths that were drawn at random, `Data.draws_lengths`."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """A kind of objective. Functions take the settings; defaults are those of a text that stays as it is."""

    family: Literal["encoder-decoder", "decoder", "encoder"]
    """Family of the models that learn it; of labelled examples `Objective.stack` says it."""
    parts: int = 1
    """Parts of a document: two are an input and its target, three a labelled example."""
    by_document: bool = False
    """True if an example is a document, or a cut of one, even where `data.documents` is False."""
    packs: bool = True
    """True if examples of documents may share a row."""
    sentence_pairs: bool = False
    """True if an example is two segments, runs of sentences between CLS and SEP, the second perhaps of another
    document."""
    head: str = ""
    """Head of the model that learns labels; empty where there are none."""
    problem: str = ""
    """Kind of the labels of the head `sequence`, `Model.label_problem`."""
    answers: bool = False
    """True if targets are answers, of which the share that is right as a whole is measured."""
    cut_in_two: bool = False
    """True if the pack table cuts each text in two, so that the lengths of both parts are packed."""
    draws_lengths: Callable[[Objective], bool] | None = None
    """True if an example's tokens in a stack depend on random choices (a denoiser, a cut, an order); None: never."""
    roles: tuple[Role, ...] = ()
    """Roles of special tokens that the vocabulary must have."""
    special_tokens: Callable[[Objective], tuple[str, ...]] = lambda objective: ()
    """Names of further special tokens that it must have."""
    window: Callable[[Objective, Lengths], int] = lambda objective, row: row.length
    """Raw tokens of a window of running text, and the most of a document."""
    targets: Callable[[Objective, Lengths], int] = lambda objective, row: row.target_length or row.length
    """Tokens of the decoder's row, where there is an encoder as well."""
    sentinels: Callable[[Objective, Lengths], int] = lambda objective, row: 0
    """The most sentinels in an example."""
    check: Callable[[Objective, Lengths], None] = lambda objective, row: None
    """Raise `UserError` for settings that do not suit it."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Training objective."""

    kind: Literal[
        "span_corruption",
        "ul2",
        "prefix",
        "sequence_to_sequence",
        "causal",
        "prompt_target",
        "fill_in_the_middle",
        "masked",
        "next_sentence",
        "classification",
        "multi_label_classification",
        "regression",
        "token_classification",
        "span",
        "multiple_choice",
    ] = "span_corruption"
    """Encoder-decoders: T5's span corruption, UL2's mixture of denoisers, the end of a text from its beginning, a
    document's second part from its first. Decoders: the next token, the same with loss on a document's second part
    alone, or on the middle of a text moved behind its end. Encoders: BERT's masked tokens, alone or with its
    next-sentence prediction. Heads on an encoder or a decoder: one label of a text or of a pair, any number of labels,
    numbers, a label of each token, the first and the last token of an answer, or the right one of some candidates."""
    stack: Annotated[Literal["encoder", "decoder"], applies_to("kind", *LABELLED)] = "encoder"
    """The stack whose states the head scores, which is the family of the model: a decoder scores a text by its last
    token (`model.pooling`)."""
    labels: Annotated[int, applies_to("kind", *WITH_LABELS)] = 0
    """Labels to choose from, or numbers of a text; `model.labels` is the same."""
    candidates: Annotated[int, applies_to("kind", "multiple_choice")] = 0
    """The most candidates of an example."""
    density: Annotated[float, applies_to("kind", "span_corruption", "masked", "next_sentence")] = 0.15
    """Share of the tokens to predict."""
    mean_span: Annotated[float, applies_to("kind", "span_corruption")] = 3.0
    """Mean length of a corrupted span, in tokens."""
    sentinels: Annotated[bool, applies_to("kind", "span_corruption")] = True
    """Replace each span by a sentinel; without, the spans are simply missing."""
    denoisers: Annotated[tuple[Denoiser, ...], applies_to("kind", "ul2")] = ()
    """The mixture of denoisers; `t5like.config.UL2` holds the paper's seven."""
    whole_words: Annotated[bool, applies_to("kind", "masked", "next_sentence")] = False
    """Mask whole words: the tokens of a word are chosen together."""
    words: Annotated[Literal["pieces", "marks", "chinese"], applies_to("whole_words")] = "marks"
    """The words: runs of letters and digits, with marks and Chinese characters apart; with `chinese` also the words of
    Chinese (needs the extra `zh`). `pieces` is what runs of earlier versions go on with: a piece alone tells whether it
    begins a word, so that one behind a comma without a space joins the comma."""
    short_rate: Annotated[float, applies_to("kind", "next_sentence")] = 0.1
    """Share of the pairs that are shorter than a row, of a length drawn uniformly, as in BERT."""
    middle_rate: Annotated[float, applies_to("kind", "fill_in_the_middle")] = 0.5
    """Share of the texts that are rearranged (Bavarian et al. 2022); the rest stays as it is."""
    suffix_first_rate: Annotated[float, applies_to("kind", "fill_in_the_middle")] = 0.0
    """Share of the rearranged texts in which the end comes before the beginning (SPM), which the middle then follows
    without a token between; the others have the beginning first (PSM). The paper advises 0.5."""

    def __post_init__(self) -> None:
        require_fields("data.objective", self)
        require(0 < self.density < 1, f"data.objective.density={self.density} must lie between 0 and 1.")
        require(self.mean_span >= 1, f"data.objective.mean_span={self.mean_span} must be at least 1.")
        require(
            0 <= self.short_rate <= 1,
            f"data.objective.short_rate={self.short_rate} must lie between 0 and 1, included.",
        )
        require(
            0 < self.middle_rate <= 1,
            f"data.objective.middle_rate={self.middle_rate} must lie above 0 and not above 1; use 'causal' for 0.",
        )

        require(
            0 <= self.suffix_first_rate <= 1,
            f"data.objective.suffix_first_rate={self.suffix_first_rate} must lie between 0 and 1, included.",
        )

    @property
    def masks_chinese_words(self) -> bool:
        """True if words of Chinese are found."""
        return self.whole_words and self.words == "chinese"

    @property
    def spec(self) -> ObjectiveSpec:
        """All that does not depend on other fields than the kind."""
        return SPECS[self.kind]

    @property
    def family(self) -> Literal["encoder-decoder", "decoder", "encoder"]:
        """Family of the models that learn it."""
        return self.stack if self.kind in LABELLED else self.spec.family

    @property
    def draws_lengths(self) -> bool:
        """True if an example's tokens in a stack depend on random choices: a denoiser, a cut, an order."""
        return self.spec.draws_lengths is not None and self.spec.draws_lengths(self)

    @property
    def denoisings(self) -> tuple[Denoising, ...]:
        """UL2's denoisers, or else the only one of span corruption."""
        mixture = (Denoising(d.mode, d.density, d.mean_span, d.mean_span is not None, d.rate) for d in self.denoisers)
        return tuple(mixture) or (Denoising("", self.density, self.mean_span, self.sentinels, 1.0),)

    def span_lengths(self, length: int) -> SpanLengths:
        """The lengths of span corruption in a row of `length` tokens (`spans.span_lengths`)."""
        return span_lengths(length, self.density, self.mean_span, self.sentinels)

    def denoised(self, length: int) -> tuple[SpanLengths, ...]:
        """The lengths of each denoiser in a row of `length` tokens (`spans.denoised`)."""
        return denoised(self.denoisings, length)


def _need_denoisers(objective: Objective, row: Lengths) -> None:
    require(
        bool(objective.denoisers),
        f"data.objective.kind={objective.kind!r} needs data.objective.denoisers: t5like.config.UL2 holds the "
        "paper's seven.",
    )


def _need_text_between_spans(objective: Objective, row: Lengths) -> None:
    lengths = objective.span_lengths(row.length)
    require(
        round(lengths.noise / objective.mean_span) <= lengths.raw - lengths.noise,
        f"data.objective.density={objective.density} and data.objective.mean_span={objective.mean_span} leave no text "
        "between the spans: lower the density or raise the mean.",
    )


def _need_target_length(objective: Objective, row: Lengths) -> None:
    require(
        row.target_length is not None,
        f"data.objective.kind={objective.kind!r} needs data.target_length, the tokens of the decoder's row.",
    )


def _need_labels(objective: Objective, row: Lengths) -> None:
    least = 2 if objective.kind in ("classification", "token_classification") else 1
    require(
        objective.labels >= least,
        f"data.objective.kind={objective.kind!r} needs data.objective.labels of at least {least}, the labels or the "
        f"numbers of an example, not {objective.labels}.",
    )


def _need_candidates(objective: Objective, row: Lengths) -> None:
    require(
        objective.candidates >= 2,
        f"data.objective.kind={objective.kind!r} needs data.objective.candidates of at least 2, the most of an "
        f"example, not {objective.candidates}.",
    )


def _denoised_window(objective: Objective, row: Lengths) -> int:
    return objective.denoised(row.length)[0].raw


def _denoised_targets(objective: Objective, row: Lengths) -> int:
    return max(lengths.targets for lengths in objective.denoised(row.length))


def _sentinels(objective: Objective, row: Lengths) -> int:
    pairs = zip(objective.denoisings, objective.denoised(row.length), strict=True)
    return max(lengths.spans if denoising.sentinels else 0 for denoising, lengths in pairs)


_DENOISING = ObjectiveSpec(
    family="encoder-decoder", window=_denoised_window, targets=_denoised_targets, sentinels=_sentinels
)
_LABELLED = ObjectiveSpec(family="encoder", parts=3, by_document=True, packs=False)
_SEQUENCE = replace(_LABELLED, head="sequence", check=_need_labels)
SPECS = {
    "span_corruption": replace(_DENOISING, check=_need_text_between_spans),
    "ul2": replace(
        _DENOISING,
        draws_lengths=lambda objective: True,
        special_tokens=lambda objective: tuple(sorted({d.mode for d in objective.denoisers if d.mode})),
        check=_need_denoisers,
    ),
    "prefix": ObjectiveSpec(
        family="encoder-decoder",
        cut_in_two=True,
        draws_lengths=lambda objective: True,
        # Packed, two such documents that are cut at the right positions fill both stacks, each with its EOS.
        window=lambda objective, row: row.length - 2 * row.drawn,
    ),
    "sequence_to_sequence": ObjectiveSpec(
        family="encoder-decoder", parts=2, by_document=True, answers=True, check=_need_target_length
    ),
    "causal": ObjectiveSpec(family="decoder"),
    "prompt_target": ObjectiveSpec(family="decoder", parts=2, by_document=True, answers=True),
    "fill_in_the_middle": ObjectiveSpec(
        family="decoder",
        by_document=True,
        draws_lengths=lambda objective: objective.middle_rate < 1,
        special_tokens=lambda objective: FIM,
        window=lambda objective, row: row.length - 4,  # the three special tokens and EOS
    ),
    "masked": ObjectiveSpec(family="encoder", roles=("mask",)),
    "next_sentence": ObjectiveSpec(
        family="encoder",
        by_document=True,
        packs=False,
        sentence_pairs=True,
        head="next_sentence",
        cut_in_two=True,
        draws_lengths=lambda objective: True,
        roles=("mask", "cls", "sep"),
        window=lambda objective, row: row.length - 3,  # CLS and two SEP
    ),
    "classification": replace(_SEQUENCE, problem="single_label_classification"),
    "multi_label_classification": replace(_SEQUENCE, problem="multi_label_classification"),
    "regression": replace(_SEQUENCE, problem="regression"),
    "token_classification": replace(_LABELLED, head="token", packs=True, check=_need_labels),
    "span": replace(_LABELLED, head="span"),
    "multiple_choice": replace(_LABELLED, head="choice", check=_need_candidates),
}
"""The specs by `Objective.kind`."""
HEADS = {
    spec.head: [kind for kind, other in SPECS.items() if other.head == spec.head]
    for spec in SPECS.values()
    if spec.head
}
"""The heads that learn labels, and the objectives that have these."""
