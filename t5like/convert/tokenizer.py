"""The tokenizer of a Hugging Face folder as a vocabulary of ours.

The files are those that `data.vocabulary` reads; what they leave open, the folder's configs say: how many sentinels
follow the pieces of a T5, and which pieces frame a text. `tokenizer_files.py` is the way back.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from t5like.data.vocabulary import Bytes, Pieces, Vocabulary, load_pieces
from t5like.data.vocabulary.files import FILES
from t5like.data.vocabulary.pieces import SENTINEL, Control
from t5like.errors import UserError

BYTE_SENTINELS = 11
"""Byte values that UTF-8 never uses, which a ByT5 has for sentinels."""
T5_SENTINELS = 100
"""Sentinels of a T5 whose folder does not say how many."""


def read_tokenizer(folder: pathlib.Path, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a folder whose config.json is `config`.

    Raises:
      UserError: no tokenizer, a damaged one, or special ids that it does not have.
    """
    settings = _json(folder / "tokenizer_config.json")
    if str(settings.get("tokenizer_class", "")).startswith("ByT5"):
        return Vocabulary(Bytes(), sentinels=BYTE_SENTINELS)
    if not any((folder / name).exists() for name in FILES) and not any(folder.glob("*.model")):
        raise UserError(
            f"{folder} holds no tokenizer, {', '.join(FILES)} with merges.txt: put it there, or give --vocabulary."
        )
    pieces = load_pieces(folder, lowercase=config.get("model_type") == "bert")
    _set_control(pieces, {**config, **_json(folder / "generation_config.json")}, folder)
    own = any(SENTINEL.fullmatch(name) for name in pieces.special)
    return Vocabulary(pieces, _extra(pieces, settings), 0 if own else _sentinels(folder, settings, config))


def _extra(pieces: Pieces, settings: Mapping[str, Any]) -> list[str]:
    """Special pieces that follow those of a SentencePiece model, before the sentinels, as our own exports have them."""
    if pieces.file != "spiece.model" or settings.get("tokenizer_class") != "PreTrainedTokenizerFast":
        return []
    named = settings.get("additional_special_tokens") or []
    return [name for name in named if name not in pieces.special and not SENTINEL.fullmatch(name)]


def _sentinels(folder: pathlib.Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Sentinels that follow the pieces of a SentencePiece model."""
    if config.get("model_type") not in ("t5", "mt5", "umt5"):
        return 0
    if isinstance(settings.get("extra_ids"), int):
        return settings["extra_ids"]
    named = json.dumps([settings, _json(folder / "added_tokens.json")])
    found = {int(number) for number in re.findall(r"<extra_id_(\d+)>", named)}
    if found:
        return max(found) + 1
    return T5_SENTINELS if config["model_type"] == "t5" else 0


def _set_control(pieces: Pieces, ids: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Gives the pieces that frame a text the numbers that the folder's configs name."""
    start = ids.get("decoder_start_token_id", ids.get("bos_token_id"))
    named = {"pad": ids.get("pad_token_id"), "eos": ids.get("eos_token_id"), "start": start}
    # Several pieces may end a text; the first is the one that training puts there.
    numbers = {key: value[0] if isinstance(value, list) and value else value for key, value in named.items()}
    numbers = {key: value for key, value in numbers.items() if isinstance(value, int) and value >= 0}
    for key, value in numbers.items():
        if value >= pieces.size:
            raise UserError(f"{folder} names the number {value} for {key}, but its tokenizer has {pieces.size} pieces.")
    if not isinstance(pieces, Bytes):
        pieces.control = Control(**{**pieces.control._asdict(), **numbers})


def _json(file: pathlib.Path) -> dict[str, Any]:
    """A file's JSON object, empty where there is no file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a JSON object.")
    return content
