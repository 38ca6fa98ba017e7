"""A vocabulary as a tokenizer of Hugging Face's library that gives the token ids of `Vocabulary.encode`.

Around our special tokens spaces do not count, but tabs and line feeds do, while the library's own stripping takes all
white space. So where a model keeps spaces, a normaliser strips them, and the special tokens are found after it; where
it collapses them anyway, special tokens are found in the raw text. Equal ids are impossible here:

- Names of control tokens (</s>, <pad>, ...) in a text are text to us, and these tokens to the library, as to T5's own.
- The library normalises a letter together with the marks on it, up to 5 bytes and by the shortest match, SentencePiece
  by the longest. Where a model has such a table (T5's), letters and marks in succession can differ, thus Japanese and
  Korean text that is decomposed (NFD).
- SentencePiece's unigram adds scores up in float32, the library in float64: where two spellings are equally likely to
  the sixth digit, as of a long run of spaces, either may be taken. Models that we train have scores that float32 adds
  up exactly, and agree.
- Names of byte pieces (<0x41>) where "<" has no piece, and names of a file's own special tokens in full-width letters,
  are these tokens to the library. A tokenizer.json's own special tokens keep the treatment of spaces that it says.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from t5like.convert.sentencepiece_model import Description, describe
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.data.vocabulary.hugging_face import byte_of_character
from t5like.data.vocabulary.pieces import SPACE, SentencePiece
from t5like.errors import UserError

NEVER = -1e4
"""Score of pieces that no text has by their names. The library takes the least score for that of unknown characters
too, which is harmless: a piece with a character that is no piece itself does not occur in trained models."""


def fast_tokenizer(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """The same tokens with the same ids, special ones included, without a post-processor but a file's own.

    Raises:
      UserError: a SentencePiece model of words or with spaces behind words, which the library cannot express.
    """
    pieces = vocabulary.pieces
    if isinstance(pieces, SentencePiece):
        return _of_sentencepiece(vocabulary, pieces)
    if isinstance(pieces, Bytes):
        return _of_bytes(vocabulary)
    return _of_file(vocabulary, json.loads(pieces.serialized))


def _of_sentencepiece(vocabulary: Vocabulary, pieces: SentencePiece) -> tokenizers.Tokenizer:
    """The library's steps for SentencePiece's.

    collapses (T5)      "a  b " -> normaliser "▁a▁b", special tokens cut out of the raw text before it
    keeps spaces        "a  b " -> normaliser "a▁▁b▁", special tokens cut out after it, and "▁" put before by `_prefix`
    """
    told = describe(pieces.serialized)
    if told.space_after or told.algorithm not in ("unigram", "bpe"):
        raise UserError(
            "A tokenizer.json cannot hold this SentencePiece model, which is of words or has spaces behind them: train "
            "it as unigram or bpe."
        )
    names = _rows(vocabulary)
    kinds = _kinds(vocabulary, told, names)
    users = _isolated(names, kinds)
    tokenizer = tokenizers.Tokenizer(_model(told, names, kinds, pieces.own_control.unk, bool(users)))
    collapses = bool(told.charsmap) or told.removes_spaces
    tokenizer.normalizer = normalizers.Sequence(_collapsing(told) if collapses else _keeping(vocabulary, told))
    steps: list[pre_tokenizers.PreTokenizer] = [] if collapses or not told.adds_space else [_prefix()]
    steps += [pre_tokenizers.Split(Regex(_any_of(users)), "isolated")] if users else []
    if steps:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = _decoder(told)
    _add_control(tokenizer, vocabulary)
    _add_special(tokenizer, vocabulary, normalized=not collapses, strip=collapses and not told.removes_spaces)
    return tokenizer


def _model(told: Description, names: list[str], kinds: list[str], unknown: int, users: bool) -> models.Model:
    """The pieces as unigram or BPE; with `users` user-defined pieces stand alone, which BPE takes whole, unmerged."""
    if told.algorithm == "unigram":
        scores = [s if kind in ("normal", "user") else NEVER for s, kind in zip(told.scores, kinds, strict=True)]
        return models.Unigram(list(zip(names, scores, strict=True)), unknown, told.byte_fallback)
    normal = {n: s for n, s, kind in zip(names, told.scores, kinds, strict=True) if kind == "normal"}
    return models.BPE(
        {name: number for number, name in enumerate(names)},
        _merges(normal),
        unk_token=names[unknown],
        fuse_unk=True,
        byte_fallback=told.byte_fallback,
        ignore_merges=users,
    )


def _rows(vocabulary: Vocabulary) -> list[str]:
    """The name of each piece of a model; one that is spelt as a special token loses its own, for no text reaches it."""
    names = [vocabulary.name(number) for number in range(vocabulary.pieces.size)]
    special = vocabulary.special
    return [f"<unused{n}>" if special.get(name, n) != n else name for n, name in enumerate(names)]


def _kinds(vocabulary: Vocabulary, told: Description, names: Sequence[str]) -> list[str]:
    """The kind of each piece, one of `KINDS`, or "special" for those that are found by name."""
    special = {*vocabulary.special.values(), *vocabulary.pieces.control}
    kinds = ["special" if number in special else kind for number, kind in enumerate(told.kinds)]
    return ["unused" if name == f"<unused{n}>" else kinds[n] for n, name in enumerate(names)]


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, those of the best score first: SentencePiece merges by score.

    {"a": -3, "b": -4, "c": -5, "ab": -1, "abc": -2, "bc": -6} -> (a, b), (a, bc), (ab, c), (b, c)
    """
    merges: list[tuple[str, str]] = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        halves = [(name[:at], name[at:]) for at in range(1, len(name))]
        merges += [(left, right) for left, right in halves if left in scores and right in scores]
    return merges


def _collapsing(told: Description) -> list[normalizers.Normalizer]:
    """SentencePiece's steps on each text between special tokens: its table, spaces, and the one put before.

    " a  b " -> "a b " (spaces before and runs) -> "a▁b▁" -> "a▁b" (spaces behind) -> "▁a▁b"
    """
    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(told.charsmap)] if told.charsmap else []
    if told.removes_spaces:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    space = SPACE if told.escapes_spaces else " "
    steps += [normalizers.Replace(" ", SPACE)] if told.escapes_spaces else []
    steps += [normalizers.Replace(Regex(rf"{space}+\z"), "")] if told.removes_spaces else []
    return steps + ([normalizers.Prepend(space)] if told.adds_space else [])


def _keeping(vocabulary: Vocabulary, told: Description) -> list[normalizers.Normalizer]:
    """Spaces around special tokens go, all others stay.

    Before each text `_prefix` puts a space, unless it begins with one, which is therefore doubled here:
    "a" -> "a" -> "▁a", and " a" -> "▁▁a" -> "▁▁a".
    """
    steps = stripping(vocabulary)
    steps += [normalizers.Replace(" ", SPACE)] if told.escapes_spaces else []
    if not told.adds_space:
        return steps
    names = [name.replace(" ", SPACE) for name in vocabulary.special]
    begins = rf"\A{SPACE}" + (rf"|(?<={_any_of(names)}){SPACE}" if names else "")
    return [*steps, normalizers.Replace(Regex(begins), 2 * SPACE)]


def _prefix() -> pre_tokenizers.PreTokenizer:
    """Puts a space before each text that begins with none."""
    return pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=False)


def stripping(vocabulary: Vocabulary, but: Sequence[str] = ()) -> list[normalizers.Normalizer]:
    """Normalisers that strip spaces around special tokens where these do not count; around all `but` a file's own."""
    names = [name for name in vocabulary.special if name not in but]
    before = [name for name in names if vocabulary.strips(name)[0]]
    after = [name for name in names if vocabulary.strips(name)[1]]
    # A run of spaces is looked at once, not once from each of its spaces.
    steps: list[normalizers.Normalizer] = []
    steps += [normalizers.Replace(Regex(rf"(?<! ) ++(?={_any_of(before)})"), "")] if before else []
    return steps + ([normalizers.Replace(Regex(rf"(?<={_any_of(after)}) +"), "")] if after else [])


def _any_of(names: Sequence[str]) -> str:
    """A pattern of any of the names; of those that begin alike the longest is tried first."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


def _isolated(names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """User-defined pieces, which SentencePiece takes whole wherever they stand; not those that the model could take for
    nothing else anyway."""
    normal = [name for name, kind in zip(names, kinds, strict=True) if kind == "normal"]
    users = [name for name, kind in zip(names, kinds, strict=True) if kind == "user"]
    return [name for name in users if len(name) > 1 or any(name in other for other in normal)]


def _decoder(told: Description) -> decoders.Decoder:
    """Pieces to text: "▁a▁b" -> "a b"."""
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")] if told.escapes_spaces else []
    steps += [decoders.ByteFallback()] if told.byte_fallback else []
    return decoders.Sequence([*steps, decoders.Fuse(), *[decoders.Strip(" ", 1, 0)] * told.adds_space])


def _of_bytes(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """Bytes as tokens of byte-level BPE without merges; bytes that stand for sentinels have no token.

    "é" is the bytes 195 and 169, to the library "Ã" and "©", whose ids are 198 and 172.
    """
    special = {vocabulary.name(number): number for number in range(3)} | vocabulary.special
    taken = set(special.values())
    ids = {character: byte + 3 for character, byte in byte_of_character().items() if byte + 3 not in taken}
    tokenizer = tokenizers.Tokenizer(models.BPE({**special, **ids}, []))
    tokenizer.normalizer = normalizers.Sequence(stripping(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    _add_control(tokenizer, vocabulary)
    _add_special(tokenizer, vocabulary, normalized=True)
    return tokenizer


def _of_file(vocabulary: Vocabulary, described: dict[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer.json with further special tokens.

    All get an entry in the model's own table: to a token without one the library gives the next free id, which is
    another than ours where the table has gaps.
    """
    model, own = described["model"], vocabulary.pieces.special
    if isinstance(model["vocab"], dict):
        added = {token["content"]: token["id"] for token in described["added_tokens"]}
        further = {name: number for name, number in vocabulary.special.items() if name not in own}
        model["vocab"] = {name: n for name, n in model["vocab"].items() if name not in further} | added | further
    described["truncation"] = described["padding"] = None
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(described))
    raw = tokenizer.normalizer is not None
    if not raw and (steps := stripping(vocabulary, tuple(own))):
        tokenizer.normalizer = normalizers.Sequence(steps)
    _add_special(tokenizer, vocabulary, normalized=not raw, strip=raw)
    return tokenizer


def _add_control(tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Adds the tokens that frame a text, which have no names in our vocabulary."""
    names = [vocabulary.name(number) for number in sorted({n for n in vocabulary.pieces.control if n is not None})]
    names = [name for name in names if name not in vocabulary.special]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])


def _add_special(
    tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary, normalized: bool, strip: bool = False
) -> None:
    """Adds named tokens and sentinels, to be found before the normaliser or, if `normalized`, after it."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    names = [name for name in sorted(vocabulary.special, key=vocabulary.special.__getitem__) if name not in known]
    sides = [vocabulary.strips(name) if strip else (False, False) for name in names]
    added = [
        AddedToken(name, normalized=normalized, special=True, lstrip=left, rstrip=right)
        for name, (left, right) in zip(names, sides, strict=True)
    ]
    tokenizer.add_special_tokens(added)
    for name in names:
        assert tokenizer.token_to_id(name) == vocabulary.special[name], name
