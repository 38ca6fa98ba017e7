"""Deterministic automata over the bytes of a text: what stops an answer, what it never holds, which words it has.

Strings are found by the automaton of Aho and Corasick (1975), words by a trie that begins anew after each of them. All
are tables of bytes, however a vocabulary cuts the text into pieces (`automaton.py`).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from t5like.data.vocabulary.tables import is_chinese

SPACE = 0x20


class Pattern(NamedTuple):
    """An automaton over bytes that begins in state 0.

    `following` is the state after a byte, -1 where no text goes on so; `ends` are the states in which the text may
    end, and `stops` those in which it is over.
    """

    following: Int[np.ndarray, "states 256"]
    ends: Bool[np.ndarray, " states"]
    stops: Bool[np.ndarray, " states"]

    def after(self, text: bytes) -> int:
        """The state after a text, -1 if the text is none of the pattern's."""
        state = 0
        for byte in text:
            state = int(self.following[state, byte])
            if state < 0:
                break
        return state


def anything() -> Pattern:
    """All texts."""
    return Pattern(np.zeros((1, 256), np.int32), np.ones(1, bool), np.zeros(1, bool))


def stopped_by(strings: Sequence[bytes]) -> Pattern:
    """All texts; one is over with the last byte of the first of these strings."""
    following, found = _search(strings)
    following[found] = np.flatnonzero(found)[:, None]
    return Pattern(following, np.ones(len(found), bool), found)


def without(strings: Sequence[bytes]) -> Pattern:
    """The texts that hold none of these strings."""
    following, found = _search(strings)
    return Pattern(np.where(found[following], -1, following), np.ones(len(found), bool), np.zeros(len(found), bool))


def words_of(words: Sequence[str]) -> Pattern:
    """Sequences of these words, at least one, with a space between two of them, or nothing between two of Chinese
    characters; a space may stand before the first, as texts of GPTs that go on from a prompt have it.

    The states are sets of nodes of a trie of all words and of one of those that begin with a Chinese character: "ab"
    and "abc" begin alike.
    """
    children: list[dict[int, int]] = [{}, {}]
    ends: dict[int, bool] = {}
    for word in words:
        for root in (0, 1) if is_chinese(word[0]) else (0,):
            node = _put(children, root, word.encode())
            ends[node] = is_chinese(word[-1])
    index: dict[frozenset[int], int] = {frozenset((0, -1)): 0}
    rows: list[Int[np.ndarray, " 256"]] = []
    for state in (queue := list(index)):  # which grows as new states are found
        row = np.full(256, -1, np.int32)
        for byte, nodes in _edges(children, ends, state).items():
            if nodes not in index:
                index[nodes] = len(index)
                queue.append(nodes)
            row[byte] = index[nodes]
        rows.append(row)
    last = np.array([bool(state & ends.keys()) for state in queue])
    return Pattern(np.stack(rows), last, np.zeros(len(rows), bool))


def _edges(children: list[dict[int, int]], ends: dict[int, bool], state: frozenset[int]) -> dict[int, frozenset[int]]:
    """Byte -> the nodes after it; node -1 stands for the beginning of a text."""
    found: dict[int, set[int]] = {}
    for node in state - {-1}:
        if node in ends:
            found.setdefault(SPACE, set()).add(0)
        for source in (node, 1) if ends.get(node) else (node,):
            for byte, child in children[source].items():
                found.setdefault(byte, set()).add(child)
    if -1 in state:
        found.setdefault(SPACE, set()).add(0)
    return {byte: frozenset(nodes) for byte, nodes in found.items()}


def both(left: Pattern, right: Pattern, begins: tuple[int, int] = (0, 0)) -> Pattern:
    """The texts of two patterns at once, which begin in these states; one that stops stops both."""
    width = len(right.ends)
    index = {begins[0] * width + begins[1]: 0}
    rows: list[Int[np.ndarray, " 256"]] = []
    for code in (queue := list(index)):  # which grows as new pairs are found
        a, b = divmod(code, width)
        if left.stops[a] or right.stops[b]:
            rows.append(np.full(256, len(rows), np.int32))
            continue
        row = left.following[a] * width + right.following[b]
        row[(left.following[a] < 0) | (right.following[b] < 0)] = -1
        codes, places = np.unique(row, return_inverse=True)
        for new in codes.tolist():
            if new >= 0 and new not in index:
                index[new] = len(index)
                queue.append(new)
        rows.append(np.array([index.get(code, -1) for code in codes.tolist()], np.int32)[places])
    firsts, seconds = np.divmod(np.array(queue), width)
    return Pattern(np.stack(rows), left.ends[firsts] & right.ends[seconds], left.stops[firsts] | right.stops[seconds])


def _put(children: list[dict[int, int]], node: int, text: bytes) -> int:
    """Add a text to a trie below `node`; the result is its last node."""
    for byte in text:
        if byte not in children[node]:
            children[node][byte] = len(children)
            children.append({})
        node = children[node][byte]
    return node


def _search(strings: Iterable[bytes]) -> tuple[Int[np.ndarray, "states 256"], Bool[np.ndarray, " states"]]:
    """The states of a search for strings, and those in which one has just been found (Aho and Corasick 1975)."""
    children: list[dict[int, int]] = [{}]
    last = [_put(children, 0, string) for string in strings]
    found = np.zeros(len(children), bool)
    found[last] = True
    following = np.zeros((len(children), 256), np.int32)
    queue = deque([(0, 0)])  # a node, and the one of its longest proper suffix
    while queue:
        node, suffix = queue.popleft()
        found[node] |= found[suffix] and node != suffix
        row = following[suffix].copy()
        for byte, child in children[node].items():
            queue.append((child, int(row[byte]) if node else 0))
            row[byte] = child
        following[node] = row
    return following, found
