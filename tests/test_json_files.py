"""JSON of files is what was written, of the form that its reader needs, or a sentence."""

import json
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from settings import sentence

from t5like.json_files import DEEPEST, Count, Name, json_object, loads, mismatch, parse, read_object, sealed


class Inner(TypedDict):
    name: Name
    sizes: list[Count]
    pair: NotRequired[tuple[int, str]]


class Outer(TypedDict):
    format: Annotated[int, range(2, 3)]
    kind: Literal["a", "b"]
    files: dict[str, Inner]
    rate: float | None


GOOD = {"format": 2, "kind": "a", "files": {"x": {"name": "a.bin", "sizes": [0, 3], "pair": [1, "b"]}}, "rate": 0.5}


def changed(**changes: Any) -> dict[str, Any]:
    return GOOD | changes


def of_file(**changes: Any) -> dict[str, Any]:
    return changed(files={"x": {**GOOD["files"]["x"], **changes}})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (GOOD, ""),
        (changed(rate=None, further=[1]), ""),
        (changed(rate=3), ""),
        ({}, "format is missing"),
        ([], "it is a list"),
        (changed(format=3), "format is 3"),
        (changed(format=True), "format is true"),
        (changed(kind=["a"]), "kind is a list"),
        (changed(rate=float("inf")), "rate is Infinity"),
        (changed(rate=float("nan")), "rate is NaN"),
        (changed(files=[]), "files is a list"),
        (of_file(name="../a"), 'files.x.name is "../a"'),
        (of_file(name=".."), 'files.x.name is ".."'),
        (of_file(sizes=[1, -1]), "files.x.sizes.1 is -1"),
        (of_file(sizes=[2**63]), "files.x.sizes.0 is 9223372036854775808"),
        (of_file(pair=[1]), "files.x.pair is a list"),
        (of_file(pair=[1, None]), "files.x.pair.1 is null"),
    ],
)
def test_the_first_part_that_is_not_of_the_form_is_named(value, said):
    assert mismatch(value, Outer) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff", "can't decode"),
        (b"[" * 10**5, "nested too deeply"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested too deeply"),
        (b"9" * 5000, "digits"),
        (b'["\\ud800"]', "surrogates not allowed"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_json_is_one_kind_of_error(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_usual_json_is_read_as_ever():
    text = '\ufeff{"a": ["\\ud83d\\ude00", 1e5, 1000000000000000019884624838656], "b": []}'
    assert parse(text.encode()) == json.loads(text.removeprefix("\ufeff"))
    assert loads("[" * DEEPEST + "]" * DEEPEST) == json.loads("[" * DEEPEST + "]" * DEEPEST)


@pytest.mark.parametrize("indent", [None, 2])
def test_each_changed_bit_of_a_sealed_file_is_refused_or_changes_nothing(indent, tmp_path):
    file = tmp_path / "a.json"
    whole = sealed(json.dumps(GOOD, indent=indent) + "\n")
    file.write_bytes(whole)
    assert read_object(file, Outer, "delete it") == GOOD
    told = len(json.loads(whole)) == len(GOOD) + 1
    refused = 0
    for bit in range(8 * len(whole)):
        file.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        try:
            kept = read_object(file, Outer, "delete it")
        except Exception as error:
            assert str(error).endswith(": delete it."), error
            refused += 1
        else:
            assert {name: kept[name] for name in GOOD} == GOOD
    assert told
    assert refused > 6 * len(whole)


def test_missing_and_other_files_are_sentences(tmp_path):
    file = tmp_path / "a.json"
    assert sentence(read_object, file, Outer, "put it back") == f"{file} is missing: put it back."
    assert sentence(read_object, tmp_path, Outer, "put it back") == f"{tmp_path} cannot be read: Is a directory."
    file.write_text("[]")
    assert sentence(read_object, file, Outer, "put it back").endswith(
        "is damaged (it holds no JSON object): put it back."
    )
    file.write_text(json.dumps(GOOD))  # of an earlier version, which wrote no checksum
    assert read_object(file, Outer, "put it back") == GOOD
    assert json_object(tmp_path / "none.json") == {}
