"""Parameter groups: parameters that learn at another rate, are not decayed, or are frozen.

A group is a kind of parameter, and `Groups` has a field for each kind that a model can have, as `Rules` has one for
each dimension. So every parameter is in exactly one group, and a misspelt name is an error, not a rule without effect.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from t5like.config.checks import require_fields, require_positive

Kind = Literal["embedding", "output", "attention", "mlp", "norm", "relative", "pooler", "head"]
Part = Literal["encoder", "decoder", Kind]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Learning rate and decay of one kind of parameters."""

    rate: float = 1.0
    """Factor of the learning rate, and with it of the decay."""
    decay: bool = True
    """Apply optimizer.weight_decay; biases are left out in every group."""


@dataclass(frozen=True, kw_only=True)
class Groups:
    """A group for each kind of parameters."""

    embedding: Group = Group()
    """Embeddings of tokens, learned positions and token types."""
    output: Group = Group()
    """Output matrix where it is not tied, its bias, and BERT's transform before it."""
    attention: Group = Group()
    """Queries, keys, values and what joins the heads."""
    mlp: Group = Group()
    """Feed-forward layers."""
    norm: Group = Group(decay=False)
    """Scales and biases of norms."""
    relative: Group = Group(decay=False)
    """T5's relative position bias."""
    pooler: Group = Group()
    """BERT's pooler."""
    head: Group = Group()
    """Scores of rows, of tokens or of spans."""

    def __post_init__(self) -> None:
        require_fields("optimizer.groups", self)
        for field in dataclasses.fields(self):
            group = getattr(self, field.name)
            require_fields(f"optimizer.groups.{field.name}", group)
            require_positive(f"optimizer.groups.{field.name}", group, "rate")
