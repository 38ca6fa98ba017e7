"""Constraints of answers that a folder's generation_config.json states, by the names that transformers has for them.

The file is kept in the run as it was imported, so that what `t5like generate` does not follow is exported again.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored

FILE = "generation_config.json"
FOLLOWED = ("eos_token_id", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "bad_words_ids")
FRAMING = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
"""Fields of token ids that the vocabulary has anyway."""
SILENT = ("transformers_version", "max_length", "max_new_tokens", "use_cache", "return_dict_in_generate")
"""Fields without effect on which token comes next."""


class Constraints(NamedTuple):
    """Tokens that end an answer, those that it never has, and its forced first and last one."""

    ends: tuple[int, ...]
    never: tuple[int, ...] = ()
    first: int | None = None
    """For models with an encoder: the token after the start."""
    last: int | None = None
    """The last token of an answer that has not ended when it is as long as it may be."""


def constraints_of(restored: Restored) -> Constraints:
    """Ends of a run's answers, and tokens that are forced or forbidden in them."""
    return read_constraints(restored.run, restored.vocabulary.eos, not restored.run.import_record.is_file())


def read_constraints(run: RunDirectory, eos: int, trained: bool) -> Constraints:
    """Read the constraints that a run keeps; `eos`, with which a run that was trained here ends, ends answers too."""
    file = run.hugging_face / FILE
    kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    ends = numbers_of(kept.get("eos_token_id"))
    single = [words[0] for words in kept.get("bad_words_ids") or [] if len(words) == 1]
    return Constraints(
        ends if ends and not trained else tuple(dict.fromkeys((eos, *ends))),
        (*numbers_of(kept.get("suppress_tokens")), *single),
        min(numbers_of(kept.get("forced_bos_token_id")), default=None),
        min(numbers_of(kept.get("forced_eos_token_id")), default=None),
    )


def numbers_of(value: object) -> tuple[int, ...]:
    """The token ids of a field: 2 -> (2,), [2, 3] -> (2, 3), None -> ()."""
    return tuple(n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int) and n >= 0)


def not_followed(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a generation_config.json that would change answers and that `t5like generate` does not follow."""
    quiet = (*FOLLOWED, *FRAMING, *SILENT)
    found = {name: value for name, value in kept.items() if name not in quiet and not name.startswith(("_", "output_"))}
    found |= {"bad_words_ids": long} if (long := [w for w in kept.get("bad_words_ids") or [] if len(w) > 1]) else {}
    return {name: value for name, value in found.items() if value not in NEUTRAL.get(name, (None,))}


NEUTRAL: dict[str, tuple[Any, ...]] = dict.fromkeys(("num_beams", "num_return_sequences"), (None, 1))
NEUTRAL |= dict.fromkeys(("temperature", "top_p", "repetition_penalty", "length_penalty", "typical_p"), (None, 1.0))
NEUTRAL |= dict.fromkeys(("top_k", "min_length", "no_repeat_ngram_size", "num_beam_groups"), (None, 0))
NEUTRAL |= {"do_sample": (None, False), "early_stopping": (None, False)}
"""Values that change nothing."""
