"""What commands are asked beyond the run's config: options that change no result of a run."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from t5like.config.checks import FLAGS, require, require_fields, require_positive, require_seed
from t5like.config.conditions import applies_to
from t5like.config.layout import Mesh, Rules
from t5like.config.vocabulary import COVERING


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """For commands that take nothing but the config's fields."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Options of `t5like prepare`; none of them changes the store."""

    processes: Annotated[int | None, applies_to("runner", "")] = None
    """Processes that tokenise; one for each CPU by default."""
    runner: str = ""
    """Apache Beam runner that tokenises instead, e.g. DirectRunner or DataflowRunner; needs the extra `beam`."""
    runner_options: Annotated[tuple[str, ...], applies_to("runner")] = ()
    """Beam's own options, without their dashes: project=P region=R."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.processes is None or self.processes > 0, f"--processes {self.processes} must be above 0.")


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Options of `t5like inspect`."""

    step: int = 1
    """Training step whose batch is shown, as logs count them: the first is 1."""
    row: int | None = None
    """Shows this row of the batch alone; the first is 0."""
    json: bool = False
    """Whether to print JSON lines."""
    color: Annotated[Literal["auto", "always", "never"], applies_to("json", False)] = "auto"
    """Whether to mark segments and special pieces by colours; auto: on a terminal."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "step")


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """Options of `t5like vocabulary train`."""

    output: str
    """Folder that the vocabulary is written to."""
    kind: Literal["unigram", "bpe", "wordpiece", "byte_bpe"] = "unigram"
    """SentencePiece unigram or BPE as in T5, WordPiece as in BERT, byte-level BPE as in GPT-2."""
    size: int = 32_000
    """Learned pieces."""
    coverage: Annotated[float, applies_to("kind", *COVERING)] = 0.9995
    """Share of the characters that get pieces of their own; the rest is spelt in bytes, and unknown in wordpiece."""
    lowercase: Annotated[bool, applies_to("kind", "wordpiece")] = False
    """Puts text in lower case and strips accents."""
    characters: int = 10_000_000
    """Characters that the pieces are learned from."""
    field: str = "text"
    """Field of JSON lines and Parquet files that holds the text."""
    document: Literal["line", "file"] = "line"
    """The unit of text files that is a document. Pieces that hold line feeds, which code needs, are learned from
    files."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(bool(self.output), "--output is empty: name a folder.")
        require(bool(self.field), "--field is empty: name the field that holds the text.")


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Options of `t5like vocabulary show`."""

    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text to encode and decode; may be given several times. Without any, standard input is read."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of `t5like eval`."""

    step: int | None = None
    """Checkpoint to use; the newest by default."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `t5like plan`."""

    topology: str = ""
    """Devices to plan for: a TPU slice such as v5e:4x4 or v5p:4x4x4, GPUs by formula such as h100:8; those of this
    machine by default."""
    slices: int = 1
    """TPU slices of that shape, joined by the data-centre network; mesh.slice follows."""
    price: Annotated[float | None, applies_to("explain", False)] = None
    """Price of an hour of one device, in any currency."""
    search: Annotated[Literal["", "batch", "slice"], applies_to("explain", False)] = ""
    """Tries what fits: `batch` finds the largest batch with the cheapest remat, `slice` the smallest slice of the
    topology's type."""
    full: Annotated[bool, applies_to("explain", False)] = False
    """Makes machine code for TPUs too, which takes ten times as long and tells the cycles that the compiler
    expects and the size of the code."""
    generate: Annotated[int, applies_to("explain", False)] = 0
    """Tokens of the answers whose generation is planned too; 0 plans none."""
    prompts: Annotated[int, applies_to("generate")] = 16
    """Prompts that are answered at once, each as long as a row."""
    explain: bool = False
    """Whether to list each parameter's shape, axes, mesh axes and bytes instead; nothing is compiled."""
    json: bool = False
    """Whether to print one JSON object."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "slices", "prompts")
        require(self.generate >= 0, f"--generate {self.generate} must not be negative.")
        require(self.price is None or self.price >= 0, f"--price {self.price} must not be negative.")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0 takes the likeliest token; 1 samples from the model's own distribution."""
    top_k: Annotated[int, applies_to("temperature")] = 0
    """Samples among the k likeliest tokens; 0 takes all."""
    top_p: Annotated[float, applies_to("temperature")] = 1.0
    """Samples among the likeliest tokens that together have this probability."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.temperature >= 0, f"--temperature {self.temperature} must not be negative.")
        require(self.top_k >= 0, f"--top_k {self.top_k} must not be negative.")
        require(0 < self.top_p <= 1, f"--top_p {self.top_p} must lie above 0 and not above 1.")


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Options of `t5like generate`."""

    prompt: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, applies_to("held_out", 0)] = ()
    """A prompt, which for a T5 may hold sentinels such as <extra_id_0>; may be given several times."""
    prompt_file: Annotated[str, applies_to("held_out", 0)] = ""
    """File with a prompt on each line; - reads standard input."""
    held_out: int = 0
    """Instead of prompts, this many held-out passages, beside the truth and the untrained model's answers."""
    tokens: Annotated[int, applies_to("held_out", 0)] = 64
    """Most tokens of an answer."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = Sampling()
    """How the next token is chosen."""
    seed: Annotated[int, applies_to("sampling.temperature", words="--temperature above 0")] = 0
    """Seed of the sampling; a prompt's choices depend on it and on the prompt's number."""
    batch: Annotated[int, applies_to("held_out", 0)] = 16
    """Prompts that are answered at once; no answer depends on it."""
    json: bool = False
    """Whether to print JSON lines."""
    step: int | None = None
    """Checkpoint to use; the newest by default."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "tokens", "batch")
        require_seed("generate", self)
        require(self.held_out >= 0, f"--held_out {self.held_out} must not be negative.")
        require(
            not self.held_out or self.sampling == Sampling(),
            "--temperature, --top_k and --top_p have no effect with --held_out: leave them out.",
        )
        require(
            bool(self.held_out or self.prompt or self.prompt_file),
            "There is nothing to answer: give --prompt, --prompt_file or --held_out.",
        )


@dataclass(frozen=True, kw_only=True)
class FillOptions:
    """Options of `t5like fill`."""

    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text with [MASK] where a piece is wanted; may be given several times."""
    top: int = 5
    """Candidates for each mask."""
    json: bool = False
    """Whether to print JSON lines."""
    step: int | None = None
    """Checkpoint to use; the newest by default."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "top")
        require(bool(self.text), 'There is nothing to fill: give --text "The [MASK] sat".')


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of `t5like import`."""

    vocabulary: str = ""
    """Tokenizer, where the folder has none, as a checkpoint of T5X: a file or folder as for data.vocabulary.path, or
    `bytes`."""
    sentinels: Annotated[int, applies_to("vocabulary")] = 100
    """Sentinels that follow the pieces of --vocabulary, if these have none of their own."""
    ignore: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A tensor of the folder that may be left out; may be given several times."""
    add_rows: bool = False
    """Adds rows to the embedding, and to an output of its own, for pieces of the tokenizer that the checkpoint has
    none for; each begins as the mean of the others."""
    mesh: Mesh = Mesh()
    """Devices that the parameters are read onto; kept in the run's config."""
    rules: Rules = Rules()
    """How the parameters are split over them; kept in the run's config."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.sentinels >= 0, f"--sentinels {self.sentinels} must not be negative.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `t5like export`."""

    step: int | None = None
    """Checkpoint to use; the newest by default."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the exported weights."""
    type: str = ""
    """Model type of transformers where several have the architecture, such as t5 and mt5; the likeliest by default."""
    shard_gigabytes: float = 5.0
    """Largest file of weights, in 10^9 bytes; larger models are cut into several, with an index."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "shard_gigabytes")


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Options of `t5like verify`."""

    step: int | None = None
    """Checkpoint to use; the newest by default."""
    tolerance: float = 1e-4
    """Largest difference of logits and of the loss, relative to 1 or to the largest logit, that passes."""
    tokens: int = 16
    """Tokens of the greedy continuation that is compared."""
    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text for the batch of real text; may be given several times. Otherwise a few sentences of ours."""
    json: bool = False
    """Whether to print JSON lines."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "tolerance", "tokens")


def flags(options: type) -> dict[str, Any]:
    """The flags of a class of options, without their dashes, and their defaults."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if field.name == "sampling":
            found |= flags(Sampling)
        elif isinstance(field.default, Mesh | Rules):
            found |= {f"{field.name}.{name}": value for name, value in dataclasses.asdict(field.default).items()}
        else:
            found[field.name] = field.default
    return found
