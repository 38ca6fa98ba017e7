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
from t5like.config.options import Sampling
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.decode import Prompts, generate
from t5like.model.sharding import row_parts
from t5like.model.transformer import Transformer

SENTINEL = re.compile(r"(<extra_id_\d+>)")
ROUND = 32


@dataclass(frozen=True)
class Generator:
    """Generates with a set of parameters; a batch of prompts is compiled for lengths rounded up to 32."""

    net: Transformer
    vocabulary: Vocabulary
    sampling: Sampling
    most: int
    seed: int = 0

    def __call__(self, params: Any, texts: Sequence[str]) -> list[str]:
        """One continuation, or for an encoder-decoder one answer, for each prompt.

        Raises:
          UserError: an empty prompt, one longer than the model allows, or a model without a decoder.
        """
        encoded = [self.vocabulary.encode(text) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if not text.strip() or not ids:
                raise UserError("The prompt is empty: give --prompt a text.")
        return self.answers(params, encoded)

    def answers(self, params: Any, prompts: Sequence[Sequence[int]]) -> list[str]:
        """The same for prompts in numbers, without EOS."""
        ended = ((ids.tolist(), ids == self.vocabulary.eos) for ids in self.tokens(params, prompts))
        return [self.vocabulary.decode(ids[: int(end.argmax()) if end.any() else None]) for ids, end in ended]

    def tokens(self, params: Any, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """The answers in numbers, `[prompts, most]`, with zeros after the end."""
        model = self.net.model
        require_pieces(model)
        if model.family == "encoder":
            raise UserError("An encoder has nothing to generate with: use `t5like fill` with [MASK] in the text.")
        longest, answer = max(map(len, prompts)) + 1, self.most
        check_length(model, max(longest, answer) if model.family == "encoder-decoder" else longest + answer)
        allowed = np.arange(model.vocab) < self.vocabulary.size
        allowed[self.vocabulary.pad] = not self.vocabulary.is_special[self.vocabulary.pad]
        # Rows are split over devices, so their number is rounded up with copies of the last prompt.
        full = [*prompts, *[prompts[-1]] * (-len(prompts) % row_parts(self.net.rules))]
        answers = generate(
            params,
            _prompts(full, model, self.vocabulary),
            jnp.int32(self.seed),
            jnp.asarray(allowed),
            net=self.net,
            sampling=self.sampling,
            most=self.most,
            eos=self.vocabulary.eos,
        )
        return np.asarray(jax.device_get(answers))[: len(prompts)]


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


def _prompts(prompts: Sequence[Sequence[int]], model: Model, vocabulary: Vocabulary) -> Prompts:
    rows = len(prompts)
    if model.family == "decoder":
        tokens, lengths = _padded([[vocabulary.start, *ids] for ids in prompts])
        return Prompts(tokens, lengths, None)
    inputs, lengths = _padded([[*ids, vocabulary.eos] for ids in prompts])
    segments = (np.arange(inputs.shape[1])[None] < np.asarray(lengths)[:, None]).astype(np.int32)
    positions = np.broadcast_to(np.arange(inputs.shape[1], dtype=np.int32), inputs.shape)
    encoder = {"input_tokens": inputs, "segment_ids": segments, "positions": positions}
    start = jnp.full((rows, 1), vocabulary.start, jnp.int32)
    features = {f"encoder_{name}": jnp.asarray(x) for name, x in encoder.items()}
    return Prompts(start, jnp.ones((rows,), jnp.int32), features)


def _padded(rows: list[list[int]]) -> tuple[jax.Array, jax.Array]:
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), -(-int(lengths.max()) // ROUND) * ROUND), np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return jnp.asarray(tokens), jnp.asarray(lengths)
