"""The objectives in one table: all that the package must know of each kind, beside the function that makes its rows.

A new objective is a line here, its name in `Objective.kind`, and a function in `t5like.data.objectives`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from t5like.config.checks import require
from t5like.config.vocabulary import FIM, Role

if TYPE_CHECKING:
    from t5like.config.data import Data
    from t5like.config.objective import Objective


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """A kind of objective. Functions take the settings; defaults are those of a text that stays as it is."""

    family: Literal["encoder-decoder", "decoder", "encoder"]
    """Family of the models that learn it."""
    parts: int = 1
    """Parts of a document: two are an input and its target."""
    by_document: bool = False
    """True if an example is a document, or a cut of one, even where `data.documents` is False."""
    packs: bool = True
    """True if examples of documents may share a row."""
    sentence_pairs: bool = False
    """True if an example is two segments, runs of sentences between CLS and SEP, the second perhaps of another
    document."""
    head: str = ""
    """Head of the model that learns a label of each row, which no other objective has; empty where rows have none."""
    answers: bool = False
    """True if targets are answers, of which the share that is right as a whole is measured."""
    cut_in_two: bool = False
    """True if the pack table cuts each text in two, so that the lengths of both parts are packed."""
    draws_lengths: "Callable[[Objective], bool] | None" = None
    """True if an example's tokens in a stack depend on random choices (a denoiser, a cut, an order); None: never."""
    roles: tuple[Role, ...] = ()
    """Roles of special tokens that the vocabulary must have."""
    special_tokens: "Callable[[Objective], tuple[str, ...]]" = lambda objective: ()
    """Names of further special tokens that it must have."""
    window: "Callable[[Data], int]" = lambda data: data.length
    """Raw tokens of a window of running text, and the most of a document."""
    targets: "Callable[[Data], int]" = lambda data: data.target_length or data.length
    """Tokens of the decoder's row, where there is an encoder as well."""
    sentinels: "Callable[[Data], int]" = lambda data: 0
    """The most sentinels in an example."""
    check: "Callable[[Data], None]" = lambda data: None
    """Raise `UserError` for settings that do not suit it."""


def _need_denoisers(data: "Data") -> None:
    require(
        bool(data.objective.denoisers),
        f"data.objective.kind={data.objective.kind!r} needs data.objective.denoisers: t5like.config.UL2 holds the "
        "paper's seven.",
    )


def _need_text_between_spans(data: "Data") -> None:
    objective = data.objective
    lengths = objective.span_lengths(data.length)
    require(
        round(lengths.noise / objective.mean_span) <= lengths.raw - lengths.noise,
        f"data.objective.density={objective.density} and data.objective.mean_span={objective.mean_span} leave no text "
        "between the spans: lower the density or raise the mean.",
    )


def _need_target_length(data: "Data") -> None:
    require(
        data.target_length is not None,
        f"data.objective.kind={data.objective.kind!r} needs data.target_length, the tokens of the decoder's row.",
    )


def _denoised_window(data: "Data") -> int:
    return data.objective.denoised(data.length)[0].raw


def _denoised_targets(data: "Data") -> int:
    return max(lengths.targets for lengths in data.objective.denoised(data.length))


def _sentinels(data: "Data") -> int:
    objective = data.objective
    pairs = zip(objective.denoisings, objective.denoised(data.length), strict=True)
    return max(lengths.spans if denoising.sentinels else 0 for denoising, lengths in pairs)


_DENOISING = ObjectiveSpec(
    family="encoder-decoder", window=_denoised_window, targets=_denoised_targets, sentinels=_sentinels
)
SPECS = {
    "span_corruption": replace(_DENOISING, check=_need_text_between_spans),
    "ul2": replace(
        _DENOISING,
        draws_lengths=lambda objective: True,
        special_tokens=lambda objective: tuple(sorted({d.mode for d in objective.denoisers if d.mode})),
        check=_need_denoisers,
    ),
    "prefix": ObjectiveSpec(
        family="encoder-decoder",
        cut_in_two=True,
        draws_lengths=lambda objective: True,
        # Packed, two such documents that are cut at the right positions fill both stacks, each with its EOS.
        window=lambda data: data.length - 2 * data.draws_lengths,
    ),
    "sequence_to_sequence": ObjectiveSpec(
        family="encoder-decoder", parts=2, by_document=True, answers=True, check=_need_target_length
    ),
    "causal": ObjectiveSpec(family="decoder"),
    "prompt_target": ObjectiveSpec(family="decoder", parts=2, by_document=True, answers=True),
    "fill_in_the_middle": ObjectiveSpec(
        family="decoder",
        by_document=True,
        draws_lengths=lambda objective: objective.middle_rate < 1,
        special_tokens=lambda objective: FIM,
        window=lambda data: data.length - 4,  # the three special tokens and EOS
    ),
    "masked": ObjectiveSpec(family="encoder", roles=("mask",)),
    "next_sentence": ObjectiveSpec(
        family="encoder",
        by_document=True,
        packs=False,
        sentence_pairs=True,
        head="next_sentence",
        cut_in_two=True,
        draws_lengths=lambda objective: True,
        roles=("mask", "cls", "sep"),
        window=lambda data: data.length - 3,  # CLS and two SEP
    ),
}
"""The specs by `Objective.kind`."""
HEADS = {spec.head: kind for kind, spec in SPECS.items() if spec.head}
"""The heads that learn labels of rows, and the objective that has these."""
