"""The vocabulary: the kind of its tokenizer, the size, and the special tokens around the learned pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive
from t5like.config.marks import applies_to

MASK, CLS, SEP = "[MASK]", "[CLS]", "[SEP]"
FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""Names of special tokens that objectives ask for."""
Role = Literal["mask", "cls", "sep"]
ROLES: dict[Role, tuple[str, ...]] = {
    "mask": (MASK, "<mask>"),
    "cls": (CLS, "<cls>"),
    "sep": (SEP, "<sep>"),
}
"""Role of a special token -> its usual names, BERT's first. RoBERTa's <s> and </s> have roles only where a tokenizer
says so, since they frame texts elsewhere."""

OWN_SPECIALS = {"wordpiece": ("[PAD]", "[UNK]", CLS, SEP, MASK), "byte_bpe": ("<|endoftext|>",)}
"""Special tokens that a kind has among its learned pieces, as BERT and GPT-2 have them."""
COVERING = ("unigram", "bpe", "wordpiece")
"""Kinds that have pieces for characters, of which they leave out the rarest."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokenizer and special tokens. Learned pieces have the first ids, then come `extra`, then the sentinels."""

    kind: Literal["unigram", "bpe", "wordpiece", "byte_bpe", "bytes", "file"] = "unigram"
    """SentencePiece unigram or BPE (pad 0, eos 1, unk 2); WordPiece as in BERT ([PAD] [UNK] [CLS] [SEP] [MASK] come
    first); byte-level BPE as in GPT-2 (<|endoftext|> comes last); UTF-8 bytes shifted by 3 as in ByT5; or the file
    at `path`."""
    size: int = 32_000
    """Learned pieces, without `extra` and sentinels; bytes have 259."""
    path: Annotated[str, applies_to("kind", "file")] = ""
    """A SentencePiece model, tokenizer.json, vocab.txt, or a folder with one of these or with vocab.json
    and merges.txt."""
    extra: tuple[str, ...] = ()
    """Special tokens by name after the learned pieces, e.g. [MASK]."""
    sentinels: int = 100
    """Sentinels <extra_id_0>, <extra_id_1>, ... with descending ids from the last; bytes take them from the byte
    values F5 to FF that UTF-8 never uses, so at most 11. A file that has them must have as many."""
    coverage: Annotated[float, applies_to("kind", *COVERING)] = 0.9995
    """Share of the characters that get pieces of their own; the rest is spelt in bytes, and unknown in wordpiece."""
    lowercase: Annotated[bool, applies_to("kind", "wordpiece", "file")] = False
    """Put text in lower case and strip accents, as in BERT's uncased models; with a file, where it is WordPiece and
    does not say."""
    train_characters: int = 10_000_000
    """Characters of the training split that the pieces are learned from."""

    def __post_init__(self) -> None:
        require_fields("data.vocabulary", self)
        require_positive("data.vocabulary", self, "size", "train_characters")
        require(self.sentinels >= 0, f"data.vocabulary.sentinels={self.sentinels} must not be negative.")
        require(
            len({"", *self.extra}) > len(self.extra) and not any(n.startswith("<extra_id_") for n in self.extra),
            f"data.vocabulary.extra={self.extra} must be names that differ, none of them empty or a sentinel's.",
        )
        own = [name for name in self.extra if name in OWN_SPECIALS.get(self.kind, ())]
        require(
            not own,
            f"data.vocabulary.extra={self.extra}: a vocabulary of kind {self.kind!r} has {', '.join(own)} of its own.",
        )
        least = 0.9 if self.kind == "wordpiece" else 0.98  # SentencePiece takes no less
        require(
            least <= self.coverage <= 1, f"data.vocabulary.coverage={self.coverage} must lie between {least} and 1."
        )
        require(
            self.kind != "file" or bool(self.path),
            "data.vocabulary.kind='file' needs data.vocabulary.path.",
        )
        if self.kind == "bytes":
            require(
                self.size == 259 and self.sentinels <= 11,
                f"A vocabulary of bytes has 259 pieces and at most 11 sentinels, not data.vocabulary.size={self.size} "
                f"and data.vocabulary.sentinels={self.sentinels}.",
            )

    @property
    def pieces(self) -> int:
        """All tokens: learned pieces, extra and sentinels."""
        return self.size + len(self.extra) + (0 if self.kind == "bytes" else self.sentinels)

    def has(self, name: str) -> bool:
        """True if a special token of that name exists; a file is only known once it is read."""
        return name in self.extra or name in OWN_SPECIALS.get(self.kind, ()) or self.kind == "file"

    def has_role(self, role: Role) -> bool:
        """True if a special token has that role, under any of its names."""
        return any(map(self.has, ROLES[role]))
