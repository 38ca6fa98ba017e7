"""CSV, TSV, JSON, Arrow, paragraphs and files of any kind become documents, and each of their mistakes a sentence."""

import gzip
import itertools
import json

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from settings import sentence
from test_sources import read_all, read_parts, texts

from t5like import config
from t5like.config.sources import kind_of
from t5like.data import sources
from t5like.data.sources import Part
from t5like.data.sources.faults import Faults
from t5like.errors import UserError

ROWS = [{"text": f"第{n} row, of\nmany", "n": str(n)} for n in range(40)]


def write(folder, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def skipped(**source) -> tuple[list[str], Faults]:
    """The texts of a source that skips faults, and these."""
    settings, faults = config.Source(on_error="skip", **source), Faults()
    return [d.parts[0] for unit in sources.units((settings,)) for d in sources.read(settings, unit, faults)], faults


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        ('text,n\n"a, b",1\nc,2\n', {}, [("a, b",), ("c",)]),
        ("\ufefftext;n\r\na, b;1\r\n", {}, [("a, b",)]),
        ("n|text\n1|a; b, c\n2|d\n", {}, [("a; b, c",), ("d",)]),
        ("n\ttext\n1\ta, b\n", {"fields": ("text", "n")}, [("a, b", "1")]),
        ('text,n\n"two\r\nlines",1\n"a ""word""",2\n\n', {}, [("two\nlines",), ('a "word"',)]),
        ("text\none, two\n", {}, [("one, two",)]),
        ("a b,1\nc d,0\n", {"fields": ("1", "0")}, [("1", "a b"), ("0", "c d")]),
        ("a b,1\nc d,0\n", {"columns": ("text", "label")}, [("a b",), ("c d",)]),
        ("text:n\na,b:1\n", {"delimiter": ":"}, [("a,b",)]),
        ('text,n\n"open,1\n', {"quotes": False}, [('"open',)]),
        ("", {}, []),
        ("text,n\n", {}, []),
    ],
)
def test_csv_has_quotes_delimiters_and_a_header_or_none(tmp_path, content, settings, expected):
    documents = read_all(kind="csv", path=write(tmp_path, "a.csv", content), **settings)
    assert [document.parts for document in documents] == expected


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (
            'en\tzh\n"hello\t你好\n\nbye, "you"\t再见\n',
            {"fields": ("en", "zh")},
            [('"hello', "你好"), ('bye, "you"', "再见")],
        ),
        ("a\t1\nb\t2\n", {"fields": ("0",)}, [("a",), ("b",)]),
        ("1\ta\n1\tb\n", {"fields": ("1",)}, [("a",), ("b",)]),
        ("a\t1\nb\t2\n", {"columns": ("text", "n")}, [("a",), ("b",)]),
        ('text\tn\n"two\nlines"\t1\n', {"quotes": True}, [("two\nlines",)]),
    ],
)
def test_tsv_has_plain_lines_unless_it_is_said_to_have_quotes(tmp_path, content, settings, expected):
    documents = read_all(kind="tsv", path=write(tmp_path, "a.tsv", content), **settings)
    assert [document.parts for document in documents] == expected


def test_any_cutting_of_a_tsv_file_gives_the_same_rows_without_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 50)
    content = "n\ttext\n" + "".join(f"{n}\ttext {n}\n" for n in range(30))
    source = config.Source(kind="tsv", path=write(tmp_path, "a.tsv", content))
    units = sources.units((source,))
    found = [document.parts[0] for unit in units for document in sources.read(source, unit)]
    assert len(units) > 5 and found == [f"text {n}" for n in range(30)]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False),
        "\ufeff" + json.dumps(ROWS),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "\n".join(map(json.dumps, ROWS)),
    ],
)
@pytest.mark.parametrize("block", [7, 2**18])
def test_json_arrays_and_objects_are_read_whatever_their_layout(tmp_path, monkeypatch, content, block):
    monkeypatch.setattr("t5like.data.sources.readers.BLOCK", block)
    found = read_all(kind="json", path=write(tmp_path, "a.json", content))
    assert [(d.parts[0], d.record) for d in found] == [(row["text"], n) for n, row in enumerate(ROWS)]


def test_a_file_of_json_lines_that_is_an_array_is_read_as_one_and_never_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 100)
    assert texts(kind="jsonl", path=write(tmp_path, "a.jsonl", json.dumps(ROWS))) == [row["text"] for row in ROWS]


def test_compressed_lines_are_not_cut_whatever_the_file_is_called(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 20)
    lines = [f"line {n * 7919 % 1000}" for n in range(50)]
    path = write(tmp_path, "a.txt", gzip.compress("\n".join(lines).encode()))
    assert texts(kind="text", path=path, document="line") == lines


@pytest.mark.parametrize("block", [7, 2**18])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('[{"text": "a"},\n{"text": oops}]', r"line 2, record 1, is not JSON: Expecting value\."),
        ('[{"text": "a"}, {"text": "b', r"line 1, record 1, is not JSON: Unterminated string\."),
        ('[{"text": "a"}', r"line 1, record 1, is not JSON: the array has no end\."),
        ('[{"text": "a"}]\n\nx', r"line 3, record 1, is not JSON: there is more behind the end of the array\."),
        ('[{"text": "a"}, ["b"]]', r"line 1, record 1, is no JSON object with named fields\."),
        ('[{"text": "a"}, {"txt": "b"}]', r"line 1, record 1, has no field 'text'; did you mean 'txt'\?"),
        ('[{"text": "a"}, {"text": "%s"}]' % ("x" * 99), "line 1, record 1, is longer than .*most_bytes=50: raise it"),
    ],
)
def test_what_is_wrong_in_a_json_array_is_named_and_what_precedes_it_is_kept(
    tmp_path, monkeypatch, content, problem, block
):
    monkeypatch.setattr("t5like.data.sources.readers.BLOCK", block)
    path = write(tmp_path, "a.json", content)
    with pytest.raises(UserError, match=rf"a\.json, {problem}"):
        texts(kind="json", path=path, most_bytes=50)
    found, faults = skipped(kind="json", path=path, most_bytes=50)
    assert (found, faults.count) == (["a"], 1)


@pytest.mark.parametrize(
    ("kind", "content", "problem", "left"),
    [
        ("csv", 'text,n\n"a"b,1\nfine,2\n', "line 2, is not CSV: ',' expected after '\"'", ["fine"]),
        ("csv", 'text,n\nfine,2\n"open,1\n', "line 3, is not CSV: unexpected end of data", ["fine"]),
        ("csv", "text,n\na,b,c\nfine,2\n", "line 2, has 3 columns where 2 are named", ["fine"]),
        ("csv", f"text,n\n{'x' * 99},2\nfine,2\n", "line 2, is longer than .*most_bytes=50", ["fine"]),
        ("tsv", "text\tn\na\nfine\t2\n", "line 2, has 1 column where 2 are named", ["fine"]),
        ("tsv", f"text\tn\n{'x' * 99}\t1\nfine\t2\n", "line 2, is longer than .*most_bytes=50", ["fine"]),
        ("jsonl", '{"text": "a"}\n{"text": "b\n{"text": "c"}\n', "line 2, is not JSON: Unterminated", ["a", "c"]),
        ("jsonl", '{"text": "a"}\n{"txt": "b"}\n{"text": "c"}\n', "line 2, has no field 'text'", ["a", "c"]),
        ("jsonl", '{"text": "%s"}\n{"text": "c"}\n' % ("x" * 99), "line 1, is longer than .*most_bytes=50", ["c"]),
    ],
)
def test_a_record_that_cannot_be_read_stops_or_is_skipped_and_counted(tmp_path, kind, content, problem, left):
    path = write(tmp_path, "a", content)
    said = sentence(texts, kind=kind, path=path, most_bytes=50)
    assert said.endswith("Mend it, or leave such records out with data.sources.N.on_error='skip'.")
    with pytest.raises(UserError, match=problem):
        texts(kind=kind, path=path, most_bytes=50)
    found, faults = skipped(kind=kind, path=path, most_bytes=50)
    assert (found, faults.count, len(faults.examples)) == (left, 1, 1)
    assert f"{path}, line" in faults.examples[0]


def test_a_damaged_file_among_others_is_skipped_from_where_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.files.BLOCK", 1000)
    lines = "".join(f"line {n * 7919 % 1000}\n" for n in range(20_000)).encode()
    write(tmp_path, "a.txt.gz", gzip.compress(lines)[:-20])
    write(tmp_path, "b.txt", "fine")
    found, faults = skipped(kind="text", path=f"{tmp_path}/*", document="line")
    assert found[-1] == "fine" and 10_000 < len(found) < 20_001
    assert (faults.count, faults.examples[0][-50:]) == (
        1,
        "file ended before the end-of-stream marker was reached."[-50:],
    )


def test_a_header_without_the_field_says_how_columns_are_named(tmp_path):
    said = sentence(texts, kind="csv", path=write(tmp_path, "a.csv", "some words,1\n"))
    assert "the first line of" in said and "there are 1, some words." in said
    assert said.endswith("name the columns with data.sources.N.columns, or take them by number: '0', '1'.")


@pytest.mark.parametrize("seed", range(3))
def test_any_cutting_of_a_file_gives_the_same_paragraphs(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("t5like.data.sources.files.BLOCK", (7, 100)[seed % 2])
    random = np.random.default_rng(seed)
    lines = [random.choice(["", " ", "字a line", "more\r", "x"]) for _ in range(60)]
    content = "\n".join(lines).encode()
    path = write(tmp_path, "a", content)
    source = config.Source(kind="text", path=path, document="paragraph")
    expected, pending = [], []
    for line in [*(line.rstrip("\r") for line in lines), ""]:
        if line.strip():
            pending.append(line)
        elif pending:
            expected, pending = [*expected, "\n".join(pending)], []
    cuts = sorted({0, *random.integers(0, len(content), 20).tolist(), len(content)})
    parts = [Part(path, start, stop) for start, stop in itertools.pairwise(cuts)]
    whole = [(d.parts[0], d.record) for d in read_parts(source, Part(path))]
    assert [text for text, _ in whole] == expected
    assert [(d.parts[0], d.record) for d in read_parts(source, *parts)] == whole


def test_a_paragraph_that_is_too_long_is_a_sentence_and_the_next_is_read(tmp_path):
    path = write(tmp_path, "a", "short\n\n" + "0123456789\n" * 9 + "\nlast\n" + "x" * 60)
    settings = {"kind": "text", "path": path, "document": "paragraph", "most_bytes": 70}
    assert "a, line 3, is longer than data.sources.N.most_bytes=70" in sentence(texts, **settings)
    assert skipped(**settings)[0] == ["short", "last\n" + "x" * 60]


def saved(folder, rows) -> None:
    """A folder as Hugging Face's `datasets` saves one, in two files."""
    folder.mkdir(parents=True)
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    names = [f"data-{n:05}-of-00002.arrow" for n in range(2)]
    for name, part in zip(names, (table.slice(0, 3), table.slice(3)), strict=True):
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


LABELLED = [{"text": f"第{n}", "label": n % 2, "more": {"list": ["a", str(n)]}} for n in range(7)]


def test_folders_of_datasets_give_their_rows_with_the_names_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.columnar.BATCH_BYTES", 1)
    saved(tmp_path / "one", LABELLED)
    expected = [(row["text"], ("no", "yes")[row["label"]], row["more"]["list"][1]) for row in LABELLED]
    for kind, path in (("arrow", "one"), ("files", "one"), ("arrow", "one/*.arrow"), ("files", "one/*.arrow")):
        documents = read_all(kind=kind, path=f"{tmp_path}/{path}", fields=("text", "label", "more.list.1"))
        assert [document.parts for document in documents] == expected
    assert [document.record for document in documents] == [0, 1, 2, 0, 1, 2, 3]


def test_a_folder_of_splits_gives_the_split_that_is_named(tmp_path):
    for split, rows in (("train", LABELLED[:3]), ("test", LABELLED[3:])):
        saved(tmp_path / "all" / split, rows)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    path = str(tmp_path / "all")
    assert texts(kind="arrow", path=path) == ["第0", "第1", "第2"]
    assert texts(kind="arrow", path=path, split="test") == ["第3", "第4", "第5", "第6"]
    source = config.Source(kind="arrow", path=path, validation="test")
    assert [unit.split for unit in sources.units((source,))] == ["train", "validation"]
    assert "has no split 'tset'; did you mean 'test'?" in sentence(texts, kind="arrow", path=path, split="tset")
    assert "has no field 'txt'; did you mean 'text'?" in sentence(texts, kind="arrow", path=path, fields=("txt",))


@pytest.mark.parametrize("new", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
def test_a_truncated_arrow_file_is_a_sentence(tmp_path, new):
    table = pyarrow.table({"text": ["x" * 50] * 50})
    with pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as file, new(file, table.schema) as stream:
        stream.write_table(table)
    assert len(texts(kind="arrow", path=str(tmp_path / "a.arrow"))) == 50
    content = (tmp_path / "a.arrow").read_bytes()
    path = write(tmp_path, "a.arrow", content[: len(content) // 2])
    assert f"{path} cannot be read: " in sentence(texts, kind="arrow", path=path)


def test_each_of_many_files_is_of_the_kind_that_its_name_or_content_says(tmp_path):
    row = {"text": "a text"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "parquet")
    saved(tmp_path / "saved", [row])
    names = {
        "A.JSONL": json.dumps(row),
        "b.json": json.dumps([row]),
        "c.csv": "text,n\na text,1\n",
        "d.TSV.GZ": gzip.compress(b"text\tn\na text\t1\n"),
        "e.txt": "a text",
        "lines": json.dumps(row),
        "array": json.dumps([row]),
        "plain": "a text",
    }
    for name, content in names.items():
        write(tmp_path, name, content)
    (tmp_path / "saved" / "data-00001-of-00002.arrow").rename(tmp_path / "arrow_stream")
    (tmp_path / "saved" / "data-00000-of-00002.arrow").rename(tmp_path / "arrow")
    assert texts(kind="files", path=f"{tmp_path}/*") == ["a text"] * (len(names) + 2)


def test_the_kind_of_a_name_is_that_within_a_compression():
    names = {"a.jsonl": "jsonl", "B.JSON.GZ": "json", "c.csv.bz2": "csv", "d.gz": "", "e": "", "f.tab": "tsv"}
    assert {name: kind_of(name) for name in names} == names


def test_a_line_that_is_no_json_is_no_record_of_several_fields_either(tmp_path):
    path = write(tmp_path, "a", '{"a": "x", "b": "y"}\nbroken\n')
    assert skipped(kind="jsonl", path=path, fields=("a", "b"))[1].count == 1


def test_records_in_lists_within_a_json_object_have_the_fields_around_them(tmp_path):
    pages = [{"context": "c", "qas": [{"q": "1"}, {"q": "2"}]}, {"context": "d", "qas": [{"q": "3"}, "no record"]}]
    path = write(tmp_path, "a.json", json.dumps({"version": 1, "data": [{"title": "t", "pages": pages}]}))
    settings = {"kind": "json", "path": path, "records": "data.pages.qas", "fields": ("title", "context", "q")}
    settings |= {"template": ("{title} {context} {q}",)}
    found, faults = skipped(**settings)
    assert found == ["t c 1", "t c 2", "t d 3"]
    assert faults.examples == [f"{path}, line 1, record 3, is no JSON object with named fields."]
    said = sentence(texts, **settings | {"records": "data.page.qas"})
    assert f"{path}, line 1, record 0, has no list 'page', which data.sources.N.records names." in said
