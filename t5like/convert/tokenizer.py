"""The tokenizer of a Hugging Face folder as a vocabulary of ours.

The files are those that `data.vocabulary` reads. The folder's configs add the tokens and sentinels that follow those of
the file, and the ones that frame a text. `tokenizer_files.py` is the way back.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from t5like.convert.added_tokens import with_added_tokens
from t5like.convert.framing import frame_of, usual_tokenizer
from t5like.convert.settings import Settings
from t5like.data.vocabulary import Bytes, Frame, Pieces, Vocabulary, load_pieces
from t5like.data.vocabulary.files import FILES, special_names
from t5like.data.vocabulary.hugging_face import HuggingFace, byte_of_character
from t5like.data.vocabulary.pieces import SENTINEL, Control, SentencePiece
from t5like.errors import UserError
from t5like.json_files import json_object, mismatch
from t5like.storage import Path

BYTE_SENTINELS = 11
"""Byte values that UTF-8 never uses, which a ByT5 has for sentinels."""
T5_SENTINELS = 100
"""Sentinels of a T5 whose folder does not say how many."""
SPECIALS = ("additional_special_tokens", "extra_special_tokens")
"""Fields of tokenizer_config.json that list special tokens, before transformers 5 and in it."""
TYPED: dict[str, Any] = {"extra_ids": 0, "additional_special_tokens": [], "added_tokens_decoder": {}}
TYPED |= dict.fromkeys(("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space"), False)
"""Fields of tokenizer_config.json that count here, with a value of their type."""


class _Token(TypedDict):
    content: str
    special: NotRequired[bool | None]


_Tokens = list[str | _Token] | dict[str, str | _Token] | None


class _Form(TypedDict, total=False):
    """The fields of tokenizer_config.json in which tokens lie."""

    additional_special_tokens: _Tokens
    extra_special_tokens: _Tokens
    added_tokens_decoder: dict[str, _Token] | None
    tokenizer_class: str | None


def read_tokenizer(folder: pathlib.Path, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a folder whose config.json is `config`.

    Special ids of config.json and generation_config.json become the tokens that frame a text. ByT5's sentinels are the
    last byte values, as its authors trained it (Xue et al. 2022); transformers puts its own after them.

    Raises:
      UserError: no tokenizer, a damaged one, one of more tokens than the model has rows, special ids beyond its tokens,
        or added tokens in another order than named ones before sentinels.
    """
    settings = _settings(folder)
    added = _added(folder, settings)
    if _is_bytes(folder, settings):
        vocabulary = _around(Bytes(), added, 0) if _files(folder) else Vocabulary(Bytes(), sentinels=BYTE_SENTINELS)
    elif not _files(folder):
        raise UserError(
            f"{folder} holds no tokenizer: {', '.join(FILES)} (with merges.txt) are what is looked for; put one there, "
            "or import with --vocabulary."
        )
    else:
        vocabulary = _of_files(folder, settings, added, config)
    rows = config.get("vocab_size")
    if isinstance(rows, int) and vocabulary.size > rows:
        raise UserError(
            f"The tokenizer of {folder} has {vocabulary.size} pieces, but its config.json says vocab_size {rows}: they "
            "belong to different models."
        )
    return with_frame(_with_control(vocabulary, _special_ids(folder, config), folder), folder, config)


def with_frame(vocabulary: Vocabulary, folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """The same vocabulary with the frame of texts that the tokenizer of a folder has."""
    return _rebuilt(vocabulary, vocabulary.pieces, frame_of(folder, config, vocabulary))


def _files(folder: pathlib.Path) -> bool:
    return any((folder / name).exists() for name in FILES) or any(folder.glob("*.model"))


def _settings(folder: pathlib.Path) -> dict[str, Any]:
    """The fields of tokenizer_config.json; those that count here have their types.

    Raises:
      UserError: one of another type, or a negative number of sentinels.
    """
    file = folder / "tokenizer_config.json"
    settings = Settings(json_object(file), str(file))
    if wrong := mismatch(settings.fields, _Form):
        raise UserError(f"{file} is damaged ({wrong}): fetch it again.")
    for name, default in TYPED.items():
        settings.get(name, default)
    if settings.get("extra_ids", 0) not in range(2**16):
        raise UserError(f"{file}: extra_ids={settings.fields['extra_ids']} must be between 0 and {2**16 - 1}.")
    return settings.fields


def _is_bytes(folder: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """True if tokens are bytes: those of a ByT5, or of a tokenizer.json as we write it for ours."""
    if not _files(folder):
        return str(settings.get("tokenizer_class", "")).startswith("ByT5")
    model = json_object(folder / "tokenizer.json").get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or model.get("merges"):
        return False
    plain = [(character, byte + 3) for character, byte in byte_of_character().items() if byte < 0xF5]
    return all(model["vocab"].get(character) == number for character, number in plain)


def _added(folder: pathlib.Path, settings: Mapping[str, Any]) -> dict[int, str]:
    """Tokens that were added to those of the file, by id, as newer and older versions of transformers keep them.

    added_tokens.json            {"<extra_id_0>": 32099}
    tokenizer_config.json        {"added_tokens_decoder": {"32099": {"content": "<extra_id_0>"}}}
    tokenizer.json               {"added_tokens": [{"id": 32099, "content": "<extra_id_0>"}]}
    """
    try:
        found = {int(number): name for name, number in json_object(folder / "added_tokens.json").items()}
        later = settings.get("added_tokens_decoder") or {}
        found |= {int(number): str(token["content"]) for number, token in later.items()}
        listed = json_object(folder / "tokenizer.json").get("added_tokens") or []
        return found | {int(token["id"]): str(token["content"]) for token in listed}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"The added pieces of {folder}, in added_tokens.json, tokenizer_config.json or tokenizer.json, are not all "
            f"a name and a number ({type(error).__name__} {error}): fetch these files again."
        ) from None


def _of_files(
    folder: pathlib.Path, settings: Mapping[str, Any], added: Mapping[int, str], config: Mapping[str, Any]
) -> Vocabulary:
    pieces = load_pieces(folder, lowercase=usual_tokenizer(config) == "BertTokenizer")
    pieces = _as_told(pieces, folder, settings)
    untold = isinstance(pieces, SentencePiece) and not (folder / "tokenizer.json").exists()
    sentinels = _named_sentinels(settings, untold and config.get("model_type") == "t5")
    try:
        return _around(pieces, added, sentinels)
    except UserError:
        if not isinstance(pieces, SentencePiece):
            raise
        if (folder / "tokenizer.json").exists():
            return Vocabulary(load_pieces(folder / "tokenizer.json"))  # there a token may have any id
        special = {*special_names(folder).values(), *_listed_special(settings)}
        if (found := with_added_tokens(pieces, added, sentinels, special)) is None:
            raise
        return Vocabulary(found)


def _listed_special(settings: Mapping[str, Any]) -> set[str]:
    """Names of the further special tokens that tokenizer_config.json lists: strings, or objects with a `content`."""
    given = [settings.get(key) or [] for key in SPECIALS]
    listed = [token for tokens in given for token in (tokens.values() if isinstance(tokens, dict) else tokens)]
    marked = [token for token in (settings.get("added_tokens_decoder") or {}).values() if token.get("special")]
    return {str(token["content"] if isinstance(token, dict) else token) for token in (*listed, *marked)}


def _as_told(pieces: Pieces, folder: pathlib.Path, settings: Mapping[str, Any]) -> Pieces:
    """The pieces of a vocab.txt or vocab.json with the options that only tokenizer_config.json has."""
    if not isinstance(pieces, HuggingFace) or (folder / "tokenizer.json").exists():
        return pieces
    described: dict[str, Any] = json.loads(pieces.serialized)
    options = (
        ("normalizer", "strip_accents", "strip_accents"),
        ("normalizer", "handle_chinese_chars", "tokenize_chinese_chars"),
        ("pre_tokenizer", "add_prefix_space", "add_prefix_space"),
    )
    for part, key, name in options:
        if isinstance(settings.get(name), bool) and key in (described[part] or {}):
            described[part][key] = settings[name]
    return HuggingFace(json.dumps(described).encode(), pieces.control, pieces.roles)


def _named_sentinels(settings: Mapping[str, Any], untold: bool) -> int:
    """The number of sentinels after the tokens of a file that does not number them itself.

    `untold` is True for the files of a T5 that have no sentinels of their own.
    """
    if isinstance(settings.get("extra_ids"), int):
        return settings["extra_ids"]
    named = json.dumps([settings.get(key) for key in SPECIALS])
    found = {int(number) for number in re.findall(r"<extra_id_(\d+)>", named)}
    return max(found) + 1 if found else T5_SENTINELS if untold else 0


def _around(pieces: Pieces, added: Mapping[int, str], sentinels: int) -> Vocabulary:
    """The tokens of a file and those that were added to them; `sentinels` follow where none were added.

    32,000 tokens of a file and {32000: "<mask>", 32001: "<extra_id_1>", 32002: "<extra_id_0>"} are a vocabulary of
    32,003 with the extra token <mask> and two sentinels, which descend.
    """
    beyond = {number: name for number, name in sorted(added.items()) if number >= pieces.size}
    names = list(added.values() if isinstance(pieces, Bytes) else beyond.values())
    own = any(SENTINEL.fullmatch(name) for name in pieces.special)
    numbered = sum(bool(SENTINEL.fullmatch(name)) for name in names)
    extra = [name for name in beyond.values() if not SENTINEL.fullmatch(name)]
    vocabulary = Vocabulary(pieces, extra, 0 if own else numbered or sentinels)
    for number, name in beyond.items():
        if vocabulary.special.get(name) != number:
            raise UserError(
                f"The tokenizer has the added piece {name!r} at {number}: named pieces must follow the {pieces.size} "
                "of the file, and sentinels these in descending order; save it with its tokenizer.json."
            )
    return vocabulary


def _special_ids(folder: pathlib.Path, config: Mapping[str, Any]) -> dict[str, list[int]]:
    """The ids that config.json, or else generation_config.json, allows for each control token."""
    generation = json_object(folder / "generation_config.json")

    def named(key: str) -> list[int]:
        values = config.get(key) if config.get(key) is not None else generation.get(key)
        listed = values if isinstance(values, list) else [values]
        return [token for token in listed if isinstance(token, int) and token >= 0]

    if usual_tokenizer(config) == "BertTokenizer":  # which has neither beginning nor end of a text
        return {"pad": named("pad_token_id")}
    start = named("decoder_start_token_id") or named("bos_token_id")
    return {"pad": named("pad_token_id"), "eos": named("eos_token_id"), "start": start}


def _with_control(vocabulary: Vocabulary, ids: Mapping[str, list[int]], folder: pathlib.Path) -> Vocabulary:
    """The vocabulary with the control tokens that the configs name. Where they name several, as for texts that end in
    different ways, the tokenizer's own is kept."""
    pieces = vocabulary.pieces
    own = pieces.control._asdict()
    chosen = {key: own[key] if own[key] in allowed else allowed[0] for key, allowed in ids.items() if allowed}
    for key, number in chosen.items():
        if number >= vocabulary.size:
            raise UserError(
                f"{folder} names the number {number} for {key}, but its tokenizer has {vocabulary.size} pieces: mend "
                "config.json or generation_config.json."
            )
    control = Control(**{**own, **chosen})
    if control == pieces.control:
        return vocabulary
    if not isinstance(pieces, SentencePiece | HuggingFace):
        raise UserError(
            f"{folder} names {chosen} for its control pieces, but those of bytes are {own}: mend config.json there."
        )
    return _rebuilt(vocabulary, type(pieces)(pieces.serialized, control, pieces.roles), vocabulary.frame)


def _rebuilt(vocabulary: Vocabulary, pieces: Pieces, frame: Frame | None) -> Vocabulary:
    """The same special tokens around other pieces, or in another frame."""
    own = vocabulary.pieces.special
    extra = [name for name in vocabulary.special if name not in own and not SENTINEL.fullmatch(name)]
    return Vocabulary(pieces, extra, len(vocabulary.sentinels), frame)
