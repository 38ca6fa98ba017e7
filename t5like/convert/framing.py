"""The tokens that a folder's tokenizer puts around a text, as transformers 5 makes it of the folder's files.

The classes of T5 and BERT have a frame of their own. All others take the post-processor of tokenizer.json, and without
that file `add_bos_token` and `add_eos_token` of tokenizer_config.json.
"""

from collections.abc import Mapping
from typing import Any

from t5like.config import CLS, SEP
from t5like.convert.families import FAMILIES
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.data.vocabulary.files import special_names
from t5like.data.vocabulary.frame import frame_of_post_processor
from t5like.errors import UserError
from t5like.json_files import json_object
from t5like.storage import Path

USUAL = {"GPT2Tokenizer": dict.fromkeys(("bos", "eos"), "<|endoftext|>")}
"""Names that a class gives to special tokens that its folder does not name; other classes give those of `OTHERS`."""
OTHERS = {"bos": "<s>", "eos": "</s>", "cls": CLS, "sep": SEP}


def frame_of(folder: Path, config: Mapping[str, Any], vocabulary: Vocabulary) -> Frame:
    """The frame of a text by the tokenizer of a folder whose config.json is `config`.

    Raises:
      UserError: a tokenizer.json whose post-processor names tokens that it does not number.
    """
    names = special_names(folder)
    settings, described = (json_object(folder / f"{name}.json") for name in ("tokenizer_config", "tokenizer"))
    tokenizer = _class(config, settings)
    names = OTHERS | USUAL.get(tokenizer, {}) | names
    match tokenizer:
        case "BertTokenizer":
            return Frame(_ids(vocabulary, names["cls"]), _ids(vocabulary, names["sep"]))
        case "T5Tokenizer" | "ByT5Tokenizer":
            return Frame((), _ids(vocabulary, names["eos"]))
    if described:
        try:
            return frame_of_post_processor(described.get("post_processor"))
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'tokenizer.json'} has a damaged post_processor: {error!r} is missing."
            ) from None
    flags = (("add_bos_token", "bos"), ("add_eos_token", "eos"))
    return Frame(*(_ids(vocabulary, names[key]) if settings.get(flag) else () for flag, key in flags))


def _class(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The class of a folder's tokenizer without the ending `Fast`; empty for the generic one."""
    usual = usual_tokenizer(config)
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or usual or ""
    return "" if usual == "" else str(named).removesuffix("Fast")


def usual_tokenizer(config: Mapping[str, Any]) -> str | None:
    """The class of the tokenizer that a config.json's model type has where its folder names none, if there is one."""
    kind = config.get("model_type", "")
    return FAMILIES[kind].TOKENIZERS.get(kind) if kind in FAMILIES else None


def _ids(vocabulary: Vocabulary, name: str) -> tuple[int, ...]:
    """The id of a token, or nothing where there is no such token."""
    found = vocabulary.special.get(name)
    rows = range(vocabulary.pieces.size) if found is None else (found,)
    return next(((number,) for number in rows if vocabulary.name(number) == name), ())
