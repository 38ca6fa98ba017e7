"""Streaming: the text of tokens piece by piece, each as soon as nothing that follows can change it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import jax.numpy as jnp
import numpy as np

from t5like.config.checks import require
from t5like.data.vocabulary import Vocabulary
from t5like.infer.batches import row_length
from t5like.infer.generate import Generator, unrolled_layers
from t5like.infer.search import Written, go_on, start
from t5like.model.sharding import Params

SEGMENT = 4
"""Tokens that are chosen without a look at them, which keeps the devices waiting for a moment."""


def pieces(
    vocabulary: Vocabulary, tokens: Iterable[int], stops: Sequence[str] = (), include: bool = False
) -> Iterator[str]:
    """The text of tokens as they come, in pieces of whole characters, none of them empty.

    Together they are `vocabulary.decode(tokens)`, whatever the tokens, up to the stop string that is complete first,
    or with it to `include` it. What may be the beginning of one is held back; behind one no token is taken any more.
    """
    texts = decoded(vocabulary, tokens)
    return until_stop(texts, stops, include) if any(stops) else texts


def decoded(vocabulary: Vocabulary, tokens: Iterable[int]) -> Iterator[str]:
    """The same without stop strings. A token costs constant time: it is decoded behind few others.

    `context` are tokens whose text is out, as many as it takes to decode the next ones as in the whole: of ▁the ▁mo on,
    decoded alone, ▁mo would lose its space. `held` may still change, as the first bytes of a character do.
    """
    special, size = frozenset(vocabulary.special.values()), vocabulary.pieces.size
    unspelt = {vocabulary.pieces.control.pad, vocabulary.eos}
    context, held = list[int](), list[int]()
    for token in map(int, tokens):
        if token in unspelt or (token >= size and token not in special):
            continue
        held.append(token)
        if token in special or vocabulary.pieces.settled(held):
            if text := _behind(vocabulary, context, held):
                yield text
            # What has no text of its own, such as a space that begins one, says nothing of what is before it.
            context = held if vocabulary.decode(held) else [*context, *held]
            held = []
    if text := _behind(vocabulary, context, held):
        yield text


def _behind(vocabulary: Vocabulary, context: list[int], held: list[int]) -> str:
    return vocabulary.decode([*context, *held])[len(vocabulary.decode(context)) :]


def until_stop(texts: Iterable[str], stops: Sequence[str], include: bool = False) -> Iterator[str]:
    """The texts up to the stop string that is complete first, or with it, however they are cut; of two that end at one
    place it is the longer."""
    stops, waiting = [stop for stop in stops if stop], ""
    for text in texts:
        waiting += text
        ends = [(at + len(stop), at) for stop in stops if (at := waiting.find(stop)) >= 0]
        sure = min(ends)[0 if include else 1] if ends else len(waiting) - max(_begun(waiting, stop) for stop in stops)
        if sure:
            yield waiting[:sure]
        if ends:
            return
        waiting = waiting[sure:]
    if waiting:
        yield waiting


def _begun(text: str, stop: str) -> int:
    """The characters at the end of a text with which a stop string begins."""
    return next((count for count in range(len(stop) - 1, 0, -1) if text.endswith(stop[:count])), 0)


def answer_tokens(
    generator: Generator, params: Params, framed: Sequence[int], within: Callable[[], AbstractContextManager[None]]
) -> Iterator[int]:
    """The tokens of `generator.tokens` for one prompt, number 0, as they are chosen, without what ends them.

    They come in segments of `SEGMENT`, of which each is computed when the one before it has been taken.

    Args:
      within: what each segment is computed in; nothing of it is left while the iterator waits.

    Raises:
      UserError: the prompt is longer than the model allows, or the model has no decoder.
    """
    generator.check([framed])
    net, shape, given = generator.network.inference_net, generator.shape, 0
    require(shape.rule is None and shape.rows == 1, "An answer is written piece by piece without beams, and alone.")
    require(not generator.decoding.constraints.grammar, "An answer is written piece by piece without a grammar.")
    yield from generator.prefix
    with within():
        prompts, asked = generator.asked([framed], 0, row_length(len(framed)))
        search = start(params, prompts, asked, net, shape)
        layers = unrolled_layers(params, net.model)
    while True:
        until = jnp.int32(given + SEGMENT if given else 1)
        with within():
            search = go_on(layers, search, asked, until, net=net, shape=shape)
            assert isinstance(search.written, Written)
            written = np.array(search.written.tokens[0, : int(search.written.lengths[0])])
            ended = bool(search.written.ended[0])
        yield from written[given : generator.length(written)].tolist()
        given = len(written)
        if ended or given == generator.most:
            return
