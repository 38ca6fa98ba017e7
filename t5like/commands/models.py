"""Commands that train a model or use one: train, eval, generate, fill."""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from t5like.config import Config
from t5like.errors import UserError

NEXT = {
    "encoder-decoder": "generate {run} --prompt 'Return the <extra_id_0> of the list.'",
    "decoder": "generate {run} --prompt 'def main():' --temperature 0.8 --top_p 0.9",
    "encoder": "fill {run} --text 'for i in [MASK](10):'",
}
"""What to try with a run of each family."""


def train(config: Any, options: Any) -> None:
    from t5like.processes.preflight import processes
    from t5like.train.loop import train

    with processes(config, {}, writes=True):
        train(config)


def evaluate(config: Any, options: Any) -> None:
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run, prepare_store
    from t5like.train.evaluate import Evaluator, require_objective

    require_objective(config)
    with processes(config, {"options": options}), open_run(config, options.step) as restored:
        prepare_store(restored)
        figures = Evaluator(restored.network, restored.vocabulary)(restored.params)
        print(f"{restored.run.path}, step {restored.step:,}, {figures['tokens']:,.0f} held-out targets:")
        print(f"  loss               {figures['loss']:8.3f} nats a token")
        print(f"  perplexity         {figures['perplexity']:8.2f} a token")
        print(f"  bits per byte      {figures['bits_per_byte']:8.3f}")
        print(f"  accuracy           {figures['accuracy']:8.3f} of all targets, with sentinels and ends")
        print(f"  accuracy on text   {figures['text_accuracy']:8.3f}")
        if "exact_match" in figures:
            print(f"  exact match        {figures['exact_match']:8.3f} of whole targets, token for token")
        if "label_accuracy" in figures:
            print(f"  accuracy of pairs  {figures['label_accuracy']:8.3f} (next sentence or not)")
        print(f"  loss on text       {figures['text_loss']:8.3f} (without sentinels and ends)")
        print(f"  unigram on text    {figures['unigram_text_loss']:8.3f} (the same tokens by their frequency alone)")
        record = {"step": restored.step, **figures}
        _keep(restored.run.path / "eval.json", json.dumps(record, indent=2) + "\n")


def generate(config: Any, options: Any) -> None:
    prompts = list(_prompts(options))
    if not prompts and not options.held_out:
        raise UserError(f"--prompt_file {options.prompt_file} is empty: write a prompt on each line.")
    from t5like.infer.generate import fill_sentinels, generator_of
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run

    asked = {"options": options, "prompts": prompts}
    with processes(config, asked), open_run(config, options.step) as restored:
        if options.held_out:
            _print_passages(restored, options)
            return
        generator = generator_of(restored, options.sampling, options.tokens, options.seed)
        for at in range(0, len(prompts), options.batch):
            part = prompts[at : at + options.batch]
            for prompt, answer in zip(part, generator(restored.params, part, at), strict=True):
                filled = fill_sentinels(prompt, answer) if "<extra_id_" in prompt else None
                record = {"prompt": prompt, "answer": answer} | ({"filled": filled} if filled else {})
                print(json.dumps(record, ensure_ascii=False) if options.json else filled or answer, flush=True)


def fill(config: Any, options: Any) -> None:
    from t5like.infer.fill import fill
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run

    with processes(config, {"options": options}), open_run(config, options.step) as restored:
        for text in options.text:
            masks = fill(restored, text, options.top)
            if options.json:
                print(
                    json.dumps({"text": text, "masks": [[c._asdict() for c in m] for m in masks]}, ensure_ascii=False)
                )
                continue
            print(text)
            for number, candidates in enumerate(masks, 1):
                listed = "  ".join(f"{c.text} {c.probability:.3f}" for c in candidates)
                print(f"  [MASK] {number}: {listed}")


def _prompts(options: Any) -> Iterator[str]:
    yield from options.prompt
    if options.prompt_file:
        try:
            file = sys.stdin if options.prompt_file == "-" else open(options.prompt_file, encoding="utf-8")
            with file:
                yield from (line.rstrip("\n") for line in file)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompt_file {options.prompt_file} cannot be read: {error}.") from None


def _print_passages(restored: Any, options: Any) -> None:
    from t5like.infer.passages import as_json_lines, as_text, held_out_passages
    from t5like.runs.opened import prepare_store

    prepare_store(restored)
    passages = held_out_passages(restored, options.held_out)
    file = restored.run.samples / f"{restored.step}.jsonl"
    _keep(file, as_json_lines(passages))
    print(as_json_lines(passages) if options.json else as_text(passages), end="")
    if not options.json:
        run = restored.run.path
        print(f"Everything lies in {run}; these passages in {file}. Next:")
        for command in (
            NEXT[restored.config.model.family],
            f"train {{run}} {longer(restored.config)}",
            "eval {run} --eval.rows 10000",
        ):
            print(f"  t5like {command.format(run=run)}")


def longer(config: Config) -> str:
    """The flags with which a finished run goes on to twice its steps; a schedule that has come to 0 is stretched."""
    steps = 2 * config.train.steps
    ended = config.optimizer.stops(config.train.steps) and config.optimizer.end(config.train.steps) < steps
    return f"--train.steps {steps}" + (f" --optimizer.schedule_steps {steps}" if ended else "")


def _keep(file: pathlib.Path, text: str) -> None:
    """Writes a result into the run directory, from one process of the run."""
    from t5like.processes.distributed import leads

    if not leads():
        return
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from None
