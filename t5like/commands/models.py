"""Commands that train a model or use one: train, eval, generate, fill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from t5like.commands import Command, NoOptions, hints
from t5like.commands.tasks import judge
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive, require_seed
from t5like.config.marks import applies_to, repeatable, without_prefix
from t5like.config.sampling import Sampling
from t5like.config.training import Step
from t5like.errors import UserError
from t5like.storage import Path, path_of

if TYPE_CHECKING:
    import t5like.runs.opened


def train(config: Config, options: NoOptions) -> None:
    from t5like.processes.preflight import processes
    from t5like.train.loop import train

    with processes(config, {}, writes=True):
        train(config)


@dataclass(frozen=True, kw_only=True)
class BranchOptions:
    """Options of `t5like branch`."""

    at: int | None = None
    """Step that the new run goes on from; the newest checkpoint by default."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


def branch(config: Config, options: BranchOptions) -> None:
    train(config, NoOptions())


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
        _keep(restored.run.path / "eval.json", json.dumps(record, indent=2) + "\n")
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
class GenerateOptions:
    """Options of `t5like generate`."""

    prompt: Annotated[tuple[str, ...], repeatable(), applies_to("held_out", 0)] = ()
    """A prompt, which for a T5 may hold sentinels such as <extra_id_0>; may be given several times."""
    prompt_file: Annotated[str, applies_to("held_out", 0)] = ""
    """File with a prompt on each line; - reads standard input. The answer to an empty line is empty."""
    held_out: int = 0
    """Instead of prompts, this many held-out passages, beside the truth and the untrained model's answers, and the
    share of their gaps that the model fills exactly, beside that of the commonest answer."""
    show: Annotated[int | None, applies_to("held_out")] = None
    """Held-out passages that are printed; None: all. The shares are of all in any case."""
    tokens: Annotated[int, applies_to("held_out", 0)] = 64
    """Most tokens of an answer."""
    sampling: Annotated[Sampling, without_prefix()] = Sampling()
    """The choice of the next token."""
    seed: Annotated[int, applies_to("draws", words="--temperature above 0 or --held_out")] = 0
    """Seed of the sampling; a prompt's choices depend on it and on the prompt's number. With `held_out`: of the choice
    of passages and gaps."""
    batch: Annotated[int, applies_to("held_out", 0)] = 16
    """Prompts that are answered at once; no answer depends on it."""
    json: bool = False
    """Print JSON lines."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "tokens", "batch")
        require_seed("generate", self)
        for name in ("held_out", "show"):
            require((given := getattr(self, name) or 0) >= 0, f"--{name} {given} must not be negative.")
        require(
            not self.held_out or self.sampling == Sampling(),
            "--temperature, --top_k and --top_p have no effect with --held_out: leave them out.",
        )
        require(
            bool(self.held_out or self.prompt or self.prompt_file),
            "There is nothing to answer: give --prompt, --prompt_file or --held_out.",
        )

    @property
    def draws(self) -> bool:
        """True if anything is drawn at random."""
        return bool(self.held_out or self.sampling.temperature)


def generate(config: Config, options: GenerateOptions) -> None:
    if not all(prompt.strip() for prompt in options.prompt):
        raise UserError("The prompt is empty: give --prompt a text.")
    prompts = list(_prompts(options))
    if not any(prompt.strip() for prompt in prompts) and not options.held_out:
        raise UserError(f"--prompt_file {options.prompt_file} is empty: write a prompt on each line.")
    from t5like.library import Run
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run

    asked = {"options": options, "prompts": prompts}
    with processes(config, asked), open_run(config, options.step) as restored:
        if options.held_out:
            _print_passages(restored, options)
            return
        _note_step(restored)
        _note_plain_prompts(restored, prompts)
        run = Run(restored)
        for answer in run.answers(prompts, options.sampling, options.tokens, options.seed, options.batch):
            print(json.dumps(answer.cells(), ensure_ascii=False) if options.json else answer, flush=True)


def _note_step(restored: t5like.runs.opened.Restored) -> None:
    """Say on standard error which step answers, where it need not be the newest."""
    if restored.why:
        print(f"t5like: {restored.of_step}.", file=sys.stderr, flush=True)


def _note_plain_prompts(restored: t5like.runs.opened.Restored, prompts: list[str]) -> None:
    """Say of a T5 that was trained to fill sentinels alone that a prompt has none."""
    objective, imported = restored.config.data.objective, restored.run.import_record.is_file()
    fills = objective.kind == "span_corruption" and objective.sentinels and not imported
    if fills and any(prompt.strip() and "<extra_id_" not in prompt for prompt in prompts):
        print(
            f"t5like: {restored.run.path} has learned to fill gaps and not to go on from a prompt: write <extra_id_0>, "
            "<extra_id_1>, ... where text is wanted.",
            file=sys.stderr,
            flush=True,
        )


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
        _note_step(restored)
        run = Run(restored)
        for text in options.text:
            masks = run.fill(text, top=options.top)[0].masks
            if options.json:
                print(
                    json.dumps({"text": text, "masks": [[c._asdict() for c in m] for m in masks]}, ensure_ascii=False)
                )
                continue
            print(text)
            for number, candidates in enumerate(masks, 1):
                listed = "  ".join(f"{c.text} {c.probability:.3f}" for c in candidates)
                print(f"  {restored.vocabulary.written('mask')} {number}: {listed}")


def _prompts(options: GenerateOptions) -> Iterator[str]:
    yield from options.prompt
    if options.prompt_file:
        try:
            file = sys.stdin if options.prompt_file == "-" else path_of(options.prompt_file).open(encoding="utf-8")
            with file:
                yield from (line.rstrip("\n") for line in file)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompt_file {options.prompt_file} cannot be read: {error}.") from None


def _print_passages(restored: t5like.runs.opened.Restored, options: GenerateOptions) -> None:
    from t5like.infer.passages import as_json_lines, as_text, held_out_passages, shares_as_text
    from t5like.runs.opened import prepare_store

    prepare_store(restored)
    passages, shares = held_out_passages(restored, options.held_out, options.seed)
    file = restored.run.samples / f"{restored.step}.jsonl"
    _keep(file, as_json_lines(passages))
    _keep(file.with_suffix(".shares.json"), json.dumps(shares._asdict(), ensure_ascii=False, indent=2) + "\n")
    shown = passages[: options.show]
    print(as_json_lines(shown) if options.json else as_text(shown), end="")
    if not options.json:
        print(shares_as_text(shares, len(passages)))
        run = restored.run.path
        print(f"Everything lies in {run}; these passages in {file}. Next:")
        for command in (
            hints.trained(restored, passages),
            f"train {{run}} {longer(restored.config)}",
            "eval {run} --eval.rows 10000",
        ):
            print(f"  t5like {command.replace('{run}', str(run))}")


def longer(config: Config) -> str:
    """The flags with which a finished run goes on to twice its steps; a schedule that has come to 0 is stretched."""
    steps = 2 * config.train.steps
    ended = config.optimizer.stops(config.train.steps) and config.optimizer.end(config.train.steps) < steps
    return f"--train.steps {steps}" + (f" --optimizer.schedule_steps {steps}" if ended else "")


def _keep(file: Path, text: str) -> None:
    """Write a result into the run directory, from one process of the run."""
    from t5like.processes.distributed import is_primary_process

    if not is_primary_process():
        return
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from None


COMMANDS = (
    Command("train", "config", "train from scratch or --train.init_from RUN, or go on where the run stands", train),
    Command(
        "branch", "branch", "go on from a step of a run in a new folder, with other settings", branch, BranchOptions
    ),
    Command("eval", "run", "validation loss, perplexity and bits per byte of a run", evaluate, EvalOptions),
    Command("generate", "run", "text from prompts, or answers to held-out passages", generate, GenerateOptions),
    Command("fill", "run", "likeliest tokens for each [MASK], for encoders", fill, FillOptions),
)
