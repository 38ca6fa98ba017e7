"""Encodings of text: bytes as text, and what a file is whose bytes are none.

A file is looked at before it is read, so that one in another encoding, an archive or a picture is refused and never
becomes documents of replacement characters.
"""

import codecs
import contextlib
import re
import tarfile

from t5like.config import Source
from t5like.data.sources.compression import compression_of
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.files import is_utf8, readable

SAMPLE = 2**16
"""Bytes that are looked at, in all."""
PLACES = 8
"""Places of a file at which they are, where a file can be read from its middle."""
LEAST = 4
"""Invalid characters that every file may have."""
CANDIDATES = ["gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1252", "cp1251", "koi8_r"]
"""Encodings that text without marks may be in, besides UTF-8 and UTF-16."""
BINARY = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\x04\x22\x4d\x18": "compressed by lz4: unpack it",
    b"\x1f\x9d": "compressed by compress: unpack it",
    b"\x5d\x00\x00": "compressed by lzma: unpack it",
    b"PAR1\x15": "a Parquet file: set data.sources.N.kind='parquet'",
    b"ARROW1\x00": "an Arrow file: set data.sources.N.kind='arrow'",
    b"\xff\xff\xff\xff": "an Arrow file: set data.sources.N.kind='arrow'",
    b"Obj\x01": "an Avro file: turn it into Parquet or JSON lines",
    b"SQLite format 3\x00": "an SQLite database: export its text",
    b"%PDF-": "a PDF document: extract its text",
    b"\xd0\xcf\x11\xe0": "an Office document: save it as text",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF89a": "a picture",
    b"\x89HDF": "an HDF5 file",
    b"\x80\x04": "a pickle of Python",
    b"\x80\x05": "a pickle of Python",
    b"\x7fELF": "a program",
    b"MZ\x90\x00": "a program",
}
"""First bytes of files that are no text, and what they are."""


def decode(raw: bytes) -> tuple[str, int]:
    """UTF-8 as text, and the number of sequences in it that are none and become U+FFFD."""
    try:
        return raw.decode(), 0
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        return text, text.count("\ufffd") - raw.count("\ufffd".encode())


def check_text(source: Source, name: str, start: int, stop: int | None) -> None:
    """Look at a file, or the bytes [start, stop) of one, and refuse what is no text in the source's encoding.

    Raises:
      DamagedError: it is an archive, something else than text, or text in another encoding.
      UserError: it cannot be read.
    """
    samples = _samples(name, start, stop)
    if not start:
        _check_kind(name, samples[0])
    decoder = codecs.getincrementaldecoder(source.encoding)
    texts = [decoder("replace").decode(sample) for sample in samples]
    invalid = sum(text.count("\ufffd") + len(re.findall("\0+", text)) for text in texts)
    if is_utf8(source.encoding):
        invalid -= sum(sample.count("\ufffd".encode()) for sample in samples)
    cut = 3 * len(samples[1:])  # a place in the middle may begin within a character
    check_share(source, name, invalid - cut, sum(map(len, texts)), samples)


def check_share(source: Source, name: str, invalid: int, characters: int, samples: list[bytes] | None = None) -> None:
    """
    Raises:
      DamagedError: of the characters more are invalid than the source allows.
    """
    if invalid <= max(LEAST, source.most_invalid * characters):
        return
    likely = _likely(b"".join(samples or _samples(name, 0, None)))
    remedy = f"it may be in {likely}: set data.sources.N.encoding={likely!r}" if likely else "it may be no text"
    raise DamagedError(
        f"{name}: {invalid / characters:.1%} of {characters:,} characters are invalid in {source.encoding}; {remedy}, "
        f"or raise data.sources.N.most_invalid={source.most_invalid}."
    )


def _samples(name: str, start: int, stop: int | None) -> list[bytes]:
    """The beginning of a file, or several places of a range, which is one of a file that can be read anywhere."""
    with readable(name) as file:
        if start:
            file.seek(start)
        samples = [_lines(file.read(SAMPLE)) if start else file.read(SAMPLE)]
        if stop is not None and stop - start > SAMPLE * PLACES:
            for place in range(1, PLACES):
                file.seek(start + (stop - start) // PLACES * place)
                samples.append(_lines(file.read(SAMPLE // PLACES)))
    return samples


def _lines(sample: bytes) -> bytes:
    """The lines that lie whole in a sample, which may begin and end within a character; all of it if there is none."""
    return sample[sample.find(b"\n") + 1 : sample.rfind(b"\n") + 1] or sample


def _check_kind(name: str, head: bytes) -> None:
    """Refuse archives and well-known files that are no text, by their first bytes."""
    if is_tar(head):
        raise DamagedError(f"{name} is a tar archive: unpack it and give the files in it.")
    for magic, kind in BINARY.items():
        if head.startswith(magic):
            raise DamagedError(f"{name} is no text but {kind}.")
    if compression_of("", head):
        raise DamagedError(f"{name} is compressed twice: decompress it once.")


def is_tar(head: bytes) -> bool:
    """True if these are the first bytes of a tar archive: its first header has the checksum that it names."""
    with contextlib.suppress(tarfile.HeaderError):
        return bool(head[:512].strip(b"\0")) and bool(tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape"))
    return False


def _likely(sample: bytes) -> str:
    """The encoding that bytes are probably in; empty where none fits."""
    import charset_normalizer

    for mark, encoding in ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")):
        if sample.startswith(mark):
            return encoding
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if even + odd > len(sample) // 100 and max(even, odd) > 4 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    if decode(sample)[1] <= LEAST:
        return "utf-8"
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample.decode(encoding, "replace")
        if sum(character.isascii() or "\u3000" <= character <= "\u9fff" for character in text) > 0.95 * len(text):
            return encoding
    best = charset_normalizer.from_bytes(sample, cp_isolation=CANDIDATES).best()
    return best.encoding if best else ""
