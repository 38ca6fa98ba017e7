"""`t5like generate`: mixed prompts in few programs, files that a killed command goes on with, and streamed answers."""

import contextlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from command_line import environment
from golden_runs import on_one_device
from jax.experimental.compilation_cache import compilation_cache
from library_runs import write_runs
from settings import sentence

import t5like
from t5like.commands import output, tasks
from t5like.commands.output import Lines, Progress, resumed
from t5like.infer import search
from t5like.infer.batches import LENGTHS
from t5like.infer.generate import Generator
from t5like.library import Run
from t5like.processes import distributed

PROMPTS = ["the model reads", "", "a line of text, and writes it", "你好", "a", " "]
PROMPTS += [f"text {number}" for number in range(11)]
REMEDY = "name another file, or write it anew with --overwrite."


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[pathlib.Path]:
    """The folder of the runs, which are restored onto one device."""
    folder = tmp_path_factory.mktemp("generate")
    write_runs(folder, "tiny_gpt", "reviews")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), "utf-8")
    rows = [f"{word} film, number {n}" for n in range(20) for word in ("fine", "poor")]
    (folder / "new.tsv").write_text("\n".join(["review", *rows]))
    with on_one_device():
        yield folder


@pytest.fixture(scope="module")
def run(runs) -> Run:
    return t5like.load(runs / "runs" / "tiny_gpt")


def test_answers_have_the_order_and_the_numbers_of_the_prompts_whatever_the_batch(run):
    sampled = dict(tokens=3, temperature=1.0, seed=5)
    answers = run.generate(PROMPTS, batch=4, **sampled)
    assert [answer.prompt for answer in answers] == PROMPTS
    assert [answer.text == "" for answer in answers][:6] == [False, True, False, False, False, True]
    assert list(run.generate(PROMPTS, batch=16, **sampled)) == list(answers)
    behind = run.generate([*[""] * 6, *PROMPTS[6:10]], batch=4, **sampled)
    assert list(behind)[6:] == list(answers)[6:10]


@pytest.mark.slow
def test_a_thousand_prompts_of_mixed_lengths_compile_at_most_six_programs(run):
    sizes = np.random.default_rng(0).lognormal(3.5, 1, 1000).astype(int) + 1
    prompts, before = ["x" * size for size in sizes], search.generate._cache_size()
    assert len(set(-(-sizes // 32))) > 2 * LENGTHS
    assert len(run.generate(prompts, tokens=1)) == 1000
    assert 1 < search.generate._cache_size() - before <= 6


class Killed(BaseException):
    """Stands for a kill."""


@contextlib.contextmanager
def killed_after(count: int, method: str = "put") -> Iterator[None]:
    """Within, a command ends when it wants to write another record or line."""
    left, write = iter(range(count)), getattr(Lines, method)

    def stopped(*given: object) -> None:
        if next(left, None) is None:
            raise Killed
        write(*given)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Lines, method, stopped)
        yield


def generate(runs: pathlib.Path, file: pathlib.Path, *more: str) -> list[str]:
    return ["generate", str(runs / "runs/tiny_gpt"), f"--prompt_file={runs}/prompts.txt", "--tokens=3",
            "--temperature=1", "--seed=5", "--batch=4", f"--output={file}", *more]  # fmt: skip


def records(file: pathlib.Path) -> list[Any]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_a_killed_command_goes_on_where_it_stood(runs, run, say, tmp_path, monkeypatch):
    file, batches = tmp_path / "answers.jsonl", list[int]()
    waiting = file.with_name("answers.jsonl.waiting")
    expected = [answer.cells() for answer in run.generate(PROMPTS, tokens=3, temperature=1.0, seed=5)]
    with killed_after(11):
        say(*generate(runs, file))
    there = len(records(file))
    assert there + sum(number >= there for number, _ in records(waiting)) == 11
    assert all(record == expected[number] for number, record in [*enumerate(records(file)), *records(waiting)])
    for torn in (file, waiting):
        with torn.open("a") as opened:
            opened.write('{"prompt": "a')
    whole = Generator.texts
    monkeypatch.setattr(Generator, "texts", lambda *given: (batches.append(len(given[2])), whole(*given))[1])
    say(*generate(runs, file))
    assert records(file) == expected and not waiting.exists()
    assert sum(batches) < len(PROMPTS) - 6
    batches.clear()
    say(*generate(runs, file, "--batch=8"))  # which changes no answer
    assert records(file) == expected and batches == []


def test_a_file_of_another_command_is_refused(runs, say, tmp_path):
    file = tmp_path / "answers.jsonl"
    say(*generate(runs, file))
    for more, differs in {"--tokens=4": "tokens 3, not 4", "--prompt=more": "other prompts"}.items():
        assert sentence(say, *generate(runs, file, more)) == f"--output {file} is made with {differs}: {REMEDY}"
    with resumed(str(file), {"tokens": 4}, True) as lines:
        assert lines.count == 0 and file.read_bytes() == b""
    own = tmp_path / "notes.txt"
    own.write_text("mine\n")
    unknown = f"--output {own} is there, and nothing says what it is made from: {REMEDY}"
    assert sentence(opened, str(own)) == unknown and own.read_text() == "mine\n"
    assert "lies in a bucket" in sentence(opened, "gs://b/a.jsonl")
    nowhere = str(tmp_path / "none" / "a.jsonl")
    assert sentence(opened, nowhere) == (
        f"--output {nowhere} cannot be written: No such file or directory; once that is mended, the same command goes "
        "on from where it stopped."
    )


def opened(file: str, **made_from: object) -> None:
    """Opens a file and closes it."""
    with resumed(file, made_from, False):
        pass


def test_a_full_disk_is_a_sentence_and_the_command_goes_on_with_the_file(tmp_path):
    file, record = str(tmp_path / "a.jsonl"), {"text": "x" * 300}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with resumed(file, {"tokens": 1}, False) as lines:
            said = sentence(lambda: [lines.put(number, record) for number in range(9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.startswith(f"--output {file} cannot be written: File too large; once that is mended, the same command")
    with resumed(file, {"tokens": 1}, False) as lines:
        assert lines.count == 3
        for number in (8, 6, 4, 3, 5, 7):
            lines.put(number, record)
    assert [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()] == [record] * 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.made_from.json"]


def test_lines_that_wait_are_not_those_of_another_command(tmp_path):
    file = str(tmp_path / "a.jsonl")
    with resumed(file, {"tokens": 1}, False) as lines:
        lines.put(3, {})
    with resumed(file, {"tokens": 1}, False) as lines:
        assert (lines.known(3), lines.known(0), lines.count) == (True, False, 1)
    assert "made with tokens 1, not 2" in sentence(opened, file, tokens=2)
    with resumed(file, {"tokens": 2}, True) as lines:
        assert lines.count == 0


def test_predictions_go_on_where_they_stood(runs, say, tmp_path, monkeypatch):

    monkeypatch.setattr(tasks, "TOGETHER", 8)
    command = ["predict", runs / "runs/reviews", runs / "new.tsv"]
    expected, file = say(*command), tmp_path / "predictions.jsonl"
    with killed_after(13, "append"):
        say(*command, f"--output={file}")
    assert len(records(file)) == 13
    say(*command, f"--output={file}")
    assert file.read_text() == expected
    other = sentence(say, *command[:2], runs / "prompts.txt", f"--output={file}")
    assert other == f"--output {file} is made with other rows: {REMEDY}"


def test_a_progress_says_how_much_is_done_and_when_it_ends(capsys, monkeypatch):
    now = iter([0.0, 4.0, 11.0, 12.0, 31.0, 32.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(now))
    progress = Progress("prompts answered", 1000, 100)
    assert list(progress.counted("abc")) == ["a", "b", "c"]
    for count in (110, 1000):
        progress.reach(count)
    assert capsys.readouterr().err.splitlines() == [
        "102 of 1,000 prompts answered, 0.2 a second, 82 min left.",
        "110 of 1,000 prompts answered, 0.3 a second, 46 min left.",
    ]


@pytest.fixture
def kept_programs(tmp_path) -> Iterator[list[str]]:
    """Events of the compilation cache, which is on and empty."""
    events, before = list[str](), jax.config.jax_enable_compilation_cache

    def listen(event: str, **_: object) -> None:
        if "cache_hits" in event or "cache_misses" in event:
            events.append(event.rpartition("/")[2])

    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()
    jax.monitoring.register_event_listener(listen)
    yield events
    jax.monitoring.unregister_event_listener(listen)
    jax.config.update("jax_enable_compilation_cache", before)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_a_second_start_compiles_nothing(runs, say, tmp_path, kept_programs):
    command = ["generate", runs / "runs/tiny_gpt", "--prompt=a", "--tokens=2", f"--train.compilation_cache={tmp_path}"]
    found = []
    for _ in range(2):
        jax.clear_caches()
        kept_programs.clear()
        found.append((say(*command), sorted(set(kept_programs))))
    assert found[0][0] == found[1][0]
    assert "cache_misses" in found[0][1] and found[1][1] == ["cache_hits"]


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_where_it_stood(runs, tmp_path):
    (tmp_path / "many.txt").write_text("\n".join(f"{n} " * (1 + n % 40) for n in range(600)))
    flags = [f"--prompt_file={tmp_path}/many.txt", "--tokens=2", "--batch=2", "--temperature=1"]
    command = [sys.executable, "-m", "t5like", "generate", str(runs / "runs/tiny_gpt"), *flags]
    wanted, files = {}, [tmp_path / "once.jsonl", tmp_path / "twice.jsonl"]
    for file in files:
        asked = [*command, f"--output={file}"]
        if file is files[1]:
            process = subprocess.Popen(asked, env=environment(), stderr=subprocess.DEVNULL)
            waiting = file.with_name("twice.jsonl.waiting")
            deadline = time.monotonic() + 100
            while not (waiting.exists() and waiting.stat().st_size > 5000) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert waiting.stat().st_size
        subprocess.run(asked, env=environment(), check=True, stderr=subprocess.DEVNULL)
        wanted[file.name] = file.read_text("utf-8")
    assert len(wanted["once.jsonl"].splitlines()) == 600
    assert wanted["once.jsonl"] == wanted["twice.jsonl"]


def test_other_processes_know_the_lines_and_write_none(tmp_path, monkeypatch):
    connected = types.SimpleNamespace(share=lambda key, value: None, collect=lambda key, seconds: {0: [2, [4]]})
    monkeypatch.setattr(distributed, "connection", lambda: connected)
    monkeypatch.setattr(distributed, "run_on_primary", lambda task, act: None)
    with resumed(str(tmp_path / "a.jsonl"), {}, False) as lines:
        assert [number for number in range(6) if lines.known(number)] == [0, 1, 4]
        for number in (3, 2):
            lines.put(number, {})
        assert lines.count == 5
    assert list(tmp_path.iterdir()) == []
