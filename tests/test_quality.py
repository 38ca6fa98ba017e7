"""The rules of C4 and Gopher drop what their papers say, in English and Chinese, and keep ordinary text."""

import json
import lzma
import os
import pathlib
from collections import Counter

import numpy as np
import pytest

from t5like import config
from t5like.data.cleaning.quality import DUPLICATE_NGRAMS, TOP_NGRAMS, clean_c4, gopher_reason

GOOD = (
    "The harbour lay quiet under a thin mist that morning.\n"
    "A few boats had come back early, and their crews were mending nets along the wall.\n"
    "Nobody spoke much. Children ran between the baskets of fish and begged to be taken out with the next tide.\n"
    "By noon the sun had burned away the haze, and you could see every sail as far as the lighthouse on its rock."
)
GUT = (
    "清晨的港口笼罩在薄雾里，几条早归的渔船靠在岸边。\n"
    "水手们坐在石墙上修补渔网，谁也不愿意多说一句话。孩子在鱼筐之间跑来跑去，吵着要跟下一班潮水出海！\n"
    "到了中午，太阳把雾气晒散，远处灯塔下面的每一张白帆都看得清清楚楚。"
)
TEXTS = {"en": GOOD, "zh": GUT}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_ordinary_text_passes_all_rules_unchanged(language):
    within = ("arb", "our", "light")  # parts of words, which are no words
    assert clean_c4(config.C4Rules(language=language, forbidden=within), TEXTS[language]) == (TEXTS[language], 0, "")
    assert gopher_reason(config.GopherRules(language=language), TEXTS[language]) == ""


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("en", "This line has no mark at its end"),
        ("en", "Too short it is."),
        ("en", "Please enable JavaScript to see all of this page."),
        ("en", "We have a Privacy Policy that you should read."),
        ("en", "And this is how the story went on from there..."),
        ("en", f"Here is a word of many characters, {'a' * 1001} it is."),
        ("zh", "这一行的末尾没有标点符号"),
        ("zh", "太短了。"),
        ("zh", "继续浏览即表示您同意我们的隐私政策。"),
        ("zh", "故事后来是怎样发展的呢..."),
        ("zh", f"这里有一个很长的词{'a' * 1001}。"),
    ],
)
def test_c4_takes_a_bad_line_out_and_counts_it(language, line):
    good = TEXTS[language]
    text = f"{line}\n{good}\n\n  {line}  "
    assert clean_c4(config.C4Rules(language=language), text) == (good, 2, "")


@pytest.mark.parametrize("end", [".", "!", "?", '."', ".”"])
def test_c4_keeps_lines_that_end_as_sentences_or_quotations_do(end):
    text = "\n".join([f"Here are five or six words{end}"] * 3)
    assert clean_c4(config.C4Rules(), text) == (text, 0, "")


@pytest.mark.parametrize(
    ("language", "line"),
    [("en", f"A word of {'a' * 1000} characters may stay here."), ("zh", "长" * 1200 + "。"), ("zh", "后来呢……")],
)
def test_c4_keeps_words_of_1000_characters_and_long_chinese_lines(language, line):
    text = "\n".join([line] * 3)
    rules = config.C4Rules(language=language, least_words=3)
    assert clean_c4(rules, text) == (text, 0, "")


def test_c4_cuts_citation_marks_out():
    text = "It rained[] for days.[1] Then it stopped[citation needed] at last.[23] So [they] say."
    page, removed, reason = clean_c4(config.C4Rules(), text)
    assert (page, removed, reason) == ("It rained for days. Then it stopped at last. So [they] say.", 0, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{GOOD}\nfunction() {{", "c4: a curly bracket"),
        (f"{GOOD}\nLorem Ipsum dolor", "c4: lorem ipsum"),
        (f"{GOOD}\nwhat a Swearword", "c4: the forbidden word 'swearword'"),
        (f"{GOOD}\n这里有脏话啊", "c4: the forbidden word '脏话'"),
        ("One sentence is what we have. And there is another one here.", "c4: 2 of 3 sentences"),
        ("", "c4: 0 of 3 sentences"),
    ],
)
def test_c4_drops_a_page_and_says_why(text, reason):
    assert clean_c4(config.C4Rules(forbidden=("swearword", "脏话")), text)[2] == reason


WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("an", "il", "os", "e") for c in ("ta", "do", "mi", "ru", "ke")]


def random_text(words: int) -> list[str]:
    return np.random.default_rng(0).choice(WORDS, words).tolist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the and", "2 words, not 50 to 100,000"),
        (GOOD * 3000, "words, not 50 to 100,000"),
        ("the be of a b c d e f g " * 10, "characters in the mean, not 3 to 10"),
        ("pneumonoultramicroscopic sesquipedalian " * 40, "characters in the mean, not 3 to 10"),
        (GOOD + " #tag" * 12, "12 hash signs for 81 words"),
        (GOOD + " so..." * 12, "12 ellipses for 81 words"),
        (GOOD + " 12345" * 30, "69 of 99 words with a letter"),
        ("- " + GOOD.replace("\n", "\n• "), "4 of 4 lines with a bullet"),
        (GOOD.replace(".\n", "...\n"), "3 of 4 lines with an ellipsis at their end"),
        (" ".join(random_text(100)), "0 of 2 stop words"),
        (" ".join([*random_text(100), "the"]), "1 of 2 stop words"),
    ],
)
def test_gopher_drops_text_of_bad_quality_and_says_why(text, reason):
    assert reason in gopher_reason(config.GopherRules(), text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD + "\nThe end of it." * 3, ""),
        ((GOOD + "\n") * 2, "gopher: 4 of 8 lines repeated"),
        (GOOD + "\n" + GOOD.split("\n")[3], "gopher: 108 of 457 characters in repeated lines"),
        (f"{GOOD}\n\n" + "So it\n{}\nis. \n\n".format("is so " * 3) * 2, "gopher: 1 of 3 paragraphs repeated"),
    ],
)
def test_gopher_drops_text_with_repeated_lines_and_paragraphs_and_says_why(text, reason):
    assert gopher_reason(config.GopherRules(), text) == reason
    assert gopher_reason(config.GopherRules(repetition=False), text) == ""


def expected_shares(words: list[str]) -> dict[int, float]:
    """Gopher's shares of repeated characters, the plain way."""
    total, shares = sum(map(len, words)), {}
    for length, _ in TOP_NGRAMS + DUPLICATE_NGRAMS:
        runs = [tuple(words[n : n + length]) for n in range(len(words) - length + 1)]
        if length < 5:
            (run, count), *_ = Counter(runs).most_common(1)
            shares[length] = count * sum(map(len, run)) / total if count > 1 else 0
        else:
            seen, covered = set(), set()
            for start, run in enumerate(runs):
                covered |= set(range(start, start + length)) if run in seen else set()
                seen.add(run)
            shares[length] = sum(len(words[n]) for n in covered) / total
    return shares


@pytest.mark.parametrize("seed", range(30))
def test_repeated_ngrams_are_found_as_by_counting_them(seed):
    random = np.random.default_rng(seed)
    words = random_text(300)
    for _ in range(random.integers(0, 6)):
        start, length, to = random.integers(0, 200), random.integers(2, 14), random.integers(0, 300)
        words[to:to] = words[start : start + length] * random.integers(1, 4)
    for _ in range(random.integers(0, 3)):
        start = random.integers(0, 200)
        for to in random.integers(0, 300, random.integers(2, 60)):
            words[to:to] = words[start : start + seed % 4 + 1]
    words += ["the", "and"]
    shares = expected_shares(words)
    broken = [n for n, limit in TOP_NGRAMS + DUPLICATE_NGRAMS if shares[n] > limit]
    reason = gopher_reason(config.GopherRules(), " ".join(words))
    assert (
        (f"{shares[broken[0]]:.0%} of the characters" in reason and f"{broken[0]}-gram" in reason)
        if broken
        else not reason
    )


def test_chinese_ngrams_are_twice_as_long():
    assert "in repeated 10-grams" in gopher_reason(
        config.GopherRules(language="zh"), GUT + "\n孩子在鱼筐之间跑来跑去，吵着要跟下一班潮水"
    )


@pytest.mark.parametrize("name", ["pretrain_en_c4_sample/train.jsonl.xz", "pretrain_en_novels/validation.jsonl.xz"])
def test_real_text_mostly_passes(name):
    if not (path := pathlib.Path(os.environ.get("T5LIKE_DATA", "")) / name).is_file():
        pytest.skip("T5LIKE_DATA names no folder with this data set")
    with lzma.open(path) as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(300), strict=False)]
    assert np.mean([not clean_c4(config.C4Rules(), text)[2] for text in texts]) > 0.98
    rules = config.GopherRules(most_words=10**7)
    assert 0.75 < np.mean([not gopher_reason(rules, text) for text in texts]) <= 1
