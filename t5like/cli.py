"""The command line: finds a command, reads its config and options, and is the only place that prints errors and exits.

The commands themselves, with their options and help lines, are those that the files of `commands/` list.
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from t5like.commands import (
    EXAMPLE,
    SHOWN,
    Command,
    convert,
    data,
    drill,
    finetune,
    generate,
    models,
    plan,
    score,
    tasks,
    vocabulary,
    why,
)
from t5like.config import Config
from t5like.errors import InterruptedRunError, TransientError, UserError, did_you_mean
from t5like.signals import Signals, end_at_once
from t5like.storage import path_of
from t5like.versions import VERSION
from t5like.xla import set_flags

FOLLOWED = {"run and folder": "the Hugging Face folder", "run and file": "the file"}
"""Arguments after a SOURCE."""
COMMANDS = {
    command.name: command
    for group in (models, generate, finetune, tasks, score, data, why, plan, drill, convert, vocabulary)
    for command in group.COMMANDS
}
"""All commands by name, in the order of the help."""
INTRODUCTION = "t5like: pretrain, fine-tune, evaluate and sample Transformer language models in JAX."
SOURCES = """SOURCE is a preset (tiny_t5, or a file such as configs/tiny_t5.py) or a run directory (runs/tiny_t5). Every
field of a config can be overridden: t5like train tiny_t5 --train.steps 2000 --optimizer.learning_rate 0.01
PATH is a store, preset or run directory; a vocabulary is learned from presets, text, JSON lines and Parquet,
also 'corpus/*.txt.gz', and shown from its folder, spiece.model, tokenizer.json or vocab.txt as well.
`t5like COMMAND --help` lists the options and the usual fields, `t5like COMMAND --help all` every field."""
ASKING = ("-h", "--help")


def help_text() -> str:
    """A line for each command, and what they are given."""
    lines = [f"  {f't5like {command.name} {SHOWN[command.takes]}':<30}{command.help}" for command in COMMANDS.values()]
    return "\n".join([INTRODUCTION, "", *lines, "", SOURCES, ""])


def run(arguments: Sequence[str]) -> None:
    """Carry out a command line, without its program name."""
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [*arguments[1:], "--help"]
    if list(arguments) in (["--version"], ["version"]):
        print(f"t5like {VERSION}")
        return
    if _asks_for_help(arguments):
        print(help_text(), end="")
        return
    command, rest = _command(arguments)
    words = [part for word in rest for part in (word.split("=") if word.startswith("--help=") else (word,))]
    asked = next((number for number, word in enumerate(words) if word in ASKING), None)
    if asked is not None:
        _help(command, words[:asked], words[asked + 1 :] == ["all"])
        return
    given = _given(command, rest)
    _quiet_libraries()
    command.function(*given)


def _help(command: Command, before: list[str], everything: bool) -> None:
    """Print the help of a command, asked for behind some of its words."""
    source = before[0] if before and not before[0].startswith("-") else ""
    if everything:
        with contextlib.suppress(SystemExit):
            _given(command, [*before, "--help"] if source or command.takes_paths else [EXAMPLE, *before, "--help"])
        return
    from t5like.commands.help import page
    from t5like.runs.directory import config_of

    print(page(command, None if command.takes_paths else config_of(source or EXAMPLE), source), end="")


def _quiet_libraries() -> None:
    """Keep from the terminal what absl and TensorFlow log below errors."""
    import logging  # which takes a tenth of the time of `t5like --help`, as traceback does

    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _asks_for_help(arguments: Sequence[str]) -> bool:
    """True for `t5like`, `t5like help` and `t5like data --help`, which is no command."""
    if not arguments or arguments[0] in ("help", *ASKING):
        return True
    return arguments[0] not in COMMANDS and arguments[1:2] != [] and arguments[1] in ASKING


def _command(arguments: Sequence[str]) -> tuple[Command, list[str]]:
    """The command, named by one word or two, and what follows it."""
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in COMMANDS:
            return COMMANDS[name], list(arguments[words:])
    seconds = [name.split()[1] for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    if seconds:
        raise UserError(f"t5like {arguments[0]} needs one of {', '.join(seconds)} after it.")
    raise UserError(f"There is no command {arguments[0]!r}{did_you_mean(arguments[0], COMMANDS)}")


def _given(command: Command, rest: list[str]) -> tuple[Any, ...]:
    """The arguments of a command's function from the words after its name."""
    flags = (number for number, word in enumerate(rest) if word.startswith("-") and word != "-")
    words = next(flags, len(rest))
    asks = rest[words:] and rest[words] in ASKING
    if command.takes == "names" or (command.takes_paths and (words or asks)):
        from t5like.config import flags

        return rest[:words], flags.parse(command.options, rest[words:], f"t5like {command.name} PATH...")
    if not words:
        source = f"a {SHOWN[command.takes].split()[0]} first: "
        source += (
            "a run directory." if command.takes == "branch" else f"a preset such as {EXAMPLE}, or a run directory."
        )
        raise UserError(f"t5like {command.name} needs {'a PATH first.' if command.takes_paths else source}")
    if command.takes == "run and files":
        return finetune.given(rest[:words], rest[words:])
    if command.takes not in FOLLOWED:
        return _configure(command, rest[0], rest[1:])
    if words < 2 and not asks:
        raise UserError(f"t5like {command.name} {rest[0]} needs {FOLLOWED[command.takes]} after it.")
    return *_configure(command, rest[0], rest[min(words, 2) :]), rest[1]


def _configure(command: Command, source: str, flags: Sequence[str]) -> tuple[Config, Any]:
    """The config and options of a command. What reads a run takes its config from the run directory, also where the
    SOURCE is the preset that it was started from."""
    from t5like.commands.source import based, branched
    from t5like.config.flags import override
    from t5like.runs.changes import require_same_model
    from t5like.runs.directory import RunDirectory, config_of, relocated

    def overridden(config: Config) -> tuple[Config, Any]:
        config, rest = based(config, flags)
        return override(config, command.options, rest, f"t5like {command.name} {source}")

    if command.takes == "branch":
        return branched(config_of(source), flags, overridden)
    given = config_of(source)
    config, options = overridden(given)
    if command.takes == "config":
        return config, options
    run = RunDirectory(path_of(config.train.directory))
    if not run.path.is_dir():
        raise UserError(f"There is no run in {run.path}: `t5like train {source}` makes one.")
    if (kept := relocated(run.config(), str(run.path))) != given:
        config, options = overridden(kept)
    require_same_model(run, config)
    return config, options


def main() -> None:
    """The entry point `t5like`: 0 done, 1 a bug, 2 a mistake, 75 for another try, 128 + n stopped by signal n."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Whatever that level, TensorFlow says of oneDNN that it is on. Here it reads data, and multiplies no matrices.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    set_flags()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show Chinese shows escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        with Signals(end_at_once):
            run(sys.argv[1:])
            sys.stdout.flush()
    except UserError as error:
        _end(error.status, str(error))
    except PermissionError as error:
        _end(2, f"{error.filename} cannot be opened: {error.strerror}.")
    except KeyboardInterrupt:
        _end(130, "stopped by SIGINT.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (InterruptedRunError, TransientError) as error:
        _end(error.status, str(error))
    except Exception:
        import traceback

        traceback.print_exc()
        _end(1)


def _end(status: int, sentence: str = "") -> NoReturn:
    """End the process, and its part in a run of several."""
    if sentence:
        print(f"t5like: {sentence}", file=sys.stderr, flush=True)
    if distributed := sys.modules.get("t5like.processes.distributed"):
        distributed.leave(status)
    sys.exit(status)
