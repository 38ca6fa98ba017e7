"""Beam search in place of one token after the other: for commands that generate, and for decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.config.sampling import Sampling

DEFAULT_PENALTIES = {"hf": 1.0, "gnmt": 0.6}
"""The length penalties of transformers and of T5X."""


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """Beam search; the names are transformers'."""

    num_beams: int = 1
    """Unfinished answers that are kept side by side; 1 searches nothing, and takes or samples one token at a time."""
    beam_rule: Annotated[Literal["hf", "gnmt"], applies_to("searches", words="--num_beams above 1")] = "hf"
    """Published rule for scores and stops: `hf` as transformers has it, `gnmt` as T5 and T5X (Wu et al. 2016)."""
    length_penalty: Annotated[float | None, applies_to("searches", words="--num_beams above 1")] = None
    """Sums of log-probabilities are divided by length ** this with hf (by default 1) and by ((5 + length) / 6) ** this
    with gnmt (by default 0.6): larger ones prefer longer answers."""
    early_stopping: Annotated[
        Literal["false", "true", "never"], applies_to("stops_early", words="--num_beams above 1 with --beam_rule hf")
    ] = "false"
    """With as many finished answers as beams, `true` stops; `false` stops if the best unfinished one scores less at its
    present length; `never` only if it could not win at any length."""
    num_return_sequences: int = 1
    """Answers to each prompt, the best first."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "num_beams", "num_return_sequences")
        require(
            not self.searches or self.num_return_sequences <= self.num_beams,
            f"--num_return_sequences {self.num_return_sequences} must be at most --num_beams {self.num_beams}: raise "
            "--num_beams.",
        )
        require(
            self.beam_rule == "hf" or self.penalty >= 0,
            f"--length_penalty {self.length_penalty} must not be negative with --beam_rule gnmt: use --beam_rule hf.",
        )

    @property
    def searches(self) -> bool:
        """True if there are beams."""
        return self.num_beams > 1

    @property
    def stops_early(self) -> bool:
        """True if the rule has a choice of when to stop."""
        return self.searches and self.beam_rule == "hf"

    @property
    def penalty(self) -> float:
        """The length penalty, by default the rule's."""
        return DEFAULT_PENALTIES[self.beam_rule] if self.length_penalty is None else self.length_penalty


def require_choice(beams: BeamSearch, sampling: Sampling) -> None:
    """Raises `UserError` for beams that sample, and for several answers that would all be the same."""
    require(
        not (beams.searches and sampling.temperature),
        f"--temperature {sampling.temperature} samples, but --num_beams {beams.num_beams} searches for the likeliest "
        "answers: give one of the two.",
    )
    require(
        beams.num_return_sequences == 1 or beams.searches or sampling.temperature > 0,
        f"--num_return_sequences {beams.num_return_sequences} would be the same answer each time: search with "
        f"--num_beams {beams.num_return_sequences} or sample with a --temperature above 0.",
    )
