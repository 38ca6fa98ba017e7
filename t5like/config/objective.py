"""What the model learns to predict, and the lengths that follow from it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from t5like.config.checks import require, require_fields
from t5like.config.marks import applies_to
from t5like.config.vocabulary import CLS, FIM, MASK, SEP


class SpanLengths(NamedTuple):
    """The lengths that span corruption turns `raw` tokens into, `inputs` and `targets` with their EOS."""

    raw: int
    noise: int
    spans: int
    inputs: int
    targets: int


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One of the denoisers that UL2 mixes (Tay et al. 2022)."""

    mode: str = ""
    """Special piece, one of data.vocabulary.extra, that stands before the input; none where empty."""
    density: float = 0.15
    """Share of the tokens that are noise."""
    mean_span: float | None = 3.0
    """Mean length of a span; None makes the noise one span at the end, as in a prefix language model."""
    rate: float = 1.0
    """How often it is chosen, against the sum of all rates."""

    def __post_init__(self) -> None:
        require_fields("data.objective.denoisers.N", self)
        require(0 < self.density < 1, f"data.objective.denoisers.N.density={self.density} must lie between 0 and 1.")
        require(
            self.mean_span is None or self.mean_span >= 1,
            f"data.objective.denoisers.N.mean_span={self.mean_span} must be at least 1, or None.",
        )
        require(self.rate > 0, f"data.objective.denoisers.N.rate={self.rate} must be above 0.")


UL2 = (
    Denoiser(mode="[R]", mean_span=3.0, density=0.15),
    Denoiser(mode="[R]", mean_span=8.0, density=0.15),
    Denoiser(mode="[S]", mean_span=None, density=0.25),
    Denoiser(mode="[X]", mean_span=3.0, density=0.5),
    Denoiser(mode="[X]", mean_span=8.0, density=0.5),
    Denoiser(mode="[X]", mean_span=64.0, density=0.15),
    Denoiser(mode="[X]", mean_span=64.0, density=0.5),
)
"""The seven denoisers of UL2; [R] [S] [X] belong into data.vocabulary.extra."""

FAMILIES = {
    "span_corruption": "encoder-decoder",
    "ul2": "encoder-decoder",
    "prefix": "encoder-decoder",
    "sequence_to_sequence": "encoder-decoder",
    "causal": "decoder",
    "prompt_target": "decoder",
    "fill_in_the_middle": "decoder",
    "masked": "encoder",
    "next_sentence": "encoder",
}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the model learns to predict."""

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
    ] = "span_corruption"
    """Encoder-decoders: T5's span corruption, UL2's mixture of denoisers, the end of a text from its beginning, a
    document's second part from its first. Decoders: the next token, the same with loss on a document's second part
    alone, or on the middle of a text moved behind its end. Encoders: BERT's masked tokens, alone or with its
    next-sentence prediction."""
    density: Annotated[float, applies_to("kind", "span_corruption", "masked", "next_sentence")] = 0.15
    """Share of the tokens to predict."""
    mean_span: Annotated[float, applies_to("kind", "span_corruption")] = 3.0
    """Mean length of a corrupted span, in tokens."""
    sentinels: Annotated[bool, applies_to("kind", "span_corruption")] = True
    """Puts a sentinel where each span was; without, the spans are simply missing."""
    denoisers: Annotated[tuple[Denoiser, ...], applies_to("kind", "ul2")] = ()
    """The mixture of denoisers; `t5like.config.UL2` holds the paper's seven."""
    whole_words: Annotated[bool, applies_to("kind", "masked", "next_sentence")] = False
    """Chooses the pieces of a word together."""
    short_rate: Annotated[float, applies_to("kind", "next_sentence")] = 0.1
    """Share of the pairs that are made shorter than a row, of a length drawn uniformly, as in BERT."""
    middle_rate: Annotated[float, applies_to("kind", "fill_in_the_middle")] = 0.5
    """Share of the texts that are rearranged (Bavarian et al. 2022); the rest stays as it is."""

    def __post_init__(self) -> None:
        require_fields("data.objective", self)
        require(0 < self.density < 1, f"data.objective.density={self.density} must lie between 0 and 1.")
        require(self.mean_span >= 1, f"data.objective.mean_span={self.mean_span} must be at least 1.")
        require(
            self.kind != "ul2" or bool(self.denoisers),
            "data.objective.kind='ul2' needs data.objective.denoisers: t5like.config.UL2 holds the paper's seven.",
        )
        require(
            0 <= self.short_rate <= 1,
            f"data.objective.short_rate={self.short_rate} must lie between 0 and 1, included.",
        )
        require(
            0 < self.middle_rate <= 1,
            f"data.objective.middle_rate={self.middle_rate} must lie above 0 and not above 1; use 'causal' for 0.",
        )

    @property
    def family(self) -> str:
        """The family of models that learns it."""
        return FAMILIES[self.kind]

    @property
    def parts(self) -> int:
        """Parts of a document that it needs."""
        return 2 if self.kind in ("sequence_to_sequence", "prompt_target") else 1

    @property
    def needs_documents(self) -> bool:
        """Whether its rows are made of documents and not of windows of running text."""
        return self.kind in ("sequence_to_sequence", "prompt_target", "fill_in_the_middle", "next_sentence")

    @property
    def draws_lengths(self) -> bool:
        """True if an example's length in a stack depends on random choices: a denoiser, a cut, an order."""
        moves_some = self.kind == "fill_in_the_middle" and self.middle_rate < 1
        return self.kind in ("ul2", "prefix") or moves_some

    @property
    def special_pieces(self) -> tuple[str, ...]:
        """Names of the special pieces that the vocabulary must have."""
        match self.kind:
            case "ul2":
                return tuple(sorted({denoiser.mode for denoiser in self.denoisers if denoiser.mode}))
            case "masked":
                return (MASK,)
            case "next_sentence":
                return (MASK, CLS, SEP)
            case "fill_in_the_middle":
                return FIM
        return ()

    def span_lengths(self, length: int) -> SpanLengths:
        """T5's lengths: the most raw tokens whose corrupted input, with EOS, fits into `length`.

        For 512 tokens, density 0.15 and mean span 3 these are 568 raw tokens, 28 spans and 114 targets
        (`random_spans_helper` of the T5 code, Raffel et al. 2020).
        """
        return _span_lengths(length, self.density, self.mean_span, self.sentinels)

    def denoised(self, length: int) -> tuple[SpanLengths, ...]:
        """For each denoiser, the lengths of the same number of raw tokens: the most whose corrupted input fits into
        `length` with every denoiser, EOS and mode included."""
        raw = min(
            _span_lengths(length - bool(d.mode), d.density, d.mean_span, d.mean_span is not None).raw
            for d in self.denoisers
        )
        lengths = [corrupted(raw, d.density, d.mean_span, d.mean_span is not None) for d in self.denoisers]
        return tuple(
            each._replace(inputs=each.inputs + bool(d.mode)) for each, d in zip(lengths, self.denoisers, strict=True)
        )


def corrupted(raw: int, density: float, mean_span: float | None, sentinels: bool = True) -> SpanLengths:
    """What `raw` tokens become; at most as many spans as there are tokens to stand between them.

    Without a mean the noise is one span at the end. A single token stays as it is, since nothing would be left.
    """
    noise = min(max(round(raw * density), 1), max(raw - 1, 0))
    spans = 1 if mean_span is None else max(min(round(noise / mean_span), raw - noise), 1)
    spans = min(spans, noise)
    marks = spans if sentinels else 0
    return SpanLengths(raw, noise, spans, raw - noise + marks + 1, noise + marks + 1)


@functools.cache
def _span_lengths(length: int, density: float, mean_span: float | None, sentinels: bool) -> SpanLengths:
    raw = 2
    while corrupted(raw + 1, density, mean_span, sentinels).inputs <= length:
        raw += 1
    longest, shorter = (corrupted(n, density, mean_span, sentinels) for n in (raw, raw - 1))
    # T5 makes inputs and targets equally long where it can if half of the tokens are noise.
    if density == 0.5 and longest.targets > longest.inputs == shorter.inputs:
        return shorter
    return longest
