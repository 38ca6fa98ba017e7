"""The commands. The only place that prints errors and exits; each imports what it needs when it needs it."""

import dataclasses
import json
import logging
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t5like.errors import UserError, did_you_mean

HELP = """t5like: pretrain, fine-tune, evaluate and sample Transformer language models in JAX.

  t5like train SOURCE       train from scratch, or go on where the run directory stands
  t5like prepare SOURCE     learn the vocabulary and tokenise the documents (train does it by itself)
  t5like eval SOURCE        held-out loss, perplexity and bits per byte of a run
  t5like generate SOURCE    text from prompts, or answers to held-out passages
  t5like fill SOURCE        likeliest pieces for each [MASK], for encoders

SOURCE is a preset (configs/tiny_t5.py) or a run directory (runs/tiny_t5). Every field of a config can be
overridden: t5like train configs/tiny_t5.py --train.steps 2000 --optimizer.learning_rate 0.01
`t5like COMMAND SOURCE --help` lists the options and every field.
"""


NEXT = {
    "encoder-decoder": "generate {run} --prompt 'Return the <extra_id_0> of the list.'",
    "decoder": "generate {run} --prompt 'def main():' --temperature 0.8 --top_p 0.9",
    "encoder": "fill {run} --text 'for i in [MASK](10):'",
}
"""What to try with a run of each family."""


def train(config: Any, options: Any) -> None:
    from t5like.train.loop import train

    train(config)


def prepare(config: Any, options: Any) -> None:
    from t5like.data.prepare import prepare

    prepare(config.data)


def evaluate(config: Any, options: Any) -> None:
    from t5like.infer.restored import restore
    from t5like.train.evaluate import Evaluator

    with restore(config, options.step) as restored:
        figures = Evaluator(restored.plan, restored.vocabulary)(restored.params)
        print(f"{restored.run.path}, step {restored.step:,}, {figures['tokens']:,.0f} held-out targets:")
        print(f"  loss               {figures['loss']:8.3f} nats a token")
        print(f"  perplexity         {figures['perplexity']:8.2f} a token")
        print(f"  bits per byte      {figures['bits_per_byte']:8.3f}")
        print(f"  accuracy           {figures['accuracy']:8.3f}")
        print(f"  loss on text       {figures['text_loss']:8.3f} (without sentinels and ends)")
        print(f"  unigram on text    {figures['unigram_text_loss']:8.3f} (the same tokens by their frequency alone)")
        record = {"step": restored.step, **figures}
        _keep(restored.run.path / "eval.json", json.dumps(record, indent=2) + "\n")


def generate(config: Any, options: Any) -> None:
    prompts = list(_prompts(options))
    if not prompts and not options.held_out:
        raise UserError(f"--prompt_file {options.prompt_file} is empty: write a prompt on each line.")
    from t5like.infer.generate import Generator, fill_sentinels, inference_net
    from t5like.infer.restored import restore

    with restore(config, options.step) as restored:
        net = inference_net(restored.config)
        if options.held_out:
            _print_passages(restored, net, options)
            return
        generator = Generator(net, restored.vocabulary, options.sampling, options.tokens, options.seed)
        for at in range(0, len(prompts), options.batch):
            part = prompts[at : at + options.batch]
            for prompt, answer in zip(part, generator(restored.params, part), strict=True):
                filled = fill_sentinels(prompt, answer) if "<extra_id_" in prompt else None
                record = {"prompt": prompt, "answer": answer} | ({"filled": filled} if filled else {})
                print(json.dumps(record, ensure_ascii=False) if options.json else filled or answer, flush=True)


def fill(config: Any, options: Any) -> None:
    from t5like.infer.fill import fill
    from t5like.infer.generate import inference_net
    from t5like.infer.restored import restore

    with restore(config, options.step) as restored:
        net = inference_net(restored.config)
        for text in options.text:
            masks = fill(restored.params, net, restored.vocabulary, text, options.top)
            if options.json:
                print(
                    json.dumps({"text": text, "masks": [[c._asdict() for c in m] for m in masks]}, ensure_ascii=False)
                )
                continue
            print(text)
            for number, candidates in enumerate(masks, 1):
                listed = "  ".join(f"{c.text} {c.probability:.3f}" for c in candidates)
                print(f"  [MASK] {number}: {listed}")


COMMANDS: dict[str, tuple[Callable[[Any, Any], None], str]] = {
    "train": (train, "NoOptions"),
    "prepare": (prepare, "NoOptions"),
    "eval": (evaluate, "EvalOptions"),
    "generate": (generate, "GenerateOptions"),
    "fill": (fill, "FillOptions"),
}


def _prompts(options: Any) -> Iterator[str]:
    yield from options.prompt
    if options.prompt_file:
        try:
            file = sys.stdin if options.prompt_file == "-" else open(options.prompt_file, encoding="utf-8")
            with file:
                yield from (line.rstrip("\n") for line in file)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompt_file {options.prompt_file} cannot be read: {error}.") from None


def _print_passages(restored: Any, net: Any, options: Any) -> None:
    from t5like.infer.passages import as_json_lines, as_text, held_out_passages

    passages = held_out_passages(restored, net, options.held_out)
    file = restored.run.samples / f"{restored.step}.jsonl"
    _keep(file, as_json_lines(passages))
    print(as_json_lines(passages) if options.json else as_text(passages), end="")
    if not options.json:
        run, steps = restored.run.path, 2 * restored.config.train.steps
        print(f"Everything lies in {run}; these passages in {file}. Next:")
        for command in (NEXT[net.model.family], f"train {{run}} --train.steps {steps}", "eval {run} --eval.rows 10000"):
            print(f"  t5like {command.format(run=run)}")


def _keep(file: pathlib.Path, text: str) -> None:
    """Writes a result into the run directory."""
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from None


def run(arguments: Sequence[str]) -> None:
    """Carries out a command line, without its program name."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"There is no command {name!r}{did_you_mean(name, COMMANDS)}")
    if rest and rest[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    if not rest or rest[0].startswith("-"):
        raise UserError(f"t5like {name} needs a SOURCE first: a preset such as configs/tiny_t5.py, or a run directory.")
    function, options = COMMANDS[name]
    config, options = _configure(name, rest[0], rest[1:], options)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)
    function(config, options)


def _configure(command: str, source: str, flags: Sequence[str], options: str) -> tuple[Any, Any]:
    """The config and options of a command. What reads a run takes its config from the run directory, also where the
    SOURCE is the preset that it was started from."""
    from t5like.config import options as kinds
    from t5like.config import presets
    from t5like.config.run_directory import RunDirectory

    def override(config: Any) -> tuple[Any, Any]:
        return presets.override(config, getattr(kinds, options), flags, f"t5like {command} {source}")

    given = RunDirectory(pathlib.Path(source))
    config, parsed = override(_in(source, given.config()) if given.path.is_dir() else presets.load(source))
    if command in ("train", "prepare"):
        return config, parsed
    run = RunDirectory(pathlib.Path(config.train.directory).expanduser())
    if not run.path.is_dir():
        raise UserError(f"There is no run in {run.path}: `t5like train {source}` makes one.")
    config, parsed = override(_in(str(run.path), run.config()))
    run.require_same_model(config)
    return config, parsed


def _in(directory: str, config: Any) -> Any:
    """The config of a run that may have been moved to the directory since it was written."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, directory=directory))


def main() -> None:
    """The entry point `t5like`: 0 done, 1 a bug, 2 a user's mistake, 128 + n stopped by signal n."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        run(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"t5like: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("t5like: stopped by SIGINT.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if type(error).__name__ != "InterruptedRunError":
            raise
        print(f"t5like: {error}", file=sys.stderr)
        sys.exit(getattr(error, "status", 130))
