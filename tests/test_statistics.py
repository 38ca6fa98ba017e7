"""The tables of `t5like data stats`: what the manifest says is in them, aligned and safe to print."""

import copy
import unicodedata
from typing import Any

from t5like.data.statistics import FILES, as_text


def split(documents: int, size: int, tokens: int, longest: int, files: int) -> dict[str, Any]:
    entries = [
        {"name": f"{n:05}.bin", "tokens": tokens // files, "documents": documents // files, "sha256": f"{n:064x}"}
        for n in range(files)
    ]
    return {"documents": documents, "bytes": size, "tokens": tokens, "longest": longest, "files": entries}


EXAMPLE = {"document": "诗.jsonl#7", "reason": "重复的字", "text": "床前明月光，疑是地上霜。" * 20}
MANIFEST: dict[str, Any] = {
    "format": 2,
    "dtype": "<u2",
    "vocabulary_sha256": "12" * 32,
    "created_with": {"t5like": "0.1", "sentencepiece": "0.2.1"},
    "invalid_sequences": 3,
    "sources": [
        {
            "name": "en",
            "kind": "jsonl",
            "units": 12,
            "read": {"documents": 1000, "bytes": 123_456, "lines_removed": 4321},
            "splits": {"train": split(985, 120_000, 30_000, 5000, 2), "validation": split(0, 0, 0, 0, 1)},
            "filters": [
                {"kind": "length", "dropped": 10, "noted": 0, "examples": []},
                {"kind": "overlap", "dropped": 5, "noted": 7, "examples": [EXAMPLE]},
            ],
        },
        {
            "name": "唐诗",
            "kind": "parquet",
            "units": 1,
            "read": {"documents": 57_607, "bytes": 123_456_789, "lines_removed": 0},
            "splits": {"train": split(57_000, 123_000_000, 30_000_000, 500, 1)},
            "filters": [],
        },
    ],
}


def cells(text: str, *start: str) -> list[str]:
    """The one line that begins with these cells, by its cells."""
    found = [line.split() for line in text.splitlines() if line.split()[: len(start)] == list(start)]
    assert len(found) == 1, (start, found)
    return found[0]


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def test_documents_bytes_and_tokens_stand_by_source_and_split():
    text = as_text(MANIFEST)
    assert cells(text, "en", "read") == ["en", "read", "1,000", "123,456"]
    assert cells(text, "en", "train", "985") == ["en", "train", "985", "120,000", "30,000", "4.00", "30.5", "5,000"]
    assert cells(text, "唐诗", "train", "57,000")[3:] == ["123,000,000", "30,000,000", "4.10", "526.3", "500"]


def test_sources_add_up():
    text = as_text(MANIFEST)
    assert cells(text, "all", "train") == [
        "all", "train", "57,985", "123,120,000", "30,030,000", "4.10", "517.9", "5,000",
    ]  # fmt: skip
    assert cells(text, "all", "validation")[2:5] == ["0", "0", "0"]
    one = copy.deepcopy(MANIFEST)
    del one["sources"][1]
    assert "all" not in as_text(one).split()


def test_a_split_without_documents_has_no_ratios():
    assert cells(as_text(MANIFEST), "en", "validation", "0", "0", "0")[5:] == ["-", "-", "0"]


def test_each_filter_sees_what_those_before_it_kept():
    text = as_text(MANIFEST)
    assert cells(text, "en", "length") == ["en", "length", "990", "10", "1.0%", "0"]
    assert cells(text, "en", "overlap", "985") == ["en", "overlap", "985", "5", "0.5%", "7"]


def test_duplicates_come_after_all_other_filters_wherever_they_stand():
    bare = copy.deepcopy(MANIFEST)
    bare["sources"][0]["filters"].insert(0, {"kind": "exact_duplicates", "dropped": 2, "noted": 0, "examples": []})
    text = as_text(bare)
    assert cells(text, "en", "length")[2] == "990" and cells(text, "en", "overlap", "985")
    assert cells(text, "en", "exact_duplicates") == ["en", "exact_duplicates", "983", "2", "0.2%", "0"]


def test_lines_that_the_rules_of_c4_took_out_are_counted():
    assert "lines removed" not in as_text(MANIFEST)
    edited = copy.deepcopy(MANIFEST)
    edited["sources"][0]["filters"].append({"kind": "c4", "dropped": 0, "noted": 0, "examples": []})
    assert cells(as_text(edited), "en", "c4") == ["en", "c4", "985", "0", "0.0%", "0", "4,321"]
    assert cells(as_text(edited), "en", "length")[-1] == "-"


def test_tables_of_filters_are_missing_where_there_are_none():
    bare = copy.deepcopy(MANIFEST)
    bare["sources"] = bare["sources"][1:]
    assert "filter" not in as_text(bare) and "dropped" not in as_text(bare)


def test_dropped_documents_are_shown_shortened_and_without_control_characters():
    line = next(line for line in as_text(MANIFEST).splitlines() if "诗.jsonl#7" in line)
    assert "重复的字" in line and line.endswith("床前明月…")
    bad = copy.deepcopy(MANIFEST)
    bad["sources"][0]["filters"][1]["examples"] = [
        {"document": "a\tb", "reason": "\x1b]0;title\x07", "text": "one\r\ntwo\x1b[31m\u202e\ud800 three"}
    ]
    line = next(line for line in as_text(bad).splitlines() if line.startswith("en") and "a b" in line)
    assert line.endswith("one two\ufffd[31m\ufffd\ufffd three")
    assert line.isprintable()


def test_files_have_their_checksums():
    text = as_text(MANIFEST)
    assert cells(text, "en", "train", "00001.bin") == ["en", "train", "00001.bin", "492", "15,000", f"{1:064x}"]


def test_a_store_of_thousands_of_files_shows_the_first_and_says_how_many_more():
    large = copy.deepcopy(MANIFEST)
    large["sources"][0]["splits"]["train"] = split(4000, 8000, 4000, 1, 4000)
    lines = as_text(large).splitlines()
    assert sum(".bin" in line for line in lines) == FILES
    assert lines[lines.index("... and 3,992 more files") - 1].split()[2] == f"{FILES - 1:05}.bin"
    large["sources"][0]["splits"]["train"] = split(9, 8000, 9, 1, FILES - 1)
    assert "... and 1 more file\n" in as_text(large)
    assert "more file" not in as_text(MANIFEST)


TABLES = {
    "0123": {
        "lengths": {"encoder": 100, "decoder": 20},
        "objective": "span_corruption",
        "pack": True,
        "tables": {
            "0-train": {"examples": 2500, "rows": 1000, "cut": 7, "tokens": [95_000, 13_000], "sha256": []},
            "1-validation": {"examples": 0, "rows": 0, "cut": 0, "tokens": [0, 0], "sha256": []},
        },
    },
    "4567": {
        "lengths": {"encoder": 64},
        "objective": "next_sentence",
        "pack": True,
        "tables": {"0-train": {"examples": 5, "rows": 5, "cut": 1, "tokens": [320], "sha256": []}},
    },
}


def test_rows_examples_cuts_and_fill_of_pack_tables_stand_by_source_and_split():
    text = as_text(MANIFEST, TABLES)
    row = ["span_corruption", "encoder", "100", "+", "decoder", "20"]
    assert cells(text, *row, "en") == [*row, "en", "train", "1,000", "2,500", "7", "95.0%", "+", "65.0%"]
    assert cells(text, *row, "唐诗") == [*row, "唐诗", "validation", "0", "0", "0", "-"]
    prefix = copy.deepcopy(TABLES)
    prefix["0123"]["objective"] = "prefix"
    assert cells(as_text(MANIFEST, prefix), "prefix", *row[1:], "en")[-1] == "-"
    prefix["0123"]["tables"]["0-train"] |= {"drawings": 2, "tokens": [190_000, 26_000]}
    assert cells(as_text(MANIFEST, prefix), "prefix", *row[1:], "en")[-3:] == ["95.0%", "+", "65.0%"]
    assert cells(text, "next_sentence")[1:] == ["encoder", "64", "en", "train", "5", "5", "1", "-"]
    assert "objective" not in as_text(MANIFEST)


def test_vocabulary_versions_and_replaced_bytes_are_named():
    text = as_text(MANIFEST)
    for part in ("12" * 32, "16 bits", "format 2", "t5like 0.1, sentencepiece 0.2.1", "3 sequences replaced"):
        assert part in text
    assert "en (jsonl, units: 12), 唐诗 (parquet, units: 1)" in text


def test_chinese_names_keep_columns_aligned():
    lines = as_text(MANIFEST).splitlines()
    table = lines[: lines.index("")]
    ends = {columns(line[: line.index(part) + len(part)]) for line in table for part in ("validation",) if part in line}
    assert len(ends) == 1
    full = [line for line in table if line.endswith(("longest", "000", "500", " 0"))]
    assert len({columns(line) for line in full}) == 1
    assert all(line == line.rstrip() for line in lines)
