"""Low-rank adapters: small matrices beside those of a model, which alone are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args

from t5like.config.checks import require, require_fields, require_positive
from t5like.config.groups import Kind
from t5like.config.marks import applies_to


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (LoRA, Hu et al. 2021) on the run that train.init_from names."""

    rank: int = 0
    """Rank r of the two matrices beside each target: x W + alpha / r x A B; 0: no adapters, all is trained."""
    alpha: Annotated[float, applies_to("rank")] = 16.0
    """Scale of the adapters' product, divided by the rank."""
    dropout: Annotated[float, applies_to("rank")] = 0.0
    """Share of the adapters' inputs that is dropped while training, one mask for the tokens of a row."""
    targets: Annotated[tuple[str, ...], applies_to("rank")] = ("query", "value")
    """Matrices that get adapters, in every attention and feed-forward layer: query, key, value, out, gate, up, down."""
    dora: Annotated[bool, applies_to("rank")] = False
    """Learn the length of each output's weights beside their direction (DoRA, Liu et al. 2024)."""
    train: Annotated[tuple[str, ...], applies_to("rank")] = ("head", "pooler")
    """Kinds of parameters, by the names of optimizer.groups, that are trained and saved beside the adapters, where the
    model has them."""

    def __post_init__(self) -> None:
        require_fields("model.lora", self)
        require(self.rank >= 0, f"model.lora.rank={self.rank} must not be negative.")
        require_positive("model.lora", self, "alpha")
        require(0 <= self.dropout < 1, f"model.lora.dropout={self.dropout} must be at least 0 and below 1.")
        for name, given in {"targets": self.targets, "train": self.train}.items():
            require(len(set(given)) == len(given), f"model.lora.{name}={given} names a part twice.")
        kinds = get_args(Kind)
        for name in self.train:
            require(name in kinds, f"model.lora.train names {name!r}; the kinds of parameters are {', '.join(kinds)}.")
        require(bool(self.targets), "model.lora.targets is empty: name matrices, such as query value.")

    @property
    def scale(self) -> float:
        """Factor of the adapters' product."""
        return self.alpha / self.rank
