"""Small vocabularies of each kind, English and Chinese, each made once in a process."""

import functools
import pathlib
from typing import Any

from t5like import config
from t5like.convert.tokenizer import read_tokenizer
from t5like.data.vocabulary import Bytes, Vocabulary, load_pieces, train_pieces

GOLDEN = pathlib.Path(__file__).parent / "golden"
LINES = [line for line in (GOLDEN / "text.txt").read_text("utf-8").split("\n") if line]
LINES += ["床前明月光，疑是地上霜。举头望明月，低头思故乡。", "河水从山上流下来，经过小城。"] * 8
SIZES = {"unigram": 505, "bpe": 505, "byte_bpe": 360, "wordpiece": 420}
KINDS = (*SIZES, "bytes", "t5", "llama")


@functools.cache
def vocabulary_of(kind: Any) -> Vocabulary:
    """`t5` drops spaces around a text and between runs of them, as the original; `llama` is a tokenizer.json with
    pieces of SentencePiece, and bytes for the rest."""
    if kind == "bytes":
        return Vocabulary(Bytes(), [config.MASK], 11)
    if kind == "t5":
        return Vocabulary(load_pieces(GOLDEN / "t5_1_1" / "spiece.model"), (), 20)
    if kind == "llama":
        return read_tokenizer(GOLDEN / "llama", {"model_type": "llama"})
    extra = () if kind == "wordpiece" else (config.MASK,)
    return Vocabulary(train_pieces(config.Vocabulary(kind=kind, size=SIZES[kind]), LINES), extra, 9)
