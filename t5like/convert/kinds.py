"""The model types of transformers under which a model can be exported.

No list says what a family lacks. Instead the config.json of an export is read back as an import reads it: a model type
fits if the same model comes back, in every field of `Model` but those of `FREE`. So a new field of `Model` is refused
by each family until that family writes and reads it.
"""

from typing import Any, NamedTuple

from t5like.config import Model
from t5like.config.conditions import conditions, effective
from t5like.convert.families import FAMILIES
from t5like.convert.settings import Settings, present
from t5like.errors import UserError, did_you_mean

FREE = ("dtype", "remat", "attention", "dropout", "embedding_deviation", "initializer_factor")
"""Fields of `Model` that say how given parameters are computed with, trained or first drawn, not what comes out."""
LIKELIEST_FROM = {"mt5": 200_000}
"""Rows of the vocabulary from which on a model type is the likeliest of those that fit."""
UNREADABLE = 3
"""Differing fields for which a config.json that no import can read counts, in the choice of the nearest model type."""


HEADS = (
    "`t5like predict` and `t5like.load` give the scores of its head; a BERT with such a head can be exported, and a T5 "
    "or a GPT that was fine-tuned without --head and writes the answer."
)
"""The end of the sentence on a model of which only the head is at fault."""


class Misfit(NamedTuple):
    """The reason why a model type does not fit, as the end of a sentence, and the number of fields that differ."""

    fields: int
    reason: str


def kind_of(model: Model, asked: str = "", before: str = "") -> str:
    """The model type to export a model as: the one asked for, the one it had before, or the likeliest that fits.

    Raises:
      UserError: no model type has this architecture, or not the one asked for.
    """
    if asked and asked not in FAMILIES:
        raise UserError(f"--type {asked!r} is no model type of ours{did_you_mean(asked, FAMILIES)}")
    misfits = {kind: reason for kind in FAMILIES if (reason := misfit(model, kind))}
    fitting = [kind for kind in FAMILIES if kind not in misfits]
    fitting.sort(key=lambda kind: model.vocab < LIKELIEST_FROM.get(kind, model.vocab + 1))
    if asked in misfits:
        raise UserError(
            f"--type {asked!r} has another architecture than this model: it {misfits[asked].reason}; the model can be "
            f"{' or '.join(fitting) or 'none'}."
        )
    if not fitting:
        nearest = min(misfits, key=lambda kind: misfits[kind].fields)
        raise UserError(
            f"No model of transformers has this architecture: the nearest, {nearest}, {misfits[nearest].reason}. "
            + (HEADS if _lacks_head(model, nearest) else "Take one of `t5like architectures` to export it.")
        )
    return asked or (before if before in fitting else fitting[0])


def _lacks_head(model: Model, kind: str) -> bool:
    """True if a model type fits but for its head."""
    without = Model(**effective(Model, vars(model) | {"head": "none"}))
    return model.head not in FAMILIES[kind].CLASSES[kind] and not misfit(without, kind)


def misfit(model: Model, kind: str) -> Misfit | None:
    """The fields in which a model that is exported as `kind` would come back otherwise; None where it fits."""
    try:
        theirs = read_back(model, kind)
    except UserError as error:
        return Misfit(UNREADABLE, f"cannot have it ({str(error).rstrip('.')})")
    found = differences(model, theirs)
    if not found:
        return None
    if model.family != theirs.family:
        others = {name: values for name, values in found.items() if not name.endswith("coder_layers")}
        found = {"family": (model.family, theirs.family), **others}
    possible = {"head": " or ".join(map(repr, FAMILIES[kind].CLASSES[kind]))}
    told = [f"{name}={possible.get(name, repr(there))} (here {here!r})" for name, (here, there) in found.items()]
    *most, last = told
    return Misfit(len(found), f"has {', '.join(most)}{' and ' if most else ''}{last}")


def read_back(model: Model, kind: str) -> Model:
    """The model that an import would make of an export of `model` as `kind`.

    Raises:
      UserError: the config.json that the export would write cannot be read.
    """
    family = FAMILIES[kind]
    heads = family.CLASSES[kind]
    loaded_by = heads.get(model.head, next(iter(heads.values())))
    written = present(family.settings_of(model, kind)) | {"model_type": kind, "architectures": [loaded_by]}
    # No size is 0: without it the family's own default comes back, which says what the model lacks.
    fields = {name: value for name, value in written.items() if value != 0 or isinstance(value, bool)}
    tensors = {mapping.name.format(layer=0) for mapping in family.tensor_mappings(model).values()}
    return family.model_of(Settings(fields, f"the config.json of {kind}"), tensors)


def differences(ours: Model, theirs: Model) -> dict[str, tuple[Any, Any]]:
    """Each field in which two models differ and that changes their numbers, with both values.

    A field that has an effect only beside another, such as `labels` beside `head`, is left out where that one differs.
    """
    here, there = decisive(ours), decisive(theirs)
    found = {name: (here[name], there[name]) for name in here if name in there and here[name] != there[name]}
    beside = {name: condition.field for name, condition in conditions(type(ours)).items()}
    return {name: values for name, values in found.items() if beside.get(name) not in found}


def decisive(model: Model) -> dict[str, Any]:
    """The fields that decide a model's numbers, without those that have no effect beside the others.

    Those that stand for other fields, such as `bias` for `mlp_bias`, are resolved.
    """
    fields = {**vars(model), "kv_heads": model.key_heads}
    fields |= {f"{part}_bias": model.biased(part) for part in ("qkv", "out", "mlp")}
    idle = [*FREE, "bias"]
    idle += [] if model.predicts_pieces else ["tied", "scale_logits"]
    idle += [] if model.positions == "learned" else ["max_positions"]
    idle += ["pooling"] if model.head == "none" and not model.pooler else []
    if model.head == "sequence":
        fields["problem_type"] = model.label_problem
    return {name: value for name, value in fields.items() if name not in idle}
