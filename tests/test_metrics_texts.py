"""Metrics of texts and answers: values by hand after the reference scripts, and sacrebleu's own corpus scores."""

import pytest
from sacrebleu.metrics import BLEU, CHRF

from t5like.errors import UserError
from t5like.tasks.metrics import figures, prepare, score
from t5like.tasks.metrics.answers import normalized, segments, without_punctuation
from t5like.tasks.metrics.texts import is_chinese

ENGLISH = (
    ["The cat sat on the mat.", "", "A dog barked, twice!", "Hello"],
    [
        ("The cat is on the mat.", "A cat sat on the mat."),
        ("Nothing", "None"),
        ("A dog barked twice.",) * 2,
        ("Hi",) * 2,
    ],
)
CHINESE = (
    ["我爱北京天安门。", "今天天气很好", "GPU 3090 很快"],
    ["我爱北京的天安门。", "今天的天气真好！", "GPU 3090 快"],
)


def streams(targets):
    """References as sacrebleu takes them: the first of all, the second of all."""
    most = max(map(len, targets))
    return [[target[n] if n < len(target) else None for target in targets] for n in range(most)]


@pytest.mark.parametrize("targets", [ENGLISH[1], [target[: 1 + n % 2] for n, target in enumerate(ENGLISH[1])]])
def test_bleu_and_chrf_of_several_references_are_sacrebleus_with_its_signature(targets):
    for metric, theirs in (("bleu", BLEU()), ("chrf", CHRF())):
        expected = theirs.corpus_score(ENGLISH[0], streams(targets)).score
        scores = score(metric, ENGLISH[0], targets, resamples=3)
        assert scores.figures[metric] == pytest.approx(expected, rel=1e-12)
        assert scores.signature.partition("|")[2] == str(theirs.get_signature())


def test_chinese_bleu_has_the_zh_tokeniser():
    theirs = BLEU(tokenize="zh")
    expected = theirs.corpus_score(CHINESE[0], [CHINESE[1]]).score
    scores = score("bleu", *CHINESE, chinese=True, resamples=3)
    assert scores.figures["bleu"] == pytest.approx(expected, rel=1e-12)
    assert "|tok:zh|" in scores.signature
    assert figures("bleu", *CHINESE)["bleu"] < expected


def test_tokenized_bleu_counts_what_white_space_divides():
    code = (["return a . b ( ) ;", "x = y + 1 ;"], ["return a . c ( ) ;", "x = y + 2 ;"])
    expected = BLEU(tokenize="none", force=True).corpus_score(code[0], [code[1]]).score
    assert figures("tokenized_bleu", *code)["bleu"] == pytest.approx(expected, rel=1e-12)


def test_empty_outputs_score_0_and_raise_nothing():
    for metric in ("bleu", "chrf", "rouge", "exact_match"):
        assert set(figures(metric, ["", " "], ["a b", "c d"]).values()) == {0.0}


def test_exact_match_takes_any_reference_and_sees_case_and_inner_space():
    predictions, targets = [" b\n", "B", "a  b", ""], [("a", "b"), "b", "a b", ""]
    assert prepare("exact_match", predictions, targets).values.tolist() == [100, 0, 0, 100]
    assert figures("bleu", predictions, targets)["exact_match"] == 50


def test_rouge_by_hand_is_a_mean_and_takes_the_best_reference():
    found = figures("rouge", ["the cat on a mat", "x"], ["The cat sat on the mat!", ("y", "x")])
    expected = {"rouge1": 100 * 8 / 11, "rouge2": 100 * 2 / 9, "rougeL": 100 * 8 / 11, "rougeLsum": 100 * 8 / 11}
    second = {"rouge1": 100, "rouge2": 0, "rougeL": 100, "rougeLsum": 100}
    assert {n: found[n] for n in expected} == pytest.approx({n: (expected[n] + second[n]) / 2 for n in expected})


def test_rouge_lsum_compares_sentences_which_are_lines():
    found = figures("rouge", ["c d\na b"], ["a b\nc d"])
    assert (found["rougeL"], found["rougeLsum"]) == pytest.approx((50, 100))


def test_rouge_of_chinese_has_characters_and_latin_words():
    found = figures("rouge", ["我爱上海，GPU"], ["我爱北京。gpu"], chinese=True)
    assert found["rouge1"] == pytest.approx(100 * 3 / 5)
    assert found["rouge2"] == pytest.approx(100 * 1 / 4)
    with pytest.raises(UserError, match=r"^The targets have no words of a-z and 0-9, and ROUGE counts no others"):
        figures("rouge", ["我爱上海"], ["我爱北京"])


def test_chinese_is_told_by_its_characters():
    assert is_chinese([*CHINESE[1], ("ok", "好的")])
    assert not is_chinese(["The word 好 means good."])
    assert not is_chinese(["", ()])


SQUAD = [
    ("The Eiffel Tower", ("eiffel tower!",), 100, 100),
    ("in 1889", ("1889",), 0, 100 * 2 / 3),
    ("in the year 1889", ("1889", "the year 1889"), 0, 100 * 4 / 5),  # in, year, 1889 beside year, 1889
    ("Beyoncé", ("beyoncé", "Knowles"), 100, 100),
    ("well-known", ("well known",), 0, 0),
    ("a  b\tb", ("b b c",), 0, 100 * 4 / 5),
    ("Another thesis", ("another THESIS",), 100, 100),  # articles are whole words
    ("", ("x",), 0, 0),
]


@pytest.mark.parametrize(("prediction", "answers", "exact", "f1"), SQUAD)
def test_squad_by_hand(prediction, answers, exact, f1):
    found = figures("squad", [prediction], [answers])
    assert found == pytest.approx({"exact_match": exact, "f1": f1})


def test_squad_2_has_both_kinds_apart_and_articles_alone_are_no_answer():
    predictions, targets = ["x", "", "y", "", "a"], [("x y",), (), (), ("the",), ("an", "b")]
    found = figures("squad", predictions, targets)
    assert found == pytest.approx(
        {
            "exact_match": 40,
            "f1": 100 * (2 / 3 + 1 + 0 + 1 + 0) / 5,
            "HasAns_exact_match": 100 / 3,
            "HasAns_f1": 100 * (2 / 3 + 1 + 0) / 3,
            "NoAns_exact_match": 50,
            "NoAns_f1": 50,
        }
    )
    assert score("squad", predictions, targets, resamples=3).signature == "squad|version:2.0"


def test_squad_1_gives_no_f1_where_both_are_articles_alone():
    scores = score("squad", ["the"], [("a",)], resamples=3)
    assert scores.figures == {"exact_match": 100, "f1": 0}
    assert scores.signature == "squad|version:1.1"
    assert normalized("The  Eiffel-Tower!") == "eiffeltower"


CMRC = [
    ("1990年代", ("1990年",), 0, 80),
    ("《红楼梦》", ("红楼梦",), 100, 100),
    ("在北京大学", ("北京的大学",), 0, 40),  # 大学 or 北京: two of five and five
    ("iPhone 6手机", ("iphone 6", "手"), 0, 100 * 4 / 6),
    ("共有3.5%的人", ("3.5%",), 0, 100 * 4 / 8),  # 共 有 3.5 % 的 人 beside 3.5 %
    ("GT-R", ("gtr",), 100, 100),
    ("等…", ("等",), 0, 100 * 2 / 3),  # the script keeps an ellipsis
    ("", ("无",), 0, 0),
]


@pytest.mark.parametrize(("prediction", "answers", "exact", "f1"), CMRC)
def test_cmrc_by_hand(prediction, answers, exact, f1):
    assert figures("cmrc", [prediction], [answers]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_cmrc_of_unanswerable_questions_is_right_if_nothing_is_said():
    found = figures("cmrc", ["", "是", "是"], [(), (), ("是",)])
    assert found["NoAns_f1"] == found["NoAns_exact_match"] == 50
    assert found["HasAns_f1"] == 100


def test_segments_are_characters_and_words():
    assert segments(" 在iPhone 6s上，it's·好") == ["在", "iphone", "6s", "上", "it", "'s", "好"]
    assert without_punctuation(" A-b：《C》 d") == "abc d"
