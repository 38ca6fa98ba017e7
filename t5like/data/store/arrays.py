"""Numbers in files, read by position: memory-mapped where the files are local, through TensorStore where they are not.

A file is nothing but its numbers, little-endian. An array is a list of files one after the other, addressed by
64-bit positions, so that it may have any size. A memory map keeps a descriptor, so the files of an array that has too
many for the process's limit are opened for each read (7 us a piece where a map takes less than 1).
"""

import functools
import mmap
import os
import resource
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Integer

from t5like.errors import UserError
from t5like.storage import is_remote

Span = tuple[int, int, int]
"""File, first number in it, count."""
Fetch = Callable[[list[Span]], list[np.ndarray]]
MOST_MAPS = 2**14
"""Memory maps of one array; Linux allows a process 65,530."""


class Array:
    """Files of numbers as one array; `remote` reads local files as those of gs:// are read, to measure and to test."""

    def __init__(
        self, folder: epath.Path, names: Sequence[str], counts: Sequence[int], kind: np.dtype, remote: bool = False
    ):
        self.folder, self.names, self.kind = folder, tuple(names), kind
        self.remote = remote or is_remote(folder)
        self.starts = np.cumsum([0, *counts], dtype=np.int64)

    @property
    def size(self) -> int:
        return int(self.starts[-1])

    def read(
        self, positions: Integer[np.ndarray, " ranges"], lengths: Integer[np.ndarray, " ranges"]
    ) -> Integer[np.ndarray, " total"]:
        """The numbers at [position, position + length) of each range, one range after the other; int32 for tokens,
        uint64 as they are."""
        spans = self._spans(positions, lengths)
        result = np.empty(int(lengths.sum()), np.uint64 if self.kind.itemsize == 8 else np.int32)
        filled = 0
        for part in self._fetch(spans):
            result[filled : filled + len(part)] = part
            filled += len(part)
        return result

    def counts(self, vocab: int, most: int = 2**26) -> Integer[np.ndarray, " vocab"]:
        """Count each number below `vocab` among the first `most`."""
        counts, step = np.zeros(vocab, np.int64), 2**22
        for start in range(0, min(self.size, most), step):
            length = min(step, self.size - start, most - start)
            counts += np.bincount(self.read(np.array([start]), np.array([length])), minlength=vocab)[:vocab]
        return counts

    def _spans(self, positions: np.ndarray, lengths: np.ndarray) -> list[Span]:
        """The ranges by file; one that runs over the end of a file becomes several."""
        first = np.minimum(np.searchsorted(self.starts, positions, side="right"), len(self.names)) - 1
        inside = positions - self.starts[first]
        if (positions + lengths <= self.starts[first + 1]).all():
            return list(zip(first.tolist(), inside.tolist(), lengths.tolist(), strict=True))
        spans: list[Span] = []
        for number, at, length in zip(first.tolist(), inside.tolist(), lengths.tolist(), strict=True):
            while length:
                count = min(length, int(self.starts[number + 1] - self.starts[number]) - at)
                spans.append((number, at, count))
                number, at, length = number + 1, 0, length - count
        return spans

    @functools.cached_property
    def _fetch(self) -> Fetch:
        if self.remote:
            return self._through_tensorstore()
        return self._through_memory() if _may_stay_open(len(self.names)) else self._through_reads()

    def _through_memory(self) -> Fetch:
        # Files without numbers cannot be mapped.
        counts = np.diff(self.starts).tolist()
        maps = [self._map(number) if count else None for number, count in enumerate(counts)]
        counted = zip(maps, counts, strict=True)
        mapped = [np.empty(0, self.kind) if m is None else np.frombuffer(m, self.kind)[:count] for m, count in counted]

        def read(spans: list[Span]) -> list[np.ndarray]:
            for number in {number for number, _, count in spans if count}:
                # Memory behind the end of a file that was cut would end the process by SIGBUS, without a word.
                file = maps[number]
                if file is None or file.size() < mapped[number].nbytes:
                    raise self._cut(number)
            return [mapped[number][at : at + count] for number, at, count in spans]

        return read

    def _map(self, number: int) -> mmap.mmap:
        file = self._open(number)
        try:
            return mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        except ValueError:  # it is empty
            raise self._cut(number) from None
        finally:
            os.close(file)

    def _open(self, number: int) -> int:
        try:
            return os.open(self.folder / self.names[number], os.O_RDONLY)
        except FileNotFoundError:
            raise self._cut(number) from None

    def _cut(self, number: int) -> UserError:
        return UserError(f"{self.folder / self.names[number]} is missing, or shorter than its manifest says.")

    def _through_reads(self) -> Fetch:
        width = self.kind.itemsize

        def read(number: int, at: int, count: int) -> np.ndarray:
            file = self._open(number)
            try:
                content = os.pread(file, count * width, at * width)
            finally:
                os.close(file)
            if len(content) != count * width:
                raise self._cut(number)
            return np.frombuffer(content, self.kind)

        return lambda spans: [read(*span) for span in spans]

    def _through_tensorstore(self) -> Fetch:
        import tensorstore

        place: str | dict[str, Any] = f"file://{self.folder.resolve()}/"
        if is_remote(self.folder):
            from t5like.buckets import kvstore

            place = kvstore(f"{self.folder}/")
        files = tensorstore.KvStore.open(place).result()
        width = self.kind.itemsize

        def fetch(spans: list[Span]) -> list[np.ndarray]:
            waiting = [
                files.read(self.names[number], byte_range=slice(at * width, (at + count) * width))
                for number, at, count in spans
            ]
            parts = []
            for (number, _, count), future in zip(spans, waiting, strict=True):
                try:
                    part = np.frombuffer(future.result().value, self.kind)
                except ValueError as error:
                    if is_remote(self.folder):
                        from t5like.buckets import unreached

                        raise unreached(self.folder / self.names[number], error) from None
                    raise UserError(f"{self.folder / self.names[number]} cannot be read: {error}.") from None
                if len(part) != count:
                    raise self._cut(number)
                parts.append(part)
            return parts

        return fetch


def _may_stay_open(files: int) -> bool:
    """True if so many more files leave half of the process's descriptors free."""
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_MAPS if soft == resource.RLIM_INFINITY else min(MOST_MAPS, soft // 2 - lowest_free)
    return files <= most
