"""Parallel files: a row is made of a line of each, as in Moses' corpora (`train.en`, `train.zh`).

Files that belong together have one name, with what differs in braces: `train.{en,zh}`; what differs names the fields.
"""

import codecs
import functools
import itertools
import re
from collections.abc import Iterator

from t5like.config import Source
from t5like.config.sources import sides, with_braces
from t5like.data.sources.encoding import check_share, decode
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.files import read_lines
from t5like.data.sources.matching import matching_files
from t5like.data.sources.records import Row, Wanted, too_long
from t5like.errors import UserError


def parallel_files(pattern: str, setting: str) -> list[tuple[str, int]]:
    """The names in braces of files that belong together, with the bytes of all of them.

    Raises:
      UserError: there are none, or one of several is missing.
    """
    sizes = {side: dict(matching_files(path, setting)) for side, path in sides(pattern).items()}
    first = next(iter(sizes))
    names = [_braced(with_braces(pattern), first, path) for path in sizes[first]]
    for side, found in sizes.items():
        expected = {sides(name)[side] for name in names}
        if alone := sorted(expected ^ found.keys()):
            state = "missing" if alone[0] in expected else "alone"
            raise UserError(
                f"data.sources.N.{setting}={pattern!r}: {alone[0]} is {state}; each of parallel files needs its others."
            )
    return [(name, sum(sizes[side][path] for side, path in sides(name).items())) for name in names]


def _braced(pattern: str, side: str, path: str) -> str:
    """The name in braces of a file that the pattern matches with one of its sides."""
    before, inside, behind = pattern.replace("}", "{").split("{")
    tail, head = re.split(r"[*?\]]|(?=/)", before)[-1], re.split(r"[*?\[]", behind)[0]
    place = path.rindex(tail + side + head) + len(tail)
    return f"{path[:place]}{{{inside}}}{path[place + len(side) :]}"


def read_parallel(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The lines of files that belong together, empty ones too, by the names of their fields.

    Raises:
      DamagedError: the files have different numbers of lines, or one is in another encoding.
    """
    paths = sides(name)
    streams = [read_lines(source, path, 0, None) for path in paths.values()]
    invalid, characters = dict.fromkeys(paths, 0), dict.fromkeys(paths, 0)
    for number, lines in enumerate(itertools.zip_longest(*streams)):
        if None in lines:
            rest = (number + (line is not None) + sum(1 for _ in s) for line, s in zip(lines, streams, strict=True))
            counts = [f"{path} has {count:,} lines" for path, count in zip(paths.values(), rest, strict=True)]
            raise DamagedError(f"{' and '.join(counts)}: parallel files need a line for each line of the others.")
        values, wrong = {}, 0
        for side, line in zip(paths, lines, strict=True):
            raw = line.content or b""
            values[side], count = decode(raw if number else raw.removeprefix(codecs.BOM_UTF8))
            invalid[side], characters[side] = invalid[side] + count, characters[side] + len(values[side])
            wrong += count
        long = next((path for path, line in zip(paths.values(), lines, strict=True) if line.content is None), None)
        where = functools.partial("{}, line {},".format, long or name, number + 1)
        problem = f"{too_long(source)}: raise it, or break the line in each of the files." if long else ""
        yield Row(number, values, where, wrong, problem=problem)
    for side, path in paths.items():
        if source.on_error != "skip":
            check_share(source, path, invalid[side], characters[side])
