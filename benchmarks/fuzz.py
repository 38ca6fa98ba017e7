"""Harms the files of every reader, 10^5 times in all, and prints a JSON line for each with what became of them.

A file is refused in a sentence, read as before, or read as something else, which a guarded one (with a checksum or a
hash) never may be. Faults are tracebacks, and guarded files that were read as something else; the status is 1 if there
are any.

python benchmarks/fuzz.py [CASES [NAME]]
"""

import collections
import json
import pathlib
import sys
import tempfile
import time
import traceback
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from harmed_readers import Reader, outcomes, readers


def counts_of(name: str, reader: Reader, cases: int) -> dict[str, object]:
    """What became of a reader's file after so many harms, with the slowest case and up to five faults."""
    counts, faults, slowest = collections.Counter[str](), list[str](), 0.0
    for seed in range(cases):
        began = time.monotonic()
        try:
            (outcome,) = outcomes(reader, iter([seed]))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            reader.file.write_bytes(WHOLE[name])
            counts["traceback"] += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            faults.append(f"seed {seed}: {type(error).__name__} {str(error)[:100]} at {last.filename}:{last.lineno}")
            continue
        slowest = max(slowest, time.monotonic() - began)
        kind = "refused" if outcome.refused else "same" if outcome.same else "other"
        counts[kind] += 1
        if kind == "other" and reader.guarded:
            faults.append(f"seed {seed}: read as something else")
    made = {"reader": name, "guarded": reader.guarded, "cases": cases, **counts, "slowest_s": round(slowest, 3)}
    return made | {"faults": len(faults), **({"first": list(dict.fromkeys(faults))[:5]} if faults else {})}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    total, chosen = int(sys.argv[1]) if sys.argv[1:] else 10**5, sys.argv[2:]
    with tempfile.TemporaryDirectory() as place:
        made = readers(pathlib.Path(place) / "files") if pathlib.Path(place, "files").mkdir() is None else {}
        made = {name: reader for name, reader in made.items() if not chosen or chosen[0] in name}
        WHOLE = {name: reader.file.read_bytes() for name, reader in made.items()}
        found = []
        for name, reader in made.items():
            found.append(counts_of(name, reader, -(-total // len(made))))
            print(json.dumps(found[-1]), flush=True)
    faults = sum(int(str(each["faults"])) for each in found)
    print(
        json.dumps({"readers": len(found), "cases": sum(int(str(each["cases"])) for each in found), "faults": faults})
    )
    sys.exit(bool(faults))
