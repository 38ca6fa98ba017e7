"""Tokenizers of Hugging Face's library: WordPiece, byte-level BPE, and those made from SentencePiece models."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from t5like.data.vocabulary.frame import frame_of_post_processor
from t5like.data.vocabulary.offsets import Span, shared
from t5like.data.vocabulary.pieces import SENTINEL, SPACE, UNUSED, UNUSED_NAME, Control, is_whole, parts_of, roles_of
from t5like.errors import UserError

PADS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>")
ENDS = ("</s>", "<|endoftext|>", "[SEP]", "<eos>", "<|end_of_text|>")
UNKNOWNS = ("[UNK]", "<unk>")
STARTS = ("<s>", "[CLS]", "<bos>", "<|begin_of_text|>", "<|endoftext|>")
"""Names of control pieces in published tokenizers."""
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""The name of a piece that stands for a byte."""


class HuggingFace:
    """A tokenizer.json of Hugging Face's `tokenizers`: WordPiece, byte-level BPE, or one made from SentencePiece.

    WordPiece normalises: runs of spaces and line feeds become one space, and its decoder puts one between all words,
    thus also between Chinese characters. Byte-level BPE keeps every text as it is.
    """

    file = "tokenizer.json"

    def __init__(self, serialized: bytes, control: Control | None = None, called: Mapping[str, str] | None = None):
        """`called` names pieces: "eos", "pad", "unk" or "start", whose usual names count else, and those of roles.

        Raises:
          UserError: no piece is known to end a text.
        """
        import tokenizers

        self.serialized = serialized
        self._tokenizer = tokenizers.Tokenizer.from_str(serialized.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        description: dict[str, Any] = json.loads(serialized)
        added = self._tokenizer.get_added_tokens_decoder().items()
        self.special = {t.content: n for n, t in added if t.special or SENTINEL.fullmatch(t.content)}
        # Where we wrote the file, its normaliser strips the spaces around names that it names itself.
        named = json.dumps(description["normalizer"])
        told = (t for _, t in added if json.dumps(re.escape(t.content))[1:-1] not in named)
        self.strips: Mapping[str, tuple[bool, bool]] = {t.content: (t.lstrip, t.rstrip) for t in told}
        self.frame = frame_of_post_processor(description.get("post_processor"))
        self._added = {n: t.content for n, t in added}
        self.finds: Collection[str] = frozenset(self.special)
        vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        self.size = max(vocab.values()) + 1
        self._names = [UNUSED] * self.size
        for name, number in vocab.items():
            self._names[number] = name
        self.control = control or _control(vocab, called or {})
        self.roles = roles_of(_framing(description.get("post_processor")) | {**(called or {})}, vocab)
        self._special_numbers = {*self.control, *self.special.values()}
        model, types = description["model"], _types([description["pre_tokenizer"], description["decoder"]])
        self.continuation = model.get("continuing_subword_prefix") or "" if model["type"] == "WordPiece" else ""
        self._byte_fallback = bool(model.get("byte_fallback"))
        self._byte_of = byte_of_character() if "ByteLevel" in types else {}
        self.strips_after = not self._byte_of
        self._cut = _cut(description["pre_tokenizer"])
        self._decoder, self._is_local = _types(description["decoder"]), _is_local(description["decoder"])

    def encode_prompt(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = False
        try:
            return self.encode(text)
        finally:
            self._tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for _, part in parts_of(text, self._cut) if self._cut else [(0, text)]:
            ids += self._tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids
        return ids

    def encode_with_spans(self, text: str, prompt: bool) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        spans: list[Span] = []
        self._tokenizer.encode_special_tokens = not prompt
        try:
            for begin, part in parts_of(text, self._cut) if self._cut else [(0, text)]:
                found = self._tokenizer.encode(part, add_special_tokens=False)
                ids += found.ids
                places = shared(found.offsets, [token == SPACE for token in found.tokens])
                spans += [(begin + start, begin + stop) for start, stop in places]
        finally:
            self._tokenizer.encode_special_tokens = True
        return ids, spans

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array([*self.encode(text), self.control.eos], np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def settled(self, ids: Sequence[int]) -> bool:
        if "ByteFallback" in self._decoder and BYTE.fullmatch(self._names[ids[-1]]):
            return False  # bytes in a row are all replaced if they are no characters together
        return self._is_local and ("ByteLevel" not in self._decoder or is_whole(b"".join(map(self._as_bytes, ids))))

    def _as_bytes(self, number: int) -> bytes:
        """The bytes of a piece as a byte-level decoder takes them."""
        name = self._names[number]
        known = all(character in self._byte_of for character in name)
        return bytes(self._byte_of[character] for character in name) if known else name.encode()

    def decode_each(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self._tokenizer.decode_batch([list(ids) for ids in rows], skip_special_tokens=False)

    def name(self, number: int) -> str:
        return self._names[number]

    def spelt(self, number: int) -> bytes:
        name = self._names[number]
        if number in self._special_numbers or UNUSED_NAME.fullmatch(name):
            return b""
        if number in self._added:
            return name.encode()
        if self._byte_of:
            return bytes(self._byte_of[character] for character in name)
        if self._byte_fallback and BYTE.fullmatch(name):
            return bytes.fromhex(name[3:5])
        return name.removeprefix(self.continuation).replace(SPACE, " ").encode()


def _control(vocab: Mapping[str, int], called: Mapping[str, str]) -> Control:
    def find(key: str, usual: Sequence[str]) -> int | None:
        names = [called[key]] if called.get(key) in vocab else usual
        return next((vocab[name] for name in names if name in vocab), None)

    pad, eos, unk, start = find("pad", PADS), find("eos", ENDS), find("unk", UNKNOWNS), find("start", STARTS)
    if eos is None:
        raise UserError(
            f"The tokenizer has no piece that ends a text, one of {' '.join(ENDS)}: name its own as eos_token in "
            "tokenizer_config.json beside it."
        )
    begin = next(number for number in (start, pad, eos) if number is not None)
    return Control(pad, eos, eos if unk is None else unk, begin)


def _framing(post_processor: Mapping[str, Any] | None) -> dict[str, str]:
    """The names of CLS and SEP, which two kinds of post-processors have:

    {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], …}  gives  {"cls": "<s>", "sep": "</s>"}
    """
    framed = (post_processor or {}).get("type") in ("BertProcessing", "RobertaProcessing")
    return {role: (post_processor or {})[role][0] for role in ("cls", "sep") if framed}


def _cut(pre_tokenizer: Any) -> re.Pattern[str] | None:
    """Pattern at which a text may be cut without a change of its tokens, if the tokenizer splits as those of BERT and
    GPT-2 do: before spaces that follow other characters, and between Chinese punctuation and ideographs."""
    known = {"BertPreTokenizer": {}, "ByteLevel": {"use_regex": True, "add_prefix_space": False}}
    options = known.get((pre_tokenizer or {}).get("type", ""))
    if options is None or any(pre_tokenizer.get(name, value) != value for name, value in options.items()):
        return None
    return re.compile(r"(?<=\S)(?=[ \n])|(?<=[，。！？；：、])(?=[\u4e00-\u9fff])")


def _is_local(decoder: Any) -> bool:
    """True if a decoder spells each piece knowing no more than those before it."""
    match (decoder or {}).get("type"):
        case None | "ByteLevel" | "Metaspace" | "WordPiece" | "ByteFallback" | "Fuse":
            return True
        case "Replace":
            return len(decoder["pattern"].get("String", "")) == 1
        case "Strip":
            return not decoder["stop"]
        case "Sequence":
            return all(_is_local(each) and each["type"] != "WordPiece" for each in decoder["decoders"])
    return False


def _types(node: Any) -> set[str]:
    """All values of "type" in a description."""
    if isinstance(node, list):
        return set().union(*map(_types, node))
    if isinstance(node, dict):
        return {str(node.get("type"))}.union(*map(_types, node.values()))
    return set()


def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level piece stands for: GPT-2 spells bytes without a printable sign of
    their own as the characters from U+0100 on (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
