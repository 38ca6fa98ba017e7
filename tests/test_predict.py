"""Predictions for tasks: likelihoods are the model's, a row alone is as in a crowd, and scores find their way back."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import EXTRA, vocabulary
from small import small_config

from t5like import config
from t5like.config import Task
from t5like.data.sources.records import Row
from t5like.data.tasks.encode import Encoded
from t5like.data.tasks.examples import examples_of
from t5like.model.network import make_network
from t5like.model.sharding import make_mesh
from t5like.tasks.evaluate import judged, record, write
from t5like.tasks.head_scores import LONGEST_ANSWER, PREDICT
from t5like.tasks.likelihood import log_likelihoods, pair_features
from t5like.tasks.predict import Predictor, value_of
from t5like.tasks.prediction import Prediction
from t5like.train.step import targets_and_weights

LABELS = ("bad", "very good", "so so")
CLASSIFY = Task(labels=LABELS)
OBJECTIVES = {"t5": "sequence_to_sequence", "gpt": "prompt_target"}


def row(**values):
    return Row(0, values, lambda: "a.jsonl, line 1,")


def example(task, **values):
    (found,) = examples_of(task, row(**values), labelled=False)
    return found


def network_of(family: str, task: Task, mesh, **changes):
    """A network of a family for a task, with random parameters."""
    objective = config.Objective(kind=OBJECTIVES[family]) if family in OBJECTIVES else changes.pop("objective")
    settings = small_config(
        family,
        data__objective=objective,
        data__sources=(config.Source(kind="jsonl", path="unused", task=task),),
        data__vocabulary=config.Vocabulary(size=400, sentinels=200, extra=EXTRA),
        data__length=48,
        model__vocab=640,
        **({"data__target_length": 16} if family == "t5" else {}),
        **changes,
    )
    network = make_network(settings, mesh)
    rng = np.random.default_rng(0)
    noise = lambda x: x + jnp.asarray(rng.normal(size=x.shape) * 0.3, jnp.float32)  # noqa: E731
    return network, jax.tree.map(noise, network.initial_params())


@pytest.fixture
def made(one_device):
    return functools.partial(network_of, mesh=one_device)


@pytest.mark.parametrize("family", OBJECTIVES)
def test_a_likelihood_is_that_of_the_targets_of_the_training_row(family, made):
    network, params = made(family, CLASSIFY)
    prompts = ["It was fine.", "Not " * 9, "猫"]
    found = log_likelihoods(network, vocabulary(), params, prompts, [LABELS] * 3, 4)
    logits_of = jax.jit(network.net.apply)
    for prompt, scores in zip(prompts, found, strict=True):
        for label, score in zip(LABELS, scores, strict=True):
            features = pair_features(network, vocabulary(), [prompt], [[label]])
            batch = {name: jnp.asarray(x) for name, x in features.items()}
            logits = jax.nn.log_softmax(logits_of({"params": params}, batch), axis=-1)
            targets, weights = targets_and_weights(batch)
            chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            written = vocabulary().encode_document(label)
            assert int(weights.sum()) == len(written)
            assert np.array(targets[weights > 0]).tolist() == written
            np.testing.assert_allclose(score, float(jnp.sum(chosen * weights)), rtol=1e-5)


CROWD = [f"{'word ' * (n % 7)}number {n}" for n in range(11)]
HEAD = dict(model__head="sequence", model__labels=3, model__tied=False, model__pooling="first", model__token_types=2)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "gpt", "bert", "written"])
def test_a_prediction_does_not_depend_on_its_neighbours(family, made):
    task = Task(kind="text", target="label", tokens=6) if family == "written" else CLASSIFY
    more = {**HEAD, "objective": config.Objective(kind="classification", labels=3)} if family == "bert" else {}
    network, params = made({"written": "t5"}.get(family, family), task, **more)
    asked = [example(task, text=text) for text in CROWD]
    together = list(Predictor(network, vocabulary(), task, batch=8)(params, asked))
    alone = [next(Predictor(network, vocabulary(), task, batch=1)(params, [one])) for one in asked]
    assert [p.value for p in together] == [p.value for p in alone]
    assert [p.text for p in together] == [p.text for p in alone]
    for left, right in zip(together, alone, strict=True):
        assert left.scores.keys() == right.scores.keys()
        np.testing.assert_allclose(list(left.scores.values()), list(right.scores.values()), atol=1e-4)
        assert not left.scores or abs(sum(left.scores.values()) - 1) < 1e-5


def test_candidates_of_any_number_are_scored_each_example_its_own(made):
    task = Task(kind="choice", input="q", candidates=("c",))
    network, params = made("t5", task)
    asked = [example(task, q="One?", c=["a", "b"]), example(task, q="Two?", c=["a", "b", "c c", "d"])]
    found = list(Predictor(network, vocabulary(), task)(params, asked))
    assert [list(p.scores) for p in found] == [["a", "b"], ["a", "b", "c c", "d"]]
    assert all(p.value == max(p.scores, key=p.scores.get) for p in found)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bert", "written"])
def test_predictions_are_the_same_on_eight_devices(family):
    task = Task(kind="text", target="label", tokens=6) if family == "written" else CLASSIFY
    asked, found = [example(task, text=text) for text in CROWD], []
    for devices, sizes in ((1, {"fsdp": 1}), (8, {"data": 2, "fsdp": 2, "tensor": 2})):
        mesh = make_mesh(config.Mesh(**sizes), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            more = {**HEAD, "objective": config.Objective(kind="classification", labels=3)} if family == "bert" else {}
            network, params = network_of({"written": "t5"}.get(family, family), task, mesh, **more)
            found.append(list(Predictor(network, vocabulary(), task, batch=8)(params, asked)))
    assert [(p.value, p.text) for p in found[0]] == [(p.value, p.text) for p in found[1]]
    for one, eight in zip(*found, strict=True):
        np.testing.assert_allclose(list(one.scores.values()), list(eight.scores.values()), atol=1e-4)


SPAN = Task(kind="span", input="q", context="c", target="a", unanswerable=True)


def window(spans, scores):
    spans = [(-1, -1), *spans]
    return Encoded([0] * len(spans), [1, len(spans) - 1], [0, 0], [], spans), np.array(scores, np.float32)


def test_the_best_legal_span_of_all_windows_wins_or_none():
    asked = example(SPAN, q="?", c="a bb ccc dddd")
    first = window([(0, 1), (2, 4)], [[0, 0], [1, 5], [4, 1]])  # 1..1: 6; 2 before 1 is no span
    second = window([(2, 4), (5, 8), (9, 13)], [[0, 0], [0, 0], [6, 0], [0, 3]])  # 2..3: 9
    predict = PREDICT["span"]
    assert predict(SPAN, asked, [first, second]).value == "ccc dddd"
    assert predict(SPAN, asked, [first]).value == "a"
    nothing = window([(0, 1), (2, 4)], [[5, 5], [1, 5], [4, 1]])
    assert predict(SPAN, asked, [nothing]).value == ""
    answerable = config.Task(kind="span", input="q", context="c", target="a")
    assert predict(answerable, asked, [nothing]).value == "a"


def test_an_answer_is_no_longer_than_the_longest():
    text = "x" * 200
    spans = [(n, n + 1) for n in range(200)]
    scores = np.zeros((201, 2), np.float32)
    scores[1, 0], scores[200, 1], scores[LONGEST_ANSWER, 1] = 9, 9, 1
    found = PREDICT["span"](SPAN, example(SPAN, q="?", c=text), [window(spans, scores)])
    assert found.value == "x" * LONGEST_ANSWER


def test_words_of_several_rows_come_back_in_order():
    task = Task(kind="tag", labels=("O", "A", "B"))
    rows = [
        (Encoded([0] * 4, [4, 0], [0] * 4, [1, 2], []), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]),
        (Encoded([0] * 3, [3, 0], [0] * 3, [1], []), np.eye(3, dtype=np.float32)[[0, 1, 0]]),
    ]
    assert PREDICT["token_classification"](task, example(task, text="x y z"), rows).value == ("A", "B", "A")


def test_written_texts_become_what_the_task_asks_for():
    tag, numbers = Task(kind="tag", labels=("O", "A")), Task(kind="regress")
    several = Task(labels=("a", "b", "c"), words=("x", "y", "z"), multi_label=True)
    words = example(tag, text="one two three")
    assert value_of("A O", tag, words) == ("A", "O", "O")
    assert value_of("A what A A A", tag, words) == ("A", "O", "A")
    assert value_of("3.25", numbers, words) == 3.25
    assert [value_of(text, numbers, words) for text in ("three", "nan", "")] == [None] * 3
    assert value_of("z, x, q", several, words) == ("a", "c")
    assert value_of("none", SPAN, words) == ""


def test_results_are_kept_with_each_prediction_and_where_it_came_from(tmp_path):
    asked = [example(CLASSIFY, text=str(n), label=LABELS[n % 2]) for n in range(10)]
    given = [Prediction(LABELS[0], dict.fromkeys(LABELS, 1 / 3)) for _ in asked]
    result = judged("reviews", CLASSIFY, "test", asked, given)
    assert result.scores.figures[result.main] == 50.0
    low, high = result.scores.intervals[result.main]
    assert low < 50 < high
    assert "reviews: classify, test split, 10 examples" in result.as_text()
    paths = write([result], tmp_path, 7)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "test/7/results.json",
        "test/7/predictions.jsonl",
        "test/7/confusion.svg",
    ]
    (kept,) = json.loads(paths[0].read_text())
    assert kept["figures"]["accuracy"] == 50.0
    lines = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert lines[3] == record(result, 3)
    assert lines[3]["target"], lines[3]["prediction"] == ("very good", "bad")
    assert lines[3]["where"] == "a.jsonl, line 1"


def test_a_gpt_reads_as_much_of_a_prompt_as_in_training(made):
    """A prompt that fits beside its short target is whole in a row, so it is whole when the target is unknown."""
    task = Task(kind="text", target="label", tokens=20)
    network, params = made("gpt", task)
    ids = vocabulary().encode_document("word " * 30)[:-1][:45]
    text = vocabulary().decode(ids)
    assert 48 - 20 < len(vocabulary().encode_document(text)) - 1 <= 47
    asked = [example(task, text=f"{start} {text[len(start) + 1 :]}") for start in ("one", "two")]
    found = [p.text for p in Predictor(network, vocabulary(), task)(params, asked)]
    assert found[0] != found[1]
