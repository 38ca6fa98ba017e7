"""A vocabulary's sample is of everywhere in a source, and is all of a small one."""

import gzip
import lzma

import pytest

from t5like import config
from t5like.data.prepare import sampling
from t5like.data.prepare.sampling import sample
from t5like.data.splits import Shares

ENGLISH, CHINESE = "The moon is bright.\n", "床前明月光。\n"


def sampled(source: config.Source, characters: int) -> str:
    texts = list(sample((source,), (), Shares(1e-9), "train", characters))
    assert sum(map(len, texts)) <= characters
    return "".join(texts)


@pytest.mark.parametrize("document", ["file", "line"])
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), ("", bytes)])
def test_the_end_of_a_file_is_in_its_sample_as_much_as_its_beginning(tmp_path, document, suffix, pack):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack((ENGLISH * 1000 + CHINESE * 3000).encode()))
    text = sampled(config.Source(kind="text", path=str(path), document=document), 8000)
    share = sum(not character.isascii() for character in text) / len(text)
    assert len(text) == 8000 and 0.2 < share < 0.7  # 18 of 41 thousand characters are Chinese


def test_what_fits_is_all_taken_in_whole_documents(tmp_path):
    lines = [f"{n} " + "x" * (n % 700) for n in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    source = config.Source(kind="text", path=str(tmp_path / "a.txt"), document="line")
    assert list(sample((source,), (), Shares(1e-9), "train", 10**6)) == lines


def test_of_many_units_some_are_read_and_of_each_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "READ", 10_000)
    monkeypatch.setattr(sampling, "UNITS", 10)
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 2000)
    (tmp_path / "a.txt").write_text("".join(f"{n:04}\n" for n in range(10_000)))
    source = config.Source(kind="text", path=str(tmp_path / "a.txt"), document="line")
    text = sampled(source, 400)
    numbers = [int(text[n : n + 4]) for n in range(0, len(text), 4)]
    assert len(text) == 400 and len({number // 400 for number in numbers}) > 5


def test_the_same_sample_is_drawn_again(tmp_path):
    (tmp_path / "a.txt").write_text(ENGLISH * 5000 + CHINESE * 5000)
    source = config.Source(kind="text", path=str(tmp_path / "a.txt"))
    assert sampled(source, 3000) == sampled(source, 3000)
