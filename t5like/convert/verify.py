"""`t5like verify`: numbers that show a run and a Hugging Face folder to be the same model, or not.

Parameters are compared bit for bit, in the type of the folder; the tokenizers on texts that tell tokenizers apart;
then both models run the same batches. Where transformers is not installed, the folder's stored numbers of the original
stand in for it if it has any, and the table says which comparisons are missing.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from t5like.config import Model
from t5like.config.decoding import Decoding
from t5like.convert.cases import Case, Outcome, cases_of, outcome_of
from t5like.convert.families import NamedTensors, family_of, model_in
from t5like.convert.files import open_weights
from t5like.convert.kinds import differences
from t5like.convert.layout import TensorMappings, Tensors, layers_of, leaves_of
from t5like.convert.options import VerifyOptions
from t5like.convert.original import STORED, Original, StoredOutputs, has_transformers, original_tokenizer
from t5like.convert.settings import read_settings
from t5like.convert.texts import NASTY_TEXTS, SENTINELS
from t5like.convert.tokenizer import read_tokenizer
from t5like.data.vocabulary import Bytes, Frame, Vocabulary
from t5like.errors import UserError
from t5like.infer.generate import Generator, generator_of
from t5like.model.sharding import Params, row_parts
from t5like.model.transformer import Transformer
from t5like.runs.opened import Restored, with_merged_adapters

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and nobody is surprised.",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "def add(a, b):\n    return a + b  # 🎉 naïve café",
)
LENGTH, FAST = 24, "tokenizer.json"
Encode = Callable[[str, bool], list[int]]
"""A text to token ids, with or without the tokens that frame it."""


class Comparison(NamedTuple):
    """One comparison."""

    what: str
    result: str
    passed: bool | None
    """None: not compared."""


def verify(restored: Restored, folder: pathlib.Path, options: VerifyOptions) -> Iterator[Comparison]:
    """Compares a restored run, whose network computes in float32, with a folder; a line for each comparison.

    Raises:
      UserError: the folder has no config, no weights, or another architecture than the run.
    """
    settings, restored = read_settings(folder), with_merged_adapters(restored)
    family, files = family_of(settings), open_weights(folder)
    model, net = model_in(settings, files), restored.network.inference_net
    require_same_architecture(net.model, model, folder)
    yield compare_tensors(restored.params, NamedTensors(files, family, model), family.tensor_mappings(net.model))
    encode = tokenizer_of(folder, settings.fields)
    yield compare_tokenizers(restored.vocabulary, restored.frame, encode, folder)
    with jax.default_matmul_precision("highest"):
        if has_transformers():
            yield from _with_original(restored, net, Original(folder, net.model), encode, options)
        elif (folder / STORED).is_file():
            yield from _with_stored(restored, net, StoredOutputs(folder, net.model), options)
        else:
            remedy = "not compared: `pip install torch transformers` runs the original"
            yield Comparison("logits, loss and greedy continuation", remedy, None)


def require_same_architecture(ours: Model, theirs: Model, folder: pathlib.Path) -> None:
    """Raises `UserError` for the first field in which two models differ that changes their numbers."""
    for name, (here, there) in differences(ours, theirs).items():
        raise UserError(f"model.{name} is {here!r} in the run and {there!r} in {folder}: these are different models.")


def compare_tensors(params: Params, tensors: Tensors, mappings: TensorMappings) -> Comparison:
    """Compares every parameter with its tensor, in the tensor's type."""
    equal, worst, worst_path, leaves = 0, 0.0, "", leaves_of(params)
    for path, leaf in leaves.items():
        ours = np.asarray(jax.device_get(leaf))
        ours = ours if mappings[path].stacked else ours[None]  # [layers, ...]
        difference = 0.0
        for layer, theirs in zip(ours, layers_of(tensors, path, mappings[path], leaf.shape), strict=True):
            difference = max(difference, _difference(layer.astype(theirs.dtype), theirs))
        equal += difference == 0.0
        if difference > worst:
            worst, worst_path = difference, path
    result = f"{equal} of {len(leaves)} parameters equal, bit for bit"
    return Comparison(
        "tensors", result + (f"; {worst_path} differs by {worst:.2e}" if worst else ""), equal == len(leaves)
    )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of two arrays, infinite where one of them alone has NaN."""
    unequal = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    wide = np.abs(ours[unequal].astype(np.float64) - theirs[unequal].astype(np.float64))
    return float(np.nan_to_num(wide, nan=np.inf, posinf=np.inf).max(initial=0.0))


def tokenizer_of(folder: pathlib.Path, config: Mapping[str, Any]) -> Encode | None:
    """The folder's tokenizer as transformers has it, or else as we read it; None where it has none."""
    if not any(file for pattern in ("tokenizer*", "*.model", "vocab*") for file in folder.glob(pattern)):
        return None
    if has_transformers():
        return original_tokenizer(folder)
    read = read_tokenizer(folder, config)
    frame = read.frame or Frame()
    return lambda text, framed: frame.around(read.encode(text)) if framed else read.encode(text)


def compare_tokenizers(vocabulary: Vocabulary, frame: Frame, encode: Encode | None, folder: pathlib.Path) -> Comparison:
    """Compares the token ids of texts that tell tokenizers apart, without and with the tokens that frame a text."""
    what, texts = "tokenizer", NASTY_TEXTS
    if encode is None:
        return Comparison(what, f"not compared: {folder} has none", None)
    # transformers' ByT5 gives sentinels ids of their own, after the bytes with which ByT5 was trained.
    if len(vocabulary.sentinels) >= 3 and (not isinstance(vocabulary.pieces, Bytes) or (folder / FAST).exists()):
        texts += SENTINELS
    for number, text in enumerate(texts):
        ids = vocabulary.encode(text)
        for ours, theirs in ((ids, encode(text, False)), (frame.around(ids), encode(text, True))):
            if ours != theirs:
                shared = [*(a == b for a, b in zip(ours, theirs, strict=False)), False].index(False)
                shown = text if len(text) < 40 else text[:37] + "..."
                here, there = (ids[shared : shared + 3] for ids in (ours, theirs))
                kind = "" if ours is ids else " with the pieces that frame it"
                told = f"{number} of {len(texts)} texts equal, then {shown!r}{kind} differs at piece {shared}"
                return Comparison(what, f"{told}: {here} here, {there} there", False)
    return Comparison(what, f"{len(texts)} texts give the same numbers, with and without what frames them", True)


def _with_original(
    restored: Restored, net: Transformer, original: Original, encode: Encode | None, options: VerifyOptions
) -> Iterator[Comparison]:
    model, parts, texts = net.model, row_parts(net.rules), options.text or TEXTS
    length = min(LENGTH, model.max_positions or LENGTH)
    for case in cases_of(model, restored.vocabulary, restored.frame, texts, length):
        ours, theirs = outcome_of(restored.params, net, case, parts), original.outcome(case)
        yield from compare_outcomes(case, ours, theirs, options.tolerance)
    if model.decoder_layers and model.predicts_pieces:
        generator = generator_like_original(restored, options.tokens)
        short = [_shortened(text, restored.vocabulary, length - 4) for text in texts]
        framed = generator.framed([text for text in short if text])
        prompts = framed if encode is None else [encode(text, True) for text in short if text]
        answers = [original.greedy(prompt, options.tokens) for prompt in prompts]
        yield compare_greedy(restored.params, generator, framed, answers)


def _shortened(text: str, vocabulary: Vocabulary, most: int) -> str:
    """The beginning of a text, of at most `most` tokens."""
    while len(vocabulary.encode(text)) > most:
        text = text[: len(text) * 3 // 4]
    return text.strip()


def _with_stored(
    restored: Restored, net: Transformer, stored: StoredOutputs, options: VerifyOptions
) -> Iterator[Comparison]:
    case, theirs = stored.case()
    ours = outcome_of(restored.params, net, case, row_parts(net.rules))
    yield from compare_outcomes(case, ours, theirs, options.tolerance)
    if pairs := stored.greedy():
        prompts, answers = zip(*pairs, strict=True)
        generator = generator_like_original(restored, max(map(len, answers)))
        yield compare_greedy(restored.params, generator, prompts, answers)


def generator_like_original(restored: Restored, most: int) -> Generator:
    """The generator of `t5like generate`, except that any row may be chosen, as by transformers."""
    return dataclasses.replace(generator_of(restored, Decoding(tokens=most)), any_row=True)


def compare_outcomes(case: Case, ours: Outcome, theirs: Outcome, tolerance: float) -> Iterator[Comparison]:
    """A line for the scores and one for the loss."""
    for kind in ("tokens", "rows"):
        pairs = list(zip(getattr(ours, kind), getattr(theirs, kind), strict=True))
        if any(a is None or b is None for a, b in pairs):
            continue
        difference = float(np.max([np.abs(a - b).max() for a, b in pairs]))
        largest = float(np.max([np.abs(b).max() for _, b in pairs]))
        what = f"{case.name}: {'scores' if kind == 'tokens' else 'scores of rows'}"
        passed = bool(difference <= tolerance * max(largest, 1.0))  # NaN does not pass
        yield Comparison(what, f"max |difference| {difference:.2e}, of values up to {largest:.3g}", passed)
    if ours.loss is not None and theirs.loss is not None:
        difference = abs(ours.loss - theirs.loss)
        result = f"{ours.loss:.6f} here, {theirs.loss:.6f} there"
        yield Comparison(f"{case.name}: loss", result, bool(difference <= tolerance * max(abs(theirs.loss), 1.0)))


def compare_greedy(
    params: Params, generator: Generator, framed: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Comparison:
    """Compares our likeliest continuation of each prompt with the original's, up to its end and with it."""
    same = total = 0
    for row, answer in zip(generator.tokens(params, framed), answers, strict=True):
        ours = row[: generator.length(row) + 1].tolist()
        total += max(len(ours), len(answer))
        equal = [a == b for a, b in zip(ours, answer, strict=False)] + [False]
        same += equal.index(False)
    return Comparison(
        "greedy continuation", f"{same} of {total} tokens equal before the first difference", same == total
    )


def as_table(lines: Sequence[Comparison]) -> str:
    """The comparisons for people."""
    width = max(len(line.what) for line in lines)
    marks = {True: "ok", False: "DIFFERS", None: "-"}
    return "".join(f"{line.what:<{width}}  {marks[line.passed]:<8}{line.result}\n" for line in lines)


def as_json(lines: Sequence[Comparison]) -> str:
    """The comparisons for programs, one JSON object a line."""
    return "".join(json.dumps(line._asdict(), ensure_ascii=False) + "\n" for line in lines)
