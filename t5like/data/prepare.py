"""Sources to a store: the vocabulary is learned, then each unit of a source is tokenised once.

A unit's files are a pure function of the unit, each is written whole or not at all, and its record comes last; an
interrupted preparation therefore goes on with the first unit that has no record, and ends with the same bytes as an
undisturbed one.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath

from t5like import config
from t5like.data import sources
from t5like.data.order import permute
from t5like.data.store import SPLITS, Split, read_manifest, token_type, write_whole
from t5like.data.vocabulary import Bytes, Pieces, Vocabulary, load_pieces, open_vocabulary, train_pieces
from t5like.errors import UserError

Unit = tuple[config.Source, tuple[str, ...]]
Report = Callable[[str], None]
LEARNED = ("kind", "size", "path", "coverage", "train_characters")


def prepare(data: config.Data, report: Report = print) -> Vocabulary:
    """Makes the store of `data` unless it is finished, and returns its vocabulary with the run's special pieces.

    Raises:
      UserError: the folder is the store of something else, a source is missing or empty, or a vocabulary of that
        size cannot be learned.
    """
    store = epath.Path(data.store).expanduser()
    plan = _plan(data)
    _check_plan(store, plan)
    if read_manifest(store) is None:
        started = time.monotonic()
        units = [(source, unit) for source in data.sources for unit in sources.units(source)]
        try:
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"data.store={data.store} cannot be written: {error.strerror or error}.") from None
        write_whole(store / "plan.json", json.dumps(plan, indent=2).encode())
        pieces = _pieces(store, data, units, report)
        records = [_tokenise(store, data, pieces, number, unit, units, report) for number, unit in enumerate(units)]
        _finish(store, data, pieces, records, report, time.monotonic() - started)
    if (store / "units").exists():
        (store / "units").rmtree()
    pieces = open_vocabulary(store / "vocabulary").pieces
    return Vocabulary(pieces, data.vocabulary.extra, data.vocabulary.sentinels)


def _plan(data: config.Data) -> dict[str, Any]:
    """All that a store depends on."""
    learned = {name: getattr(data.vocabulary, name) for name in LEARNED}
    return {"sources": [dataclasses.asdict(s) for s in data.sources], "vocabulary": learned, "held_out": data.held_out}


def _check_plan(store: epath.Path, plan: dict[str, Any]) -> None:
    """Refuses a folder in which something was prepared by another plan; one without a vocabulary holds nothing yet."""
    if not (store / "vocabulary" / "vocabulary.json").exists():
        return
    there = json.loads((store / "plan.json").read_text())
    if different := [name for name in plan if there.get(name) != plan[name]]:
        raise UserError(
            f"{store} was prepared with other {' and '.join(f'data.{name}' for name in different)}: "
            "choose another data.store, or delete that folder."
        )


def _pieces(store: epath.Path, data: config.Data, units: list[Unit], report: Report) -> Pieces:
    folder, settings = store / "vocabulary", data.vocabulary
    if (folder / "vocabulary.json").exists():
        return open_vocabulary(folder).pieces
    if settings.kind == "bytes":
        pieces: Pieces = Bytes()
    elif settings.path:
        pieces = load_pieces(epath.Path(settings.path).expanduser())
    else:
        report(f"Learning {settings.size:,} {settings.kind} pieces from {data.store}'s sources ...")
        pieces = train_pieces(settings, _sample(data, units))
    if pieces.size != settings.size:
        raise UserError(f"{settings.path} has {pieces.size} pieces: set data.vocabulary.size={pieces.size}.")
    Vocabulary(pieces).save(folder)
    return pieces


def _sample(data: config.Data, units: list[Unit]) -> Iterator[str]:
    """Training documents of shuffled units, up to `data.vocabulary.train_characters`."""
    left = data.vocabulary.train_characters
    shuffled = permute(np.arange(len(units)), len(units), np.zeros(len(units), np.uint64))
    for source, unit in (units[number] for number in shuffled):
        for document in sources.read(source, unit):
            if split_of(document, data.held_out) == "train":
                yield document.text[:left]
                left -= len(document.text)
            if left <= 0:
                return


def split_of(document: sources.Document, held_out: float) -> Split:
    """The split that a hash of the document's group puts it in."""
    number = int.from_bytes(hashlib.blake2b(document.group.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return "validation" if number < held_out * 2**64 else "train"


def _tokenise(
    store: epath.Path, data: config.Data, pieces: Pieces, number: int, unit: Unit, units: list[Unit], report: Report
) -> dict[str, Any]:
    """Writes one unit's files and then its record, unless the record is there."""
    record_file = store / "units" / f"{number:05}.json"
    names = hashlib.sha256(repr(unit).encode()).hexdigest()
    if record_file.exists():
        record = json.loads(record_file.read_text())
        if record["names"] == names:
            return record
        raise UserError(
            f"The files of data.sources changed while {store} was being prepared: delete it and start again."
        )
    vocabulary, kind = Vocabulary(pieces), token_type(pieces.size)
    tokens = {split: bytearray() for split in SPLITS}
    record: dict[str, Any] = {"names": names, "invalid": 0, "documents": {}, "bytes": {}, "files": {}}
    counted = {split: [0, 0] for split in SPLITS}
    for document in sources.read(*unit):
        split = split_of(document, data.held_out)
        tokens[split] += np.array(vocabulary.encode_document(document.text), kind).tobytes()
        counted[split][0] += 1
        counted[split][1] += len(document.text.encode("utf-8", "replace"))
        record["invalid"] += document.invalid
    for split in SPLITS:
        record["documents"][split], record["bytes"][split] = counted[split]
        if tokens[split]:
            name = f"{number:05}.bin"
            sha256 = write_whole(store / split / name, bytes(tokens[split]))
            record["files"][split] = {"name": name, "tokens": len(tokens[split]) // kind.itemsize, "sha256": sha256}
    write_whole(record_file, json.dumps(record).encode())
    report(f"Tokenised {number + 1} of {len(units)} units.")
    return record


def _finish(
    store: epath.Path, data: config.Data, pieces: Pieces, records: list[dict[str, Any]], report: Report, seconds: float
) -> None:
    """Writes the manifest from the units' records."""
    splits: dict[str, Any] = {}
    for split in SPLITS:
        files = [record["files"][split] for record in records if split in record["files"]]
        splits[split] = {
            "documents": sum(record["documents"][split] for record in records),
            "bytes": sum(record["bytes"][split] for record in records),
            "tokens": sum(file["tokens"] for file in files),
            "files": files,
        }
        if not files:
            raise UserError(
                f"data.sources has no {split} documents with data.held_out={data.held_out}: "
                f"{'raise' if split == 'validation' else 'lower'} data.held_out or add text."
            )
    invalid = sum(record["invalid"] for record in records)
    manifest = {
        "dtype": token_type(pieces.size).str,
        "vocabulary_sha256": Vocabulary(pieces).hash,
        "invalid_sequences": invalid,
        "splits": splits,
        "sentencepiece": importlib.metadata.version("sentencepiece"),
    }
    write_whole(store / "manifest.json", json.dumps(manifest, indent=2).encode())
    if invalid:
        report(f"{invalid:,} invalid UTF-8 sequences were replaced by U+FFFD.")
    train, held_out = splits["train"], splits["validation"]
    report(
        f"Prepared {store} in {seconds:.0f} s: {train['documents']:,} documents, {train['tokens']:,} tokens, "
        f"{train['bytes'] / 1e6:.1f} MB for training; {held_out['documents']:,} documents, "
        f"{held_out['tokens']:,} tokens held out."
    )
