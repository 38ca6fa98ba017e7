"""Text to numbers and back.

`Pieces` is what a tokeniser offers: SentencePiece and bytes so far. `Vocabulary` puts the special pieces around any
of them: the named ones after the learned pieces, then the sentinels in descending order, so that the first sentinel
has the highest number, as in T5 (32,000 learned pieces and 100 sentinels, <extra_id_0> = 32,099). Special pieces are
found in a text by their names, and the spaces around them do not count.
"""

import functools
import hashlib
import io
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, SupportsInt, runtime_checkable

import numpy as np
from etils import epath

from t5like import config
from t5like.data.store import write_whole
from t5like.errors import UserError

SPACE = "\u2581"
LINE_CHARACTERS = 4096


@runtime_checkable
class Pieces(Protocol):
    """A tokeniser without special pieces of its own beyond pad, eos and unk."""

    size: int
    serialized: bytes

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def name(self, number: int) -> str: ...

    def length_in_bytes(self, number: int) -> int:
        """UTF-8 bytes of text that the piece spells; 0 for control pieces."""
        ...


class SentencePiece:
    """A SentencePiece model with pad 0, eos 1 and unk 2."""

    def __init__(self, serialized: bytes):
        import sentencepiece

        self.serialized = serialized
        self._model = sentencepiece.SentencePieceProcessor()
        self._model.load_from_serialized_proto(serialized)
        self.size = self._model.get_piece_size()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode(list(ids))

    def name(self, number: int) -> str:
        return self._model.id_to_piece(number)

    def length_in_bytes(self, number: int) -> int:
        if self._model.is_control(number) or self._model.is_unknown(number):
            return 0
        if self._model.is_byte(number):
            return 1
        return len(self.name(number).replace(SPACE, " ").encode())


class Bytes:
    """UTF-8 bytes shifted by three, after pad, eos and unk, as in ByT5 (Xue et al. 2022)."""

    size = 259
    serialized = b"bytes"

    def encode(self, text: str) -> list[int]:
        return [byte + 3 for byte in text.encode("utf-8", errors="replace")]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(number - 3 for number in ids if number >= 3).decode("utf-8", errors="replace")

    def name(self, number: int) -> str:
        return ("<pad>", "</s>", "<unk>")[number] if number < 3 else f"<0x{number - 3:02X}>"

    def length_in_bytes(self, number: int) -> int:
        return int(number >= 3)


class Vocabulary:
    """Learned pieces, named special pieces and sentinels behind one numbering."""

    pad, eos, unk = 0, 1, 2
    start = pad
    """What a decoder is given before the first token."""

    def __init__(self, pieces: Pieces, extra: Sequence[str] = (), sentinels: int = 0):
        self.pieces = pieces
        self.special = {name: pieces.size + number for number, name in enumerate(extra)}
        self.size = pieces.size + len(extra) + (0 if isinstance(pieces, Bytes) else sentinels)
        last = pieces.size - 1 if isinstance(pieces, Bytes) else self.size - 1
        self.sentinels = np.arange(last, last - sentinels, -1, dtype=np.int32)
        self.special |= {f"<extra_id_{n}>": int(number) for n, number in enumerate(self.sentinels)}
        self._names = {number: name for name, number in self.special.items()}
        names = "|".join(map(re.escape, sorted(self.special, key=len, reverse=True)))
        self._split = re.compile(f" *({names}) *") if names else None

    def encode(self, text: str) -> list[int]:
        """The pieces of a text, without EOS; names of special pieces become those pieces.

        Raises:
          UserError: half a surrogate pair in the text, which stands for a byte of the command line that is no UTF-8.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"The text is not valid UTF-8 at character {error.start}: mend it there.") from None
        if self._split is None:
            return self.pieces.encode(text)
        ids: list[int] = []
        for part in self._split.split(text):
            ids += [self.special[part]] if part in self.special else self.pieces.encode(part) if part else []
        return ids

    def encode_document(self, text: str) -> list[int]:
        """The pieces of a document, where names of special pieces are text like any other, and EOS."""
        return [*self.pieces.encode(text), self.eos]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of the pieces; special ones appear by their names, pad and eos not at all."""
        parts: list[str] = []
        for special, run in itertools.groupby((int(number) for number in ids), self._names.__contains__):
            if special:
                parts += [self._names[number] for number in run]
            else:
                text = self.pieces.decode([number for number in run if number < self.pieces.size])
                parts += [text] if text else []
        return " ".join(parts)

    def name(self, number: int) -> str:
        """The piece itself, e.g. `▁the`."""
        return self._names.get(number) or (self.pieces.name(number) if number < self.pieces.size else "<unused>")

    @functools.cached_property
    def bytes_of(self) -> np.ndarray:
        """[size] int32: UTF-8 bytes of text that each piece spells, 0 for special ones.

        SentencePiece spells a text with one more space before it.
        """
        lengths = [self.pieces.length_in_bytes(number) for number in range(self.pieces.size)]
        lengths += [0] * (self.size - self.pieces.size)
        lengths = np.array(lengths, np.int32)
        lengths[list(self._names)] = 0
        return lengths

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.pieces.serialized).hexdigest()

    def save(self, folder: epath.Path | pathlib.Path) -> None:
        """Writes the folder that `open_vocabulary` reads; vocabulary.json comes last."""
        folder = epath.Path(folder)
        extra = [name for name in self.special if not name.startswith("<extra_id_")]
        kind = "bytes" if isinstance(self.pieces, Bytes) else "sentencepiece"
        description = {"kind": kind, "extra": extra, "sentinels": len(self.sentinels), "sha256": self.hash}
        if kind == "sentencepiece":
            write_whole(folder / "spiece.model", self.pieces.serialized)
        write_whole(folder / "vocabulary.json", json.dumps(description, indent=2).encode() + b"\n")


def open_vocabulary(folder: epath.Path | pathlib.Path) -> Vocabulary:
    """The vocabulary that `Vocabulary.save` wrote.

    Raises:
      UserError: nothing there, or a file that is not the one that was saved.
    """
    if not (folder / "vocabulary.json").exists():
        raise UserError(f"{folder} holds no vocabulary: vocabulary.json is missing.")
    description = json.loads((folder / "vocabulary.json").read_text())
    if description["kind"] == "bytes":
        pieces: Pieces = Bytes()
    else:
        pieces = load_pieces(folder / "spiece.model")
    vocabulary = Vocabulary(pieces, description["extra"], description["sentinels"])
    if vocabulary.hash != description["sha256"]:
        raise UserError(f"{folder / 'spiece.model'} has changed since it was saved: its hash is not vocabulary.json's.")
    return vocabulary


def load_pieces(path: epath.Path | pathlib.Path) -> SentencePiece:
    """A SentencePiece model from its file.

    Raises:
      UserError: no such file, no such model, or control pieces elsewhere than T5 has them.
    """
    if not path.exists():
        raise UserError(f"There is no SentencePiece model at {path}.")
    try:
        pieces = SentencePiece(path.read_bytes())
    except RuntimeError:
        raise UserError(f"{path} is not a SentencePiece model.") from None
    names = [pieces.name(number) for number in range(min(3, pieces.size))]
    if names != ["<pad>", "</s>", "<unk>"]:
        raise UserError(f"{path} begins with {' '.join(names)}, but <pad> </s> <unk> are expected.")
    return pieces


def train_pieces(settings: config.Vocabulary, texts: Iterable[str]) -> SentencePiece:
    """Learns SentencePiece pieces from texts; every text can be spelt and comes back unchanged.

    Nothing is normalised, runs of spaces may be pieces, a line feed is one, and characters that got none are spelt
    in bytes. The one exception is U+2581, SentencePiece's own sign for a space, which comes back as one.

    Raises:
      UserError: the texts are too few or too uniform for `data.vocabulary.size`.
    """
    import sentencepiece

    lines = (line[at : at + LINE_CHARACTERS] for text in texts for line in text.split("\n") for at in _starts(line))
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError(
            "There is no text to learn a vocabulary from: every document of data.sources is empty or held out."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=settings.size,
            character_coverage=settings.coverage,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            byte_fallback=True,
            user_defined_symbols=["\n"],
            max_sentence_length=4 * LINE_CHARACTERS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(_why_not_trained(settings, lines, str(error))) from None
    return SentencePiece(model.getvalue())


def _starts(line: str) -> range:
    return range(0, len(line), LINE_CHARACTERS)


def _why_not_trained(settings: config.Vocabulary, lines: list[str], error: str) -> str:
    characters = sum(map(len, lines))
    wanted = f"data.vocabulary.size={settings.size} cannot be reached with {characters:,} characters of text"
    if most := re.search(r"value <= (\d+)", error):
        return f"{wanted}: they hold at most {most[1]} pieces; lower the size or add text."
    if least := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return f"{wanted}: bytes and single characters alone need {least[1]} pieces; raise the size."
    return f"{wanted}: {error.strip()}"
