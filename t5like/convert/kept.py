"""Files of a Hugging Face folder that a run keeps for its export, since our classes have no fields for them.

They lie in the run's `hugging_face/` as they were, and a run that starts from another takes them over. Fields of the
tokenizer that belong to the original's class, which the exported tokenizer does not have, are written anew.
"""

from collections.abc import Mapping
from typing import Any

from t5like.data.vocabulary.files import NAMED, special_names
from t5like.infer.constraints import FILE, FOLLOWED, FRAMING, TokenConstraints, not_followed
from t5like.json_files import json_object, write_json
from t5like.storage import Path, copy_folder

TOKENIZER = "tokenizer_config.json"
VERBATIM = (FILE, TOKENIZER, "special_tokens_map.json", "chat_template.jinja", "chat_template.json")
TEMPLATES = "additional_chat_templates"
GENERATION = (*FOLLOWED, *FRAMING, "min_length", "do_sample", "early_stopping", "num_beams", "temperature", "top_k")
GENERATION += ("top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size")
"""Fields of generation that config.json had before transformers gave them a file."""
OF_CODE = ("auto_map",)
"""Fields that name code beside the weights, which is neither run nor kept."""
OF_CLASS = ("tokenizer_class", "added_tokens_decoder", "extra_ids", "add_bos_token", "add_eos_token", "backend")
OF_CLASS += ("tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "name_or_path", "is_local")
OF_CLASS += ("init_inputs", "local_files_only", "additional_special_tokens")
"""Fields that tokenizer.json has instead, or that belong to the original's class or folder."""


def keep_files(folder: Path, kept_in: Path, config: Mapping[str, Any], generates: bool) -> list[str]:
    """Copies the files of `folder` to `kept_in`; the result is a line for each field that is lost or not followed.

    Where a model that generates has no generation_config.json, the fields of its config.json become one.
    """
    kept_in.mkdir(parents=True, exist_ok=True)
    for name in VERBATIM:
        if (folder / name).is_file():
            (kept_in / name).write_bytes((folder / name).read_bytes())
    if (folder / TEMPLATES).is_dir():
        copy_folder(folder / TEMPLATES, kept_in / TEMPLATES)
    written = {name: config[name] for name in GENERATION if config.get(name) is not None}
    if generates and written and not (kept_in / FILE).exists():
        write_json(kept_in / FILE, {"_from_model_config": True, **written})
    lost = [name for name in OF_CODE if name in json_object(folder / TOKENIZER)]
    lines = [f"Lost: {TOKENIZER} has {name}, which names code of its own." for name in lost]
    if ignored := not_followed(json_object(kept_in / FILE)):
        listed = ", ".join(f"{name}={value!r}" for name, value in ignored.items())
        lines.append(f"Kept for the export, but not followed by `t5like generate`: {listed} of {FILE}.")
    return lines


def generation_config(kept_in: Path, ids: Mapping[str, int], constraints: TokenConstraints) -> dict[str, Any]:
    """An exported generation_config.json: the original's, with the run's ids where it has none, and the run's ends."""
    ends, kept = list(constraints.ends), json_object(kept_in / FILE)
    own = {name: number for name, number in ids.items() if name not in kept}
    return {**kept, **own, "eos_token_id": ends if ends[1:] else ends[0]}


def tokenizer_config(kept_in: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
    """An exported tokenizer_config.json: the original's fields around those that say how the tokenizer is loaded."""
    kept = json_object(kept_in / TOKENIZER)
    names = {f"{role}_token" for role in NAMED}
    silent = {name for name in names if name in kept and kept[name] is None}
    own = {f"{role}_token": name for role, name in special_names(kept_in).items()}
    fields = {name: value for name, value in kept.items() if name not in (*OF_CLASS, *OF_CODE, *names)}
    if not isinstance(fields.get("extra_special_tokens"), dict):
        fields.pop("extra_special_tokens", None)
    if (kind := str(kept.get("tokenizer_class", ""))).startswith("LlamaTokenizer"):
        fields.setdefault("padding_side", "left")  # its class's default, which the exported class does not have
    if kind.startswith("BertTokenizer"):
        silent |= {"bos_token", "eos_token"} - own.keys()
    always = {name: ours[name] for name in ("tokenizer_class", "additional_special_tokens")}
    return {name: value for name, value in {**ours, **fields, **own, **always}.items() if name not in silent}


def copy_templates(kept_in: Path, target: Path) -> None:
    """Copies the chat templates into an exported folder."""
    for name in VERBATIM[3:]:
        if (kept_in / name).is_file():
            (target / name).write_bytes((kept_in / name).read_bytes())
    if (kept_in / TEMPLATES).is_dir():
        copy_folder(kept_in / TEMPLATES, target / TEMPLATES)
