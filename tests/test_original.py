"""transformers itself beside us: its models of the golden folders, of our exports and of what it trained further.

`t5like verify` runs the original and compares; an export is loaded by the Auto classes, whose numbers must be those
that the golden folder keeps. Torch and transformers are loaded in this process, once for all tests.
"""

import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from golden_runs import GOLDEN, float32, on_one_device, opened, quiet_transformers, tensors_of
from settings import sentence
from starts import run_config, write_texts

from t5like.cli import run as carry_out
from t5like.config import Vocabulary
from t5like.convert.exporting import export_run
from t5like.convert.importing import import_run
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.original import has_transformers
from t5like.convert.texts import NASTY_TEXTS, SENTINELS
from t5like.data.features import token_features
from t5like.data.vocabulary import open_vocabulary
from t5like.model.transformer import Transformer
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.loop import train

pytestmark = [
    pytest.mark.originals,
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_transformers(), reason="runs transformers' models, and torch or transformers is missing"
    ),
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers; ours are errors in all other tests
]
AUTO = {
    "t5_1_0": "AutoModelForSeq2SeqLM",
    "t5_1_1": "AutoModelForSeq2SeqLM",
    "mt5": "AutoModelForSeq2SeqLM",
    "umt5": "AutoModelForSeq2SeqLM",
    "marian": "AutoModelForSeq2SeqLM",
    "t5_encoder": "AutoModelForTextEncoding",
    "gpt2": "AutoModelForCausalLM",
    "llama3": "AutoModelForCausalLM",
    "bert_pretraining": "AutoModelForPreTraining",
    "bert_masked": "AutoModelForMaskedLM",
    "bert_sequence": "AutoModelForSequenceClassification",
    "bert_spans": "AutoModelForQuestionAnswering",
    "bert_tokens": "AutoModelForTokenClassification",
    "bert_model": "AutoModel",
}
"""The class that loads the export of each golden folder without being told what it is."""
OUTPUTS = {"last_hidden_state": "hidden", "pooler_output": "pooled"}
"""transformers' names of outputs that the golden folders name otherwise."""
VERIFY = ("--tokens=6", "--train.compilation_cache=")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """One device, and transformers without network."""
    with on_one_device(), quiet_transformers():
        yield


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[pathlib.Path, pathlib.Path]]:
    """The run of a golden folder and that run's export, both made when they are first asked for."""
    place = tmp_path_factory.mktemp("pairs")

    def found(name: str) -> tuple[pathlib.Path, pathlib.Path]:
        run, folder = place / f"{name}_run", place / name
        if not folder.exists():
            with opened(name, run) as golden:
                export_run(golden.restored, folder, ExportOptions())
        return run, folder

    return found


def auto(name: str, folder: pathlib.Path) -> Any:
    """A folder's model, all of whose parameters the folder holds, and which has a place for all that is in it."""
    import transformers

    loader = getattr(transformers, name)
    model, told = loader.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


def assert_tokenizers_agree(folder: pathlib.Path, run: pathlib.Path, *texts: str) -> None:
    import transformers

    tokenizer, vocabulary = transformers.AutoTokenizer.from_pretrained(folder), open_vocabulary(run / "vocabulary")
    for text in texts:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == vocabulary.encode(text), text


@pytest.mark.parametrize("name", [name for name in AUTO if name != "bert_masked"])
def test_a_run_is_verified_against_the_folder_that_it_was_imported_from(name, pair_of, say):
    said = say("verify", pair_of(name)[0], GOLDEN / name, *VERIFY)
    assert " DIFFERS " not in said
    assert " - " not in said
    for line in ("tensors", "tokenizer", "random: scores", "padded: scores", "text: scores"):
        assert f"\n{line} " in f"\n{said}"
    generates = AUTO[name].endswith(("Seq2SeqLM", "CausalLM"))
    assert ("greedy continuation" in said) == generates
    assert ("packed: scores" in said) == (name not in ("bert_pretraining", "bert_sequence", "bert_model", "t5_encoder"))


def test_a_head_that_chooses_among_candidates_is_the_original_s(tmp_path, say):
    """Imported, verified, exported and loaded again; ours scores the candidates of a row together."""
    import torch
    import transformers

    shutil.copytree(GOLDEN / "bert_sequence", tmp_path / "original")
    torch.manual_seed(0)
    settings = transformers.BertConfig.from_pretrained(tmp_path / "original")
    settings.num_labels, settings.initializer_range = 2, 0.5
    original = transformers.BertForMultipleChoice(settings).eval()
    original.save_pretrained(tmp_path / "original")
    carry_out(["import", str(tmp_path / "original"), str(tmp_path / "run")])
    said = say("verify", tmp_path / "run", tmp_path / "original", *VERIFY)
    assert " DIFFERS " not in said and "\nrandom: scores " in said
    carry_out(["export", str(tmp_path / "run"), str(tmp_path / "exported")])
    tokens = torch.tensor([[[5, 9, 7], [5, 11, 12]], [[6, 9, 7], [5, 8, 9]]])
    with torch.no_grad():
        expected, exported = (
            model(tokens).logits for model in (original, auto("AutoModelForMultipleChoice", tmp_path / "exported"))
        )
    np.testing.assert_allclose(exported, expected, atol=1e-5)
    with open_run(RunDirectory(tmp_path / "run").config()) as restored:
        features = {name: jnp.asarray(array) for name, array in token_features("encoder", tokens.tolist()).items()}
        batch = {**features, "candidates": jnp.ones((2, 2), jnp.int32)}
        found = restored.network.net.apply({"params": restored.params}, batch, method=Transformer.scores)
    np.testing.assert_allclose(found.labels, expected, atol=1e-4)


@pytest.mark.parametrize("name", AUTO)
def test_an_export_gives_the_original_s_numbers_in_transformers(name, pair_of):
    import torch

    run, folder = pair_of(name)
    model, kept = auto(AUTO[name], folder), safetensors.numpy.load_file(GOLDEN / name / "golden.safetensors")
    inputs = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
    with torch.no_grad():
        said = model(**{key: torch.from_numpy(kept[key]).long() for key in inputs if key in kept})
    found = {OUTPUTS.get(str(key), str(key)): value for key, value in said.items()}
    found = {key: value for key, value in found.items() if key in kept}
    assert found
    for key, value in found.items():
        np.testing.assert_allclose(value.numpy(), kept[key], atol=1e-5, err_msg=key)
    if "greedy" in kept:
        prompt = torch.from_numpy(kept["input_ids"][:1]).long()
        answer = model.generate(prompt, max_new_tokens=kept["greedy"].shape[1], do_sample=False, use_cache=False)[0]
        length = kept["greedy_lengths"][0]
        assert answer.tolist()[-length:] == kept["greedy"][0, :length].tolist()
    texts = SENTINELS if open_vocabulary(run / "vocabulary").sentinels.size else ()
    assert_tokenizers_agree(folder, run, *NASTY_TEXTS, *texts)


def test_a_trained_run_with_a_vocabulary_of_its_own_is_a_model_of_transformers(pair_of, tmp_path, say):
    text = write_texts(tmp_path)["first"]
    vocabulary = Vocabulary(kind="unigram", size=290, sentinels=9)
    with open_run(float32(RunDirectory(pair_of("t5_1_1")[0]).config())) as golden:
        model = vars(golden.config.model)  # whose programs are compiled already
    changes = {f"model__{field}": value for field, value in model.items()}
    train(run_config(text, tmp_path / "run", "t5", mesh__data=1, data__vocabulary=vocabulary, **changes))
    say("export", tmp_path / "run", tmp_path / "out")
    said = say("verify", tmp_path / "run", tmp_path / "out", *VERIFY)
    assert " DIFFERS " not in said
    assert "greedy continuation  ok " in said
    assert_tokenizers_agree(tmp_path / "out", tmp_path / "run", *NASTY_TEXTS, *SENTINELS)
    model = auto("AutoModelForSeq2SeqLM", tmp_path / "out")
    with open_run(float32(RunDirectory(tmp_path / "run").config())) as restored:
        embedding, output = (np.asarray(restored.params[key]) for key in ("embedding", "output"))
    np.testing.assert_array_equal(model.shared.weight.detach().numpy(), embedding)
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), output.T)


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1", "gpt2"])
def test_what_transformers_trains_further_is_imported_as_it_became(name, pair_of, tmp_path, say):
    import torch

    torch.manual_seed(0)
    model = auto(AUTO[name], pair_of(name)[1]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        ids = torch.randint(3, 300, (2, 12))
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "saved")
    for file in GOLDEN.joinpath(name).iterdir():
        if "token" in file.name or file.suffix in (".model", ".txt") or file.name == "vocab.json":
            shutil.copy(file, tmp_path / "saved")
    import_run(tmp_path / "saved", tmp_path / "run", ImportOptions())
    with open_run(float32(RunDirectory(tmp_path / "run").config())) as restored:
        embedding = np.asarray(restored.params["embedding"])
    np.testing.assert_array_equal(embedding, model.get_input_embeddings().weight.detach().numpy())
    assert np.abs(embedding - tensors_of(GOLDEN / name)[EMBEDDINGS[name]]).max() > 0.01
    assert " DIFFERS " not in say("verify", tmp_path / "run", tmp_path / "saved", *VERIFY)


EMBEDDINGS = {"t5_1_0": "shared.weight", "t5_1_1": "shared.weight", "gpt2": "transformer.wte.weight"}


def test_a_changed_tensor_fails_and_is_named(pair_of, tmp_path, capsys):
    run, folder = pair_of("gpt2")
    shutil.copytree(folder, tmp_path / "other")
    tensors = tensors_of(folder)
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] += 0.5
    safetensors.numpy.save_file(tensors, tmp_path / "other" / "model.safetensors")
    with pytest.raises(SystemExit) as left:
        carry_out(["verify", str(run), str(tmp_path / "other"), *VERIFY])
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert "19 of 20 parameters equal, bit for bit; decoder/blocks/mlp/up differs by 5.00e-01" in said
    for line in ("tensors", "random: scores", "padded: scores", "packed: scores", "text: scores"):
        assert any(row.startswith(f"{line} ") and " DIFFERS " in row for row in said.splitlines()), said
    assert "tokenizer            ok " in said


@pytest.mark.parametrize("name", ["gpt2", "llama3"])
def test_a_run_that_puts_something_else_before_a_prompt_continues_otherwise(name, pair_of, tmp_path, capsys):
    run, folder = pair_of(name)
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "vocabulary" / "vocabulary.json"
    description = json.loads(file.read_text("utf-8"))
    del description["checksum"]
    description["frame"]["before"] = [] if description["frame"]["before"] else [description["control"]["start"]]
    file.write_text(json.dumps(description), "utf-8")
    with pytest.raises(SystemExit):
        carry_out(["verify", str(tmp_path / "run"), str(folder), *VERIFY])
    differ = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if " DIFFERS " in line]
    assert differ == ["tokenizer", "greedy continuation"]


def test_a_folder_of_another_architecture_is_refused_in_one_sentence(pair_of):
    told = sentence(carry_out, ["verify", str(pair_of("gpt2")[0]), str(GOLDEN / "t5_1_0"), *VERIFY])
    assert told == f"model.encoder_layers is 0 in the run and 2 in {GOLDEN}/t5_1_0: these are different models."
