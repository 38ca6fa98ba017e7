"""The commands. The only place that prints errors and exits; each imports what it needs when it needs it."""

import importlib
import io
import logging
import os
import pathlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from t5like.errors import UserError, did_you_mean
from t5like.xla import set_flags

HELP = """t5like: pretrain, fine-tune, evaluate and sample Transformer language models in JAX.

  t5like train SOURCE           train from scratch or --train.init_from RUN, or go on where the run stands
  t5like prepare SOURCE         learn the vocabulary and tokenise the documents (train does it by itself)
  t5like plan SOURCE            memory, time and price of a run on devices that nobody owns yet
  t5like inspect SOURCE         the very batch of a training step, decoded
  t5like eval SOURCE            held-out loss, perplexity and bits per byte of a run
  t5like generate SOURCE        text from prompts, or answers to held-out passages
  t5like fill SOURCE            likeliest pieces for each [MASK], for encoders
  t5like import PATH RUN        a run directory from a Hugging Face folder or a T5X checkpoint
  t5like export SOURCE FOLDER   a Hugging Face folder from a run
  t5like verify SOURCE FOLDER   whether a run and a Hugging Face folder are the same model
  t5like architectures [NAMES]  the published sizes, with their parameters
  t5like data stats PATH        what a store holds and what its filters dropped
  t5like data verify PATH       whether a store's files are as they were written
  t5like vocabulary train PATH  learn pieces from text files or from a preset's sources
  t5like vocabulary show PATH   a text in pieces, their numbers, and back

SOURCE is a preset (configs/tiny_t5.py) or a run directory (runs/tiny_t5). Every field of a config can be
overridden: t5like train configs/tiny_t5.py --train.steps 2000 --optimizer.learning_rate 0.01
PATH is a store, preset or run directory; a vocabulary is learned from presets, text, JSON lines and Parquet,
also 'corpus/*.txt.gz', and shown from its folder, spiece.model, tokenizer.json or vocab.txt as well.
`t5like COMMAND SOURCE --help` lists the options and every field.
"""


class Command(NamedTuple):
    """Where a command is written, the class of its options, and what it takes before them."""

    function: str
    options: str
    takes: Literal["config", "run", "folder", "paths", "names"]


COMMANDS = {
    "train": Command("models.train", "NoOptions", "config"),
    "prepare": Command("data.prepare", "PrepareOptions", "config"),
    "plan": Command("plan.plan", "PlanOptions", "config"),
    "inspect": Command("data.inspect", "InspectOptions", "config"),
    "data stats": Command("data.stats", "NoOptions", "paths"),
    "data verify": Command("data.verify", "NoOptions", "paths"),
    "vocabulary train": Command("vocabulary.train", "VocabularyOptions", "paths"),
    "vocabulary show": Command("vocabulary.show", "ShowOptions", "paths"),
    "eval": Command("models.evaluate", "EvalOptions", "run"),
    "generate": Command("models.generate", "GenerateOptions", "run"),
    "fill": Command("models.fill", "FillOptions", "run"),
    "import": Command("convert.import_", "ImportOptions", "paths"),
    "export": Command("convert.export", "ExportOptions", "folder"),
    "verify": Command("convert.verify", "VerifyOptions", "folder"),
    "architectures": Command("convert.architectures", "NoOptions", "names"),
}


def run(arguments: Sequence[str]) -> None:
    """Carries out a command line, without its program name."""
    if not arguments or arguments[0] in (*ASKING, "help"):
        print(HELP, end="")
        return
    if arguments[1:] and arguments[1] in ASKING and not _takes_paths(arguments[0]):
        print(HELP, end="")
        return
    name, rest = _named(list(arguments))
    command = COMMANDS[name]
    asked = command.takes == "paths" and rest and rest[0] in ASKING
    if command.takes in NEEDS and not asked and (not rest or rest[0].startswith("-")):
        raise UserError(f"t5like {name} needs {NEEDS[command.takes]}")
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)
    module, _, function = command.function.partition(".")
    if command.takes in ("paths", "names"):
        given = _paths(name, rest, command.options)
    elif command.takes == "folder":
        asked = rest[1:] and rest[1] in ASKING
        if not asked and (not rest[1:] or rest[1].startswith("-")):
            raise UserError(f"t5like {name} {rest[0]} needs the Hugging Face folder after it.")
        given = (*_configure(name, rest[0], rest[1:] if asked else rest[2:], command), rest[1])
    else:
        given = _configure(name, rest[0], rest[1:], command)
    getattr(importlib.import_module(f"t5like.commands.{module}"), function)(*given)


ASKING = ("-h", "--help")
PRESET_OR_RUN = "a SOURCE first: a preset such as configs/tiny_t5.py, or a run directory."
NEEDS = {"config": PRESET_OR_RUN, "run": PRESET_OR_RUN, "folder": PRESET_OR_RUN, "paths": "a PATH first."}


def _takes_paths(name: str) -> bool:
    return name in COMMANDS and COMMANDS[name].takes == "paths"


def _named(arguments: list[str]) -> tuple[str, list[str]]:
    """The command, of one word or two, and what follows it."""
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in COMMANDS:
            return name, arguments[words:]
    seconds = [name.split()[1] for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    if seconds:
        raise UserError(f"t5like {arguments[0]} needs one of {', '.join(seconds)} after it.")
    raise UserError(f"There is no command {arguments[0]!r}{did_you_mean(arguments[0], COMMANDS)}")


def _paths(name: str, rest: Sequence[str], options: str) -> tuple[list[str], Any]:
    """The paths before the first flag, and the options."""
    from t5like.config import options as kinds
    from t5like.config import presets

    first = next((number for number, word in enumerate(rest) if word.startswith("-")), len(rest))
    return list(rest[:first]), presets.parse(getattr(kinds, options), rest[first:], f"t5like {name} PATH...")


def _configure(name: str, source: str, flags: Sequence[str], command: Command) -> tuple[Any, Any]:
    """The config and options of a command. What reads a run takes its config from the run directory, also where the
    SOURCE is the preset that it was started from."""
    from t5like.config import options as kinds
    from t5like.config import presets
    from t5like.runs.changes import require_same_model
    from t5like.runs.directory import RunDirectory, relocated

    def override(config: Any) -> tuple[Any, Any]:
        return presets.override(config, getattr(kinds, command.options), flags, f"t5like {name} {source}")

    given = RunDirectory(pathlib.Path(source))
    config, parsed = override(relocated(given.config(), source) if given.path.is_dir() else presets.load(source))
    if command.takes == "config":
        return config, parsed
    run = RunDirectory(pathlib.Path(config.train.directory).expanduser())
    if not run.path.is_dir():
        raise UserError(f"There is no run in {run.path}: `t5like train {source}` makes one.")
    config, parsed = override(relocated(run.config(), str(run.path)))
    require_same_model(run, config)
    return config, parsed


def main() -> None:
    """The entry point `t5like`: 0 done, 1 a bug, 2 a user's mistake, 128 + n stopped by signal n."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    set_flags()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show Chinese shows escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        run(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        _end(2, str(error))
    except PermissionError as error:
        _end(2, f"{error.filename} cannot be opened: {error.strerror}.")
    except KeyboardInterrupt:
        _end(130, "stopped by SIGINT.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if type(error).__name__ == "InterruptedRunError":
            _end(getattr(error, "status", 130), str(error))
        traceback.print_exc()
        _end(1)


def _end(status: int, sentence: str = "") -> NoReturn:
    """Ends the process, and its part in a run of several."""
    if sentence:
        print(f"t5like: {sentence}", file=sys.stderr, flush=True)
    if distributed := sys.modules.get("t5like.processes.distributed"):
        distributed.leave(status)
    sys.exit(status)
