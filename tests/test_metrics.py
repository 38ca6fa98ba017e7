"""Metrics: figures by hand and by the originals, intervals by naive resampling, and mistakes as sentences."""

import random
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from command_line import environment

from t5like.errors import UserError
from t5like.tasks.metrics import METRICS, check, figures, fitting, prepare, score
from t5like.tasks.metrics.scoring import figures_of, resampled

WORDS = ("cat", "dog", "sat", "mat", "café", "the", "on", "x-1")
TAGS = ("O", "B-A", "I-A", "B-B", "I-B")
CASES = 30


def drawn(takes: str, seed: int) -> tuple[list, list]:
    """Predictions and targets of a kind, half of them right."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(4, 9)))

    def target(number: int):
        return {
            "label": lambda: rng.choice("abc"),
            "labels": lambda: frozenset(rng.sample("abcd", rng.randint(0, 3))),
            "number": lambda: float(rng.randint(0, 5)),
            "text": lambda: text() if number % 3 else (text(), text()),
            "answer": lambda: (text(), text()) if number % 2 else (),
            "tags": lambda: rng.choices(TAGS, (4, 4, 1, 4, 1), k=rng.randint(1, 6)),
        }[takes]()

    def prediction(number: int, right):
        if takes == "tags":
            return [tag if rng.random() < 0.7 else rng.choice(TAGS) for tag in right]
        if rng.random() < 0.5:
            return right if not isinstance(right, tuple) else right[0] if right else ""
        if takes in ("label", "number") and rng.random() < 0.2:
            return None
        other = target(1)
        return other[0] if isinstance(other, tuple) else other

    targets = [target(number) for number in range(CASES)]
    return [prediction(number, right) for number, right in enumerate(targets)], targets


@pytest.fixture(params=METRICS)
def case(request) -> tuple[str, list, list]:
    return request.param, *drawn(METRICS[request.param].takes, 7)


def test_every_metric_gives_its_main_figure_and_names_itself_in_the_table(case):
    metric, predictions, targets = case
    assert METRICS[metric].name == metric
    assert METRICS[metric].main in figures(metric, predictions, targets)


def test_intervals_hold_their_figures_and_lie_in_the_range(case):
    scores = score(*case, resamples=50)
    assert scores.figures == figures(*case)
    assert scores.signature
    for name, (low, high) in scores.intervals.items():
        assert -100 <= low <= scores.figures[name] <= high <= 100
    main = METRICS[case[0]].main
    assert scores.intervals[main][0] < scores.intervals[main][1]


def test_weighted_figures_are_those_of_lists_in_which_examples_are_repeated(case):
    metric, predictions, targets = case
    weights = next(resampled(CASES, 8, seed=3))
    vectorised = prepare(metric, predictions, targets).weighed(weights)
    filled = predictions
    if METRICS[metric].takes == "number":  # missing numbers are filled once, from the whole list
        mean = np.mean([value for value in predictions if value is not None])
        filled = [mean if value is None else value for value in predictions]
    for row, counts in enumerate(weights.astype(int)):
        chosen = np.repeat(np.arange(CASES), counts)
        naive = figures(metric, [filled[n] for n in chosen], [targets[n] for n in chosen])
        for name, figure in naive.items():
            np.testing.assert_allclose(vectorised[name][row], figure, rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_order_of_examples_does_not_matter(case):
    metric, predictions, targets = case
    order = random.Random(1).sample(range(CASES), CASES)
    shuffled = figures(metric, [predictions[n] for n in order], [targets[n] for n in order])
    assert shuffled == pytest.approx(figures(metric, predictions, targets), abs=1e-9)


def test_right_predictions_score_100_with_the_interval_of_a_point(case):
    metric, _, targets = case
    right = [(t[0] if t else "") if isinstance(t, tuple) else t for t in targets]
    scores = score(metric, right, targets, resamples=20)
    assert scores.figures == pytest.approx(dict.fromkeys(scores.figures, 100.0))
    assert np.array(list(scores.intervals.values())) == pytest.approx(100.0)


def test_resamples_are_as_long_as_the_list_and_depend_on_the_seed_alone():
    weights = np.concatenate(list(resampled(1000, 3000, seed=5)))  # in two blocks
    assert weights.shape == (3000, 1000)
    assert (weights.sum(1) == 1000).all()
    assert (weights.sum(0) > 0).all()
    assert weights.var() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(weights[:10], next(resampled(1000, 3000, seed=5))[:10])
    assert (weights[:10] != next(resampled(1000, 3000, seed=6))[:10]).any()


def test_the_interval_of_an_accuracy_is_that_of_the_binomial_distribution():
    predictions = ["a"] * 300 + ["b"] * 100
    low, high = score("accuracy", predictions, ["a"] * 400).intervals["accuracy"]
    half = 196 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((75 - half, 75 + half), abs=0.6)


def test_labels_by_hand_and_no_label_is_wrong_but_no_class():
    found = figures("f1", ["a", "b", "b", None], ["a", "a", "b", "c"])
    expected = {"accuracy": 50, "f1_macro": 100 * (2 / 3 + 2 / 3 + 0) / 3, "f1_micro": 400 / 7, "matthews": 40}
    assert found == pytest.approx(expected)


def test_a_class_that_is_only_predicted_counts_in_macro_f1():
    assert figures("f1", ["a", "z"], ["a", "b"])["f1_macro"] == pytest.approx(100 / 3)


def test_an_interval_holds_a_figure_that_resampling_moves():
    rare = [f"c{n}" for n in range(50)]  # of which a resample has 32, so that its macro F1 is greater
    scores = score("f1", ["a"] * 100, ["a"] * 50 + rare, resamples=50)
    low, high = scores.intervals["f1_macro"]
    assert low == scores.figures["f1_macro"] < high


def test_a_resample_without_unanswerable_questions_says_nothing_about_them():
    assert score("squad", ["", "x", "x"], [(), ("x",), ("x",)], resamples=50).intervals["NoAns_f1"] == (100, 100)


def test_constant_answers_have_no_correlation_and_no_error():
    assert figures("matthews", ["a", "a"], ["a", "b"])["matthews"] == 0
    assert figures("matthews", [None, None], ["a", "b"]) == dict.fromkeys(
        ("accuracy", "f1_macro", "f1_micro", "matthews"), 0.0
    )
    assert figures("pearson", [0.1, 0.1, 0.1], [1, 2, 3]) == {"pearson": 0, "spearman": 0}
    assert figures("spearman", [None, None], [1.0, 2.0]) == {"pearson": 0, "spearman": 0}
    assert figures("accuracy", ["a"], ["a"])["matthews"] == 0


def test_sets_of_labels_by_hand():
    found = figures("multi_label_f1", [{"a"}, {"a", "b"}, set()], [("a",), ("b", "c"), ()])
    assert found == pytest.approx(
        {"f1_macro": 100 * (2 / 3 + 1 + 0) / 3, "f1_micro": 400 / 6, "subset_accuracy": 200 / 3}
    )


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys_with_ties(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 40).astype(float), rng.integers(0, 4, 40) * 1e6
    found = figures("pearson", x.tolist(), y.tolist())
    assert found["pearson"] == pytest.approx(100 * scipy.stats.pearsonr(x, y).statistic)
    assert found["spearman"] == pytest.approx(100 * scipy.stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_an_output_that_is_no_number_counts_as_the_mean_of_the_others(missing):
    assert figures("pearson", [1, missing, 3, 5], [1, 9, 2, 7]) == figures("pearson", [1, 3, 3, 5], [1, 9, 2, 7])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check("blue", "text"), "There is no metric 'blue'; did you mean 'bleu'?"),
        (lambda: check("zzz", "label"), "There is no metric 'zzz'; choose accuracy or f1 or matthews."),
        (
            lambda: check("bleu", "label"),
            "The metric 'bleu' compares texts, and the targets here are labels: choose accuracy or f1 or matthews.",
        ),
        (lambda: figures("akkuracy", ["a"], ["a"]), "There is no metric 'akkuracy'; did you mean 'accuracy'?"),
        (
            lambda: score("accuracy", ["a"], ["a", "b"]),
            "There are 1 predictions and 2 targets: each prediction needs its own.",
        ),
        (lambda: figures("accuracy", [], []), "There are no examples that 'accuracy' could score: the split is empty."),
        (
            lambda: figures("pearson", [1, 2], [1, float("nan")]),
            "The target of example 2 is not a finite number.",
        ),
    ],
)
def test_mistakes_are_sentences(call, words):
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value) == words


def test_a_metric_that_fits_passes():
    check("bleu", "text")
    assert fitting("answer") == ["squad", "cmrc"]


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = {"jax", "tensorflow", "nltk", "sacrebleu", "rouge_score", "sklearn", "scipy", "matplotlib"}
    program = f"import sys, t5like.tasks.metrics, t5like.tasks.diagnosis; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.split() == []


@pytest.mark.originals
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, targets = drawn("label", seed)
    named = [prediction or "none" for prediction in predictions]
    found = figures("f1", predictions, targets)
    f1 = {kind: metrics.f1_score(targets, named, labels=list("abc"), average=kind) for kind in ("macro", "micro")}
    assert found["accuracy"] == pytest.approx(100 * metrics.accuracy_score(targets, named))
    assert found["matthews"] == pytest.approx(100 * metrics.matthews_corrcoef(targets, named))
    assert [found["f1_macro"], found["f1_micro"]] == pytest.approx([100 * f1["macro"], 100 * f1["micro"]])


@pytest.mark.originals
@pytest.mark.parametrize("seed", range(4))
def test_sets_of_labels_are_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    predictions, targets = drawn("labels", seed)
    said, right = (
        np.array([[label in labels for label in "abcd"] for labels in sets]) for sets in (predictions, targets)
    )
    found = figures("multi_label_f1", predictions, targets)
    f1 = {kind: metrics.f1_score(right, said, average=kind) for kind in ("macro", "micro")}
    expected = [100 * f1["macro"], 100 * f1["micro"], 100 * metrics.accuracy_score(right, said)]
    assert [found["f1_macro"], found["f1_micro"], found["subset_accuracy"]] == pytest.approx(expected)


def test_figures_of_a_prepared_list_are_its_own():
    prepared = prepare("accuracy", ["a", "b"], ["a", "a"])
    assert figures_of(prepared)["accuracy"] == 50
    assert prepared.values.tolist() == [100, 0]
