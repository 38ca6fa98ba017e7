"""The original that a run is compared with: transformers' own model, or the numbers of it that a folder keeps.

Only here are torch and transformers imported, and only when a comparison asks for them.
"""

import contextlib
import importlib.util
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5like.config import Model
from t5like.convert.cases import NO_TARGET, Case, Example, Label, Outcome
from t5like.convert.families import family_of
from t5like.convert.settings import read_settings
from t5like.errors import UserError

STORED = "golden.safetensors"
"""Inputs and outputs of the original, which a folder may keep beside its weights."""

LIKELIEST: dict[str, float] = dict(do_sample=False, num_beams=1, repetition_penalty=1.0, no_repeat_ngram_size=0)
LIKELIEST |= dict(min_length=0, encoder_no_repeat_ngram_size=0, encoder_repetition_penalty=1.0)
"""Settings that leave the choice to the model's scores; ends, forced and forbidden tokens stay the folder's."""


def has_transformers() -> bool:
    """True if the original itself can be run here."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class Original:
    """The model of a folder as transformers runs it, in float32 on the CPU."""

    def __init__(self, folder: pathlib.Path, model: Model):
        self._model = model
        with _quiet():
            import torch  # pyright: ignore[reportMissingImports]
            import transformers  # pyright: ignore[reportMissingImports]

            transformers.utils.logging.disable_progress_bar()
            self._torch = torch
            settings = read_settings(folder)
            name = family_of(settings).CLASSES[settings.get("model_type", "")][model.head]
            kind: Any = getattr(transformers, name)
            self._net = kind.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager").eval()

    def outcome(self, case: Case) -> Outcome:
        """Its outputs for a case: of the rows as one padded batch, or of each example alone where rows are packed, and
        where it would look for the last token of a row by comparing with the padding's number."""
        packed = any(len(row) > 1 for row in case.rows)
        by_last = self._model.head == "sequence" and self._model.family == "decoder"
        if not packed and not by_last:
            return self._run(case.examples)
        if by_last:
            self._net.config.pad_token_id = None  # the last token, whatever its number
        alone = [self._run([example]) for example in case.examples]
        loss = None if packed else float(np.mean([one.loss or 0.0 for one in alone]))
        return Outcome([one.tokens[0] for one in alone], [one.rows[0] for one in alone], loss)

    def greedy(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """The likeliest continuation of one prompt, up to EOS and with it."""
        torch = self._torch
        with _quiet(), torch.no_grad():
            ids = torch.tensor([list(prompt)])
            # Its cache has no room for a T5 with more layers in the decoder than in the encoder (transformers 5.24).
            asked = dict(max_new_tokens=tokens, use_cache=False, **LIKELIEST)
            found = self._net.generate(ids, attention_mask=torch.ones_like(ids), **asked)[0]
        return found[1 if self._model.encoder_layers else len(prompt) :].tolist()

    def _run(self, examples: Sequence[Example]) -> Outcome:
        model, torch = self._model, self._torch
        inputs: dict[str, np.ndarray] = {}
        for stack in [name for name in ("encoder", "decoder") if getattr(model, f"{name}_layers")]:
            prefix = "decoder_" if stack == "decoder" and model.encoder_layers else ""
            rows = [getattr(example, stack) for example in examples]
            inputs[f"{prefix}input_ids"] = _padded(rows, 0)
            inputs[f"{prefix}attention_mask"] = _padded([[1] * len(row) for row in rows], 0)
        if model.token_types:
            inputs["token_type_ids"] = _padded([example.types for example in examples], 0)
        if model.head == "choice":  # each row is the only candidate of its own
            inputs = {name: array[:, None] for name, array in inputs.items()}
        inputs |= self._labels(examples)
        with _quiet(), torch.no_grad():
            found = self._net(**{name: torch.tensor(array) for name, array in inputs.items()})
        lengths = [len(example.decoder if model.decoder_layers else example.encoder) for example in examples]
        tokens, rows = _scores(model, found)
        cut = [None] * len(lengths) if tokens is None else [x[:n] for x, n in zip(tokens, lengths, strict=True)]
        loss = getattr(found, "loss", None)
        return Outcome(
            cut, list(rows) if rows is not None else [None] * len(cut), None if loss is None else float(loss)
        )

    def _labels(self, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        head = self._model.head
        labels = np.array([example.label for example in examples])
        if head == "none":
            return {}
        if head == "span":
            return {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}
        if head == "choice":
            return {"labels": labels}
        if head == "sequence":
            one = self._model.label_problem == "single_label_classification"
            return {"labels": labels.astype(np.int64 if one else np.float32)}
        # Decoders shift the labels that they are given.
        shift = self._model.family == "decoder"
        targets = [[NO_TARGET, *e.targets[:-1]] if shift else e.targets for e in examples]
        found = {"labels": _padded(targets, NO_TARGET)}
        return found | ({"next_sentence_label": labels} if head == "next_sentence" else {})


def original_tokenizer(folder: pathlib.Path) -> Callable[[str, bool], list[int]]:
    """A text to token ids by transformers' tokenizer of a folder, with or without the tokens that frame it.

    Raises:
      UserError: transformers cannot read it.
    """
    # sentencepiece's schema was generated by a newer protobuf than TensorFlow bears, which reads it all the same.
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    with _quiet():
        import transformers  # pyright: ignore[reportMissingImports]

        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        except Exception as error:  # it raises any
            told = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            raise UserError(f"transformers cannot read the tokenizer of {folder} ({told}).") from None

    def encode(text: str, framed: bool) -> list[int]:
        with _quiet():
            return tokenizer(text, add_special_tokens=framed)["input_ids"]

    return encode


class StoredOutputs:
    """The inputs and outputs of the original that a folder keeps, by their names in transformers."""

    def __init__(self, folder: pathlib.Path, model: Model):
        import safetensors.numpy

        self._model, self._kept = model, safetensors.numpy.load_file(folder / STORED)

    def case(self) -> tuple[Case, Outcome]:
        """The kept batch and the original's outputs for it."""
        kept, model = self._kept, self._model
        examples, lengths = [], []
        for row in range(len(kept["input_ids"])):
            first = _real(kept, "", row)
            decoder = _real(kept, "decoder_", row) if model.family == "encoder-decoder" else []
            both = ([], first) if model.family == "decoder" else (first, decoder)
            main = both[1] or both[0]
            types = kept["token_type_ids"][row][: len(first)].tolist() if model.token_types else []
            examples.append(Example(both[0], types, both[1], self._targets(row, len(main)), self._label(row)))
            lengths.append(len(main))
        tokens, rows = _stored_scores(model, kept)
        cut = [None] * len(lengths) if tokens is None else [x[:n] for x, n in zip(tokens, lengths, strict=True)]
        found = list(rows) if rows is not None else [None] * len(cut)
        return Case("stored", [[example] for example in examples]), Outcome(cut, found, self._loss())

    def greedy(self) -> list[tuple[list[int], list[int]]]:
        """Each kept prompt with the original's continuation."""
        if "greedy" not in self._kept:
            return []
        answers = zip(self._kept["greedy"], self._kept["greedy_lengths"], strict=True)
        return [(_real(self._kept, "", row), ids[:n].tolist()) for row, (ids, n) in enumerate(answers)]

    def _loss(self) -> float | None:
        return float(self._kept["loss"]) if "loss" in self._kept else None

    def _targets(self, row: int, length: int) -> list[int]:
        labels = self._kept.get("labels")
        if labels is None or labels.ndim == 1:
            return [NO_TARGET] * length
        found = labels[row][:length].tolist()
        return [*found[1:], NO_TARGET] if self._model.family == "decoder" else found

    def _label(self, row: int) -> Label:
        kept = self._kept
        if "start_positions" in kept:
            return [int(kept["start_positions"][row]), int(kept["end_positions"][row])]
        labels = kept.get("next_sentence_label", kept.get("labels"))
        return labels[row].item() if labels is not None and labels.ndim == 1 else 0


def _real(kept: dict[str, np.ndarray], prefix: str, row: int) -> list[int]:
    """The token ids of a row without its padding."""
    return kept[f"{prefix}input_ids"][row][kept[f"{prefix}attention_mask"][row] > 0].tolist()


def _scores(model: Model, found: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Scores of tokens and of rows in transformers' output, as arrays."""
    named = {name: value.numpy() for name, value in found.items() if hasattr(value, "numpy")}
    if model.head == "none":
        named |= {"hidden": named["last_hidden_state"]}
        named |= {"pooled": named["pooler_output"]} if "pooler_output" in named else {}
    return _stored_scores(model, named)


def _stored_scores(model: Model, named: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Scores of tokens, `[rows, length, scores]`, and of rows, `[rows, labels]`, by transformers' names."""
    match model.head:
        case "next_sentence":
            return named["prediction_logits"], named["seq_relationship_logits"]
        case "sequence" | "choice":
            return None, named["logits"]
        case "span":
            return np.stack([named["start_logits"], named["end_logits"]], axis=-1), None
        case "none":
            return named["hidden"], named.get("pooled") if model.pooler else None
    return named["logits"], None


def _padded(rows: Sequence[Sequence[int]], padding: int) -> np.ndarray:
    """[rows, longest] int64."""
    found = np.full((len(rows), max(map(len, rows))), padding, np.int64)
    for filled, row in zip(found, rows, strict=True):
        filled[: len(row)] = row
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the warnings of torch and transformers from the user, who can do nothing about them."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)
        yield
