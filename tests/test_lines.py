"""Logs are read from their ends: no more than needed, whatever lies in them."""

import json
import pathlib

import pytest

from t5like.runs import lines
from t5like.runs.best import evaluations
from t5like.runs.directory import RunDirectory
from t5like.runs.lines import Appended, drop_lines, read_lines, records_back


def written(file: pathlib.Path, steps: object) -> bytes:
    file.write_text("".join(json.dumps({"step": step, "loss": 0.5, "eval/loss": 2.0}) + "\n" for step in steps))
    return file.read_bytes()


@pytest.fixture(params=[7, 64, 2**18])
def block(request, monkeypatch) -> int:
    monkeypatch.setattr(lines, "BLOCK", request.param)
    monkeypatch.setattr(lines, "SETTLED", 200)
    return request.param


def kept_until(last: int):
    return lambda record: record["step"] <= last


@pytest.mark.parametrize("last", [0, 3, 39, 40, 99])
def test_the_lines_behind_a_step_are_dropped_in_blocks_of_any_size(block, last, tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = written(file, range(1, 41))
    assert [record["step"] for record in records_back(file)] == list(range(40, 0, -1))
    assert drop_lines(file, kept_until(last)) == 0
    assert file.read_bytes() == b"".join(whole.splitlines(keepends=True)[:last])


@pytest.mark.parametrize(
    ("end", "damaged"),
    [
        (b'{"step": 9, "lo', 0),  # cut short by a kill
        (b'{"step": 3, "loss"', 0),
        (b'{"loss": 1}\n', 1),
        (b"\xff\xfe\n{}\n3\nnull\n" + b"[" * 9000 + b"\n", 5),
        (b"\x00" * 4096, 0),
        (b'{"step": "3"}\n', 1),
    ],
)
def test_damaged_lines_at_the_end_go_and_are_counted(block, end, damaged, tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = written(file, range(1, 6))
    file.write_bytes(whole + end)
    assert [record["step"] for record in read_lines(file) if record.get("step") in range(1, 6)] == [1, 2, 3, 4, 5]
    assert drop_lines(file, kept_until(5)) == damaged
    assert file.read_bytes() == whole


def test_neighbours_may_change_places_and_a_lost_line_feed_comes_back(block, tmp_path):
    file = tmp_path / "metrics.jsonl"
    written(file, [1, 2, 4, 3])
    drop_lines(file, kept_until(3))
    assert [record["step"] for record in read_lines(file)] == [1, 2, 3]
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    drop_lines(file, kept_until(3))
    assert file.read_bytes() == written(tmp_path / "other", [1, 2, 3])


def test_a_line_that_a_kill_cut_short_is_not_joined_with_the_next(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"event": "started"}\n{"event": "sa')
    log = Appended(tmp_path / "events.jsonl")
    log.append({"event": "resumed"})
    log.close()
    assert [record["event"] for record in read_lines(tmp_path / "events.jsonl")] == ["started", "resumed"]


def test_a_long_log_is_neither_read_nor_written_whole(tmp_path, monkeypatch):
    file, read = tmp_path / "metrics.jsonl", []
    written(file, range(1, 50_001))
    monkeypatch.setattr(lines, "BLOCK", 2**12)
    record = lines._record
    monkeypatch.setattr(lines, "_record", lambda line: read.append(line) or record(line))
    begin, place = file.read_bytes()[: 2**20], file.stat().st_ino
    drop_lines(file, kept_until(49_990))
    assert sum(map(len, read)) < 2 * lines.SETTLED
    assert (file.read_bytes()[: 2**20], file.stat().st_ino) == (begin, place)
    for step in (49_900, 49_990):
        (tmp_path / "checkpoints" / str(step) / "state").mkdir(parents=True)
    read.clear()
    assert list(evaluations(RunDirectory(tmp_path), "loss", 49_980)) == list(range(49_900, 49_981))
    assert len(read) < 100


def test_evaluations_that_are_damaged_do_not_count(tmp_path):
    text = '{"step": 1, "eval/loss": 1.0}\n{"step": "2", "eval/loss": 1.0}\n{"step": 3, "eval/loss": "x"}\n'
    text += '{"eval/loss": 0.1}\n{"step": 5, "eval/loss": [1]}\n{"step": 6, "eval/loss": 2.0}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert evaluations(RunDirectory(tmp_path), "loss") == {1: 1.0, 6: 2.0}
