"""Tokenizer files of a vocabulary, which transformers loads without code of ours and with the same token ids.

transformers 5 takes tokenizer.json as it is only for its generic class: the classes of families build their tokenizers
anew from the pieces and lose normalisers and added tokens. So tokenizer_config.json names the generic one. Beside it
lie the files of the vocabulary's own kind, for older versions and for our way back (`tokenizer.py`).

`fast_tokenizer.py` names the cases in which equal ids are impossible.
"""

import json
import pathlib
from typing import Any

import tokenizers
from tokenizers import processors

from t5like.config import CLS, ROLES, Model
from t5like.convert.fast_tokenizer import fast_tokenizer
from t5like.convert.kept import TOKENIZER, copy_templates, tokenizer_config
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.data.vocabulary.frame import frame_of_post_processor
from t5like.json_files import write_json
from t5like.storage import Path


def write_tokenizer(
    vocabulary: Vocabulary, model: Model, frame: Frame, folder: pathlib.Path, kept: Path | None = None
) -> None:
    """Writes the files of `vocabulary` into `folder`, with the frame of a text and, of an imported run, the fields and
    chat templates that lie in `kept`.

    Raises:
      UserError: a SentencePiece model that a tokenizer.json cannot hold.
    """
    tokenizer = fast_tokenizer(vocabulary)
    described = json.loads(tokenizer.to_str())
    if frame_of_post_processor(described["post_processor"]) != frame:
        tokenizer.post_processor = _framing(tokenizer, frame)
        described = json.loads(tokenizer.to_str())
    if vocabulary.pieces.file == "tokenizer.json":
        own = json.loads(vocabulary.pieces.serialized)
        described |= {name: own.get(name) for name in ("truncation", "padding")}
    write_json(folder / "tokenizer.json", described)
    _write_own_files(vocabulary, tokenizer, folder)
    settings = _settings(vocabulary, model)
    write_json(folder / TOKENIZER, settings if kept is None else tokenizer_config(kept, settings))
    if kept is not None:
        copy_templates(kept, folder)


def _framing(tokenizer: tokenizers.Tokenizer, frame: Frame) -> processors.TemplateProcessing:
    """The frame as a post-processor; a pair of texts has the start once, and the end behind both.

    Frame((101,), (102,)) -> "[CLS] $A [SEP]" and "[CLS] $A [SEP] $B:1 [SEP]:1"
    """
    before, behind = frame
    names = {token: str(tokenizer.id_to_token(token)) for token in (*before, *behind)}
    first, last = [names[token] for token in before], [names[token] for token in behind]
    second = "1" if before and behind else "0"  # BERT's second text is of the other type
    return processors.TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, f"$B:{second}", *(f"{name}:{second}" for name in last)],
        special_tokens=[(name, token) for token, name in names.items()],
    )


def _settings(vocabulary: Vocabulary, model: Model) -> dict[str, Any]:
    """The fields of tokenizer_config.json."""
    control, special = vocabulary.pieces.control, vocabulary.special
    names = {"eos_token": vocabulary.name(control.eos)}
    names |= {} if control.pad is None else {"pad_token": vocabulary.name(control.pad)}
    names |= {} if control.unk == control.eos else {"unk_token": vocabulary.name(control.unk)}
    if model.family == "decoder" or control.start not in (control.pad, special.get(CLS)):
        names["bos_token"] = vocabulary.name(control.start)
    names |= {f"{role}_token": vocabulary.written(role) for role in ROLES if vocabulary.role(role) is not None}
    further = [name for name, _ in sorted(special.items(), key=lambda item: item[1]) if name not in names.values()]
    types = ["token_type_ids"] if model.token_types else []
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "additional_special_tokens": further,
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **({"model_max_length": model.max_positions} if model.max_positions else {}),
    }


def _write_own_files(vocabulary: Vocabulary, tokenizer: tokenizers.Tokenizer, folder: pathlib.Path) -> None:
    """Writes the files that tokenizers of the vocabulary's kind had before tokenizer.json."""
    pieces = vocabulary.pieces
    if pieces.file == "spiece.model":
        (folder / "spiece.model").write_bytes(pieces.serialized)
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "WordPiece":
        names = {number: name for name, number in tokenizer.get_vocab().items()}
        rows = [names.get(number, f"[unused{number}]") for number in range(max(names) + 1)]
        (folder / "vocab.txt").write_text("".join(f"{name}\n" for name in rows), "utf-8")
    elif pieces.file == "tokenizer.json" and not pieces.strips_after and model["type"] == "BPE":
        ids = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
        write_json(folder / "vocab.json", ids, indent=None)
        merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", "utf-8")
