"""The families of transformers that we read and write, and the tensors of a folder by their present names.

A family is a module with the names that `Family` lists. A new one costs that module, its name in `MODULES` and a golden
folder.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from t5like.config import Model
from t5like.convert import bert, gpt2, llama, marian, t5
from t5like.convert.layout import TensorMappings, Tensors, names_of
from t5like.convert.settings import Head, Settings
from t5like.errors import UserError, did_you_mean


@runtime_checkable
class Family(Protocol):
    """The names that the module of a family has.

    `model_of` and `settings_of` are the two ways of a config.json, and `tensor_mappings` both ways of the weights. A
    model can be exported where the one way of config.json gives back what the other wrote (`kinds.py`).
    """

    @property
    def CLASSES(self) -> Mapping[str, Mapping[Head, str]]:  # noqa: N802
        """Model type -> head -> class of transformers."""
        ...

    @property
    def ALIASES(self) -> Mapping[str, str]:  # noqa: N802
        """Second name of a field of config.json -> its own."""
        ...

    @property
    def TOKENIZERS(self) -> Mapping[str, str]:  # noqa: N802
        """Model type -> class of the tokenizer where a folder names none; empty: the generic one, always."""
        ...

    @property
    def DROPOUTS(self) -> Mapping[str, float | None]:  # noqa: N802
        """Each dropout of config.json -> its default."""
        ...

    @property
    def TIES(self) -> Mapping[str, str]:  # noqa: N802
        """Output tensor -> embedding, where the two are tied if they are equal, whatever config.json says."""
        ...

    def model_of(self, settings: Settings, names: Collection[str]) -> Model: ...

    def tensor_mappings(self, model: Model) -> TensorMappings: ...

    def settings_of(self, model: Model, kind: str) -> dict[str, Any]: ...

    def canonical(self, name: str, model: Model) -> str:
        """The present name of a tensor that older versions named otherwise."""
        ...

    def copies(self, model: Model) -> dict[str, str]:
        """Tensors that some version stores twice -> the originals."""
        ...

    def repeated(self, model: Model) -> dict[str, str]:
        """Tensors that an export stores a second time, under the name that other versions read -> the first."""
        ...

    def unused(self, name: str, model: Model) -> str | None:
        """The reason for which a tensor fills no parameter, if it is known."""
        ...


MODULES: tuple[Family, ...] = (t5, bert, gpt2, llama, marian)
FAMILIES: dict[str, Family] = {kind: module for module in MODULES for kind in module.CLASSES}
"""The module of each `model_type`."""
RECORD = "import.json"
"""File of a run directory that names the origin of an import and the tensors that were left out."""


def family_of(settings: Settings) -> Family:
    """The family that a config.json names.

    Raises:
      UserError: it names none, or one that is not known.
    """
    kind = settings.get("model_type", "")
    if kind not in FAMILIES:
        raise UserError(f"{settings.file}: there is no model_type {kind!r} here{did_you_mean(kind, FAMILIES)}")
    return FAMILIES[kind]


def model_in(settings: Settings, tensors: Tensors) -> Model:
    """The model that a config.json and the tensors beside it describe.

    Raises:
      UserError: a field that is damaged or that we cannot follow.
    """
    family, names = family_of(settings), set(tensors.names())
    for output, embedding in family.TIES.items():
        if {output, embedding} <= names and tensors.shape(output) == tensors.shape(embedding):
            same = np.array_equal(tensors.read(output), tensors.read(embedding), equal_nan=True)
            names -= {output} if same else set()
    return family.model_of(settings, names)


class NamedTensors:
    """The tensors of a folder by their present names (`layout.Tensors`).

    Of a tensor that is there under the name of its copy alone, that copy takes the original's name.
    """

    def __init__(self, tensors: Tensors, family: Family, model: Model):
        self._tensors = tensors
        self._stored = {family.canonical(name, model): name for name in tensors.names()}
        for copy, original in family.copies(model).items():
            if copy in self._stored and original not in self._stored:
                self._stored[original] = self._stored.pop(copy)

    def names(self) -> Iterable[str]:
        return self._stored.keys()

    def stored(self, name: str) -> str:
        """The name that a tensor has in the folder."""
        return self._stored[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(self._stored[name])

    def read(self, name: str) -> np.ndarray:
        return self._tensors.read(self._stored[name])


def unused_tensors(
    tensors: NamedTensors,
    family: Family,
    model: Model,
    shapes: Mapping[str, tuple[int, ...]],
    ignored: Collection[str] = (),
) -> dict[str, str]:
    """Each tensor that fills no parameter, with the reason, by its name in the folder.

    Raises:
      UserError: a tensor that the family does not know, or a copy that differs from what it is a copy of.
    """
    mappings, copies = family.tensor_mappings(model), family.copies(model)
    used = {name for path, shape in shapes.items() for name in names_of(mappings[path], shape)}
    reasons, unknown = {}, []
    for name in sorted(set(tensors.names()) - used):
        stored = tensors.stored(name)
        if name in copies:
            same = tensors.shape(name) == tensors.shape(copies[name])
            if not (same and np.array_equal(tensors.read(name), tensors.read(copies[name]), equal_nan=True)):
                if reason := family.unused(name, model):
                    reasons[stored] = reason
                    continue
                raise UserError(
                    f"The tensor {stored!r} should be a copy of {copies[name]!r}, since config.json ties the two, but "
                    "it differs: check tie_word_embeddings there."
                )
            reasons[stored] = f"a copy of {copies[name]}"
        elif reason := family.unused(name, model):
            reasons[stored] = reason
        elif stored in ignored:
            reasons[stored] = "named by --ignore"
        else:
            unknown.append(stored)
    if unknown:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        raise UserError(
            f"The tensor {unknown[0]!r}{more} of the folder has no place in this model, so the numbers may not be the "
            "original's: if that is as it should be, name each with --ignore."
        )
    return reasons
