"""README.md and docs/: commands work as they are written, links lead somewhere, and files that are named exist."""

import contextlib
import dataclasses
import gzip
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import pytest
import yaml
from command_line import ROOT
from documents import PAGES, anchors, commands, links, name_of, paths, presets, prose
from golden_runs import GOLDEN, on_one_device

import t5like
from t5like.cli import COMMANDS, run
from t5like.config.presets import FILE, load, write

LINES = [line for page in PAGES for line in commands(page)]
FIRST = list({tuple(line.words): line for line in reversed(LINES)}.values())[::-1]
"""Of lines that several pages have, the first."""
OURS = [line for line in FIRST if line.words[0] == "t5like"]
SCRIPTS = [line for line in FIRST if line.words[0] == "bash"]
OTHERS = {"launch/README.md": {"gcloud", "eval", "ssh-add"}, "CONTRIBUTING.md": {"source"}, "docs/data.md": {"python"}}
"""Programs that are not ours to check."""
OPTIONLESS = ("train", "data stats", "data verify", "architectures", "configs")
MOST_BYTES = 12_000
NAMES = 20
"""The column of the file tree at which names end and words begin."""
DRY = ("gpu.sh", "slurm.sh", "tpu_vm.sh", "tpu_pod.sh", "gke.yaml.sh")
"""Scripts that show with --dry-run what they would do."""
STUB = '#!/usr/bin/env bash\nprintf "%s\\0" "$(basename "$0")" "$@" "\x1e" >> "$STUBS/calls"\n'
"""Writes down its words in one write, which a line feed would end, since several processes may do so at once."""
SHRINK = """
import dataclasses as _d
from t5like.config import Source as _Source, Vocabulary as _Vocabulary

def _small():
    data, model = config.data, config.model
    text = (_Source(kind="text", path="corpus/*.txt", document="line"),)
    own = data.vocabulary
    pieces = _Vocabulary(kind="bytes", size=259, sentinels=min(own.sentinels, 11), extra=own.extra)
    data = _d.replace(
        data, sources=data.sources if "corpus" in data.sources[0].path else text, vocabulary=pieces, length=32,
        target_length=data.target_length and 24, held_out=0.2,
    )
    layers = {name: min(getattr(model, name), 1) for name in ("encoder_layers", "decoder_layers")}
    model = _d.replace(model, **layers, embed=16, heads=2, kv=8, mlp=32, vocab=384, dtype="float32")
    optimizer = _d.replace(config.optimizer, warmup=1)
    train = _d.replace(config.train, steps=2, batch=8, tensorboard=False, compilation_cache="")
    evaluation = _d.replace(config.eval, rows=8, batch=8)
    return _d.replace(config, model=model, data=data, optimizer=optimizer, train=train, eval=evaluation)

config = _small()
"""
"""The end of a preset that makes its run a matter of seconds, on little text."""
SMALL = {
    "--train.steps": "4",
    "--optimizer.schedule_steps": "4",
    "--size": "300",
    "--train.profile_steps": "2 3",
    "--at": "2",
    "--data.vocabulary.size": "259",
    "--model.vocab": "384",
}
"""Flags whose values are too large for a test, and what stands behind them instead."""


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= MOST_BYTES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    named = paths(page.read_text("utf-8")) - presets(page).keys()
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_page_is_reached_from_the_readme():
    reached = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert [
        name_of(page) for page in PAGES[2:] if page not in reached
    ] == []  # beside README.zh.md, its own counterpart


def test_the_file_tree_names_what_exists():
    (tree,) = re.findall(r"^## The file tree\n\n```\n(.*?)^```", (ROOT / "docs/design.md").read_text(), re.M | re.S)
    here, found = [ROOT], set()
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent < NAMES:
            here = [*here[: indent // 2 + 1], here[indent // 2] / line.split()[0]]
            found.add(here[-1])
        found.update(here[-2] / other for other in re.findall(r"(?<![\w.])\w+\.(?:py|sh)\b", line))
    assert [name_of(path) for path in sorted(found) if not path.exists()] == []
    packages = {file.parent for file in (ROOT / "t5like").rglob("__init__.py")}
    assert [name_of(path) for path in sorted(packages - found)] == []


def test_citation_and_changelog_are_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # what CFF 1.2 requires
    assert (cited["version"], cited["license"]) == (t5like.__version__, "Apache-2.0")
    assert t5like.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_every_benchmark_is_named():
    named = set().union(*(paths(page.read_text("utf-8")) for page in PAGES))
    assert {f"benchmarks/{file.name}" for file in (ROOT / "benchmarks").glob("*.py")} <= named


def test_every_command_has_a_section_with_all_of_its_options(capsys):
    sections = dict(
        re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", prose(ROOT / "docs/commands.md"), re.MULTILINE | re.DOTALL)
    )
    for name, command in COMMANDS.items():
        assert f"[`t5like {name} " in prose(ROOT / "docs/commands.md"), name
        source = [] if command.takes in ("paths", "two paths", "names") else [str(ROOT / "configs/tiny_t5.py")]
        run([*name.split(), *source, "--help"])
        options = set(re.findall(r"^[│ ]*--([a-z_]+) ", capsys.readouterr().out, re.MULTILINE)) - {"architecture"}
        assert options or name in OPTIONLESS
        missing = [option for option in sorted(options) if f"--{option}" not in sections[name]]
        assert missing == [], name


def test_all_lines_are_of_programs_that_are_checked():
    known = {"t5like", "bash"}
    assert [str(line) for line in LINES if line.words[0] not in known | OTHERS.get(line.page, set())] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> pathlib.Path:
    """A folder with the presets of configs/ and of the pages, and a run directory for each run that is named, with
    nothing but its config in it."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "configs", folder / "configs")
    for page in PAGES:
        for name, text in presets(page).items():
            (folder / name).write_text(text)
    for line in OURS:
        if line.words[1] == "branch":
            step = line.words[line.words.index("--at") + 1]
            (folder / line.words[2] / "checkpoints" / step / "state").mkdir(parents=True, exist_ok=True)
        for word in line.words:
            if re.fullmatch(r"(bucket/)?runs/\w+", word) and not (folder / word / FILE).exists():
                (folder / word).mkdir(parents=True, exist_ok=True)
                preset = folder / "configs" / f"{pathlib.Path(word).name}.py"
                config = load(str(preset if preset.exists() else folder / "configs/tiny_t5.py"))
                write(
                    dataclasses.replace(config, train=dataclasses.replace(config.train, directory=word)), folder / word
                )
    return folder


@pytest.fixture
def read_to_the_end(monkeypatch, desk):
    """True if a command line is read to its end: the config is made, options are read; nothing is carried out."""
    monkeypatch.chdir(desk)
    carried_out = []
    for name, command in COMMANDS.items():
        stand_in = command._replace(function=lambda *given: carried_out.append(given))
        monkeypatch.setitem(COMMANDS, name, stand_in)

    def read(words: Sequence[str]) -> bool:
        with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
            run(words)
        return len(carried_out) == {"--help", "--version"}.isdisjoint(words)

    return read


@pytest.mark.parametrize("line", OURS, ids=str)
def test_a_command_line_is_read_to_its_end(line, read_to_the_end):
    assert read_to_the_end(line.words[1:])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> pathlib.Path:
    """A repository with the scripts, whose environment has stubs for all that they start."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("launch", "configs", "constraints", ".ci"):
        shutil.copytree(ROOT / name, root / name)
    (root / "launch" / "environment.sh").write_text("constraints=constraints/python3.11.txt\n")
    for words in ("init --quiet", "add .", "-c user.name=a -c user.email=b commit --quiet --message all"):
        subprocess.run(["git", *words.split()], cwd=root, check=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    for name in ("t5like", "python", "ruff", "pyright"):
        (root / ".venv" / "bin" / name).write_text(STUB)
        (root / ".venv" / "bin" / name).chmod(0o755)
    return root


@pytest.mark.parametrize("line", SCRIPTS, ids=str)
def test_a_script_takes_its_arguments_and_starts_commands_that_exist(line, checkout, tmp_path):
    path = f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}"
    words = [*line.words, *(["--dry-run"] if pathlib.Path(line.words[1]).name in DRY else [])]
    variables = {**os.environ, "PATH": path, "STUBS": str(tmp_path), "LOGS": str(tmp_path / "logs")}
    done = subprocess.run(words, cwd=checkout, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().split("\x1e\0")[:-1] if (tmp_path / "calls").exists() else []
    assert calls or done.stdout
    started = [words for words in (call.split("\0")[:-1] for call in calls) if words[0] == "t5like"]
    for words in {tuple(words[1:3]) for words in started}:
        assert words[0] in COMMANDS and words[1].startswith("configs/")


QUICK_START = ("tiny_t5", "tiny_gpt", "tiny_bert")
TEXT = "the cat sat on a red mat and slept while the moon was bright"


def write_corpus(folder: pathlib.Path) -> None:
    """Every file of text that the pages name, and a folder of Hugging Face."""
    for name in ("corpus/en", "corpus/zh", "corpus/chinese", "corpus/pairs", "path/to"):
        (folder / name).mkdir(parents=True)
    lines = [" ".join([*TEXT.split()[n % 7 :], str(n)]) for n in range(300)]
    for n in range(0, 300, 5):
        (folder / f"corpus/{n}.txt").write_text("\n".join(lines[n : n + 5]))
    poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
    (folder / "corpus/chinese/a.txt").write_text("\n".join(f"{n}{poem}" for n in range(300)))
    with gzip.open(folder / "corpus/all.txt.gz", "wt") as file:
        file.write("\n".join(lines))
    with gzip.open(folder / "corpus/en/a.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps({"text": line}) for line in lines))
    for name, values in {
        "corpus/zh/a": {},
        "corpus/pairs/a": {"zh": "床前明月光"},
        "corpus/gsm8k": {"question": TEXT},
    }.items():
        rows = [json.dumps({"text": f"明月光 {line}", "en": line, **values}) for line in lines]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "prompts.txt").write_text("the cat\nthe moon\n")
    (folder / "sentences.txt").write_text("the cat sat\nthe moon\n")
    (folder / "answers.tsv").write_text("question\tanswer\nthe cat\tsat\n")
    (folder / "pairs.jsonl").write_text(json.dumps({"sentence_good": "the cat", "sentence_bad": "cat the"}))
    rows = [f"{line}\t{'good' if n % 2 else 'bad'}\n" for n, line in enumerate(lines)]
    (folder / "reviews.tsv").write_text("text\tlabel\n" + "".join(rows))
    (folder / "new.tsv").write_text("text\nsome film\n")
    shutil.copytree(GOLDEN / "t5_1_1", folder / "path/to/t5-v1_1-base")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Iterator[set[str]]:
    """Lines that were carried out already, in a folder with the presets, made small, their texts, and the runs of the
    quick start."""
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(folder)
    (folder / "configs").mkdir()
    shown = {name: text for page in PAGES for name, text in presets(page).items()}
    shown |= {f"configs/{name}.py": (ROOT / f"configs/{name}.py").read_text() for name in QUICK_START}
    for name, text in shown.items():
        (folder / name).write_text(text + SHRINK)
    with contextlib.chdir(folder), on_one_device():
        for name in QUICK_START:
            run(["train", f"configs/{name}.py"])
        yield set()


def made_small(words: Sequence[str]) -> list[str]:
    """The words of a command with flags behind them that make it a matter of seconds."""
    more = [word for flag, value in SMALL.items() if flag in words for word in (flag, *value.split())]
    if words[0] == "finetune":
        more += ["--train.steps", "4"] if "--train.epochs" not in words else []
    if words[0] == "eval" and "--step" in words:
        more += ["--step", "2"]
    if words[:2] == ["train", "runs/t5_base"]:
        values = {"data.length": 32, "train.batch": 8, "eval.rows": 8, "eval.batch": 8, "train.tensorboard": False}
        more += [f"--{name}={value}" for name, value in values.items()]
    return [*words, *more]


def too_large(words: Sequence[str]) -> bool:
    """True if a command needs text, devices, libraries or minutes that a test does not have; it is only read then."""
    if words[0] in ("plan", "drill") or ("--runner" in words and importlib.util.find_spec("apache_beam") is None):
        return True
    return not all(pathlib.Path(word).exists() for word in words if re.match(r"configs/|path/", word))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "launch"], ids=name_of)
def test_the_commands_of_a_page_run_one_after_the_other(page, done, capsys):
    for line in commands(page):
        words = line.words[1:]
        if line.words[0] != "t5like" or shlex.join(words) in done or too_large(words):
            continue
        done.add(shlex.join(words))
        with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
            run(made_small(words))
        said = capsys.readouterr()
        assert said.err if "--output" in words else said.out, line
