"""Labelled files that nobody has seen: their splits, columns and types, the task that fits, and what is wrong."""

import json

import numpy as np
import pytest

from t5like.config import Vocabulary
from t5like.errors import UserError
from t5like.tasks.asked import Asked, Reading
from t5like.tasks.examine import examine, task_of
from t5like.tasks.files import source_of, stem
from t5like.tasks.guess import guess
from t5like.tasks.lengths import estimate, fitting, share_cut
from t5like.tasks.report import columns_as_text, flags_of, task_line
from t5like.tasks.survey import survey

WORDS = ["red", "blue", "green", "small", "large", "old"]
TEXTS = [f"The {a} {b} house number {n}." for n, (a, b) in enumerate([(a, b) for a in WORDS for b in WORDS])]
CHINESE = [f"第{n}号房子很大。" for n in range(36)]
MESSAGES = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Hello"}] for text in TEXTS]


def lines(*columns):
    return [list(map(str, row)) for row in zip(*columns, strict=True)]


def records(**columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def table(rows, header=()):
    return "".join("\t".join(row) + "\n" for row in [*([list(header)] if header else []), *rows])


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


LABELS = ["good", "bad"] * 18
NUMBERS = [n / 8 for n in range(36)]
ANSWERS = [{"text": [text[4:7]], "answer_start": [4]} for text in TEXTS]
SQUAD = {
    "version": "1",
    "data": [
        {"title": "t", "paragraphs": [{"context": text, "qas": [
            {"id": "1", "question": "Which?", "answers": [{"text": text[4:7], "answer_start": 4}]},
            {"id": "2", "question": "Who?", "answers": []},
        ]}]}
        for text in TEXTS
    ],
}  # fmt: skip
CONLL = "".join(
    "".join(f"{w} {t}\n" for w, t in zip(x.split(), ["O", "O", "B-X", "I-X", "O"], strict=False)) + "\n" for x in TEXTS
)
MRPC = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
FILES = {
    "classification": (
        "a.tsv", table(lines(TEXTS, LABELS), ("text", "label")), "classify", "--input text --target label",
    ),
    "labels that are numbers, without a header": (
        "a.tsv", table(lines(["gj04"] * 20 + ["bc01"] * 16, [0, 1] * 18, [""] * 36, TEXTS)),
        "classify", "--input 3 --target 1",
    ),
    "a label before a text": (
        "a.all", "".join(f"{n % 3} {t}\n" for n, t in enumerate(TEXTS)), "classify", "--input 1 --target 0",
    ),
    "GLUE's pairs": (
        "a.tsv",
        table(lines([0, 1] * 18, range(36), range(36), TEXTS, TEXTS[::-1]), MRPC),
        "pair", "--input '#1 String' --second '#2 String' --target Quality",
    ),
    "scores of pairs": (
        "a.jsonl", json_lines(records(sentence1=TEXTS, sentence2=TEXTS[::-1], score=NUMBERS)),
        "regress", "--input sentence1 --second sentence2 --target score",
    ),
    "tags in CoNLL's columns": ("a.conll", CONLL, "tag", "--input words --target tags"),
    "tags in lists": (
        "a.jsonl", json_lines(records(tokens=[t.split() for t in TEXTS], ner_tags=[[0, 0, 1, 2, 0, 0]] * 36)),
        "tag", "--input tokens --target ner_tags",
    ),
    "SQuAD": ("a.json", json.dumps(SQUAD), "span", "--input question --context context --target answers"),
    "answers in columns": (
        "a.jsonl", json_lines(records(question=TEXTS[::-1], context=TEXTS, answers=ANSWERS)),
        "span", "--input question --context context --target answers",
    ),
    "translation": (
        "a.jsonl", json_lines([{"translation": {"en": a, "zh": b}} for a, b in zip(TEXTS, CHINESE, strict=True)]),
        "translate", "--input translation.en --target translation.zh",
    ),
    "two scripts without names": ("a.txt", table(lines(TEXTS, CHINESE)), "translate", "--input 0 --target 1"),
    "summaries": (
        "a.csv", "a,b\n" + "".join(f'"{t * 9}, and","{t}"\n' for t in TEXTS), "summarise", "--input a --target b",
    ),
    "messages": ("a.jsonl", json_lines(records(messages=MESSAGES)), "chat", "--input messages"),
    "alpaca": (
        "a.json", json.dumps(records(instruction=TEXTS, input=["", "x"] * 18, output=TEXTS[::-1])),
        "text", r"--input instruction --context input --target output --prompt '{input}",
    ),
    "candidates in columns": (
        "a.jsonl", json_lines(records(sent2=TEXTS, ending0=TEXTS[::-1], ending1=CHINESE, label=[0, 1] * 18)),
        "choice", "--input sent2 --target label --candidates ending0 ending1",
    ),
    "candidates by letters": (
        "a.jsonl", json_lines(records(question=TEXTS, A=TEXTS, B=TEXTS, C=TEXTS, answer=["A", "B", "C"] * 12)),
        "choice", "--input question --target answer --candidates A B C",
    ),
    "candidates in a list": (
        "a.jsonl", json_lines(records(question=TEXTS, choices=[["a", "b"]] * 36, answer=["A", "B"] * 18)),
        "choice", "--input question --target answer --candidates choices",
    ),
    "several labels": (
        "a.jsonl", json_lines(records(text=TEXTS, labels=[["x", "y"], ["x"]] * 18)),
        "classify", "--input text --target labels --multi_label",
    ),
}  # fmt: skip


def seen(tmp_path, name, text, **more):
    for file, content in {name: text, **more}.items():
        (tmp_path / file.replace("__", ".")).write_text(content, "utf-8")
    return survey(source_of([str(tmp_path / name)]))


@pytest.mark.parametrize("name", FILES)
def test_files_show_the_task_that_fits_and_its_examples_are_read(tmp_path, name):
    file, text, kind, flags = FILES[name]
    found = seen(tmp_path, file, text)
    given = guess(found, Asked())
    assert given.task == kind
    assert " ".join(flags_of(given)).startswith(f"--task {kind} {flags}")
    facts = examine(found, task_of(found, given)).facts
    assert sum(each.count for each in facts.values()) == found.rows["train"] and all(f.count for f in facts.values())
    assert "column" in columns_as_text(found)


def test_columns_have_types_counts_and_gaps(tmp_path):
    rows = records(text=TEXTS, label=LABELS, stars=NUMBERS, note=["", *TEXTS[1:]], same=["x"] * 36)
    found = seen(tmp_path, "a.jsonl", json_lines(rows))
    types = {name: column.type for name, column in found.columns.items()}
    assert types == {"text": "text", "label": "label", "stars": "number", "note": "text", "same": "constant"}
    assert found.columns["label"].values == {"good": 18, "bad": 18}
    assert (found.columns["note"].missing, found.columns["text"].missing) == (1, 0)
    text = columns_as_text(found)
    assert "good 18, bad 18" in text and "0 to 4.375" in text


def test_names_say_the_split_of_files_in_a_folder_a_glob_and_a_list(tmp_path):
    folder = tmp_path / "sst"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_text(table(lines(TEXTS, LABELS), ("text", "label")))
    for files in ([str(folder)], [f"{folder}/*.tsv"], [f"{folder}/{name}.tsv" for name in ("test", "train", "dev")]):
        source = source_of(files)
        assert [path.rpartition("/")[2] for path in (source.path, source.validation, source.test)] == [
            "train.tsv", "dev.tsv", "test.tsv",
        ]  # fmt: skip
        assert stem(source) == "sst"
    alone = source_of([f"{folder}/test.tsv"])
    assert alone.path.endswith("test.tsv") and not alone.test
    assert source_of([f"{folder}/train.tsv"], test=f"{folder}/dev.tsv").test.endswith("dev.tsv")


def test_files_of_lines_that_belong_together_are_parallel(tmp_path):
    for name in ("train.en", "train.zh", "valid.en", "valid.zh"):
        (tmp_path / name).write_text("\n".join(TEXTS if name.endswith("en") else CHINESE) + "\n", "utf-8")
    names = [str(tmp_path / name) for name in ("train.en", "train.zh", "valid.en", "valid.zh")]
    found = survey(source_of(names))
    given = guess(found, Asked())
    assert (found.source.kind, given.task, given.input, given.target) == ("parallel", "translate", "en", "zh")
    assert found.rows == {"train": 36, "validation": 36}


def test_lengths_cut_at_most_one_in_a_hundred_and_are_rounded(tmp_path):
    lengths = np.array([10] * 990 + [100] * 10)
    assert fitting(lengths) == 16 and share_cut(lengths, 16) == 0.01
    assert fitting(np.array([10] * 980 + [100] * 20)) == 104
    assert fitting(np.array([300] * 9)) == 320 and fitting(np.array([9000])) == 2048
    assert fitting(np.array([300] * 9), most=128) == 128


def test_estimates_count_bytes_exactly_and_chinese_by_the_character():
    assert estimate(Vocabulary(kind="bytes", size=259, sentinels=0))(["ab", "你"]) == [2, 3]
    assert estimate()(["abcdefgh", "你好"]) == [2, 2]
    assert estimate(Vocabulary(size=32_000))(["abcdefgh" * 4]) < estimate(Vocabulary(size=512))(["abcdefgh" * 4])


def test_splits_that_are_missing_are_cut_as_preparation_cuts_them(tmp_path):
    found = seen(tmp_path, "a.tsv", FILES["classification"][1])
    examined = examine(found, task_of(found, guess(found, Asked())), shares={"test": 0.5})
    assert examined.shares == (0.1, 0.5)
    assert examined.facts["test"].count > examined.facts["validation"].count > 0
    assert examined.overlap == 0


def mistake(tmp_path, text, asked=None, reading=None, name="a.tsv", **more):
    (tmp_path / name).write_text(text, "utf-8")
    for split, content in more.items():
        (tmp_path / f"{split}.tsv").write_text(content, "utf-8")
    paths = {split: str(tmp_path / f"{split}.tsv") for split in more}
    with pytest.raises(UserError) as error:
        found = survey(source_of([str(tmp_path / name)], **paths, reading=reading))
        given = guess(found, asked or Asked())
        examine(found, task_of(found, given))
    return str(error.value).replace(f"{tmp_path}/", "")


GOOD = FILES["classification"][1]
HEADER = ("text", "label")


def test_what_is_wrong_with_files_is_one_sentence(tmp_path):
    assert mistake(tmp_path, GOOD, Asked(target="lable")) == (
        "--target lable: a.tsv has no such column; did you mean 'label'? There are text, label."
    )
    one = table(lines(TEXTS, ["good"] * 36), HEADER)
    assert mistake(tmp_path, one, Asked(task="classify", target="label")) == (
        "a.tsv has in the column 'label' the one value 'good' in all 36 rows, so there is nothing to learn: choose "
        "another --target."
    )
    each = table(lines(TEXTS, range(36)), HEADER)
    assert mistake(tmp_path, each, Asked(task="classify", target="label")).startswith(
        "a.tsv has in the column 'label' as many values as rows (36 rows), so these are no labels: choose another"
    )
    assert "a.tsv, line 38, has 3 columns where 2 are named." in mistake(tmp_path, GOOD + "a\tb\tc\n")
    bare = table(lines(TEXTS, LABELS))
    assert mistake(tmp_path, bare + "a\n").startswith("a.tsv, line 37, has 1 columns where the first row has 2")
    assert mistake(tmp_path, GOOD, test="text\tlabel\n") == "test.tsv has no rows: the test split is empty."
    assert mistake(tmp_path, GOOD, validation=table([["x", "goood"]], HEADER)).startswith(
        "validation.tsv, line 2, has the label 'goood', which data.sources.N.task.labels lacks; did you mean 'good'?"
    )
    assert mistake(tmp_path, GOOD, validation=table([["x"]], ("text",))) == (
        "validation.tsv has no column 'label' of --target; there are text."
    )
    assert " of 36 questions of test.tsv stand in a.tsv too, so the test would score what was learned" in mistake(
        tmp_path, GOOD, test=GOOD
    )
    few = table(lines(TEXTS[:4], LABELS[:4]), HEADER)
    assert mistake(tmp_path, few).startswith("a.tsv has 4 examples, of which the ")
    columns = table(lines(TEXTS), ("text",))
    assert mistake(tmp_path, columns).startswith("a.tsv has the columns text (text): choose a task with")


def test_what_is_wrong_with_an_example_names_its_line(tmp_path):
    words = records(words=[["a", "b"]] * 36, tags=[["X", "Y"]] * 35 + [["X"]])
    assert "a.jsonl, line 36, has 2 words in 'words' but 1 labels" in mistake(
        tmp_path, json_lines(words), Asked(task="tag"), name="a.jsonl"
    )
    spans = records(question=TEXTS[::-1], context=TEXTS, answer=["house"] * 35 + ["castle"])
    assert "a.jsonl, line 36, has the answer 'castle', which is not in its context" in mistake(
        tmp_path, json_lines(spans), Asked(task="span"), name="a.jsonl"
    )


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(tmp_path):
    (tmp_path / "a.tsv").write_text(GOOD + "a\tb\tc\n")
    found = survey(source_of([str(tmp_path / "a.tsv")], reading=Reading(on_error="skip")))
    assert found.rows["train"] == 36


def test_a_test_file_without_labels_is_not_scored(tmp_path):
    (tmp_path / "a.tsv").write_text(GOOD)
    (tmp_path / "test.tsv").write_text("index\ttext\n0\tThe house\n")
    found = survey(source_of([str(tmp_path / "a.tsv")], test=str(tmp_path / "test.tsv")))
    examined = examine(found, task_of(found, guess(found, Asked())))
    assert not examined.source.test and examined.shares.test == 0.1
    assert examined.notes == [f"{tmp_path}/test.tsv has no column 'label', so it can be predicted and not scored."]


def test_the_line_that_fits_quotes_what_a_shell_would_change():
    given = Asked(task="pair", input="#1 String", second="b", target="c")
    assert task_line("RUN", ["my file.tsv"], given) == (
        "t5like finetune RUN 'my file.tsv' --task pair --input '#1 String' --second b --target c"
    )
