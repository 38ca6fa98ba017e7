"""The quick start, shortened: the shipped presets through the command line, and runs that are cut off.

What trains first, and what is stopped, is a process as users start it. Others, and later commands, which read what it
left, are carried out in this process, which spares each of them the import of JAX and TensorFlow.
"""

import functools
import json
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
from command_line import CONFIGS, command, environment, succeed
from golden_runs import on_one_device
from settings import sentence

from t5like.cli import run

pytestmark = pytest.mark.slow
FAMILIES = ("t5", "gpt", "bert")


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    """What makes a preset's run a matter of seconds; all share one store."""
    folder = tmp_path_factory.mktemp("shared")
    values = {
        "data.store": folder / "store",
        "train.compilation_cache": folder / "cache",
        "train.steps": 6,
        "train.batch": 8,
        "train.log_every": 1,
        "optimizer.warmup": 2,
        "eval.rows": 32,
        "eval.batch": 16,
    }
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """As the processes here have."""
    with on_one_device():
        yield


def training(family: str, folder: pathlib.Path, *flags: object) -> tuple[object, ...]:
    return "train", CONFIGS / f"tiny_{family}.py", *flags, f"--train.directory={folder}"


@pytest.fixture(scope="session")
def trained(flags, tmp_path_factory):
    """Family -> the run directory of its preset, trained when it is first asked for."""

    @functools.cache
    def of(family: str) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("runs") / family
        words = training(family, folder, *flags)
        if family == "t5":
            succeed(*words)
        else:
            run([*map(str, words)])
        return folder

    return of


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def events(folder: pathlib.Path) -> list[str]:
    return [record["event"] for record in json_lines((folder / "events.jsonl").read_text())]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def logged_steps(folder: pathlib.Path) -> list[int]:
    return [record["step"] for record in json_lines((folder / "metrics.jsonl").read_text()) if "loss" in record]


def begin(folder: pathlib.Path, flags: list[str], *more: str) -> subprocess.Popen[str]:
    """A T5's training that would take minutes, as a process that goes on beside the test."""
    words = command("train", CONFIGS / "tiny_t5.py", *flags, f"--train.directory={folder}", "--train.steps=5000", *more)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def read_until(process: subprocess.Popen[str], pattern: str) -> None:
    """Reads what a process prints up to the first line that matches."""
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return
    raise AssertionError(f"the process ended: {process.communicate()[1]}")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_preset_trains_and_leaves_all_that_later_commands_need(family, trained):
    folder = trained(family)
    assert logged_steps(folder) == [1, 2, 3, 4, 5, 6]
    assert events(folder) == ["started", "first_step", "saved", "finished"]
    names = {entry.name for entry in folder.iterdir()}
    assert {"config.json", "vocabulary", "metrics.jsonl", "events.jsonl", "tensorboard", "checkpoints"} <= names
    assert [step.name for step in (folder / "checkpoints").iterdir()] == ["6"]


@pytest.mark.parametrize("family", FAMILIES)
def test_eval_repeats_the_last_evaluation_of_the_training(family, trained, say):
    folder = trained(family)
    said = say("eval", folder)
    during = json_lines((folder / "metrics.jsonl").read_text())[-1]
    later = json.loads((folder / "eval.json").read_text())
    assert later.pop("step") == during.pop("step") == 6
    assert {f"eval/{name}": value for name, value in later.items()} == pytest.approx(during, rel=1e-5)
    assert f"perplexity         {later['perplexity']:8.2f} a token" in said


@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_passages_stand_beside_the_truth_and_are_kept(family, trained, say):
    folder = trained(family)
    said = say("generate", folder, "--held_out=2", "--json=True")
    passages = json_lines(said)
    assert len(passages) == 2
    assert all(passage["shown"] and passage["gaps"] for passage in passages)
    assert all(gap.keys() == {"name", "truth", "model", "untrained", "exact"} for gap in passages[0]["gaps"])
    assert (folder / "samples" / "6.jsonl").read_text() == said
    said = say("generate", folder, "--held_out", 2, "--show", 1)
    shares = json.loads((folder / "samples" / "6.shares.json").read_text())
    assert "--- held-out passage 1 ---" in said and "--- held-out passage 2 ---" not in said
    assert f"Of {shares['gaps']:,} held-out {shares['unit']}s in 2 passages" in said
    say("generate", folder, "--held_out=2", "--json=True", "--seed=1")
    assert json_lines((folder / "samples" / "6.jsonl").read_text())[0]["shown"] != passages[0]["shown"]


def test_masks_are_filled_with_the_likeliest_pieces(trained, say):
    text = "import [MASK] and [MASK]"
    (record,) = json_lines(say("fill", trained("bert"), "--text", text, "--top=3", "--json=True"))
    assert record["text"] == text
    assert len(record["masks"]) == 2
    for candidates in record["masks"]:
        chances = [candidate["probability"] for candidate in candidates]
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) < 1
        assert len({candidate["piece"] for candidate in candidates}) == 3


def test_a_t5_fills_the_sentinels_of_a_prompt(trained, say):
    prompt = "def <extra_id_0>(self): return <extra_id_1>"
    (record,) = json_lines(say("generate", trained("t5"), "--prompt", prompt, "--tokens=8", "--json=True"))
    assert record["prompt"] == prompt
    assert re.fullmatch(r"def \[.*\]\(self\): return \[.*\]", record["filled"], re.DOTALL)


def test_a_gpt_goes_on_with_a_prompt_and_samples_by_its_seed(trained, say):
    words = ["generate", trained("gpt"), "--tokens=8", "--json=True", "--temperature=1"]
    words += ["--prompt", "import", "--prompt", "class Long: pass", "--prompt", "import"]
    first, again, other = (say(*words, *flags) for flags in (["--seed=1"], ["--seed=1", "--batch=1"], ["--seed=2"]))
    assert first == again  # whatever is answered at once
    assert first != other
    answers = [record["answer"] for record in json_lines(first)]
    assert all(answers)
    assert answers[0] != answers[2]


def test_a_finished_run_says_so_and_is_left_as_it_is(trained, flags, say):
    folder = trained("t5")
    before = contents(folder)
    assert say(*training("t5", folder, *flags)).splitlines()[-1] == f"{folder} is finished: step 6 of 6."
    assert contents(folder) == before


def test_a_finished_run_goes_on_with_more_steps(trained, say, tmp_path):
    folder = tmp_path / "longer"
    shutil.copytree(trained("t5"), folder)
    assert "would learn nothing: set optimizer.schedule_steps=8" in sentence(
        run, ["train", str(folder), "--train.steps=8"]
    )
    said = say("train", folder, "--train.steps=8", "--optimizer.schedule_steps=8")
    assert "Resuming at step 6" in said
    assert re.search(r"The learning rate of step 7 is 0\.\d+, where it would have been 0\.", said)
    assert logged_steps(folder) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert events(folder)[4:] == ["resumed", "first_step", "saved", "finished"]


def test_a_run_directory_may_be_moved(trained, say, tmp_path):
    folder = tmp_path / "elsewhere" / "t5"
    shutil.copytree(trained("t5"), folder)
    trained("t5").rename(tmp_path / "hidden")  # nothing may be found at the old place
    try:
        assert f"{folder}, step 6, " in say("eval", folder)
        assert f"{folder}, step 6, " in say("eval", CONFIGS / "tiny_t5.py", f"--train.directory={folder}")
        assert say("generate", folder, "--prompt=a <extra_id_0>", "--tokens=4")
        assert say("train", folder).endswith(f"{folder} is finished: step 6 of 6.\n")
    finally:
        (tmp_path / "hidden").rename(trained("t5"))


def test_a_run_stopped_by_sigterm_saves_its_state_and_goes_on(flags, say, tmp_path):
    process = begin(tmp_path, flags)
    read_until(process, "^step 3 of")
    process.send_signal(signal.SIGTERM)
    complaints = process.communicate(timeout=120)[1]
    (step,) = map(int, re.findall(r"t5like: SIGTERM at step (\d+); the state is saved", complaints))
    assert process.returncode == 143
    assert len(complaints.splitlines()) == 1
    assert events(tmp_path) == ["started", "first_step", "saved", "preempted"]
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == [str(step)]
    assert f"Resuming at step {step}:" in say(*training("t5", tmp_path, *flags, f"--train.steps={step + 2}"))
    assert logged_steps(tmp_path) == list(range(1, step + 3))


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_logs_each_step_once(flags, say, tmp_path):
    process = begin(tmp_path, flags, "--train.save_every=3")
    read_until(process, "^step 3 of")
    while not (tmp_path / "checkpoints" / "3").exists():
        read_until(process, "^step")
    read_until(process, r"^step \d*[147] of")  # one beyond a checkpoint
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    reached, saved = logged_steps(tmp_path)[-1], max(int(step.name) for step in whole(tmp_path / "checkpoints"))
    assert reached > saved
    last = reached + 2
    assert f"Resuming at step {saved}:" in say(
        *training("t5", tmp_path, *flags, "--train.save_every=3", f"--train.steps={last}")
    )
    assert logged_steps(tmp_path) == list(range(1, last + 1))
    assert events(tmp_path)[-1] == "finished"
    assert "resumed" in events(tmp_path)


def whole(checkpoints: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints that were finished; Orbax renames them when they are."""
    return [step for step in checkpoints.iterdir() if step.name.isdigit()]
