"""Three small sources of lines or of pairs, and the rows of any objective that are made of them."""

import dataclasses
import itertools
import json
import pathlib
import pydoc_data.topics

import numpy as np

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.rows.stream import Rows

PAIRS = ("sequence_to_sequence", "prompt_target")
EXTRA = (config.MASK, config.CLS, config.SEP, *config.FIM, "[R]", "[S]", "[X]")


def write_texts(folder: pathlib.Path) -> pathlib.Path:
    """Three files of lines and three of pairs."""
    for number, name in enumerate(("if", "for", "class")):
        lines = pydoc_data.topics.topics[name].split("\n")
        (folder / f"{number}.txt").write_text("\n".join(lines))
        pairs = [json.dumps({"q": line, "a": after}) for line, after in itertools.pairwise(lines) if line and after]
        (folder / f"{number}.jsonl").write_text("\n".join(pairs))
    return folder


def settings(folder: pathlib.Path, kind: str = "span_corruption", **changes) -> config.Data:
    """Three sources of bytes, mixed by rates unless `changes` have others."""
    pairs = kind in PAIRS
    ending = "jsonl" if pairs or kind == "next_sentence" else "txt"
    files = {"kind": "jsonl", "fields": ("q", "a")} if ending == "jsonl" else {"kind": "text", "document": "line"}
    files |= {"template": ("{q}\n{a}",)} if kind == "next_sentence" else {}
    sources = (
        config.Source(path=f"{folder}/{n}.{ending}", rate=rate, name=f"s{n}", **files)
        for n, rate in enumerate((0.5, 0.25, 0.25))
    )
    fields = {
        "store": f"{folder}/{kind if kind == 'next_sentence' else 'pairs' if pairs else 'store'}",
        "sources": tuple(sources),
        "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=11, extra=EXTRA),
        "objective": config.Objective(kind=kind, mean_span=3.0, denoisers=MODES if kind == "ul2" else ()),
        "length": 64,
        "target_length": 48 if kind == "sequence_to_sequence" else None,
        "held_out": 0.3,
    }
    return config.Data(**{**fields, **changes})


MODES = (
    config.Denoiser(mode="[R]", mean_span=3.0),
    config.Denoiser(mode="[S]", mean_span=None, density=0.25),
    config.Denoiser(mode="[X]", mean_span=8.0, density=0.5),
)


def without_rates(data: config.Data, **changes) -> config.Data:
    sources = tuple(dataclasses.replace(source, rate=None) for source in data.sources)
    return dataclasses.replace(data, sources=sources, **changes)


def rows_of(data: config.Data) -> dict[str, Rows]:
    vocabulary = prepare(data, [].append)
    return {split: Rows(data, vocabulary, split) for split in ("train", "validation")}


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        assert left[name].dtype == right[name].dtype


def join(parts: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
