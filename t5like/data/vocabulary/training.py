"""Pieces learned from text: SentencePiece's unigram and BPE, BERT's WordPiece, GPT-2's byte-level BPE.

The same texts give the same bytes. The pieces are exactly `data.vocabulary.size`, or training is refused with the
number that is possible.
"""

import collections
import io
import json
import re
import string
import struct
from collections.abc import Iterable, Iterator

from t5like import config
from t5like.config.vocabulary import COVERING, OWN_SPECIALS
from t5like.data.vocabulary.files import byte_level, wordpiece
from t5like.data.vocabulary.hugging_face import HuggingFace
from t5like.data.vocabulary.pieces import Pieces, SentencePiece
from t5like.errors import UserError

LINE_CHARACTERS = 4096
SCORE = b"\x15"
"""Begins the score of a piece in a serialized model: field 2, of four bytes."""
ASCII = " ".join([*string.punctuation, *(character * 2 for character in string.ascii_letters + string.digits)])
"""Text with every character, letters and digits also within words, that WordPiece can always spell."""


class _LimitError(Exception):
    """The pieces that texts hold at most, or need at least, where `data.vocabulary.size` is another number."""

    def __init__(self, most: int | None = None, least: int | None = None, reason: str = ""):
        super().__init__(reason)
        self.most, self.least, self.reason = most, least, reason


def train_pieces(settings: config.Vocabulary, texts: Iterable[str]) -> Pieces:
    """Learn pieces from the first `settings.train_characters` characters of texts.

    Raises:
      UserError: the texts are too few or too uniform for `data.vocabulary.size`, or it is too small for them.
    """
    read = list(_chunks(texts, settings.train_characters))
    chunks = [chunk for chunk in read if not chunk.isspace()]
    if not chunks:
        raise UserError(
            "There is no text to learn a vocabulary from: every document of data.sources is empty or held out."
        )
    trainers = {"unigram": _sentencepiece, "bpe": _sentencepiece, "wordpiece": _wordpiece, "byte_bpe": _byte_bpe}
    try:
        return trainers[settings.kind](settings, chunks)
    except _LimitError as limit:
        raise UserError(_limited(settings, sum(map(len, read)), limit)) from None


def _chunks(texts: Iterable[str], most: int) -> Iterator[str]:
    """The first `most` characters, in parts that a trainer can hold."""
    for text in texts:
        for at in range(0, min(len(text), most), LINE_CHARACTERS):
            yield text[at : min(at + LINE_CHARACTERS, most)]
        most -= min(len(text), most)
        if not most:
            return


def _sentencepiece(settings: config.Vocabulary, chunks: list[str]) -> SentencePiece:
    """Pieces that spell every text and give it back unchanged.

    Nothing is normalised, runs of spaces may be pieces, a line feed is one, and characters that got none are spelt
    in bytes. The one exception is U+2581, SentencePiece's own sign for a space, which comes back as one.
    """
    import sentencepiece

    lines = [line for chunk in chunks for line in chunk.split("\n") if line.strip()]
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
        raise _limit_in(str(error)) from None
    return SentencePiece(_with_even_scores(model.getvalue()))


def _with_even_scores(serialized: bytes) -> bytes:
    """The model with scores that are multiples of 2^-10, which float32 adds up exactly.

    So spellings that are equally likely, as of runs of spaces, are so in every library, and all take the same one. A
    score is field 2 of a piece, behind its name.
    """
    model, at = bytearray(serialized), 0
    plain = SentencePiece(serialized)
    for name in map(plain.name, range(plain.size)):
        at = model.index(name.encode() + SCORE, at) + len(name.encode() + SCORE)
        (score,) = struct.unpack_from("<f", model, at)
        struct.pack_into("<f", model, at, round(score * 1024) / 1024)
    return bytes(model)


def _wordpiece(settings: config.Vocabulary, chunks: list[str]) -> HuggingFace:
    """BERT's pieces: five special ones, characters, then the merged ones; characters beyond the coverage are [UNK].

    The trainer numbers characters within words as it meets them in a hash table, and its ties depend on the numbers.
    So it is given all characters beforehand, in order.
    """
    from tokenizers import trainers

    special = OWN_SPECIALS["wordpiece"]
    tokenizer = wordpiece({name: number for number, name in enumerate(special)}, settings.lowercase)
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    assert normalizer is not None and splitter is not None
    texts = [normalizer.normalize_str(chunk) for chunk in chunks]
    dropped = _rare_characters(texts, settings.coverage)
    texts = [text.translate(dropped) for text in texts]
    runs = {run for text in (*texts, normalizer.normalize_str(ASCII)) for run in text.split()}
    words = {word for run in runs for word, _ in splitter.pre_tokenize_str(run)}
    characters = sorted({character for word in words for character in word})
    given = [*special, *characters, *sorted({f"##{character}" for word in words for character in word[1:]})]
    if len(given) > settings.size:
        raise _LimitError(least=len(given))
    trainer = trainers.WordPieceTrainer(vocab_size=settings.size, special_tokens=given, show_progress=False)
    tokenizer.train_from_iterator(iter(texts), trainer)
    vocab = tokenizer.get_vocab()
    if len(vocab) < settings.size:
        raise _LimitError(most=len(vocab))
    vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
    return HuggingFace(wordpiece(vocab, settings.lowercase).to_str().encode())


def _rare_characters(texts: list[str], coverage: float) -> dict[int, None]:
    """The rarest characters, for `str.translate`, without which the rest still has its share of the text; ASCII
    is never rare."""
    counts = collections.Counter[str]()
    for text in texts:
        counts.update(text)
    allowed, dropped = (1 - coverage) * sum(n for c, n in counts.items() if not c.isspace()), {}
    rare = ((count, c) for c, count in counts.items() if not (c.isspace() or c.isascii()))
    for count, character in sorted(rare):
        allowed -= count
        if allowed < 0:
            break
        dropped[ord(character)] = None
    return dropped


def _byte_bpe(settings: config.Vocabulary, chunks: list[str]) -> HuggingFace:
    """GPT-2's pieces: 256 bytes, the merged ones, <|endoftext|> last."""
    from tokenizers import pre_tokenizers, trainers

    least = 256 + len(OWN_SPECIALS["byte_bpe"])
    if settings.size < least:
        raise _LimitError(least=least)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = byte_level({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=settings.size - 1, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(iter(chunks), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [(pair[0], pair[1]) for pair in model["merges"]]
    trained = byte_level(dict(sorted(model["vocab"].items(), key=lambda item: item[1])), merges)
    if trained.get_vocab_size() < settings.size:
        raise _LimitError(most=trained.get_vocab_size())
    return HuggingFace(trained.to_str().encode())


def _limit_in(error: str) -> _LimitError:
    """The number in an error of SentencePiece."""
    if most := re.search(r"value <= (\d+)", error):
        return _LimitError(most=int(most[1]))
    if least := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return _LimitError(least=int(least[1]))
    return _LimitError(reason=error.strip())


def _limited(settings: config.Vocabulary, characters: int, limit: _LimitError) -> str:
    """A sentence that names the fields that keep `data.vocabulary.size` from being reached."""
    wanted = f"data.vocabulary.size={settings.size} cannot be reached with {characters:,} characters of text"
    if limit.most is not None:
        remedy = "lower data.vocabulary.size or add text"
        if characters >= settings.train_characters:
            remedy = "raise data.vocabulary.train_characters, which allows no more, or lower data.vocabulary.size"
        return f"{wanted}: they hold at most {limit.most} pieces; {remedy}."
    if limit.least is not None:
        remedy = f"raise data.vocabulary.size to {limit.least} or more"
        if settings.kind in COVERING:
            rare = "are [UNK]" if settings.kind == "wordpiece" else "are spelt in bytes"
            remedy += f", or lower data.vocabulary.coverage={settings.coverage}, so that rare characters {rare}"
        return f"{wanted}: bytes and single characters alone need {limit.least} pieces; {remedy}."
    return f"{wanted}: {limit.reason}"
