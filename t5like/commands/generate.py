"""The command that writes text: answers to prompts, or to held-out passages."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from t5like.commands import Command, hints
from t5like.commands.output import Progress, keep, made_by, note_step, resumed, say
from t5like.config import Config
from t5like.config.beams import BeamSearch
from t5like.config.checks import FLAGS, require, require_fields, require_positive, require_seed
from t5like.config.constraints import Constraints
from t5like.config.decoding import Decoding
from t5like.config.marks import applies_to, repeatable, without_prefix
from t5like.config.sampling import Sampling
from t5like.config.training import Step
from t5like.errors import UserError
from t5like.storage import path_of
from t5like.strict_json import dumps

if TYPE_CHECKING:
    from t5like.library import Run
    from t5like.runs.opened import Restored

PLAIN = Sampling(), BeamSearch(), Constraints()
CHANGES_NOTHING = ("prompt", "prompt_file", "batch", "json", "step", "output", "overwrite", "stream")
"""Options beside which the same prompts have the same answers. The step counts as the number that it stands for."""


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
    beams: Annotated[BeamSearch, without_prefix()] = BeamSearch()
    """Beam search, and the number of answers."""
    constraints: Annotated[Constraints, without_prefix()] = Constraints()
    """What answers may be."""
    scores: Annotated[bool, applies_to("writes_json", words="--json or --output")] = False
    """Write the log-probability of each answer and of its tokens, in nats, into the JSON lines; of beams the answer's
    is divided as their rule says."""
    seed: Annotated[int, applies_to("draws", words="--temperature above 0 or --held_out")] = 0
    """Seed of the sampling; a prompt's choices depend on it and on the prompt's number. With `held_out`: of the choice
    of passages and gaps."""
    batch: Annotated[int, applies_to("held_out", 0)] = 16
    """Prompts that are answered at once; no answer depends on it."""
    json: Annotated[bool, applies_to("output", "")] = False
    """Print JSON lines."""
    stream: Annotated[bool, applies_to("alone", words="one --prompt, printed as text")] = False
    """Print the answer as it is written."""
    output: Annotated[str, applies_to("held_out", 0)] = ""
    """File that the answers are written to as JSON lines. The same command goes on with it after a kill."""
    overwrite: Annotated[bool, applies_to("output")] = False
    """Write the file anew, whatever it holds."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "tokens", "batch")
        require_seed("generate", self)
        for name in ("held_out", "show"):
            require((given := getattr(self, name) or 0) >= 0, f"--{name} {given} must not be negative.")
        require(
            not self.held_out or (self.sampling, self.beams, self.constraints) == PLAIN,
            "Options of sampling, beams and constraints have no effect with --held_out: leave them out.",
        )
        require(
            bool(self.held_out or self.prompt or self.prompt_file),
            "There is nothing to answer: give --prompt, --prompt_file or --held_out.",
        )
        _ = self.decoding  # whose checks join the groups
        require(
            not self.stream or (not self.beams.searches and self.beams.num_return_sequences == 1),
            "--stream prints one answer as it is written, and beams know theirs at the end: leave one of the two out.",
        )
        require(
            not (self.stream and self.constraints.grammar),
            f"--stream cannot be joined with --{self.constraints.grammar}: leave one of the two out.",
        )

    @property
    def decoding(self) -> Decoding:
        """The options of answers."""
        return Decoding(
            tokens=self.tokens,
            seed=self.seed,
            scores=self.scores,
            sampling=self.sampling,
            beams=self.beams,
            constraints=self.constraints,
        )

    @property
    def writes_json(self) -> bool:
        """True if answers are JSON lines."""
        return bool(self.json or self.output)

    @property
    def draws(self) -> bool:
        """True if anything is drawn at random."""
        return bool(self.held_out or self.sampling.temperature)

    @property
    def alone(self) -> bool:
        """True if there is one prompt, whose answer is printed as text."""
        return len(self.prompt) == 1 and not (self.prompt_file or self.json or self.output)


def generate(config: Config, options: GenerateOptions) -> None:
    if not all(prompt.strip() for prompt in options.prompt):
        raise UserError("The prompt is empty: give --prompt a text.")
    with _prompts(options) as prompts:
        survey = _survey(prompts())
        if survey.empty and not options.held_out:
            raise UserError(f"--prompt_file {options.prompt_file} is empty: write a prompt on each line.")
        from t5like.library import Run
        from t5like.processes.preflight import processes
        from t5like.runs.opened import open_run

        asked = {"options": options, "prompts": survey.sha256}
        with processes(config, asked), open_run(config, options.step) as restored:
            if options.held_out:
                _print_passages(restored, options)
                return
            note_step(restored)
            _note_plain_prompts(restored, survey.plain)
            _note_defaults(restored, options)
            _answer(Run(restored), options, prompts, survey)


def _answer(run: Run, options: GenerateOptions, prompts: Prompts, survey: Survey) -> None:
    """Print the answers or write them into the file."""
    if options.stream:
        for piece in run.streamed(options.prompt[0], options.decoding):
            print(piece, end="", flush=True)
        print()
        return
    from t5like.infer.batches import in_order

    asked = prompts(), options.decoding, options.batch
    if not options.output:
        computed = Progress("prompts answered", survey.prompts).counted(run.computed(*asked))
        for answer in in_order(computed):
            print(dumps(answer.record(), ensure_ascii=False) if options.json else answer, flush=True)
        return
    with resumed(options.output, _made_from(run, options, survey), options.overwrite) as lines:
        progress = Progress("prompts answered", survey.prompts, lines.count)
        for number, answer in run.computed(*asked, lines.known):
            lines.put(number, answer.record())
            progress.reach(lines.count)
        say(f"t5like: {options.output} has the answers to {survey.prompts:,} prompts.")


def _made_from(run: Run, options: GenerateOptions, survey: Survey) -> dict[str, Any]:
    """All that answers depend on: the checkpoint, the prompts, and options."""
    from t5like.config.presets import leaves

    given = {name: value for name, value in leaves(options).items() if name.split(".")[0] not in CHANGES_NOTHING}
    options_ = {name.rpartition(".")[2]: value for name, value in given.items()}
    return {**made_by(run.restored), "prompts": survey.sha256, **options_}


Prompts = Callable[[], Iterator[str]]
"""Reads the prompts of a command from the first on, also a second time."""


class Survey(NamedTuple):
    """Prompts as one look at them shows them."""

    prompts: int
    empty: bool
    """True if none has text."""
    plain: bool
    """True if one has text and no sentinel."""
    sha256: str


def _survey(prompts: Iterator[str]) -> Survey:
    digest, count, empty, plain = hashlib.sha256(), 0, True, False
    for prompt in prompts:
        digest.update(prompt.encode("utf-8", "surrogatepass") + b"\n")
        count, empty = count + 1, empty and not prompt.strip()
        plain = plain or (bool(prompt.strip()) and "<extra_id_" not in prompt)
    return Survey(count, empty, plain, digest.hexdigest())


@contextlib.contextmanager
def _prompts(options: GenerateOptions) -> Iterator[Prompts]:
    """The prompts of `--prompt`, and those of the file, of which no more are held than are needed at a time."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as standard_input:
        if options.prompt_file == "-":
            with _readable(options.prompt_file):
                shutil.copyfileobj(sys.stdin, standard_input)
                standard_input.flush()

        def read() -> Iterator[str]:
            yield from options.prompt
            if name := standard_input.name if options.prompt_file == "-" else options.prompt_file:
                with _readable(options.prompt_file), path_of(name).open(encoding="utf-8") as file:
                    yield from (line.rstrip("\n") for line in file)

        yield read


@contextlib.contextmanager
def _readable(file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompt_file {file} cannot be read: {error}.") from None


def _note_plain_prompts(restored: Restored, plain: bool) -> None:
    """Say of a T5 that was trained to fill sentinels alone that a prompt has none, if one is `plain`."""
    objective, imported = restored.config.data.objective, restored.run.import_record.is_file()
    if plain and objective.kind == "span_corruption" and objective.sentinels and not imported:
        say(
            f"t5like: {restored.run.path} has learned to fill gaps and not to go on from a prompt: write <extra_id_0>, "
            "<extra_id_1>, ... where text is wanted."
        )


def _note_defaults(restored: Restored, options: GenerateOptions) -> None:
    """Name the options that an imported folder states for its answers, unless some are given."""
    from t5like.infer.constraints import read_defaults

    if (options.sampling, options.beams, options.constraints) == PLAIN and (stated := read_defaults(restored.run)):
        values = {name: [value] if isinstance(value, str | int | float) else value for name, value in stated.items()}
        words = [word for name, given in values.items() for each in given for word in (f"--{name}", str(each))]
        say(f"t5like: this model was published with options of its own; to answer with them, add {shlex.join(words)}")


def _print_passages(restored: Restored, options: GenerateOptions) -> None:
    from t5like.infer.passages import as_json_lines, as_text, held_out_passages, shares_as_text
    from t5like.runs.opened import prepare_store

    prepare_store(restored)
    passages, shares = held_out_passages(restored, options.held_out, options.seed)
    file = restored.run.samples / f"{restored.step}.jsonl"
    keep(file, as_json_lines(passages))
    keep(file.with_suffix(".shares.json"), dumps(shares._asdict(), ensure_ascii=False, indent=2) + "\n")
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


COMMANDS = (
    Command("generate", "run", "text from prompts, or answers to held-out passages", generate, GenerateOptions),
)
