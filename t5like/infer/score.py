"""Log-likelihoods of texts: of the targets in rows of features, and of the tokens of texts as a run reads them.

A decoder scores each token behind those before it; an encoder-decoder a target behind its input, or a text as it has
learned to write one; an encoder each token among all others, its pseudo-log-likelihood. `passes` has the rows.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from t5like.config.checks import require
from t5like.config.scoring import Scoring
from t5like.data.features import token_features
from t5like.infer.forward import rounded, row_length
from t5like.infer.generate import require_pieces
from t5like.infer.passes import (
    Pass,
    continuation,
    masked,
    rest_written,
    spans_filled,
    spans_of_length,
    way_of,
    words_of,
)
from t5like.model.sharding import Params, row_parts, shard
from t5like.model.transformer import Transformer
from t5like.runs.opened import Restored
from t5like.train.chunked import chunked_losses
from t5like.train.step import predicting

TOGETHER = 2**20
"""Tokens of passes that are sorted by length together, so that memory stays bounded."""


class Asked(NamedTuple):
    """A text to score, behind an input or alone; `where` names it in errors."""

    text: str
    input: str | None
    where: Callable[[], str]


class TokenScores(NamedTuple):
    """The tokens of a text, and the log-probability of each in nats; None of those that nothing predicts."""

    tokens: list[int]
    scores: list[float | None]


def log_probabilities(
    net: Transformer,
    params: Params,
    features: dict[str, Array],
    repeats: int = 1,
    at: Int[Array, "rows targets"] | None = None,
) -> Float[Array, "rows targets"]:
    """log p, in nats, of the `*_target_tokens` of each row, which no other row changes.

    Args:
      repeats: rows of the decoder for each row of the encoder, which is read once for them.
      at: the positions that the targets of a row stand at; by default its positions from the first on.
    """
    batch, memory = dict(features), None
    if net.model.encoder_layers and net.model.decoder_layers:
        memory = cast(Array, net.apply({"params": params}, batch, method=Transformer.encode))
        memory = jnp.repeat(memory, repeats, axis=0)
        batch["encoder_segment_ids"] = jnp.repeat(batch["encoder_segment_ids"], repeats, axis=0)
    given = functools.partial(net.apply, {"params": params}, batch, memory, method=Transformer.lm_head_inputs)
    inputs, _ = cast(Any, given())
    if at is not None:  # [rows, length, embed] -> [rows, targets, embed]
        inputs = inputs._replace(x=jnp.take_along_axis(inputs.x, at[..., None], axis=1))
    return -chunked_losses(inputs, predicting(batch, "target_tokens"), net.rules).nll


@dataclass(frozen=True)
class Scorer:
    """Scores texts with a run; call it under the mesh of the run. A score depends on its text and input alone, but for
    rounding."""

    restored: Restored
    scoring: Scoring
    batch: int
    """Rows that are computed at once; a text has a row for each of its tokens or spans where these are masked."""

    def __call__(self, asked: Iterable[Asked]) -> Iterator[TokenScores]:
        """The scores in the order of the texts.

        Raises:
          UserError: the model predicts no tokens, `scoring` does not suit it, or a text is too long for it.
        """
        self.check()
        texts, passes, size = list[list[int]](), list[list[Pass]](), 0
        for each in asked:
            ids, own = self._passes(each)
            texts.append(ids)
            passes.append(own)
            size += sum(len(row) for one in own for row in one.stacks.values())
            if size >= TOGETHER:
                yield from self._scored(texts, passes)
                texts, passes, size = [], [], 0
        yield from self._scored(texts, passes)

    def check(self) -> None:
        """Raises `UserError` if the run cannot score, or not so."""
        model, scoring, objective = self.restored.config.model, self.scoring, self.restored.config.data.objective
        require_pieces(model)
        family = model.family
        require(
            family == "encoder-decoder" or not scoring.by,
            f"--by {scoring.by} is for encoder-decoders; this run has the family {family}: leave it out.",
        )
        require(
            family == "encoder" or scoring.pll == "original",
            f"--pll {scoring.pll} is for encoders; this run has the family {family}: leave it out.",
        )
        require(
            family == "decoder" or not scoring.start,
            f"--start is for decoders; this run has the family {family}: leave it out.",
        )
        require(
            family != "encoder" or not scoring.end,
            "--end is for models with a decoder; this run has the family encoder: leave it out.",
        )
        require(
            scoring.by != "spans" or way_of(objective, "spans") is not None,
            f"--by spans is for runs that have learned to fill spans; this one has data.objective.kind="
            f"{objective.kind!r}: take --by prefix.",
        )

    def _passes(self, asked: Asked) -> tuple[list[int], list[Pass]]:
        """The tokens of a text and the passes that score them."""
        restored, scoring = self.restored, self.scoring
        model, vocabulary, frame = restored.config.model, restored.vocabulary, restored.frame
        ids = vocabulary.encode(asked.text)
        given = None if asked.input is None else vocabulary.encode(asked.input)
        ids += self._ends(behind=given is not None)
        if given is not None:
            self._check_input()
        match model.family:
            case "encoder":
                passes = list(masked(ids, scoring.pll, frame, vocabulary))
            case "decoder":
                before = list(frame.before) or [vocabulary.start] * scoring.start
                passes = continuation(before, given or [], ids)
            case _ if given is not None:
                passes = continuation([vocabulary.start], [], ids, frame.around(given))
            case _:
                passes = list(self._alone(ids))
        self._check_length(asked, passes)
        return ids, passes

    def _alone(self, ids: list[int]) -> Iterator[Pass]:
        """The passes of a text that an encoder-decoder is given alone."""
        scoring, vocabulary, objective = self.scoring, self.restored.vocabulary, self.restored.config.data.objective
        by = scoring.by or ("prefix" if way_of(objective, "spans") is None else "spans")
        way = way_of(objective, by)
        assert way is not None
        require(by == "prefix" or not scoring.end, "--end has no effect with --by spans: take --by prefix.")
        if by == "spans":
            spans = spans_of_length(ids, scoring.span, vocabulary) if scoring.span else words_of(ids, vocabulary)
            return spans_filled(ids, spans, way, self.restored.frame, vocabulary)
        text = len(ids) - len(self._ends(behind=False))
        return rest_written(ids, int(text * scoring.prefix), way, self.restored.frame, vocabulary)

    def _ends(self, behind: bool) -> list[int]:
        """The token that ends a text, where it is scored."""
        config, end = self.restored.config, self.scoring.end
        if end is None:
            end = behind and (config.model.family == "encoder-decoder" or config.data.objective.spec.answers)
        return [self.restored.vocabulary.eos] if end else []

    def _check_input(self) -> None:
        family, by = self.restored.config.model.family, self.scoring.by
        require(
            family != "encoder",
            "An input is for models with a decoder, which score a target behind it; this run has the family encoder: "
            "give the whole text as the target.",
        )
        require(not by, f"--by {by} is for texts without an input: leave out one of the two.")

    def _check_length(self, asked: Asked, passes: Sequence[Pass]) -> None:
        most = self.restored.config.model.max_positions
        longest = max((len(row) for each in passes for row in each.stacks.values()), default=0)
        require(
            most is None or longest <= most,
            f"{asked.where()} needs a row of {longest:,} tokens, but model.max_positions={most}: shorten it.",
        )

    def _scored(self, texts: Sequence[list[int]], passes: Sequence[Sequence[Pass]]) -> Iterator[TokenScores]:
        values = self._values([each for own in passes for each in own])
        for ids, own in zip(texts, passes, strict=True):
            scores: list[float | None] = [None] * len(ids)
            for each in own:
                for number, value in zip(each.numbers.tolist(), next(values).tolist(), strict=True):
                    scores[number] = value
            yield TokenScores(ids, scores)

    def _values(self, passes: Sequence[Pass]) -> Iterator[Float[np.ndarray, " scored"]]:
        """The log-probabilities of each pass. Those of about one length are neighbours in a batch, whose lengths are
        32, 64, 128, ..., so that few programs are compiled."""
        net, params = self.restored.network.inference_net, self.restored.params
        lengths = [tuple(row_length(len(row)) for row in each.stacks.values()) for each in passes]
        order = sorted(range(len(passes)), key=lengths.__getitem__)
        rows = self.batch if len(order) >= self.batch else rounded(len(order), self.batch)
        rows += -rows % row_parts(net.rules)
        found = dict[int, np.ndarray]()
        for start in range(0, len(order), rows or 1):
            numbers = order[start : start + rows]
            full = [passes[n] for n in [*numbers, *[numbers[-1]] * (rows - len(numbers))]]
            features, at = _features(full)
            values = np.asarray(jax.device_get(_log_probabilities(params, features, at, net=net)))
            for number, row in zip(numbers, values, strict=False):
                found[number] = row if at is not None else row[passes[number].at]
        return (found[number] for number in range(len(passes)))


def _features(passes: Sequence[Pass]) -> tuple[dict[str, Array], Int[Array, "rows 1"] | None]:
    """The features of a batch, with targets at all positions; of an encoder, where a pass scores one token, with these
    alone, and their positions."""
    features, stack = dict[str, np.ndarray](), ""
    for stack in passes[0].stacks:
        rows = [each.stacks[stack] for each in passes]
        longest = row_length(max(map(len, rows)))
        features |= token_features(stack, [[row.tolist()] for row in rows], multiple=longest)
    if stack == "encoder":
        targets, at = (
            np.stack(column).astype(np.int32) for column in zip(*((p.tokens, p.at) for p in passes), strict=True)
        )
    else:
        targets, at = np.zeros_like(features["decoder_input_tokens"]), None
        for row, each in zip(targets, passes, strict=True):
            row[each.at] = each.tokens
    features[f"{stack}_target_tokens"] = targets
    on_device = {name: jnp.asarray(values) for name, values in features.items()}
    return on_device, None if at is None else jnp.asarray(at)


@functools.partial(jax.jit, static_argnames="net")
def _log_probabilities(
    params: Params, features: dict[str, Array], at: Int[Array, "rows targets"] | None, *, net: Transformer
) -> Float[Array, "rows targets"]:
    found = log_probabilities(net, params, features, at=at)
    return shard(found, net.rules, None, None)  # whole on every process
