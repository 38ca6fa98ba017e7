"""The choice of the next token of an answer: for commands that generate, and for decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The choice of the next token."""

    temperature: float = 0.0
    """0 takes the likeliest token; 1 samples from the model's own distribution."""
    top_k: Annotated[int, applies_to("temperature")] = 0
    """Samples among the k likeliest tokens; 0 takes all."""
    top_p: Annotated[float, applies_to("temperature")] = 1.0
    """Samples among the likeliest tokens that together have this probability."""
    min_p: Annotated[float, applies_to("temperature")] = 0.0
    """Samples among tokens with at least this share of the likeliest one's probability."""
    typical_p: Annotated[float, applies_to("temperature")] = 1.0
    """Samples among the most typical tokens that together have this probability: those whose log-probability is nearest
    to its mean."""
    repetition_penalty: float = 1.0
    """Above 1, makes tokens less likely that stand in the answer or in a decoder's prompt; below 1 likelier."""
    no_repeat_ngram_size: int = 0
    """Allows no sequence of this many tokens a second time, in the answer and a decoder's prompt; 0 allows all."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        for name in ("temperature", "top_k", "no_repeat_ngram_size"):
            given = getattr(self, name)
            require(given >= 0, f"--{name} {given} must not be negative.")
        for name in ("top_p", "typical_p"):
            share = getattr(self, name)
            require(0 < share <= 1, f"--{name} {share} must lie above 0 and not above 1.")
        require(0 <= self.min_p <= 1, f"--min_p {self.min_p} must lie between 0 and 1.")
        require_positive(FLAGS, self, "repetition_penalty")
