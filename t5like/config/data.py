"""From text to rows: sources, vocabulary, objective and the lengths that follow from them."""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

from t5like.config.checks import require, require_positive, require_seed, require_types

MASK = "[MASK]"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where documents come from."""

    kind: Literal["python_library", "text", "jsonl"] = "python_library"
    """Python's own modules and their English prose, text files, or JSON lines; .gz, .xz and .zst are read too."""
    path: str = ""
    """Files of the source, a glob such as `corpus/**/*.txt.gz`."""
    field: str = "text"
    """jsonl: the field that holds the text."""
    document: Literal["file", "line"] = "file"
    """text: whether a document is a file or a line."""

    def __post_init__(self) -> None:
        require_types("data.sources.N", self)
        require(
            self.kind == "python_library" or bool(self.path),
            f"A source of kind {self.kind!r} needs a path: give data.sources.N.path a file or a glob.",
        )
        require(
            self.kind != "python_library" or not self.path,
            f"data.sources.N.path={self.path!r} is for other sources: set data.sources.N.kind to 'text' or 'jsonl'.",
        )


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How text becomes numbers. Learned pieces come first, then `extra`, then the sentinels."""

    kind: Literal["unigram", "bpe", "bytes"] = "unigram"
    """SentencePiece unigram or BPE (pad 0, eos 1, unk 2), or UTF-8 bytes shifted by 3 as in ByT5."""
    size: int = 32_000
    """Learned pieces; bytes have 259."""
    path: str = ""
    """An existing SentencePiece model to use instead of training one."""
    extra: tuple[str, ...] = ()
    """Named special pieces after the learned ones, e.g. [MASK]."""
    sentinels: int = 100
    """Pieces <extra_id_0>, <extra_id_1>, ... with descending numbers from the last; bytes take them from the byte
    values F5 to FF that UTF-8 never uses, so at most 11."""
    coverage: float = 0.9995
    """Share of the characters that get pieces of their own; the rest is spelt in bytes."""
    train_characters: int = 10_000_000
    """Characters of the training split that the pieces are learned from."""

    def __post_init__(self) -> None:
        require_types("data.vocabulary", self)
        require_positive("data.vocabulary", self, "size", "train_characters")
        require(self.sentinels >= 0, f"data.vocabulary.sentinels={self.sentinels} must not be negative.")
        require(
            len({"", *self.extra}) > len(self.extra) and not any(n.startswith("<extra_id_") for n in self.extra),
            f"data.vocabulary.extra={self.extra} must be names that differ, none of them empty or a sentinel's.",
        )
        require(0.9 <= self.coverage <= 1, f"data.vocabulary.coverage={self.coverage} must lie between 0.9 and 1.")
        if self.kind == "bytes":
            require(not self.path, f"data.vocabulary.path={self.path!r} is for SentencePiece: change the kind or path.")
            require(
                self.size == 259 and self.sentinels <= 11,
                f"A vocabulary of bytes has 259 pieces and at most 11 sentinels, not data.vocabulary.size={self.size} "
                f"and data.vocabulary.sentinels={self.sentinels}.",
            )

    @property
    def pieces(self) -> int:
        """All pieces: learned, extra and sentinels."""
        return self.size + len(self.extra) + (0 if self.kind == "bytes" else self.sentinels)


class SpanLengths(NamedTuple):
    """The lengths that span corruption turns `raw` tokens into, `inputs` and `targets` with their EOS."""

    raw: int
    noise: int
    spans: int
    inputs: int
    targets: int


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the model learns to predict."""

    kind: Literal["span_corruption", "causal", "masked"] = "span_corruption"
    """T5's span corruption, next-token prediction, or BERT's masked tokens."""
    density: float = 0.15
    """span_corruption, masked: share of the tokens to predict."""
    mean_span: float = 3.0
    """span_corruption: mean length of a corrupted span, in tokens."""

    def __post_init__(self) -> None:
        require_types("data.objective", self)
        require(0 < self.density < 1, f"data.objective.density={self.density} must lie between 0 and 1.")
        require(self.mean_span >= 1, f"data.objective.mean_span={self.mean_span} must be at least 1.")

    def span_lengths(self, length: int) -> SpanLengths:
        """T5's lengths: the most raw tokens whose corrupted input, with EOS, fits into `length`.

        For 512 tokens, density 0.15 and mean span 3 these are 568 raw tokens, 28 spans and 114 targets
        (`random_spans_helper` of the T5 code, Raffel et al. 2020).
        """
        return _span_lengths(length, self.density, self.mean_span)


@functools.cache
def _span_lengths(length: int, density: float, mean_span: float) -> SpanLengths:
    def corrupted(raw: int) -> SpanLengths:
        noise = min(max(round(raw * density), 1), raw - 1)
        spans = max(round(noise / mean_span), 1)
        return SpanLengths(raw, noise, spans, raw - noise + spans + 1, noise + spans + 1)

    raw = 2
    while corrupted(raw + 1).inputs <= length:
        raw += 1
    longest, shorter = corrupted(raw), corrupted(raw - 1)
    # T5 makes inputs and targets equally long where it can if half of the tokens are noise.
    if density == 0.5 and longest.targets > longest.inputs == shorter.inputs:
        return shorter
    return longest


@dataclass(frozen=True, kw_only=True)
class Data:
    """From text to rows."""

    sources: tuple[Source, ...] = (Source(),)
    """Where the documents come from; several are read one after the other."""
    store: str
    """Folder of the vocabulary and the tokenised documents; prepared when it is missing."""
    vocabulary: Vocabulary = Vocabulary()
    """How text becomes numbers."""
    objective: Objective = Objective()
    """What the model learns to predict."""
    length: int = 512
    """Tokens of a row: of the corrupted input for span corruption, of the text otherwise."""
    held_out: float = 0.01
    """Share of the documents that is kept for evaluation, chosen by a hash."""
    seed: int = 0
    """Seed of the order of rows and of their noise."""

    def __post_init__(self) -> None:
        require_types("data", self)
        require_seed("data", self)
        require(len(self.sources) > 0, "data.sources is empty: name at least one source.")
        require(bool(self.store), "data.store is empty: name the folder for the tokenised documents.")
        require(self.length >= 8, f"data.length={self.length} must be at least 8.")
        require(0 < self.held_out < 1, f"data.held_out={self.held_out} must lie between 0 and 1.")
        if self.objective.kind == "span_corruption":
            lengths = self.objective.span_lengths(self.length)
            require(
                lengths.spans <= lengths.raw - lengths.noise,
                f"data.objective.density={self.objective.density} and data.objective.mean_span="
                f"{self.objective.mean_span} leave no text between the spans: lower the density or raise the mean.",
            )
            require(
                lengths.spans <= self.vocabulary.sentinels,
                f"data.length={self.length} has {lengths.spans} spans but data.vocabulary.sentinels="
                f"{self.vocabulary.sentinels}: raise data.vocabulary.sentinels or data.objective.mean_span.",
            )
        if self.objective.kind == "masked":
            require(
                MASK in self.vocabulary.extra,
                f"data.objective.kind='masked' needs a mask: add {MASK} to data.vocabulary.extra.",
            )

    @property
    def window(self) -> int:
        """Raw tokens that one row is made of."""
        if self.objective.kind == "span_corruption":
            return self.objective.span_lengths(self.length).raw
        return self.length

    @property
    def lengths(self) -> dict[Literal["encoder", "decoder"], int]:
        """Length of a row's features in each stack that has any."""
        if self.objective.kind == "span_corruption":
            return {"encoder": self.length, "decoder": self.objective.span_lengths(self.length).targets}
        return {"decoder" if self.objective.kind == "causal" else "encoder": self.length}
