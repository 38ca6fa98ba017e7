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
from t5like.config.objective import HEADS, LABELLED, WITH_LABELS, Objective
from t5like.config.sources import Source
from t5like.config.spans import UL2, Denoiser
from t5like.config.tasks import Task
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
    "Task",
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
        self._check_labels()
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
        require(
            self.train.ema is not None or not self.eval.ema,
            "eval.ema=True asks for averaged parameters, which only runs with train.ema keep: leave it out.",
        )
        if self.train.steps:  # otherwise it is checked again when train.epochs are steps
            self._check_schedule()

    def _check_labels(self) -> None:
        """The head and its labels are those of the objective. An imported head need not have one, until it learns."""
        model, objective = self.model, self.data.objective
        head, spec = model.head, objective.spec
        require(
            head == spec.head or not spec.head,
            f"data.objective.kind={objective.kind!r} needs model.head={spec.head!r}, not {head!r}.",
        )
        kinds = HEADS.get(head, []) if model.predicts_pieces else []
        require(
            not kinds or objective.kind in kinds,
            f"model.head={head!r} learns from data.objective.kind={' or '.join(map(repr, kinds))}, not "
            f"{objective.kind!r}.",
        )
        require(
            model.label_problem == spec.problem or not spec.problem,
            f"data.objective.kind={objective.kind!r} needs model.problem_type={spec.problem!r}, but with "
            f"model.labels={model.labels} and model.problem_type={model.problem_type!r} it is {model.label_problem!r}.",
        )
        require(
            objective.kind not in WITH_LABELS or model.labels == objective.labels,
            f"data.objective.labels={objective.labels} and model.labels={model.labels} must be the same.",
        )
        weights, smoothing = self.train.class_weights, self.train.label_smoothing
        require(
            not weights or (objective.kind in ("classification", "token_classification")),
            f"train.class_weights are for data.objective.kind='classification' or 'token_classification', not "
            f"{objective.kind!r}: leave them out.",
        )
        require(
            not weights or len(weights) == objective.labels,
            f"train.class_weights has {len(weights)} weights, but data.objective.labels={objective.labels}: give one "
            "for each label.",
        )
        require(
            not smoothing or (objective.kind in LABELLED and objective.kind != "regression"),
            f"train.label_smoothing={smoothing} is not for data.objective.kind={objective.kind!r}: set it to 0.",
        )

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
