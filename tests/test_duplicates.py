"""The first of several equal or similar documents stays, however the documents lie in units."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from t5like import config
from t5like.data.cleaning.duplicates import banding, columns, partners, signature

EXACT, NEAR = config.ExactDuplicates(), config.NearDuplicates()
WORDS = [f"{a}{b}" for a in ("mor", "tel", "san", "vig", "lor") for b in ("ana", "ip", "ecto", "uss", "ind", "o")]


def gone(filter, signatures) -> list[np.ndarray]:
    """For each unit, which of its documents go."""
    return [unit >= 0 for unit in partners(filter, signatures)]


def dropped(filter, texts, cuts=()) -> list[int]:
    """Numbers of the documents that go when they lie in units that are cut at `cuts`."""
    rows = np.array([signature(filter, (text,)) for text in texts], np.uint64)
    found = gone(filter, np.split(rows, cuts))
    assert [len(unit) for unit in found] == [len(unit) for unit in np.split(rows, cuts)]
    return np.flatnonzero(np.concatenate(found)).tolist()


def text_of(seed: int, words: int = 200) -> list[str]:
    return np.random.default_rng(seed).choice(WORDS, words).tolist()


def jaccard(some: str, other: str, ngram: int = 5) -> float:
    sets = [
        {tuple(words[n : n + ngram]) for n in range(len(words) - ngram + 1)} for words in (some.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("filter", [EXACT, NEAR])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 4), (0, 0, 3, 7, 7)])
def test_the_first_of_equal_documents_stays_wherever_units_end(filter, cuts):
    texts = ["one text", "另一篇文章", "one text", "third text", "另一篇文章", "one text", "third"]
    assert dropped(filter, texts, cuts) == [2, 4, 5]


def test_exact_duplicates_differ_by_nothing_and_near_ones_by_a_little():
    text = " ".join(text_of(0))
    texts = [text, text + ".", text.replace(" ", "  "), text.upper(), " ".join(text_of(1))]
    assert dropped(EXACT, texts) == []
    assert dropped(NEAR, texts) == [1, 2, 3]


def test_the_border_between_parts_counts_for_exact_duplicates():
    assert signature(EXACT, ("a b", "c")).tolist() != signature(EXACT, ("a", "b c")).tolist()


@pytest.mark.parametrize("similarity", [0.5, 0.8])
def test_documents_above_the_similarity_go_and_those_below_stay(similarity):
    filter = config.NearDuplicates(similarity=similarity, permutations=256)
    texts, wanted = [], {}
    for seed in range(60):
        words = text_of(seed, 400)
        changed = list(words)
        changed[: 8 * (seed % 40)] = text_of(1000 + seed, 8 * (seed % 40))
        texts += [" ".join(words), " ".join(changed)]
        wanted[2 * seed + 1] = jaccard(texts[-2], texts[-1])
    found = dropped(filter, texts)
    assert all(number % 2 for number in found)
    assert all(number in found for number, share in wanted.items() if share > similarity + 0.12)
    assert all(number not in found for number, share in wanted.items() if share < similarity - 0.12)


def test_what_goes_is_similar_to_what_was_earlier_and_what_stays_is_not():
    filter = config.NearDuplicates(similarity=0.7, permutations=128)
    random = np.random.default_rng(0)
    texts = []
    for seed in range(12):
        words = text_of(seed, 150)
        for _ in range(10):
            words[random.integers(0, 150)] = "changed"
            texts.append(" ".join(words))
    texts = [texts[n] for n in random.permutation(len(texts))]
    rows = [signature(filter, (text,)).view(np.uint32) for text in texts]
    found = set(dropped(filter, texts))
    agree = {pair: np.mean(rows[pair[0]] == rows[pair[1]]) for pair in itertools.combinations(range(len(rows)), 2)}
    assert all(any(agree[first, second] >= 0.7 for first in range(second)) for second in found)
    missed = [pair for pair, share in agree.items() if share >= 0.8 and not found & set(pair)]
    assert 0 < len(found) < len(texts) and not missed


def test_all_documents_of_a_bucket_are_compared_and_not_only_with_its_first():
    random = np.random.default_rng(0)
    rows = random.integers(0, 2**32, (3, 128), np.uint32)
    rows[:, :20] = rows[0, :20]  # the first band of all three
    rows[2] = rows[1]
    rows[2, 20::5] += 1  # nothing else in common but single values
    assert [unit.tolist() for unit in gone(NEAR, [rows.view(np.uint64)])] == [[False, False, True]]


def test_the_column_that_fills_a_signature_up_counts_for_nothing():
    filter = config.NearDuplicates(permutations=17)
    rows = np.random.default_rng(0).integers(0, 2**32, (3, 18), np.uint32)
    rows[:, :13] = rows[0, :13]
    rows[:, 17] = 0
    rows[2, 13] = rows[1, 13]  # the third agrees in 14 of 17 with the second; 13 are below 0.8
    assert [unit.tolist() for unit in gone(filter, [rows.view(np.uint64)])] == [[False, False, True]]


def test_the_end_of_a_long_document_counts():
    words = text_of(0, 20_000)
    assert dropped(NEAR, [" ".join(words), " ".join(words[:8000] + text_of(1, 12_000)), " ".join(words[:-100])]) == [2]


def test_the_estimate_of_the_similarity_is_unbiased():
    filter = config.NearDuplicates(permutations=1024)
    for changed in (20, 60, 150):
        some = text_of(0, 400)
        other = text_of(9, changed) + some[changed:]
        agree = signature(filter, (" ".join(some),)).view(np.uint32) == signature(filter, (" ".join(other),)).view(
            np.uint32
        )
        assert agree.mean() == pytest.approx(jaccard(" ".join(some), " ".join(other)), abs=0.05)


def test_long_and_short_and_wordless_documents_have_signatures_of_their_own():
    texts = ["!!!", "???", "!!!", "a", "b", "a b", "b a", "字", "字字", " ".join(text_of(3, 20_000))]
    assert dropped(NEAR, texts) == [2]


def test_signatures_have_the_number_of_columns_that_is_said():
    for filter in (EXACT, NEAR, config.NearDuplicates(permutations=17)):
        row = signature(filter, ("some words",))
        assert row.shape == (columns(filter),) and row.dtype == np.uint64


@pytest.mark.parametrize("filter", [EXACT, NEAR])
def test_no_units_and_empty_units_are_fine(filter):
    assert partners(filter, []) == []
    empty = np.zeros(0, np.uint64)
    assert [unit.tolist() for unit in gone(filter, [empty, empty])] == [[], []]
    row = signature(filter, ("text",))[None]
    assert [unit.tolist() for unit in gone(filter, [empty, row, empty, row])] == [[], [False], [], [True]]


@pytest.mark.parametrize("filter", [EXACT, NEAR])
def test_signatures_may_be_memory_mapped_and_documents_many(tmp_path, filter):
    random = np.random.default_rng(0)
    rows = random.integers(0, 2**63, (20_000, columns(filter)), np.uint64)
    copies = random.integers(0, 20_000, 5_000)
    arrays = [*np.split(rows, 7 * np.arange(1, 9)), rows[copies]]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(len(arrays))]
    found = gone(filter, mapped)
    assert not any(unit.any() for unit in found[:-1]) and found[-1].all()


def test_a_signature_is_the_same_in_each_process():
    program = "from t5like import config; from t5like.data.cleaning.duplicates import *; from hashlib import sha1\n"
    program += "print(sha1(signature(config.NearDuplicates(), ('the same 哈希',)).tobytes()).hexdigest())"

    def printed(seed: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True).stdout

    assert printed("1") == printed("2") != ""


def test_bands_propose_most_pairs_at_the_limit_of_similarity():
    assert banding(0.8, 128) == (14, 9)
    for similarity, permutations in itertools.product((0.3, 0.5, 0.8, 0.95, 1.0), (16, 64, 128, 1024)):
        bands, width = banding(similarity, permutations)
        assert bands * width <= permutations and 1 - (1 - similarity**width) ** bands >= 0.85
    assert banding(0.1, 16) == (16, 1)


def test_most_near_duplicates_just_above_the_limit_are_found():
    """Bands of 13 find 39 % of these, where the estimate of the similarity lets 68 % go."""
    random, texts, shares = np.random.default_rng(0), [], []
    for seed in range(150):
        words = text_of(seed, 300)
        changed, at = list(words), random.integers(0, 200)
        changed[at : at + 26] = text_of(5000 + seed, 26)
        texts += [" ".join(words), " ".join(changed)]
        shares.append(jaccard(*texts[-2:]))
    assert 0.8 < np.mean(shares) < 0.83
    rows = np.array([signature(NEAR, (text,)) for text in texts])
    (found,) = partners(NEAR, [rows])
    proposed = rows.view(np.uint32)[0::2] == rows.view(np.uint32)[1::2]
    similar = proposed.sum(1) >= 0.8 * 128
    assert (found[0::2] < 0).all() and not (found[1::2][~similar] >= 0).any()
    assert (found[1::2][similar] >= 0).mean() > 0.9 and (found[1::2] >= 0).mean() > 0.55
    assert all(partner in (-1, number) for number, partner in zip(range(0, 300, 2), found[1::2], strict=True))


@pytest.mark.parametrize("filter", [EXACT, NEAR])
def test_the_partner_is_the_first_of_the_same_text(filter):
    texts = ["one text", "另一篇文章", "one text", "third text", "另一篇文章", "one text", "third"]
    rows = np.array([signature(filter, (text,)) for text in texts], np.uint64)
    found = np.concatenate(partners(filter, np.split(rows, (2, 4))))
    assert found.tolist() == [-1, -1, 0, -1, 1, 0, -1]
