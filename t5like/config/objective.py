"""The objective of a run: its kind and the settings of noise, masks and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields
from t5like.config.marks import applies_to
from t5like.config.objectives import SPECS, ObjectiveSpec
from t5like.config.spans import Denoising, SpanLengths, denoised, span_lengths


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One of the denoisers that UL2 mixes (Tay et al. 2022)."""

    mode: str = ""
    """Special token before the input, one of data.vocabulary.extra; empty: none."""
    density: float = 0.15
    """Share of the tokens that are noise."""
    mean_span: float | None = 3.0
    """Mean length of a span; None makes the noise one span at the end, as in a prefix language model."""
    rate: float = 1.0
    """Rate at which it is chosen, against the sum of all rates."""

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
    """Replace each span by a sentinel; without, the spans are simply missing."""
    denoisers: Annotated[tuple[Denoiser, ...], applies_to("kind", "ul2")] = ()
    """The mixture of denoisers; `t5like.config.UL2` holds the paper's seven."""
    whole_words: Annotated[bool, applies_to("kind", "masked", "next_sentence")] = False
    """Mask whole words: the tokens of a word are chosen together."""
    short_rate: Annotated[float, applies_to("kind", "next_sentence")] = 0.1
    """Share of the pairs that are shorter than a row, of a length drawn uniformly, as in BERT."""
    middle_rate: Annotated[float, applies_to("kind", "fill_in_the_middle")] = 0.5
    """Share of the texts that are rearranged (Bavarian et al. 2022); the rest stays as it is."""

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

    @property
    def spec(self) -> ObjectiveSpec:
        """All that does not depend on other fields than the kind."""
        return SPECS[self.kind]

    @property
    def family(self) -> str:
        """Family of the models that learn it."""
        return self.spec.family

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
