"""Streaming: the text of tokens piece by piece, each as soon as nothing that follows can change it."""

from collections.abc import Iterable, Iterator, Sequence

from t5like.data.vocabulary import Vocabulary


def pieces(vocabulary: Vocabulary, tokens: Iterable[int], stops: Sequence[str] = ()) -> Iterator[str]:
    """The text of tokens as they come, in pieces of whole characters, none of them empty.

    Together they are `vocabulary.decode(tokens)`, whatever the tokens, up to the stop string that is complete first.
    What may be the beginning of one is held back; behind one no token is taken any more.
    """
    texts = decoded(vocabulary, tokens)
    return until_stop(texts, stops) if any(stops) else texts


def decoded(vocabulary: Vocabulary, tokens: Iterable[int]) -> Iterator[str]:
    """The same without stop strings. A token costs constant time: it is decoded behind few others.

    `context` are tokens whose text is out, as many as it takes to decode the next ones as in the whole: of ▁the ▁mo on,
    decoded alone, ▁mo would lose its space. `held` may still change, as the first bytes of a character do.
    """
    special, size = frozenset(vocabulary.special.values()), vocabulary.pieces.size
    unspelt = {vocabulary.pieces.control.pad, vocabulary.eos} - special
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


def until_stop(texts: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The texts up to the stop string that is complete first, however they are cut; of two that end at one place it is
    the longer."""
    stops, waiting = [stop for stop in stops if stop], ""
    for text in texts:
        waiting += text
        ends = [(at + len(stop), at) for stop in stops if (at := waiting.find(stop)) >= 0]
        sure = min(ends)[1] if ends else len(waiting) - max(_begun(waiting, stop) for stop in stops)
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
