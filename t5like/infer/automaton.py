"""Constraints of an answer's text as one table on the device: the next state after each token in each state.

`patterns.py` says which bytes a text may have, `spelling.py` which bytes a token adds; their product is built here with
numpy, in waves: the tokens of all new states are read byte by byte at once. A state from which no text is possible that
keeps to the constraints is none: a loop that only takes tokens whose next state is not -1 never breaks them and never
runs into a wall.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from t5like.errors import UserError
from t5like.infer.patterns import Pattern
from t5like.infer.spelling import Spelling

LARGEST = 2**28
"""Bytes of the largest table: 4,096 states of 32,000 tokens, 512 of 256,000."""
PART = 2**22
"""Texts times states that are read at once, which bounds the memory that building a table needs."""
FAR = 2**30


class Automaton(NamedTuple):
    """Constraints of answers, whose rows each carry a state; all begin in `start`.

    `table` has the next state after a token, -1 where the token is forbidden. With `stops` the answer is over, as it is
    with its end token. `needed` is the least number of tokens after which the text of a state may end.
    """

    table: Int[Array, "states vocab"]
    stops: Bool[Array, " states"]
    needed: Int[Array, " states"]
    start: Int[Array, ""]


def permitted(automaton: Automaton, states: Int[Array, " rows"], left: Int[Array, ""]) -> Bool[Array, "rows vocab"]:
    """The tokens that each row may take, where `left` tokens are left, this one included: near the longest answer those
    alone after which its text can still end as it may."""
    following = automaton.table[states].astype(jnp.int32)
    near = lambda: automaton.needed[jnp.maximum(following, 0)] < left  # noqa: E731
    ending = jax.lax.cond(left <= automaton.needed.max(), near, lambda: jnp.ones(following.shape, bool))
    return (following >= 0) & ending


def without_ends(
    mask: Bool[Array, "rows vocab"], ends: Bool[Array, " vocab"], early: Bool[Array, " rows"]
) -> Bool[Array, "rows vocab"]:
    """The tokens of a mask without ends in rows in which it is too early for one, where there is another token."""
    others = mask & ~ends[None]
    return jnp.where((early & others.any(1))[:, None], others, mask)


def follow(automaton: Automaton, states: Int[Array, "*rows"], tokens: Int[Array, "*rows"]) -> Int[Array, "*rows"]:
    """The state of each row after its token; one that was forbidden leaves it as it was."""
    found = automaton.table[states, tokens].astype(jnp.int32)
    return jnp.where(found < 0, states, found)


def build(
    pattern: Pattern,
    spelling: Spelling,
    allowed: Bool[np.ndarray, " vocab"],
    ends: Bool[np.ndarray, " vocab"],
    context: int = 0,
) -> Automaton:
    """The automaton of a pattern for a vocabulary.

    Args:
      allowed: tokens that may be chosen at all, ends among them.
      ends: tokens that end an answer, and add nothing to its text.
      context: that of `spelling` in which answers begin, not 0 behind a prefix.

    Raises:
      UserError: no answer keeps to the constraints but an empty one, or there are too many states.
    """
    rows, states = _explored(pattern, spelling, allowed & ~ends, context)
    stops, final = pattern.stops[states // len(spelling.adds)], pattern.ends[states // len(spelling.adds)]
    rows[:, ends & allowed] = np.where(final, np.arange(len(states)), -1)[:, None]
    needed = _without_walls(rows, stops, final & (ends & allowed).any(), final)
    adding = (spelling.adds > 0)[states % len(spelling.adds)]
    if needed[0] == FAR or not ((rows >= 0) & adding & ~ends).any():
        raise UserError(
            "The constraints leave nothing to choose: no answer but an empty one keeps to --bad_words, --allowed_words "
            "and --prefix together."
        )
    shown = np.int16 if len(states) < 2**15 else np.int32
    arrays = rows.astype(shown), stops, np.minimum(needed, FAR).astype(np.int32), np.int32(0)
    return Automaton(*map(jnp.asarray, arrays))


def _explored(
    pattern: Pattern, spelling: Spelling, allowed: Bool[np.ndarray, " vocab"], context: int
) -> tuple[Int[np.ndarray, "states vocab"], Int[np.ndarray, " states"]]:
    """The next state after each token in all states that are reached, and the code of each: that of the pattern times
    the number of contexts, and the context."""
    reader, contexts = _Reader(pattern, spelling), len(spelling.adds)
    free = pattern.ends.all()
    index = np.full(len(pattern.ends) * contexts, -1, np.int32)
    index[context] = 0
    rows: list[Int[np.ndarray, "wave vocab"]] = []
    codes, new = np.array([context]), np.array([context])
    while len(new):
        if len(codes) * spelling.adds.shape[1] * 2 > LARGEST:
            raise UserError(
                f"The constraints need a table of more than {len(codes):,} states for a vocabulary of "
                f"{spelling.adds.shape[1]:,} tokens, which is too large: give fewer or shorter words."
            )
        found = np.full((len(new), spelling.adds.shape[1]), -1, np.int32)
        for at, texts in reader.read(new // contexts):
            for number, code in enumerate(new[at], at.start):
                adds, then = spelling.adds[code % contexts], spelling.then[code % contexts]
                state = texts[number - at.start][adds]
                over = pattern.stops[state] & (state >= 0)
                row = np.where(over, 0, then) + state * contexts
                barred = ~allowed if free else ~allowed | ((adds == 0) & (then == code % contexts))
                found[number] = np.where((state < 0) | barred, -1, row)
        seen = np.zeros(len(index) + 1, bool)
        seen[found] = True  # -1 is the last
        new = np.flatnonzero(seen[:-1] & (index < 0))
        index[new] = len(codes) + np.arange(len(new))
        codes = np.append(codes, new)
        rows.append(found)
    numbers = np.append(index, -1)
    return np.concatenate([numbers[found] for found in rows]), codes


class _Reader:
    """Reads all texts of a spelling from given states of a pattern: the longest first, so that those that are not at
    their end are always the first ones."""

    def __init__(self, pattern: Pattern, spelling: Spelling):
        states = len(pattern.ends)
        # The row behind the last state stands for -1, and the states are those of the flat table: times 256.
        table = np.append(pattern.following, np.full((1, 256), -1, np.int32), axis=0)
        self._table = np.where(table < 0, states, table).ravel().astype(np.int32) * 256
        self._dead, lengths = states, np.array([len(text) for text in spelling.texts])
        self._order = np.argsort(-lengths, kind="stable")
        texts = [spelling.texts[number] for number in self._order]
        self._columns: list[Int[np.ndarray, " active"]] = []
        for place in range(lengths.max(initial=0)):
            active = int((lengths > place).sum())
            column = bytes([text[place] for text in texts[:active]])
            self._columns.append(np.frombuffer(column, np.uint8).astype(np.int32))

    def read(self, states: Int[np.ndarray, " wave"]) -> Iterator[tuple[slice, Int[np.ndarray, "part texts"]]]:
        """Parts of the wave, each with the state after each text, -1 where it is none of the pattern's."""
        part = max(1, PART // len(self._order))
        for begin in range(0, len(states), part):
            at = slice(begin, min(begin + part, len(states)))
            now = np.repeat((states[at, None] * 256).astype(np.int32), len(self._order), axis=1)
            for column in self._columns:
                active = now[:, : len(column)]
                active[:] = self._table[active + column]
            found = np.empty_like(now)
            found[:, self._order] = now // 256
            yield at, np.where(found == self._dead, -1, found)


def _without_walls(
    rows: Int[np.ndarray, "states vocab"],
    stops: Bool[np.ndarray, " states"],
    ending: Bool[np.ndarray, " states"],
    final: Bool[np.ndarray, " states"],
) -> Int[np.ndarray, " states"]:
    """Forbid, in `rows`, the tokens after which no text can go on or end; the result is the number of tokens that each
    state needs before its text may end, `FAR` where it never may."""
    following = np.zeros((len(rows), len(rows) + 1), bool)
    for state, row in enumerate(rows):
        following[state, row] = True
    following = following[:, :-1]
    alive = np.ones(len(rows), bool)
    while True:
        needed = np.where((stops | final) & alive, 0, FAR)
        while True:
            least = np.where(following & alive, needed, FAR).min(1)
            nearer = np.where(alive, np.minimum(needed, least + 1), FAR)
            if (nearer == needed).all():
                break
            needed = nearer
        living = alive & (needed < FAR) & (stops | ending | (following & alive).any(1))
        if (living == alive).all():
            break
        alive = living
    if not alive.all():
        rows[~np.append(alive, False)[rows]] = -1
    return np.where(alive, needed, FAR)
