"""A preparation in which everything happens: several units, filters of every kind, documents packed into rows."""

import pathlib
import pydoc_data.topics

from t5like import config

SENTENCES = [
    line.strip() for topic in ("if", "for", "class", "with") for line in pydoc_data.topics.topics[topic].split(". ")
]
LEAKED = "这 是 一 首 诗 of thirteen words that the evaluation set holds as well you see"


def lines_of(unit: int, count: int) -> list[str]:
    """Documents of a file: most differ, some are repeated exactly, nearly, in other files, or are leaked."""
    lines = [
        f"{unit} {n} " + " ".join(SENTENCES[(unit + n * k) % len(SENTENCES)] for k in (1, 2, 3)) for n in range(count)
    ]
    lines = [line.replace("\n", " ").replace("\r", " ") for line in lines]
    return [*lines, *lines[:3], *(f"{line} nearly" for line in lines[3:6]), "short", "in every file " * 9, LEAKED]


def settings(folder: pathlib.Path, store: str = "store", units: int = 4, count: int = 40, **changes) -> config.Data:
    """Sources of one unit each, and the store in the same folder."""
    for number in range(units):
        (folder / f"{number}.txt").write_text("\n".join(lines_of(number, count)))
    (folder / "evaluation.txt").write_text(LEAKED)
    files = tuple(config.Source(kind="text", path=f"{folder}/{n}.txt", document="line") for n in range(units))
    filters = (
        config.UnicodeForm(form="NFKC"),
        config.Length(least=10),
        config.ExactDuplicates(),
        config.NearDuplicates(permutations=32, similarity=0.7),
        config.Overlap(sources=(config.Source(kind="text", path=f"{folder}/evaluation.txt"),), drop=True),
    )
    fields = {
        "sources": files,
        "filters": filters,
        "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=10),
        "objective": config.Objective(kind="causal"),
        "documents": True,
        "length": 64,
        "held_out": 0.2,
        **changes,
    }
    return config.Data(store=f"{folder}/{store}", **fields)


def contents(store: str) -> dict[str, bytes]:
    """Path and bytes of every file of a store."""
    root = pathlib.Path(store)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
