"""prepare, inspect and data as their users meet them."""

import dataclasses
import json
import os
import pathlib
import pydoc_data.topics
import subprocess
import sys

import numpy as np
import pytest
from command_line import command, complaint, environment, succeed
from settings import sentence

from t5like.cli import run
from t5like.config import Vocabulary, presets
from t5like.data.prepare import prepare
from t5like.data.rows.stream import Rows, training_stream
from t5like.data.vocabulary import Vocabulary as Pieces
from t5like.data.vocabulary import train_pieces
from t5like.runs.changes import acquire
from t5like.runs.directory import RunDirectory

BATCH, ROWS = 4, 3
POEM = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"
OBJECTIVES = {
    "span_corruption": "encoder_layers=1, decoder_layers=1",
    "sequence_to_sequence": "encoder_layers=1, decoder_layers=1",
    "fill_in_the_middle": "decoder_layers=1",
    "next_sentence": "encoder_layers=1, token_types=2, head='next_sentence'",
}
PRESET = """
from t5like.config import CLS, FIM, MASK, SEP, Config, Data, Eval, Length, Model, Objective, Source, Train, Vocabulary

config = Config(
    model=Model({stacks}, embed=16, heads=2, kv=8, mlp=32, vocab=384),
    data=Data(
        sources=({sources}),
        filters=(Length(least=2),),
        store="{folder}/store_{parts}",
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=11, extra=(CLS, SEP, MASK, *FIM)),
        objective=Objective(kind="{objective}"),
        length=48,
        target_length={target_length},
        held_out=0.2,
    ),
    train=Train(directory="{folder}/run_{objective}", steps=9, batch=4),
    eval=Eval(rows=8, batch=4),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """English prose, Chinese poems, pairs, and a preset for each objective; nothing is prepared."""
    folder = tmp_path_factory.mktemp("data_commands")
    lines = [line for line in pydoc_data.topics.topics["class"].splitlines() if line.strip()]
    (folder / "en.txt").write_text("\n".join(lines))
    poems = [f"{POEM[number:]}{POEM[:number]}。 👩‍🚀 {number}" for number in range(24)]
    (folder / "zh.jsonl").write_text("\n".join(json.dumps({"text": poem}) for poem in poems))
    pairs = [json.dumps({"en": f"line {n} of the poem", "zh": poem[:9]}) for n, poem in enumerate(poems)]
    (folder / "pairs.jsonl").write_text("\n".join(pairs))
    text = (
        f'Source(kind="text", path="{folder}/en.txt", document="line", name="en"), '
        f'Source(kind="jsonl", path="{folder}/zh.jsonl", name="詩")'
    )
    both = f'Source(kind="jsonl", path="{folder}/pairs.jsonl", fields=("en", "zh")),'
    for objective, stacks in OBJECTIVES.items():
        pair = objective == "sequence_to_sequence"
        filled = {"sources": both if pair else text, "target_length": 120 if pair else None, "parts": 1 + pair}
        preset = PRESET.format(objective=objective, stacks=stacks, folder=folder, **filled)
        (folder / f"{objective}.py").write_text(preset)
    return folder


def json_rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_inspect_shows_the_very_batch_that_training_is_given(objective, folder, say):
    preset = folder / f"{objective}.py"
    config = presets.load(str(preset))
    rows = Rows(config.data, prepare(config.data), "train")
    given = list(training_stream(rows, 0, ROWS, BATCH))
    far = next(training_stream(rows, 10**9 - 1, 10**9, BATCH))
    for step, batch in [*enumerate(given, 1), (10**9, far)]:
        shown = json_rows(say("inspect", preset, "--step", step, "--json"))
        assert [row["row"] for row in shown] == list(range(BATCH))
        for name, values in batch.items():
            np.testing.assert_array_equal([row["features"][name] for row in shown], values, err_msg=name)
    assert any(not np.array_equal(given[0][name], given[1][name]) for name in given[0])


def test_one_row_is_the_same_as_in_its_batch(folder, say):
    preset = folder / "span_corruption.py"
    whole = json_rows(say("inspect", preset, "--step", 2, "--json"))
    assert json_rows(say("inspect", preset, "--step", 2, "--row", 3, "--json")) == [whole[3]]
    text = say("inspect", preset, "--step", 2)
    assert text.count("\nrow ") == BATCH - 1
    alone = say("inspect", preset, "--step", 2, "--row", 3)
    assert alone.startswith("row 3: source ") and text.endswith(alone) and "\x1b" not in text
    assert "\x1b[" in say("inspect", preset, "--row", 3, "--color", "always")


def test_the_documents_of_a_row_hold_its_text(folder, say):
    for row in json_rows(say("inspect", folder / "sequence_to_sequence.py", "--json")):
        assert len(row["documents"]) == len(row["text"]["encoder_input_tokens"]) > 1
        pieces = zip(row["documents"], row["text"]["encoder_input_tokens"], strict=True)
        for document, text in pieces:
            name, _, offset = document.rpartition("#")
            line = pathlib.Path(name).read_bytes()[int(offset) :].split(b"\n")[0]
            assert json.loads(line)["en"].startswith(text)


def test_a_store_is_prepared_by_inspect_and_what_is_said_of_it_stays_out_of_the_json(folder, tmp_path, capsys):
    run(["inspect", str(folder / "span_corruption.py"), "--json", "--data.store", str(tmp_path / "new")])
    said = capsys.readouterr()
    assert len(json_rows(said.out)) == BATCH
    assert f"Prepared {tmp_path / 'new'} in " in said.err


@pytest.fixture
def trained(folder, tmp_path) -> pathlib.Path:
    """What a run with another seed and length than its preset's has written when it begins."""
    config = presets.load(str(folder / "span_corruption.py"))
    data = dataclasses.replace(config.data, seed=5, length=64)
    place = tmp_path / "run"
    config = dataclasses.replace(config, data=data, train=dataclasses.replace(config.train, directory=str(place)))
    acquire(RunDirectory(place), config)
    prepare(data).save(place / "vocabulary")
    return place


def test_a_run_is_inspected_with_its_own_config_and_where_it_was_moved_to(folder, trained, tmp_path, say):
    shown = say("inspect", trained, "--json")
    flags = ("--data.seed", 5, "--data.length", 64)
    assert shown == say("inspect", folder / "span_corruption.py", *flags, "--json")
    assert shown != say("inspect", folder / "span_corruption.py", "--json")
    trained.rename(tmp_path / "moved")
    assert say("inspect", tmp_path / "moved", "--json") == shown


def test_a_run_whose_store_has_another_vocabulary_now_is_not_inspected(trained):
    settings = Vocabulary(kind="byte_bpe", size=259, sentinels=11)
    Pieces(train_pieces(settings, [POEM] * 9)).save(trained / "vocabulary")
    assert sentence(run, ["inspect", str(trained)]).startswith(f"{trained} was trained with another vocabulary than ")


def test_prepare_says_what_is_there_already(folder, say):
    preset = folder / "fill_in_the_middle.py"
    say("prepare", preset)
    said = say("prepare", preset, "--processes", 2)
    assert said.startswith(f"{folder}/store_1 is prepared already (") and said.count("\n") == 1


def test_other_processes_make_the_same_store(folder, tmp_path, say):
    for number in (1, 2):
        say("prepare", folder / "span_corruption.py", "--processes", number, "--data.store", tmp_path / str(number))
    files = [sorted(p for p in (tmp_path / str(n)).rglob("*") if p.is_file()) for n in (1, 2)]
    assert len(files[0]) == len(files[1]) > 5
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first


def test_stats_show_the_rows_of_pack_tables_and_how_full_they_are(folder, say):
    preset = folder / "sequence_to_sequence.py"
    rows = json_rows(say("inspect", preset, "--json"))
    text = say("data", "stats", preset)
    assert text == say("data", "stats", folder / "store_2") and text.endswith("U+FFFD\n")
    (line,) = (
        line.split() for line in text.splitlines() if line.startswith("sequence_to_sequence") and "train" in line
    )
    assert line[1:8] == ["encoder", "48", "+", "decoder", "120", "jsonl", "train"]
    assert int(line[9]) / int(line[8]) > 1 and rows[0]["documents"]
    assert 0.3 < float(line[11].rstrip("%")) / 100 <= 1


def test_a_store_is_no_source_and_the_sentence_says_what_is(folder, say):
    say("prepare", folder / "span_corruption.py")
    expected = f"{folder}/store_1 is not a run directory but a store, so give the preset that it is of: it has no "
    assert sentence(run, ["inspect", f"{folder}/store_1"]).startswith(expected)


def test_stats_of_several_stores_have_headings(folder, say):
    say("prepare", folder / "span_corruption.py")
    say("prepare", folder / "sequence_to_sequence.py")
    text = say("data", "stats", folder / "store_1", folder / "store_2")
    assert text.startswith(f"{folder}/store_1:\nsource ") and f"\n\n{folder}/store_2:\nsource " in text


def test_verify_finds_a_changed_byte_in_tokens_documents_and_pack_tables(folder, tmp_path, say):
    store = tmp_path / "store"
    preset = (folder / "sequence_to_sequence.py", "--data.store", store)
    say("prepare", *preset)
    assert say("data", "verify", store).startswith(f"{store}: all files are as they were written (")
    names = [
        "train/00000.bin",
        "validation/00000.documents",
        *(f.relative_to(store) for f in store.glob("packs/*/0-*")),
    ]
    assert len(names) == 6
    for name in names:
        good = (store / name).read_bytes()
        (store / name).write_bytes(bytes([good[0] ^ 1]) + good[1:])
        assert sentence(run, ["data", "verify", str(store)]).startswith(f"{store / name} has changed since it was ")
        (store / name).write_bytes(good)
    for name in names:
        good = (store / name).read_bytes()
        (store / name).write_bytes(bytes([good[0] ^ 1]) + good[1:])
    said = sentence(run, ["data", "verify", str(store)])
    assert said.count(" has changed since ") == 3 and said.endswith(" 3 more files have changed too.")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["inspect", "{preset}", "--step", "0"], "--step 0 must be above 0."),
        (["inspect", "{preset}", "--row", "4"], "--row 4 must be at least 0 and below train.batch=4."),
        (["inspect", "{preset}", "--row", "-1"], "--row -1 must be at least 0 and below train.batch=4."),
        (["inspect", "{preset}", f"--step={2**62}"], f"--step {2**62} is beyond the last step that has a number, "),
        (
            ["inspect", "{preset}", f"--step={10**19}"],
            f"--step {10**19} must be a finite number that float32 or int64 ",
        ),
        (["inspect", "{preset}", "--color", "blue"], "invalid choice 'blue' for argument '--color'."),
        (["inspect", "{folder}"], "{folder} is not a run directory: it has no config.json."),
        (["prepare", "{preset}", "--processes", "0"], "--processes 0 must be above 0."),
        (
            ["prepare", "{preset}", "--runner_options", "a=b"],
            "--runner_options ('a=b',) has no effect without --runner: ",
        ),
        (["prepare", "{preset}", "--runner", "X", "--processes", "2"], "--processes 2 has no effect with --runner: "),
        (["data", "stats", "{folder}"], "There is no store in {folder}: give a store, a preset or a run directory."),
        (["data", "verify", "none"], "There is no store in none: give a store, a preset or a run directory."),
        (["data", "stats", "{folder}/none.py"], "{folder}/none.py is neither a preset nor a run directory;"),
        (["data", "stats", "{unprepared}"], "There is no store in {folder}/gone: run `t5like prepare {unprepared}`."),
        (["data", "verify", "{preset}", "--deep"], "t5like data verify PATH... has no flag --deep;"),
    ],
)
def test_mistakes_are_one_sentence(words, expected, folder):
    preset, unprepared = folder / "span_corruption.py", folder / "unprepared.py"
    unprepared.write_text(preset.read_text().replace("store_1", "gone"))
    names = {"preset": preset, "folder": folder, "unprepared": unprepared}
    assert sentence(run, [word.format(**names) for word in words]).startswith(expected.format(**names))


def test_commands_that_only_show_data_load_neither_jax_nor_tensorflow(folder):
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *{'jax', 'tensorflow', 't5like.cli'} & set(sys.modules)))\n"
        "from t5like.cli import main; main()"
    )
    preset = folder / "span_corruption.py"
    for words in (["inspect", preset], ["data", "stats", preset], ["data", "verify", preset]):
        done = subprocess.run(
            command(*words, program=program), capture_output=True, text=True, check=True, env=environment()
        )
        assert done.stdout.splitlines()[-1] == "LOADED t5like.cli"


def test_what_may_not_be_opened_is_one_sentence(folder, tmp_path):
    preset = tmp_path / "preset.py"
    preset.write_text((folder / "span_corruption.py").read_text())
    preset.chmod(0)
    if os.access(preset, os.R_OK):
        pytest.skip("this user may open everything")
    assert complaint("inspect", preset) == f"{preset} cannot be opened: Permission denied."


def test_a_terminal_that_cannot_show_chinese_shows_escapes(folder):
    preset = folder / "span_corruption.py"
    succeed("prepare", preset)
    plain = {**environment(), "PYTHONIOENCODING": "latin-1"}
    assert "\\u8a69" in succeed("data", "stats", preset, env=plain)
    assert "詩" in succeed("data", "stats", preset, env={**environment(), "PYTHONIOENCODING": "utf-8"})


def test_the_json_goes_through_a_pipe_that_closes_early(folder):
    preset = folder / "span_corruption.py"
    succeed("prepare", preset)
    shell = [sys.executable, "-c", "import sys; print(sys.stdin.readline(), end='')"]
    with subprocess.Popen(
        command("inspect", preset, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as shown:
        first = subprocess.run(shell, stdin=shown.stdout, capture_output=True, text=True, check=True).stdout
        assert shown.stdout is not None and shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == b""
    assert json.loads(first)["row"] == 0
    assert shown.returncode in (0, 141)
