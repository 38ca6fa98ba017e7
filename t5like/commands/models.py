"""Commands that train a model or use one: train, eval, fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.commands import Command
from t5like.commands.output import keep, note_step
from t5like.commands.tasks import judge
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import repeatable
from t5like.config.training import Step
from t5like.strict_json import dumps


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `t5like train`."""

    from_scratch: bool = False
    """Begin again from the first step where the run has lost its checkpoints; the old logs get another name."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


def train(config: Config, options: TrainOptions) -> None:
    from t5like.processes.preflight import processes
    from t5like.signals import holding
    from t5like.train.loop import train

    with holding("no step was taken, and the run is as it was before"), processes(config, {}, writes=True):
        train(config, options.from_scratch)


@dataclass(frozen=True, kw_only=True)
class BranchOptions:
    """Options of `t5like branch`."""

    at: int | None = None
    """Step that the new run goes on from; the newest checkpoint by default."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


def branch(config: Config, options: BranchOptions) -> None:
    train(config, TrainOptions())


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of `t5like eval`."""

    split: Literal["", "train", "validation", "test"] = ""
    """Split on which the tasks of the run are scored by their metrics, whole; empty: the figures of held-out rows."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


def evaluate(config: Config, options: EvalOptions) -> None:
    if options.split:
        judge(config, options.split, options.step)
        return
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run, prepare_store
    from t5like.train.evaluate import Evaluator, require_objective

    require_objective(config)
    with processes(config, {"options": options}), open_run(config, options.step) as restored:
        prepare_store(restored)
        figures = Evaluator(restored.network, restored.vocabulary)(restored.params)
        record = {"step": restored.step, **figures}
        keep(restored.run.path / "eval.json", dumps(record, indent=2) + "\n")
        if "targets" in figures:
            print(f"{restored.of_step}, {figures['targets']:,.0f} held-out labels:")
            if "accuracy" in figures:
                print(f"  accuracy           {figures['accuracy']:8.3f} of whole targets")
            kind = "nats a label" if "accuracy" in figures else "the mean squared error"
            print(f"  loss               {figures['loss']:8.3f} {kind}")
            return
        print(f"{restored.of_step}, {figures['tokens']:,.0f} held-out targets:")
        print(f"  loss               {figures['loss']:8.3f} nats a token")
        print(f"  perplexity         {figures['perplexity']:8.2f} a token")
        print(f"  bits per byte      {figures['bits_per_byte']:8.3f}")
        print(f"  accuracy           {figures['accuracy']:8.3f} of all targets, with sentinels and ends")
        print(f"  accuracy on text   {figures['text_accuracy']:8.3f}")
        if "exact_match" in figures:
            print(f"  exact match        {figures['exact_match']:8.3f} of whole targets, token for token")
        if "label_accuracy" in figures:
            print(f"  accuracy of pairs  {figures['label_accuracy']:8.3f} (next sentence or not)")
        print(f"  loss on text       {figures['text_loss']:8.3f} (without sentinels and ends)")
        print(f"  unigram on text    {figures['unigram_text_loss']:8.3f} (the same tokens by their frequency alone)")
        for source in restored.config.data.source_names:
            if f"{source}/loss" in figures:
                loss, right = (figures[f"{source}/{name}"] for name in ("loss", "accuracy"))
                print(f"  {source}: loss {loss:.3f}, accuracy {right:.3f}")


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """Options of `t5like fill`."""

    text: Annotated[tuple[str, ...], repeatable()] = ()
    """A text with [MASK] where a piece is wanted; may be given several times."""
    top: int = 5
    """Candidates for each mask."""
    json: bool = False
    """Print JSON lines."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "top")
        require(bool(self.text), 'There is nothing to fill: give --text "The [MASK] sat".')


def fill(config: Config, options: FillOptions) -> None:
    from t5like.library import Run
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run

    with processes(config, {"options": options}), open_run(config, options.step) as restored:
        note_step(restored)
        run = Run(restored)
        for text in options.text:
            masks = run.fill(text, top=options.top)[0].masks
            if options.json:
                print(dumps({"text": text, "masks": [[c._asdict() for c in m] for m in masks]}, ensure_ascii=False))
                continue
            print(text)
            for number, candidates in enumerate(masks, 1):
                listed = "  ".join(f"{c.text} {c.probability:.3f}" for c in candidates)
                print(f"  {restored.vocabulary.written('mask')} {number}: {listed}")


COMMANDS = (
    Command(
        "train",
        "config",
        "train from scratch or --train.init_from RUN, or go on where the run stands",
        train,
        TrainOptions,
    ),
    Command(
        "branch", "branch", "go on from a step of a run in a new folder, with other settings", branch, BranchOptions
    ),
    Command("eval", "run", "validation loss, perplexity and bits per byte of a run", evaluate, EvalOptions),
    Command("fill", "run", "likeliest tokens for each [MASK], for encoders", fill, FillOptions),
)
