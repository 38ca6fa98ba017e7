"""Rows of a source's splits, as benchmarks and people have them, come whole and as values of Python's own."""

import datetime
import decimal
import gzip
import itertools
import json
import os
import pathlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from settings import sentence
from test_formats import write
from test_sources import read_all, read_parts

from t5like import config
from t5like.config.sources import sides, with_braces
from t5like.data import sources
from t5like.data.prepare.plan import plan_of
from t5like.data.sources import Part, rows_of, value_of
from t5like.data.sources.faults import Faults
from t5like.data.sources.identity import identify, root_of
from t5like.errors import UserError

DATA = pathlib.Path(os.environ.get("T5LIKE_DATA", "/nonexistent"))


def values(fields: tuple[str, ...] = (), split: str = "train", **source) -> list[dict]:
    return [dict(row.values) for row in rows_of(config.Source(**source), split, fields)]


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# NN B-NP O
1 CD I-NP O
"""
UNIVERSAL = """# sent_id = 1
# text = Vámonos al mar.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_
3\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No

"""


def test_conll_gives_sentences_as_lists_for_words_tags_and_each_column(tmp_path):
    path = write(tmp_path, "eng.train.conll", CONLL)
    first, second = values(kind="files", path=path)
    assert (first["words"], first["tags"], first["text"]) == (["EU", "rejects"], ["B-ORG", "O"], "EU rejects")
    assert (first["0"], first["1"], first["-1"]) == (first["words"], ["NNP", "VBZ"], first["tags"])
    assert second["words"] == ["#", "1"]  # a token, for the line has the columns of one
    named = values(kind="conll", path=path, columns=("token", "tags", "chunk", "ner"))
    assert (named[0]["words"], named[0]["tags"], named[0]["ner"]) == (["EU", "rejects"], ["NNP", "VBZ"], ["B-ORG", "O"])
    assert [document.parts for document in read_all(kind="conll", path=path)] == [("EU rejects",), ("# 1",)]


def test_conll_u_gives_words_and_parts_of_speech_and_the_text_that_it_names(tmp_path):
    (row,) = values(kind="files", path=write(tmp_path, "es.conllu", UNIVERSAL))
    assert (row["words"], row["tags"]) == (["Vamos", "nos", "mar"], ["VERB", "PRON", "NOUN"])
    assert (row["text"], row["deprel"]) == ("Vámonos al mar.", ["root", "obj", "obl"])


def test_chinese_characters_with_tags_are_joined_without_spaces_and_comments_are_skipped(tmp_path):
    content = "# id 1\tdomain=zh\n床\tB-N\r\n前\tE-N\r\n，\tO\r\nTang\tS\r\n\r\n \r\n月\tS\r\n"
    one, two = values(kind="conll", path=write(tmp_path, "a.bmes", content))
    assert (one["text"], one["tags"], two["words"]) == ("床前， Tang", ["B-N", "E-N", "O", "S"], ["月"])
    (bare,) = values(kind="conll", path=write(tmp_path, "b.bio", "a\nb\n"))
    assert bare["words"] == ["a", "b"] and "tags" not in bare


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("a O\nb\n\nc O\n", {}, "line 2, has 1 column where 2 the file begins with."),
        ("a O\n\nb B X\n", {}, "line 3, has 3 columns where 2 the file begins with."),
        ("a O\n", {"columns": ("words",)}, "line 1, has 2 columns where 1 are named."),
        ("a O\n" * 30, {"most_bytes": 20}, "line 1, is longer than data.sources.N.most_bytes=20: raise it"),
    ],
)
def test_a_sentence_that_is_ragged_or_too_long_is_named_by_its_line_and_may_be_skipped(
    tmp_path, content, settings, said
):
    settings |= {"kind": "conll", "path": write(tmp_path, "a.conll", content)}
    assert f"a.conll, {said}" in sentence(values, **settings)
    faults = Faults()
    found = list(rows_of(config.Source(on_error="skip", **settings), "train", faults=faults))
    assert faults.count == 1 and len(found) == content.count("\n\n")


@pytest.mark.parametrize("seed", range(3))
def test_any_cutting_of_a_conll_file_gives_the_same_sentences(tmp_path, seed):
    draw = np.random.default_rng(seed)
    lines = [str(draw.choice(["", "a O", "词 B-N", "-DOCSTART- O"])) for _ in range(60)]
    content = ("\r\n" if seed else "\n").join(["x O", *lines])
    source = config.Source(kind="conll", path=write(tmp_path, "a.conll", content))
    size = len(content.encode())
    cuts = [0, *sorted(draw.integers(0, size, 9).tolist()), size]
    parts = (Part(source.path, *pair) for pair in itertools.pairwise(cuts))
    whole = read_parts(source, Part(source.path))
    found = [document for part in parts for document in read_parts(source, part)]
    assert whole and [(d.parts, d.record) for d in found] == [(d.parts, d.record) for d in whole]


@pytest.mark.parametrize(
    ("path", "braces", "names"),
    [
        ("train.en train.zh", "train.{en,zh}", ["en", "zh"]),
        ("c/*.en.gz c/*.es.gz c/*.de.gz", "c/*.{en,es,de}.gz", ["en", "es", "de"]),
        ("src.txt tgt.txt", "{src,tgt}.txt", ["src", "tgt"]),
        ("x/{en,zh}/*.txt", "x/{en,zh}/*.txt", ["en", "zh"]),
        ("a.en a.en", "a.en{,}", []),
        ("a.en", "a.en", []),
    ],
)
def test_what_differs_in_the_names_of_parallel_files_names_their_fields(path, braces, names):
    assert (with_braces(path), list(sides(path))) == (braces, names)


def parallel(folder: pathlib.Path) -> str:
    for name, lines in {"a": ["one", "two"], "b": ["", "four"]}.items():
        (folder / f"{name}.en").write_text("\n".join(lines), "utf-8")
        (folder / f"{name}.zh").write_text("".join(f"{line}一\r\n" for line in lines), "utf-8")
    return str(folder)


def test_parallel_files_give_a_row_for_the_lines_of_one_number(tmp_path):
    folder = parallel(tmp_path)
    source = {"kind": "parallel", "path": f"{folder}/*.{{en,zh}}"}
    assert values(**source) == [{"en": e, "zh": f"{e}一"} for e in ("one", "two", "", "four")]
    two = {"kind": "parallel", "path": f"{folder}/a.en {folder}/a.zh", "fields": ("zh", "en")}
    assert [document.parts for document in read_all(**two)] == [("one一", "one"), ("two一", "two")]
    rows = list(rows_of(config.Source(**two), "train"))
    assert rows[1].where() == f"{folder}/a.{{en,zh}}, line 2,"
    (tmp_path / "a.zh.gz").write_bytes(gzip.compress((tmp_path / "a.zh").read_bytes()))
    (tmp_path / "a.en.gz").write_bytes(gzip.compress((tmp_path / "a.en").read_bytes()))
    assert values(kind="parallel", path=f"{folder}/a.{{en,zh}}.gz") == values(**two)


def test_a_store_knows_parallel_files_by_all_their_contents(tmp_path):
    source = config.Source(kind="parallel", path=f"{parallel(tmp_path)}/*.{{en,zh}}", fields=("en", "zh"))
    before = identify((source,))
    assert [key.name for key in before] == ["a.{en,zh}", "b.{en,zh}"] and root_of(source, "train") == f"{tmp_path}/"
    (tmp_path / "b.zh").write_text("三\n四\n", "utf-8")
    now = identify((source,))
    assert [key.name for key in now if now[key] != before[key]] == ["b.{en,zh}"]
    assert [d.parts[1] for unit in sources.units((source,)) for d in sources.read(source, unit)][-1] == "四"


def test_parallel_files_that_do_not_fit_are_a_sentence_with_both_counts(tmp_path):
    path = f"{parallel(tmp_path)}/a.{{en,zh}}"
    with (tmp_path / "a.zh").open("a", encoding="utf-8") as file:
        file.write("三\n四\n")
    said = sentence(values, kind="parallel", path=path)
    assert f"{tmp_path}/a.en has 2 lines and {tmp_path}/a.zh has 4 lines: parallel files need a line for each" in said
    assert len(values(kind="parallel", path=path, on_error="skip")) == 2
    (tmp_path / "b.zh").unlink()
    assert f"{tmp_path}/b.zh is missing; each" in sentence(values, kind="parallel", path=f"{tmp_path}/*.{{en,zh}}")
    (tmp_path / "b.en").rename(tmp_path / "b.zh")
    assert f"{tmp_path}/b.zh is alone; each" in sentence(values, kind="parallel", path=f"{tmp_path}/*.{{en,zh}}")
    said = sentence(values, kind="parallel", path=f"{tmp_path}/a.en", fields=("en",))
    assert "names its files as 'train.{en,zh}' or 'train.en train.zh'" in said
    said = sentence(config.Source, kind="parallel", path="a.{en,zh}", test="b.{en,de}")
    assert said.startswith("data.sources.N.test='b.{en,de}': a source of kind 'parallel'")
    (tmp_path / "c.en").write_bytes("das Mädchen fährt\n".encode("cp1252") * 40)
    (tmp_path / "c.zh").write_bytes(b"x\n" * 40)
    assert "c.en: " in sentence(values, kind="parallel", path=f"{tmp_path}/c.{{en,zh}}")


NESTED = [
    {"words": ["床", "前"], "tags": [0, 1], "answers": {"text": ["a", "b"], "start": [1, 2]}, "score": 0.5, "n": 3},
    {"words": [], "tags": [], "answers": {"text": [], "start": []}, "score": None, "n": 4},
]
MESSAGES = [[{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}], []]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl", "json"])
def test_every_reader_gives_whole_rows_of_plain_values(tmp_path, kind):
    rows = [row | {"messages": turns, "flag": True} for row, turns in zip(NESTED, MESSAGES, strict=True)]
    table, path = pyarrow.Table.from_pylist(rows), tmp_path / "a"
    match kind:
        case "parquet":
            pyarrow.parquet.write_table(table, path)
        case "arrow":
            with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        case "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case "json":
            path.write_text(json.dumps(rows))
    assert values(("answers.text.0",), kind=kind, path=str(path)) == rows
    (first, _) = rows_of(config.Source(kind=kind, path=str(path)), "train")
    assert value_of(first, "messages.1.content") == "答" and first.where().startswith(str(path))
    said = sentence(values, ("answer",), kind=kind, path=str(path))
    assert "data.sources.N.fields: " in said and "has no field 'answer'; did you mean 'answers" in said


def test_columns_of_dates_decimals_and_invalid_text_become_plain_values(tmp_path):
    table = pyarrow.table(
        {
            "day": [datetime.date(2024, 5, 1)],
            "price": [decimal.Decimal("1.50")],
            "text": pyarrow.array([[b"caf\xe9"]], pyarrow.list_(pyarrow.binary())),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (row,) = rows_of(config.Source(kind="parquet", path=str(tmp_path / "a.parquet")), "train")
    assert row.values == {"day": "2024-05-01", "price": "1.50", "text": ["caf\ufffd"]} and row.invalid == 1


def test_classes_within_lists_have_their_names_in_whole_rows(tmp_path):
    names = {"names": ["O", "B-PER"], "_type": "ClassLabel"}
    features = {"tags": {"feature": names, "_type": "Sequence"}, "n": names}
    table = pyarrow.Table.from_pylist([{"tags": row["tags"], "n": 1} for row in NESTED]).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = values(kind="parquet", path=str(tmp_path / "a.parquet"))
    assert found == [{"tags": ["O", "B-PER"], "n": "B-PER"}, {"tags": [], "n": "B-PER"}]


def test_the_test_split_is_read_and_no_store_depends_on_it(tmp_path):
    for split in ("train", "dev", "test"):
        write(tmp_path, f"{split}.jsonl", json.dumps({"text": split, "label": "x"}))
    source = {"kind": "jsonl", "path": f"{tmp_path}/train.jsonl", "validation": f"{tmp_path}/dev.jsonl"}
    with_test = source | {"test": f"{tmp_path}/test.jsonl"}
    assert [values(split=split, **with_test)[0]["text"] for split in ("train", "validation", "test")] == [
        *("train", "dev", "test")
    ]
    assert "The source has no test split of its own: set data.sources.N.test." in sentence(
        values, split="test", **source
    )
    assert "give data.sources.N.test an existing file" in sentence(
        values, split="test", **source | {"test": f"{tmp_path}/no.jsonl"}
    )
    plans = [plan_of(config.Data(sources=(config.Source(**each),), store="s")) for each in (source, with_test)]
    assert plans[0] == plans[1]
    one, other = (config.Source(**each) for each in (source, with_test))
    assert identify((one,)) == identify((other,)) and sources.units((one,)) == sources.units((other,))


GLUE = {
    "CoLA": ('gj04\t1\t\tOur friends won\'t buy this "analysis".\ngj04\t0\t*\t"They drank the pub.\n', ("3", "1")),
    "SST-2": ('sentence\tlabel\nhide "new secretions \t0\ncontains no wit\t1\n', ("sentence", "label")),
    "MRPC": (
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t702876\t702977\tAmrozi\t"He\n0\t1\t2\tYucaipa\tb\n',
        ("#1 String", "#2 String", "Quality"),
    ),
    "QQP": (
        'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tHow?\t"Why\t0\n2\t4\t5\tWhat?\tW\t1\n',
        ("question1", "question2", "is_duplicate"),
    ),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        '0\tmain\tMSRvid\t2012\t0001\tnone\tnone\t"A plane\tAn air plane\t5.000\n1\tm\tM\t2\t4\tn\tn\tA\tB\t3.800\n',
        ("sentence1", "sentence2", "score"),
    ),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        '0\t31\t31n\tgovernment\t( a )\tCream skimming\t"Product\tneutral\tneutral\n1\t3\t3e\tt\t( b )\ta\tb\tn\tn\n',
        ("sentence1", "sentence2", "gold_label"),
    ),
    "RTE": ('index\tsentence1\tsentence2\tlabel\r\n0\t"No WMD\tWMD\tnot_entailment\r\n1\ta\tb\tc\r\n', ("sentence1",)),
}


@pytest.mark.parametrize("fields", [True, False])
@pytest.mark.parametrize("task", GLUE)
def test_glue_s_tables_are_read_as_they_come(tmp_path, task, fields):
    content, named = GLUE[task]
    found = values(named if fields else (), kind="files", path=write(tmp_path, "train.tsv", content))
    lines = [line.split("\t") for line in content.lstrip("\ufeff").splitlines()]
    names, lines = (list("0123"), lines) if task == "CoLA" else (lines[0], lines[1:])
    assert found == [dict(zip(names, line, strict=True)) for line in lines] and len(found) == 2


def test_a_ragged_row_is_a_sentence_with_its_line_and_may_be_skipped(tmp_path):
    content = "id\tquestion1\tquestion2\tis_duplicate\n1\ta\tb\t0\n2\tno more\n3\tc\td\t1\n"
    source = {"kind": "tsv", "path": write(tmp_path, "a.tsv", content)}
    said = "a.tsv, line 3, has 2 columns where 4 are named."
    assert said in sentence(values, ("question2",), **source)
    assert len(values(("question2",), on_error="skip", **source)) == 2
    said = sentence(values, ("0", "3"), **source)
    assert "line 3, has no field '3'; there are 0, 1" in said


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("text\tlabel\na b\tx\n", True),
        (",sent_more,bias_type\n0,a,b\n", True),
        ("Hi.\t嗨。\nRun.\t跑。\n", False),
        ("neutral\tA man\nneutral\tA girl\n", False),
        ("1\ttext\n2\tother\n", False),
        ("to title\t采用\t一种\nto title\t基于\t另一\n", False),
        ("同\t同\na\tb\n", False),
        ("句子\t标签\n好\t一\n", True),
    ],
)
def test_a_first_line_is_taken_for_a_header_if_it_looks_like_one_where_no_field_is_asked_for(tmp_path, content, header):
    path = write(tmp_path, "a", content)
    found = values(kind="csv" if content.startswith(",") else "tsv", path=path)
    assert len(found) == content.count("\n") - header and ("0" in found[0]) != header


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        ('4 Who was "Galileo ?\n0 A\n', {}, [{"0": "4", "1": 'Who was "Galileo ?'}, {"0": "0", "1": "A"}]),
        ("4 a b\n", {"columns": ("label", "text")}, [{"label": "4", "text": "a b"}]),
        ('"a b" 1\n"c d" 0\n', {}, [{"0": "a b", "1": "1"}, {"0": "c d", "1": "0"}]),
        ("1 x a b c\n", {"columns": ("a", "b", "c")}, [{"a": "1", "b": "x", "c": "a b c"}]),
    ],
)
def test_behind_a_space_the_last_column_takes_the_rest_of_the_line(tmp_path, content, settings, expected):
    assert values(kind="csv", delimiter=" ", path=write(tmp_path, "TREC.all", content), **settings) == expected


def test_quotes_between_tabs_are_text_unless_the_first_lines_show_that_they_are_not(tmp_path):
    plain = write(tmp_path, "sts.csv", 'a\t5.0\tb\na\t1.0\t"half a quote\na\t2.0\t"It", he said\n')
    assert [row["2"] for row in values(kind="csv", path=plain)] == ["b", '"half a quote', '"It", he said']
    quoted = write(tmp_path, "q.csv", 'text\tn\n"two\nlines"\t1\n')
    assert values(kind="csv", path=quoted) == [{"text": "two\nlines", "n": "1"}]


def test_one_sentence_a_line_and_blank_lines_between_documents_are_documents_of_lines(tmp_path):
    path = write(tmp_path, "bert.txt", "First one.\nSecond one.\n\n第三句。\n第四句。\n\n\nfifth\n")
    found = read_all(kind="text", path=path, document="paragraph")
    assert [document.parts[0] for document in found] == ["First one.\nSecond one.", "第三句。\n第四句。", "fifth"]
    assert values(kind="text", path=path, document="line")[2] == {"text": "第三句。"}


SHARED = {
    "snli_subset/{}.tsv.gz": ("files", (1666, 200, 400), ("sentence1", "sentence2", "gold_label")),
    "stsb/sts-{}.csv.gz": ("files", (5749, 1500, 1379), ("4", "5", "6")),
    "scitldr/{}.jsonl.gz": ("files", (1992, 619, 618), ("source.0", "target")),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="T5LIKE_DATA names no folder with data sets")
@pytest.mark.parametrize("pattern", SHARED)
def test_data_sets_with_splits_are_read_as_they_come(pattern):
    kind, counts, fields = SHARED[pattern]
    named = zip(("path", "validation", "test"), ("train", "dev", "test"), strict=True)
    source = config.Source(kind=kind, **{field: f"{DATA}/{pattern.format(split)}" for field, split in named})
    assert tuple(sum(1 for _ in rows_of(source, split, fields)) for split in ("train", "validation", "test")) == counts


WHOLE = [
    ({"kind": "csv", "delimiter": " "}, "sentconv_classification/TREC.train.all.gz", 5452, ("0", "1")),
    ({"kind": "csv", "delimiter": " "}, "sentconv_classification/rt-polarity.all.gz", 10662, ("0", "1")),
    ({"kind": "files"}, "csl_title/ctg_train.tsv.gz", 8000, ("1", "2")),
    ({"kind": "tsv"}, "tatoeba_en_zh/cmn.txt.gz", 21007, ("0", "1")),
    ({"kind": "parallel"}, "codexglue_java_cs/train.{java,cs}.txt.gz", 10295, ("java", "cs")),
    ({"kind": "parallel"}, "django_pseudocode/all.{anno,code}.gz", 18805, ("anno", "code")),
    ({"kind": "json", "records": "data.paragraphs.qas"}, "squad_subset/cs224n*.gz", 6078, ("context", "is_impossible")),
    ({"kind": "json", "records": "data.paragraphs.qas"}, "cmrc2018/*.gz", 4221, ("answers.0.answer_start",)),
    ({"kind": "files"}, "crows_pairs/*.gz", 1508, ("sent_more",)),
    ({"kind": "files"}, "gsm8k/train.jsonl.xz", 7473, ("question",)),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="T5LIKE_DATA names no folder with data sets")
@pytest.mark.parametrize(("settings", "path", "count", "fields"), WHOLE)
def test_data_sets_of_one_file_are_read_as_they_come(settings, path, count, fields):
    assert sum(1 for _ in rows_of(config.Source(path=f"{DATA}/{path}", **settings), "train", fields)) == count


def test_a_row_that_cannot_be_read_names_its_file_and_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": \n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 2, is not JSON: Expecting value\. Mend it, or leave such"):
        values(kind="jsonl", path=path)
