"""Constraints of answers that a folder's generation_config.json states, by the names that transformers has for them,
and its defaults for options of `t5like generate`.

The file is kept in the run as it was imported, so that what `t5like generate` does not follow is exported again.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypedDict

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from t5like.errors import UserError
from t5like.json_files import Count, json_object, mismatch
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored
from t5like.storage import Path

FILE = "generation_config.json"
FOLLOWED = ("eos_token_id", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "bad_words_ids")
FOLLOWED += ("min_length", "min_new_tokens", "stop_strings")
SEARCHED = ("num_beams", "num_return_sequences", "length_penalty", "early_stopping")
DRAWN = ("temperature", "top_k", "top_p", "min_p", "typical_p")
CHOSEN = ("repetition_penalty", "no_repeat_ngram_size")
"""Fields that are defaults of options: of beams, of sampling, and of both."""
FRAMING = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
"""Fields of token ids that the vocabulary has anyway."""
SILENT = ("transformers_version", "max_length", "max_new_tokens", "use_cache", "return_dict_in_generate")
"""Fields without effect on which token comes next."""


class _Form(TypedDict, total=False):
    """The fields that count here; null is as good as none."""

    eos_token_id: int | list[int] | None
    forced_bos_token_id: int | list[int] | None
    forced_eos_token_id: int | list[int] | None
    suppress_tokens: list[int] | None
    bad_words_ids: list[list[Count]] | None
    min_length: Count | None
    min_new_tokens: Count | None
    stop_strings: str | list[str] | None
    do_sample: bool | None
    num_beams: Count | None
    num_return_sequences: Count | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    temperature: float | None
    top_k: Count | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    no_repeat_ngram_size: Count | None


class TokenConstraints(NamedTuple):
    """Tokens that end an answer, those that it never has, and its forced first and last one."""

    ends: tuple[int, ...]
    never: tuple[int, ...] = ()
    first: int | None = None
    """For models with an encoder: the token after the start."""
    last: int | None = None
    """The last token of an answer that has not ended when it is as long as it may be."""
    sequences: tuple[tuple[int, ...], ...] = ()
    """Sequences of two tokens or more that no answer has, and of which none is completed behind a decoder's prompt."""
    min_length: int = 0
    """Tokens before the end, where those of a decoder's prompt, or the start of an answer, count too."""


def constraints_of(restored: Restored) -> TokenConstraints:
    """Ends of a run's answers, and tokens that are forced or forbidden in them."""
    return read_constraints(restored.run, restored.vocabulary.eos, not restored.run.import_record.is_file())


def read_constraints(run: RunDirectory, eos: int, trained: bool) -> TokenConstraints:
    """Read the constraints that a run keeps; `eos`, with which a run that was trained here ends, ends answers too."""
    file = run.hugging_face / FILE
    kept = read_generation(file)
    ends = numbers_of(kept.get("eos_token_id"))
    ends = ends if ends and not trained else tuple(dict.fromkeys((eos, *ends)))
    banned = [tuple(words) for words in kept.get("bad_words_ids") or []]
    return TokenConstraints(
        ends,
        # transformers leaves out those that would forbid every end.
        (*numbers_of(kept.get("suppress_tokens")), *(w[0] for w in banned if len(w) == 1 and w[0] not in ends)),
        min(numbers_of(kept.get("forced_bos_token_id")), default=None),
        min(numbers_of(kept.get("forced_eos_token_id")), default=None),
        tuple(words for words in banned if len(words) > 1),
        int(kept.get("min_length") or 0),
    )


def read_generation(file: Path) -> dict[str, Any]:
    """The fields of a generation_config.json; none where there is no file.

    Raises:
      UserError: it is damaged, or a field that counts here has a value of another type.
    """
    kept = json_object(file)
    if wrong := mismatch(kept, _Form):
        raise UserError(f"{file}: {wrong}, which cannot be: mend it there.")
    return kept


def read_defaults(run: RunDirectory) -> dict[str, Any]:
    """The values that a run's generation_config.json has for options of `t5like generate`, by their names; those that
    change nothing are left out, and those of sampling where `do_sample` is not true.

        {"do_sample": true, "top_p": 0.9, "num_beams": 4}  gives  {"temperature": 1.0, "top_p": 0.9, "num_beams": 4}
    """
    file = run.hugging_face / FILE
    return defaults_of(read_generation(file))


def defaults_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_defaults`, of the fields of a generation_config.json."""
    samples = bool(kept.get("do_sample"))
    beams = SEARCHED if (kept.get("num_beams") or 1) > 1 else ()
    names = (*beams, *(DRAWN if samples else ()), *CHOSEN, "min_new_tokens")
    found = {name: kept[name] for name in names if kept.get(name) not in NEUTRAL.get(name, (None,))}
    if "early_stopping" in found:
        found["early_stopping"] = str(found["early_stopping"]).lower()  # true, false or never
    if samples:
        found.setdefault("temperature", 1.0)
        if kept.get("top_k") is None:
            found["top_k"] = 50  # transformers' own default
    strings = kept.get("stop_strings") or ()
    return found | ({"stop": (strings,) if isinstance(strings, str) else tuple(strings)} if strings else {})


class Sequences(NamedTuple):
    """Sequences of tokens that no answer has: all but the last token of each, the last of these first, -1 behind the
    first, and the last token.

        [[5, 6, 7], [8, 9]]  gives  before [[6, 5], [8, -1]], last [7, 9]
    """

    before: Int[Array, "sequences longest"]
    last: Int[Array, " sequences"]


def sequences_of(constraints: TokenConstraints) -> Sequences:
    """The sequences of `constraints.sequences`, perhaps none."""
    longest = max(map(len, constraints.sequences), default=2) - 1
    before = np.full((len(constraints.sequences), longest), -1, np.int32)
    for row, words in enumerate(constraints.sequences):
        before[row, : len(words) - 1] = words[-2::-1]
    last = np.array([words[-1] for words in constraints.sequences], np.int32)
    return Sequences(jnp.asarray(before), jnp.asarray(last))


def completed(
    sequences: Sequences,
    tokens: Int[Array, "rows slots"],
    starts: Int[Array, " rows"],
    slot: Int[Array, ""],
    vocab: int,
) -> Bool[Array, "rows vocab"]:
    """The tokens that would complete one of the sequences in each row, whose tokens are the columns `starts` to `slot`
    - 1, as NoBadWordsLogitsProcessor of transformers has it."""
    count, longest = sequences.before.shape
    if not count:
        return jnp.zeros((tokens.shape[0], vocab), bool)
    places = slot - 1 - jnp.arange(longest, dtype=jnp.int32)
    recent = jnp.take(tokens, jnp.maximum(places, 0), axis=1)
    recent = jnp.where(places[None] >= starts[:, None], recent, -2)  # [rows, longest], the last token first
    same = (recent[:, None] == sequences.before[None]) | (sequences.before < 0)[None]
    rows = jnp.arange(tokens.shape[0])[:, None]
    return jnp.zeros((tokens.shape[0], vocab), bool).at[rows, sequences.last[None]].max(same.all(-1))


def numbers_of(value: object) -> tuple[int, ...]:
    """The token ids of a field: 2 -> (2,), [2, 3] -> (2, 3), None -> ()."""
    return tuple(n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int) and n >= 0)


def not_followed(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a generation_config.json that would change answers and that `t5like generate` does not follow."""
    quiet = (*FOLLOWED, *FRAMING, *SILENT, *SEARCHED, *DRAWN, *CHOSEN, "do_sample")
    found = {name: value for name, value in kept.items() if name not in quiet and not name.startswith(("_", "output_"))}
    return {name: value for name, value in found.items() if value not in NEUTRAL.get(name, (None,))}


NEUTRAL: dict[str, tuple[Any, ...]] = dict.fromkeys(("num_beams", "num_return_sequences"), (None, 1))
NEUTRAL |= dict.fromkeys(("top_p", "repetition_penalty", "length_penalty", "typical_p"), (None, 1.0))
NEUTRAL |= dict.fromkeys(("encoder_repetition_penalty",), (None, 1.0))
NEUTRAL |= dict.fromkeys(("top_k", "min_p", "no_repeat_ngram_size", "min_new_tokens"), (None, 0))
NEUTRAL |= dict.fromkeys(("encoder_no_repeat_ngram_size", "epsilon_cutoff", "eta_cutoff"), (None, 0))
NEUTRAL |= {"num_beam_groups": (None, 0, 1), "diversity_penalty": (None, 0), "early_stopping": (None, False)}
NEUTRAL |= {"remove_invalid_values": (None, False), "renormalize_logits": (None, False)}
"""Values that change nothing."""
