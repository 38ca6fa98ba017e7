"""Span corruption: UL2's denoisers, what a number of raw tokens becomes, and the most of them that fit into a row."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

from t5like.config.checks import require, require_fields


class SpanLengths(NamedTuple):
    """The lengths that span corruption turns `raw` tokens into, `inputs` and `targets` with their EOS."""

    raw: int
    noise: int
    spans: int
    inputs: int
    targets: int


class Denoising(NamedTuple):
    """One way to corrupt a text: T5's span corruption, or one of the denoisers that UL2 mixes."""

    mode: str
    """Special token before the input; none where empty."""
    density: float
    mean_span: float | None
    sentinels: bool
    rate: float

    def corrupted(self, raw: int) -> SpanLengths:
        """The lengths of `raw` tokens, the mode's token counted among the inputs."""
        lengths = corrupted(raw, self.density, self.mean_span, self.sentinels)
        return lengths._replace(inputs=lengths.inputs + bool(self.mode))

    def most(self, length: int) -> int:
        """The most raw tokens whose corrupted input fits into `length`."""
        return span_lengths(length - bool(self.mode), self.density, self.mean_span, self.sentinels).raw


def corrupted(raw: int, density: float, mean_span: float | None, sentinels: bool = True) -> SpanLengths:
    """The lengths of `raw` tokens; at most as many spans as there are tokens to stand between them.

    Without a mean the noise is one span at the end. A single token stays as it is, since nothing would be left.
    """
    noise = min(max(round(raw * density), 1), max(raw - 1, 0))
    spans = 1 if mean_span is None else max(min(round(noise / mean_span), raw - noise), 1)
    spans = min(spans, noise)
    marks = spans if sentinels else 0
    return SpanLengths(raw, noise, spans, raw - noise + marks + 1, noise + marks + 1)


@functools.cache
def span_lengths(length: int, density: float, mean_span: float | None, sentinels: bool) -> SpanLengths:
    """T5's lengths: the most raw tokens whose corrupted input, with EOS, fits into `length`.

    For 512 tokens, density 0.15 and mean span 3 these are 568 raw tokens, 28 spans and 114 targets
    (`random_spans_helper` of the T5 code, Raffel et al. 2020).
    """
    raw = 2
    while corrupted(raw + 1, density, mean_span, sentinels).inputs <= length:
        raw += 1
    longest, shorter = (corrupted(n, density, mean_span, sentinels) for n in (raw, raw - 1))
    # T5 makes inputs and targets equally long where it can if half of the tokens are noise.
    if density == 0.5 and longest.targets > longest.inputs == shorter.inputs:
        return shorter
    return longest


@functools.cache
def denoised(denoisings: tuple[Denoising, ...], length: int) -> tuple[SpanLengths, ...]:
    """For each denoiser, the lengths of the same number of raw tokens: the most whose corrupted input fits into
    `length` with every denoiser, EOS and mode included."""
    raw = min(denoising.most(length) for denoising in denoisings)
    return tuple(denoising.corrupted(raw) for denoising in denoisings)


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
