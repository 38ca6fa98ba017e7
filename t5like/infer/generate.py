"""Answers to prompts in text or in token ids: what `t5like generate` does, for models that have a decoder."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from t5like.config import Model
from t5like.config.decoding import Decoding
from t5like.data.features import ROUND, token_features
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError
from t5like.infer.automaton import Automaton
from t5like.infer.beams import Answers, divisors, rule_of
from t5like.infer.constrained import automaton_of, cut, prefix_tokens
from t5like.infer.constraints import TokenConstraints, constraints_of, sequences_of
from t5like.infer.decode import Prompts
from t5like.infer.sample import make_sampler
from t5like.infer.search import Asked, Limits, Shape, finish, generate, go_on, start
from t5like.model.network import Network
from t5like.model.sharding import Params, row_parts
from t5like.model.stack import unrolled
from t5like.runs.opened import Restored

if TYPE_CHECKING:
    from t5like.infer.grammar import Grammar


class Text(NamedTuple):
    """An answer: its text, and the sum of the log-probabilities of its tokens, of beams as their rule divides it.

    `tokens` are the pieces with the model's log-probability of each, what ends the answer included.
    """

    text: str
    score: float
    tokens: tuple[tuple[str, float], ...]


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
    decoding: Decoding
    constraints: TokenConstraints | None = None
    """By default an answer ends with the vocabulary's EOS alone."""
    any_row: bool = False
    """True allows rows of the embedding that have no piece too, as transformers does."""

    @property
    def model(self) -> Model:
        """The config of the model."""
        return self.network.config.model

    @property
    def most(self) -> int:
        """Most tokens of an answer."""
        return self.decoding.tokens

    @property
    def copies(self) -> int:
        """Answers to each prompt."""
        return self.decoding.beams.num_return_sequences

    def __call__(self, params: Params, texts: Sequence[str], numbers: int | Sequence[int] = 0) -> list[str]:
        """One continuation, or for an encoder-decoder one answer, for each prompt.

        Args:
          numbers: those of the prompts, on which their random choices depend, or the first where they are consecutive.

        Raises:
          UserError: an empty prompt, one longer than the model allows, or a model without a decoder.
        """
        return [answers[0].text for answers in self.texts(params, self.framed(texts), numbers)]

    def texts(
        self, params: Params, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> list[list[Text]]:
        """The texts of `answers`, for each prompt the best first.

        Raises:
          UserError: a prompt is longer than the model allows, or the model has no decoder.
        """
        self.check(framed)
        found = self.answers(params, framed, numbers, length)
        return [[self._text(found, row, number) for number in range(self.copies)] for row in range(len(framed))]

    def _text(self, found: Answers, row: int, number: int) -> Text:
        tokens, log_probs, length, score = (np.asarray(x)[row, number] for x in found)
        written = tokens[:length].tolist()
        pieces = zip(map(self.vocabulary.name, written), log_probs[:length].tolist(), strict=True)
        return Text(self.written(written), float(score), tuple(pieces) if self.decoding.scores else ())

    def written(self, tokens: Sequence[int]) -> str:
        """The text of an answer behind its prefix, up to what ends it."""
        constraints, length = self.decoding.constraints, self.length(np.asarray(tokens, np.int32))
        text = self.vocabulary.decode([*self.prefix, *tokens[:length]])
        return cut(text, constraints, self.vocabulary) if constraints.stop else text

    def check(self, framed: Sequence[Sequence[int]]) -> None:
        """Raises `UserError` if the model has no decoder, or no positions for a prompt and what follows it."""
        require_decoder(self.model)
        longest, answer = max(map(len, framed)), len(self.prefix) + self.most
        check_length(self.model, longest + answer if self.model.family == "decoder" else max(longest, answer))

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
        """The token ids of the best answer to each prompt; zeros after the end."""
        return np.asarray(self.answers(params, framed, numbers, length).tokens)[:, 0]

    def answers(
        self, params: Params, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> Answers:
        """The answers to framed prompts of token ids, in numpy arrays, for each prompt the best first.

        Args:
          numbers: those of the prompts, on which their random choices depend, or the first where they are consecutive.
          length: tokens to which the prompts are padded; 0: to the longest, rounded up.
        """
        require_decoder(self.model)
        prompts, asked = self.asked(framed, numbers, length)
        if self.decoding.constraints.grammar:
            found = self._by_grammar(params, prompts, asked)
        else:
            found = generate(params, prompts, asked, net=self.network.inference_net, shape=self.shape)
        return jax.tree.map(lambda x: np.asarray(x)[: len(framed)], jax.device_get(found))

    def _by_grammar(self, params: Params, prompts: Prompts, asked: Asked) -> Answers:
        """The answers token by token, as the grammar looks at each before it says what may be the next."""
        net, shape = self.network.inference_net, self.shape
        search, layers = start(params, prompts, asked, net, shape), unrolled_layers(params, self.model)
        matches = self._grammar.begin(len(search.next))
        for number in range(self.most):
            mask = jnp.asarray(matches.mask())
            search = go_on(layers, search, asked, jnp.int32(number + 1), mask, net=net, shape=shape)
            matches.accept(np.asarray(search.next))
            if matches.ended.all():
                break
        return finish(search, net, shape)

    def asked(
        self, framed: Sequence[Sequence[int]], numbers: int | Sequence[int] = 0, length: int = 0
    ) -> tuple[Prompts, Asked]:
        """The arguments of the loop of decoding.

        Rows are split over devices, so their number is rounded up with copies of the last prompt.
        """
        copies = -len(framed) % row_parts(self.network.inference_net.rules)
        numbers = range(numbers, numbers + len(framed)) if isinstance(numbers, int) else numbers
        full, own = [*framed, *[framed[-1]] * copies], [*numbers, *[numbers[-1]] * copies]
        sampler = make_sampler(self.decoding.sampling, own, self.decoding.seed, self.shape.rows)
        penalties = jnp.asarray(divisors(self.decoding.beams, self.most))
        prompts = self._prompts(full, length or ROUND)
        return prompts, Asked(sampler, self._limits(np.asarray(prompts.lengths)), penalties, self._automaton)

    @functools.cached_property
    def shape(self) -> Shape:
        """The part of what is asked that a program is compiled for."""
        decoding, beams = self.decoding, self.decoding.beams
        rule = rule_of(beams, len(self._constraints.ends)) if beams.searches else None
        rows = beams.num_beams if beams.searches else beams.num_return_sequences
        sampling = decoding.sampling
        penalises = sampling.repetition_penalty != 1 or sampling.no_repeat_ngram_size > 0
        return Shape(self.most, rows, rule, sampling.temperature > 0, penalises, decoding.scores)

    @functools.cached_property
    def prefix(self) -> tuple[int, ...]:
        """The tokens with which all answers begin; they are part of what the decoder is given."""
        return prefix_tokens(self.decoding.constraints, self.vocabulary) if self.decoding.constraints.prefix else ()

    @property
    def _constraints(self) -> TokenConstraints:
        return self.constraints or TokenConstraints((self.vocabulary.eos,))

    @functools.cached_property
    def _allowed(self) -> tuple[Bool[np.ndarray, " vocab"], Bool[np.ndarray, " vocab"]]:
        """Tokens that may be chosen at all, and those that end an answer."""
        model, vocabulary, constraints = self.model, self.vocabulary, self._constraints
        allowed = np.ones(model.vocab, bool)
        if not self.any_row:
            allowed[vocabulary.size :] = False
            allowed[vocabulary.pad] = not vocabulary.is_special[vocabulary.pad]
        allowed[list(constraints.never)] = False
        return allowed, np.isin(np.arange(model.vocab), constraints.ends)

    def _limits(self, lengths: Int[np.ndarray, " sources"]) -> Limits:
        """The constraints of answers to prompts of these lengths."""
        constraints = self._constraints
        # Of an imported folder's least length the tokens before the answer are part.
        least = np.maximum(constraints.min_length - lengths, self.decoding.constraints.min_new_tokens)
        first = None if self.prefix or self.model.family == "decoder" else constraints.first
        start, last = (jnp.int32(-1 if token is None else token) for token in (first, constraints.last))
        allowed, ends = map(jnp.asarray, self._allowed)
        rows = jnp.asarray(least.repeat(self.shape.rows), jnp.int32)
        return Limits(allowed, ends, start, last, rows, sequences_of(constraints))

    @functools.cached_property
    def _automaton(self) -> Automaton | None:
        options = self.decoding.constraints
        made = None if options.grammar else automaton_of(options, self.vocabulary, *self._allowed)
        return jax.device_get(made)

    @functools.cached_property
    def _grammar(self) -> "Grammar":
        from t5like.infer.grammar import Grammar  # llguidance is an extra

        return Grammar(self.decoding.constraints, self.vocabulary, *self._allowed)

    def _prompts(self, framed: Sequence[Sequence[int]], multiple: int) -> Prompts:
        """A decoder is given the prompts; with an encoder they go there, and the decoder is given its start."""
        if self.model.family == "decoder":
            behind = [[*ids, *self.prefix] for ids in framed]
            lengths = np.array([len(ids) for ids in behind], np.int32)
            tokens = np.zeros((len(framed), -(-lengths.max() // multiple) * multiple), np.int32)
            for row, ids in zip(tokens, behind, strict=True):
                row[-len(ids) :] = ids
            return Prompts(jnp.asarray(tokens), jnp.asarray(lengths), None)
        made = token_features("encoder", [[ids] for ids in framed], multiple=multiple)
        features = {name: jnp.asarray(x) for name, x in made.items()}
        first = self._constraints.first if self.prefix else None
        given = [self.vocabulary.start, *([] if first is None else [first]), *self.prefix]
        start = jnp.tile(jnp.asarray(given, jnp.int32), (len(framed), 1))
        return Prompts(start, jnp.full((len(framed),), len(given), jnp.int32), features)


@functools.partial(jax.jit, static_argnames="model")
def unrolled_layers(params: Params, model: Model) -> Params:
    """The parameters as `search.go_on` takes them."""
    return unrolled(params, model)


def generator_of(restored: Restored, decoding: Decoding) -> Generator:
    """The generator of a run, with the frame of its prompts and the constraints of its answers.

    Raises:
      UserError: the model has no decoder.
    """
    require_decoder(restored.config.model)
    constraints = constraints_of(restored)
    return Generator(restored.network, restored.vocabulary, restored.frame, decoding, constraints)


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
