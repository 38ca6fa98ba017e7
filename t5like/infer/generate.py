"""Answers to prompts in text or in token ids: what `t5like generate` does, for models that have a decoder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from t5like.config import Model
from t5like.config.checks import require
from t5like.config.sampling import Sampling
from t5like.data.features import ROUND, token_features
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError
from t5like.infer.constraints import Constraints, constraints_of
from t5like.infer.decode import Prompts
from t5like.infer.sample import make_sampler
from t5like.infer.search import Asked, Limits, generate
from t5like.model.network import Network
from t5like.model.sharding import Params, row_parts
from t5like.runs.opened import Restored

SENTINEL = re.compile(r"(<extra_id_\d+>)")


@dataclass(frozen=True)
class Generator:
    """Generates with a set of parameters; a batch of prompts is compiled for lengths rounded up to 32.

    A sampled answer depends on the prompt, its number and the seed alone: not on other prompts, nor on their order in
    a batch, nor on the devices.
    """

    network: Network
    vocabulary: Vocabulary
    frame: Frame
    """Tokens around a prompt."""
    sampling: Sampling
    most: int
    """Most tokens of an answer."""
    seed: int = 0
    constraints: Constraints | None = None
    """By default an answer ends with the vocabulary's EOS alone."""
    any_row: bool = False
    """True allows rows of the embedding that have no piece too, as transformers does."""

    @property
    def model(self) -> Model:
        """The config of the model."""
        return self.network.config.model

    def __call__(self, params: Params, texts: Sequence[str], numbers: int | Sequence[int] = 0) -> list[str]:
        """One continuation, or for an encoder-decoder one answer, for each prompt.

        Args:
          numbers: those of the prompts, on which their random choices depend, or the first where they are consecutive.

        Raises:
          UserError: an empty prompt, one longer than the model allows, or a model without a decoder.
        """
        return self.texts(params, self.framed(texts), numbers)

    def texts(
        self, params: Params, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> list[str]:
        """The texts of `tokens`.

        Raises:
          UserError: a prompt is longer than the model allows, or the model has no decoder.
        """
        self.check(framed)
        answers = self.tokens(params, framed, numbers, length)
        return [self.vocabulary.decode(ids[: self.length(ids)]) for ids in answers]

    def check(self, framed: Sequence[Sequence[int]]) -> None:
        """Raises `UserError` if the model has no decoder, or no positions for a prompt and what follows it."""
        require_decoder(self.model)
        longest = max(map(len, framed))
        check_length(self.model, longest + self.most if self.model.family == "decoder" else max(longest, self.most))

    def framed(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of prompts, in their frame.

        Raises:
          UserError: an empty prompt.
        """
        encoded = [self.vocabulary.encode(text) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if not text.strip() or not ids:
                raise UserError("The prompt is empty: give --prompt a text.")
        return [self.frame.around(ids) for ids in encoded]

    def length(self, answer: Int[np.ndarray, " most"]) -> int:
        """The number of tokens before the end of an answer."""
        ended = np.isin(answer, self._constraints.ends)
        return int(ended.argmax()) if ended.any() else len(answer)

    def tokens(
        self, params: Params, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> Int[np.ndarray, "prompts most"]:
        """The token ids of answers to framed prompts of token ids; zeros after the end.

        Args:
          numbers: those of the prompts, on which their random choices depend, or the first where they are consecutive.
          length: tokens to which the prompts are padded; 0: to the longest, rounded up.
        """
        require_decoder(self.model)
        prompts, asked = self.asked(framed, numbers, length)
        written = generate(params, prompts, asked, net=self.network.inference_net, most=self.most)
        return np.asarray(jax.device_get(written.tokens))[: len(framed)]

    def asked(
        self, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> tuple[Prompts, Asked]:
        """The arguments of the loop of decoding for `tokens`.

        Rows are split over devices, so their number is rounded up with copies of the last prompt.
        """
        copies = -len(framed) % row_parts(self.network.inference_net.rules)
        numbers = range(numbers, numbers + len(framed)) if isinstance(numbers, int) else numbers
        full, own = [*framed, *[framed[-1]] * copies], [*numbers, *[numbers[-1]] * copies]
        sampler = make_sampler(self.sampling, own, self.seed)
        return self._prompts(full, length or ROUND), Asked(sampler, self._limits())

    @property
    def _constraints(self) -> Constraints:
        return self.constraints or Constraints((self.vocabulary.eos,))

    def _limits(self) -> Limits:
        model, vocabulary, constraints = self.model, self.vocabulary, self._constraints
        allowed = np.ones(model.vocab, bool)
        if not self.any_row:
            allowed[vocabulary.size :] = False
            allowed[vocabulary.pad] = not vocabulary.is_special[vocabulary.pad]
        allowed[list(constraints.never)] = False
        ends = np.isin(np.arange(model.vocab), constraints.ends)
        first = constraints.first if model.family == "encoder-decoder" else None
        forced = (jnp.int32(-1 if token is None else token) for token in (first, constraints.last))
        return Limits(jnp.asarray(allowed), jnp.asarray(ends), *forced)

    def _prompts(self, framed: Sequence[Sequence[int]], multiple: int) -> Prompts:
        """A decoder is given the prompts; with an encoder they go there, and the decoder is given its start."""
        if self.model.family == "decoder":
            lengths = np.array([len(ids) for ids in framed], np.int32)
            tokens = np.zeros((len(framed), -(-lengths.max() // multiple) * multiple), np.int32)
            for row, ids in zip(tokens, framed, strict=True):
                row[-len(ids) :] = ids
            return Prompts(jnp.asarray(tokens), jnp.asarray(lengths), None)
        made = token_features("encoder", [[ids] for ids in framed], multiple=multiple)
        features = {name: jnp.asarray(x) for name, x in made.items()}
        start = jnp.full((len(framed), 1), self.vocabulary.start, jnp.int32)
        return Prompts(start, jnp.ones((len(framed),), jnp.int32), features)


def generator_of(restored: Restored, sampling: Sampling, most: int, seed: int = 0) -> Generator:
    """The generator of a run, with the frame of its prompts and the constraints of its answers.

    Raises:
      UserError: the model has no decoder, or `most` or `seed` is out of bounds.
    """
    require_decoder(restored.config.model)
    require(most > 0, f"tokens={most} must be above 0.")
    require(0 <= seed < 2**31, f"seed={seed} must be at least 0 and below 2**31.")
    constraints = constraints_of(restored)
    return Generator(restored.network, restored.vocabulary, restored.frame, sampling, most, seed, constraints)


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
