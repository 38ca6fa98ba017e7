"""Options of import, export and verify: of the commands, and of their functions in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.layout import Mesh, Rules
from t5like.config.marks import applies_to, repeatable
from t5like.config.training import Step


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of `t5like import`."""

    vocabulary: str = ""
    """Tokenizer, where the folder has none, as a checkpoint of T5X: a file or folder as for data.vocabulary.path, or
    `bytes`."""
    sentinels: Annotated[int, applies_to("vocabulary")] = 100
    """Sentinels that follow the pieces of --vocabulary, if these have none of their own."""
    ignore: Annotated[tuple[str, ...], repeatable()] = ()
    """A tensor of the folder that may be left out; may be given several times."""
    add_rows: bool = False
    """Adds rows to the embedding, and to an output of its own, for pieces of the tokenizer that the checkpoint has
    none for; each begins as the mean of the others."""
    mesh: Mesh = Mesh()
    """Devices that the parameters are read onto; kept in the run's config."""
    rules: Rules = Rules()
    """Sharding of the parameters over them; kept in the run's config."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.sentinels >= 0, f"--sentinels {self.sentinels} must not be negative.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `t5like export`."""

    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the exported weights."""
    type: str = ""
    """Model type of transformers where several have the architecture, such as t5 and mt5; the likeliest by default."""
    adapter: bool = False
    """Write the adapters of a run with model.lora alone, as PEFT loads them onto the export of their base."""
    shard_gigabytes: Annotated[float, applies_to("adapter", False)] = 5.0
    """Largest file of weights, in 10^9 bytes; larger models are cut into several, with an index."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "shard_gigabytes")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Options of `t5like verify`."""

    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""
    tolerance: float = 1e-4
    """Largest difference of logits and of the loss, relative to 1 or to the largest logit, that passes."""
    tokens: int = 16
    """Tokens of the greedy continuation that is compared."""
    text: Annotated[tuple[str, ...], repeatable()] = ()
    """A text for the batch of real text; may be given several times. Otherwise a few sentences of ours."""
    json: bool = False
    """Print JSON lines."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "tolerance", "tokens")
