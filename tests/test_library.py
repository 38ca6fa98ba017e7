"""A run as an object of a program: the answers of the commands, kept programs, and nothing left behind."""

import asyncio
import contextlib
import io
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documents import PAGES, blocks, name_of
from golden_runs import on_one_device
from library_runs import TASK, write_runs
from settings import sentence

import t5like
from t5like.config.decoding import Decoding
from t5like.infer.batches import rounded
from t5like.infer.fill import Candidate
from t5like.library import Run
from t5like.results import Answer, Filled, Predicted, Results


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[pathlib.Path]:
    """The folder of the runs, which are restored onto one device."""
    folder = tmp_path_factory.mktemp("library")
    write_runs(folder, "tiny_gpt", "tiny_bert", "reviews")
    with on_one_device():
        yield folder / "runs"


@pytest.fixture(scope="module")
def more(runs) -> pathlib.Path:
    """The same folder with all runs."""
    write_runs(runs.parent, "tiny_t5", "stars")
    return runs


PROMPTS = ["the model reads", "", "a line of text, and writes it again", "你好"]


@contextlib.contextmanager
def compiled() -> Iterator[list[str]]:
    """The programs that are compiled within."""
    found = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_answers_are_those_of_the_command_line_and_a_second_call_compiles_nothing(runs, say):
    run = t5like.load(runs / "tiny_gpt")
    assert repr(run) == f"<run {runs}/tiny_gpt: decoder, 45,216 parameters, step 0>"
    answers = run.generate(PROMPTS, tokens=6, temperature=0.9, top_k=50, seed=3)
    (runs / "prompts.txt").write_text("\n".join(PROMPTS))
    said = say("generate", run.restored.run.path, f"--prompt_file={runs}/prompts.txt", "--json", "--tokens=6",
               "--temperature=0.9", "--top_k=50", "--seed=3")  # fmt: skip
    assert [answer.cells() for answer in answers] == [json.loads(line) for line in said.splitlines()]
    assert [answer.prompt for answer in answers] == PROMPTS and answers[1].text == ""
    with compiled() as programs:
        again = run.generate([*PROMPTS[2:], *PROMPTS[:1]], tokens=6, temperature=0.3, top_p=0.5)
    assert (len(again), programs) == (3, [])
    lazily = run.answers(PROMPTS, Decoding(tokens=6), 16)
    assert next(lazily).prompt == PROMPTS[0]
    assert jax.sharding.get_mesh().empty and jax.sharding.get_abstract_mesh().empty
    assert [answer.text for answer in lazily] == [answer.text for answer in run.generate(PROMPTS, tokens=6)[1:]]


def test_masks_are_filled_as_by_the_command_line(runs, say):
    run = t5like.load(str(runs / "tiny_bert"))
    texts = ["the [MASK] reads", "a [MASK] of [MASK]"]
    filled = run.fill(texts, top=2)
    said = say("fill", runs / "tiny_bert", *(f"--text={text}" for text in texts), "--top=2", "--json").splitlines()
    assert [json.loads(line)["masks"] for line in said] == [[[c._asdict() for c in m] for m in f.masks] for f in filled]
    with compiled() as programs:
        assert run.fill(texts[0], top=2)[0] == filled[0]
    assert programs == []


def assert_vectors_of_texts_alone(run: Run, pooling: Any) -> None:
    """Vectors do not depend on their batch, are those of the pooling, and a second call compiles nothing."""
    texts = ["a", "the model " * 4, "text"]
    vectors = run.embed(texts)
    assert vectors.shape == (3, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([run.embed(text) for text in texts]), vectors, atol=1e-5)
    np.testing.assert_allclose(run.embed(texts[::-1], batch=1)[::-1], vectors, atol=1e-5)
    np.testing.assert_allclose(run.embed(texts[0], pooling=pooling), vectors[:1], atol=1e-5)
    with compiled() as programs:
        run.embed(["other text", "the other " * 4, "a b"])
    assert programs == []


def test_a_vector_depends_on_its_text_alone(runs):
    run = t5like.load(runs / "tiny_bert")
    assert_vectors_of_texts_alone(run, "mean")
    assert run.embed([]).shape == (0, 32)


@pytest.mark.slow
def test_vectors_of_all_families(more):
    for name, pooling in {"tiny_t5": "mean", "tiny_gpt": "last", "stars": "first"}.items():
        assert_vectors_of_texts_alone(t5like.load(more / name), pooling)


@pytest.mark.slow
def test_logits_are_those_of_the_network_for_each_token(runs):
    run = t5like.load(runs / "tiny_gpt")
    texts = ["the model", "a line of text"]
    short, long = run.logits(texts)
    ids = run.tokens(texts)
    assert (short.shape, long.shape) == ((len(ids[0]), 384), (len(ids[1]), 384))
    row = lambda x: jnp.asarray([x], jnp.int32)  # noqa: E731
    features = {"input_tokens": ids[0], "segment_ids": [1] * len(ids[0]), "positions": range(len(ids[0]))}
    with jax.set_mesh(cast(jax.sharding.Mesh, run.restored.network.mesh)):
        batch = {f"decoder_{name}": row(list(values)) for name, values in features.items()}
        alone = jax.jit(run.restored.network.inference_net.apply)({"params": run.params}, batch)
    np.testing.assert_allclose(short, np.asarray(alone)[0], atol=1e-5)
    written = np.where(np.arange(384) < run.vocabulary.size, short[-1], -np.inf)
    written[run.vocabulary.pad] = -np.inf
    assert run.generate(texts[0], tokens=1)[0].text == run.vocabulary.decode([int(np.argmax(written))])


@pytest.mark.slow
def test_a_t5_scores_targets_and_a_head_scores_labels(more):
    run = t5like.load(more / "tiny_t5")
    given = run.logits(["the model", "text"], ["reads", "a"])
    assert [scores.shape for scores in given] == [(6, 384), (2, 384)]
    np.testing.assert_allclose(run.logits("the model")[0], given[0][:1], atol=1e-5)
    head = t5like.load(more / "stars")
    (scores,) = head.logits("fine")
    assert scores.shape == (2,)
    shares = np.exp(scores) / np.exp(scores).sum()
    (predicted,) = head.predict("fine")
    np.testing.assert_allclose([predicted.scores[label] for label in TASK.labels], shares, rtol=1e-4)


def test_the_command_predicts_the_same_for_rows_of_standard_input(runs, say, monkeypatch):
    rows = [{"review": "fine", "n": 1}, {"review": "poor", "n": 2}]
    given = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    said = [json.loads(line) for line in say("predict", runs / "reviews", "-").splitlines()]
    found = t5like.load(runs / "reviews").predict(rows)
    assert said == [row | {"prediction": p.value, "scores": p.scores} for row, p in zip(rows, found, strict=True)]
    for given, problem in {b"": " has no rows", b'{"text": 1}\n': ", line 1, has no field 'review'"}.items():
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        complaint = sentence(say, "predict", runs / "reviews", "-")
        assert f"standard input{problem}" in complaint and "on_error" not in complaint


def test_predictions_are_of_texts_or_of_the_fields_of_rows(runs):
    run = t5like.load(runs / "reviews")
    assert run.tasks.keys() == {"files"} and repr(run).endswith("step 0, task classify>")
    predictions = run.predict(["fine", {"review": "poor", "other": 1}, {"review": "fine", "stars": "bad"}])
    assert [p.input for p in predictions] == ["fine", "poor", "fine"]
    assert predictions[0] == predictions[2] == run.predict("fine", source="files")[0]
    for prediction in predictions:
        assert prediction.value == max(prediction.scores, key=prediction.scores.__getitem__)
        assert sum(prediction.scores.values()) == pytest.approx(1)
    with compiled() as programs:
        assert len(run.predict(["poor", "poor", "fine", "so so"])) == 4
    assert programs == [] and len(run.predict([])) == 0
    assert sentence(run.predict, {"text": "x"}).startswith(
        "data.sources.N.task: Example 0 (counted from 0) has no field"
    )
    assert sentence(run.predict, "x", source="file") == (
        f"{runs}/reviews has no task of a source 'file'; did you mean 'files'?"
    )


def test_mistakes_are_sentences(runs):
    gpt, bert = (t5like.load(runs / name) for name in ("tiny_gpt", "tiny_bert"))
    for words, call in {
        "runs/tiny_gpt has learned no task to predict: use `generate`.": lambda: gpt.predict("x"),
        "runs/tiny_bert has learned no task to predict: use `fill` and `embed`.": lambda: bert.predict("x"),
        "An encoder has nothing to generate with": lambda: bert.generate("x"),
        "`t5like fill` is for encoders": lambda: gpt.fill("[MASK]"),
        "Text 1 (counted from 0) has 102 tokens, but model.max_positions=64": lambda: bert.embed(["a", "x" * 101]),
        "tokens=0 must be above 0": lambda: gpt.generate("x", tokens=0),
        "batch=0 must be above 0": lambda: gpt.embed("x", batch=0),
        "top=0 must be above 0": lambda: bert.fill("[MASK]", top=0),
        "seed=-1 must be at least 0": lambda: gpt.generate("x", seed=-1),
        "--top_k 3 has no effect without --temperature": lambda: gpt.generate("x", top_k=3),
        "targets are for encoder-decoders": lambda: gpt.logits("x", "y"),
        "is neither a preset nor a run directory": lambda: t5like.load(runs / "none"),
        "t5like.load has no flag --model.dtyp; did you mean '--model.dtype'?": lambda: t5like.load(
            runs / "tiny_gpt", config={"model.dtyp": "float32"}
        ),
        "model.embed (32 there, 64 now)": lambda: t5like.load(runs / "tiny_gpt", config={"model.embed": 64}),
        "checkpoints has no step 7; there are 0.": lambda: t5like.load(runs / "tiny_gpt", step=7),
    }.items():
        assert words in sentence(call), words


@pytest.mark.slow
def test_runs_of_other_meshes_lie_side_by_side_and_threads_take_turns(runs):
    alone = t5like.load(runs / "tiny_gpt")
    with pytest.MonkeyPatch.context() as patch:
        from t5like.model.sharding import make_mesh
        from t5like.runs import opened

        patch.setattr(opened, "make_mesh", make_mesh)
        wide = t5like.load(runs / "tiny_gpt", config={"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2})
    assert (alone.restored.network.mesh.size, wide.restored.network.mesh.size) == (1, 8)
    texts = ["the model", "reads", "a line"]
    expected, found = alone.embed(texts), dict[str, np.ndarray]()
    threads = [
        threading.Thread(target=lambda run=run, name=name: found.update({name: run.embed(texts)}))
        for name, run in {"alone": alone, "again": alone, "wide": wide}.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vectors in (found["alone"], found["again"], found["wide"], alone.embed(texts)):
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_notebook_whose_loop_runs_can_load_and_ask(runs, caplog):
    async def cell() -> Results[Answer]:
        return t5like.load(runs / "tiny_gpt").generate(PROMPTS, tokens=6)

    assert [answer.prompt for answer in asyncio.run(cell())] == PROMPTS
    assert caplog.records == []


def test_results_are_lists_with_tables():
    answers = Results([Answer("a <b>\nc", "d"), Answer("<extra_id_0>", "e", "[e]")])
    assert (len(answers), answers[1].text, list(answers[:1])) == (2, "e", [answers[0]])
    assert repr(answers) == "prompt  a <b>\nc\nanswer  d\n\nprompt  <extra_id_0>\nanswer  e\nfilled  [e]"
    shown = answers._repr_html_()
    assert "a &lt;b&gt;\nc</td>" in shown and shown.count("<tr>") == 3 and shown.count("<th ") == 4
    assert repr(Results([Answer("a", "b")] * 25)).endswith("\n\n... and 5 more")
    assert Results([Answer("a", "b")] * 25)._repr_html_().endswith("<p>... and 5 more</p>")
    assert repr(Results([])) == "no results"
    filled = Filled("[MASK]", [[Candidate(1, "a", 0.75), Candidate(2, "b", 0.25)]])
    assert filled.cells() == {"text": "[MASK]", "mask 1": "a 0.750  b 0.250"}
    predicted = Predicted("x", ("a", "b"), {"b": 0.6, "a": 0.9}, None)
    assert predicted.cells() == {"input": "x", "prediction": "a, b", "scores": "a 0.900  b 0.600"}


def test_rows_of_the_last_batch_are_rounded_up_to_a_power_of_two():
    assert [rounded(count, 16) for count in (0, 1, 2, 3, 15, 16, 17, 21)] == [0, 1, 2, 4, 16, 16, 17, 24]
    assert [rounded(count, 6) for count in (5, 6, 7, 9)] == [6, 6, 7, 10]


EXAMPLES = {name_of(page): [b for b in blocks(page, "python") if "t5like.load" in b] for page in PAGES}


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, found in EXAMPLES.items() if found])
def test_the_examples_of_a_page_run(page, more, monkeypatch, capsys):
    monkeypatch.chdir(more.parent)
    for block in EXAMPLES[page]:
        exec(block, {})
    assert capsys.readouterr().out or "print(" not in "".join(EXAMPLES[page])


def test_an_empty_prompt_has_an_empty_answer_and_the_others_keep_their_numbers(runs):
    run = t5like.load(runs / "tiny_gpt")
    answers = [
        [answer.text for answer in run.generate(prompts, temperature=1.0, tokens=4)]
        for prompts in (["", "a", " ", "b"], ["x", "a", "y", "b"], ["", ""])
    ]
    assert answers[0] == ["", answers[1][1], "", answers[1][3]]
    assert answers[2] == ["", ""]


def test_a_streamed_answer_is_the_generated_one_and_ends_before_a_stop_string(runs, say):
    run = t5like.load(runs / "tiny_gpt")
    for options in (dict(temperature=0.9, seed=3), dict()):
        answer = run.generate(PROMPTS, tokens=6, **options)[0].text
        assert "".join(run.stream(PROMPTS[0], tokens=6, **options)) == answer
    said = say("generate", runs / "tiny_gpt", f"--prompt={PROMPTS[0]}", "--tokens=6", "--stream")
    assert said == f"{answer}\n"
    stopped = "".join(run.stream(PROMPTS[0], tokens=6, stop=[answer[2:4]]))
    assert stopped == answer[: answer.index(answer[2:4])] != answer
    shown = "".join(run.stream(PROMPTS[0], tokens=6, stop=[answer[2:4]], include_stop_str_in_output=True))
    assert shown == stopped + answer[2:4]
    assert shown == run.generate(PROMPTS[0], tokens=6, stop=[answer[2:4]], include_stop_str_in_output=True)[0].text
    assert "without beams" in sentence(lambda: next(run.stream(PROMPTS[0], num_beams=2)))
    first, second = (run.stream(PROMPTS[0], tokens=6) for _ in range(2))
    begun = next(first)
    assert ("".join(second), begun + "".join(first)) == (answer, answer)
    assert jax.sharding.get_mesh().empty
    assert sentence(run.stream, " ") == "The prompt is empty: give a text."
