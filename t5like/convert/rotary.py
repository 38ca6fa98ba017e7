"""Rotary positions in a config.json: transformers 5's rope_parameters, and 4's rope_theta and rope_scaling.

transformers 5    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}
transformers 4    {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, ...}}; "type" before 4.43
"""

from typing import Any

from t5like.config import Model
from t5like.convert.settings import ABSENT, Settings
from t5like.errors import UserError

SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3"}
"""transformers' `rope_type` -> `model.rotary_scaling`."""
NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""Fields that each type must have; transformers has no defaults for them."""
ORIGINAL = "original_max_position_embeddings"
ROTARY = ("rope_parameters", "rope_theta", "rope_scaling", ORIGINAL, "partial_rotary_factor")
"""All fields on rotary positions, which older and newer versions of transformers name differently."""


def rotary_fields(settings: Settings, longest: int) -> dict[str, Any]:
    """The `rotary_*` fields of `Model`; `longest` is the value of max_position_embeddings.

    As in transformers rope_scaling wins over rope_parameters, and `original_max_position_embeddings` beside them over
    one among them; where neither has it, it is `longest`.

    Raises:
      UserError: a type that we do not have, or one whose fields are missing.
    """
    given = settings.get("rope_scaling", {}) or settings.get("rope_parameters", {})
    rope = Settings(given, f"{settings.file}, rope_parameters")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in SCALINGS:
        raise UserError(f"{settings.file}: rope_type={kind!r} is not supported, only {', '.join(SCALINGS)}.")
    for fields in (rope, settings):
        fields.require("partial_rotary_factor", 1.0)
    _require_needed(settings, rope, kind)
    base = float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0)))
    found: dict[str, Any] = {"rotary_base": base, "rotary_scaling": SCALINGS[kind]}
    if kind != "default":
        found["rotary_factor"] = float(rope.get("factor", 1.0))
    if kind == "llama3":
        found["rotary_low"] = float(rope.get("low_freq_factor", 1.0))
        found["rotary_high"] = float(rope.get("high_freq_factor", 4.0))
        found["rotary_length"] = settings.size(ORIGINAL, rope.size(ORIGINAL, longest))
    return found


def rotary_settings(model: Model) -> dict[str, Any]:
    """The fields of config.json for a model's rotary positions, as transformers 5 and as 4 write them."""
    types = {ours: theirs for theirs, ours in SCALINGS.items()}
    scaling: dict[str, Any] = {"rope_type": types.get(model.rotary_scaling)}
    if model.rotary_scaling != "none":
        scaling["factor"] = model.rotary_factor
    if model.rotary_scaling == "llama3":
        scaling |= {"low_freq_factor": model.rotary_low, "high_freq_factor": model.rotary_high}
        scaling[ORIGINAL] = model.rotary_length
    return {
        "rope_parameters": {"rope_theta": model.rotary_base, **scaling},
        "rope_theta": model.rotary_base,
        "rope_scaling": None if model.rotary_scaling == "none" else scaling,
        ORIGINAL: scaling.get(ORIGINAL, ABSENT),
        "partial_rotary_factor": ABSENT,
    }


def _require_needed(settings: Settings, rope: Settings, kind: str) -> None:
    nested = [name for name, value in rope.fields.items() if isinstance(value, dict)]
    if nested:
        raise UserError(
            f"{rope.file}: positions that differ by the kind of layer ({', '.join(nested)}) are not supported."
        )
    missing = [name for name in NEEDED[kind] if rope.fields.get(name) is None]
    if missing:
        missing += [ORIGINAL] if kind == "llama3" and ORIGINAL not in {**rope.fields, **settings.fields} else []
        raise UserError(
            f"{rope.file}: rope_type={kind!r} needs {', '.join(missing)}, which {'are' if missing[1:] else 'is'} "
            "missing: fetch the original config.json, or add what the model was trained with."
        )
