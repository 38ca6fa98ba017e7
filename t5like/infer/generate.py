"""Texts from prompts: what `t5like generate` does, for models that have a decoder."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5like.config import Config, Model
from t5like.config.sampling import Sampling
from t5like.data.features import token_features
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError
from t5like.infer.constraints import Constraints, constraints_of
from t5like.infer.decode import Limits, Prompts, generate, settings_of
from t5like.model.sharding import row_parts
from t5like.model.transformer import Transformer
from t5like.runs.restored import Restored

SENTINEL = re.compile(r"(<extra_id_\d+>)")


@dataclass(frozen=True)
class Generator:
    """Generates with a set of parameters; a batch of prompts is compiled for lengths rounded up to 32.

    A sampled answer depends on the prompt, its number and the seed alone: not on other prompts, nor on their order in
    a batch, nor on the devices.
    """

    net: Transformer
    vocabulary: Vocabulary
    frame: Frame
    """Pieces around a prompt."""
    sampling: Sampling
    most: int
    seed: int = 0
    constraints: Constraints | None = None
    """By default an answer ends with the vocabulary's EOS alone."""
    any_row: bool = False
    """True lets rows of the embedding that no piece has be chosen too, as transformers does."""

    def __call__(self, params: Any, texts: Sequence[str], first: int = 0) -> list[str]:
        """One continuation, or for an encoder-decoder one answer, for each prompt; they are numbered from `first`.

        Raises:
          UserError: an empty prompt, one longer than the model allows, or a model without a decoder.
        """
        require_decoder(self.net.model)
        framed = self.framed(texts)
        longest, family = max(map(len, framed)), self.net.model.family
        check_length(self.net.model, longest + self.most if family == "decoder" else max(longest, self.most))
        return [self.vocabulary.decode(ids[: self.length(ids)]) for ids in self.tokens(params, framed, first)]

    def framed(self, texts: Sequence[str]) -> list[list[int]]:
        """The prompts in numbers, in their frame.

        Raises:
          UserError: an empty prompt.
        """
        encoded = [self.vocabulary.encode(text) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if not text.strip() or not ids:
                raise UserError("The prompt is empty: give --prompt a text.")
        return [self.frame.around(ids) for ids in encoded]

    def length(self, answer: np.ndarray) -> int:
        """The tokens of an answer before its end."""
        ended = np.isin(answer, self._limits.ends)
        return int(ended.argmax()) if ended.any() else len(answer)

    def tokens(self, params: Any, framed: Sequence[Sequence[int]], first: int = 0) -> np.ndarray:
        """The answers in numbers, `[prompts, most]`, to framed prompts in numbers; zeros after the end."""
        require_decoder(self.net.model)
        # Rows are split over devices, so their number is rounded up with copies of the last prompt.
        full = [*framed, *[framed[-1]] * (-len(framed) % row_parts(self.net.rules))]
        filters, strength = settings_of(self.sampling)
        answers = generate(
            params,
            _prompts(full, first, self.net.model, self.vocabulary),
            jnp.int32(self.seed),
            self._limits_of_program(),
            strength,
            net=self.net,
            filters=filters,
            most=self.most,
        )
        return np.asarray(jax.device_get(answers))[: len(framed)]

    @property
    def _limits(self) -> Constraints:
        return self.constraints or Constraints((self.vocabulary.eos,))

    def _limits_of_program(self) -> Limits:
        model, vocabulary, limits = self.net.model, self.vocabulary, self._limits
        allowed = np.ones(model.vocab, bool)
        if not self.any_row:
            allowed[vocabulary.size :] = False
            allowed[vocabulary.pad] = not vocabulary.is_special[vocabulary.pad]
        allowed[list(limits.never)] = False
        ends = np.isin(np.arange(model.vocab), limits.ends)
        first = limits.first if model.family == "encoder-decoder" else None
        forced = (jnp.int32(-1 if token is None else token) for token in (first, limits.last))
        return Limits(jnp.asarray(allowed), jnp.asarray(ends), *forced)


def generator_of(restored: Restored, net: Transformer, sampling: Sampling, most: int, seed: int = 0) -> Generator:
    """The generator of a run, with the frame of its prompts and the constraints of its answers."""
    return Generator(net, restored.vocabulary, restored.frame, sampling, most, seed, constraints_of(restored))


def inference_net(config: Config) -> Transformer:
    """The run's network for single tokens, whose length cannot be split over devices."""
    return Transformer(config.model, dataclasses.replace(config.rules, length=()))


def require_pieces(model: Model) -> None:
    """Raises `UserError` if the model's head predicts no pieces."""
    if not model.predicts_pieces:
        raise UserError(
            f"model.head={model.head!r} predicts no pieces, so this run has no text to give: use one with "
            "model.head='vocabulary'."
        )


def require_decoder(model: Model) -> None:
    """Raises `UserError` if the model cannot generate."""
    require_pieces(model)
    if model.family == "encoder":
        raise UserError("An encoder has nothing to generate with: use `t5like fill` with [MASK] in the text.")


def check_length(model: Model, length: int) -> None:
    """Raises `UserError` if the model's positions end before `length` tokens."""
    if model.max_positions is not None and length > model.max_positions:
        raise UserError(
            f"The prompt and what follows it need {length} tokens, but model.max_positions={model.max_positions}: "
            "shorten the prompt or generate fewer tokens."
        )


def spans_of(answer: str) -> dict[str, str]:
    """Sentinel -> the text that follows it in a T5's answer; the first counts where one comes twice."""
    _, *parts = SENTINEL.split(answer)
    spans: dict[str, str] = {}
    for name, span in zip(parts[::2], parts[1::2], strict=True):
        spans.setdefault(name, span.removeprefix(" ").removesuffix(" "))
    return spans


def fill_sentinels(prompt: str, answer: str) -> str:
    """The prompt with each sentinel replaced by the span that a T5 answered, in brackets; `[?]` where there is none."""
    spans = spans_of(answer)
    return SENTINEL.sub(lambda name: f"[{spans.get(name[0], '?')}]", prompt)


def _prompts(framed: Sequence[Sequence[int]], first: int, model: Model, vocabulary: Vocabulary) -> Prompts:
    rows = len(framed)
    numbers = first + jnp.arange(rows, dtype=jnp.int32)
    stack = "decoder" if model.family == "decoder" else "encoder"
    features = {name: jnp.asarray(x) for name, x in token_features(stack, [[ids] for ids in framed]).items()}
    if model.family == "decoder":
        lengths = jnp.asarray([len(ids) for ids in framed], jnp.int32)
        return Prompts(features["decoder_input_tokens"], lengths, numbers, None)
    start = jnp.full((rows, 1), vocabulary.start, jnp.int32)
    return Prompts(start, jnp.ones((rows,), jnp.int32), numbers, features)
