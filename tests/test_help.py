"""Help and errors of the config: complete, and there at once."""

import re
import resource
import subprocess
import sys

import pytest
from command_line import CONFIGS, command, environment

import t5like
from t5like.cli import COMMANDS, run
from t5like.commands import SHOWN
from t5like.config.flags import option_flags
from t5like.config.presets import load

T5 = CONFIGS / "tiny_t5.py"


def seconds(words: list[str]) -> float:
    """The processor's time for a command, which does not count what else runs on the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, capture_output=True, check=False, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["--help"], 0.5),
        (["train", T5, "--help"], 0.7),
        (["train", T5, "--help", "all"], 1),
        (["train", T5, "--model.embed", "0"], 1),
        (["train", T5, "--train.stesp", "3"], 1),
        (["generate", T5, "--prompt", "a", "--top_p", "2"], 1),
    ],
)
def test_help_and_errors_of_the_config_are_immediate(arguments, most):
    """At least once in three times, since a busy machine is slower."""
    times = (seconds(command(*arguments)) for _ in range(3))
    assert any(taken < most for taken in times)


@pytest.mark.parametrize(
    ("arguments", "libraries"),
    [
        (["--help"], []),
        (["train", T5, "--help"], []),
        (["train", T5, "--help", "all"], ["tyro"]),
        (["eval", T5, "--model.embed", "0"], ["tyro"]),
    ],
)
def test_help_and_errors_of_the_config_import_neither_jax_nor_tensorflow(arguments, libraries):
    program = (
        "import atexit, sys\n"
        "slow = {'jax', 'numpy', 'tensorflow', 'tyro'}\n"
        "atexit.register(lambda: print('LOADED', *slow & set(sys.modules)))\n"
        "from t5like.cli import main; main()"
    )
    done = subprocess.run(
        command(*arguments, program=program), capture_output=True, text=True, check=False, env=environment()
    )
    assert done.stdout.splitlines()[-1].split() == ["LOADED", *libraries]


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["-h"], ["help"], ["data", "--help"], ["vocabulary", "-h"], ["help", "data"]]
)
def test_help_names_every_command(arguments, say):
    shown = say(*arguments)
    assert all(
        f"  t5like {name} {SHOWN[command.takes]} " in shown and f" {command.help}\n" in shown
        for name, command in COMMANDS.items()
    )


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("data stats", ()),
        ("data verify", ()),
        ("vocabulary train", ("--output", "--kind", "--size", "--characters", "--field", "--document")),
        ("vocabulary show", ("--text",)),
    ],
)
def test_help_of_a_command_that_takes_paths_needs_no_path(name, flags, capsys):
    run([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: t5like {name} PATH [--name value ...]\n")
    assert all(f"{flag} " in shown for flag in flags)
    run([*name.split(), "--help", "all"])
    assert capsys.readouterr().out.startswith(f"usage: t5like {name} PATH... [-h]")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_one_screen_of_its_options_and_what_people_change(name, say, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = COMMANDS[name]
    lines = say(*name.split(), "--help").splitlines()
    assert len(lines) <= 25
    assert all(len(line) <= 80 or "  " not in line[:40].strip() for line in lines)
    assert lines == say("help", *name.split()).splitlines()
    shown = {line.split()[0].removeprefix("--") for line in lines[2:]}
    shown = {flag.rstrip(",") for flag in shown}
    own, within = set(option_flags(command.options)), command.options.__dataclass_fields__
    # Options that fit no screen are there by the first of each group.
    folded = {name for name in own if name not in within and "  --help all" not in name} if len(own) > 22 else set()
    assert {flag for flag in own - folded if "." not in flag} <= shown
    assert all(len(line.split()) > 3 for line in lines[1:])
    if command.takes in ("config", "branch"):
        assert {"train.steps", "train.batch", "optimizer.learning_rate", "data.sources.0.path"} <= shown
        assert lines[-1].startswith(f"t5like {name} {SHOWN[command.takes]} --help all: every field, values of tiny_t5")
        assert f"  --train.steps {load(str(T5)).train.steps}  " in "\n".join(lines)


def test_help_with_a_source_has_its_values_and_all_of_them_on_demand(say, tmp_path):
    preset = tmp_path / "mine.py"
    preset.write_text(re.sub(r"\bsteps=\d+", "steps=77", T5.read_text()))
    assert "  --train.steps 77  " in say("train", preset, "--help")
    shown = say("train", preset, "--train.batch", "32", "--help=all")
    assert "--rules.embed" in shown and "(default: 77)" in shown and "(default: 32)" in shown
    assert "--rules.embed" in say("train", "-h", "all")
    assert "--rules.embed" in say("import", "--help", "all")


def test_the_version_is_printed(say):
    assert say("--version") == say("version") == f"t5like {t5like.__version__}\n"


def test_the_package_is_a_program():
    words = [sys.executable, "-m", "t5like", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == f"t5like {t5like.__version__}\n"
