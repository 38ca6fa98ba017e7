"""Tasks: rows become examples, examples become rows of tokens and labels, and what is wrong is one sentence."""

import itertools
import json
import random

import numpy as np
import pytest
from etils import epath
from examples import EXTRA, ragged, vocabulary

from t5like import config
from t5like.config import Task
from t5like.config.objective import WITH_LABELS
from t5like.data.draws import Draws
from t5like.data.example import Gold
from t5like.data.objectives.labelled import regression
from t5like.data.prepare import prepare
from t5like.data.sources.records import Row
from t5like.data.splits import Shares, split_by_hash
from t5like.data.store import Store
from t5like.data.tasks.encode import encode_example, framing_of, labels_of
from t5like.data.tasks.examples import examples_of, prompt_of, target_text
from t5like.data.tasks.few import chosen
from t5like.data.tasks.reading import examples
from t5like.errors import UserError

TAGS = ("O", "B-PER", "I-PER")
CONTEXT = "Marie Curie was born in Warsaw. 她后来住在巴黎。 She died in 1934 in Passy, France."
TASKS = {
    "classify": (Task(labels=("bad", "good")), {"text": "fine", "label": "good"}, "fine", "good"),
    "words": (
        Task(labels=("0", "1"), words=("no", "yes"), prompt="Is it good? {input} ({title})"),
        {"text": "fine {label}", "label": 1, "title": "t"},
        "Is it good? fine {label} (t)",
        "yes",
    ),
    "several": (
        Task(labels=("a", "b", "c"), multi_label=True),
        {"text": "x", "label": ["c", "a"]},
        "x",
        "a, c",
    ),
    "none of several": (Task(labels=("a", "b"), multi_label=True), {"text": "x", "label": []}, "x", "none"),
    "pair": (
        Task(kind="pair", input="q", second="r", labels=("0", "1")),
        {"q": "one", "r": "two", "label": "0"},
        "first: one second: two",
        "0",
    ),
    "regress": (Task(kind="regress", target="score"), {"text": "x", "score": "3.80"}, "x", "3.8"),
    "tag": (
        Task(kind="tag", input="words", target="tags", labels=TAGS),
        {"words": ["Ada", "sat"], "tags": ["B-PER", "O"]},
        "Ada sat",
        "B-PER O",
    ),
    "span": (
        Task(kind="span", input="question", context="context", target="answers"),
        {"question": "Where?", "context": CONTEXT, "answers": {"text": ["Warsaw"], "answer_start": [24]}},
        f"question: Where? context: {CONTEXT}",
        "Warsaw",
    ),
    "no answer": (
        Task(kind="span", input="question", context="context", target="answers", unanswerable=True),
        {"question": "Why?", "context": CONTEXT, "answers": []},
        f"question: Why? context: {CONTEXT}",
        "none",
    ),
    "references": (
        Task(kind="translate", input="t.en", target="t.zh"),
        {"t": {"en": "cat", "zh": ["猫", "貓"]}},
        "cat",
        "猫",
    ),
    "choice": (
        Task(kind="choice", input="q", candidates=("a", "b"), target="right"),
        {"q": "2 + 2?", "a": "3", "b": "4", "right": "B"},
        "2 + 2?",
        "4",
    ),
    "chat": (
        Task(kind="chat", input="messages"),
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        "User: Hi\nAssistant: ",
        "Hello",
    ),
}


def row(**values):
    return Row(0, values, lambda: "a.jsonl, line 3,")


@pytest.mark.parametrize("name", TASKS)
def test_a_row_becomes_a_prompt_and_a_target(name):
    task, values, prompt, target = TASKS[name]
    (example,) = examples_of(task, row(**values))
    assert (prompt_of(task, example), target_text(task, example)) == (prompt, target)


@pytest.mark.parametrize("name", TASKS)
def test_a_row_without_a_target_is_an_example_to_predict(name):
    task, values, prompt, _ = TASKS[name]
    values = {name: value for name, value in values.items() if name != task.target.split(".")[0]}
    values |= {"t": {"en": "cat"}} if name == "references" else {}
    values |= {"messages": values["messages"][:1]} if name == "chat" else {}
    (example,) = examples_of(task, row(**values), labelled=False)
    assert example.target is None
    if "{label}" not in prompt:
        assert prompt_of(task, example) == prompt


def test_each_answer_of_a_dialogue_is_an_example_behind_all_before_it():
    task = Task(kind="chat", input="conversation", system="[{content}] ")
    turns = [("system", "Be kind"), ("human", "1"), ("gpt", "2"), ("human", "3"), ("gpt", "4")]
    found = list(examples_of(task, row(conversation=[{"from": role, "value": text} for role, text in turns])))
    prompts = ["[Be kind] User: 1\nAssistant: ", "[Be kind] User: 1\nAssistant: 2\nUser: 3\nAssistant: "]
    assert [(prompt_of(task, e), e.target) for e in found] == list(zip(prompts, ["2", "4"], strict=True))
    assert len({example.group for example in found}) == 1


ANSWER = dict(question="q", context="here", answers="there")
MISTAKES = {
    "is in its text": (Task(labels=("a", "b")), dict(text="x", label="c"), "has the label 'c', which data.sources.N.t"),
    "no column": (Task(labels=("a", "b")), dict(sentence="x", label="a"), "no field 'text'; there are label, sentence"),
    "empty": (Task(labels=("a", "b")), dict(text=" ", label="a"), "has no text in the field 'text'"),
    "no target": (Task(labels=("a", "b")), dict(text="x", label=""), "has nothing in the field 'label'"),
    "no number": (Task(kind="regress"), dict(text="x", label="nan"), "'nan', which is no number"),
    "tags": (Task(kind="tag", labels=TAGS), dict(text="a b c", label="O O"), "has 3 words in 'text' but 2 labels in"),
    "tag": (Task(kind="tag", labels=TAGS), dict(text="a", label="B-LOC"), "has the label 'B-LOC'"),
    "answer": (
        Task(kind="span", input="question", context="context", target="answers"),
        ANSWER,
        "has the answer 'there', which is not in its context",
    ),
    "no answer": (
        Task(kind="span", input="question", context="context", target="answers"),
        ANSWER | {"answers": []},
        "has no answer in the field 'answers': set data.sources.N.task.unanswerable",
    ),
    "choice": (
        Task(kind="choice", input="q", candidates=("c",)),
        dict(q="?", c=["x", "y"], label=2),
        "which is neither one of its 2 candidates",
    ),
    "candidates": (Task(kind="choice", candidates=("c",)), dict(text="?", c="x", label=0), "no list of two candidates"),
    "message": (Task(kind="chat", input="m"), dict(m=[{"role": "tool", "content": "x"}]), "has a message that is not"),
    "messages": (Task(kind="chat", input="m"), dict(m="hello"), "no list of messages"),
    "answers": (
        Task(kind="chat", input="m"),
        dict(m=[{"role": "user", "content": "x"}]),
        "no message of the assistant",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_row_that_makes_no_example_is_one_sentence_that_names_it(name):
    task, values, said = MISTAKES[name]
    with pytest.raises(UserError, match=r"^[^\n]+$") as error:
        list(examples_of(task, row(**values)))
    assert said in str(error.value)
    assert "a.jsonl, line 3," in str(error.value)


def data_of(kind: str, task: Task, length: int = 32, **fields) -> config.Data:
    own = {"labels": len(task.labels) or 1} if kind in WITH_LABELS else {}
    own |= {"candidates": 4} if kind == "multiple_choice" else {}
    return config.Data(
        **{
            "store": "unused",
            "sources": (config.Source(kind="jsonl", path="unused", task=task),),
            "length": length,
            "vocabulary": config.Vocabulary(size=400, sentinels=200, extra=EXTRA),
            "objective": config.Objective(kind=kind, **own),
            **fields,
        }
    )


def encoded(name: str, kind: str, length: int = 32, **values):
    task, row_values, *_ = TASKS[name]
    (example,) = examples_of(task, row(**row_values | values))
    return task, example, encode_example(example, task, data_of(kind, task, length), vocabulary())


def test_texts_are_framed_and_the_longer_of_two_loses_its_end():
    cls, sep = vocabulary().require("cls"), vocabulary().require("sep")
    _, _, (one,) = encoded("classify", "classification")
    assert (one.tokens[0], one.tokens[-1], one.widths, one.labels) == (cls, sep, [len(one.tokens), 0], [1])
    for first, second in (("short", "long " * 90), ("long " * 90, "short"), ("long " * 90, "longer " * 90)):
        _, _, (pair,) = encoded("pair", "classification", q=first, r=second)
        assert pair.cut
        assert len(pair.tokens) == sum(pair.widths) == 32
        assert [pair.tokens[n] for n in (0, pair.widths[0] - 1, -1)] == [cls, sep, sep]
        short = vocabulary().encode_document("short")[:-1]
        kept = pair.tokens[1 : pair.widths[0] - 1], pair.tokens[pair.widths[0] : -1]
        assert short in kept or min(map(len, kept)) >= 14


def test_a_number_survives_the_store_bit_for_bit():
    task = TASKS["regress"][0]
    for number in (3.8, -0.1, 0.0, 1e30, 4.0):
        (example,) = examples_of(task, row(text="x", score=number))
        halves = np.array([labels_of(example, task)], np.int32)
        parts = tuple(map(ragged, ([7], [1, 0], halves[0].tolist())))
        draws = Draws(*[np.zeros(1, np.uint64)] * 2)
        found = regression(parts, draws, data_of("regression", task), vocabulary())["labels"].values
        assert found.tolist() == [np.float32(number)]
        assert halves.min() >= 0
        assert halves.max() < 2**16


WORDS = ["Ada", "Lovelace", "'s", "猫", "在", "那里", ",", "née", "ﬁne", "😀", "x" * 40, "und", "so", "weiter", "."]


@pytest.mark.parametrize("length", [8, 16, 64])
def test_every_word_has_the_label_of_its_first_token_in_exactly_one_row(length):
    labels = tuple(f"L{n}" for n in range(len(WORDS)))
    task = Task(kind="tag", input="words", target="tags", labels=labels)
    (example,) = examples_of(task, row(words=WORDS, tags=list(labels)))
    rows = encode_example(example, task, data_of("token_classification", task, length), vocabulary())
    found = [label - 1 for each in rows for label in each.labels if label]
    assert found == list(range(len(WORDS)))
    assert sum(len(each.anchors) for each in rows) == len(WORDS)
    for each in rows:
        assert len(each.tokens) == len(each.labels) == sum(each.widths) <= length
        assert [each.labels[anchor] > 0 for anchor in each.anchors] == [True] * len(each.anchors)


@pytest.mark.parametrize("length", [16, 24, 64, 256])
def test_windows_find_every_answer_and_map_it_back_to_its_characters(length):
    task = TASKS["span"][0]
    words = random.Random(0)
    context = " ".join(words.choice(["naïve", "猫猫", "ﬁt", "12%", "(so)", "e\u0301", "word"]) for _ in range(60))
    for start in range(0, len(context) - 6, 7):
        text = context[start : start + 6].strip()
        values = dict(question="Which one?", context=context, answers=[{"text": text, "answer_start": start}])
        values["answers"][0]["answer_start"] = context.find(text, start)
        (example,) = examples_of(task, row(**values))
        windows = encode_example(example, task, data_of("span", task, length), vocabulary())
        labelled = [each for each in windows if each.labels != [0, 0]]
        assert labelled or length == 16  # where windows overlap by less than an answer
        for each in labelled:
            first, last = each.labels
            begin, end = each.spans[first][0], each.spans[last][1]
            gold = example.target[0]
            assert isinstance(gold, Gold)
            assert begin <= gold.start
            assert end >= gold.start + len(text)
            assert end - begin <= len(text) + 8
        covered = {n for each in windows for begin, end in each.spans if begin >= 0 for n in range(begin, end)}
        assert covered >= {n for n, character in enumerate(context) if character != " "}


def test_candidates_share_a_row():
    _, example, (one,) = encoded("choice", "multiple_choice")
    assert one.labels == [1]
    assert len(one.widths) == 4
    assert sum(one.widths) == len(one.tokens)
    sep = framing_of(vocabulary()).behind[0]
    assert one.tokens.count(sep) == 4
    assert example.candidates == ("3", "4")


def written(folder, count=200, **fields):
    """A data of a file with so many examples."""
    lines = [{"text": f"text number {n}", "label": "good" if n % 3 else "bad"} for n in range(count)]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = fields.pop("task", Task(labels=("bad", "good")))
    source = config.Source(kind="jsonl", path=str(folder / "a.jsonl"), task=task)
    return data_of(
        "sequence_to_sequence",
        task,
        **{
            "objective": config.Objective(kind="sequence_to_sequence"),
            "target_length": 8,
            "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=0),
            "store": str(folder / "store"),
            "sources": (source,),
            "held_out": 0.2,
            "held_out_test": 0.2,
            **fields,
        },
    )


def stored(data) -> dict[str, list[str]]:
    """The prompts in a store."""
    vocabulary, found = prepare(data, lambda text: None), {}
    store = Store(epath.Path(data.store))
    for split in ("train", "validation"):
        tokens, table = store.tokens(0, split), store.documents(0, split, 0)
        starts = np.cumsum(np.append(0, table[:, :2].sum(axis=1))).astype(np.int64)[:-1]
        prompts = [
            tokens.read(np.array([s]), np.array([n])) for s, n in zip(starts, table[:, 0].astype(int), strict=True)
        ]
        found[split] = [vocabulary.decode(ids) for ids in prompts]
    return found


def test_a_store_learns_what_is_neither_validated_nor_tested(tmp_path):
    data = written(tmp_path)
    kept = stored(data)
    read = {split: [e.input for e in examples(data, 0, split)] for split in ("train", "validation", "test")}
    assert {split: sorted(texts) for split, texts in kept.items()} == {
        split: sorted(read[split]) for split in ("train", "validation")
    }
    assert sorted(itertools.chain(*read.values())) == sorted(f"text number {n}" for n in range(200))
    assert all(len(texts) > 20 for texts in read.values())


def test_a_test_split_of_ones_own_is_not_cut(tmp_path):
    data = written(tmp_path)
    (tmp_path / "test.jsonl").write_text('{"text": "one", "label": "bad"}\n')
    source = data.sources[0].__class__(
        kind="jsonl", path=data.sources[0].path, test=str(tmp_path / "test.jsonl"), task=data.sources[0].task
    )
    data = config.Data(**{**vars(data), "sources": (source,)})
    assert [e.input for e in examples(data, 0, "test")] == ["one"]
    assert sum(len(list(examples(data, 0, split))) for split in ("train", "validation")) == 200


def test_a_few_examples_of_each_label_are_those_of_their_seed(tmp_path):
    few = [Task(labels=("bad", "good"), few=n, few_seed=seed) for n, seed in ((4, 0), (8, 0), (8, 1))]
    names = [chosen(written(tmp_path, task=task), 0) for task in few]
    assert [len(each) for each in names] == [8, 16, 16]
    assert names[0] < names[1]
    assert names[1] != names[2]
    kept = stored(written(tmp_path, task=few[0]))["train"]
    assert len(kept) == 8
    assert sum(int(text.split()[-1]) % 3 == 0 for text in kept) == 4


def test_hashes_cut_shares():
    splits = [split_by_hash(str(n), Shares(0.1, 0.2)) for n in range(20_000)]
    assert abs(splits.count("validation") / 20_000 - 0.1) < 0.01
    assert abs(splits.count("test") / 20_000 - 0.2) < 0.01
