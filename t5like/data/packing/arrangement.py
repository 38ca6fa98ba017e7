"""The making of a pack table: the examples of a source's split, drawn, put into rows, and written."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Int

from t5like import config
from t5like.data.draws import Keys
from t5like.data.files import WholeFile
from t5like.data.objectives import sizes
from t5like.data.objectives.text import prefixes
from t5like.data.order import example_key
from t5like.data.packing.packing import pack
from t5like.data.packing.sentence_pairs import chunks_of, pairs_of
from t5like.data.ragged import positions_in
from t5like.data.store import SPLITS, Split, Store, TableEntry
from t5like.data.vocabulary import Vocabulary

WINDOW = 2**16
"""Examples that are packed together."""
SORTED = 2**20
"""Pairs of sentences that are sorted together, at least; the last ones are up to twice as many."""
DRAWN, MOST_DRAWINGS = 2**18, 8
"""Examples of all drawings together, and the drawings that there are at most."""
UINT64 = np.dtype("<u8")
Table = Int[np.ndarray, "examples columns"]


class Window(NamedTuple):
    """Some examples in the order of their rows."""

    table: Table
    starts: Int[np.ndarray, " rows"]
    """The first example of each row."""
    tokens: Int[np.ndarray, " stacks"]
    cut: int
    """Documents or sentences that had to be cut."""


def write_table(
    store: Store, data: config.Data, vocabulary: Vocabulary, source: int, split: Split, folder: epath.Path
) -> TableEntry:
    """Write the two files of a source's split and return their description for `table.json`."""
    drawings = _drawings(store, data, source, split)
    arranged = _arranged(store, data, vocabulary, source, split, drawings)
    if drawings > 1:
        arranged = _equally_many([list(windows) for windows in arranged])
    examples = rows = cut = 0
    tokens = np.zeros(len(data.lengths), np.int64)
    name = f"{source}-{split}"
    with WholeFile(folder / f"{name}.examples") as table, WholeFile(folder / f"{name}.rows") as starts:
        for windows in arranged:
            for window in windows:
                table.write(window.table.astype(UINT64).tobytes())
                starts.write((window.starts + examples).astype(UINT64).tobytes())
                examples, rows = examples + len(window.table), rows + len(window.starts)
                tokens, cut = tokens + window.tokens, cut + window.cut
        starts.write(np.array([examples], UINT64).tobytes())
        return {
            "drawings": drawings,
            "sorted": SORTED,
            "examples": examples // drawings,
            "rows": rows // drawings,
            "cut": cut // drawings,
            "tokens": tokens.tolist(),
            "sha256": [table.close(), starts.close()],
        }


def _drawings(store: Store, data: config.Data, source: int, split: Split) -> int:
    """The number of drawings: several for a small source, which runs see often."""
    if not data.draws_lengths:
        return 1
    there = store.manifest["sources"][source]["splits"][split]
    examples = there["documents"] + there["tokens"] // data.window
    return min(max(DRAWN // max(examples, 1), 1), MOST_DRAWINGS)


def _arranged(
    store: Store, data: config.Data, vocabulary: Vocabulary, source: int, split: Split, drawings: int
) -> Iterator[Iterator[Window]]:
    """The windows of each drawing."""
    if data.objective.spec.sentence_pairs:
        chunks = chunks_of(store, data, vocabulary, source, split)
        chunks = list(chunks) if drawings > 1 else chunks
        for draw in range(drawings):
            pairs = (pairs_of(own, data.seed, split, source, draw, data.window) for own in chunks)
            yield map(_sorted, _windows(pairs, SORTED, 2 * SORTED))
        return
    for draw in range(drawings):
        tables = _windows(_examples(store, data, source, split), WINDOW, WINDOW)
        yield (_packed(table, cut, data, source, split, draw) for table, cut in tables)


def _sorted(pairs: tuple[Table, int]) -> Window:
    """Pairs, one a row, by whether B lost its end and by its length, so that the neighbours of a pair have such a B."""
    table, cut = pairs
    order = np.lexsort((table[:, 3], table[:, 4]))
    table = table[order, :4]
    return Window(table, np.arange(len(table)), np.array([table[:, 2:].sum() + 3 * len(table)]), cut)


def _packed(table: Table, cut: int, data: config.Data, source: int, split: Split, draw: int) -> Window:
    """Examples by their rows."""
    capacity = list(data.lengths.values())
    keys = example_key(data.seed, SPLITS.index(split), source, draw, table[:, 0])
    if data.parts > data.objective.spec.parts:
        table = _cut_in_two(table, keys, data)
    lengths = np.minimum(sizes(table[:, 2:], keys, data), capacity)
    if not (data.pack and data.packs):
        return Window(table, np.arange(len(table)), lengths.sum(axis=0), cut)
    order, ends = pack(lengths, capacity, WINDOW)
    return Window(table[order], ends[:-1], lengths.sum(axis=0), cut)


def _cut_in_two(table: Int[np.ndarray, "examples 3"], keys: Keys, data: config.Data) -> Int[np.ndarray, "examples 4"]:
    """Cut texts into a prefix and the rest, at positions drawn evenly; where one of two texts of like length is cut
    early, the other is cut as late, so that both stacks have as many tokens."""
    text = table[:, 2] - (table[:, 2] < data.window)
    order, which = np.argsort(text, kind="stable"), np.arange(len(table))
    drawn = np.empty(len(table), np.int64)
    drawn[order] = prefixes(text[order], keys[order][which - which % 2])
    late = order[1::2]
    drawn[late] = np.where(text[late] > 1, text[late] - drawn[late], drawn[late])
    return np.column_stack([table[:, :2], drawn, table[:, 2] - drawn])


def _equally_many(drawings: Sequence[Sequence[Window]]) -> Iterator[Iterable[Window]]:
    """The drawings with as many rows in each as in that of the most: the others have some rows divided."""
    counts = [sum(len(window.starts) for window in windows) for windows in drawings]
    for windows, count in zip(drawings, counts, strict=True):
        missing, divided = max(counts) - count, []
        for window in windows:
            more = min(missing, len(window.table) - len(window.starts))
            divided.append(window._replace(starts=_divided(window.starts, len(window.table), more)))
            missing -= more
        yield divided


def _divided(starts: Int[np.ndarray, " rows"], examples: int, more: int) -> Int[np.ndarray, " rows_and_more"]:
    """The starts of rows of which those of the most examples are halved until there are so many more."""
    while more:
        counts = np.diff(starts, append=examples)
        largest = np.argsort(-counts, kind="stable")[:more]
        largest = largest[counts[largest] > 1]
        starts = np.sort(np.append(starts, starts[largest] + counts[largest] // 2))
        more -= len(largest)
    return starts


def _examples(store: Store, data: config.Data, source: int, split: Split) -> Iterator[tuple[Table, int]]:
    """The examples of some documents at a time, and how many of these had to be cut: a single text is divided
    into cuts of at most `data.window` tokens, of pairs what does not fit is left out later."""
    first = before = 0
    for rows in store.document_tables(source, split, WINDOW):
        lengths = rows[:, :-2].astype(np.int64)
        totals = lengths.sum(axis=1)
        positions = first + np.cumsum(totals) - totals
        document = before + np.arange(len(totals))
        first, before = first + int(totals.sum()), before + len(totals)
        if data.objective.spec.parts > 1:
            yield np.column_stack([positions, document, lengths]), 0
            continue
        count = -(-totals // data.window)  # [documents]; from here on [cuts of all documents]
        which = np.repeat(np.arange(len(totals)), count)
        at = positions_in(count) * data.window
        cuts = np.minimum(totals[which] - at, data.window)
        table = np.column_stack([positions[which] + at, document[which], cuts])
        # A cut that holds nothing but a document's EOS has no text.
        yield table[cuts > 1], int((count > 1).sum())


def _windows(files: Iterator[tuple[Table, int]], size: int, most: int) -> Iterator[tuple[Table, int]]:
    """Regroup examples, `size` at a time; the last group has fewer than `most`, which is `size` or more."""
    held: list[np.ndarray] = []
    cut = 0
    for table, cut_here in files:
        held, cut = [*held, table], cut + cut_here
        while sum(map(len, held)) >= most:
            joined = np.concatenate(held)
            yield joined[:size], cut
            held, cut = [joined[size:]], 0
    if sum(map(len, held)):
        yield np.concatenate(held), cut
