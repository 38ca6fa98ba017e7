"""The presets that fine-tune read the files that their docstrings describe, and are judged by metrics that fit."""

import json
import pathlib

import pytest
from command_line import CONFIGS

from t5like.config import presets
from t5like.data.tasks.reading import examples
from t5like.tasks.evaluate import check_tasks
from t5like.tasks.metrics import METRICS

TURNS = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
SPAN = {"question": "Who came?", "context": "Ann came.", "answers": "Ann"}
FILES = {
    "classify": ("{}.tsv", "label\ttext\nHUM\tWho came?\nLOC\tWhere?\n"),
    "pair": ("{}.tsv", "label\tfirst\tsecond\nneutral\tA man.\tA tall man.\nentailment\tA man.\tA person.\n"),
    "tag": ("{}.conll", "Ann B-PERSON\ncame O\n\nThe B-PERSON\ncook I-PERSON\n"),
    "squad": ("{}.jsonl", f"{json.dumps(SPAN)}\n" * 2),
    "translate": ("{}.jsonl", '{"en": "Hi.", "zh": "你好。"}\n{"en": "Wait!", "zh": ["等等!", "等一下"]}\n'),
    "summarise": ("{}.jsonl", '{"text": "Long.", "summary": "S."}\n{"text": "Long.", "summary": ["S.", "T."]}\n'),
    "code": ("{}.text {}.code", "return x\nadd 1\n"),
    "chat": ("{}.jsonl", f"{json.dumps({'messages': TURNS})}\n" * 2),
}
"""The files of a split, and two rows of each."""


def test_each_preset_that_fine_tunes_is_tried():
    assert {file.stem.removeprefix("finetune_") for file in CONFIGS.glob("finetune_*.py")} == {*FILES}


@pytest.mark.parametrize("name", FILES)
def test_a_preset_reads_the_files_that_it_describes(name, tmp_path, monkeypatch):
    config = presets.load(str(CONFIGS / f"finetune_{name}.py"))
    monkeypatch.chdir(tmp_path)
    source, (names, rows) = config.data.sources[0], FILES[name]
    splits = ["train", *(split for split in ("validation", "test") if getattr(source, split))]
    pathlib.Path("data").mkdir()
    for split in splits:
        for file in names.format(split, split).split():
            pathlib.Path("data", file).write_text(rows, "utf-8")
    check_tasks(config.data)
    for split in splits[1:]:
        assert len(list(examples(config.data, 0, split))) == 2
    assert source.task is not None
    assert config.train.best in ("loss", f"task/{METRICS[source.task.judged_by].main}")
