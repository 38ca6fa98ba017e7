"""A Hugging Face config.json, read strictly: a needed field must be there, and an option that we lack must be off.

transformers keeps defaults out of the file or in it as it pleases, so every `get` names its own, which is the very
class's. An option that would change the numbers and that our models lack is refused by name, never passed over.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from t5like.config import Model
from t5like.errors import UserError
from t5like.json_files import json_object

Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]
Head = Literal["vocabulary", "next_sentence", "sequence", "token", "span", "choice", "none"]
"""As in `Model`."""
Value = TypeVar("Value")
ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
}
ACTIVATIONS |= {"swish": "silu", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh"}
ACTIVATIONS |= {"gelu_python": "gelu", "gelu_python_tanh": "gelu_tanh"}
"""transformers' names of activations -> ours."""
THEIR_ACTIVATION: dict[Activation, str] = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}
ABSENT: Any = object()
"""Value of a field that an exported config.json must not have."""
PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
LABEL_FIELDS = ("id2label", "label2id", "problem_type")
UNREAD = ("quantization_config", "per_layer_config", "pruned_heads", "compression_config")
"""Fields that no model of ours follows, whatever its family; nothing or an empty object in them is no setting."""


class Settings:
    """The fields of a config.json."""

    def __init__(self, fields: Mapping[str, Any], file: str):
        self.fields, self.file = dict(fields), file

    def over(self, defaults: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> "Settings":
        """These settings with a class's defaults for the fields that are missing, and a field's own name for aliases.

        As in transformers an alias, such as `hidden_size` for T5's `d_model`, wins over the name that it stands for.

        Raises:
          UserError: a field that changes the numbers in any family and that we cannot follow.
        """
        for name in UNREAD:
            if self.fields.get(name):
                raise UserError(
                    f"{self.file}: {name}={str(self.fields[name])[:60]} is not supported: fetch the model as it was "
                    "before, without that field."
                )
        renamed = {name: self.fields[alias] for alias, name in (aliases or {}).items() if alias in self.fields}
        kept = {name: value for name, value in self.fields.items() if name not in (aliases or {})}
        return Settings({**defaults, **kept, **renamed}, self.file)

    def get(self, name: str, default: Value) -> Value:
        """A field's value, or the default where it is missing or null; of the default's type.

        Raises:
          UserError: a value of another type.
        """
        value = self.fields.get(name)
        if value is None:
            return default
        wanted = (int, float) if isinstance(default, float) else type(default)
        if default is not None and (
            not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise UserError(f"{self.file}: {name}={value!r} must be of type {type(default).__name__}.")
        return cast(Value, value)

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number above zero.

        Raises:
          UserError: it is missing and has no default, or is no such number.
        """
        value = self.fields.get(name)
        value = default if value is None else value
        if value is None:
            raise UserError(f"{self.file} has no {name!r}, which says how large the model is.")
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise UserError(f"{self.file}: {name}={value!r} must be a whole number above 0.")
        return value

    def require(self, name: str, *allowed: Any) -> None:
        """Raises `UserError` if the field is there with another value than the allowed, which are all we can do."""
        value = self.fields.get(name)
        if value is not None and value not in allowed:
            raise UserError(
                f"{self.file}: {name}={value!r} is not supported, only {' or '.join(map(repr, allowed))}: "
                "the numbers would not be the original's."
            )

    def activation(self, name: str, default: str) -> Activation:
        """Our name of the activation that a field names.

        Raises:
          UserError: one that we do not have.
        """
        self.require(name, *ACTIVATIONS)
        return ACTIVATIONS[self.get(name, default)]

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]:
        """The type to compute in: float32 for what was saved so, or else bfloat16."""
        saved = self.fields.get("dtype") or self.fields.get("torch_dtype") or "float32"
        return "float32" if saved == "float32" else "bfloat16"

    @property
    def architecture(self) -> str:
        """The first class that the folder was saved from, or nothing."""
        named = self.fields.get("architectures") or [""]
        return str(named[0])

    def head(self, classes: Mapping[Head, str]) -> Head:
        """The head of the class that the folder was saved from; of the vocabulary, where it names none.

        Raises:
          UserError: a class that is none of `classes`, head -> class.
        """
        self.require("architectures", *([name] for name in classes.values()))
        heads: dict[str, Head] = {name: head for head, name in classes.items()}
        return heads.get(self.architecture, "vocabulary")

    @property
    def labels(self) -> int:
        """The number of labels, as `id2label` or `num_labels` say it; transformers' default is 2."""
        names = self.fields.get("id2label")
        return len(names) if isinstance(names, dict) and names else self.size("num_labels", 2)

    def labelled(self, head: Head) -> dict[str, Any]:
        """The fields of `Model` that say how many labels a row or a token has, and of what kind.

        Raises:
          UserError: a problem type that transformers does not have.
        """
        if head not in ("sequence", "token"):
            return {}
        if head == "token":
            return {"labels": self.labels}
        self.require("problem_type", *PROBLEMS)
        problem = self.fields.get("problem_type")
        default = "regression" if self.labels == 1 else "single_label_classification"
        return {"labels": self.labels, "problem_type": None if problem == default else problem}


def label_fields(model: Model) -> dict[str, Any]:
    """The fields of config.json for a model's labels, which are named by their numbers."""
    if not model.labels:
        return dict.fromkeys(LABEL_FIELDS, ABSENT)
    names = [f"LABEL_{number}" for number in range(model.labels)]
    numbers = {name: number for number, name in enumerate(names)}
    said = model.head == "sequence" and (model.problem_type or model.labels == 1)
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": numbers,
        "problem_type": model.label_problem if said else ABSENT,
    }


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that an exported config.json has."""
    return {name: value for name, value in fields.items() if value is not ABSENT}


def read_settings(folder: pathlib.Path) -> Settings:
    """The config.json of a folder.

    Raises:
      UserError: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} has no config.json: a Hugging Face folder has one beside its weights.")
    return Settings(json_object(file), str(file))
