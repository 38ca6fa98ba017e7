"""From the files of a task to its score on the test split, by the commands that a user types; a JSON line for each set.

    T5LIKE_DATA=FOLDER python benchmarks/tasks.py [SET[:english] ...] [--seeds 3] [--folder runs_of_tasks]

Sets are those of task_files.py, which says how each is cut. Each is learned from scratch by a preset of configs/, or,
as SET:english, from a decoder that is pretrained first, by benchmarks/pretrain_english.py, if the folder has none yet.
`score` is the mean over the seeds, `spread` the largest minus the smallest, `interval` the bootstrap interval of seed
0. `seconds` are wall time of training and evaluation of one seed, and `cpu_seconds` what they computed. `baseline` is
scikit-learn's logistic regression on TF-IDF of words as they come by default, `tuned_baseline` that on words and pairs
of words with the C of 1, 4 and 16 that is best on the validation split. A set that FOLDER lacks is skipped.
"""

import argparse
import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from task_files import CLASSIFIED, SETS, classified

ROOT = pathlib.Path(__file__).parents[1]
PRETRAIN = ROOT / "benchmarks" / "pretrain_english.py"
CS = (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Trial:
    """A preset of configs/, flags that fit it to a set, and those of `t5like finetune`, for the pretrained decoder and,
    where the preset is not one of the task, from scratch."""

    preset: str
    flags: str = ""
    finetune: str = ""

    @property
    def from_scratch(self) -> str:
        """The command that learns the set from scratch."""
        if self.preset.startswith("tiny"):
            return f"finetune {self.preset} data {LABEL} {self.flags}"
        return f"train {self.preset} {self.flags}"


LABEL = "--task classify --input text --target label"
CLASSIFY = f"{LABEL} --head --model.pooling mean --model.dropout 0.3 --train.epochs 6"
TWO = "--input first --second second --target label --head --model.pooling mean --model.dropout 0.3"
NUMBERS = "--data.objective.kind regression --data.objective.labels 1 --model.labels 1"
TRIALS = {
    "trec": Trial("tiny_bert", "", CLASSIFY),
    "sst5": Trial("tiny_bert", "--train.epochs 5", CLASSIFY),
    "mr": Trial("tiny_bert", "--train.epochs 5", CLASSIFY),
    "snli": Trial("finetune_pair", "", f"--task pair {TWO}"),
    "stsb": Trial(
        "finetune_pair",
        f"--data.sources.0.task.kind regress --data.sources.0.task.labels {NUMBERS} --train.label_smoothing 0 "
        "--train.best task/pearson",
        f"--task regress {TWO}",
    ),
    "winobias": Trial("finetune_tag"),
    "squad": Trial("finetune_squad", "", "--task span --input question --context context --target answers --head"),
    "cmrc": Trial("finetune_squad", "--data.sources.0.task.chinese True"),
    "tatoeba": Trial("finetune_translate"),
    "csl": Trial("finetune_summarise", "--data.sources.0.task.chinese True"),
    "scitldr": Trial("finetune_summarise"),
    "django": Trial("finetune_code"),
    "java_cs": Trial(
        "finetune_code", "--data.length 256 --data.target_length 256 --data.sources.0.task.metric tokenized_bleu"
    ),
    "gsm8k": Trial("finetune_chat"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=[*TRIALS], metavar="SET[:english]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs_of_tasks"))
    given = parser.parse_args()
    root, folder = pathlib.Path(os.environ.get("T5LIKE_DATA", "")), given.folder.resolve()
    for named in given.sets:
        name, _, start = named.partition(":")
        if name not in SETS or start not in ("", "english"):
            parser.error(f"there is no set {named!r}; there are {', '.join(SETS)}")
        try:
            if "T5LIKE_DATA" not in os.environ:
                raise FileNotFoundError("T5LIKE_DATA names no folder")
            for needed in dict.fromkeys([name, *([start] if start else [])]):
                if not (folder / needed / "data").exists():
                    SETS[needed](root, folder / needed / "data")
        except FileNotFoundError as missing:
            print_line(set=named, skipped=str(missing))
            continue
        if "english" in (name, start):
            pretrain(folder / "english")
        if name != "english":
            print_line(**measured(name, bool(start), folder / name, given.seeds), **baselines(root, name))


def print_line(**figures: Any) -> None:
    print(json.dumps(figures, ensure_ascii=False), flush=True)


def pretrain(folder: pathlib.Path) -> None:
    """Pretrain the decoder of `english`, or go on with it, unless it is there."""
    run = folder / "runs" / "english"
    events = run / "events.jsonl"
    if events.is_file() and '"finished"' in events.read_text():
        return
    before = resources()
    t5like(["train", str(PRETRAIN)], folder)
    last = [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "eval/loss" in line][-1]
    figures = {name: round(last[f"eval/{name}"], 3) for name in ("loss", "accuracy")}
    print_line(set="english", step=last["step"], **figures, **since(before), command=f"t5like train {PRETRAIN.name}")


def measured(name: str, pretrained: bool, folder: pathlib.Path, seeds: int) -> dict[str, Any]:
    """The scores of a set, one a seed. `finetune` ends with the score of the test split."""
    trial, found = TRIALS[name], []
    if pretrained and not trial.finetune:
        raise SystemExit(f"{name} does not start from the pretrained decoder: leave :english out.")
    command = f"finetune ../english/runs/english data {trial.finetune}" if pretrained else trial.from_scratch
    for seed in range(seeds):
        run, before = f"runs/{'english' if pretrained else 'scratch'}_{seed}", resources()
        t5like(
            [*command.split(), "--train.directory", run, "--train.seed", str(seed), "--data.seed", str(seed)], folder
        )
        if command.startswith("train"):
            t5like(["eval", run, "--split", "test"], folder)
        (result,) = (folder / run / "results" / "test").glob("*/results.json")
        found.append((json.loads(result.read_text())[0], since(before)))
    return summary(name, pretrained, found) | {"command": f"t5like {' '.join(command.split())}"}


def summary(name: str, pretrained: bool, found: Sequence[tuple[dict[str, Any], dict[str, int]]]) -> dict[str, Any]:
    results = [result for result, _ in found]
    first, main = results[0], results[0]["main"]
    scores = [round(result["figures"][main], 2) for result in results]
    return {
        "set": name,
        "start": "english" if pretrained else "scratch",
        "metric": main,
        "score": round(sum(scores) / len(scores), 2),
        "seeds": scores,
        "spread": round(max(scores) - min(scores), 2),
        "interval": [round(end, 2) for end in first["intervals"][main]],
        "examples": first["examples"],
        "figures": {figure: round(value, 2) for figure, value in first["figures"].items()},
        **{figure: round(sum(used[figure] for _, used in found) / len(found)) for figure in found[0][1]},
    }


def baselines(root: pathlib.Path, name: str) -> dict[str, float]:
    """Accuracies of logistic regression on TF-IDF; none for other sets than those of one text and its class."""
    if name not in CLASSIFIED:
        return {}
    splits = {split: list(zip(*rows, strict=True)) for split, rows in classified(root, name).items()}
    chosen = [regression(splits, (1, 2), c) for c in CS]
    best = max(chosen, key=lambda scores: scores["validation"])
    return {"baseline": regression(splits, (1, 1), 1.0)["test"], "tuned_baseline": best["test"]}


def regression(splits: dict[str, list[Any]], ngrams: tuple[int, int], c: float) -> dict[str, float]:
    """The accuracy on each split but that of training."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=ngrams)
    classes, texts = splits["train"]
    model = LogisticRegression(C=c, max_iter=1000).fit(words.fit_transform(texts), classes)
    held = {split: splits[split] for split in ("validation", "test")}
    return {split: round(100 * model.score(words.transform(x), y), 2) for split, (y, x) in held.items()}


def t5like(words: Sequence[str], folder: pathlib.Path) -> None:
    print(f"{folder}$ t5like {shlex.join(words)}", file=sys.stderr, flush=True)
    subprocess.run(["t5like", *words], cwd=folder, check=True, stdout=sys.stderr)


def resources() -> tuple[float, float]:
    """The time, and seconds that the processors have worked for commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), used.ru_utime + used.ru_stime


def since(before: tuple[float, float]) -> dict[str, int]:
    wall, computed = resources()
    return {"seconds": round(wall - before[0]), "cpu_seconds": round(computed - before[1])}


if __name__ == "__main__":
    main()
