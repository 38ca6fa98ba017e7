"""Tokenizer files of a vocabulary of ours, which transformers loads with no code of ours and the same numbers.

transformers takes tokenizer.json as it is only for its generic class: the classes of models build their tokenizers anew
from the pieces and lose what is particular to them. So tokenizer_config.json names the generic one. SentencePiece
models are translated: pieces with their scores, the normaliser, the space that is put before every text.

What the two cannot agree on: names of control pieces, such as </s>, are text to us and pieces to transformers; and an
mT5's sentinels, which are pieces with a space before them, are found there behind spaces only.
"""

import json
import pathlib
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from t5like.config import CLS, MASK, SEP, Model
from t5like.convert.sentencepiece_model import Description, describe
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.data.vocabulary.hugging_face import byte_of_character
from t5like.data.vocabulary.pieces import SPACE, SentencePiece

NEVER = -1e4
"""Score of pieces that a text never has by their names: control pieces and bytes."""
CONTROL = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "start": "<s>"}


def write_tokenizer(vocabulary: Vocabulary, model: Model, folder: pathlib.Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the files of the vocabulary's kind.

    Raises:
      ValueError: the library numbers a special piece otherwise than the vocabulary.
    """
    pieces = vocabulary.pieces
    if isinstance(pieces, SentencePiece):
        description = describe(pieces.serialized)
        tokenizer = _from_sentencepiece(pieces, description)
        (folder / "spiece.model").write_bytes(pieces.serialized)
    elif isinstance(pieces, Bytes):
        tokenizer = _from_bytes(vocabulary)
    else:
        tokenizer = tokenizers.Tokenizer.from_str(pieces.serialized.decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
    _add_special(tokenizer, vocabulary)
    if isinstance(pieces, SentencePiece | Bytes):
        tokenizer.post_processor = _framing(vocabulary, model)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_plain_files(tokenizer, folder)
    config = json.dumps(_settings(vocabulary, model), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(config + "\n", "utf-8")


def _from_sentencepiece(pieces: SentencePiece, described: Description) -> tokenizers.Tokenizer:
    names = [pieces.name(number) for number in range(pieces.size)]
    unknown = pieces.own_control.unk
    if described.bpe:
        vocab = {name: number for number, name in enumerate(names)}
        merges = _merges(names, described, vocab)
        fallback = any(kind == "byte" for kind in described.kinds)
        bpe = models.BPE(vocab, merges, unk_token=names[unknown], fuse_unk=True, byte_fallback=fallback)
        tokenizer = tokenizers.Tokenizer(bpe)
    else:
        scored = list(zip(names, _scores(names, described), strict=True))
        fallback = any(kind == "byte" for kind in described.kinds)
        tokenizer = tokenizers.Tokenizer(models.Unigram(scored, unknown, fallback))
    steps: list[Any] = [normalizers.Precompiled(described.charsmap)] if described.charsmap else []
    if described.removes_spaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    steps += [normalizers.Prepend(SPACE)] if described.adds_space else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    unspaced = [decoders.Strip(" ", 1, 0)] if described.adds_space else []
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *unspaced]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def _scores(names: list[str], described: Description) -> list[float]:
    """SentencePiece's own: those of user-defined pieces are such that nothing else is ever better."""
    most = max(described.scores)
    own = {"normal": lambda score, name: score, "user": lambda score, name: len(name) * most - 0.1}
    triples = zip(names, described.scores, described.kinds, strict=True)
    return [own[kind](score, name) if kind in own else NEVER for name, score, kind in triples]


def _merges(names: list[str], described: Description, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, those of the best score first: SentencePiece merges by score."""
    normal = {name for name, kind in zip(names, described.kinds, strict=True) if kind in ("normal", "user")}
    ordered = sorted(normal, key=lambda name: (-described.scores[vocab[name]], vocab[name]))
    merges: list[tuple[str, str]] = []
    for name in ordered:
        halves = ((name[:at], name[at:]) for at in range(1, len(name)))
        pairs = [(left, right) for left, right in halves if left in normal and right in normal]
        merges += sorted(pairs, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    return merges


def _from_bytes(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """Bytes as pieces of a byte-level tokenizer without merges; the bytes that stand for sentinels have no piece."""
    taken = {int(number) for number in vocabulary.sentinels}
    numbers = {character: byte + 3 for character, byte in byte_of_character().items() if byte + 3 not in taken}
    special = {CONTROL[name]: number for name, number in zip(("pad", "eos", "unk"), range(3), strict=True)}
    special |= {name: number for name, number in vocabulary.special.items() if number < vocabulary.pieces.size}
    tokenizer = tokenizers.Tokenizer(models.BPE({**special, **numbers}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_special(tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """The pieces that frame a text, then named ones and sentinels, each with its own number."""
    pieces = vocabulary.pieces
    if isinstance(pieces, SentencePiece | Bytes):
        control = [pieces.name(number) for number in {*pieces.control} if number is not None]
        tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in control])
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for name, number in _named(vocabulary):
        if name in known:
            continue
        left, right = vocabulary.strips(name)
        added = AddedToken(name, normalized=False, special=True, lstrip=left, rstrip=right)
        tokenizer.add_special_tokens([added])
        if tokenizer.token_to_id(name) != number:
            raise ValueError(f"{name!r} has the number {number}, but tokenizers gives {tokenizer.token_to_id(name)}")


def _named(vocabulary: Vocabulary) -> list[tuple[str, int]]:
    """Special pieces by number, but for those that a SentencePiece model finds by itself behind a space, as mT5's
    sentinels."""
    pieces, special = vocabulary.pieces, sorted(vocabulary.special.items(), key=lambda item: item[1])
    return [(name, n) for name, n in special if n >= pieces.size or not pieces.name(n).startswith(SPACE)]


def _framing(vocabulary: Vocabulary, model: Model) -> Any:
    """What stands around a text: EOS behind it where there is an encoder, the start before it in a decoder."""
    pieces, special = vocabulary.pieces, vocabulary.special
    end, start = pieces.name(vocabulary.eos), pieces.name(vocabulary.start)
    if model.family == "decoder":
        single, used = f"{start} $A", {start: vocabulary.start}
    elif model.token_types and CLS in special and SEP in special:
        single, used = f"{CLS} $A {SEP}", {CLS: special[CLS], SEP: special[SEP]}
    else:
        single, used = f"$A {end}", {end: vocabulary.eos}
    pair = single.replace("$A", f"$A {end} $B") if model.family != "decoder" else f"{single} $B"
    used[end] = vocabulary.eos
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(used.items()))


def _settings(vocabulary: Vocabulary, model: Model) -> dict[str, Any]:
    """tokenizer_config.json."""
    pieces, special = vocabulary.pieces, vocabulary.special
    control = pieces.control
    names = {"eos_token": pieces.name(control.eos)}
    names |= {} if control.pad is None else {"pad_token": pieces.name(control.pad)}
    names |= {} if control.unk == control.eos else {"unk_token": pieces.name(control.unk)}
    if model.family == "decoder":
        names["bos_token"] = pieces.name(control.start)
    bert = {"cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
    names |= {key: name for key, name in bert.items() if name in special}
    others = [name for name, _ in _named(vocabulary)]
    length = {"model_max_length": model.max_positions} if model.max_positions else {}
    generic = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    inputs = ["input_ids", *["token_type_ids"] * bool(model.token_types), "attention_mask"]
    return generic | names | {"additional_special_tokens": others, "model_input_names": inputs} | length


def _write_plain_files(tokenizer: tokenizers.Tokenizer, folder: pathlib.Path) -> None:
    """The files of WordPiece (vocab.txt) and of byte-level BPE (vocab.json, merges.txt) for programs that want them."""
    described = json.loads(tokenizer.to_str())["model"]
    if described["type"] == "WordPiece":
        names = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("".join(f"{name}\n" for name, _ in names), "utf-8")
    elif described["type"] == "BPE" and described["merges"] and not (folder / "spiece.model").exists():
        (folder / "vocab.json").write_text(json.dumps(described["vocab"], ensure_ascii=False), "utf-8")
        pairs = "".join(f"{left} {right}\n" for left, right in described["merges"])
        (folder / "merges.txt").write_text("#version: 0.2\n" + pairs, "utf-8")
