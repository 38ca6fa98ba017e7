"""Thirty-two examples of a task are learned to a perfect score by one command, by each family."""

import json
import random

import pytest
from golden_runs import on_one_device

WORDS = [
    "red",
    "blue",
    "green",
    "fast",
    "slow",
    "tall",
    "short",
    "old",
    "new",
    "warm",
    "cold",
    "loud",
    "calm",
    "dark",
    "light",
    "round",
    "flat",
]
COUNT = 32


def some(draw: random.Random, count: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(count)]


def classified(draw, n):
    return {"text": " ".join([*some(draw, 2), ["apple", "river"][n % 2], *some(draw, 1)]), "label": f"kind {n % 2}"}


def paired(draw, n):
    first = some(draw, 2)
    return {"a": " ".join(first), "b": " ".join(first if n % 2 else ["not", *some(draw, 1)]), "label": "ab"[n % 2]}


def rated(draw, n):
    return {"text": " ".join([*some(draw, 1), *["very"] * (n % 3)]), "score": n % 3 / 2}


def tagged(draw, n):
    words = [*some(draw, 2), ["apple", "stone"][n % 2]]
    return {"words": words, "tags": ["B-FRUIT" if word == "apple" else "O" for word in words]}


def answered(draw, n):
    words, at = some(draw, 4), n % 3
    words[at : at + 1] = ["key", "apple"]
    return {"question": "What?", "context": " ".join(words), "answers": ["apple"]}


def chosen(draw, n):
    return {"question": "Fruit?", "options": [["stone", "apple"][k == n % 2] for k in range(2)], "answer": n % 2}


def written(draw, n):
    word = WORDS[n % 4]
    return {"source": f"{word} {draw.choice(WORDS)}", "target": f"{word}er"}


def talked(draw, n):
    word = WORDS[n % 4]
    return {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": f"{word}!"}]}


KINDS = {
    "classify": (classified, "--input text --target label"),
    "pair": (paired, "--input a --second b --target label"),
    "regress": (rated, "--input text --target score"),
    "tag": (tagged, "--input words --target tags"),
    "span": (answered, "--input question --context context --target answers"),
    "choice": (chosen, "--input question --candidates options --target answer"),
    "text": (written, "--input source --target target"),
    "chat": (talked, "--input messages"),
}
SMALL = "--model.embed 32 --model.heads 2 --model.kv 16 --model.mlp 64"
COURSE = "--train.batch 32 --train.steps 120 --eval.every 120 --optimizer.learning_rate 0.01 --model.dropout 0"
QUIET = "--train.tensorboard False"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *(("bert", kind) for kind in ("pair", "tag", "span", "choice")),
        *(("t5", kind) for kind in ("classify", "regress", "text")),
        ("gpt", "chat"),
    ],
)
def test_thirty_two_examples_are_learned_to_a_perfect_score(family, kind, say, tmp_path, monkeypatch):
    make, flags = KINDS[kind]
    draw = random.Random(0)
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(make(draw, n)) + "\n" for n in range(COUNT)))
    same = "--validation all.jsonl --test all.jsonl --allow_overlap --train.directory runs/all"
    words = f"finetune tiny_{family} all.jsonl --task {kind} {flags} {same} {SMALL} {COURSE} {QUIET}".split()
    monkeypatch.chdir(tmp_path)
    with on_one_device():
        said = say(*words)
    (kept,) = json.loads(next((tmp_path / "runs/all/results/test").rglob("results.json")).read_text())
    assert kept["examples"] == COUNT
    assert kept["figures"][kept["main"]] >= (99 if kind == "regress" else 100), said
