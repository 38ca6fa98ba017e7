"""Languages and repeated lines that go, and the list of all that was dropped."""

import builtins
import json
import re

import numpy as np
import pytest
from preparations import contents, settings
from settings import sentence

from t5like import config
from t5like.data.cleaning import Cleaned, Cleaner, language
from t5like.data.cleaning.repeated_lines import line_hashes, repeated, without
from t5like.data.prepare import prepare
from t5like.data.sources import Document
from t5like.data.statistics import as_text

ENGLISH = "The harbour lay quiet under a thin mist that morning, and the crews were mending nets along the wall."
TEXTS = {
    "en": ENGLISH,
    "zh": "清晨的港口笼罩在薄雾里，几条早归的渔船靠在岸边。",
    "de": "Der Hafen lag still unter dünnem Nebel an jenem Morgen, und die Boote kamen früh zurück.",
    "ja": "これは日本語の文章です。港は静かでした。",
}


@pytest.mark.parametrize("wanted", [("en",), ("zh",), ("en", "zh"), ("de", "ja")])
def test_documents_of_other_languages_go(wanted):
    pytest.importorskip("py3langid")
    clean = Cleaner((config.Language(languages=wanted),))
    results = {name: clean(Document((text,), "", 0, 0)) for name, text in TEXTS.items()}
    assert {name for name, result in results.items() if isinstance(result, Cleaned)} == set(wanted)
    reasons = [result.reason for result in results.values() if not isinstance(result, Cleaned)]
    assert all(re.match(rf"language: [a-z]+ \(\d\.\d\d\), not {', '.join(wanted)} \(0\.\d\d\)$", r) for r in reasons)


def test_a_language_that_is_not_known_and_a_missing_library_are_sentences(monkeypatch):
    pytest.importorskip("py3langid")
    said = sentence(Cleaner, (config.Language(languages=("english",)),))
    assert said.startswith("data.filters: there is no language 'english'")
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("py3langid"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    language._model.cache_clear()
    said = sentence(Cleaner, (config.Language(),))
    assert said.startswith("A filter of kind 'language' needs py3langid: pip install py3langid")


def test_each_line_stays_where_it_is_first_in_any_number_of_passes():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 300, 1000).astype(np.uint64)
    idle = random.random(1000) < 0.2
    seen, wanted = set(), []
    for value, skipped in zip(hashes.tolist(), idle, strict=True):
        wanted.append(value in seen and not skipped)
        seen |= set() if skipped else {value}
    for at_once in (2000, 100, 7):
        assert repeated(hashes, idle, at_once).tolist() == wanted


def test_lines_are_compared_without_case_and_blank_ones_stay():
    text = "Home | About\n\n  home | about \nA line.\n \n"
    hashes = line_hashes(text)
    assert len(hashes) == 3 and hashes[0] == hashes[1]
    assert without(text, repeated(hashes, np.zeros(3, bool))) == "Home | About\n\nA line.\n \n"


def test_a_store_without_repeated_lines_lists_what_went(tmp_path):
    own = "Page {} has this. And that. And more."
    pages = [f"Home. About us.\n{ENGLISH}\n{own.format(n)}\nAll rights reserved." for n in range(8)]
    rows = [json.dumps({"text": page}) for page in pages] + [json.dumps({"text": f"Home. About us.\n{ENGLISH}"})]
    (tmp_path / "pages.jsonl").write_text("\n".join(rows))
    data = config.Data(
        store=f"{tmp_path}/store",
        sources=(config.Source(kind="jsonl", path=f"{tmp_path}/pages.jsonl"),),
        filters=(config.RepeatedLines(),),
        vocabulary=config.Vocabulary(kind="bytes", size=259, sentinels=10),
        objective=config.Objective(kind="causal"),
        length=32,
        held_out=0.3,
    )
    said = []
    prepare(data, said.append)
    assert "Filter repeated_lines: 1 documents dropped, 0 reported, 23 lines removed." in said
    tokens = np.concatenate([np.fromfile(path, "<u2") for path in (tmp_path / "store").rglob("*.bin")])
    text = bytes((tokens[tokens > 2] - 3).astype(np.uint8)).decode()
    assert (text.count("Home"), text.count("rights"), text.count("has this")) == (1, 1, 8)
    (line,) = [json.loads(line) for line in (tmp_path / "store" / "dropped.jsonl").read_text().splitlines()]
    assert line["reason"] == "repeated lines: nothing else" and line["document"].startswith(f"{tmp_path}/pages.jsonl#")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert re.search(r"repeated_lines +8 +1 +11\.1% +0 +23", as_text(manifest))


def test_the_list_names_every_document_that_went_with_reason_and_partner(tmp_path):
    data = settings(tmp_path)
    prepare(data, [].append)
    listed = [json.loads(line) for line in (tmp_path / "store" / "dropped.jsonl").read_text().splitlines()]
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    counts = [sum(s["filters"][n]["dropped"] for s in manifest["sources"]) for n in range(len(data.filters))]
    kinds = [line["filter"] for line in listed]
    assert [kinds.count(filter.kind) for filter in data.filters] == counts
    files = {f"{tmp_path}/{n}.txt": (tmp_path / f"{n}.txt").read_bytes() for n in range(4)}

    def text_of(document: str) -> str:
        name, _, offset = document.rpartition("#")
        return files[name][int(offset) :].split(b"\n")[0].decode()

    for line in listed:
        assert text_of(line["document"])[:200] == line["text"]
        assert ("partner" in line) == line["filter"].endswith("duplicates")
        if line["filter"] == "exact_duplicates":
            assert text_of(line["partner"]) == text_of(line["document"])
            assert line["reason"] == f"the text of {line['partner']}"
        if line["filter"] == "near_duplicates":
            assert line["reason"] == f"nearly the text of {line['partner']}"
    near = [line for line in listed if line["filter"] == "near_duplicates"]
    assert any(text_of(line["document"]) == f"{text_of(line['partner'])} nearly" for line in near)
    assert any("the text of" in e["reason"] for s in manifest["sources"] for e in s["filters"][2]["examples"])


def test_a_store_without_filters_has_no_list(tmp_path):
    data = settings(tmp_path, filters=())
    prepare(data, [].append)
    assert "dropped.jsonl" not in contents(data.store) and not (tmp_path / "store" / "dropped").exists()
