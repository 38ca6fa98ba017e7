"""Commands that make data or show it: prepare, inspect, data, vocabulary."""

import dataclasses
import itertools
import json
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any, Literal

from t5like.config import Data, Filter, Source, Vocabulary
from t5like.errors import UserError

HELD_OUT_CHARACTERS = 1_000_000
"""Text that a new vocabulary is reported on."""


def prepare(config: Any, options: Any) -> None:
    from t5like.data.prepare import prepare
    from t5like.data.workers import beam, pool

    workers = None
    if options.runner:
        workers = beam(options.runner, [f"--{option}" for option in options.runner_options])
    elif options.processes:
        workers = pool(options.processes)
    prepare(config.data, lambda text: print(text, flush=True), workers)


def inspect(config: Any, options: Any) -> None:
    import numpy as np

    from t5like.data.inspection import as_json, as_text
    from t5like.data.prepare import prepare
    from t5like.data.stream import Rows

    batch = config.train.batch
    if options.row is not None and not 0 <= options.row < batch:
        raise UserError(f"--row {options.row} must be at least 0 and below train.batch={batch}.")
    vocabulary = prepare(config.data, lambda text: print(text, file=sys.stderr, flush=True))
    rows = Rows(config.data, vocabulary, "train")
    numbers = (options.step - 1) * batch + np.arange(batch)
    numbers = numbers if options.row is None else numbers[[options.row]]
    features, origins, first = rows(numbers), rows.origins(numbers), options.row or 0
    if options.json:
        for record in as_json(features, vocabulary, origins, first):
            print(json.dumps(record, ensure_ascii=False))
        return
    color = options.color == "always" or (options.color == "auto" and sys.stdout.isatty())
    width = shutil.get_terminal_size((100, 24)).columns
    print(as_text(features, vocabulary, origins, color, first, width), end="")


def stats(paths: list[str], options: Any) -> None:
    from t5like.data.statistics import as_text

    for path in paths:
        print(as_text(_store(path).manifest), end="")


def verify(paths: list[str], options: Any) -> None:
    for path in paths:
        store = _store(path)
        if damaged := list(store.verify()):
            raise UserError(" ".join(damaged))
        print(f"{store.folder}: all files are as they were written ({store.bytes:,} bytes).")


def learn_vocabulary(paths: list[str], options: Any) -> None:
    from etils import epath

    from t5like.data.vocabulary_report import as_text, learn

    settings = Vocabulary(
        kind=options.kind,
        size=options.size,
        coverage=options.coverage,
        lowercase=options.lowercase,
        train_characters=options.characters,
    )
    output = epath.Path(options.output).expanduser()
    if output.exists() and any(output.iterdir()):
        raise UserError(f"--output {options.output} is not empty: choose another folder, or delete it.")
    held_out = list(_texts(paths, options.field, "validation", HELD_OUT_CHARACTERS))
    training = _texts(paths, options.field, "train", options.characters)
    print(as_text(learn(settings, training, held_out, output)), end="")
    print(f"The vocabulary lies in {output}; try: t5like vocabulary show {output} --text 'Some text.'")


def show_vocabulary(paths: list[str], options: Any) -> None:
    from etils import epath

    from t5like.data.vocabulary import Vocabulary as Pieces
    from t5like.data.vocabulary import load_pieces, open_vocabulary
    from t5like.data.vocabulary_report import shown

    for path in paths:
        place = epath.Path(path).expanduser()
        folder = next((f for f in (place, place / "vocabulary") if (f / "vocabulary.json").exists()), None)
        vocabulary = open_vocabulary(folder) if folder else Pieces(load_pieces(place))
        for text in options.text or [sys.stdin.read()]:
            print(shown(vocabulary, text), end="")


def _store(path: str) -> Any:
    """The store in a folder, or that of a preset or run directory."""
    from etils import epath

    from t5like.config import presets
    from t5like.data.store import Store

    place = pathlib.Path(path)
    if place.suffix == ".py" or (place / presets.FILE).is_file():
        path = presets.load(path).data.store
    return Store(epath.Path(path).expanduser())


def _texts(paths: list[str], field: str, split: Literal["train", "validation"], characters: int) -> Iterator[str]:
    """Text of the files' documents, or of presets' sources, in a split, up to so many characters."""
    from t5like.data.prepare import sample

    given = [_sources(path, field) for path in paths]
    sources = tuple(itertools.chain.from_iterable(sources for sources, _ in given))
    filters: tuple[Filter, ...] = tuple(itertools.chain.from_iterable(filters for _, filters in given))
    named = tuple(dataclasses.replace(s, name=str(number), rate=None) for number, s in enumerate(sources))
    yield from sample(named, filters, HELD_OUT, split, characters)


HELD_OUT = 0.05


def _sources(path: str, field: str) -> tuple[tuple[Source, ...], tuple[Filter, ...]]:
    """The sources and filters that a path stands for."""
    from t5like.config import presets

    if path.endswith(".py"):
        data: Data = presets.load(path).data
        return data.sources, data.filters
    stem = path
    for ending in (".gz", ".xz", ".zst"):
        stem = stem.removesuffix(ending)
    if stem.endswith((".jsonl", ".json")):
        return (Source(kind="jsonl", path=path, fields=(field,)),), ()
    if stem.endswith(".parquet"):
        return (Source(kind="parquet", path=path, fields=(field,)),), ()
    return (Source(kind="text", path=path, document="line"),), ()
