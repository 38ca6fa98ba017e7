"""The division of documents into pairs of segments for next-sentence prediction.

Documents are divided into chunks as by BERT (create_pretraining_data.py, Devlin et al. 2019): successive whole
sentences, as many as fit into a row, or for `short_rate` of the chunks into a length drawn uniformly, but at least two.
A chunk is cut between two of its sentences into A and B. A single sentence that is left at the end of a document
takes the one before it along; a document of one sentence gives no pair.

The label is drawn later, row by row (`data.rows.examples.SentencePairs`), and may replace a pair's own B
by that of another chunk. Every B is thus made by one rule before any label is drawn, so that neither its length nor its
end tells the label. What follows A in the document is lost to an epoch where another B is shown, but not to the next.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt64

from t5like.config import Data
from t5like.data.draws import below
from t5like.data.order import example_key, hash_of
from t5like.data.packing.sentences import Sentences
from t5like.data.store import SPLITS, Split, Store
from t5like.data.vocabulary import Vocabulary

SHORT, TARGET, CUT = 11, 12, 13
"""Set the random choices of a chunk apart."""
DOCUMENTS = 2**13
"""Documents whose sentences are found at once."""


class Chunks(NamedTuple):
    """Runs of sentences, `first` up to `last`, of those that begin at `starts` and end at `ends` in the store."""

    starts: Int[np.ndarray, " sentences"]
    ends: Int[np.ndarray, " sentences"]
    first: Int[np.ndarray, " chunks"]
    last: Int[np.ndarray, " chunks"]
    document: Int[np.ndarray, " chunks"]


def chunks_of(store: Store, data: Data, vocabulary: Vocabulary, source: int, split: Split) -> Iterator[Chunks]:
    """The chunks of some documents at a time."""
    sentences, tokens = Sentences(vocabulary), store.tokens(source, split)
    first = before = 0
    for rows in store.document_tables(source, split, DOCUMENTS):
        totals = rows[:, 0].astype(np.int64)
        stops = first + np.cumsum(totals)
        found = sentences.ends(tokens.read(np.array([first]), np.array([totals.sum()]))) + first
        # A document's text ends before its EOS, and so does its last sentence.
        ends = np.union1d(np.setdiff1d(found, stops), (stops - 1)[totals > 1])
        document = np.searchsorted(stops, ends)
        begins = np.append(True, document[1:] != document[:-1])[: len(ends)]
        starts = np.where(begins, (stops - totals)[document], np.roll(ends, 1))
        keys = example_key(data.seed, SPLITS.index(split), source, 0, starts)
        yield _chunks(starts, ends, document, keys, data, before)
        first, before = first + int(totals.sum()), before + len(totals)


def _chunks(
    starts: Int[np.ndarray, " sentences"],
    ends: Int[np.ndarray, " sentences"],
    document: Int[np.ndarray, " sentences"],
    keys: UInt64[np.ndarray, " sentences"],
    data: Data,
    before: int,
) -> Chunks:
    """The chunks of documents that are numbered from `before` on."""
    # Arrays are [sentences]: `last` is the sentence after the chunk that would begin here, `following` the sentence
    # at which the next one begins. The chunks are the chain of the first sentence.
    short = below(hash_of(keys, SHORT), 2**32) < data.objective.short_rate * 2**32
    target = np.where(short, 2 + below(hash_of(keys, TARGET), data.window - 1), data.window)
    here, of_document = np.arange(len(ends)), np.searchsorted(document, document, side="right")
    last = np.minimum(np.maximum(np.searchsorted(ends, starts + target, side="right"), here + 2), of_document)
    following = np.where(of_document - last == 1, last - 1, last)
    first = _follow(following.tolist())
    first = first[last[first] - first > 1]
    return Chunks(starts, ends, first, last[first], before + document[first])


def _follow(following: list[int]) -> Int[np.ndarray, " chain"]:
    """0, the index that follows it, and so on up to the end: 2 2 4 4 give 0 2."""
    chain, at = [], 0
    while at < len(following):
        chain.append(at)
        at = following[at]
    return np.array(chain, np.int64)


def pairs_of(chunks: Chunks, seed: int, split: Split, source: int, draw: int, most: int) -> tuple[np.ndarray, int]:
    """First token, document, lengths of A and B, and whether B lost its end, of each chunk, cut by the draw of that
    number; and how many chunks lost something.

    A chunk of more than `most` tokens is one of two long sentences. The longer one loses tokens until both fit or are
    equally long, A at its beginning and B at its end.
    """
    starts, ends, first, last, document = chunks
    key = hash_of(example_key(seed, SPLITS.index(split), source, draw, starts[first]), CUT)
    border = ends[first + below(key, last - first - 1)]
    a, whole = border - starts[first], ends[last - 1] - border
    over = a + whole > most
    a = np.where(over, np.minimum(a, np.maximum(most - whole, most // 2)), a)
    b = np.where(over, most - a, whole)
    return np.column_stack([border - a, document, a, b, b < whole]), int(over.sum())
