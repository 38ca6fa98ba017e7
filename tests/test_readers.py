"""Fields of JSON lines and Parquet become texts; what is no such file, or has no such field, is a sentence."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from test_sources import read_all, texts

from t5like import config
from t5like.data import sources
from t5like.errors import UserError

ROWS = [
    {"id": n, "text": f"第{n} row", "translation": {"en": f"e{n}", "zh": f"中{n}"}, "answers": ["a", "b"][: n % 3]}
    for n in range(10)
]


def write(folder, kind: str, rows=ROWS, **options) -> str:
    if kind == "jsonl":
        (folder / "a").write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a", **options)
    return str(folder / "a")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("text",), [(row["text"],) for row in ROWS]),
        (("translation.zh", "id"), [(row["translation"]["zh"], str(row["id"])) for row in ROWS]),
        (("text", "answers.1"), [(row["text"], "b" if row["id"] % 3 == 2 else "") for row in ROWS]),
    ],
)
def test_fields_within_fields_and_numbers_become_texts(tmp_path, kind, fields, expected):
    documents = read_all(kind=kind, path=write(tmp_path, kind), fields=fields)
    assert [document.parts for document in documents] == expected


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_name_with_a_dot_is_taken_as_it_stands_first(tmp_path, kind):
    rows = [{"a.b": "whole", "a": {"b": "inner", "c": "other"}}]
    (document,) = read_all(kind=kind, path=write(tmp_path, kind, rows), fields=("a.b", "a.c"))
    assert document.parts == ("whole", "other")


def test_a_template_puts_the_fields_into_the_parts(tmp_path):
    rows = [{"en": "see {zh}", "zh": "看"}]
    settings = {"fields": ("en", "zh"), "template": ("translate: {en} ({en})", "{zh}")}
    (document,) = read_all(kind="jsonl", path=write(tmp_path, "jsonl", rows), **settings)
    assert document.parts == ("translate: see {zh} (see {zh})", "看")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_truth_values_and_nothing_are_texts(tmp_path, kind):
    rows = [{"a": 3.8, "b": True, "c": None, "d": "x"}, {"a": None, "b": None, "c": None, "d": " "}]
    documents = read_all(kind=kind, path=write(tmp_path, kind, rows), fields=("a", "b", "c", "d"))
    assert [document.parts for document in documents] == [("3.8", "true", "", "x")]


def test_equal_documents_are_of_one_group_and_others_are_not(tmp_path):
    rows = [{"a": "x", "b": "yz"}, {"a": "xy", "b": "z"}, {"a": "x", "b": "yz"}]
    first, other, again = read_all(kind="jsonl", path=write(tmp_path, "jsonl", rows), fields=("a", "b"))
    assert first.group == again.group != other.group


def test_units_of_parquet_are_row_groups_and_records_are_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "UNIT_BYTES", 200)
    path = write(tmp_path, "parquet", row_group_size=3)
    source = config.Source(kind="parquet", path=path)
    units = sources.units((source,))
    assert [(part.start, part.stop) for unit in units for part in unit.parts] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert len(units) > 1
    documents = [(d.parts[0], d.record) for unit in units for d in sources.read(source, unit)]
    assert documents == [(row["text"], row["id"]) for row in ROWS]


@pytest.mark.parametrize("rows", [1, 1024])
def test_parquet_is_decoded_a_few_rows_at_a_time(tmp_path, monkeypatch, rows):
    monkeypatch.setattr("t5like.data.sources.columnar.BATCH_BYTES", rows)
    assert texts(kind="parquet", path=write(tmp_path, "parquet")) == [row["text"] for row in ROWS]


def test_text_in_parquet_that_is_no_utf8_is_replaced_and_counted(tmp_path):
    raw = pyarrow.array([b"caf\xe9", b"fine"], pyarrow.binary())
    text = raw.view(pyarrow.string())
    for name, column in {"a": raw, "b": text, "c": text.dictionary_encode()}.items():
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / name)
        documents = read_all(kind="parquet", path=str(tmp_path / name))
        assert [(d.parts, d.invalid) for d in documents] == [(("caf\ufffd",), 1), (("fine",), 0)]


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"text": "a\ud83d b\ude00 c\ud83d\ude00"}')
    (document,) = read_all(kind="jsonl", path=str(tmp_path / "a.jsonl"))
    assert (document.parts[0], document.invalid) == ("a\ufffd b\ufffd c\U0001f600", 2)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": broken}', r"is not JSON: Expecting value\."),
        ("[" * 100_000, r"is not JSON: maximum recursion depth"),
        ('{"text": %s}' % ("1" * 5000), "is not JSON: Exceeds the limit"),
        ("[1, 2]", r"is no JSON object with named fields\."),
        ('"text"', r"is no JSON object with named fields\."),
    ],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line, problem):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(UserError, match=rf"a\.jsonl, line 3, {problem}"):
        texts(kind="jsonl", path=str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ('{"id": 1, "body": "x"}', "; there are body, id."),
        ('{"a": {"text": 1}}', r"; did you mean 'a\.text'\?"),
        ("{}", "; it has none."),
    ],
)
def test_a_missing_field_is_named_beside_those_that_exist(tmp_path, line, rest):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    sentence = rf"^data\.sources\.N\.fields: .*a\.jsonl, line 2, has no field 'text'{rest} Mend it, or leave"
    with pytest.raises(UserError, match=sentence):
        texts(kind="jsonl", path=str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("answers", r"has in the field 'answers' a list of \d values: name one of them, 'answers\.0', or join them"),
        ("translation", r"has in the field 'translation' several fields: name one of them, translation\.en, tra.*zh\."),
        ("translation.fr", r"has no field 'translation\.fr'; did you mean 'translation\.(en|zh)'\?"),
        ("text.en", r"has no field 'text\.en'; did you mean 'text'\?"),
        ("qqqq", r"has no field 'qqqq'; there are answers, id, text, translation\.en, translation\.zh\."),
    ],
)
def test_fields_that_are_no_single_text_are_sentences(tmp_path, kind, field, sentence):
    with pytest.raises(UserError, match=sentence):
        texts(kind=kind, path=write(tmp_path, kind, ROWS[2:]), fields=(field,))


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_truncated_parquet_file_is_a_sentence(tmp_path, kept):
    path = write(tmp_path, "parquet")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:kept])
    with pytest.raises(UserError, match=r"a cannot be read: .*[Pp]arquet"):
        texts(kind="parquet", path=path)


def test_a_damaged_parquet_file_is_a_sentence(tmp_path):
    path = write(tmp_path, "parquet", [{"text": str(n) * 50} for n in range(1000)])
    content = bytearray((tmp_path / "a").read_bytes())
    content[100:3000] = bytes(2900)
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=r"a cannot be read: "):
        texts(kind="parquet", path=path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_row_that_is_too_long_is_a_sentence(tmp_path, kind):
    path = write(tmp_path, kind, [{"text": "short"}, {"text": "x" * 2000}])
    with pytest.raises(UserError, match=r"a, (line 2|row 1), is longer than data\.sources\.N\.most_bytes=1000"):
        texts(kind=kind, path=path, most_bytes=1000)
