"""Scores of texts: those of a full softmax, token by token, whatever stands beside a text in a batch."""

import functools
import io
import json
import pathlib
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import on_one_device, opened, quiet_transformers
from settings import sentence
from small import random_batch, random_params, small_config

from t5like import config
from t5like.cli import COMMANDS
from t5like.commands.score import ScoreOptions, _score
from t5like.commands.standard_input import named
from t5like.convert.original import has_transformers
from t5like.data.features import token_features
from t5like.data.vocabulary import Bytes, Frame, Vocabulary
from t5like.infer.forward import outputs_of
from t5like.infer.passes import masked, rest_written, spans_filled, spans_of_length, way_of, words_of
from t5like.infer.score import _log_probabilities, log_probabilities
from t5like.library import Run
from t5like.model.network import make_network
from t5like.model.sharding import make_mesh
from t5like.results import Scored
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored
from t5like.tasks.asked import Reading
from t5like.tasks.likelihood import log_likelihoods

VOCABULARY = Vocabulary(Bytes(), [config.MASK, config.CLS, config.SEP, "[S]"], 11)
TEXTS = ["a cat", "naïve 猫🙂", "", "x"]
PAIRS = {"data__sources": (config.Source(kind="jsonl", path="unused", fields=("first", "second")),)}
SEQUENCES = {**PAIRS, "data__objective": config.Objective(kind="sequence_to_sequence"), "data__target_length": 16}
PROMPTS = {**PAIRS, "data__objective": config.Objective(kind="prompt_target")}


@functools.cache
def run_of(family: str, devices: int = 1, **changes: Any) -> Run:
    """A run of random parameters, as if it had been trained."""
    sizes = {"fsdp": 1} if devices == 1 else {"data": 2, "fsdp": 2, "tensor": 2}
    mesh = make_mesh(config.Mesh(**sizes), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        network = make_network(small_config(family, model__vocab=384, **changes), mesh)
        params = jax.device_put(random_params(network.net, random_batch(network.config)), network.shardings)
    return Run(Restored(RunDirectory(pathlib.Path("none")), network, VOCABULARY, 0, params))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True)


def values(scored: Scored) -> list[float | None]:
    return [each.score for each in scored.token_scores]


def assert_close(found: Scored, wanted: list[float]) -> None:
    np.testing.assert_allclose(values(found), wanted, rtol=1e-4, atol=1e-5)
    assert found.tokens == len(wanted)
    assert found.score is None if not wanted else abs(found.score - sum(wanted)) < 1e-3


def test_a_decoder_scores_each_token_behind_those_before_it():
    run = run_of("gpt")
    for text, logits, found in zip(TEXTS, run.logits(TEXTS), run.score(TEXTS), strict=True):
        ids, rows = VOCABULARY.encode(text), log_softmax(logits)  # row n scores the token behind start and n tokens
        assert_close(found, rows[np.arange(len(ids)), ids].tolist())
        assert [each.token for each in found.token_scores] == [VOCABULARY.name(number) for number in ids]
    (behind,) = run.score("cat", "a ")
    whole = run.score("a cat")[0]
    np.testing.assert_allclose(values(behind), values(whole)[2:], rtol=1e-4)
    ended = run.score("a cat", end=True)[0]
    assert ended.token_scores[-1].token == VOCABULARY.name(VOCABULARY.eos)
    np.testing.assert_allclose(values(ended)[:-1], values(whole), rtol=1e-4)


def test_an_encoder_decoder_scores_targets_with_their_end_behind_inputs():
    run = run_of("t5", **SEQUENCES)
    inputs = ["the first", "猫", "", "more"]
    for text, logits, found in zip(TEXTS, run.logits(inputs, TEXTS), run.score(TEXTS, inputs), strict=True):
        ids, rows = [*VOCABULARY.encode(text), VOCABULARY.eos], log_softmax(logits)
        assert_close(found, rows[np.arange(len(ids)), ids].tolist())
    rest = run.score("abcdef", by="prefix", prefix=0.5)[0]
    np.testing.assert_allclose(values(rest)[3:], values(run.score("def", "abc", end=False)[0]), rtol=1e-4)
    assert values(rest)[:3] == [None] * 3 and rest.size == (3, 3)


def test_an_encoder_scores_each_token_as_a_mask():
    run = run_of("bert")
    ids, eos, mask = VOCABULARY.encode("a caté"), VOCABULARY.eos, VOCABULARY.require("mask")
    hidden = {
        "original": [[n] for n in range(len(ids))],  # a space belongs to the word behind it
        "within_word_l2r": [[0], *(list(range(n, len(ids))) for n in range(1, len(ids)))],
    }
    for pll, masks in hidden.items():
        rows = [[mask if n in gone else token for n, token in enumerate(ids)] + [eos] for gone in masks]
        with run._on_devices():
            logits = outputs_of(run.restored, [{"encoder": row} for row in rows], "logits", 8)
        wanted = [float(log_softmax(row[n])[token]) for n, (row, token) in enumerate(zip(logits, ids, strict=True))]
        assert_close(run.score("a caté", pll=pll)[0], wanted)


@pytest.mark.parametrize(("family", "changes"), [("t5", SEQUENCES), ("gpt", PROMPTS)])
def test_a_score_is_the_likelihood_of_a_candidate(family, changes):
    run = run_of(family, **changes)
    candidates = ["good", "very bad"]
    found = [each.score for each in run.score(candidates, ["so so"] * 2)]
    with run._on_devices():
        (wanted,) = log_likelihoods(run.restored.network, VOCABULARY, run.params, ["so so"], [candidates], 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


CROWD = [f"{'word ' * (n % 7)}number {n}" for n in range(13)]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt", "t5", "bert"])
def test_a_score_depends_neither_on_neighbours_nor_on_devices(family):
    together, programs = run_of(family).score(CROWD, batch=16), cast(Any, _log_probabilities)
    compiled = programs._cache_size()
    run_of(family).score([f"{text}!" for text in CROWD[::-1]], batch=16)
    assert programs._cache_size() == compiled  # lengths and rows are rounded
    for others in (
        [run_of(family).score(text)[0] for text in CROWD[:2]],
        run_of(family, devices=8).score(CROWD[::-1], batch=8)[::-1],
    ):
        for one, other in zip(together, others, strict=False):  # of those alone there are two
            np.testing.assert_allclose(values(one), values(other), rtol=1e-4, atol=1e-5)


def test_targets_score_the_same_when_rows_are_packed():
    run = run_of("gpt")
    first, second = ([VOCABULARY.start, *VOCABULARY.encode(text)] for text in ("a cat", "sat"))
    features = token_features("decoder", [[first[:-1], second[:-1]]])
    targets = np.zeros_like(features["decoder_input_tokens"])
    targets[0, : len(first) + len(second) - 2] = [*first[1:], *second[1:]]
    batch = {name: jnp.asarray(x) for name, x in {**features, "decoder_target_tokens": targets}.items()}
    with run._on_devices():
        found = jax.jit(functools.partial(log_probabilities, run.restored.network.inference_net))
        packed = np.asarray(found(run.params, batch))[0]
    alone = [value for each in run.score(["a cat", "sat"]) for value in values(each)]
    np.testing.assert_allclose(packed[: len(alone)], alone, rtol=1e-4)


FRAME = Frame((VOCABULARY.require("cls"),), (VOCABULARY.require("sep"),))
SENTINELS, ENDS = config.Objective(kind="span_corruption").denoisings[0], Frame(behind=(VOCABULARY.eos,))


def shown(passes: Any) -> list[list[str]]:
    """What each stack reads, with _ for a mask, and the tokens that are scored."""
    letters = {"[CLS]": "(", "[SEP]": ")", "[MASK]": "_", "</s>": ".", "<pad>": "^", "<extra_id_0>": "0"}

    def written(ids: Any) -> str:
        names = (VOCABULARY.name(int(number)) for number in ids)
        return "".join(letters.get(name) or (chr(int(name[3:5], 16)) if name[:3] == "<0x" else name) for name in names)

    return [[*map(written, each.stacks.values()), written(each.tokens)] for each in passes]


def test_words_and_spans_are_those_of_text_alone():
    ids = VOCABULARY.encode("a cat,é<extra_id_3>猫b")
    words = [VOCABULARY.decode(ids[start:stop]) for start, stop in words_of(ids, VOCABULARY)]
    assert words == ["a", " cat", ",", "é", "猫", "b"]
    assert words_of([], VOCABULARY) == []
    assert spans_of_length(ids, 4, VOCABULARY) == [(0, 4), (4, 8), (9, 13)]


def test_passes_hide_what_is_scored_and_no_more():
    ids = VOCABULARY.encode("ab c")
    assert shown(masked(ids, "original", FRAME, VOCABULARY)) == [
        ["(_b c)", "a"], ["(a_ c)", "b"], ["(ab_c)", " "], ["(ab _)", "c"]
    ]  # fmt: skip
    assert [row for row, _ in shown(masked(ids, "within_word_l2r", FRAME, VOCABULARY))] == [
        "(__ c)", "(a_ c)", "(ab__)", "(ab _)"
    ]  # fmt: skip
    spans = spans_filled(ids, words_of(ids, VOCABULARY), SENTINELS, ENDS, VOCABULARY)
    assert shown(spans) == [["0 c.", "^0a", "ab"], ["ab0.", "^0 ", " c"]]
    assert shown(rest_written(ids, 2, SENTINELS, ENDS, VOCABULARY)) == [["ab0.", "^0 ", " c"]]
    missing = SENTINELS._replace(sentinels=False)
    assert shown(spans_filled(ids, [(1, 2)], missing, ENDS, VOCABULARY)) == [["a c.", "^", "b"]]
    moded = rest_written(ids, 1, SENTINELS._replace(mode="[S]", sentinels=False), ENDS, VOCABULARY)
    assert shown(moded) == [["[S]a.", "^b ", "b c"]]


def test_a_way_of_writing_is_one_that_the_run_has_learned():
    ul2 = config.Objective(kind="ul2", denoisers=config.UL2)
    assert way_of(ul2, "prefix").mode == "[S]" and not way_of(ul2, "prefix").sentinels
    assert way_of(ul2, "spans").mode == "[R]" and way_of(ul2, "spans").sentinels
    assert way_of(config.Objective(kind="prefix"), "spans") is None
    assert way_of(config.Objective(kind="span_corruption"), "prefix").sentinels


def test_a_text_before_which_nothing_stands_has_a_first_token_without_score():
    restored = run_of("gpt").restored
    bare = Vocabulary(Bytes(), [config.MASK, config.CLS, config.SEP, "[S]"], 11, frame=Frame())
    run = Run(Restored(restored.run, restored.network, bare, 0, restored.params))
    assert values(run.score("abc")[0])[0] is None and run.score("abc")[0].tokens == 2
    assert run.score("a")[0].figures == {
        "score": None, "tokens": 0, "score_per_token": None, "score_per_character": None, "score_per_byte": None
    }  # fmt: skip
    np.testing.assert_allclose(
        values(run.score("abc", start=True)[0]), values(run_of("gpt").score("abc")[0]), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("bert", {"inputs": "a"}, "An input is for models with a decoder"),
        ("bert", {"by": "spans"}, "--by spans is for encoder-decoders; this run has the family encoder"),
        ("gpt", {"pll": "within_word_l2r"}, "--pll within_word_l2r is for encoders; this run has the family decoder"),
        ("t5", {"start": True}, "--start is for decoders"),
        ("t5", {"end": True}, "--end has no effect with --by spans"),
        ("t5", {"by": "prefix", "inputs": "a"}, "--by prefix is for texts without an input"),
        (
            "bert",
            {"texts": "long " * 13},
            "needs a row of 66 tokens, but model.max_positions=64",
        ),
        ("gpt", {"prefix": 0.2}, "--prefix 0.2 has no effect"),
        ("gpt", {"inputs": ["a", "b"]}, "There are 1 texts but 2 inputs."),
    ],
)
def test_what_does_not_suit_a_run_is_refused_by_one_sentence(family, options, said):
    assert said in sentence(run_of(family).score, **{"texts": "ab c", **options})


def test_a_head_of_labels_has_no_scores_of_text():
    head = dict(model__head="sequence", model__labels=2, model__tied=False, model__pooling="first")
    stars = config.Objective(kind="classification", labels=2)
    source = config.Source(kind="jsonl", path="unused", task=config.Task(labels=("a", "b")))
    run = run_of("bert", **head, model__token_types=2, data__objective=stars, data__sources=(source,))
    assert "model.head='sequence' predicts no pieces" in sentence(run.score, "a")


def scored(path: pathlib.Path, capsys: Any, run: Run | None = None, **options: Any) -> tuple[list[Any], str]:
    """The lines that the command prints for a file, and what it says beside them."""
    chosen = ScoreOptions(**options)
    capsys.readouterr()
    with (run or run_of("gpt"))._on_devices():
        _score((run or run_of("gpt")).restored, chosen, str(path))
    said = capsys.readouterr()
    return [json.loads(line) for line in said.out.splitlines()], said.err


def test_a_file_keeps_its_fields_and_order_and_several_targets_are_compared(tmp_path, capsys):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("good,id,bad,given\nabc,7,xyz,a\nsame,3,same,\n", "utf-8")
    lines, said = scored(pairs, capsys, target=("good", "bad"), input="given", token_scores=True)
    assert [list(line)[:4] for line in lines] == [["good", "id", "bad", "given"]] * 2
    good, bad = run_of("gpt").score(["abc", "xyz"], ["a", "a"])
    filled, _ = scored(pairs, capsys, target=("good",), input="no. {id}: {given}")
    assert filled[0]["score"] == pytest.approx(run_of("gpt").score("abc", "no. 7: a")[0].score, 1e-4)
    assert lines[0]["score"] == {"good": pytest.approx(good.score, 1e-4), "bad": pytest.approx(bad.score, 1e-4)}
    assert lines[0]["token_scores"]["good"][0] == ["<0x61>", pytest.approx(values(good)[0], 1e-4)]
    assert lines[0]["likeliest"] == ("good" if good.score > bad.score else "bad")
    assert lines[1]["likeliest"] is None and lines[1]["tokens"] == {"good": 4, "bad": 4}
    won = {name: f"{50 * (lines[0]['likeliest'] == name):.1f}%" for name in ("good", "bad")}
    assert said == f"2 rows scored.\nLikeliest of 2 rows: good in {won['good']}, bad in {won['bad']}.\n"


def test_plain_lines_json_lines_and_standard_input_are_read(tmp_path, capsys, monkeypatch):
    (tmp_path / "lines.txt").write_text("a cat\n\n猫\n", "utf-8")
    lines, _ = scored(tmp_path / "lines.txt", capsys)
    wanted = run_of("gpt").score(["a cat", "猫"])
    assert [line["text"] for line in lines] == ["a cat", "猫"]
    for line, each in zip(lines, wanted, strict=True):
        assert line == {"text": each.text, **{name: pytest.approx(v, 1e-4) for name, v in each.figures.items()}}
    (tmp_path / "table.tsv").write_text("one\ta cat\n", "utf-8")
    assert (
        scored(tmp_path / "table.tsv", capsys, target=("x",), reading=Reading(columns=("n", "x")))[0][0]["n"] == "one"
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a cat", "n": 1}\n')))
    with named("-") as (path, content):
        (found,), _ = scored(pathlib.Path(path), capsys)
    assert (
        found == {"text": "a cat", "n": 1, **{k: v for k, v in lines[0].items() if k != "text"}} and len(content) == 64
    )


def test_mistakes_in_a_file_name_the_line(tmp_path, capsys):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b", "score": 3}\n', "utf-8")
    assert "a.jsonl, line 2, has a field 'score' already" in sentence(scored, file, capsys)
    assert "--target and --input: " in sentence(scored, file, capsys, target=("txt",))
    file.write_text('{"text": "a"}\n{"text": "' + "long " * 13 + '"}\n', "utf-8")
    assert "a.jsonl, line 2, needs a row of 66 tokens" in sentence(scored, file, capsys, run_of("bert"))
    file.write_text('{"text": "a"}\n{"txt": "b"}\n', "utf-8")
    lines, said = scored(file, capsys, reading=Reading(on_error="skip"))
    assert len(lines) == 1 and "1 rows are left out: " in said and "a.jsonl, line 2, has no field 'text'" in said
    assert sentence(ScoreOptions, target=("a", "a")) == "--target a a names a column twice."
    assert COMMANDS["score"].takes == "run and file"


ORIGINALS = [
    pytest.mark.originals,
    pytest.mark.slow,
    pytest.mark.skipif(not has_transformers(), reason="runs transformers' models"),
    pytest.mark.filterwarnings("ignore"),
]


def original_of(auto: str, folder: pathlib.Path) -> Any:
    """A function from transformers' inputs to the log-probabilities of its model."""
    import torch
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder).eval()

    def found(**rows: list[int]) -> np.ndarray:
        with torch.no_grad():
            logits = model(**{name: torch.tensor([row]) for name, row in rows.items()}).logits[0]
        return torch.log_softmax(logits.double(), dim=-1).numpy()

    return found


@pytest.mark.parametrize("name", [pytest.param(n, marks=ORIGINALS) for n in ("gpt2", "t5_1_1", "bert_masked")])
def test_scores_are_those_of_transformers(name, tmp_path):
    text = "The river rises."
    with on_one_device(), quiet_transformers(), opened(name, tmp_path / name) as golden:
        run, vocabulary = Run(golden.restored), golden.restored.vocabulary
        ids = vocabulary.encode(text)
        if name == "gpt2":
            rows = original_of("AutoModelForCausalLM", golden.folder)(input_ids=ids)
            assert values(run.score(text)[0])[0] is None
            found, wanted = values(run.score(text)[0])[1:], rows[np.arange(len(ids) - 1), ids[1:]]
            begun = original_of("AutoModelForCausalLM", golden.folder)(input_ids=[vocabulary.start, *ids])
            np.testing.assert_allclose(
                values(run.score(text, start=True)[0]), begun[np.arange(len(ids)), ids], rtol=1e-4
            )
        elif name == "t5_1_1":
            model = original_of("AutoModelForSeq2SeqLM", golden.folder)
            given, target = [*vocabulary.encode("a town"), vocabulary.eos], [*ids, vocabulary.eos]
            rows = model(input_ids=given, decoder_input_ids=[0, *target[:-1]])
            found, wanted = values(run.score(text, "a town")[0]), rows[np.arange(len(target)), target]
            sentinel = int(vocabulary.sentinels[0])
            spanned = []
            for start, stop in words_of(ids, vocabulary):
                hidden = [*ids[:start], sentinel, *ids[stop:], vocabulary.eos]
                rows = model(input_ids=hidden, decoder_input_ids=[0, sentinel, *ids[start : stop - 1]])
                spanned += rows[1 + np.arange(stop - start), ids[start:stop]].tolist()
            np.testing.assert_allclose(values(run.score(text)[0]), spanned, rtol=1e-4)
        else:
            model, (first, *_, last) = original_of("AutoModelForMaskedLM", golden.folder), run.tokens(text)[0]
            mask, row = vocabulary.require("mask"), [first, *ids, last]
            wanted = [model(input_ids=[*row[: n + 1], mask, *row[n + 2 :]])[n + 1, ids[n]] for n in range(len(ids))]
            found = values(run.score(text)[0])
            follows = [vocabulary.name(number).startswith("##") for number in ids]
            l2r = []
            for n in range(len(ids)):
                stop = next((m for m in range(n + 1, len(ids)) if not follows[m]), len(ids))
                hidden = [*row[: n + 1], *[mask] * (stop - n), *row[stop + 1 :]]
                l2r.append(model(input_ids=hidden)[n + 1, ids[n]])
            assert any(follows)
            np.testing.assert_allclose(values(run.score(text, pll="within_word_l2r")[0]), l2r, rtol=1e-4)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
