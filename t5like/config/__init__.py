"""The config of a run: one frozen value that holds every choice, and the checks that it makes sense.

A preset in `configs/` builds a complete `Config`; the command line overrides single fields by their dotted names;
the run directory keeps the result as JSON (all three: `presets.py`). No default lives outside these classes. A class
checks its own fields, `Config` checks those that must fit together, and each check is one sentence with the remedy.
"""

import dataclasses
from dataclasses import dataclass

from t5like.config.checks import require, require_fields
from t5like.config.data import Data
from t5like.config.filters import (
    C4Rules,
    ExactDuplicates,
    Filter,
    GopherRules,
    Language,
    Length,
    NearDuplicates,
    Overlap,
    RepeatedLines,
    Together,
    UnicodeForm,
)
from t5like.config.groups import Group, Groups
from t5like.config.layout import STRATEGIES, Mesh, Rules
from t5like.config.lora import Lora
from t5like.config.model import Model
from t5like.config.objective import HEADS, UL2, Denoiser, Objective
from t5like.config.sources import Source
from t5like.config.training import Eval, Optimizer, Train
from t5like.config.vocabulary import CLS, FIM, MASK, ROLES, SEP, Role, Vocabulary

__all__ = [
    "CLS",
    "FIM",
    "MASK",
    "ROLES",
    "SEP",
    "STRATEGIES",
    "UL2",
    "C4Rules",
    "Config",
    "Data",
    "Denoiser",
    "Eval",
    "ExactDuplicates",
    "Filter",
    "GopherRules",
    "Group",
    "Groups",
    "Language",
    "Length",
    "Lora",
    "Mesh",
    "Model",
    "NearDuplicates",
    "Objective",
    "Optimizer",
    "Overlap",
    "RepeatedLines",
    "Role",
    "Rules",
    "Source",
    "Together",
    "Train",
    "UnicodeForm",
    "Vocabulary",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run."""

    model: Model
    data: Data
    optimizer: Optimizer = Optimizer()
    mesh: Mesh = Mesh()
    rules: Rules = Rules()
    train: Train
    eval: Eval = Eval()

    def __post_init__(self) -> None:
        require_fields("config", self)
        pieces, objective = self.data.vocabulary.pieces, self.data.objective
        require(
            self.model.vocab >= pieces,
            f"model.vocab={self.model.vocab} is below the {pieces} tokens of data.vocabulary; "
            f"set model.vocab={-(-pieces // 128) * 128}.",
        )
        require(
            self.model.family == objective.family,
            f"data.objective.kind={objective.kind!r} is for the family {objective.family!r}, but model.encoder_layers="
            f"{self.model.encoder_layers} and model.decoder_layers={self.model.decoder_layers} make "
            f"{self.model.family!r}: change the layers or the objective.",
        )
        head, needed = self.model.head, objective.spec.head
        require(
            head == needed or not needed,
            f"data.objective.kind={objective.kind!r} needs model.head={needed!r}, not {head!r}.",
        )
        require(
            HEADS.get(head, objective.kind) == objective.kind,
            f"model.head={head!r} learns from data.objective.kind={HEADS.get(head)!r}, not {objective.kind!r}.",
        )
        idle = [name for name, size in dataclasses.asdict(self.mesh).items() if size > 1 and not self.rules.uses(name)]
        require(
            not idle,
            f"mesh.{', mesh.'.join(idle)} above 1 would have devices do the same work, since no rule splits it: "
            f"set it to 1, or take other --rules: {', '.join(STRATEGIES)}.",
        )
        longest = max(self.data.lengths.values())
        require(
            self.model.max_positions is None or longest <= self.model.max_positions,
            f"Rows of {longest} tokens do not fit model.max_positions={self.model.max_positions}: "
            "lower data.length or raise model.max_positions.",
        )
        self._check_schedule()

    def _check_schedule(self) -> None:
        settings, steps = self.optimizer, self.train.steps
        warmup, decay, end = settings.warmup, settings.decay, settings.end(steps)
        given = f"train.steps={steps}" if settings.schedule_steps is None else f"optimizer.schedule_steps={end}"
        # A run may end within its warm-up, but these two schedules count from their end.
        needed = {"cosine": warmup + 1, "warmup_stable_decay": warmup + decay}.get(settings.schedule, 0)
        require(
            needed <= end,
            f"optimizer.schedule={settings.schedule!r} with optimizer.warmup={warmup} and "
            f"optimizer.decay={decay} needs {needed} steps, but {given}: raise it, or lower the others.",
        )
        require(
            steps <= end or not settings.stops(steps),
            f"optimizer.schedule={settings.schedule!r} ends at step {end} with a rate of 0, so the steps up to "
            f"train.steps={steps} would learn nothing: set optimizer.schedule_steps={steps} to stretch it, "
            "optimizer.final above 0 to go on at that share of the peak, or optimizer.schedule to another one.",
        )
