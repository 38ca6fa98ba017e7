"""Which family a folder or a model is of, and the tensors of a folder by their present names.

A family is a module with the names that `Family` lists. A new one costs that module and its lines in `FAMILIES`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from t5like.config import Model
from t5like.convert import bert, gpt2, llama, marian, t5
from t5like.convert.layout import Places, Tensors, names_of
from t5like.convert.settings import Settings
from t5like.errors import UserError, did_you_mean


@runtime_checkable
class Family(Protocol):
    """What the module of a family has."""

    @property
    def CLASSES(self) -> Mapping[str, Mapping[str, str]]:  # noqa: N802
        """Model type -> head -> class of transformers."""
        ...

    @property
    def ALIASES(self) -> Mapping[str, str]:  # noqa: N802
        """Second name of a field of config.json -> its own."""
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

    def places(self, model: Model) -> Places: ...

    def settings_of(self, model: Model, kind: str) -> dict[str, Any]: ...

    def kinds(self, model: Model) -> list[str]: ...

    def canonical(self, name: str, model: Model) -> str: ...

    def copies(self, model: Model) -> dict[str, str]: ...

    def repeated(self, model: Model) -> dict[str, str]: ...

    def unused(self, name: str, model: Model) -> str | None: ...


MODULES: tuple[Family, ...] = (t5, bert, gpt2, llama, marian)
FAMILIES: dict[str, Family] = {kind: module for module in MODULES for kind in module.CLASSES}
"""The module of each `model_type`."""
RECORD = "import.json"
"""File of a run directory that says what the run was imported from, and what was left out."""


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


def kind_of(model: Model, asked: str = "", before: str = "") -> str:
    """The model type under which a model can be exported: the one asked for, the one it had before, or the likeliest.

    Raises:
      UserError: no family has this architecture, or not the one asked for.
    """
    possible = [kind for module in MODULES for kind in module.kinds(model)]
    if asked and asked not in possible:
        raise UserError(
            f"--type {asked!r} has another architecture than this model; it can be {' or '.join(possible) or 'none'}."
        )
    if not possible:
        raise UserError(
            f"No model of transformers has this architecture ({model.family}, positions {model.positions!r}, norm "
            f"{model.norm!r} {model.norm_position!r}, gated {model.gated}, bias {model.bias}, scale_attention "
            f"{model.scale_attention}, head {model.head!r}): take one of `t5like architectures` to export it."
        )
    return asked or (before if before in possible else possible[0])


class Named:
    """The tensors of a folder by their present names (`layout.Tensors`)."""

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
    tensors: Named, family: Family, model: Model, shapes: Mapping[str, tuple[int, ...]], ignored: Collection[str] = ()
) -> dict[str, str]:
    """Each tensor that fills no parameter, with the reason, by its name in the folder.

    Raises:
      UserError: a tensor that the family does not know, or a copy that differs from what it is a copy of.
    """
    places, copies = family.places(model), family.copies(model)
    used = {name for path, shape in shapes.items() for name in names_of(path, places[path], shape)}
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
