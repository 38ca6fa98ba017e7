"""The files of a task: which of those that are named is which split, and of which kind they are."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from t5like.config import Source
from t5like.config.sources import COMPRESSED, kind_of, sides
from t5like.data.sources import rows_of
from t5like.data.sources.files import readable
from t5like.data.sources.folders import is_saved
from t5like.data.sources.matching import by_fsspec, matching_files
from t5like.errors import UserError
from t5like.storage import etils_path
from t5like.tasks.asked import Reading

SPLITS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "devel", "eval"),
    "test": ("test", "tst", "testing"),
}
"""Words in the names of files, which say their split."""
HEAD = 2**16
"""Bytes of a file that tell of which kind it is."""
LISTS = ("data", "rows", "examples", "records", "instances", "items", "train")
"""Usual names of the list of records within a JSON object."""


def source_of(files: Sequence[str], validation: str = "", test: str = "", reading: Reading | None = None) -> Source:
    """The source that files make: one, several of which the names say the split, a glob or a folder of these, parallel
    files, or a folder that Hugging Face's `datasets` saved.

    Raises:
      UserError: there is no such file, or several for one split that no glob names.
    """
    if len(files) == 1 and is_saved(files[0]):
        return _saved(files[0], validation, test)
    splits = _by_split(_expanded(files))
    given = {"validation": validation, "test": test}
    paths = {name: [given[name]] if given.get(name) else splits[name] for name in SPLITS}
    if not paths["train"]:
        raise UserError(f"{' '.join(files)} has no training file: name one train, or give it alone.")
    first = paths["train"]
    kind = _parallel(first) or _kind(first[0])
    named = {name: " ".join(own) if kind == "parallel" else _glob(own) for name, own in paths.items()}
    source = Source(kind=kind, path=named["train"], validation=named["validation"], test=named["test"])  # pyright: ignore[reportArgumentType]
    if kind == "csv" and not (reading and reading.delimiter) and _separates_by_space(first[0]):
        source = dataclasses.replace(source, delimiter=" ")
    given = {name: value for name, value in vars(reading or Reading()).items() if value != getattr(Source(), name)}
    source = dataclasses.replace(source, **given)
    return dataclasses.replace(source, records=_records(source)) if kind == "json" else source


def _saved(folder: str, validation: str, test: str) -> Source:
    """The source of a folder that `datasets` saved, with the splits that it has."""
    there = [path.name for path in etils_path(folder).iterdir() if path.is_dir()]
    if not there or (etils_path(folder) / "state.json").exists():
        return Source(kind="arrow", path=folder, validation=validation, test=test)
    found = {name: [each for each in there if _split_of(each) == name] for name in SPLITS}
    train = found["train"] or there
    own = [given or (found[name] or [""])[0] for name, given in (("validation", validation), ("test", test))]
    return Source(kind="arrow", path=folder, split=train[0], validation=own[0], test=own[1])


def _expanded(files: Sequence[str]) -> list[str]:
    """The names of single files: those within a folder that have a known kind, those of a glob, or as they are."""
    found: list[str] = []
    for name in files:
        if not by_fsspec(name) and etils_path(name).is_dir():
            there = sorted(str(path) for path in etils_path(name).iterdir() if path.is_file())
            own = [path for path in there if kind_of(path) not in ("", "text")] or [p for p in there if _split_of(p)]
            if not own:
                raise UserError(f"{name} is a folder without files of examples: give the files.")
            found += own
        else:
            found += [path for path, _ in matching_files(name)]
    return list(dict.fromkeys(found))


def _by_split(files: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split; what no name says, and a file that stands alone, is for training."""
    found: dict[str, list[str]] = {name: [] for name in SPLITS}
    for file in files:
        found[_split_of(file) or "train"].append(file)
    if not found["train"] and len(files) == 1:
        return {**found, "train": list(files), "validation": [], "test": []}
    return found


def _split_of(file: str) -> str:
    """The split that a file's name says; of several words the first counts."""
    words = re.split(r"[^a-z]+", PurePosixPath(file).name.lower())
    names = {word: split for split, usual in SPLITS.items() for word in usual}
    return next((names[word] for word in words if word in names), "")


def _glob(files: Sequence[str]) -> str:
    """The name or glob of files.

    Raises:
      UserError: no glob names them and no others.
    """
    if len(files) < 2:
        return "".join(files)
    before, behind = _shared(files), _shared([file[::-1] for file in files])[::-1]
    glob = f"{before}*{behind}"
    if [path for path, _ in matching_files(glob)] != sorted(files):
        raise UserError(
            f"{', '.join(files)} are several files of one split, which no glob names: put them into a folder of their "
            "own, or give train, validation and test files by names that say so."
        )
    return glob


def _shared(names: Sequence[str]) -> str:
    """The beginning of all names."""
    first, last = min(names), max(names)
    end = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:end]


def _parallel(files: Sequence[str]) -> str:
    """`parallel` for files of lines of which each has one for each line of the others, such as train.en train.zh."""
    lines = len(files) > 1 and all(kind_of(file) in ("", "text") for file in files)
    return "parallel" if lines and sides(" ".join(files)) else ""


def _kind(file: str) -> str:
    """The kind of a file, by its name, or by its first lines where that is none of a table."""
    named = kind_of(file)
    if named not in ("", "text"):
        return named
    lines = _first_lines(file)
    text = "\n".join(lines).lstrip("\ufeff")
    if text.startswith("{"):
        return "jsonl"
    if text.startswith("["):
        return "json"
    filled = [line for line in lines if line.strip()]
    widths = {len(line.split()) for line in filled if not line.startswith(("#", "-DOCSTART-"))}
    if "" in map(str.strip, lines[1:]) and len(widths) == 1 and 1 < min(widths) < 12:
        return "conll"
    if filled and len(tabs := {line.count("\t") for line in filled}) == 1 and min(tabs) > 0:
        return "tsv"
    return "csv"


def _separates_by_space(file: str) -> bool:
    """True for lines such as `4 Who was Galileo ?`, whose first word is one of a few labels."""
    if kind_of(file) not in ("", "text"):
        return False
    words = [line.split(" ", 1) for line in _first_lines(file) if line.strip()]
    first = {each[0] for each in words}
    return len(words) > 1 and all(len(each) == 2 for each in words) and len(first) <= max(2, len(words) // 2)


def _first_lines(file: str) -> list[str]:
    with readable(file) as opened:
        head = opened.read(HEAD)
    lines = head.decode("utf-8", "replace").splitlines()
    return lines[:-1] if len(head) == HEAD else lines


def _records(source: Source) -> str:
    """The path to the list of records in a JSON object; empty where the file has the records themselves."""
    first = next(iter(rows_of(dataclasses.replace(source, validation="", test=""), "train")), None)
    return ".".join(_lists(first.values)) if first else ""


def _lists(values: Mapping[str, Any]) -> Iterator[str]:
    lists = [name for name, value in values.items() if _is_records(value)]
    texts = [value for name, value in values.items() if isinstance(value, str) and name not in ("version", "name")]
    name = next((name for name in LISTS if name in lists), lists[0] if lists and not texts else "")
    if name:
        yield name
        for below in ("paragraphs", "qas"):  # SQuAD's
            values = values[name][0]
            if not _is_records(values.get(below)):
                return
            yield (name := below)


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def stem(source: Source) -> str:
    """The name of a source's training files, without split and endings: reviews of data/reviews.train.tsv.gz; that of
    the folder where nothing is left."""
    if source.kind == "tfds":
        return re.sub(r"\W+", "_", source.dataset)
    first = (next(iter(sides(source.path).values()), "") if source.kind == "parallel" else "") or source.path
    path = PurePosixPath(first)
    name = path.name
    while (end := PurePosixPath(name).suffix) and (end in COMPRESSED or kind_of(f"x{end}") or end[1:].isalnum()):
        name = name.removesuffix(end)
    words = [word for word in re.split(r"[^\w]+|_", name.replace("*", "")) if word and not _split_of(word)]
    return "_".join(words) or path.parent.name or "task"
