"""Streamed pieces are whole characters and together the decoded text, for tokens of every kind of vocabulary."""

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from random_tokenizers import KINDS, drawing

from t5like.config import MASK
from t5like.convert.tokenizer import read_tokenizer
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.infer.stream import pieces, until_stop

TEXT = "The moon's  light, 床前明月光，疑是地上霜。 🌙 é <extra_id_0> a  b<extra_id_1>.\n It isn't."
SEEDS = {"llama_json": 2, "wordpiece": 2}


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory) -> dict[str, Vocabulary]:
    """One or two of each kind."""
    found = {"bytes": Vocabulary(Bytes(), (MASK,), 11)}
    for kind, write in KINDS.items():
        for seed in range(SEEDS.get(kind, 1)):
            folder: pathlib.Path = tmp_path_factory.mktemp(kind)
            write(folder, drawing(seed))
            found[f"{kind} {seed}"] = read_tokenizer(folder, {"model_type": kind})
    return found


def streams(vocabulary: Vocabulary) -> Iterator[list[int]]:
    """Tokens of texts, random ones, and ones that are mostly bytes, which are seldom characters."""
    yield vocabulary.encode(TEXT)
    random, size = np.random.default_rng(0), vocabulary.pieces.size
    odd = [n for n in range(size) if not vocabulary.pieces.spelt(n).isascii()] or [0]
    few = [*odd[:6], vocabulary.eos, vocabulary.pad, *list(vocabulary.special.values())[:2], size - 1]
    blank = [n for n in range(size) if not vocabulary.pieces.spelt(n).strip()]
    for _ in range(60):
        yield random.integers(0, vocabulary.size + 3, random.integers(0, 30)).tolist()
        for among in (odd, few, [*blank, *few]):
            yield random.choice(among, random.integers(1, 30)).tolist()


def test_pieces_are_together_the_decoded_text(vocabularies):
    for name, vocabulary in vocabularies.items():
        for ids in streams(vocabulary):
            found = list(pieces(vocabulary, iter(ids)))
            assert ("".join(found), "" in found) == (vocabulary.decode(ids), False), (name, ids)


def test_a_piece_comes_with_the_token_that_completes_it(vocabularies):
    for name, vocabulary in vocabularies.items():
        taken = list[int]()
        for piece in pieces(vocabulary, (taken.append(token) or token for token in vocabulary.encode(TEXT))):
            assert vocabulary.decode(taken).endswith(piece), name
    bytes_ = vocabularies["bytes"]
    assert list(pieces(bytes_, bytes_.encode("月 a🌙"))) == [*"月 a🌙"]
    assert list(pieces(bytes_, [*bytes_.encode("月")[:2], bytes_.encode("a")[0]])) == ["\ufffda"]


def test_text_ends_before_the_stop_string_that_is_complete_first():
    stops = ["stop", "to be", "。\n"]
    random = np.random.default_rng(0)
    for text, kept in {
        "it is to be": "it is ",
        "sto sto stopstop": "sto sto ",
        "it is to b": "it is to b",
        "to to stop": "to to ",
        "明月光。\n疑": "明月光",
        "明月光。": "明月光。",
        "stop": "",
        "": "",
    }.items():
        for _ in range(20):
            cuts = sorted(random.integers(0, len(text) + 1, 3).tolist())
            parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            found = list(until_stop(iter(parts), stops))
            assert "".join(found) == kept and "" not in found
    assert "".join(until_stop("abcd", ["abcd", "bc"])) == "".join(until_stop(["abcd"], ["abcd", "bc"])) == "a"


def test_nothing_is_taken_behind_a_stop_string(vocabularies):
    vocabulary, taken = vocabularies["bytes"], list[int]()
    tokens = (taken.append(token) or token for token in vocabulary.encode("one\n\ntwo"))
    assert list(pieces(vocabulary, tokens, ["\n\n"])) == ["o", "n", "e"]
    assert len(taken) == 5
