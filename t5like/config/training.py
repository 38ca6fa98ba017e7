"""Optimizer, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive, require_seed, require_steps
from t5like.config.groups import Groups, Part
from t5like.config.limits import Limits
from t5like.config.marks import applies_to

ENDING = ("linear", "cosine", "warmup_stable_decay")
"""Schedules that are stretched over a number of steps."""
WITH_BETAS = ("adamw", "adamw_rms", "lion", "muon")
"""Optimizers that keep a mean of gradients."""
Step = int | Literal["best", "newest"] | None
"""A checkpoint of a run, as options name it."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer and its schedule."""

    name: Literal["adafactor", "adamw", "adamw_rms", "lion", "muon"] = "adafactor"
    """Adafactor as T5 uses it (updates relative to each parameter's size); AdamW; AdamW with updates relative to each
    parameter's size; Lion; or Muon for the matrices of attention and feed-forward layers with AdamW for all else."""
    learning_rate: float = 0.01
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt", "warmup_stable_decay"] = "inverse_sqrt"
    """Learning-rate schedule after the warm-up."""
    warmup: int = 0
    """Steps of the linear rise from 0 to the peak."""
    hold: Annotated[int, applies_to("schedule", "inverse_sqrt")] = 10_000
    """Step up to which the rate stays at its peak; from there it is peak * sqrt(hold / step)."""
    decay: Annotated[int, applies_to("schedule", "warmup_stable_decay")] = 0
    """Steps of the linear descent at the end."""
    final: Annotated[float, applies_to("schedule", *ENDING)] = 0.0
    """Last rate, as a share of the peak."""
    schedule_steps: Annotated[int | None, applies_to("schedule", *ENDING)] = None
    """Step, counted from the run's first, at which the rate reaches its last value and stays there. None: the last
    step of the run; a resumed run keeps the end that it had, whatever train.steps is then."""
    clip: float | None = None
    """Largest global norm of the gradient; None does not clip."""
    weight_decay: float = 0.0
    """Decay of the parameters, as a share of the learning rate; norms, biases and whatever `groups` says are left out.
    T5's Adafactor has none."""
    beta1: Annotated[float, applies_to("name", *WITH_BETAS)] = 0.9
    """Decay of the mean of gradients; muon's is that of its AdamW."""
    beta2: Annotated[float, applies_to("name", *WITH_BETAS)] = 0.999
    """Decay of the mean of squared gradients; lion's is that of its memory of gradients, for which its authors take
    0.99."""
    momentum: Annotated[float, applies_to("name", "muon")] = 0.95
    """Decay of the mean of gradients of muon's matrices."""
    groups: Groups = Groups()
    """Other rates and decays for some kinds of parameters."""
    freeze: tuple[Part, ...] = ()
    """Kinds of parameters, or the layers of whole stacks, that keep their values and have no optimizer state."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one below it: heads learn at the whole rate, embeddings
    slowest. 1 is one rate for all; ELECTRA takes 0.8."""

    def __post_init__(self) -> None:
        require_fields("optimizer", self)
        require_positive("optimizer", self, "learning_rate", "hold")
        require_steps("optimizer", self, "warmup", "hold", "decay", "schedule_steps")
        if self.schedule_steps is not None:
            require_positive("optimizer", self, "schedule_steps")
        require(self.clip is None or self.clip > 0, f"optimizer.clip={self.clip} must be above 0, or None.")
        for name in ("warmup", "decay", "final", "weight_decay"):
            require(getattr(self, name) >= 0, f"optimizer.{name}={getattr(self, name)} must not be negative.")
        require(0 < self.layer_decay <= 1, f"optimizer.layer_decay={self.layer_decay} must lie in (0, 1].")
        for name in ("beta1", "beta2", "momentum"):
            require(0 <= getattr(self, name) < 1, f"optimizer.{name}={getattr(self, name)} must lie in [0, 1).")
        require(len(set(self.freeze)) == len(self.freeze), f"optimizer.freeze={self.freeze} names a part twice.")
        usual = Groups()
        for name, value in vars(self.groups).items():
            require(
                bool(self.weight_decay) or value.decay == getattr(usual, name).decay,
                f"optimizer.groups.{name}.decay={value.decay} has no effect without optimizer.weight_decay: leave it "
                f"at its default, optimizer.groups.{name}.decay={getattr(usual, name).decay}.",
            )

    def end(self, steps: int) -> int:
        """Step at which the schedule of a run of `steps` ends."""
        return steps if self.schedule_steps is None else self.schedule_steps

    def stops(self, steps: int) -> bool:
        """True if nothing is learned after the end of the schedule, since the rate is 0 from there on."""
        falls = self.schedule in ENDING and (self.schedule != "warmup_stable_decay" or self.decay > 0)
        return falls and not self.final and self.warmup < self.end(steps)


@dataclass(frozen=True, kw_only=True)
class Train:
    """The course of the run."""

    directory: str
    """Run directory: all that a later command needs."""
    init_from: str = ""
    """Run directory whose best parameters, or newest where it has no train.best, a new run starts with, or one of its
    checkpoints, such as runs/x/checkpoints/500; steps and optimizer state begin anew. Empty starts from scratch."""
    branch_from: str = ""
    """Checkpoint of another run whose whole state (parameters, optimizer, step) a new run goes on with; `t5like branch`
    sets it."""
    row_offset: int = 0
    """Rows that a step's come after, besides those of the steps before it in the same batch; `t5like branch` sets it
    where the batch changes, so that the data goes on where it was."""
    steps: int = 0
    """Optimizer steps of the whole run. 0 leaves them to train.epochs; the run directory keeps what these come to."""
    epochs: float | None = None
    """Instead of steps: passes over as many training rows as all sources have together."""
    batch: int
    """Rows of a step, over all devices."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other; the result is the same."""
    seed: int = 0
    """Seed of the initial parameters and of dropout."""
    z_loss: float = 1e-4
    """Weight of log(Z)^2, which keeps the logits from drifting."""
    label_smoothing: float = 0.0
    """Share of each target's probability that is spread evenly over all tokens of the vocabulary, or over all labels;
    the loss that is reported stays that of the targets alone."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the loss, for labels of rows or tokens: the loss is the weighted mean."""
    ema: float | None = None
    """Decay of an exponential moving average of the parameters, such as 0.999; None keeps none. eval.ema uses it."""
    non_finite: Literal["stop", "skip", "rollback"] = "stop"
    """Course after a step whose loss or gradient is not finite, or a spike; its update is left out in any case. Stop
    the run; skip the step; or go back to the checkpoint of train.save_every before it, and on behind its rows."""
    skips: Annotated[int, applies_to("non_finite", "skip", "rollback")] = 10
    """Steps in a row that may be skipped, or times that the run may go back without coming farther; then it stops."""
    spike_loss: float | None = None
    """Times the running median above which a loss is a spike, such as 1.5; None finds none."""
    spike_norm: float | None = None
    """Times the running median above which the norm of a gradient is a spike, such as 10; None finds none."""
    spike_window: Annotated[int, applies_to("finds_spikes", words="train.spike_loss or spike_norm")] = 128
    """Steps of which the median is taken; before there are as many, nothing is a spike."""
    log_every: int = 10
    """Steps between lines of metrics."""
    save_every: int = 1000
    """Steps between checkpoints; the last step is always saved."""
    save_minutes: float | None = 15.0
    """Minutes after which the state is saved in any case; None saves by steps alone."""
    grace: float | None = 30.0
    """Seconds that a signal leaves to finish the step and begin to save; then the run ends as it is. Steps that take
    longer have twice their time, a save that has begun is finished. None waits."""
    limits: Limits = Limits()
    """Seconds after which a run counts as stuck, by phase."""
    keep: int = 3
    """Newest checkpoints that are kept."""
    keep_every: int | None = None
    """Steps between checkpoints that are kept for ever, besides the newest; a multiple of train.save_every."""
    failed_saves: int = 3
    """Saves that fail one after the other before the run ends; each is tried again at the next moment for one."""
    best: str = ""
    """Figure of the evaluation, such as loss, accuracy or SOURCE/accuracy, by which the best checkpoint is saved and
    kept beside the newest; later commands use it. Losses, perplexity and bits per byte shall be low, all else high."""
    patience: Annotated[int | None, applies_to("best")] = None
    """Evaluations without a better figure that end the run; None runs to the last step."""
    tensorboard: bool = True
    """Write event files for TensorBoard."""
    profile_steps: tuple[int, ...] = ()
    """First and last step of which the devices' work is traced into the run directory, such as 10 12; empty: none."""
    compilation_cache: str = "~/.cache/t5like"
    """Folder of compiled programs, which a restart finds again; empty turns it off."""

    def __post_init__(self) -> None:
        require_fields("train", self)
        require_positive("train", self, "batch", "accumulate", "log_every", "save_every", "keep", "failed_saves")
        require_positive("train", self, "skips", "spike_window")
        for name in ("spike_loss", "spike_norm"):
            times = getattr(self, name)
            require(times is None or times > 1, f"train.{name}={times} must be above 1, or None.")
        self._check_course()
        require_seed("train", self)
        require_steps("train", self, "steps")
        require(self.z_loss >= 0, f"train.z_loss={self.z_loss} must not be negative.")
        require(0 <= self.label_smoothing < 1, f"train.label_smoothing={self.label_smoothing} must lie in [0, 1).")
        require(self.ema is None or 0 < self.ema < 1, f"train.ema={self.ema} must lie in (0, 1), or be None.")
        require(
            all(weight > 0 for weight in self.class_weights),
            f"train.class_weights={self.class_weights} must be above 0 each.",
        )
        require(
            not self.profile_steps
            or (len(self.profile_steps) == 2 and 1 <= self.profile_steps[0] <= self.profile_steps[1]),
            f"train.profile_steps={self.profile_steps} must be the first and the last step of a trace, such as 10 12.",
        )
        for name in ("save_minutes", "grace"):
            value = getattr(self, name)
            require(value is None or value > 0, f"train.{name}={value} must be above 0, or None.")
        require(bool(self.directory), "train.directory is empty: name the run directory.")
        require(
            not (self.init_from and self.branch_from),
            f"train.init_from={self.init_from} and train.branch_from={self.branch_from} are both set: a run "
            "starts from one of them.",
        )
        require(
            not self.branch_from or self.branch_from.rpartition("/")[2].isdecimal(),
            f"train.branch_from={self.branch_from} must be a checkpoint, such as runs/x/checkpoints/500.",
        )
        require(
            self.batch % self.accumulate == 0,
            f"train.batch={self.batch} is not a multiple of train.accumulate={self.accumulate}.",
        )

        require(
            self.keep_every is None or (self.keep_every > 0 and self.keep_every % self.save_every == 0),
            f"train.keep_every={self.keep_every} must be a multiple of train.save_every={self.save_every}, or None.",
        )

    def _check_course(self) -> None:
        """Check what says how long the run is."""
        given = self.steps > 0 or (self.steps == 0 and self.epochs is not None)
        require(given, f"train.steps={self.steps} must be above 0, or train.epochs must be set.")
        require(self.epochs is None or self.epochs > 0, f"train.epochs={self.epochs} must be above 0, or None.")
        require(self.patience is None or self.patience > 0, f"train.patience={self.patience} must be above 0, or None.")

    @property
    def finds_spikes(self) -> bool:
        """True if a loss or a gradient may be a spike."""
        return self.spike_loss is not None or self.spike_norm is not None

    @property
    def branched_at(self) -> int:
        """The step of the checkpoint that a branch goes on from, or 0."""
        return int(self.branch_from.rpartition("/")[2] or 0)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Evaluation on rows of the validation split."""

    every: int = 1000
    """Training steps between evaluations; the last step is always evaluated."""
    rows: int = 1024
    """Rows of the validation split, or all of them where there are fewer."""
    batch: int = 64
    """Rows that are evaluated at once."""
    ema: bool = False
    """Evaluate, generate and export with the average that train.ema keeps, not with the parameters themselves."""

    def __post_init__(self) -> None:
        require_fields("eval", self)
        require_positive("eval", self, "every", "rows", "batch")
