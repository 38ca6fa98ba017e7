"""Objectives: functions from the tokens of examples to the features that a model reads and predicts.

An objective is a pure function of examples, keys for the random choices of each, the config and the vocabulary. An
example is a window of running text, one document, or its parts; its tokens are int32. The function returns
SeqIO's features, one sequence for each example, and `t5like.data.rows.layout.lay_out` puts these into rows:

    lay_out(make_features(parts, draws, data, vocabulary), row, rows, data, vocabulary)

Where the documents of a window have to be kept apart (causal and masked), `lay_out` does so. The rest of what the
package knows of a kind is in `t5like.config.objective`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from t5like.config import ROLES, Data
from t5like.data.draws import Draws, Keys
from t5like.data.objectives import denoising, labelled, masking, text
from t5like.data.ragged import PartLengths, Ragged, RaggedFeatures
from t5like.data.tasks.encode import framing_of
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError


class Functions(NamedTuple):
    """The two functions of an objective."""

    features: Callable[[tuple[Ragged, ...], Draws, Data, Vocabulary], RaggedFeatures]
    """The features of examples from their parts."""
    sizes: Callable[[PartLengths, Keys, Data], Int[np.ndarray, "examples stacks"]]
    """The tokens of examples in each stack from the lengths of their parts."""


OBJECTIVES = {
    "span_corruption": Functions(denoising.span_corruption, denoising.corrupted_sizes),
    "ul2": Functions(denoising.ul2, denoising.corrupted_sizes),
    "prefix": Functions(text.prefix, text.prefix_sizes),
    "sequence_to_sequence": Functions(text.sequence_to_sequence, text.sequence_to_sequence_sizes),
    "causal": Functions(text.causal, text.causal_sizes),
    "prompt_target": Functions(text.prompt_target, text.prompt_target_sizes),
    "fill_in_the_middle": Functions(text.fill_in_the_middle, text.fill_in_the_middle_sizes),
    "masked": Functions(masking.masked, text.causal_sizes),
    "next_sentence": Functions(masking.next_sentence, masking.next_sentence_sizes),
    "classification": Functions(labelled.classification, labelled.sizes),
    "multi_label_classification": Functions(labelled.multi_label_classification, labelled.sizes),
    "regression": Functions(labelled.regression, labelled.sizes),
    "token_classification": Functions(labelled.token_classification, labelled.sizes),
    "span": Functions(labelled.span, labelled.sizes),
    "multiple_choice": Functions(labelled.multiple_choice, labelled.sizes),
}
"""The functions by `Objective.kind`."""


def make_features(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The features that the objective of `data` makes of examples."""
    return OBJECTIVES[data.objective.kind].features(parts, draws, data, vocabulary)


def sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples stacks"]:
    """The tokens of examples with parts of these lengths in each stack, in the order of `data.lengths`.

    `keys` are those of `Draws.lengths`. The parts of a pair are closed by EOS, and so is a document shorter than
    `data.window`; one of `data.window` tokens counts as one that was cut.
    """
    return OBJECTIVES[data.objective.kind].sizes(lengths, keys, data)


def require_special_tokens(data: Data, vocabulary: Vocabulary) -> None:
    """Raise `UserError` if the vocabulary lacks a special token of the objective; of a file this is known once it is
    read."""
    spec = data.objective.spec
    missing = [ROLES[role][0] for role in spec.roles if vocabulary.role(role) is None]
    missing += [name for name in spec.special_tokens(data.objective) if name not in vocabulary.special]
    if missing:
        raise UserError(
            f"The vocabulary of data.store={data.store} has no {' '.join(missing)}, which data.objective.kind="
            f"{data.objective.kind!r} needs: add {'it' if len(missing) == 1 else 'them'} to data.vocabulary.extra."
        )


def trained_frame(data: Data, vocabulary: Vocabulary) -> Frame:
    """The frame of a text in the rows of the objective, and so of a prompt to a model that learned from them: that of
    labelled examples for heads; the start before a decoder's, CLS and SEP around that of pairs, EOS behind all other
    input of an encoder."""
    if data.objective.spec.parts == 3:
        framing = framing_of(vocabulary)
        return Frame(framing.before, framing.behind)
    if "encoder" not in data.lengths:
        return Frame(before=(vocabulary.start,))
    if data.objective.spec.sentence_pairs:
        return Frame((vocabulary.require("cls"),), (vocabulary.require("sep"),))
    return Frame(behind=(vocabulary.eos,))
