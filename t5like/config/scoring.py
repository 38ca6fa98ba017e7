"""The score of a text: on which other tokens each of its tokens is conditioned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import FLAGS, require, require_fields
from t5like.config.marks import applies_to


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The tokens on which those of a text are conditioned."""

    by: Literal["", "prefix", "spans"] = ""
    """Text alone, by an encoder-decoder: its end behind its beginning, or each of its spans in turn, with all tokens
    around it. By default spans where the run has learned to fill them."""
    prefix: Annotated[float, applies_to("by", "prefix")] = 0.5
    """Share of a text's tokens that are its beginning; 0 scores all of them."""
    span: Annotated[int, applies_to("by", "spans")] = 0
    """Tokens of a span; 0: those of a word."""
    pll: Literal["original", "within_word_l2r"] = "original"
    """Pseudo-log-likelihood of an encoder: each token with all others seen (Salazar et al. 2020), or with those masked
    too that follow in its word (Kauf and Ivanova 2023)."""
    start: bool = False
    """Read the vocabulary's start token before a text whose frame has none, so that its first token has a score."""
    end: bool | None = None
    """Score what ends a text as well. By default after a target behind an input, where the model learns that end."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(0 <= self.prefix < 1, f"--prefix {self.prefix} must be at least 0 and below 1.")
        require(self.span >= 0, f"--span {self.span} must not be negative.")
