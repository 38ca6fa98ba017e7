"""The pieces that a folder's tokenizer puts around a text, as transformers 5 makes it of the folder's files.

The classes of T5 and BERT have a frame of their own. All others take the post-processor of tokenizer.json, and without
that file `add_bos_token` and `add_eos_token` of tokenizer_config.json.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from t5like.config import CLS, SEP
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.data.vocabulary.files import special_names
from t5like.data.vocabulary.frame import frame_of_post_processor
from t5like.errors import UserError

REGISTERED = {"bert": "BertTokenizer", "t5": "T5Tokenizer", "mt5": "T5Tokenizer", "umt5": ""}
"""Class of a model type whose folder names none; umt5 has the generic one, whatever its folder names."""

USUAL = {"GPT2Tokenizer": dict.fromkeys(("bos", "eos"), "<|endoftext|>")}
"""Names that a class gives to pieces that its folder does not name; other classes give those of `OTHERS`."""
OTHERS = {"bos": "<s>", "eos": "</s>", "cls": CLS, "sep": SEP}


def frame_of(folder: pathlib.Path, config: Mapping[str, Any], vocabulary: Vocabulary) -> Frame:
    """The frame of a text by the tokenizer of a folder whose config.json is `config`.

    Raises:
      UserError: a tokenizer.json whose post-processor names pieces that it does not number.
    """
    names = special_names(folder)
    settings, described = (json_object(folder / f"{name}.json") for name in ("tokenizer_config", "tokenizer"))
    kind = _class(config, settings)
    names = OTHERS | USUAL.get(kind, {}) | names
    match kind:
        case "BertTokenizer":
            return Frame(_numbers(vocabulary, names["cls"]), _numbers(vocabulary, names["sep"]))
        case "T5Tokenizer" | "ByT5Tokenizer":
            return Frame((), _numbers(vocabulary, names["eos"]))
    if described:
        try:
            return frame_of_post_processor(described.get("post_processor"))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'tokenizer.json'} has a damaged post_processor: {error!r} is missing."
            ) from None
    flags = (("add_bos_token", "bos"), ("add_eos_token", "eos"))
    return Frame(*(_numbers(vocabulary, names[key]) if settings.get(flag) else () for flag, key in flags))


def _class(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    kind = config.get("model_type", "")
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or REGISTERED.get(kind) or ""
    return "" if REGISTERED.get(kind) == "" else str(named).removesuffix("Fast")


def _numbers(vocabulary: Vocabulary, name: str) -> tuple[int, ...]:
    """The number of a piece, or nothing where there is no such piece."""
    found = vocabulary.special.get(name)
    rows = range(vocabulary.pieces.size) if found is None else (found,)
    return next(((number,) for number in rows if vocabulary.name(number) == name), ())


def json_object(file: pathlib.Path) -> dict[str, Any]:
    """A file's JSON object, empty where there is no file.

    Raises:
      UserError: it holds something else.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a JSON object.")
    return content
