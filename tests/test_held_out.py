"""Where a hash leaves a split without documents, the end of the text is held out, and the vocabulary never sees it."""

import json

import pytest
from settings import sentence
from test_prepare import documents

from t5like import config
from t5like.data import sources
from t5like.data.prepare import prepare
from t5like.data.prepare.held_out import Place, Tail, find_tail, split_of, splits_of
from t5like.data.prepare.sampling import sample
from t5like.data.splits import Shares
from t5like.data.store import SPLITS

LINES = [f"Line {n} of a long text, {n * 7919 % 1000}." for n in range(4000)]


def data_of(folder, source: config.Source, **changes) -> config.Data:
    fields = {
        "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=0),
        "objective": config.Objective(kind="causal"),
        "length": 64,
        **changes,
    }
    return config.Data(store=f"{folder}/store", sources=(source,), **fields)


def numbered(data: config.Data) -> list[tuple[int, sources.Unit]]:
    return list(enumerate(sources.units(data.sources)))


@pytest.mark.parametrize("held_out", [0.01, 0.3])
def test_one_long_file_is_trained_on_but_for_its_end(tmp_path, held_out):
    (tmp_path / "input.txt").write_text("\n".join(LINES))
    data = data_of(tmp_path, config.Source(kind="text", path=f"{tmp_path}/input.txt"), held_out=held_out)
    heard: list[str] = []
    prepare(data, heard.append)
    (train,), (validation,) = documents(data, "train"), documents(data, "validation")
    assert train + validation == "\n".join(LINES) and train.endswith("\n")
    total = len(train + validation)
    assert abs(len(validation) - max(held_out * total, min(2**14, total / 10))) < 100
    assert [line for line in heard if "alone" in line] == [
        f"data.sources has one document alone, so the validation split is the end of it: "
        f"{find_tail(data, numbered(data)).held:,} of {total:,} characters."
    ]


def test_the_end_is_held_out_even_where_the_hash_would_hold_out_the_only_document(tmp_path):
    for number in range(100):
        (tmp_path / "input.txt").write_text(f"{number}\n" + "\n".join(LINES))
        data = data_of(tmp_path, config.Source(kind="text", path=f"{tmp_path}/input.txt"), held_out=0.3)
        ((_, unit),) = numbered(data)
        (document,) = sources.read(data.sources[0], unit)
        if split_of(unit, document, Shares(0.3)) == "validation":
            break
    tail = find_tail(data, numbered(data))
    assert tail.kept == pytest.approx(0.7 * tail.characters, rel=0.01)


def test_of_a_few_documents_the_last_ones_are_held_out_and_a_long_one_is_cut(tmp_path):
    rows = [json.dumps({"text": f"{n} " + "word " * 200}) for n in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    data = data_of(tmp_path, config.Source(kind="jsonl", path=f"{tmp_path}/a.jsonl"), held_out=1e-4)
    tail = find_tail(data, numbered(data))
    assert (tail.kept, tail.documents) == (0, 20)
    prepare(data, [].append)
    assert [len(documents(data, split)) for split in ("train", "validation")] == [18, 2]


def test_nothing_is_cut_where_the_hash_gives_both_splits_or_a_source_has_its_own(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    lines = config.Source(kind="text", path=f"{tmp_path}/a.txt", document="line")
    own = config.Source(kind="text", path=f"{tmp_path}/a.txt", validation=f"{tmp_path}/a.txt")
    for source in (lines, own):
        data = data_of(tmp_path, source)
        assert find_tail(data, numbered(data)) is None
    assert find_tail(data_of(tmp_path, config.Source()), numbered(data_of(tmp_path, config.Source()))) is None


def test_pairs_are_never_cut_and_a_single_one_is_a_sentence(tmp_path):
    pair = {"en": "one " * 9000, "zh": "二" * 9000}
    objective = config.Objective(kind="prompt_target")
    for count, kept in ((1, None), (3, 0)):
        (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(pair)] * count))
        source = config.Source(kind="jsonl", path=f"{tmp_path}/a.jsonl", fields=("en", "zh"))
        data = data_of(tmp_path, source, objective=objective, held_out=1e-9)
        tail = find_tail(data, numbered(data))
        assert (tail and tail.kept) == kept
        if tail is None:
            assert "data.sources has no validation documents" in sentence(prepare, data, [].append)


def test_places_before_the_tail_are_training_and_those_behind_it_validation():
    unit = sources.Unit(0, None, (), 0)
    tail = Tail(Place(3, 1, 10), 4, 0, 0, 0)

    def split(number: int, file: int, record: int) -> list[tuple[str, str]]:
        document = sources.Document(("ab cd ef",), "", file, record)
        return [(name, part.parts[0]) for name, part in splits_of((number, unit), document, Shares(0.5), tail)]

    assert split(2, 9, 99) == split(3, 0, 99) == split(3, 1, 9) == [("train", "ab cd ef")]
    assert split(3, 1, 10) == [("train", "ab "), ("validation", "cd ef")]
    assert split(3, 1, 11) == split(3, 2, 0) == split(4, 0, 0) == [("validation", "ab cd ef")]


def test_the_vocabulary_is_learned_from_what_precedes_the_end(tmp_path):
    (tmp_path / "a.txt").write_text("xxx\n" * 22_000 + "\n" + "y" * 22_000)
    data = data_of(tmp_path, config.Source(kind="text", path=f"{tmp_path}/a.txt"), held_out=0.2)
    units = numbered(data)
    tail = find_tail(data, units)
    texts = {split: "".join(sample(data.sources, (), Shares(0.2), split, 10**6, units, tail)) for split in SPLITS}
    assert set(texts["train"]) == {"x", "\n"} and len(texts["validation"]) == pytest.approx(0.2 * 110_001, rel=0.1)
    assert texts["train"] + texts["validation"] == (tmp_path / "a.txt").read_text()
