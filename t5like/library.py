"""A run as an object of a program or a notebook: what `t5like.load` returns, and what the commands use.

It owns no process and leaves nothing set behind itself: each method enters the mesh of the run for its own time alone.
Runs may lie side by side, each with its own mesh. Programs are compiled for rounded shapes, and kept as long as the
process lives.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import jax
import numpy as np
from jaxtyping import Float

from t5like.config import Config
from t5like.config.checks import require
from t5like.config.decoding import Decoding, decoding_of
from t5like.config.scoring import Scoring
from t5like.config.tasks import Task
from t5like.data.example import Example
from t5like.data.tasks.given import given_example
from t5like.data.vocabulary import Vocabulary
from t5like.infer import fill
from t5like.infer.answers import numbered_texts
from t5like.infer.batches import in_order, rounded
from t5like.infer.constrained import written_forms
from t5like.infer.forward import Pooling, Stacks, default_pooling, outputs_of
from t5like.infer.generate import Text, generator_of
from t5like.infer.score import Asked, Scorer
from t5like.infer.spans import fill_sentinels
from t5like.infer.stream import answer_tokens, pieces
from t5like.model.sharding import Params
from t5like.results import Answer, Filled, Predicted, Results, Scored, TokenScore, scored_of
from t5like.runs.opened import Restored
from t5like.tasks.predict import Predictor, task_called
from t5like.tasks.prediction import Prediction

Texts = str | Sequence[str]
"""One text, or several."""


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
        task = task_called(source, self.tasks, self.restored.run.path, self.config.model.family)
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
        self, prompts: Texts, *, tokens: int = 64, seed: int = 0, scores: bool = False, batch: int = 16, **options: Any
    ) -> Results[Answer]:
        """Answers to prompts, of at most `tokens` tokens each; the arguments are the options of `t5like generate`:
        `temperature`, `top_p`, `num_beams`, `stop` and so on.

        A prompt of a T5 may hold sentinels such as <extra_id_0>; an empty one has an empty answer. An answer depends on
        its prompt, the prompt's number and the seed alone.

        Raises:
          UserError: the model has no decoder, a prompt is too long, or an argument has no such value.
        """
        _require_batch(batch)
        return Results(list(self.answers(_listed(prompts), decoding_of(tokens, seed, scores, options), batch)))

    def answers(self, prompts: Iterable[str], decoding: Decoding, batch: int) -> Iterator[Answer]:
        """The same, in the order of the prompts, each as soon as all before it are there."""
        return in_order(self.computed(prompts, decoding, batch))

    def computed(
        self,
        prompts: Iterable[str],
        decoding: Decoding,
        batch: int,
        known: Callable[[int], bool] = lambda number: False,
    ) -> Iterator[tuple[int, Answer]]:
        """The same as they are computed, each with its prompt's number: those of one length together.

        Args:
          known: True for the numbers of answers that are not asked for; they are given only beside others.
        """
        generator = generator_of(self.restored, decoding)
        for number, prompt, texts in numbered_texts(generator, self.params, prompts, batch, self._on_devices, known):
            first, *others = [_answer(prompt, text, decoding.scores) for text in texts]
            yield number, first._replace(others=tuple(others))

    def stream(self, prompt: str, *, tokens: int = 64, seed: int = 0, **options: Any) -> Iterator[str]:
        """The answer to a prompt as it is written, in pieces of whole characters, which are the text of `generate`
        together.

        Raises:
          UserError: as `generate`; and beams, whose answers are not known before their ends.
        """
        return self.streamed(prompt, decoding_of(tokens, seed, False, options))

    def streamed(self, prompt: str, decoding: Decoding) -> Iterator[str]:
        """The same."""
        require(bool(prompt.strip()), "The prompt is empty: give a text.")
        generator = generator_of(self.restored, decoding)
        (framed,) = generator.framed([prompt])
        found = answer_tokens(generator, self.params, framed, self._on_devices)
        constraints = decoding.constraints
        stops = written_forms(constraints.stop, self.vocabulary)
        return pieces(self.vocabulary, found, stops, constraints.include_stop_str_in_output)

    def fill(self, texts: Texts, *, top: int = 5) -> Results[Filled]:
        """The `top` likeliest tokens for each [MASK] of texts, by an encoder.

        Raises:
          UserError: the model is no encoder, or a text has no mask or is too long.
        """
        require(top > 0, f"top={top} must be above 0.")
        with self._on_devices():
            return Results([Filled(text, fill.fill(self.restored, text, top)) for text in _listed(texts)])

    def score(
        self,
        texts: Texts,
        inputs: Texts | None = None,
        *,
        by: Literal["", "prefix", "spans"] = "",
        prefix: float = 0.5,
        span: int = 0,
        pll: Literal["original", "within_word_l2r"] = "original",
        start: bool = False,
        end: bool | None = None,
        batch: int = 32,
    ) -> Results[Scored]:
        """Log-likelihoods of texts behind their inputs, or alone, token by token; the arguments are the options of
        `t5like score`. A score depends on its text and input alone, but for rounding.

        Raises:
          UserError: the model predicts no tokens, an argument does not suit it, or a text is too long.
        """
        _require_batch(batch)
        scoring, listed = Scoring(by=by, prefix=prefix, span=span, pll=pll, start=start, end=end), _listed(texts)
        given: Sequence[str | None] = [None] * len(listed) if inputs is None else _listed(inputs)
        require(len(given) == len(listed), f"There are {len(listed)} texts but {len(given)} inputs.")
        names = (functools.partial("Text {} (counted from 0)".format, number) for number in range(len(listed)))
        asked = list(map(Asked, listed, given, names))
        with self._on_devices():
            found = Scorer(self.restored, scoring, batch)(asked)
            return Results([scored_of(*pair, self.vocabulary) for pair in zip(asked, found, strict=True)])

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


def _answer(prompt: str, text: Text, scored: bool) -> Answer:
    filled = fill_sentinels(prompt, text.text) if "<extra_id_" in prompt else None
    return Answer(
        prompt, text.text, filled, text.score if scored else None, [TokenScore(*each) for each in text.tokens]
    )


def _listed(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _require_batch(batch: int) -> None:
    require(batch > 0, f"batch={batch} must be above 0.")
