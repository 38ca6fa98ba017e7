"""Runs for programs that load them: one of each family, one with a task and one with a head, of random parameters."""

import pathlib

from small import replace
from starts import BYTES, import_run, run_config, write_texts

from t5like.config import CLS, MASK, SEP, Objective, Source
from t5like.config.tasks import Task

TASK = Task(kind="classify", input="review", target="stars", labels=("good", "bad"))
WRITTEN = Objective(kind="sequence_to_sequence")
STARS = Objective(kind="classification", labels=2)


def write_runs(folder: pathlib.Path, *names: str) -> None:
    """Make some of runs/tiny_t5, runs/tiny_gpt, runs/tiny_bert, runs/reviews (a T5 with a task) and runs/stars (a BERT
    whose head has learned the same)."""
    text, reviews = write_texts(folder)["first"], folder / "reviews.tsv"
    rows = [f"{word} number {n}\t{'good' if word == 'fine' else 'bad'}" for n in range(40) for word in ("fine", "poor")]
    reviews.write_text("\n".join(["review\tstars", *rows]))
    task = {"data__sources": (Source(kind="files", path=str(reviews), task=TASK),)}
    framed = {"data__vocabulary": replace(BYTES, extra=(MASK, CLS, SEP))}
    changes = {
        "tiny_t5": ("t5", {}),
        "tiny_gpt": ("gpt", {}),
        "tiny_bert": ("bert", framed),
        "reviews": (
            "t5",
            task | {"data__objective": Objective(kind="sequence_to_sequence"), "data__target_length": 16},
        ),
        "stars": ("bert", {**task, **framed, "data__objective": STARS, "model__head": "sequence", "model__labels": 2}),
    }
    for name in names:
        family, own = changes[name]
        store = str(folder / "stores" / name)
        import_run(run_config(text, folder / "runs" / name, family, mesh__data=1, data__store=store, **own))
