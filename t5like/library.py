"""A run as an object of a program or a notebook: what `t5like.load` returns, and what the commands use.

It owns no process and leaves nothing set behind itself: each method enters the mesh of the run for its own time alone.
Runs may lie side by side, each with its own mesh. Programs are compiled for rounded shapes, and kept as long as the
process lives.
"""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Float

from t5like.config import Config
from t5like.config.checks import require
from t5like.config.flags import override
from t5like.config.sampling import Sampling
from t5like.config.tasks import Task
from t5like.config.training import Step
from t5like.data.example import Example
from t5like.data.tasks.given import given_example
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError, did_you_mean
from t5like.infer import fill
from t5like.infer.forward import Pooling, Stacks, default_pooling, outputs_of, rounded
from t5like.infer.generate import fill_sentinels, generator_of, require_decoder
from t5like.model.sharding import Params
from t5like.results import Answer, Filled, Predicted, Results
from t5like.runs.changes import require_same_model
from t5like.runs.directory import RunDirectory, config_of, relocated
from t5like.runs.opened import Restored, open_run
from t5like.storage import path_of
from t5like.tasks.predict import Predictor
from t5like.tasks.prediction import Prediction

Texts = str | Sequence[str]
"""One text, or several."""


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """`load` takes fields of the config alone."""


def load(run: str | os.PathLike[str], *, step: Step = None, config: Mapping[str, object] | None = None) -> "Run":
    """As `t5like.load`, which says what it takes.

    Compiled programs are kept on disk only if `config` has "train.compilation_cache", for that is a setting of JAX's in
    the whole process.
    """
    found = RunDirectory(path_of(config_of(str(run)).train.directory))
    require(found.path.is_dir(), f"There is no run in {found.path}: `t5like train {run}` makes one.")
    settings = relocated(found.config(), str(found.path))
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, compilation_cache=""))
    if config:
        flags = [word for name, value in config.items() for word in _flag(name, value)]
        settings, _ = override(settings, NoOptions, flags, "t5like.load")
    require_same_model(found, settings)
    with _without_notes(), open_run(settings, step) as restored:
        return Run(restored)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Within, Orbax does not warn that checkpoints are opened to be read alone."""
    orbax = logging.getLogger("absl")
    serious = lambda record: record.levelno >= logging.ERROR or "orbax" not in record.pathname  # noqa: E731
    orbax.addFilter(serious)
    try:
        yield
    finally:
        orbax.removeFilter(serious)


def _flag(name: str, value: object) -> list[str]:
    """The words of a flag: ("rules.embed", ("data", "fsdp")) -> ["--rules.embed", "data", "fsdp"]."""
    return [f"--{name}", *map(str, value)] if isinstance(value, tuple | list) else [f"--{name}={value}"]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A checkpoint of a run, ready to be asked.

    Threads may share it: its methods take turns. Its parameters leave the devices with the last reference to it.
    """

    restored: Restored
    _turn: Any = field(default_factory=threading.RLock)

    @property
    def config(self) -> Config:
        """The run's config, with the fields that `load` was given."""
        return self.restored.config

    @property
    def vocabulary(self) -> Vocabulary:
        """Text to token ids and back."""
        return self.restored.vocabulary

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return self.restored.step

    @property
    def params(self) -> Params:
        """The parameters on the devices, nested by module and name."""
        return self.restored.params

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that it has learned, by the names of their sources."""
        data = self.config.data
        return {n: s.task for n, s in zip(data.source_names, data.sources, strict=True) if s.task is not None}

    def __repr__(self) -> str:
        network, tasks = self.restored.network, [f"task {task.kind}" for task in self.tasks.values()]
        step = f"step {self.step:,}" + f" ({self.restored.why})" * bool(self.restored.why)
        facts = [self.config.model.family, f"{network.parameter_count:,} parameters", step, *tasks]
        return f"<run {self.restored.run.path}: {', '.join(facts)}>"

    def tokens(self, texts: Texts) -> list[list[int]]:
        """The token ids of texts as the model reads them, special tokens around them included."""
        return [self.restored.frame.around(self.vocabulary.encode(text)) for text in _listed(texts)]

    def predict(
        self,
        examples: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
        *,
        source: str = "",
        batch: int = 32,
    ) -> Results[Predicted]:
        """Predictions of the run's task: labels, numbers, answers or texts, whatever it has learned.

        Args:
          examples: fields by name, as the rows of the task's files have them, without the target; a text is the input
            of a task that needs nothing else.
          source: the source whose task is meant, where the run has learned several.
          batch: examples that are computed at once; no prediction depends on it.

        Raises:
          UserError: the run has no task, or an example lacks a field.
        """
        _require_batch(batch)
        task = self._task(source)
        given = [examples] if isinstance(examples, str | Mapping) else list(examples)
        asked = [given_example(task, number, each) for number, each in enumerate(given)]
        found = self.predictions(asked, task, batch)
        return Results([Predicted(e.input, p.value, p.scores, p.text) for e, p in zip(asked, found, strict=True)])

    def predictions(self, examples: Sequence[Example], task: Task, batch: int) -> list[Prediction]:
        """The same for examples of a task as its files make them."""
        # Copies of the last, so that any number of examples is computed by few programs.
        full = [*examples, *list(examples[-1:]) * (rounded(len(examples), batch) - len(examples))]
        predictor = Predictor(self.restored.network, self.vocabulary, task, batch)
        with self._on_devices():
            return list(predictor(self.params, full))[: len(examples)]

    def generate(
        self,
        prompts: Texts,
        *,
        tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        batch: int = 16,
    ) -> Results[Answer]:
        """Answers to prompts, of at most `tokens` tokens each; the arguments are the options of `t5like generate`.

        A prompt of a T5 may hold sentinels such as <extra_id_0>; an empty one has an empty answer. An answer depends on
        its prompt, the prompt's number and the seed alone.

        Raises:
          UserError: the model has no decoder, a prompt is too long, or an argument has no such value.
        """
        sampling, asked = Sampling(temperature=temperature, top_k=top_k, top_p=top_p), _listed(prompts)
        _require_batch(batch)
        require(tokens > 0, f"tokens={tokens} must be above 0.")
        require(0 <= seed < 2**31, f"seed={seed} must be at least 0 and below 2**31.")
        full = [*asked, *[""] * (rounded(len(asked), batch) - len(asked))]
        return Results(list(self.answers(full, sampling, tokens, seed, batch))[: len(asked)])

    def answers(
        self, prompts: Sequence[str], sampling: Sampling, tokens: int, seed: int, batch: int
    ) -> Iterator[Answer]:
        """The same, batch by batch as they are computed."""
        require_decoder(self.config.model)
        generator = generator_of(self.restored, sampling, tokens, seed)
        for first in range(0, len(prompts), batch):
            part = prompts[first : first + batch]
            texts, asked = [""] * len(part), next((prompt for prompt in part if prompt.strip()), None)
            if asked is not None:  # which stands in for empty ones, so that all keep their numbers
                with self._on_devices():
                    texts = generator(self.params, [prompt if prompt.strip() else asked for prompt in part], first)
            for prompt, text in zip(part, texts, strict=True):
                text = text if prompt.strip() else ""
                yield Answer(prompt, text, fill_sentinels(prompt, text) if "<extra_id_" in prompt else None)

    def fill(self, texts: Texts, *, top: int = 5) -> Results[Filled]:
        """The `top` likeliest tokens for each [MASK] of texts, by an encoder.

        Raises:
          UserError: the model is no encoder, or a text has no mask or is too long.
        """
        require(top > 0, f"top={top} must be above 0.")
        with self._on_devices():
            return Results([Filled(text, fill.fill(self.restored, text, top)) for text in _listed(texts)])

    def embed(
        self, texts: Texts, *, pooling: Pooling | None = None, batch: int = 32
    ) -> Float[np.ndarray, "texts embed"]:
        """A vector for each text, float32.

        By default it is the vector that the model's head reads, if there is one; else the mean of an encoder's last
        states, of a T5 too, or the state of a decoder's last token. `pooling` takes the last states' first token, last
        token or mean instead. A vector depends on its text alone, but for rounding.

        Raises:
          UserError: a text is empty or too long.
        """
        _require_batch(batch)
        model = self.config.model
        stack = "encoder" if model.encoder_layers else "decoder"
        given: list[Stacks] = [{stack: ids} for ids in self.tokens(texts)]
        output = pooling or ("mean" if model.family == "encoder-decoder" else default_pooling(model))
        with self._on_devices():
            vectors = outputs_of(self.restored, given, output, batch)
        return np.stack(vectors) if vectors else np.zeros((0, model.embed), np.float32)

    def logits(
        self, texts: Texts, targets: Texts | None = None, *, batch: int = 8
    ) -> list[Float[np.ndarray, "*tokens scores"]]:
        """The scores of the model's head for each text, float32, before any softmax.

        Of a GPT they are `[tokens, vocab]`, where row n scores the token after token n of `tokens(text)`; of a masked
        encoder row n scores the token at n itself. A T5 reads the text and scores the tokens of its target, `[1 +
        tokens of the target, vocab]`: row n scores token n, and the last row what ends it; without `targets` there is
        the row of the first token alone. Heads of labels give `[labels]`, or `[tokens, labels]` where each token has
        them; the head of spans `[tokens, 2]`, first and last token.

        Raises:
          UserError: the model has no head, targets are given to one that takes none, or a text is too long.
        """
        _require_batch(batch)
        model, given = self.config.model, self.tokens(texts)
        require(model.head != "none", "model.head='none' has no scores: use `embed`.")
        require(
            targets is None or model.family == "encoder-decoder",
            f"targets are for encoder-decoders; this run has the family {model.family}.",
        )
        stacks: list[Stacks] = [{"decoder" if model.family == "decoder" else "encoder": ids} for ids in given]
        if model.family == "encoder-decoder":
            answers = [""] * len(given) if targets is None else _listed(targets)
            require(len(answers) == len(given), f"There are {len(given)} texts but {len(answers)} targets.")
            start = self.vocabulary.start
            pairs = zip(given, answers, strict=True)
            stacks = [{"encoder": ids, "decoder": [start, *self.vocabulary.encode(text)]} for ids, text in pairs]
        with self._on_devices():
            return outputs_of(self.restored, stacks, "logits" if model.predicts_pieces else "labels", batch)

    @contextlib.contextmanager
    def _on_devices(self) -> Iterator[None]:
        """Within, the mesh of the run is the current one, and no other thread computes with the run."""
        with self._turn, jax.set_mesh(cast(jax.sharding.Mesh, self.restored.network.mesh)):
            yield

    def _task(self, source: str) -> Task:
        """The task of a source, or the only one.

        Raises:
          UserError: there is none, or several and none is named.
        """
        tasks, path = self.tasks, self.restored.run.path
        others = {"encoder": "`fill` and `embed`", "decoder": "`generate`", "encoder-decoder": "`generate`"}
        require(bool(tasks), f"{path} has learned no task to predict: use {others[self.config.model.family]}.")
        if source and source not in tasks:
            raise UserError(f"{path} has no task of a source {source!r}{did_you_mean(source, tasks)}")
        require(
            bool(source) or len(tasks) == 1,
            f"{path} has learned several tasks: give source, one of {', '.join(tasks)}.",
        )
        return tasks[source or next(iter(tasks))]


def _listed(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _require_batch(batch: int) -> None:
    require(batch > 0, f"batch={batch} must be above 0.")
