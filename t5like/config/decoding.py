"""All options of the answers to prompts together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from t5like.config.beams import BeamSearch, require_choice
from t5like.config.checks import require
from t5like.config.constraints import Constraints
from t5like.config.sampling import Sampling
from t5like.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Answers of at most `tokens` tokens; with `scores`, the model's log-probability of each token."""

    tokens: int = 64
    seed: int = 0
    scores: bool = False
    sampling: Sampling = Sampling()
    beams: BeamSearch = BeamSearch()
    constraints: Constraints = Constraints()

    def __post_init__(self) -> None:
        require(self.tokens > 0, f"tokens={self.tokens} must be above 0.")
        require(0 <= self.seed < 2**31, f"seed={self.seed} must be at least 0 and below 2**31.")
        require_choice(self.beams, self.sampling)
        self.constraints.require_alone(self.tokens, self.beams.num_beams)


def decoding_of(tokens: int, seed: int, scores: bool, options: dict[str, Any]) -> Decoding:
    """The options of answers from the fields of their groups by name, such as `temperature`, `num_beams` and `stop`.

    Raises:
      UserError: a name that no group has, or a value that it cannot have.
    """
    groups = {"sampling": Sampling, "beams": BeamSearch, "constraints": Constraints}
    names = {field.name: group for group, kind in groups.items() for field in dataclasses.fields(kind)}
    given: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for name, value in options.items():
        if name not in names:
            raise UserError(f"There is no option {name!r} of answers{did_you_mean(name, names)}")
        given[names[name]][name] = tuple(value) if isinstance(value, list) else value
    made: dict[str, Any] = {group: kind(**given[group]) for group, kind in groups.items()}
    return Decoding(tokens=tokens, seed=seed, scores=scores, **made)
