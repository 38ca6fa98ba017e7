"""Help and errors of the config: complete, and there at once."""

import resource
import subprocess

import pytest
from command_line import CONFIGS, command, environment

from t5like.cli import COMMANDS, run
from t5like.commands import SHOWN

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
        (["train", T5, "--help"], 1),
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
    [(["--help"], []), (["train", T5, "--help"], ["tyro"]), (["eval", T5, "--model.embed", "0"], ["tyro"])],
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
    "arguments", [[], ["--help"], ["-h"], ["help"], ["train", "--help"], ["data", "--help"], ["vocabulary", "-h"]]
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
    with pytest.raises(SystemExit):
        run([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: t5like {name} PATH... [-h]")
    assert all(f"{flag} " in shown for flag in flags)
