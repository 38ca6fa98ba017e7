"""Runs for programs that load them: one of each family, one with a task and one with a head, of random parameters."""

import pathlib

from small import replace
from starts import BYTES, import_run, run_config, write_texts

from t5like.config import CLS, MASK, SEP, Objective, Source
from t5like.config.tasks import Task

TASK = Task(kind="classify", input="review", target="stars", labels=("good", "bad"))
FRAMED = replace(BYTES, extra=(MASK, CLS, SEP))


def write_runs(folder: pathlib.Path) -> None:
    """Make runs/tiny_t5, runs/tiny_gpt, runs/tiny_bert, runs/reviews (a T5 with a task) and runs/stars (a BERT whose
    head has learned the same)."""
    text = write_texts(folder)["first"]
    reviews = folder / "reviews.tsv"
    rows = [f"{word} number {n}\t{'good' if word == 'fine' else 'bad'}" for n in range(40) for word in ("fine", "poor")]
    reviews.write_text("\n".join(["review\tstars", *rows]))
    task = {"data__sources": (Source(kind="files", path=str(reviews), task=TASK),), "mesh__data": 1}
    for name, family, changes in (
        ("tiny_t5", "t5", {"mesh__data": 1}),
        ("tiny_gpt", "gpt", {"mesh__data": 1}),
        ("tiny_bert", "bert", {"mesh__data": 1, "data__vocabulary": FRAMED}),
        (
            "reviews",
            "t5",
            task | {"data__objective": Objective(kind="sequence_to_sequence"), "data__target_length": 16},
        ),
        (
            "stars",
            "bert",
            task
            | {
                "data__objective": Objective(kind="classification", labels=2),
                "data__vocabulary": FRAMED,
                "model__head": "sequence",
                "model__labels": 2,
            },
        ),
    ):
        import_run(
            run_config(text, folder / "runs" / name, family, **changes, data__store=str(folder / "stores" / name))
        )
