"""Text in any encoding is read or refused with its name, and archives are never taken for text."""

import bz2
import gzip
import io
import json
import os
import tarfile
import zipfile

import pytest
import zstandard
from settings import sentence
from test_formats import skipped, write
from test_sources import read_all, texts

from t5like import config

CHINESE, ENGLISH = "床前明月光，疑是地上霜。举头望明月，低头思故乡。", "The moon is bright tonight. "
FOREIGN = {
    "gb18030": (ENGLISH + CHINESE, "gb18030"),
    "gbk": (CHINESE, "gb18030"),
    "big5": ("這是繁體中文的文件，我們今天去學校。", "big5"),
    "shift_jis": ("これは日本語の文書です。今日は学校へ行きます。", "cp932"),
    "euc_kr": ("이것은 한국어 문서입니다. 오늘은 학교에 갑니다.", "cp949"),
    "latin-1": ("Le café était fermé à midi, où êtes-vous allé?", "cp1252"),
    "cp1251": ("Это документ на русском языке. Сегодня мы идём в школу.", "cp1251"),
    "utf-16": (ENGLISH + CHINESE, "utf-16"),
    "utf-16-le": (ENGLISH + CHINESE, "utf-16-le"),
    "utf-16-be": (ENGLISH, "utf-16-be"),
    "utf-32": (ENGLISH + CHINESE, "utf-32"),
}


@pytest.mark.parametrize("encoding", FOREIGN)
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_text_in_another_encoding_is_refused_with_its_name_and_read_with_it(tmp_path, kind, encoding):
    text, likely = FOREIGN[encoding]
    lines = [f"{text} {n}" for n in range(40)]
    content = {
        "text": "\n".join(lines),
        "jsonl": "\n".join(json.dumps({"text": line}, ensure_ascii=False) for line in lines),
        "csv": "\n".join(["text", *(f'"{line}"' for line in lines)]),
    }
    settings = {"kind": kind, "path": write(tmp_path, "a", content[kind].encode(encoding))}
    settings |= {"document": "line"} if kind == "text" else {}
    said = sentence(texts, **settings)
    assert f"are invalid in utf-8; it may be in {likely}: set data.sources.N.encoding={likely!r}, or raise" in said
    assert texts(**settings, encoding=encoding) == lines
    assert texts(**settings, encoding=likely) == lines
    assert not skipped(**settings)[0]


def test_a_few_invalid_characters_are_replaced_and_counted_in_every_encoding(tmp_path):
    content = "\n".join([CHINESE] * 50).encode("gb18030") + b"\n\xff\xff end"
    documents = read_all(kind="text", path=write(tmp_path, "a", content), document="line", encoding="gb18030")
    assert [d.parts[0] for d in documents] == [CHINESE] * 50 + ["\ufffd\ufffd end"]
    assert [d.invalid for d in documents] == [0] * 50 + [2]


def test_a_file_that_turns_invalid_behind_its_beginning_is_refused_too(tmp_path):
    content = ENGLISH.encode() * 5000 + CHINESE.encode("gb18030") * 200
    settings = {"kind": "text", "path": write(tmp_path, "a", content), "document": "line"}
    assert "are invalid in utf-8; " in sentence(texts, **settings)
    assert len(texts(**settings, most_invalid=0.1)) == 1


def test_a_large_file_is_looked_at_in_several_places(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.encoding.SAMPLE", 2**10)
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 2**16)
    content = f"{ENGLISH}\n".encode() * 2300 + f"{CHINESE}\n".encode("gb18030") * 2000
    path = write(tmp_path, "a", content)
    found, faults = skipped(kind="text", path=path, document="line")
    assert len(found) == 2260 and faults.count == 2 and "it may be in gb18030" in faults.examples[0]
    path = write(tmp_path, "b", f"{ENGLISH}{CHINESE}\n".encode() * 2000)
    assert len(texts(kind="text", path=path, document="line")) == 2000


def archive(kind: str, names=("a.txt", "b.txt")) -> bytes:
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
            for name in names:
                file.writestr(name, ENGLISH)
    else:
        with tarfile.open(fileobj=content, mode=f"w:{kind}", format=tarfile.USTAR_FORMAT) as file:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(ENGLISH)
                file.addfile(member, io.BytesIO(ENGLISH.encode()))
    return content.getvalue()


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
@pytest.mark.parametrize("name", ["a.txt", "a.tar.gz"])
@pytest.mark.parametrize("reader", [{"kind": "text", "document": "line"}, {"kind": "jsonl"}, {"kind": "files"}])
def test_an_archive_is_never_taken_for_text_whatever_it_is_called(tmp_path, kind, name, reader):
    if name == "a.tar.gz" and kind != "gz":
        name = f"a.tar{kind and '.'}{kind}"
    said = sentence(texts, path=write(tmp_path, name, archive(kind)), **reader)
    assert said.endswith(
        "is a zip archive of 2 files: unpack it and give the files in it; an archive of one file is read."
        if kind == "zip"
        else "is a tar archive: unpack it and give the files in it."
    )


def test_old_tar_archives_without_their_mark_are_known_by_the_checksum(tmp_path):
    content = bytearray(archive(""))
    content[257:265] = bytes(8)
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    assert "is a tar archive" in sentence(texts, kind="text", path=write(tmp_path, "a.txt", bytes(content)))


def test_a_zip_archive_of_one_file_is_read_and_a_locked_or_damaged_one_is_a_sentence(tmp_path):
    content = archive("zip", ("in/a.txt", "__MACOSX/._a.txt"))
    assert texts(kind="text", path=write(tmp_path, "a.zip", content)) == [ENGLISH]
    locked = bytearray(content)
    locked[6] |= 1
    locked[content.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in sentence(texts, kind="text", path=write(tmp_path, "b.zip", bytes(locked)))
    assert "cannot be read: " in sentence(texts, kind="text", path=write(tmp_path, "c.zip", content[:-30]))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7-Zip archive: unpack it."),
        (b"%PDF-1.7\n" + bytes(99), "a PDF document: extract its text."),
        (b"PAR1\x15\x04" + bytes(99), "a Parquet file: set data.sources.N.kind='parquet'."),
    ],
)
def test_files_that_are_no_text_are_refused_by_their_first_bytes(tmp_path, content, kind):
    assert sentence(texts, kind="text", path=write(tmp_path, "a.txt", content)).endswith(f"is no text but {kind}")


def test_noise_is_refused(tmp_path):
    path = write(tmp_path, "a", os.urandom(5000))
    assert "are invalid in utf-8; " in sentence(texts, kind="text", path=path)


def test_what_is_compressed_twice_is_refused(tmp_path):
    path = write(tmp_path, "a.txt.gz", gzip.compress(gzip.compress(ENGLISH.encode())))
    assert sentence(texts, kind="text", path=path).endswith("is compressed twice: decompress it once.")


@pytest.mark.parametrize("name", ["A.TXT.BZ2", "a.txt", "a.bz2"])
def test_bz2_is_known_by_its_name_in_any_case_or_by_its_content(tmp_path, name):
    assert texts(kind="text", path=write(tmp_path, name, bz2.compress(ENGLISH.encode()))) == [ENGLISH]


def test_zstandard_with_a_long_window_is_read(tmp_path):
    settings = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=28, enable_ldm=True, write_content_size=False
    )
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    path = write(tmp_path, "a.zst", packer.compress(ENGLISH.encode()) + packer.flush())
    assert texts(kind="text", path=path) == [ENGLISH]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoding": "utf-9"}, "data.sources.N.encoding='utf-9' is no encoding that Python knows; there are utf-8, "),
        ({"encoding": "rot13"}, "data.sources.N.encoding='rot13' is no encoding that Python knows; "),
        ({"most_invalid": 2.0}, "data.sources.N.most_invalid=2.0 must lie between 0 and 1"),
    ],
)
def test_an_encoding_that_is_none_is_refused_before_any_file_is_opened(fields, said):
    assert sentence(config.Source, kind="text", path="a", **fields).startswith(said)
