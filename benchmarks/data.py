"""The data engine in figures; prints one JSON line each.

    python benchmarks/data.py [stream] [packing] [order] [prepare]

The text is Python's own library, or with T5LIKE_DATA=FOLDER the novels in FOLDER/pretrain_en_novels for `prepare`.
Speeds are the best of three. `stream` counts raw tokens a second that reach numpy through tf.data, batches of 128 rows;
`through_tensorstore` reads the same local store as one at gs:// would be read.
"""

import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from t5like import config
from t5like.data.order import hash_of, locate
from t5like.data.packing.packing import pack
from t5like.data.prepare import prepare
from t5like.data.prepare.workers import pool
from t5like.data.rows.stream import Rows, training_stream

BATCH, STEPS = 128, 150
MODES = ("[R]", "[S]", "[X]")
OBJECTIVES = {
    "span_corruption": config.Objective(),
    "causal": config.Objective(kind="causal"),
    "masked": config.Objective(kind="masked"),
    "ul2": config.Objective(kind="ul2", denoisers=config.UL2),
    "next_sentence": config.Objective(kind="next_sentence"),
}


def print_line(name: str, **figures: Any) -> None:
    print(json.dumps({"benchmark": name, **figures}), flush=True)


def settings(store: str, **fields: Any) -> config.Data:
    pieces = config.Vocabulary(
        size=4096, extra=(config.MASK, config.CLS, config.SEP, *MODES), train_characters=1_000_000
    )
    return config.Data(**{"store": store, "vocabulary": pieces, "length": 512, **fields})


def stream(folder: str) -> None:
    base = settings(f"{folder}/store")
    for name, objective in OBJECTIVES.items():
        data = dataclasses.replace(base, objective=objective)
        vocabulary = prepare(data, quiet)
        local, remote = (Rows(data, vocabulary, "train", remote) for remote in (False, True))
        print_line(
            f"stream/{name}",
            million_tokens_a_second=round(best(lambda rows=local: tokens_a_second(rows)) / 1e6, 1),
            through_tensorstore=round(best(lambda rows=remote: tokens_a_second(rows)) / 1e6, 1),
            rows_without_tf_data=round(best(lambda rows=local: rows_a_second(rows)) / 1e6, 1),
            window=data.window,
            lengths=list(data.lengths.values()),
        )
    rows = Rows(base, prepare(base, quiet), "train")
    next(training_stream(rows, 0, 1, BATCH))
    started = time.perf_counter()
    next(training_stream(rows, 10**9, 10**9 + 1, BATCH))
    print_line("stream/first_batch_at_step_10^9", seconds=round(time.perf_counter() - started, 3))


def tokens_a_second(rows: Rows) -> float:
    batches = training_stream(rows, 0, STEPS + 10, BATCH)
    for _ in range(10):
        next(batches)
    started = time.perf_counter()
    for _ in batches:
        pass
    return STEPS * BATCH * rows.data.window / (time.perf_counter() - started)


def rows_a_second(rows: Rows) -> float:
    started = time.perf_counter()
    for step in range(STEPS // 3):
        rows(step * BATCH + np.arange(BATCH))
    return STEPS // 3 * BATCH * rows.data.window / (time.perf_counter() - started)


def packing(folder: str) -> None:
    random = np.random.default_rng(0)
    sizes = np.column_stack([random.integers(20, 301, 200_000), random.integers(5, 81, 200_000)])
    started = time.perf_counter()
    order, starts = pack(sizes, (512, 128))
    seconds = time.perf_counter() - started
    rows = len(starts) - 1
    greedy = rows_of_greedy(sizes, (512, 128))
    print_line(
        "packing/pairs_into_512_128",
        fill=round(float(sizes.sum() / (rows * 640)), 4),
        fill_of_encoder_and_decoder=[round(float(x), 4) for x in sizes.sum(axis=0) / (rows * np.array([512, 128]))],
        rows_above_lower_bound=round(float(rows / (sizes.sum(axis=0) / [512, 128]).max() - 1), 4),
        fill_in_order=round(float(sizes.sum() / (greedy * 640)), 4),
        million_tokens_a_second=round(float(sizes.sum()) / seconds / 1e6, 1),
        examples_a_second=round(len(order) / seconds),
    )
    base = settings(f"{folder}/store", documents=True, objective=config.Objective(kind="causal"))
    base = dataclasses.replace(base, sources=(config.Source(),))
    rows_object = Rows(base, prepare(base, quiet), "train")
    print_line("packing/documents_stream", million_tokens_a_second=round(tokens_a_second(rows_object) / 1e6, 1))


def rows_of_greedy(sizes: np.ndarray, capacity: tuple[int, int]) -> int:
    """Rows of a packer that closes a row as soon as the next example does not fit."""
    rows, used = 1, np.zeros(2, int)
    for size in sizes:
        if (used + size > capacity).any():
            rows, used = rows + 1, np.zeros(2, int)
        used = used + size
    return rows


def order(folder: str) -> None:
    count = 2**18
    for size in (10**6, 10**9, 10**12):
        first = np.random.default_rng(0).integers(0, size - count)
        started = time.perf_counter()
        _, places = locate(np.arange(first, first + count), size, 0)
        seconds = time.perf_counter() - started
        x = places / size
        observed = np.bincount((x * 1024).astype(int), minlength=1024)
        print_line(
            f"order/{size:.0e}",
            serial_correlation=round(float(np.corrcoef(x[1:], x[:-1])[0, 1]), 5),
            correlation_with_index=round(float(np.corrcoef(np.arange(count), x)[0, 1]), 5),
            chi_square_of_1023=round(float(((observed - count / 1024) ** 2 / (count / 1024)).sum()), 1),
            distinct=len(np.unique(places)) == count,
            million_rows_a_second=round(count / seconds / 1e6, 2),
        )
    keys = hash_of(0, np.arange(count))
    print_line("order/keys", distinct=len(np.unique(keys)) == count)


def prepare_speed(folder: str) -> None:
    source = config.Source()
    if root := os.environ.get("T5LIKE_DATA"):
        source = config.Source(kind="jsonl", path=unpacked(pathlib.Path(root) / "pretrain_en_novels", folder))
    base = settings("unused", sources=(source,), held_out=0.05)
    trained = prepare(dataclasses.replace(base, store=f"{folder}/first"), quiet)
    model = f"{folder}/first/vocabulary/spiece.model"
    pieces = dataclasses.replace(base.vocabulary, kind="file", path=model)
    figures = {}
    for processes in (1, 2):
        data = dataclasses.replace(base, vocabulary=pieces, store=f"{folder}/{processes}")
        started = time.perf_counter()
        prepare(data, quiet, pool(processes))
        seconds = time.perf_counter() - started
        figures[f"processes_{processes}"] = round(text_bytes(data) / seconds / 1e6, 2)
    texts = list(some_texts(source))
    started = time.perf_counter()
    trained.encode_documents(texts)
    bare = sum(len(text.encode()) for text in texts) / (time.perf_counter() - started) / 1e6
    print_line("prepare", megabytes_a_second=figures, tokeniser_alone=round(bare, 2), source=source.kind)


def unpacked(source: pathlib.Path, folder: str) -> str:
    """The novels as a plain file, which several processes can share."""
    import lzma

    plain = pathlib.Path(folder) / "novels.jsonl"
    plain.write_bytes(lzma.decompress((source / "train.jsonl.xz").read_bytes()))
    return str(plain)


def some_texts(source: config.Source) -> Iterator[str]:
    from t5like.data import sources

    for unit in sources.units((source,))[:4]:
        for document in sources.read(source, unit):
            yield from document.parts


def text_bytes(data: config.Data) -> int:
    manifest = json.loads((epath.Path(data.store) / "manifest.json").read_text())
    return sum(split["bytes"] for source in manifest["sources"] for split in source["splits"].values())


def best(measure: Callable[[], float]) -> float:
    return max(measure() for _ in range(3))


def quiet(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    parts = {"stream": stream, "packing": packing, "order": order, "prepare": prepare_speed}
    with tempfile.TemporaryDirectory() as temporary:
        for part in sys.argv[1:] or parts:
            parts[part](temporary)
