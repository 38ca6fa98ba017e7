"""The manifest of a store: what the records of all units say together."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5like import config
from t5like.data.files import write_whole
from t5like.data.prepare.dropped import FILE, join_parts
from t5like.data.prepare.held_out import Tail
from t5like.data.prepare.inputs import described
from t5like.data.prepare.job import Job, Task, store_type
from t5like.data.prepare.progress import Report
from t5like.data.sources.identity import Inputs
from t5like.data.store import SPLITS
from t5like.data.store.forms import FORMAT
from t5like.data.vocabulary import Pieces, Vocabulary
from t5like.errors import UserError
from t5like.json_files import sealed
from t5like.versions import VERSION, versions

EXAMPLES = 5
"""Dropped documents that the manifest shows for each filter."""


def finish(
    folder: epath.Path,
    data: config.Data,
    pieces: Pieces,
    inputs: Inputs,
    tasks: Sequence[Task],
    tail: Tail | None,
    by_number: Mapping[int, dict[str, Any]],
    report: Report,
    seconds: float,
) -> None:
    """Write the manifest from the units' records, and before it the list of what was dropped, and report it.

    Raises:
      UserError: a split has no documents.
    """
    records = [by_number[number] for number, _ in tasks]
    sources = []
    for number, source in enumerate(data.sources):
        own = [record for record, (_, unit) in zip(records, tasks, strict=True) if unit.source == number]
        sources.append(
            {"name": data.source_names[number], "kind": source.kind, "parts": data.objective.spec.parts}
            | _sums(data, own)
        )
    for source in sources:
        if skipped := source.get("skipped"):
            report(f"Source {source['name']!r}: {skipped['count']:,} records skipped, e.g. {skipped['examples'][0]}")
        if any(cut := source.get("cut", ())):
            where = "data.length" if len(data.lengths) == 1 else "data.length or data.target_length"
            question = "their beginning" if data.objective.kind == "prompt_target" else "their end"
            report(
                f"Source {source['name']!r}: rows are too short for {cut[0]:,} of the questions, which lose "
                f"{question}, and for {cut[1]:,} of the targets, which lose their end; raise {where} to keep all."
            )
    totals = {
        split: {
            name: sum(source["splits"][split][name] for source in sources) for name in ("documents", "bytes", "tokens")
        }
        for split in SPLITS
    }
    for split, total in totals.items():
        if not total["documents"]:
            raise UserError(
                f"data.sources has no {split} documents with data.held_out={data.held_out}: "
                f"{'raise' if split == 'validation' else 'lower'} data.held_out or add text."
            )
    invalid = sum(record["invalid"] for record in records)
    manifest = {
        "format": FORMAT,
        "dtype": store_type(data, pieces.size).str,
        "vocabulary_sha256": Vocabulary(pieces).hash,
        "created_with": {"t5like": VERSION, **versions(("sentencepiece", "tokenizers"))},
        "invalid_sequences": invalid,
        "sources": sources,
    }
    join_parts(Job(str(folder), data), tasks)
    # All but the inputs, of which there may be many, is for people too.
    head = json.dumps(manifest, indent=2, ensure_ascii=False).removesuffix("\n}")
    end = json.dumps(described(data, inputs, tasks, tail is not None, records))
    write_whole(folder / "manifest.json", sealed(f'{head},\n  "inputs": {end}\n}}\n'))
    if invalid:
        report(f"{invalid:,} invalid UTF-8 sequences were replaced by U+FFFD.")
    for filter, counts in zip(data.filters, _filter_sums(data, records), strict=True):
        lines = f", {counts['lines']:,} lines removed" if filter.kind == "repeated_lines" else ""
        report(f"Filter {filter.kind}: {counts['dropped']:,} documents dropped, {counts['noted']:,} reported{lines}.")
    if data.filters:
        report(f"Every document that was dropped, with the reason: {folder / FILE}.")
    train, held_out = totals["train"], totals["validation"]
    report(
        f"Prepared {folder} in {seconds:.0f} s: {train['documents']:,} documents, {train['tokens']:,} tokens, "
        f"{train['bytes'] / 1e6:.1f} MB for training; {held_out['documents']:,} documents, "
        f"{held_out['tokens']:,} tokens held out."
    )


def _sums(data: config.Data, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entry of one source in the manifest."""
    splits = {}
    for split in SPLITS:
        parts = [record["splits"][split] for record in records if split in record["splits"]]
        splits[split] = {
            **{name: sum(part[name] for part in parts) for name in ("documents", "bytes", "tokens")},
            "longest": max((part["longest"] for part in parts), default=0),
            "files": [part["file"] | {name: part[name] for name in ("tokens", "documents")} for part in parts],
        }
    read = {name: sum(record["read"][name] for record in records) for name in ("documents", "bytes")}
    read["lines_removed"] = sum(record["lines_removed"] for record in records)
    sums = {"units": len(records), "read": read, "splits": splits, "filters": _filter_sums(data, records)}
    faults = [record["skipped"] for record in records if record.get("skipped", {}).get("count")]
    if any(cut := [sum(counts) for counts in zip(*(record.get("cut", (0, 0)) for record in records), strict=True)]):
        sums["cut"] = cut
    if not faults:
        return sums
    examples = [example for fault in faults for example in fault["examples"]][:EXAMPLES]
    return sums | {"skipped": {"count": sum(fault["count"] for fault in faults), "examples": examples}}


def _filter_sums(data: config.Data, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    sums = []
    for number, filter in enumerate(data.filters):
        counts = [record["filters"][number] for record in records]
        examples = [example for count in counts for example in count["examples"]][:EXAMPLES]
        totals = {name: sum(count.get(name, 0) for count in counts) for name in ("dropped", "noted", "lines")}
        sums.append({"kind": filter.kind, **totals, "examples": examples})
    return sums
