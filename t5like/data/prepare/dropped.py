"""The list of all documents that filters dropped: `dropped.jsonl` in the store, a JSON object in each line.

    {"unit": 3, "source": 0, "filter": "near_duplicates", "document": "corpus/b.txt#120",
     "reason": "nearly the text of corpus/a.txt#17", "partner": "corpus/a.txt#17", "text": "The beginning of ..."}

Each unit writes a part of it while it is tokenised. `document` is a file and the byte at which the line begins, or the
number of the row or record; `partner` is the document that stayed instead.
"""

import json
import shutil
from collections.abc import Sequence
from typing import IO, cast

from etils import epath

from t5like.data.files import WholeFile
from t5like.data.prepare.job import DROPPED, Job, Task
from t5like.errors import UserError
from t5like.json_files import loads

FILE = "dropped.jsonl"
EXCERPT = 200


class DroppedPart:
    """The part of the list that one unit writes; of a store without filters it is none."""

    def __init__(self, file: WholeFile | None, number: int, source: int):
        self._file, self._place = file, {"unit": number, "source": source}

    def add(self, filter: str, document: str, reason: str, text: str, partner: str | None = None) -> None:
        if self._file:
            line = self._place | {"filter": filter, "document": document, "reason": reason}
            line |= {"partner": partner} if partner else {}
            self._file.write(json.dumps(line | {"text": text[:EXCERPT]}, ensure_ascii=False).encode("utf-8", "replace"))
            self._file.write(b"\n")

    def close(self) -> None:
        if self._file:
            self._file.close()


def part_of(job: Job, number: int) -> epath.Path:
    """The file of a unit's part."""
    return job.folder / DROPPED / f"{number:05}.jsonl"


def join_parts(job: Job, tasks: Sequence[Task]) -> None:
    """Write the list: what it says already of units that stayed as they were, and the parts of those made now."""
    if not job.data.filters:
        return
    parts = {number: part_of(job, number) for number, _ in tasks}
    made = {number: path for number, path in parts.items() if path.exists()}
    before = job.folder / FILE
    with WholeFile(before) as whole:
        if len(made) < len(parts) and before.exists():
            with cast(IO[bytes], before.open("rb")) as lines:
                for line in lines:
                    if _unit(line, before) in parts.keys() - made.keys():
                        whole.write(line)
        for path in made.values():
            with cast(IO[bytes], path.open("rb")) as part:
                shutil.copyfileobj(part, whole, 2**22)
        whole.close()


def _unit(line: bytes, file: epath.Path) -> int:
    """The unit of a line of the list.

    Raises:
      UserError: the line is damaged.
    """
    try:
        return int(loads(str(line, "utf-8"))["unit"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} is damaged: delete it, and the list goes on without what it said so far.") from None
