"""Text to token ids and back.

`Vocabulary` puts the special tokens of a run around the pieces of a tokenizer (`pieces.py`): the named ones after the
learned pieces, then the sentinels in descending order, so that the first sentinel has the highest id, as in T5
(32,000 learned pieces and 100 sentinels, <extra_id_0> = 32,099). In a prompt special tokens are found by their names;
in documents these are text like any other. Code asks for a special token by its role (`Vocabulary.role`).
"""

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsInt

import numpy as np
from jaxtyping import Bool, Int, UInt8

from t5like import config
from t5like.config import ROLES, Role
from t5like.data.files import write_whole
from t5like.data.vocabulary.files import Path, load_pieces
from t5like.data.vocabulary.forms import Described
from t5like.data.vocabulary.frame import Frame
from t5like.data.vocabulary.names import check_names, sentinel_number
from t5like.data.vocabulary.offsets import Span, trimmed
from t5like.data.vocabulary.pieces import SENTINEL, UNUSED, Bytes, Pieces
from t5like.data.vocabulary.tables import begins_word
from t5like.data.vocabulary.training import train_pieces
from t5like.errors import UserError
from t5like.json_files import read_object, sealed
from t5like.storage import etils_path

__all__ = ["Bytes", "Frame", "Pieces", "Vocabulary", "load_pieces", "make_vocabulary", "open_vocabulary"]
__all__ += ["train_pieces"]


class Vocabulary:
    """The tokens of a run: a tokenizer's pieces, named special tokens and sentinels, with one range of ids."""

    def __init__(self, pieces: Pieces, extra: Sequence[str] = (), sentinels: int = 0, frame: Frame | None = None):
        """`frame` is what stands around a prompt where the vocabulary was read from a folder that says it.

        Raises:
          UserError: a name of `extra` is one of the file's own, or the file has another number of sentinels.
        """
        own = sorted((name for name in pieces.special if SENTINEL.fullmatch(name)), key=sentinel_number)
        check_names(pieces, extra, sentinels, own)
        self.pieces, self.frame = pieces, frame
        self.pad = pieces.control.pad or 0
        self.eos, self.unk, self.start = pieces.control[1:]
        named = {name: pieces.size + number for number, name in enumerate(extra)}
        added = 0 if own or isinstance(pieces, Bytes) else sentinels
        self.size = pieces.size + len(extra) + added
        last = pieces.size - 1 if isinstance(pieces, Bytes) else self.size - 1
        numbers = [pieces.special[name] for name in own] or range(last, last - sentinels, -1)
        self.sentinels: Int[np.ndarray, " sentinels"] = np.array(numbers, np.int32)
        self.special = {**pieces.special, **named}
        self.special |= {f"<extra_id_{n}>": int(number) for n, number in enumerate(self.sentinels)}
        self._names = {number: name for name, number in self.special.items()}
        self._roles = self._find_roles(extra)
        outer = sorted(self.special.keys() - set(pieces.finds), key=len, reverse=True)
        names = "|".join(map(re.escape, outer))
        self._split = re.compile(f"({names})") if names else None

    def _find_roles(self, extra: Sequence[str]) -> dict[Role, int]:
        """Role -> token. A name in `extra`, which the run's config has, comes before what the tokenizer declares."""
        control = (number for number in self.pieces.control if number is not None)
        numbers = {self.name(number): number for number in control} | self.special
        found: dict[Role, int] = {}
        for role, usual in ROLES.items():
            names = (*(name for name in usual if name in extra), self.pieces.roles.get(role), *usual)
            if known := [numbers[name] for name in names if name in numbers]:
                found[role] = known[0]
        return found

    def role(self, role: Role) -> int | None:
        """The token with that role, or None where there is none."""
        return self._roles.get(role)

    def require(self, role: Role) -> int:
        """The token with that role.

        Raises:
          UserError: there is none.
        """
        if role not in self._roles:
            raise UserError(f"The vocabulary has no {ROLES[role][0]}, nor another token with its role.")
        return self._roles[role]

    def written(self, role: Role) -> str:
        """The token with that role as texts have it, or the first of its usual names where there is none."""
        return self.name(self._roles[role]) if role in self._roles else ROLES[role][0]

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without EOS; names of special tokens become these.

        Spaces around a name do not count, but those around names such as <|fim_prefix|> do, for code stands there. For
        its own names the file of a tokenizer says whether they do.

        Raises:
          UserError: half a surrogate pair in the text, which stands for a byte of the command line that is no UTF-8.
        """
        ids: list[int] = []
        for _, part in self._parts(text):
            ids += self.pieces.encode_prompt(part) if isinstance(part, str) else [part]
        return ids

    def encode_with_offsets(self, text: str, names: bool = True) -> tuple[list[int], list[Span]]:
        """The token ids of `encode`, and the characters of the text that each token stands for: its first, and the one
        behind its last. In "to ﬁx" (a ligature) ▁to, ▁f and ix may have (0, 2), (3, 4) and (3, 5).

        Spaces around other characters do not count, tokens of one character share it, and a space that stands before
        each text, or a token that stands for no character, has an empty span.

        Args:
          names: names of special tokens become these; without, the ids are those of `encode_document` without EOS.

        Raises:
          UserError: half a surrogate pair in the text, but in documents.
        """
        ids: list[int] = []
        spans: list[Span] = []
        parts = self._parts(text) if names else [(0, re.sub("[\ud800-\udfff]", "\ufffd", text))]
        for begin, part in parts:
            if isinstance(part, str):
                numbers, places = self.pieces.encode_with_spans(part, prompt=names)
                ids += numbers
                spans += [trimmed(text, begin + start, begin + stop) for start, stop in places]
            else:
                ids.append(part)
                spans.append((begin, begin + len(self.name(part))))
        return ids, spans

    def _parts(self, text: str) -> Iterator[tuple[int, str | int]]:
        """The texts and special tokens that a text consists of, and where each begins."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"The text is not valid UTF-8 at character {error.start}: mend it there.") from None
        if self._split is None:
            yield 0, text
            return
        parts, begin = self._split.split(text), 0  # text and names in turn
        for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
            if part in self.special and part not in self.pieces.finds:
                yield begin, self.special[part]
            else:
                kept = part.rstrip(" ") if self._drops(after, left=True) else part
                kept, length = kept.lstrip(" ") if self._drops(before, left=False) else kept, len(kept)
                if kept:
                    yield begin + length - len(kept), kept
            begin += len(part)

    def strips(self, name: str) -> tuple[bool, bool]:
        """True for each side, before and after the name of a special token, on which spaces count for nothing."""
        return self._strips(name, left=True), self._strips(name, left=False)

    def _strips(self, name: str, left: bool) -> bool:
        """True if white space on that side of a special token does not count, as the file says of its own."""
        return self.pieces.strips[name][not left] if name in self.pieces.strips else self._drops(name, left)

    def _drops(self, name: str, left: bool) -> bool:
        """True if spaces on that side of a special token do not count, where no file says it."""
        return bool(name) and not name.startswith("<|") and (left or self.pieces.strips_after)

    def encode_document(self, text: str) -> list[int]:
        """The token ids of a document, where names of special tokens are text like any other, and EOS."""
        return self.encode_documents([text])[0].tolist()

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The token ids of many documents, int32, in one thread. Halves of surrogate pairs become U+FFFD."""
        try:
            return self.pieces.encode_documents(texts)
        except (TypeError, UnicodeEncodeError):
            return self.pieces.encode_documents([re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts])

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of token ids; special ones appear by their names, pad and eos not at all."""
        padding = self.pieces.control.pad
        kept = [number for number in map(int, ids) if number not in (padding, self.eos)]
        text, last = "", ""
        for special, run in itertools.groupby(kept, self._names.__contains__):
            if special:
                for name in (self._names[number] for number in run):
                    text += " " if text and self._spaced(last, name) else ""
                    text, last = text + name, name
            elif spelt := self.pieces.decode([number for number in run if number < self.pieces.size]):
                text += " " if text and self._spaced(last, "") else ""
                text, last = text + spelt, ""
        return text

    def _spaced(self, last: str, name: str) -> bool:
        """True if a space stands between two parts, special tokens by name and text empty, where `encode` drops it."""
        return self.spaces(last)[1] or self.spaces(name)[0]

    def spaces(self, name: str) -> tuple[bool, bool]:
        """True for each side of a special token, before and after it, on which `decode` puts a space beside text."""
        drops = self._drops if self.pieces.strips_after else self._strips
        return drops(name, left=True), drops(name, left=False)

    def name(self, number: int) -> str:
        """The written form of a token, e.g. `▁the`."""
        return self._names.get(number) or (self.pieces.name(number) if number < self.pieces.size else UNUSED)

    @functools.cached_property
    def bytes_of(self) -> Int[np.ndarray, " size"]:
        """UTF-8 bytes of text that each token spells, int32, 0 for special ones.

        SentencePiece spells a text with one more space before it, WordPiece spells none.
        """
        lengths = np.zeros(self.size, np.int32)
        lengths[: self.pieces.size] = [len(self.pieces.spelt(number)) for number in range(self.pieces.size)]
        lengths[list(self._names)] = 0
        return lengths

    @functools.cached_property
    def spelling(self) -> tuple[UInt8[np.ndarray, " bytes"], Int[np.ndarray, " size"]]:
        """The UTF-8 bytes of all tokens, one after the other, and where those of each token begin (`bytes_of`)."""
        lengths = self.bytes_of
        text = b"".join(self.pieces.spelt(number) for number in np.flatnonzero(lengths).tolist())
        return np.frombuffer(text, np.uint8), np.cumsum(lengths, dtype=np.int64) - lengths

    @functools.cached_property
    def is_special(self) -> Bool[np.ndarray, " size"]:
        """True for tokens that stand for no text: control, named and unused ones, sentinels."""
        return self.bytes_of == 0

    @functools.cached_property
    def ordinary(self) -> Int[np.ndarray, " ordinary"]:
        """Ids of the tokens that are text, int32."""
        return np.flatnonzero(~self.is_special).astype(np.int32)

    @functools.cached_property
    def begins_word(self) -> Bool[np.ndarray, " size"]:
        """True for tokens that begin a word (`tables.begins_word`), every special one among them."""
        return (
            np.pad(begins_word(self.pieces), (0, self.size - self.pieces.size), constant_values=True) | self.is_special
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the tokenizer, and of its control pieces where the file does not name them."""
        named = getattr(self.pieces, "own_control", None) == self.pieces.control or not self.pieces.file
        control = "" if named else repr(self.pieces.control)
        return hashlib.sha256(self.pieces.serialized + control.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the folder that `open_vocabulary` reads; vocabulary.json comes last."""
        folder, pieces = etils_path(folder), self.pieces
        extra = [name for name in self.special if name not in pieces.special and not SENTINEL.fullmatch(name)]
        description = {
            "kind": {"spiece.model": "sentencepiece", "tokenizer.json": "tokenizers", "": "bytes"}[pieces.file],
            "extra": extra,
            "sentinels": len(self.sentinels),
            "control": pieces.control._asdict(),
            **({"roles": dict(pieces.roles)} if pieces.roles else {}),
            **({} if self.frame is None else {"frame": self.frame._asdict()}),
            "sha256": self.hash,
        }
        if pieces.file:
            write_whole(folder / pieces.file, pieces.serialized)
        write_whole(folder / "vocabulary.json", sealed(json.dumps(description, indent=2, ensure_ascii=False)))


def make_vocabulary(pieces: Pieces, settings: config.Vocabulary) -> Vocabulary:
    """The vocabulary of a tokenizer's pieces with the special tokens and sentinels of a run around them.

    Raises:
      UserError: the pieces are not `data.vocabulary.size`, or their own special pieces not those of the settings.
    """
    vocabulary = Vocabulary(pieces, settings.extra, settings.sentinels)
    if (own := len(vocabulary.sentinels)) != settings.sentinels:
        raise UserError(f"{settings.path} has {own} sentinels of its own: set data.vocabulary.sentinels={own}.")
    if vocabulary.size != settings.pieces:
        learned = settings.size + vocabulary.size - settings.pieces
        where = settings.path or f"The vocabulary of kind {settings.kind!r}"
        raise UserError(f"{where} has {learned} pieces: set data.vocabulary.size={learned}.")
    return vocabulary


def open_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary that `Vocabulary.save` wrote.

    Raises:
      UserError: nothing there, or a file that is not the one that was saved.
    """
    if not (folder / "vocabulary.json").exists():
        raise UserError(f"{folder} holds no vocabulary: vocabulary.json is missing.")
    description = read_object(folder / "vocabulary.json", Described, "put back the one that was saved")
    file = folder / {"sentencepiece": "spiece.model", "tokenizers": "tokenizer.json"}.get(description["kind"], "")
    pieces = Bytes() if description["kind"] == "bytes" else load_pieces(file)
    sides = description.get("frame")
    frame = sides and Frame(tuple(sides["before"]), tuple(sides["behind"]))
    vocabulary = Vocabulary(pieces, description["extra"], description["sentinels"], frame)
    named = {*(description.get("control") or {}).values(), *itertools.chain(*(frame or ()))} - {None}
    if vocabulary.hash != description["sha256"] or max(named, default=0) >= vocabulary.size:
        raise UserError(f"{file} has changed since it was saved: its hash is not vocabulary.json's.")
    return vocabulary
