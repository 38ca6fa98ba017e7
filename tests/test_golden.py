"""Every golden folder becomes a run that computes what the original computed.

Neither torch nor transformers is needed: the folders keep the originals' scores, losses, continuations, gradients and
token ids. Weights in the folders differ from layer to layer and stack to stack, so that nothing can be exchanged
unseen.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from golden_runs import FOLDERS, Opened, assert_same_tensors, on_one_device, opened, tensors_of

from t5like.convert.cases import NO_TARGET, Case, Example, features_of, outcome_of
from t5like.convert.exporting import export_run
from t5like.convert.families import FAMILIES, family_of
from t5like.convert.files import open_weights
from t5like.convert.kinds import kind_of
from t5like.convert.layout import names_of, to_theirs
from t5like.convert.options import ExportOptions
from t5like.convert.settings import read_settings
from t5like.convert.verify import (
    NamedTensors,
    compare_greedy,
    compare_outcomes,
    compare_tensors,
    generator_like_original,
)
from t5like.model.transformer import Transformer
from t5like.train.labels import label_losses
from t5like.train.losses import token_losses

WITH_CONTINUATIONS = [name for name in FOLDERS if not name.startswith("bert") and name != "t5_encoder"]
CONTROL = "▁already▁marked ## [MASK] [CLS] <s> </s> <pad> <unk> <0x0A>"
"""The names of control pieces are text to us and pieces to transformers."""
UNSPACED = ("The river<extra_id_0>in the<extra_id_1>above.", "two  <extra_id_5>  spaces<extra_id_6><extra_id_7>")
"""transformers finds an mT5's sentinels, which are pieces that begin with a space, behind a space alone."""
SENTINELS = (
    "<extra_id_0>",
    "The river <extra_id_0> in the <extra_id_1> above.",
    UNSPACED[0],
    "<extra_id_0> rises <extra_id_1>",
    UNSPACED[1],
    "<extra_id_99> last <extra_id_100> none <extra_id_",
)
"""Of a ByT5 they are the bytes that UTF-8 never uses, as in T5X; transformers numbers them on from 259."""
LEADING_SPACE = (" leading and trailing ", "   ")
"""A Llama's SentencePiece puts one space more before it, which transformers leaves out."""
OTHERWISE = {name: (CONTROL,) for name in FOLDERS if name not in ("gpt2", "llama", "llama3", "marian")}
OTHERWISE = {name: texts for name, texts in OTHERWISE.items() if not name.startswith("bert")}
OTHERWISE |= {"mt5": (CONTROL, *UNSPACED), "byt5": (CONTROL, *SENTINELS), "llama_linear": (CONTROL, *LEADING_SPACE)}
"""The texts of each folder that transformers numbers otherwise than we do, on purpose."""


QUICK = ("t5_1_1", "bert_pretraining", "gpt2", "llama3")
"""Each family of networks once, for the quick part."""


def folders(names: Iterable[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", params=folders(FOLDERS))
def golden(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with on_one_device(), opened(request.param, tmp_path_factory.mktemp(request.param) / "run") as found:
        yield found


def only(*names: str) -> pytest.MarkDecorator:
    """The test is for these folders."""
    return pytest.mark.parametrize("golden", folders(names), indirect=True)


def lines_pass(lines: Any) -> int:
    """Asserts that each line of a comparison passes; the number of lines."""
    lines = list(lines)
    assert all(line.passed for line in lines), lines
    return len(lines)


def test_every_parameter_is_its_tensor_bit_for_bit(golden):
    params, model = golden.restored.params, golden.net.model
    family = FAMILIES[kind_of(model, _kind(golden))]
    files = NamedTensors(open_weights(golden.folder), family, model)
    line = compare_tensors(params, files, family.tensor_mappings(model))
    assert line.passed
    count = len(jax.tree.leaves(params))
    assert line.result == f"{count} of {count} parameters equal, bit for bit"


def test_scores_and_losses_are_the_originals(golden):
    case, theirs = golden.stored.case()
    with jax.default_matmul_precision("highest"):
        ours = outcome_of(golden.restored.params, golden.net, case, 1)
    for kind in ("tokens", "rows"):
        for mine, its in zip(getattr(ours, kind), getattr(theirs, kind), strict=True):
            if its is not None:
                np.testing.assert_allclose(mine, its, atol=5e-5)
    assert lines_pass(compare_outcomes(case, ours, theirs, 5e-6)) == _figures(golden)


@only(*WITH_CONTINUATIONS)
def test_greedy_continuations_are_the_originals(golden):
    pairs = golden.stored.greedy()
    assert [len(prompt) for prompt, _ in pairs] == [20, 15, 20]
    with jax.default_matmul_precision("highest"):
        generator = generator_like_original(golden.restored, golden.kept["greedy"].shape[1])
        line = compare_greedy(golden.restored.params, generator, *zip(*pairs, strict=True))
    assert line.passed, line
    assert line.result.startswith(f"{sum(len(answer) for _, answer in pairs)} of ")


def test_texts_become_the_originals_ids(golden):
    kept = json.loads((golden.folder / "tokens.json").read_text("utf-8"))
    ours = [golden.restored.vocabulary.encode(text) for text in kept["texts"]]
    triples = zip(kept["texts"], ours, kept["ids"], strict=True)
    assert [text for text, here, there in triples if here != there] == [
        text for text in kept["texts"] if text in OTHERWISE.get(golden.folder.name, ())
    ]
    # SentencePiece itself agrees on all that has no sentinels, which are not its pieces.
    raw = zip(kept["texts"], ours, kept.get("sentencepiece_ids", ours), strict=True)
    assert all(here == there for text, here, there in raw if "<extra_id_" not in text)


def test_an_export_is_the_folder_again(golden, tmp_path):
    kind = "bfloat16" if golden.folder.name == "t5_1_1_bfloat16" else "float32"
    name = export_run(golden.restored, tmp_path / "out", ExportOptions(dtype=kind))
    before, after = (read_settings(folder) for folder in (golden.folder, tmp_path / "out"))
    assert name == before.architecture
    assert_same_tensors(tensors_of(tmp_path / "out"), tensors_of(golden.folder))
    for field in before.fields.keys() - {"transformers_version", "torch_dtype"}:
        assert after.fields[field] == before.fields[field], field
    models = [family_of(one).model_of(one, {*tensors_of(golden.folder)}) for one in (before, after)]
    assert models[0] == models[1]


@only("t5_1_1", "umt5")
def test_positions_beyond_the_last_bucket_are_the_originals(golden):
    kept = golden.kept
    ids, start = kept["long_input_ids"][0].tolist(), kept["long_decoder_input_ids"][0].tolist()
    case = Case("long", [[Example(ids, [], start, [NO_TARGET] * len(start))]])
    features = features_of(golden.net.model, case.rows, 1)
    with jax.default_matmul_precision("highest"):
        scores: Any = jax.jit(golden.net.apply)({"params": golden.restored.params}, features)
    np.testing.assert_allclose(scores[:, len(start) - 12 : len(start)], kept["long_logits"], atol=5e-5)


@only("t5_1_1", "bert_pretraining", "gpt2")
def test_gradients_are_the_originals(golden):
    params, kept, case = golden.restored.params, golden.kept, golden.stored.case()[0]
    with jax.default_matmul_precision("highest"):
        loss, gradients = jax.jit(jax.value_and_grad(lambda p: mean_loss(golden.net, p, case)))(params)
    np.testing.assert_allclose(loss, kept["loss"], rtol=1e-6)
    found = in_their_layout(golden, gradients)
    assert {f"grad.{name}" for name in found} == {name for name in kept if name.startswith("grad.")}
    for name, gradient in found.items():
        expected = kept[f"grad.{name}"]
        # What is added to all keys changes no attention, so the gradient of BERT's is rounding alone.
        assert np.abs(expected).max() > 1e-3 or name.endswith("key.bias"), name
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6, err_msg=name)


def mean_loss(net: Transformer, params: Any, case: Case) -> jax.Array:
    """Mean cost of the targets, and of the rows' labels beside it where the head has both."""
    scores: Any = net.apply({"params": params}, features_of(net.model, case.rows, 1), method=Transformer.scores)
    length = scores.logits.shape[1]
    targets = np.array([e.targets + [NO_TARGET] * (length - len(e.targets)) for e in case.examples], np.int32)
    real = targets != NO_TARGET
    nll = token_losses(scores.logits, jnp.asarray(np.where(real, targets, 0))).nll
    loss = jnp.sum(jnp.where(real, nll, jnp.float32(0))) / jnp.float32(real.sum())
    if scores.labels is None:
        return loss
    labels = jnp.asarray([example.label for example in case.examples], jnp.int32)
    return loss + jnp.mean(label_losses(scores.labels, labels, "single_label_classification"))


def in_their_layout(golden: Opened, gradients: Any) -> dict[str, np.ndarray]:
    """Gradients by the names and in the shapes of transformers' parameters."""
    model, leaves = golden.net.model, {p: np.asarray(x) for p, x in flatten_dict(gradients, sep="/").items()}
    mappings = FAMILIES[kind_of(model, _kind(golden))].tensor_mappings(model)
    groups: dict[str, list[str]] = {}
    for path in sorted(leaves, key=lambda path: mappings[path].part):
        groups.setdefault(mappings[path].name, []).append(path)
    found = {}
    for first, *others in groups.values():
        for layer, name in enumerate(names_of(mappings[first], leaves[first].shape)):
            parts = [leaves[path][layer] if mappings[path].stacked else leaves[path] for path in (first, *others)]
            found[name] = to_theirs(parts, mappings[first])
    return found


def _kind(golden: Opened) -> str:
    return json.loads((golden.folder / "config.json").read_text("utf-8"))["model_type"]


def _figures(golden: Opened) -> int:
    """Scores of tokens, scores of rows and the loss, as far as the folder keeps them and a padded batch can tell."""
    kept = golden.kept.keys()
    names = [{"logits", "prediction_logits", "hidden", "start_logits"}, {"seq_relationship_logits", "pooled"}]
    loss = "loss" in kept and golden.net.model.head != "span"
    return sum(bool(kept & group) for group in names) + loss
