"""The choice of the next token of an answer: for commands that generate, and for decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from t5like.config.checks import FLAGS, require, require_fields
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

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.temperature >= 0, f"--temperature {self.temperature} must not be negative.")
        require(self.top_k >= 0, f"--top_k {self.top_k} must not be negative.")
        require(0 < self.top_p <= 1, f"--top_p {self.top_p} must lie above 0 and not above 1.")
